//! Statements that do more, or less, than they seem to.

use crate::prelude::*;

/// An update that sets a column to the value it has is a change all the same: PostgreSQL writes a new version of the row.
#[scenario]
async fn update_that_changes_nothing(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("name", Text).identity_full();
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada" })).await?;
    s.apply(customers.update(2, row! { name: "Nobody" })).await?;

    s.judge().await
}

/// A lock is no change.
#[scenario]
async fn select_for_update(s: &mut Scenario) -> Result<()> {
    let accounts = s.create(table("accounts").key("id", Int).column("balance", Int)).await?;
    s.start_capture().await?;

    s.apply(accounts.insert(row! { id: 1, balance: 100 })).await?;
    s.apply(begin()).await?;
    s.apply(raw("SELECT * FROM accounts WHERE id = 1 FOR UPDATE", [])).await?;
    s.apply(commit()).await?;

    s.judge().await
}

/// INSERT … ON CONFLICT is an insert, an update, or nothing at all.
#[scenario]
async fn insert_on_conflict(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("pieces", Int)).await?;
    s.start_capture().await?;

    let upsert = |pieces: i32| {
        format!(
            "INSERT INTO stock VALUES ('A-1', {pieces}) \
             ON CONFLICT (sku) DO UPDATE SET pieces = stock.pieces + excluded.pieces"
        )
    };
    s.apply(raw(&upsert(5), [stock.insert(row! { sku: "A-1", pieces: 5 })])).await?;
    s.apply(raw(&upsert(2), [stock.update("A-1", row! { pieces: 7 })])).await?;
    s.apply(raw("INSERT INTO stock VALUES ('A-1', 0) ON CONFLICT DO NOTHING", [])).await?;

    s.judge().await
}

/// MERGE updates, deletes and inserts by one statement, in the order in which it meets the rows.
#[scenario]
async fn merge(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("id", Int).column("pieces", Int)).await?;
    s.apply(stock.insert(row! { id: 1, pieces: 5 })).await?;
    s.apply(stock.insert(row! { id: 2, pieces: 1 })).await?;
    s.start_capture().await?;

    let sql = "MERGE INTO stock USING (VALUES (1, 2), (2, -1), (3, 9)) AS d (id, pieces) ON stock.id = d.id \
               WHEN MATCHED AND stock.pieces + d.pieces = 0 THEN DELETE \
               WHEN MATCHED THEN UPDATE SET pieces = stock.pieces + d.pieces \
               WHEN NOT MATCHED THEN INSERT VALUES (d.id, d.pieces)";
    let means = [stock.update(1, row! { pieces: 7 }), stock.delete(2), stock.insert(row! { id: 3, pieces: 9 })];
    s.apply(raw(sql, means)).await?;

    s.judge().await
}

/// COPY is an insert of many rows; nothing in the log tells the difference.
#[scenario]
async fn copy(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    let sql = r"COPY customers (id, name) FROM PROGRAM 'printf ''1\tAda\n2\t\\N\n''' (FORMAT text)";
    let rows = [row! { id: 1, name: "Ada" }, row! { id: 2, name: None::<&str> }];
    s.apply(raw(sql, [customers.insert_many(rows)])).await?;

    s.judge().await
}

/// A statement whose WITH writes: rows move from one table to another.
#[scenario]
async fn rows_moved_by_a_cte(s: &mut Scenario) -> Result<()> {
    let open = s.create(table("open_orders").key("id", Int).column("total", Int)).await?;
    let done = s.create(table("done_orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(open.insert(row! { id: 1, total: 10 })).await?;
    s.catch_up().await?;
    let sql =
        "WITH moved AS (DELETE FROM open_orders WHERE id = 1 RETURNING *) INSERT INTO done_orders SELECT * FROM moved";
    s.apply(raw(sql, [open.delete(1), done.insert(row! { id: 1, total: 10 })])).await?;

    s.judge().await
}

/// A foreign key that cascades: the rows it deletes and updates are changes like any other, after the one that caused them.
#[scenario]
async fn foreign_key_cascades(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    let lines = s.create(table("lines").key("id", Int).column("order_id", Int)).await?;
    let foreign_key =
        "ALTER TABLE lines ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE";
    s.apply(raw(foreign_key, [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1 }, row! { id: 2 }])).await?;
    s.apply(lines.insert_many([row! { id: 10, order_id: 1 }, row! { id: 20, order_id: 2 }])).await?;
    s.catch_up().await?;
    let deletes = [orders.delete(1), lines.delete(10)];
    s.apply(raw("DELETE FROM orders WHERE id = 1", deletes)).await?;
    let updates = [orders.update(2, row! { id: 3 }), lines.update(20, row! { order_id: 3 })];
    s.apply(raw("UPDATE orders SET id = 3 WHERE id = 2", updates)).await?;

    s.judge().await
}

/// Triggers of the application: one changes the row before it is stored, another writes to a second table.
#[scenario]
async fn triggers_that_write(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let journal = s.create(table("journal").key("order_id", Int).column("what", Text)).await?;
    for sql in [
        "CREATE FUNCTION round_up() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.total := (NEW.total + 9) / 10 * 10; RETURN NEW; END $$",
        "CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO journal VALUES (NEW.id, 'ordered'); RETURN NULL; END $$",
        "CREATE TRIGGER round_up BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION round_up()",
        "CREATE TRIGGER write_down AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION write_down()",
    ] {
        s.apply(raw(sql, [])).await?;
    }
    s.start_capture().await?;

    let means = [orders.insert(row! { id: 1, total: 20 }), journal.insert(row! { order_id: 1, what: "ordered" })];
    s.apply(raw("INSERT INTO orders VALUES (1, 11)", means)).await?;

    s.judge().await
}

/// Messages in the log that belong to no table (`pg_logical_emit_message`) are none of a table's changes, whether they are
/// part of a transaction or not.
#[scenario]
async fn logical_messages(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(raw("SELECT pg_logical_emit_message(false, 'app', 'at once')", [])).await?;
    s.transaction([
        orders.insert(row! { id: 1 }),
        raw("SELECT pg_logical_emit_message(true, 'app', 'with the transaction')", []),
        orders.insert(row! { id: 2 }),
    ])
    .await?;

    s.judge().await
}

/// A transaction that is prepared first and committed later, by whoever knows its name. It counts from its commit.
#[scenario(
    only = "debezium, logical, polling",
    why = "PostgreSQL refuses to prepare a transaction that has notified: an audit trigger with NOTIFY forbids it"
)]
async fn prepared_transaction(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    let name = s.unique("prepared");
    s.start_capture().await?;

    s.apply(begin()).await?;
    s.apply(orders.insert(row! { id: 1, who: "prepared first" })).await?;
    s.apply(prepare(&name)).await?;
    s.apply(orders.insert(row! { id: 2, who: "committed first" })).await?;
    s.apply(commit_prepared(&name).on("b")).await?;

    s.judge().await
}
