//! Replication slots: what they hold, and what becomes of a capture that has lost its own.

use crate::prelude::*;

/// The slot is dropped while the capture is stopped, and with it all that was committed since. A capture that went on as if
/// nothing had happened would leave a gap that nobody sees.
#[scenario(only = "=debezium, =logical", why = "only they read a slot")]
async fn slot_dropped_while_stopped(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    let slot = s.capture_name();
    s.apply(raw(&format!("SELECT pg_drop_replication_slot('{slot}')"), [])).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;

    s.must_refuse_to_resume(&[("logical", "it is gone"), ("debezium", "no longer available on the server")]).await
}

/// The slot is dropped and made anew: there is one of the name, but it begins after what was committed meanwhile.
#[scenario(only = "=debezium, =logical", why = "only they read a slot")]
async fn slot_made_anew_while_stopped(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    let slot = s.capture_name();
    s.apply(raw(&format!("SELECT pg_drop_replication_slot('{slot}')"), [])).await?;
    s.apply(raw(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"), [])).await?;

    s.must_refuse_to_resume(&[("logical", "it begins at"), ("debezium", "no longer available on the server")]).await
}

/// The capture is stopped for so long that the server gives up what the slot holds back (`max_slot_wal_keep_size`). What was
/// committed meanwhile can't be had any more, and whoever asks for it is told. (Debezium takes the slot for one that is being
/// made: its connector goes on to say that it runs, and asks again for half an hour.)
#[scenario(own_server, only = "=debezium, =logical", why = "only they read a slot")]
async fn slot_behind_max_slot_wal_keep_size(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.apply(raw("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", [])).await?;
    s.apply(raw("SELECT pg_reload_conf()", [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    for id in 2..5 {
        s.apply(orders.insert(row! { id: id })).await?;
        s.apply(raw("SELECT pg_switch_wal()", [])).await?;
    }
    s.apply(raw("CHECKPOINT", [])).await?;
    let slot = s.capture_name();
    s.must_hold(&format!("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{slot}'")).await?;

    let words = [("logical", "removed log that it still needs"), ("debezium", "asks for the slot again")];
    s.must_refuse_or_stall(&words, "debezium", "https://github.com/risingwavelabs/risingwave/pull/25993").await
}

/// REPLICA IDENTITY USING INDEX: old rows hold the columns of a unique index instead of the primary key's.
#[scenario]
async fn replica_identity_using_an_index(s: &mut Scenario) -> Result<()> {
    let users = table("users").column_not_null("email", Text).column("name", Text).identity_index(&["email"]);
    let users = s.create(users).await?;
    let (ada, bob) = (row! { email: "ada@example.org" }, row! { email: "bob@example.org" });
    s.start_capture().await?;

    s.apply(users.insert(row! { email: "ada@example.org", name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(users.update(ada.clone(), row! { name: "Ada Lovelace" })).await?;
    s.catch_up().await?;
    s.apply(users.update(ada, row! { email: "bob@example.org" })).await?;
    s.catch_up().await?;
    s.apply(users.delete(bob)).await?;

    s.judge().await
}
