//! Partitioned tables. The log knows one table only, and of what is done to a partition as a whole it has the statement and none
//! of the rows.

use crate::prelude::*;

const MANAGEMENT: &str = "https://dev.mysql.com/doc/refman/9.7/en/partitioning-management.html";

/// A table of orders with a partition for each of two years.
async fn orders_by_year(s: &mut Scenario) -> Result<TableRef> {
    let orders = table("orders").key("id", Int).key("year", Int).column("total", Int);
    let sql = "CREATE TABLE orders (id int, year int, total int, PRIMARY KEY (id, year)) PARTITION BY LIST (year) \
               (PARTITION old VALUES IN (2023), PARTITION new VALUES IN (2024))";
    s.apply(raw(sql, [create(&orders)])).await?;
    Ok(orders.handle())
}

/// A partitioned table is one table for the log. A row that moves to another partition is updated.
#[scenario]
async fn partitioned_table(s: &mut Scenario) -> Result<()> {
    let orders = orders_by_year(s).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, year: 2023, total: 10 })).await?;
    s.apply(orders.insert(row! { id: 2, year: 2024, total: 20 })).await?;
    s.catch_up().await?;
    s.apply(orders.update((1, 2023), row! { year: 2024 })).await?;

    s.judge().await
}

/// A partition that changes places with a table. All its rows are somewhere else from then on, and the log says of none of them
/// that it went or came: who reads it goes on with the rows of before.
#[scenario]
async fn partition_exchanged_with_a_table(s: &mut Scenario) -> Result<()> {
    let orders = orders_by_year(s).await?;
    let archive = s.create(table("archive").key("id", Int).key("year", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, year: 2023, total: 10 })).await?;
    s.apply(orders.insert(row! { id: 2, year: 2024, total: 20 })).await?;
    s.catch_up().await?;
    let moved = [orders.delete((1, 2023)), archive.insert(row! { id: 1, year: 2023, total: 10 })];
    s.apply(raw("ALTER TABLE orders EXCHANGE PARTITION old WITH TABLE archive", moved)).await?;

    let untold = [FaultKind::Lost, FaultKind::Lost, FaultKind::WrongState, FaultKind::WrongState];
    let of = |method| KnownFlaw::of(method, MANAGEMENT, &untold);
    s.judge_known_flaws(&[of("debezium"), of("binlog"), of("maxwell")]).await
}

/// A partition that is emptied. It is no TRUNCATE of the table, and the log has no delete.
#[scenario]
async fn partition_emptied(s: &mut Scenario) -> Result<()> {
    let orders = orders_by_year(s).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, year: 2023, total: 10 })).await?;
    s.apply(orders.insert(row! { id: 2, year: 2024, total: 20 })).await?;
    s.catch_up().await?;
    s.apply(raw("ALTER TABLE orders TRUNCATE PARTITION old", [orders.delete((1, 2023))])).await?;

    let untold = [FaultKind::Lost, FaultKind::WrongState];
    let of = |method| KnownFlaw::of(method, MANAGEMENT, &untold);
    s.judge_known_flaws(&[of("debezium"), of("binlog"), of("maxwell")]).await
}

/// A partition that is dropped with its rows, as old ones are. The log has no delete of them.
#[scenario]
async fn partition_dropped(s: &mut Scenario) -> Result<()> {
    let orders = orders_by_year(s).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, year: 2023, total: 10 })).await?;
    s.apply(orders.insert(row! { id: 2, year: 2024, total: 20 })).await?;
    s.catch_up().await?;
    s.apply(raw("ALTER TABLE orders DROP PARTITION old", [orders.delete((1, 2023))])).await?;
    s.apply(orders.update((2, 2024), row! { total: 25 })).await?;

    let untold = [FaultKind::Lost, FaultKind::WrongState];
    let of = |method| KnownFlaw::of(method, MANAGEMENT, &untold);
    s.judge_known_flaws(&[of("debezium"), of("binlog"), of("maxwell")]).await
}
