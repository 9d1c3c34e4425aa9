//! Following a table as it grows.

use crate::prelude::*;

/// The rows that are there first, and then the changes since, without a gap and without telling any twice.
#[scenario(initial_snapshot)]
async fn rows_that_exist_before_the_capture(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.apply(customers.delete(2)).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge().await
}

/// Without an initial snapshot only what comes later is told.
#[scenario]
async fn rows_that_exist_before_the_capture_left_out(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// A table that is created while the capture runs is followed from its first row on.
#[scenario]
async fn table_created_after_the_capture_began(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    let orders = s.create(table("orders").key("id", Int).column("customer", Int)).await?;
    s.apply(orders.insert(row! { id: 1, customer: 1 })).await?;
    s.apply(orders.update(1, row! { customer: 2 })).await?;

    s.judge().await
}

/// A capture that stood still reads all that was committed meanwhile, commit by commit.
#[scenario]
async fn capture_stopped_and_started_again(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.update(1, row! { name: "Countess of Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.resume_capture().await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}
