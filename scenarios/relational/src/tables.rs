//! Columns that the database fills, and tables that come, or change their key, while they are captured.

use crate::prelude::*;

/// A stored column that the database makes by an expression. Up to PostgreSQL 17 it is not in the log's messages, in MySQL it
/// is; who reads the table itself sees it. MariaDB's log has it of a row that is inserted, and not of one that is updated: Debezium
/// finds fewer values than columns, and stops; Maxwell and the native binary log leave the column out.
#[scenario]
async fn generated_columns(s: &mut Scenario) -> Result<()> {
    let lines = table("lines").key("id", Int).column("price", Int).column("pieces", Int);
    let lines = s.create(lines.column_generated("total", Int, "price * pieces")).await?;
    s.start_capture().await?;

    let inserted = lines.insert(row! { id: 1, price: 5, pieces: 2, total: 10 });
    s.apply(raw("INSERT INTO \"lines\" (id, price, pieces) VALUES (1, 5, 2)", [inserted])).await?;
    s.catch_up().await?;
    let updated = lines.update(1, row! { pieces: 3, total: 15 });
    s.apply(raw("UPDATE \"lines\" SET pieces = 3 WHERE id = 1", [updated])).await?;

    let unlogged = "https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol/rows_event_v1v2-rows_compressed_event_v1";
    s.judge_known_flaws(&[
        KnownFlaw::stops("debezium", "internal schema size 4, but row size 3").on("MariaDB"),
        KnownFlaw::of("maxwell", unlogged, &[FaultKind::WrongValue, FaultKind::WrongState]).on("MariaDB"),
        KnownFlaw::of("binlog", unlogged, &[FaultKind::WrongValue, FaultKind::WrongState]).on("MariaDB"),
    ])
    .await
}

/// A column that counts (an identity column, AUTO_INCREMENT) gives numbers that a statement doesn't name; the change has them.
#[scenario]
async fn identity_columns(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", BigInt).column("who", Text);
    let sql = s.say(Sql {
        postgres: "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY (START 7) PRIMARY KEY, who text)",
        mysql: "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, who longtext) AUTO_INCREMENT = 7",
    })?;
    s.apply(raw(sql, [create(&orders)])).await?;
    let orders = orders.handle();
    s.start_capture().await?;

    s.apply(raw("INSERT INTO orders (who) VALUES ('Ada')", [orders.insert(row! { id: 7, who: "Ada" })])).await?;
    // The number of a transaction that is rolled back is not given again.
    s.apply(begin()).await?;
    s.apply(raw("INSERT INTO orders (who) VALUES ('nobody')", [orders.insert(row! { id: 8, who: "nobody" })])).await?;
    s.apply(rollback()).await?;
    s.apply(raw("INSERT INTO orders (who) VALUES ('Bob')", [orders.insert(row! { id: 9, who: "Bob" })])).await?;

    s.judge().await
}

/// A table that is created while the capture runs is captured from its first row on.
#[scenario]
async fn table_created_while_capturing(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    let refunds = s.create(table("refunds").key("id", Int).column("why", Text)).await?;
    s.apply(refunds.insert(row! { id: 1, why: "too late" })).await?;
    s.catch_up().await?;
    s.apply(refunds.update(1, row! { why: "broken" })).await?;

    s.judge().await
}

/// Nullability, defaults and checks are no part of a row's shape: no method tells that they changed.
/// Maxwell doesn't understand a default in parentheses, and ends.
#[scenario]
async fn nullability_and_default_changes(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("note", Text)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, note: "a" })).await?;
    let not_null = s.say(Sql {
        postgres: "ALTER TABLE orders ALTER note SET NOT NULL",
        mysql: "ALTER TABLE orders MODIFY note longtext NOT NULL",
    })?;
    s.apply(raw(not_null, [])).await?;
    let default = s.say(Sql {
        postgres: "ALTER TABLE orders ALTER note SET DEFAULT 'none'",
        mysql: "ALTER TABLE orders MODIFY note longtext NOT NULL DEFAULT ('none')",
    })?;
    s.apply(raw(default, [])).await?;
    s.apply(raw("INSERT INTO orders (id) VALUES (2)", [orders.insert(row! { id: 2, note: "none" })])).await?;
    let nullable = s.say(Sql {
        postgres: "ALTER TABLE orders ALTER note DROP NOT NULL",
        mysql: "ALTER TABLE orders MODIFY note longtext",
    })?;
    s.apply(raw(nullable, [])).await?;
    s.apply(orders.insert(row! { id: 3, note: None::<&str> })).await?;

    s.judge_known_flaws(&[KnownFlaw::stops("maxwell", "Error parsing SQL")]).await
}

/// Another column becomes the primary key. The next change has the new key.
#[scenario]
async fn another_primary_key(s: &mut Scenario) -> Result<()> {
    let users = s.create(table("users").key("id", Int).column_not_null("email", Varchar(80))).await?;
    s.start_capture().await?;

    s.apply(users.insert(row! { id: 1, email: "ada@example.org" })).await?;
    s.catch_up().await?;
    s.apply(users.change_key(&["email"])).await?;
    let users = users.keyed(&["email"]);
    s.apply(users.insert(row! { id: 2, email: "bob@example.org" })).await?;
    s.apply(users.update("ada@example.org", row! { id: 10 })).await?;
    s.apply(users.delete("bob@example.org")).await?;

    s.judge().await
}

/// A column is dropped while another session has a transaction open that wrote to other rows: the ALTER waits for it, and
/// each row has the shape of its moment.
#[scenario]
async fn column_dropped_after_an_open_transaction(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("note", Text)).await?;
    s.start_capture().await?;

    s.apply(begin().on("b")).await?;
    s.apply(orders.insert(row! { id: 1, note: "old shape" }).on("b")).await?;
    let waits = s.say(Sql { postgres: "SET lock_timeout = '50ms'", mysql: "SET lock_wait_timeout = 1" })?;
    s.apply(raw(waits, [])).await?;
    let refusal = s.say(Sql { postgres: "lock timeout", mysql: "Lock wait timeout exceeded" })?;
    s.refused(orders.drop_column("note"), refusal).await?;
    s.apply(commit().on("b")).await?;
    s.apply(orders.drop_column("note")).await?;
    s.apply(orders.insert(row! { id: 2 }).on("b")).await?;

    s.judge().await
}
