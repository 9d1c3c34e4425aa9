//! What is seen by looking from time to time.

use crate::prelude::*;

/// What happens between two looks: a comparison of versions sees where it ended and not the way; the feed has each step.
#[scenario]
async fn several_versions_between_two_looks(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Eve" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// Rows that are compared by all they hold, as if the table had no key: an update is a row less and another one more.
#[scenario(only = "version_diff", why = "the feed itself says what is an update")]
async fn compared_without_the_key(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.configure("keyed", "false");
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;

    s.judge().await
}

/// The rows that are there first, and then the changes since.
#[scenario(initial_snapshot)]
async fn rows_that_exist_before_the_capture(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge().await
}

/// A table that is created while the capture runs.
#[scenario]
async fn table_created_after_the_capture_began(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    let orders = s.create(table("orders").key("id", Int).column("customer", Int)).await?;
    s.apply(orders.insert(row! { id: 1, customer: 1 })).await?;

    s.judge().await
}

/// A capture that stood still: the feed has every version since.
#[scenario]
async fn capture_stopped_and_started_again(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.resume_capture().await?;

    s.judge().await
}
