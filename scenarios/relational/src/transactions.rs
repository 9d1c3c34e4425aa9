//! Transactions: what belongs together, in which order, and what never happened.

use crate::prelude::*;

/// One transaction over two tables, then one of each alone. Each table has a topic of its own with three partitions;
/// Debezium's transaction topic says which changes belong together and in which order.
#[scenario]
async fn several_tables_in_a_transaction(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let lines = table("lines").key("order_id", Int).key("number", Int).column("sku", Text);
    let lines = s.create(lines).await?;
    s.start_capture().await?;

    s.transaction([
        orders.insert(row! { id: 1, total: 0 }),
        lines.insert(row! { order_id: 1, number: 1, sku: "A-1" }),
        lines.insert(row! { order_id: 1, number: 2, sku: "B-2" }),
        orders.update(1, row! { total: 2 }),
    ])
    .await?;
    s.apply(orders.insert(row! { id: 2, total: 0 })).await?;
    s.apply(lines.insert(row! { order_id: 2, number: 1, sku: "C-3" })).await?;

    s.judge().await
}

/// A transaction that is rolled back never happened.
#[scenario]
async fn rollback_of_a_transaction(s: &mut Scenario) -> Result<()> {
    let accounts = s.create(table("accounts").key("id", Int).column("balance", Int)).await?;
    s.start_capture().await?;

    s.apply(accounts.insert(row! { id: 1, balance: 100 })).await?;
    s.apply(begin()).await?;
    s.apply(accounts.update(1, row! { balance: 0 })).await?;
    s.apply(accounts.insert(row! { id: 2, balance: 100 })).await?;
    s.apply(rollback()).await?;
    s.apply(accounts.update(1, row! { balance: 90 })).await?;

    s.judge().await
}

/// What was done after a savepoint and rolled back to it never happened; what was done before and after it did.
#[scenario]
async fn rollback_to_a_savepoint(s: &mut Scenario) -> Result<()> {
    let accounts = s.create(table("accounts").key("id", Int).column("balance", Int)).await?;
    s.start_capture().await?;

    s.transaction([
        accounts.insert(row! { id: 1, balance: 100 }),
        savepoint("before_the_mistake"),
        accounts.update(1, row! { balance: 0 }),
        accounts.insert(row! { id: 2, balance: 100 }),
        rollback_to("before_the_mistake"),
        accounts.insert(row! { id: 3, balance: 7 }),
    ])
    .await?;

    s.judge().await
}

/// Two sessions write side by side. The stream has their transactions whole, in the order in which they were committed,
/// which is not the order in which they began.
#[scenario]
async fn interleaved_transactions(s: &mut Scenario) -> Result<()> {
    let events = s.create(table("events").key("id", Int).column("who", Text)).await?;
    s.start_capture().await?;

    s.apply(begin()).await?;
    s.apply(events.insert(row! { id: 1, who: "first to begin" })).await?;
    s.apply(begin().on("b")).await?;
    s.apply(events.insert(row! { id: 2, who: "first to commit" }).on("b")).await?;
    s.apply(events.insert(row! { id: 3, who: "first to begin" })).await?;
    s.apply(events.insert(row! { id: 4, who: "first to commit" }).on("b")).await?;
    s.apply(commit().on("b")).await?;
    s.apply(commit()).await?;

    s.judge().await
}

/// A transaction of 10,000 rows arrives whole: as many changes as were made, in their order, and none before the commit.
#[scenario]
async fn transaction_of_10_000_rows(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("celsius", Int)).await?;
    s.start_capture().await?;

    s.transaction((0..10).map(|thousand| {
        let ids = thousand * 1000..(thousand + 1) * 1000;
        readings.insert_many(ids.map(|id| row! { id: id, celsius: id % 40 }))
    }))
    .await?;
    s.apply(readings.delete(9_999)).await?;

    s.judge().await
}

/// The capture is stopped while a transaction is open, other transactions are committed meanwhile, and it is started
/// again before the open one ends. The log keeps what the capture has not seen: in PostgreSQL because a slot holds it back,
/// in MySQL for as long as it is not purged.
#[scenario]
async fn capture_stopped_in_mid_transaction(s: &mut Scenario) -> Result<()> {
    let events = s.create(table("events").key("id", Int).column("when", Text)).await?;
    s.start_capture().await?;

    s.apply(begin().on("b")).await?;
    s.apply(events.insert(row! { id: 1, when: "before the stop" }).on("b")).await?;
    s.apply(events.insert(row! { id: 2, when: "before the stop" })).await?;
    s.stop_capture().await?;
    s.apply(events.insert(row! { id: 3, when: "while stopped" }).on("b")).await?;
    s.apply(events.insert(row! { id: 4, when: "while stopped" })).await?;
    s.apply(events.delete(2)).await?;
    s.resume_capture().await?;
    s.apply(events.insert(row! { id: 5, when: "after the stop" }).on("b")).await?;
    s.apply(commit().on("b")).await?;
    s.apply(events.insert(row! { id: 6, when: "after the stop" })).await?;

    s.judge().await
}

