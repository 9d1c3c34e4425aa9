//! The binary log: how sessions write it, and what becomes of it.

use crate::prelude::*;

/// A session that writes as little as it can: of an old row the key, of a new one what has changed. Who reads the log has to
/// keep the rest.
#[scenario(on = "MySQL", only = "binlog", why = "which columns the log has is a setting of the sessions that write it")]
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
#[scenario(on = "MySQL", only = "binlog", why = "which columns the log has is a setting of the sessions that write it")]
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
#[scenario(on = "MySQL", own_server, only = "binlog", why = "only it reads the log")]
async fn log_purged_while_stopped(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.apply(raw("FLUSH BINARY LOGS", [])).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;
    s.apply(raw("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY", [])).await?;

    s.must_refuse_to_resume(&[("binlog", "has purged log that it still needs")]).await
}

/// A session that writes statements to the log, and no rows. What they did to which rows can't be read there; a capture that
/// passed them over would lose changes without a word.
#[scenario(on = "MySQL", only = "binlog", why = "the others are stopped by it as well, in words of their own")]
async fn statements_in_the_log(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(raw("SET SESSION binlog_format = 'STATEMENT'", [])).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;

    s.must_refuse_to_resume(&[("binlog", "has written a statement to it, and no rows")]).await
}
