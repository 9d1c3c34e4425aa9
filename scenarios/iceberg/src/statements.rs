//! Statements and commits.

use crate::prelude::*;

/// A MERGE inserts, updates and deletes by one commit.
#[scenario]
async fn merge(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("quantity", Int)).await?;
    s.apply(stock.insert_many([
        row! { sku: "A", quantity: 1 },
        row! { sku: "B", quantity: 2 },
        row! { sku: "C", quantity: 3 },
    ]))
    .await?;
    s.start_capture().await?;

    s.apply(one_commit([
        stock.update("A", row! { quantity: 10 }),
        stock.delete("B"),
        stock.insert(row! { sku: "D", quantity: 4 }),
    ]))
    .await?;

    s.judge().await
}

/// A commit is told by what it comes to: a row that came and went within it is not told, one that was changed twice is told
/// once, and a delete and an insert under one key are an update.
#[scenario]
async fn several_changes_of_a_row_in_one_commit(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("quantity", Int)).await?;
    s.apply(stock.insert_many([row! { sku: "A", quantity: 1 }, row! { sku: "B", quantity: 2 }])).await?;
    s.start_capture().await?;

    s.transaction([
        stock.update("A", row! { quantity: 10 }),
        stock.update("A", row! { quantity: 11 }),
        stock.insert(row! { sku: "C", quantity: 3 }),
        stock.delete("C"),
        stock.delete("B"),
        stock.insert(row! { sku: "B", quantity: 20 }),
    ])
    .await?;

    s.judge().await
}

/// What is rolled back was never committed, and leaves no snapshot.
#[scenario]
async fn rollback_of_a_transaction(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("quantity", Int)).await?;
    s.start_capture().await?;

    s.apply(stock.insert(row! { sku: "A", quantity: 1 })).await?;
    s.apply_all([begin(), stock.update("A", row! { quantity: 2 }), rollback()]).await?;
    s.apply(stock.update("A", row! { quantity: 3 })).await?;

    s.judge().await
}

/// A commit is of one table. What a database would do as one transaction is refused here.
#[scenario]
async fn transaction_over_two_tables(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int)).await?;
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    let both = one_commit([customers.insert(row! { id: 1 }), orders.insert(row! { id: 1 })]);
    s.refused(both, "a commit is of one table").await?;
    s.apply(customers.insert(row! { id: 1 })).await?;

    s.judge().await
}

/// All rows deleted by one statement: the files go, and the scan tells each row that was in them.
#[scenario]
async fn truncate_of_one_table(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    s.start_capture().await?;

    s.apply(carts.insert_many((1..=3).map(|id| row! { id: id, owner: "Ada" }))).await?;
    s.apply(carts.truncate()).await?;
    s.apply(carts.insert(row! { id: 1, owner: "Bob" })).await?;

    s.judge().await
}

/// INSERT OVERWRITE: all rows go and others come by one commit. Rows that are the same before and after are not told.
#[scenario]
async fn overwrite(s: &mut Scenario) -> Result<()> {
    let rates = s.create(table("rates").key("currency", Text).column("rate", Numeric(Some((8, 4))))).await?;
    s.apply(rates.insert_many([
        row! { currency: "EUR", rate: "1.0000" },
        row! { currency: "USD", rate: "1.0800" },
        row! { currency: "GBP", rate: "0.8500" },
    ]))
    .await?;
    s.start_capture().await?;

    s.apply(one_commit([
        rates.truncate(),
        rates.insert_many([
            row! { currency: "EUR", rate: "1.0000" },
            row! { currency: "USD", rate: "1.0900" },
            row! { currency: "JPY", rate: "161.2000" },
        ]),
    ]))
    .await?;

    s.judge().await
}

/// Ten thousand rows by one commit, and a few of them changed.
#[scenario]
async fn ten_thousand_rows(s: &mut Scenario) -> Result<()> {
    let events = s.create(table("events").key("id", BigInt).column("kind", Text)).await?;
    s.start_capture().await?;

    s.apply(events.insert_many((1..=10_000).map(|id| row! { id: id, kind: "click" }))).await?;
    s.apply(events.update(5000, row! { kind: "view" })).await?;
    s.apply(events.delete(10_000)).await?;

    s.judge().await
}
