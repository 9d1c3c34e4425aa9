//! Options of single methods: what each adds.

use crate::prelude::*;

/// An audit trigger for each row doesn't see TRUNCATE, which deletes no row by itself. A trigger for the statement does.
#[scenario(only = "trigger", why = "a trigger for the statement is an option of the audit table's")]
async fn truncate_by_a_statement_trigger(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int)).await?;
    s.configure("truncate", "true");
    s.start_capture().await?;

    s.apply(carts.insert(row! { id: 1 })).await?;
    s.apply(carts.truncate()).await?;
    let items = s.create(table("items").key("id", Int)).await?;
    s.apply(items.insert(row! { id: 1 })).await?;
    s.apply(truncate(&[&carts, &items])).await?;

    s.judge().await
}

/// An event trigger writes each table's new shape into the audit table, in its place among the changes.
#[scenario(only = "trigger", why = "an event trigger is an option of the audit table's")]
async fn schema_changes_by_an_event_trigger(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.configure("schema_changes", "true");
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.transaction([
        customers.add_column("email", Text),
        customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" }),
        customers.drop_column("name"),
    ])
    .await?;
    s.apply(customers.rename_column("email", "address")).await?;
    s.apply(customers.change_type("address", Varchar(80))).await?;

    s.judge().await
}

/// A transaction that outgrows the decoding memory is sent in parts before its end, and delivered whole at its commit. What
/// a savepoint takes back is taken back in the reader; a transaction that is rolled back never was.
#[scenario(only = "=logical", why = "the protocol's streaming of large transactions is an option of the reader's")]
async fn large_transactions_streamed_before_their_end(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("note", Text)).await?;
    s.configure("logical_decoding_work_mem", "64kB");
    s.start_capture().await?;

    let note = "x".repeat(100);
    let rows = |from: i32, to: i32| readings.insert_many((from..to).map(|id| row! { id: id, note: note.as_str() }));
    s.apply(begin()).await?;
    s.apply(rows(0, 2000)).await?;
    s.apply(begin().on("b")).await?;
    s.apply(rows(100_000, 102_000).on("b")).await?;
    s.apply(savepoint("before_the_mistake")).await?;
    s.apply(rows(2000, 4000)).await?;
    s.apply(rollback_to("before_the_mistake")).await?;
    s.apply(rollback().on("b")).await?;
    s.apply(rows(4000, 5000)).await?;
    s.apply(commit()).await?;
    s.apply(readings.delete(1)).await?;

    s.judge().await?;
    let streamed =
        format!("SELECT stream_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = '{}'", s.unique("logical"));
    s.must_hold(&streamed).await
}
