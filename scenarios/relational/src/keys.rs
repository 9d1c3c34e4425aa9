//! What identifies a row.

use crate::prelude::*;

/// Updating a primary key. The log has one update with the old key; Debezium splits it into a delete, a tombstone
/// and an insert, so that consumers that keep the last record of each key stay right.
#[scenario]
async fn update_of_a_primary_key(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { id: 100 })).await?;
    s.apply(customers.update(100, row! { name: "Ada Lovelace" })).await?;

    s.judge().await
}

/// A key of two columns, and an update of one half of it.
#[scenario]
async fn composite_key(s: &mut Scenario) -> Result<()> {
    let lines = table("order_lines").key("order_id", Int).key("sku", Text).column("quantity", Int);
    let lines = s.create(lines).await?;
    s.start_capture().await?;

    s.apply(lines.insert(row! { order_id: 7, sku: "A-1", quantity: 1 })).await?;
    s.apply(lines.insert(row! { order_id: 7, sku: "B-2", quantity: 2 })).await?;
    s.apply(lines.update((7, "A-1"), row! { quantity: 3 })).await?;
    s.apply(lines.update((7, "B-2"), row! { sku: "C-3" })).await?;
    s.apply(lines.delete((7, "A-1"))).await?;

    s.judge().await
}

/// Without a primary key the whole old row is the row's name; PostgreSQL writes it to the log under REPLICA IDENTITY FULL,
/// MySQL always. Debezium sends tombstones all the same: records with neither key nor value, which a compacted topic refuses.
#[scenario]
async fn no_primary_key_identity_full(s: &mut Scenario) -> Result<()> {
    let log = table("log").column("line", Text).column("level", Int).identity_full();
    let log = s.create(log).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { line: "same", level: 1 })).await?;
    s.apply(log.insert(row! { line: "same", level: 1 })).await?;
    s.apply(log.insert(row! { line: "other", level: 2 })).await?;
    s.apply(log.update(row! { line: "other" }, row! { level: 3 })).await?;
    s.apply(log.delete(row! { line: "same" })).await?;

    s.judge().await
}
