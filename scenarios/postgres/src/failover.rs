//! Failover: the server dies, and a standby takes its place. Commits waited for the standby, so no row is lost; what becomes of the capture
//! depends on its slot.

use changeproof::postgres::Source;

use crate::prelude::*;

/// The standby has the slot (`failover` of the slot, `sync_replication_slots` of the standby, `synchronized_standby_slots` of the server, all
/// since PostgreSQL 17). The capture connects to the new server by the old name and goes on where it was.
#[scenario(own_server, only = "=debezium, =logical, =direct", why = "only they read a slot")]
async fn failover_to_a_standby_that_has_the_slot(s: &mut Scenario) -> Result<()> {
    let gets_slots = s.source::<Source>()?.standbys_get_slots().await?;
    s.start_standby().await?;
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    if gets_slots {
        s.configure("failover", "true");
        s.configure("slot.failover", "true");
    }
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    if !gets_slots {
        return fail_over_and_refuse(s, &orders).await;
    }
    s.until_the_standby_has_the_slot().await?;
    s.apply(orders.insert_many((2..200).map(|id| row! { id: id, total: id }))).await?;
    s.fail_over().await?;
    s.apply(orders.update(1, row! { total: 20 })).await?;
    s.transaction([orders.delete(2), orders.insert(row! { id: 200, total: 5 })]).await?;

    s.judge().await
}

/// The standby has no slot of the capture's: there is nothing to go on from, and whoever went on from what there is then would leave a gap.
#[scenario(own_server, only = "=debezium, =logical, =direct", why = "only they read a slot")]
async fn failover_to_a_standby_without_the_slot(s: &mut Scenario) -> Result<()> {
    s.start_standby().await?;
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    fail_over_and_refuse(s, &orders).await
}

/// A failover while the capture is stopped, after which its slot is nowhere.
async fn fail_over_and_refuse(s: &mut Scenario, orders: &TableRef) -> Result<()> {
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2, total: 20 })).await?;
    s.fail_over().await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.must_refuse_to_resume(&[
        ("logical", "it is gone"),
        ("debezium", "no longer available on the server"),
        ("direct", "which is gone"),
    ])
    .await
}
