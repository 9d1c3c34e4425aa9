//! The binary log: how sessions write it, and what becomes of it.

use changeproof::mysql::Source;

use crate::prelude::*;

/// A session that writes as little as it can: of an old row the key, of a new one what has changed. Who reads the log has to
/// keep the rest.
#[scenario(only = "binlog", why = "which columns the log has is a setting of the sessions that write it")]
async fn row_image_minimal(s: &mut Scenario) -> Result<()> {
    let docs = table("docs").key("id", Int).column("title", Varchar(20)).column("body", Text);
    let docs = s.create(docs).await?;
    s.configure("binlog_row_image", "MINIMAL");
    s.apply(raw("SET SESSION binlog_row_image = 'MINIMAL'", [])).await?;
    s.start_capture().await?;

    s.apply(docs.insert(row! { id: 1, title: "draft", body: "long" })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { id: 2, body: "longer" })).await?;
    s.apply(docs.delete(2)).await?;

    s.judge().await
}

/// A session that leaves out texts and bytes without a limit where nothing needs them.
#[scenario(only = "binlog", why = "which columns the log has is a setting of the sessions that write it")]
async fn row_image_noblob(s: &mut Scenario) -> Result<()> {
    let docs = table("docs").key("id", Int).column("title", Varchar(20)).column("body", Text);
    let docs = s.create(docs).await?;
    s.configure("binlog_row_image", "NOBLOB");
    s.apply(raw("SET SESSION binlog_row_image = 'NOBLOB'", [])).await?;
    s.start_capture().await?;

    s.apply(docs.insert(row! { id: 1, title: "draft", body: "long" })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { body: "longer" })).await?;
    s.apply(docs.delete(1)).await?;

    s.judge().await
}

/// Transactions that the server compresses are one event each, with the others inside.
#[scenario(on = "MySQL")]
async fn compressed_transactions(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("celsius", Int)).await?;
    s.apply(raw("SET SESSION binlog_transaction_compression = ON", [])).await?;
    s.start_capture().await?;

    s.apply(readings.insert_many((0..500).map(|id| row! { id: id, celsius: id % 40 }))).await?;
    s.transaction([readings.update(1, row! { celsius: 100 }), readings.delete(2)]).await?;

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
#[scenario(own_server, only = "binlog, maxwell", why = "it doesn't read the log, or is stopped in words of its own")]
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

    let words = [("binlog", "has purged log that it still needs"), ("maxwell", "Could not find first log file name")];
    s.must_refuse_to_resume(&words).await
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

/// A session that writes statements to the log, and no rows. What they did to which rows can't be read there. The native capture
/// stops at them; Debezium and Maxwell warn of them in their own logs, and pass them over.
#[scenario]
async fn statements_among_rows(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(raw("SET SESSION binlog_format = 'STATEMENT'", [])).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.apply(raw("SET SESSION binlog_format = 'ROW'", [])).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;

    let kinds = [FaultKind::Lost, FaultKind::WrongState];
    s.judge_known_flaws(&[
        KnownFlaw::stops("binlog", "has written a statement to it, and no rows"),
        KnownFlaw::of("debezium", "https://debezium.io/documentation/reference/3.5/connectors/mariadb.html", &kinds),
        KnownFlaw::of("maxwell", "https://github.com/zendesk/maxwell/issues/345", &kinds),
    ])
    .await
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
