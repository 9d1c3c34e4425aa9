//! The traps of polling by timestamp. Each is a script like any other, which the other methods run as well.

use crate::prelude::*;

/// A row that is deleted is simply not there when polling looks again: nothing tells that it went.
#[scenario]
async fn delete_between_two_looks(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("state", Text)).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1, state: "open" }, row! { id: 2, state: "open" }])).await?;
    s.catch_up().await?;
    s.apply(orders.delete(2)).await?;

    s.judge().await
}

/// The cure for missed deletes: rows are marked as deleted by an update, and removed long after.
#[scenario]
async fn soft_delete(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).column_not_null_default("is_deleted", Bool, false);
    let orders = s.create(orders).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1 }, row! { id: 2 }])).await?;
    s.catch_up().await?;
    s.apply(orders.update(2, row! { is_deleted: true })).await?;

    s.judge().await
}

/// Several updates between two looks: polling sees the last, and what was in between never was.
#[scenario]
async fn updates_between_two_looks(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("state", Text)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, state: "open" })).await?;
    s.catch_up().await?;
    for state in ["paid", "packed", "shipped"] {
        s.apply(orders.update(1, row! { state: state })).await?;
    }
    s.catch_up().await?;
    s.apply(orders.update(1, row! { state: "delivered" })).await?;

    s.judge().await
}

/// A row that comes and goes between two looks was never there.
#[scenario]
async fn row_that_comes_and_goes_between_two_looks(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(carts.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.apply(carts.insert(row! { id: 2 })).await?;
    s.apply(carts.delete(2)).await?;

    s.judge().await
}

/// A transaction that began earlier is committed later: its rows bear an earlier time than rows that polling has seen
/// already, and lie behind the high-water mark for good.
#[scenario]
async fn transaction_that_commits_late(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    s.start_capture().await?;

    s.apply(begin().on("b")).await?;
    s.apply(orders.insert(row! { id: 1, who: "began first" }).on("b")).await?;
    s.apply(orders.insert(row! { id: 2, who: "committed first" })).await?;
    s.catch_up().await?;
    s.apply(commit().on("b")).await?;

    s.judge().await
}

/// The cure: each look reaches back behind the mark, and knows again what it has delivered before.
#[scenario(only = "polling", why = "the window in which looks overlap is polling's")]
async fn overlapping_looks(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    s.configure("overlap.ms", "3600000");
    s.start_capture().await?;

    s.apply(begin().on("b")).await?;
    s.apply(orders.insert(row! { id: 1, who: "began first" }).on("b")).await?;
    s.apply(orders.insert(row! { id: 2, who: "committed first" })).await?;
    s.catch_up().await?;
    s.apply(commit().on("b")).await?;
    s.catch_up().await?;
    s.apply(orders.update(2, row! { who: "updated" })).await?;

    s.judge().await
}

/// The application writes the time itself, and the clock of one of its machines is behind: what that machine writes is
/// never seen.
#[scenario]
async fn clock_that_is_behind(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).column("updated_at", TimestampTz);
    let orders = s.create(orders).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, updated_at: "2024-05-01 12:00:00+00" })).await?;
    s.catch_up().await?;
    s.apply(orders.insert(row! { id: 2, updated_at: "2024-05-01 11:59:58+00" })).await?;
    s.apply(orders.insert(row! { id: 3, updated_at: "2024-05-01 12:00:01+00" })).await?;

    s.judge().await
}

/// A row of the very time that was seen last lies on the mark, and is not seen either: `>` is the comparison.
#[scenario]
async fn row_of_the_same_time(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).column("updated_at", TimestampTz);
    let orders = s.create(orders).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, updated_at: "2024-05-01 12:00:00+00" })).await?;
    s.catch_up().await?;
    s.apply(orders.insert(row! { id: 2, updated_at: "2024-05-01 12:00:00+00" })).await?;
    s.catch_up().await?;
    s.apply(orders.insert(row! { id: 3, updated_at: None::<&str> })).await?;

    s.judge().await
}

/// An update that forgets to set the time leaves the row behind the mark.
#[scenario]
async fn update_that_forgets_the_time(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).column("state", Text).column("updated_at", TimestampTz);
    let orders = s.create(orders).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, state: "open", updated_at: "2024-05-01 12:00:00+00" })).await?;
    s.catch_up().await?;
    s.apply(orders.update(1, row! { state: "paid" })).await?;

    s.judge().await
}

/// A time with a default for new rows, and no trigger that sets it for updated ones: updates are never seen.
#[scenario(only = "polling", why = "the trigger that sets the time is part of polling's set-up")]
async fn updates_without_a_touch(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("state", Text)).await?;
    s.configure("touch", "false");
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, state: "open" })).await?;
    s.catch_up().await?;
    s.apply(orders.update(1, row! { state: "paid" })).await?;
    s.apply(orders.insert(row! { id: 2, state: "open" })).await?;

    s.judge().await
}
