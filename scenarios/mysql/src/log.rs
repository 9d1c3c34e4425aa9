//! The binary log: how sessions write it, and what becomes of it. Those that write less of a row, or statements, are in files of their
//! own.

use changeproof::mysql::{Flavour, Source};

use crate::{
    beside::{end_of_log, must_be_compressed},
    prelude::*,
};

/// Transactions that the server compresses are one event each, with the others inside. One of them was open when the capture stopped and
/// the server began another file of its log.
#[scenario(on = "MySQL")]
async fn compressed_transactions(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("celsius", Int)).await?;
    for session in ["a", "b"] {
        s.apply(raw("SET SESSION binlog_transaction_compression = ON", []).on(session)).await?;
    }
    let some = |ids: std::ops::Range<i32>| readings.insert_many(ids.map(|id| row! { id: id, celsius: id % 40 }));
    s.start_capture().await?;

    let before = end_of_log(s).await?;
    s.apply(some(0..500)).await?;
    must_be_compressed(s, &before).await?;
    s.transaction([readings.update(1, row! { celsius: 100 }), readings.delete(2)]).await?;
    s.apply(begin().on("b")).await?;
    s.apply(some(500..1000).on("b")).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.apply(commit().on("b")).await?;
    s.apply(readings.update(3, row! { celsius: 100 })).await?;
    s.resume_capture().await?;
    s.apply(readings.delete(4)).await?;

    s.judge().await
}

/// The server begins another file of its log while the capture runs, and while it is stopped.
#[scenario]
async fn rotation_of_the_log(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 3 })).await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.apply(orders.insert(row! { id: 4 })).await?;
    s.resume_capture().await?;

    s.judge().await
}

/// The server removes log that a stopped capture has not read. What was committed meanwhile can't be had any more, and whoever
/// asks for it is told.
#[scenario(own_server, only = "debezium, binlog, maxwell", why = "it doesn't read the log")]
async fn log_purged_while_stopped(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;
    s.source::<Source>()?.purge_log().await?;

    let debezium = match s.source::<Source>()?.flavour() {
        Flavour::MySql => "but this is no longer available on the server",
        Flavour::MariaDb => "Error code: 1236",
    };
    s.must_refuse_to_resume(&[
        ("debezium", debezium),
        ("binlog", "has purged log that it still needs"),
        ("maxwell", "Could not find first log file name"),
    ])
    .await
}

/// A transaction in two phases whose first one stands in log that is gone when it is committed. What it changed can't be had any more,
/// and the capture says so.
#[scenario(own_server, only = "binlog", why = "others don't look for what was prepared before they began")]
async fn transaction_prepared_in_log_that_was_purged(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    let name = s.unique("prepared");
    s.apply(begin_two_phase(&name).on("b")).await?;
    s.apply(orders.insert(row! { id: 1 }).on("b")).await?;
    s.apply(prepare(&name).on("b")).await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.source::<Source>()?.purge_log().await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 2 })).await?;
    s.apply(commit_prepared(&name).on("b")).await?;

    s.judge_known_flaws(&[KnownFlaw::stops("binlog", "the server has purged that part of its log")]).await
}

/// A session that writes only the parts of a document that a function has changed. Without the old document they can't be put
/// together again.
#[scenario(only = "binlog", why = "Debezium passes them over, which is a scenario of its own", on = "MySQL")]
async fn parts_of_documents_in_the_log(s: &mut Scenario) -> Result<()> {
    let notes = notes_with_a_document(s).await?;
    s.stop_capture().await?;
    s.apply(change_of_a_part(&notes)).await?;

    s.must_refuse_to_resume(&[("binlog", "parts of the documents")]).await
}

/// Such updates are no error for Debezium: it leaves them out and goes on. Its manual asks for `binlog_row_value_options` to be
/// empty, which each session can set for itself.
#[scenario(only = "debezium", why = "the native binary log refuses them", on = "MySQL")]
async fn parts_of_documents_left_out(s: &mut Scenario) -> Result<()> {
    let notes = notes_with_a_document(s).await?;
    s.apply(change_of_a_part(&notes)).await?;

    let reference = "https://debezium.io/documentation/reference/3.5/connectors/mysql.html";
    s.judge_known_flaw("debezium", reference, &[FaultKind::Lost, FaultKind::WrongState]).await
}

/// A table with a document that has been captured, before a session that writes parts.
async fn notes_with_a_document(s: &mut Scenario) -> Result<TableRef> {
    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    s.start_capture().await?;
    s.apply(notes.insert(row! { id: 1, body: r#"{"a": 1, "b": "long"}"# })).await?;
    s.catch_up().await?;
    s.apply(raw("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'", [])).await?;
    Ok(notes)
}

fn change_of_a_part(notes: &TableRef) -> Step {
    let changed = notes.update(1, row! { body: r#"{"a": 2, "b": "long"}"# });
    raw("UPDATE notes SET body = JSON_SET(body, '$.a', 2) WHERE id = 1", [changed])
}
