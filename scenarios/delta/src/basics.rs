//! Single rows: what every method must get right.

use changeproof::{Value, judge::FaultKind, value::Float};

use crate::prelude::*;

/// Insert, update and delete of one row, each a version of its own. For the update the feed records the row before and after.
#[scenario]
async fn insert_update_delete(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.catch_up().await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// Rows that share a file with one that changes are written anew with it. They are not told.
#[scenario]
async fn rows_beside_a_changed_one(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many((1..=5).map(|id| row! { id: id, name: "new" }))).await?;
    s.catch_up().await?;
    s.apply(customers.update(3, row! { name: "changed" })).await?;
    s.apply(customers.delete(4)).await?;

    s.judge().await
}

/// Delta has no key; here a property of the table names one. It is all that makes an update of two rows, so when the key itself
/// changes they stay two.
#[scenario]
async fn update_of_a_primary_key(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { id: 100 })).await?;

    s.judge().await
}

/// A key of two columns.
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
    s.catch_up().await?;
    s.apply(lines.update((1, "B-2"), row! { quantity: 20 })).await?;
    s.apply(lines.delete((2, "A-1"))).await?;

    s.judge().await
}

/// Without a key the feed's images of an update can't be paired: a row less, and another one more.
#[scenario]
async fn table_without_a_key(s: &mut Scenario) -> Result<()> {
    let log = s.create(table("log").column("level", Text).column("message", Text)).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { level: "info", message: "started" })).await?;
    s.apply(log.insert(row! { level: "warn", message: "slow" })).await?;
    s.catch_up().await?;
    s.apply(log.update(row! { level: "warn" }, row! { message: "very slow" })).await?;
    s.apply(log.delete(row! { level: "info" })).await?;

    s.judge().await
}

/// Rows that are the same in every column are counted.
#[scenario]
async fn equal_rows_are_counted(s: &mut Scenario) -> Result<()> {
    let clicks = s.create(table("clicks").column("page", Text).column("n", Int)).await?;
    s.start_capture().await?;

    s.apply(clicks.insert_many((0..3).map(|_| row! { page: "/", n: 1 }))).await?;
    s.catch_up().await?;
    s.apply(clicks.insert(row! { page: "/", n: 1 })).await?;
    s.apply(clicks.insert(row! { page: "/about", n: 1 })).await?;
    s.catch_up().await?;
    s.apply(clicks.delete(row! { page: "/" })).await?;

    s.judge().await
}

/// NULL is a value like others.
#[scenario]
async fn nulls(s: &mut Scenario) -> Result<()> {
    let people = table("people").key("id", Int).column("name", Text).column("born", Date);
    let people = s.create(people).await?;
    s.start_capture().await?;

    s.apply(people.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(people.insert(row! { id: 2, born: "1815-12-10" })).await?;
    s.catch_up().await?;
    s.apply(people.update(1, row! { born: "1815-12-10" })).await?;
    s.apply(people.update(2, row! { born: Value::Null })).await?;

    s.judge().await
}

/// An update that sets what is there already. delta-rs records nothing of it, and in want of a record the feed takes the
/// rewritten file for changed: it tells each row that was in it as deleted and inserted, also those the update didn't name.
#[scenario]
async fn update_that_changes_nothing(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada" })).await?;

    let reference = "https://github.com/delta-io/delta/blob/master/PROTOCOL.md#add-cdc-file";
    let (phantom, again) = (FaultKind::Phantom, FaultKind::Duplicated);
    s.judge_known_flaw("change_data_feed", reference, &[phantom, phantom, again, again, FaultKind::Lost]).await
}

/// Statements that match no row.
#[scenario]
async fn statements_that_match_nothing(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(2, row! { name: "Bob" })).await?;
    s.apply(customers.delete(3)).await?;

    s.judge().await
}

/// Each table has a history of its own.
#[scenario]
async fn several_tables(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    let orders = s.create(table("orders").key("id", Int).column("customer", Int)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(orders.insert(row! { id: 1, customer: 1 })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(orders.delete(1)).await?;

    s.judge().await
}

/// One column of each type, at its edges.
#[scenario]
async fn values_of_all_types(s: &mut Scenario) -> Result<()> {
    let samples = table("samples")
        .key("id", BigInt)
        .column("truth", Bool)
        .column("small", Int)
        .column("large", BigInt)
        .column("single", Real)
        .column("twofold", Double)
        .column("exact", Numeric(Some((38, 10))))
        .column("words", Text)
        .column("raw", Bytes)
        .column("day", Date)
        .column("moment", TimestampTz)
        .column("list", Array(Box::new(Int)));
    let samples = s.create(samples).await?;
    s.start_capture().await?;

    s.apply(samples.insert(row! {
        id: i64::MIN,
        truth: true,
        small: i32::MIN,
        large: i64::MAX,
        single: Value::Float(Float::new(0.1)),
        twofold: f64::MIN_POSITIVE,
        exact: "-1234567890123456789012345678.0123456789",
        words: "naïve 🦀",
        raw: &b"\x00\xff"[..],
        day: "0001-01-01",
        moment: "2024-02-29 12:00:00.5+00",
        list: Value::Array(vec![1.into(), Value::Null, 3.into()]),
    }))
    .await?;
    s.apply(samples.insert(row! { id: 2, twofold: f64::NAN, words: "" })).await?;
    s.apply(samples.insert(row! { id: 3 })).await?;
    s.catch_up().await?;
    s.apply(samples.update(2, row! { twofold: 0.5, day: "9999-12-31", words: "it's" })).await?;
    s.apply(samples.delete(3)).await?;

    s.judge().await
}
