//! Statements that do more, or less, than they seem to.

use crate::prelude::*;

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
