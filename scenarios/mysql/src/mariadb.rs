//! What is MariaDB's own.

use changeproof::Value;

use crate::prelude::*;

/// What MariaDB calls JSON is a text that has been checked: blanks, the order of keys and equal keys stay as they were written.
#[scenario(initial_snapshot = "!maxwell", on = "MariaDB")]
async fn documents_are_texts(s: &mut Scenario) -> Result<()> {
    let notes = s.create(table("notes").key("id", Int).column("body", Json)).await?;
    let bodies = [
        r#"{"b":1,  "aa": [true, null, "x"], "b": 2}"#,
        r#""a \"quote\", a \\ and ä\n""#,
        "[1e100, 1.0, -0.5, 18446744073709551615, -9223372036854775808]",
        "null",
    ];
    let from = |first: i32| {
        let rows = (first..).zip(bodies).map(|(id, body)| notes.insert(row! { id: id, body: body }));
        rows.collect::<Vec<_>>()
    };
    s.apply_all(from(11)).await?;
    s.start_capture().await?;

    s.apply_all(from(1)).await?;
    s.refused(notes.insert(row! { id: 5, body: "{" }), "CONSTRAINT").await?;

    s.judge().await
}

/// Rows that the server compresses in its log, event by event (`log_bin_compress`). The native capture unpacks them; the library by
/// which Debezium and Maxwell read the log doesn't know these events. Debezium loses what a server with this setting commits, and goes on without a word; Maxwell
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

/// Statements that the server compresses in its log, from 256 bytes on: one that empties a table, and one that gives it another name.
#[scenario(on = "MariaDB", own_server, only = "binlog", why = "other methods know no compressed events, as rows show")]
async fn compressed_statements(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int)).await?;
    s.apply(raw("SET GLOBAL log_bin_compress = ON", [])).await?;
    s.start_capture().await?;

    let comment = "long ".repeat(60);
    s.apply(readings.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.apply(raw(&format!("/* {comment} */ TRUNCATE TABLE readings"), [readings.truncate()])).await?;
    let renamed = readings.renamed("measurements");
    s.apply(raw(
        &format!("ALTER TABLE readings COMMENT '{comment}', RENAME TO measurements"),
        [readings.rename_to("measurements")],
    ))
    .await?;
    s.apply(renamed.insert(row! { id: 2 })).await?;

    s.judge().await
}

/// Rows with the statement that changed them, as the server annotates them (`binlog_annotate_row_events`).
#[scenario(on = "MariaDB")]
async fn annotated_rows(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.apply(raw("SET SESSION binlog_annotate_row_events = ON", [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.transaction([orders.update(1, row! { total: 20 }), orders.insert(row! { id: 2, total: 5 })]).await?;

    s.judge().await
}

/// A changed definition that the log has twice, when it begins and when it has ended (`binlog_alter_two_phase`), and one that is given
/// up in between: the table keeps its name and its columns. Debezium and Maxwell take it for changed: Debezium leaves out what it doesn't
/// know of the table since, and Maxwell ends at the next statement.
#[scenario(on = "MariaDB")]
async fn definitions_in_two_phases(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("who", Varchar(20))).await?;
    s.apply(raw("SET SESSION binlog_alter_two_phase = ON", [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1, who: "ada" }, row! { id: 2, who: "ada" }])).await?;
    s.catch_up().await?;
    let twice = raw("ALTER TABLE orders ADD UNIQUE (who), ADD COLUMN note int, RENAME TO others, ALGORITHM=COPY", []);
    s.refused(twice, "Duplicate entry").await?;
    s.apply(orders.add_column("total", Int)).await?;
    s.apply(orders.insert(row! { id: 3, who: "bob", total: 1 })).await?;

    let reference = "https://mariadb.com/kb/en/replication-and-binary-log-system-variables/#binlog_alter_two_phase";
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", reference, &[FaultKind::WrongValue]),
        KnownFlaw::stops("maxwell", "Couldn't find table 'orders'")
            .having_told(reference, &[FaultKind::Lost, FaultKind::Phantom]),
    ])
    .await
}

/// Transactions of two replication domains, each with numbers of its own. A capture that goes on has to say of each domain where it
/// stood.
#[scenario(on = "MariaDB")]
async fn transactions_of_two_domains(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(raw("SET SESSION gtid_domain_id = 7", [])).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 3 })).await?;
    s.apply(raw("SET SESSION gtid_domain_id = 0", [])).await?;
    s.apply(orders.insert(row! { id: 4 })).await?;
    s.resume_capture().await?;
    s.apply(orders.insert(row! { id: 5 })).await?;

    s.judge().await
}

/// A transaction that goes back to a savepoint after it has written to a table without transactions. The log has the rows that were taken
/// back, and behind them that they were. Debezium and Maxwell pass that over, and deliver them. (MySQL refuses such a transaction where it has an identifier.)
#[scenario(on = "MariaDB")]
async fn savepoint_beside_a_table_without_transactions(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    let journal = table("journal").key("id", Int);
    s.apply(raw("CREATE TABLE journal (id int PRIMARY KEY) ENGINE=MyISAM", [create(&journal)])).await?;
    let journal = journal.handle();
    s.start_capture().await?;

    s.apply(begin().on("b")).await?;
    s.apply(orders.insert(row! { id: 1 }).on("b")).await?;
    // It is there at once, whatever becomes of the transaction.
    s.apply(raw("INSERT INTO journal (id) VALUES (1)", []).on("b")).await?;
    s.happened([journal.insert(row! { id: 1 })])?;
    s.apply(savepoint("before_the_mistake").on("b")).await?;
    s.apply(orders.insert(row! { id: 2 }).on("b")).await?;
    s.apply(rollback_to("before_the_mistake").on("b")).await?;
    s.apply(orders.insert(row! { id: 3 }).on("b")).await?;
    s.apply(commit().on("b")).await?;

    let kinds = [FaultKind::Phantom, FaultKind::WrongState];
    s.judge_known_flaws(&[
        KnownFlaw::of("debezium", "https://github.com/debezium/debezium/pull/195", &kinds),
        KnownFlaw::of("maxwell", "https://github.com/zendesk/maxwell/pull/45", &kinds),
    ])
    .await
}

