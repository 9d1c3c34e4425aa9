//! Tables of other kinds: partitioned, generated, identified otherwise, or not logged at all.

use crate::prelude::*;

/// The table `orders`, partitioned by year, and its partitions of 2023 and 2024.
pub(crate) async fn orders_by_year(s: &mut Scenario) -> Result<(TableRef, TableRef)> {
    let old = table("orders_2023").key("id", Int).key("year", Int).column("total", Int);
    let new = table("orders_2024").key("id", Int).key("year", Int).column("total", Int);
    let root = "CREATE TABLE orders (id int, year int, total int, PRIMARY KEY (id, year)) PARTITION BY LIST (year)";
    s.apply(raw(root, [])).await?;
    s.apply(raw("CREATE TABLE orders_2023 PARTITION OF orders FOR VALUES IN (2023)", [create(&old)])).await?;
    s.apply(raw("CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES IN (2024)", [create(&new)])).await?;
    Ok((old.handle(), new.handle()))
}

/// A partitioned table. The publication doesn't publish by its root, so each change bears the name of the partition, and a
/// row that moves to another partition is deleted here and inserted there.
#[scenario]
async fn rows_that_move_between_partitions(s: &mut Scenario) -> Result<()> {
    let (old, new) = orders_by_year(s).await?;
    s.start_capture().await?;

    let first = old.insert(row! { id: 1, year: 2023, total: 10 });
    s.apply(raw("INSERT INTO orders VALUES (1, 2023, 10)", [first])).await?;
    let second = new.insert(row! { id: 2, year: 2024, total: 20 });
    s.apply(raw("INSERT INTO orders VALUES (2, 2024, 20)", [second])).await?;
    s.catch_up().await?;
    let moved = [old.delete((1, 2023)), new.insert(row! { id: 1, year: 2024, total: 10 })];
    s.apply(raw("UPDATE orders SET year = 2024 WHERE id = 1", moved)).await?;

    s.judge().await
}

/// A partition that is detached goes on as a table of its own: that is no change of any row. But it loses the triggers that
/// it had from the partitioned table, and an audit by triggers then goes blind without a word.
#[scenario]
async fn partition_detached(s: &mut Scenario) -> Result<()> {
    let first = table("events_1").key("id", Int);
    s.apply(raw("CREATE TABLE events (id int PRIMARY KEY) PARTITION BY RANGE (id)", [])).await?;
    let sql = "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100)";
    s.apply(raw(sql, [create(&first)])).await?;
    let first = first.handle();
    s.start_capture().await?;

    s.apply(raw("INSERT INTO events VALUES (1)", [first.insert(row! { id: 1 })])).await?;
    s.apply(raw("ALTER TABLE events DETACH PARTITION events_1", [])).await?;
    s.apply(first.insert(row! { id: 2 })).await?;

    let reference = "https://www.postgresql.org/docs/17/sql-altertable.html#SQL-ALTERTABLE-DETACH-PARTITION";
    s.judge_known_flaw("trigger", reference, &[FaultKind::Lost, FaultKind::WrongState]).await
}

/// A table that is attached as a partition brings its rows along: that is no change of any row either.
#[scenario(
    only = "debezium, logical",
    why = "PostgreSQL refuses to attach a table whose trigger has the name of one of the partitioned table's"
)]
async fn partition_attached(s: &mut Scenario) -> Result<()> {
    let second = table("events_2").key("id", Int);
    s.apply(raw("CREATE TABLE events (id int PRIMARY KEY) PARTITION BY RANGE (id)", [])).await?;
    s.apply(raw("CREATE TABLE events_2 (LIKE events INCLUDING ALL)", [create(&second)])).await?;
    let second = second.handle();
    s.start_capture().await?;

    s.apply(second.insert(row! { id: 100 })).await?;
    s.apply(raw("ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (100) TO (200)", [])).await?;
    s.apply(raw("INSERT INTO events VALUES (101)", [second.insert(row! { id: 101 })])).await?;

    s.judge().await
}

/// REPLICA IDENTITY NOTHING: the log holds nothing of old rows, so PostgreSQL refuses updates and deletes of the published
/// table.
#[scenario(only = "debezium, logical", why = "PostgreSQL refuses nothing where no publication is")]
async fn replica_identity_nothing(s: &mut Scenario) -> Result<()> {
    let log = table("log").key("id", Int).column("line", Text).identity_nothing();
    let log = s.create(log).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { id: 1, line: "one" })).await?;
    let refusal = "does not have a replica identity and publishes";
    s.refused(log.update(1, row! { line: "two" }), refusal).await?;
    s.refused(log.delete(1), refusal).await?;

    s.judge().await
}

/// Tables that are not logged, and temporary ones, are in no log; the set-ups of triggers and of polling leave them alone as
/// well.
#[scenario]
async fn unlogged_and_temporary_tables(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(raw("CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)", [])).await?;
    s.apply(raw("CREATE TEMPORARY TABLE scratch (id int PRIMARY KEY)", [])).await?;
    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(raw("INSERT INTO cache VALUES (1)", [])).await?;
    s.apply(raw("INSERT INTO scratch VALUES (1)", [])).await?;
    s.apply(raw("UPDATE cache SET id = 2", [])).await?;

    s.judge().await
}

/// VACUUM FULL and CLUSTER write every row anew, and change none.
#[scenario]
async fn vacuum_full_and_cluster(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many((1..=3).map(|id| row! { id: id, total: id }))).await?;
    s.apply(raw("VACUUM FULL orders", [])).await?;
    s.apply(raw("CLUSTER orders USING orders_pkey", [])).await?;
    s.apply(orders.insert(row! { id: 4, total: 4 })).await?;

    s.judge().await
}

/// Row-level security hides rows from users, and none from the capture.
#[scenario]
async fn row_level_security(s: &mut Scenario) -> Result<()> {
    let notes = s.create(table("notes").key("id", Int).column("owner", Text)).await?;
    s.apply(raw("ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", [])).await?;
    s.apply(raw("CREATE POLICY own ON notes USING (owner = 'nobody')", [])).await?;
    s.start_capture().await?;

    s.apply(notes.insert(row! { id: 1, owner: "ada" })).await?;
    s.apply(notes.update(1, row! { owner: "bob" })).await?;

    s.judge().await
}