/// A transaction that is prepared first and committed later, by whoever knows its name. It counts from its commit. Debezium
/// for MySQL passes the commit over, and delivers it when it is prepared; for MariaDB it never does. Maxwell doesn't understand the
/// commit, and ends.
#[scenario(
    only = "debezium, logical, binlog, maxwell, polling",
    why = "PostgreSQL refuses to prepare a transaction that has notified: an audit trigger with NOTIFY forbids it"
)]
async fn prepared_transaction(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    let name = s.unique("prepared");
    s.start_capture().await?;

    // In MariaDB a session that has prepared a transaction can do nothing but end it.
    s.apply(begin_two_phase(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 1, who: "prepared first" }).on("b")).await?;
    s.apply(prepare(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 2, who: "committed first" })).await?;
    s.apply(commit_prepared(&name).on("b")).await?;

    let reference = "https://github.com/debezium/debezium/pull/154";
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", reference, &[FaultKind::Reordered]).on("MySQL"),
        KnownFlaw::of("debezium", reference, &[FaultKind::Lost, FaultKind::WrongState]).on("MariaDB"),
        KnownFlaw::stops("maxwell", "Error parsing SQL: 'XA COMMIT").having_told(
            "https://github.com/zendesk/maxwell/issues/1771",
            &[FaultKind::Reordered, FaultKind::MergedTransactions],
        ),
    ])
    .await
}

/// A transaction that is prepared and then rolled back has never been. Debezium for MySQL has delivered it by then, and nothing
/// takes it back. Maxwell doesn't understand the end, and ends too.
#[scenario(
    only = "debezium, logical, binlog, maxwell, polling",
    why = "PostgreSQL refuses to prepare a transaction that has notified: an audit trigger with NOTIFY forbids it"
)]
async fn prepared_transaction_rolled_back(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    let name = s.unique("prepared");
    s.start_capture().await?;

    s.apply(begin_two_phase(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 1, who: "prepared" }).on("b")).await?;
    s.apply(prepare(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 2, who: "committed" })).await?;
    s.apply(rollback_prepared(&name).on("b")).await?;

    let reference = "https://github.com/debezium/debezium/pull/154";
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", reference, &[FaultKind::Phantom, FaultKind::WrongState]).on("MySQL"),
        KnownFlaw::stops("maxwell", "Error parsing SQL: 'XA ROLLBACK")
            .having_told("https://github.com/zendesk/maxwell/issues/1771", &[FaultKind::Phantom]),
    ])
    .await
}

/// A transaction that was prepared before the capture began, and is committed while it runs. It counts from its commit, but the log
/// has its rows where it was prepared. The native binary log looks for them in what the server still has of the log; Debezium never
/// tells them, and Maxwell ends at the commit. (PostgreSQL lets no capture begin until the transaction has ended.)
#[scenario(
    only = "debezium, binlog, maxwell, polling",
    why = "a slot waits for all transactions that are open when it is made",
    on = "MySQL, MariaDB"
)]
async fn transaction_prepared_before_the_capture(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Text)).await?;
    let name = s.unique("prepared");
    // The name has been used before.
    s.apply(begin_two_phase(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 1, who: "an earlier one" }).on("b")).await?;
    s.apply(prepare(&name).on("b")).await?;
    s.apply(commit_prepared(&name).on("b")).await?;
    s.apply(begin_two_phase(&name).on("b")).await?;
    s.apply_all(
        [orders.insert(row! { id: 2, who: "prepared" }), orders.update(1, row! { who: "changed" })]
            .map(|step| step.on("b")),
    )
    .await?;
    s.apply(prepare(&name).on("b")).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 3, who: "meanwhile" })).await?;
    s.apply(commit_prepared(&name).on("b")).await?;
    s.apply(orders.update(2, row! { who: "paid" })).await?;

    let reference = "https://github.com/debezium/debezium/pull/154";
    let (lost, state) = (FaultKind::Lost, FaultKind::WrongState);
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", reference, &[lost, lost, state, state, state]),
        KnownFlaw::stops("maxwell", "Error parsing SQL: 'XA COMMIT"),
    ])
    .await
}