/// Types that only MariaDB has: UUIDs and addresses, which it prints as texts. Its log has their bytes, and doesn't say what they are:
/// the native capture knows it from the catalogue.
#[scenario(
    on = "MariaDB",
    own_server,
    initial_snapshot,
    only = "binlog, polling",
    why = "it doesn't begin on a server with such a table; one that is made later is a scenario of its own"
)]
async fn uuids_and_addresses(s: &mut Scenario) -> Result<()> {
    let hosts = s.create(hosts()).await?;
    s.apply(hosts.insert(row! { id: HOST, v4: "192.0.2.1", v6: "2001:db8::1", raw: Value::Bytes(vec![1; 16]) }))
        .await?;
    s.start_capture().await?;

    s.apply(hosts.update(HOST, row! { v4: "0.0.0.0", v6: "::ffff:192.0.2.2" })).await?;
    s.catch_up().await?;
    s.apply(hosts.delete(HOST)).await?;

    s.judge().await
}

/// Such types in a table that is made while the capture runs: the native capture knows them from the statement. Debezium doesn't
/// understand one with addresses, Maxwell neither of them, and both end.
#[scenario(on = "MariaDB", own_server)]
async fn uuids_and_addresses_of_a_new_table(s: &mut Scenario) -> Result<()> {
    s.start_capture().await?;

    let hosts = s.create(hosts()).await?;
    s.apply(hosts.insert(row! { id: HOST, v4: "192.0.2.1", v6: "::1", raw: Value::Bytes(vec![1; 16]) })).await?;

    s.judge_known_flaws(&[
        KnownFlaw::stops("debezium", "DDL statement couldn't be parsed"),
        KnownFlaw::stops("maxwell", "Error parsing SQL"),
    ])
    .await
}

/// UUIDs alone, in a table that is made while the capture runs. The native capture and Debezium know them from the statement;
/// Maxwell doesn't understand it, and ends.
#[scenario(on = "MariaDB", own_server)]
async fn uuids_of_a_new_table(s: &mut Scenario) -> Result<()> {
    s.start_capture().await?;

    let hosts = s.create(table("hosts").key("id", Int).column("name", other("uuid"))).await?;
    s.apply(hosts.insert(row! { id: 1, name: HOST })).await?;

    s.judge_known_flaws(&[KnownFlaw::stops("maxwell", "Error parsing SQL")]).await
}

/// A table with addresses in a database that is none of the capture's. Debezium and Maxwell read the statements of all databases on the server, those
/// that they leave out too: whoever may create a table anywhere can end them.
#[scenario(on = "MariaDB", own_server)]
async fn definition_in_another_database(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.apply(raw("CREATE DATABASE elsewhere", [])).await?;
    s.apply(raw("CREATE TABLE elsewhere.hosts (id int PRIMARY KEY, address inet4)", [])).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;

    s.judge_known_flaws(&[
        KnownFlaw::stops("debezium", "DDL statement couldn't be parsed"),
        KnownFlaw::stops("maxwell", "Error parsing SQL"),
    ])
    .await
}

const HOST: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

fn hosts() -> TableBuilder {
    let hosts = table("hosts").key("id", other("uuid")).column("v4", other("inet4")).column("v6", other("inet6"));
    hosts.column("raw", other("binary(16)"))
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

/// What Maxwell's bootstrap reads comes by other code than the log: bits are read from the wrong end (513 is 258), and a number of 32 bits has the six
/// digits that the server prints. Bytes of a fixed number keep their zeros.
#[scenario(initial_snapshot, on = "MariaDB", only = "maxwell", why = "it alone reads rows so")]
async fn values_that_a_bootstrap_reads(s: &mut Scenario) -> Result<()> {
    let samples = table("samples").key("id", Int).column("mask", other("bit(10)")).column("single", Real);
    let samples = s.create(samples.column("fixed", other("binary(4)"))).await?;
    let fixed = Value::Bytes(b"ab\0\0".to_vec());
    s.apply(samples.insert(row! { id: 1, mask: "1000000001", single: 8_388_609.0, fixed: fixed })).await?;
    s.start_capture().await?;

    let kinds = [FaultKind::WrongValue, FaultKind::WrongState];
    s.judge_known_flaw("maxwell", "https://maxwells-daemon.io/dataformat/", &kinds).await
}

/// Maxwell's bootstrap reads by the driver's types, which have no span beyond a day and no day 0: at such a row the thread ends that reads rows.
/// The rest of it goes on, and says nothing more of it.
#[scenario(initial_snapshot, on = "MariaDB", own_server, only = "maxwell", why = "it alone reads rows so")]
async fn span_that_ends_a_bootstrap(s: &mut Scenario) -> Result<()> {
    let stays = s.create(table("stays").key("id", Int).column("length", other("time"))).await?;
    s.apply(stays.insert(row! { id: 1, length: "100:00:00" })).await?;

    s.must_refuse_to_start(&[("maxwell", "the thread that reads them has ended")]).await
}
