//! Single rows: what every method must get right.

use changeproof::Value;

use crate::prelude::*;

/// Insert, update and delete of one row, each a snapshot of its own. Copy-on-write rewrites the row's file for an update; the
/// scan finds the old row in the file that went and the new one in the file that came, and by the identifier field knows
/// that they are one.
#[scenario]
async fn insert_update_delete(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// Rows that share a file with one that changes are carried over into the new file. They are not told.
#[scenario]
async fn rows_beside_a_changed_one(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many((1..=5).map(|id| row! { id: id, name: "new" }))).await?;
    s.apply(customers.update(3, row! { name: "changed" })).await?;
    s.apply(customers.delete(4)).await?;

    s.judge().await
}

/// The identifier is all that makes an update of a delete and an insert. When it changes, they stay two.
#[scenario]
async fn update_of_a_primary_key(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { id: 100 })).await?;

    s.judge().await
}

/// Two identifier fields.
#[scenario]
async fn composite_key(s: &mut Scenario) -> Result<()> {
    let lines = table("order_lines").key("order_id", Int).key("sku", Text).column("quantity", Int);
    let lines = s.create(lines).await?;
    s.start_capture().await?;

    s.apply(lines.insert_many([
        row! { order_id: 1, sku: "A-1", quantity: 1 },
        row! { order_id: 1, sku: "B-2", quantity: 2 },
        row! { order_id: 2, sku: "A-1", quantity: 3 },
    ]))
    .await?;
    s.apply(lines.update((1, "B-2"), row! { quantity: 20 })).await?;
    s.apply(lines.delete((2, "A-1"))).await?;

    s.judge().await
}

/// Without identifier fields an update is one row less and another one more.
#[scenario]
async fn table_without_a_key(s: &mut Scenario) -> Result<()> {
    let log = s.create(table("log").column("level", Text).column("message", Text)).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { level: "info", message: "started" })).await?;
    s.apply(log.insert(row! { level: "warn", message: "slow" })).await?;
    s.apply(log.update(row! { level: "warn" }, row! { message: "very slow" })).await?;
    s.apply(log.delete(row! { level: "info" })).await?;

    s.judge().await
}

/// Rows that are the same in every column: as many are told as came or went, not one of each.
#[scenario]
async fn equal_rows_are_counted(s: &mut Scenario) -> Result<()> {
    let clicks = s.create(table("clicks").column("page", Text).column("n", Int)).await?;
    s.start_capture().await?;

    s.apply(clicks.insert_many((0..3).map(|_| row! { page: "/", n: 1 }))).await?;
    s.apply(clicks.insert_many((0..2).map(|_| row! { page: "/about", n: 1 }))).await?;
    s.apply(clicks.insert(row! { page: "/", n: 1 })).await?;
    s.apply(clicks.delete(row! { page: "/about" })).await?;
    s.apply(clicks.delete(row! { page: "/" })).await?;

    s.judge().await
}

/// NULL is a value like others, and equal to itself.
#[scenario]
async fn nulls(s: &mut Scenario) -> Result<()> {
    let people = table("people").key("id", Int).column("name", Text).column("born", Date);
    let people = s.create(people).await?;
    s.start_capture().await?;

    s.apply(people.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(people.insert(row! { id: 2, born: "1815-12-10" })).await?;
    s.apply(people.update(1, row! { born: "1815-12-10" })).await?;
    s.apply(people.update(2, row! { born: Value::Null })).await?;
    s.apply(people.update(1, row! { name: Value::Null })).await?;

    s.judge().await
}

/// An update that sets what is there already rewrites a file, in which no row differs. Nothing is told.
#[scenario]
async fn update_that_changes_nothing(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;

    s.judge().await
}

/// A statement that matches no row makes no snapshot.
#[scenario]
async fn statements_that_match_nothing(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(2, row! { name: "Bob" })).await?;
    s.apply(customers.delete(3)).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// Names in quotes, with capitals, blanks and other scripts than Latin.
#[scenario]
async fn quoted_and_non_ascii_names(s: &mut Scenario) -> Result<()> {
    let streets = table("Straßen & Plätze").key("Nummer", Int).column("größe in m²", Int).column("名前", Text);
    let streets = s.create(streets).await?;
    s.start_capture().await?;

    s.apply(streets.insert(row! { "Nummer": 1, "größe in m²": 400, "名前": "広場" })).await?;
    s.apply(streets.update(1, row! { "größe in m²": 500 })).await?;
    s.apply(streets.delete(1)).await?;

    s.judge().await
}

/// Each table has a history of its own: what happened first in two of them is not in it.
#[scenario]
async fn several_tables(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    let orders = s.create(table("orders").key("id", Int).column("customer", Int)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(orders.insert(row! { id: 1, customer: 1 })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(orders.delete(1)).await?;

    s.judge().await
}
