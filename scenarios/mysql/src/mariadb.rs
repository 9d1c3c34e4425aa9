//! What is MariaDB's own.

use crate::prelude::*;

/// What MariaDB calls JSON is a text that has been checked: blanks, the order of keys and equal keys stay as they were written.
#[scenario(on = "MariaDB")]
async fn documents_are_texts(s: &mut Scenario) -> Result<()> {
    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    s.start_capture().await?;

    for (id, body) in [
        (1, r#"{"b":1,  "aa": [true, null, "x"], "b": 2}"#),
        (2, r#""a \"quote\", a \\ and ä\n""#),
        (3, "[1e100, 1.0, -0.5, 18446744073709551615, -9223372036854775808]"),
        (4, "null"),
    ] {
        s.apply(notes.insert(row! { id: id, body: body })).await?;
    }
    s.refused(notes.insert(row! { id: 5, body: "{" }), "CONSTRAINT").await?;

    s.judge().await
}

/// Rows that the server compresses in its log, event by event (`log_bin_compress`). The library by which Debezium and Maxwell read
/// the log doesn't know these events. Debezium loses what a server with this setting commits, and goes on without a word; Maxwell
/// takes the compressed bytes for events, tells its own log of it, and hears no more.
#[scenario(on = "MariaDB", own_server)]
async fn compressed_events(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("note", Text)).await?;
    s.start_capture().await?;

    let note = "warm ".repeat(100);
    s.apply(readings.insert(row! { id: 1, note: note.as_str() })).await?;
    s.apply(raw("SET GLOBAL log_bin_compress = ON", [])).await?;
    s.apply(readings.insert(row! { id: 2, note: note.as_str() })).await?;
    s.apply(readings.update(1, row! { note: note.to_uppercase() })).await?;
    s.apply(readings.delete(2)).await?;

    let reference = "https://github.com/osheroff/mysql-binlog-connector-java/issues/8";
    let (lost, state) = (FaultKind::Lost, FaultKind::WrongState);
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", reference, &[lost, lost, lost, state]),
        KnownFlaw::stalls("maxwell", reference, "Unknown event type 166"),
    ])
    .await
}

/// Documents in a table that is made while the capture runs. Maxwell reads in the statement that the column is JSON, and takes its
/// text for MySQL's binary form.
#[scenario(on = "MariaDB")]
async fn documents_of_a_new_table(s: &mut Scenario) -> Result<()> {
    s.start_capture().await?;

    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    s.apply(notes.insert(row! { id: 1, body: r#"{"a": 1}"# })).await?;

    // https://github.com/zendesk/maxwell/issues/869
    s.judge_known_flaws(&[KnownFlaw::stops("maxwell", "Unknown value type code '7B'")]).await
}

/// Changes by way of Kafka: those of a database stay in one partition, and in order.
#[scenario(on = "MariaDB", only = "maxwell", why = "only it has a choice of where it writes to")]
async fn changes_by_way_of_kafka(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.configure("producer", "kafka");
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.transaction([orders.update(1, row! { total: 20 }), orders.insert(row! { id: 2, total: 5 })]).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.delete(1)).await?;
    s.resume_capture().await?;

    s.judge().await
}
