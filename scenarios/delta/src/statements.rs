//! Statements.

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

/// A MERGE that sets what is there already: the feed records it as an update like others.
#[scenario]
async fn merge_that_changes_nothing(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("quantity", Int)).await?;
    s.apply(stock.insert_many([row! { sku: "A", quantity: 1 }, row! { sku: "B", quantity: 2 }])).await?;
    s.start_capture().await?;

    s.apply(one_commit([stock.update("A", row! { quantity: 1 }), stock.update("B", row! { quantity: 20 })])).await?;

    s.judge().await
}

/// All rows deleted by one statement.
#[scenario]
async fn truncate_of_one_table(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    s.start_capture().await?;

    s.apply(carts.insert_many((1..=3).map(|id| row! { id: id, owner: "Ada" }))).await?;
    s.catch_up().await?;
    s.apply(carts.truncate()).await?;
    s.catch_up().await?;
    s.apply(carts.insert(row! { id: 1, owner: "Bob" })).await?;

    s.judge().await
}

/// Overwrite: the feed tells all old rows as deleted and all new ones as inserted, also those that stay the same.
#[scenario]
async fn overwrite(s: &mut Scenario) -> Result<()> {
    let rates = s.create(table("rates").column("currency", Text).column("rate", Numeric(Some((8, 4))))).await?;
    s.apply(rates.insert_many([row! { currency: "EUR", rate: "1.0000" }, row! { currency: "USD", rate: "1.0800" }]))
        .await?;
    s.start_capture().await?;

    s.apply(one_commit([
        rates.truncate(),
        rates.insert_many([row! { currency: "EUR", rate: "1.0000" }, row! { currency: "USD", rate: "1.0900" }]),
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
    s.catch_up().await?;
    s.apply(events.update(5000, row! { kind: "view" })).await?;
    s.apply(events.delete(10_000)).await?;

    s.judge().await
}
