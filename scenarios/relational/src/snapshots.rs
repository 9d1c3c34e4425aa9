//! Rows that are there before the capture begins.

use crate::prelude::*;

/// With snapshot mode `no_data` rows that exist are not delivered, and an update of one comes as if out of nowhere.
#[scenario]
async fn existing_rows_without_a_snapshot(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// With snapshot mode `initial` rows that exist are read first, and changes follow.
#[scenario(initial_snapshot)]
async fn initial_snapshot_of_existing_rows(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    let empty = s.create(table("empty").key("id", Int)).await?;
    let rows = ["Ada", "Bob", "Cyd"].into_iter().zip(1..);
    s.apply(customers.insert_many(rows.map(|(name, id)| row! { id: id, name: name }))).await?;
    s.apply(customers.delete(2)).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(empty.insert(row! { id: 1 })).await?;

    s.judge().await
}

/// Rows are written before, during and after the initial snapshot, without a pause. Each arrives once: read by the
/// snapshot or streamed after it. There is one point in the log at which both meet.
#[scenario(initial_snapshot)]
async fn initial_snapshot_amid_writes(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.apply(orders.insert_many((1..=2_000).map(|id| row! { id: -id, total: id }))).await?;

    let order = |id: i32| orders.insert(row! { id: id, total: id });
    s.start_capture_amid(|step| Some(order(step))).await?;
    s.apply_all((1_000_001..1_000_101).map(order)).await?;

    s.judge().await
}

/// Rows change and go, too, while the initial snapshot reads them. It has each as it was at one point in the log, and the stream what became of
/// it from there on: none that had gone, and no old value behind a new one.
#[scenario(initial_snapshot)]
async fn initial_snapshot_amid_updates_and_deletes(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.apply(orders.insert_many((1..=2_000).map(|id| row! { id: id, total: id }))).await?;

    let write = |step: i32| match step % 3 {
        0 => orders.insert(row! { id: 10_000 + step, total: step }),
        1 => orders.update(1 + step % 900, row! { total: -step }),
        _ => orders.delete(2_000 - step / 3),
    };
    s.start_capture_amid(|step| Some(write(step)).filter(|_| step <= 3_000)).await?;
    s.apply(orders.insert(row! { id: 20_000, total: 1 })).await?;
    s.apply(orders.update(901, row! { total: 0 })).await?;
    s.apply(orders.delete(902)).await?;

    s.judge().await
}

/// Rows are read in chunks while the stream goes on, because a row in a table of signals asks for it (Debezium's incremental snapshot).
/// Nothing is held up meanwhile. Each row that is read is what the changes before it in the stream have made of it; one that changes just
/// then is told by its change alone, and one that was told before may be told again: a consumer must take a row that it has already for an
/// update, and an update of one that it doesn't have for a row.
#[scenario(initial_snapshot, only = "=debezium", why = "only Debezium reads tables when a signal asks for it")]
async fn incremental_snapshot_amid_writes(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.apply(orders.insert_many((1..=1_000).map(|id| row! { id: id, total: id }))).await?;
    s.configure("signal.enabled.channels", "source");
    s.configure("incremental.snapshot.chunk.size", "100");

    let write = |step: i32| match step % 4 {
        0 => orders.insert(row! { id: -step, total: step }),
        1 => orders.insert(row! { id: 10_000 + step, total: step }),
        2 => orders.update(1 + step % 500, row! { total: -step }),
        _ => orders.delete(1_000 - step % 500),
    };
    s.start_capture_amid(|step| Some(write(step)).filter(|_| step < 2_000)).await?;
    s.apply(orders.insert(row! { id: 20_000, total: 1 })).await?;
    s.apply(orders.update(1, row! { total: 0 })).await?;
    s.apply(orders.delete(2)).await?;

    s.judge().await
}
