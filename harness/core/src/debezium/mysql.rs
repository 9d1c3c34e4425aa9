//! Debezium's connectors for MySQL and MariaDB.

use std::borrow::Cow;

use async_trait::async_trait;
use mysql_async::Conn;
use serde_json::json;

use super::{
    record::Decoder,
    signals::{self, Signals},
    subscription::{self, Attached, Server, sends_tombstones},
};
use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    connect::Connector,
    error::Result,
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    mysql::{self, Flavour},
    source::Storage,
    stack::{Endpoint, Service, jaas_login},
};

/// Debezium's connector for MySQL or MariaDB, which reads the binary log by global transaction identifiers.
#[derive(Clone, Copy, Debug)]
pub struct DebeziumMySql(pub Flavour);

#[async_trait]
impl Capture for DebeziumMySql {
    fn name(&self) -> &'static str {
        "debezium"
    }

    fn summary(&self) -> &'static str {
        "log-based: the binary log → Debezium on Kafka Connect → Kafka"
    }

    fn storage(&self) -> &'static dyn Storage {
        self.0.server()
    }

    fn services(&self) -> &'static [Service] {
        match self.0 {
            Flavour::MySql => &[Service::Mysql, Service::Kafka, Service::Connect],
            Flavour::MariaDb => &[Service::Mariadb, Service::Kafka, Service::Connect],
        }
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: false,
            snapshot_amid_changes: signals::are_asked_for(options),
            granularity: Granularity::EachChange,
            before_images: BeforeImages::Full,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: false,
            key_change: KeyChange::DeleteAndInsert,
            keyless_update: KeyChange::Update,
            unchanged_updates: false,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: match tells_definitions(options) {
                true => SchemaChanges::AtOnce,
                false => SchemaChanges::NextRow,
            },
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::AtLeastOnce,
            tombstones: sends_tombstones(options),
            values: match self.0 {
                Flavour::MySql => VALUES,
                // What MariaDB calls JSON is a text with a check.
                Flavour::MariaDb => values_that_are_read(),
            },
            read_values: Some(values_that_are_read()),
        }
    }

    /// The server writes its log anyway.
    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let source = subject.stack.endpoint(self.0.server().service)?;
        let kafka = subject.stack.endpoint(Service::Kafka)?;
        let lease = subject.database;
        let (server_id, ..) = uuid::Uuid::new_v4().as_fields();
        let jaas = format!("{};", jaas_login(&kafka.password));
        let lease_settings = json!({
            "connector.class": match self.0 {
                Flavour::MySql => "io.debezium.connector.mysql.MySqlConnector",
                Flavour::MariaDb => "io.debezium.connector.mariadb.MariaDbConnector",
            },
            "plugin.name": null,
            "database.hostname": source.container,
            "database.port": "3306",
            "database.user": lease,
            "database.password": source.password,
            "database.server.id": (server_id >> 1).to_string(),
            "database.include.list": format!("{lease},{lease}_.*"),
            "include.schema.changes": "false",
            // A connection that broke is made again only when somebody looks after it, by default once a minute.
            "connect.keep.alive.interval.ms": "10000",
            "schema.history.internal.store.only.captured.databases.ddl": "true",
            "schema.history.internal.kafka.topic": history(subject.name),
            "schema.history.internal.kafka.bootstrap.servers": format!("{}:19092", kafka.container),
            "schema.history.internal.producer.security.protocol": "SASL_PLAINTEXT",
            "schema.history.internal.producer.sasl.mechanism": "PLAIN",
            "schema.history.internal.producer.sasl.jaas.config": jaas,
            "schema.history.internal.consumer.security.protocol": "SASL_PLAINTEXT",
            "schema.history.internal.consumer.sasl.mechanism": "PLAIN",
            "schema.history.internal.consumer.sasl.jaas.config": jaas,
        });
        let conn = mysql::connect(source, lease).await?;
        let server = Replica { source: source.clone(), conn, lease: lease.to_owned() };
        let definitions = tells_definitions(options).then(|| subject.name.to_owned());
        let decoder = Decoder::of_mysql(lease, history(subject.name), definitions);
        let signals = match signals::are_asked_for(options) {
            true => Some(Signals::of_mysql(source, lease).await?),
            false => None,
        };
        subscription::start(subject, &lease_settings, server, decoder, signals, options).await
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        subscription::clean_up(subject).await
    }
}

const VALUES: Values = Values { rules: Cow::Borrowed(RULES), ..Values::AS_STORED };

/// Documents that the connector reads are as the server prints them.
fn values_that_are_read() -> Values {
    VALUES.without(|rule| rule.form == Form::DenseJson)
}

/// Whether changed definitions are written to a topic, which bears the connector's prefix alone as its name.
fn tells_definitions(options: &Options) -> bool {
    options.settings.get("include.schema.changes").is_some_and(|setting| setting == "true")
}

/// The topic in which the connector keeps what tables looked like when. It goes with the connector's others.
fn history(name: &str) -> String {
    format!("{name}.history")
}

/// Debezium's manual on the connector, "Data type mappings".
const RULES: &[Rule] = &[
    Rule { ty: Cow::Borrowed("boolean"), form: Form::Number },
    Rule { ty: Cow::Borrowed("bit"), form: Form::AllBits },
    Rule { ty: Cow::Borrowed("datetime"), form: Form::ShortFraction },
    Rule { ty: Cow::Borrowed("time"), form: Form::ShortFraction },
    Rule { ty: Cow::Borrowed("timestamp"), form: Form::Moment },
    Rule { ty: Cow::Borrowed("jsonb"), form: Form::DenseJson },
];

/// The connector, as the server sees its replicas.
struct Replica {
    source: Endpoint,
    conn: Conn,
    lease: String,
}

#[async_trait]
impl Server for Replica {
    /// A connection that breaks amid an event, or just before one, fails the connector: its error handler counts the end of the stream as
    /// passing, but here it is wrapped in another exception. A server that is away fails it too, when it begins anew.
    fn passing_failures(&self) -> &'static [&'static str] {
        &["java.io.EOFException: Failed to read ", "Communications link failure"]
    }

    /// The connector has noted the log's end before it asks for the log, so what is committed once it has asked is delivered.
    /// Where it stands it keeps itself; the server may take a while to see that it has gone.
    async fn look(&mut self) -> Result<Attached> {
        let connections = if let Ok(connections) = mysql::connections(&mut self.conn).await {
            connections
        } else {
            // The server may have been started again since.
            self.conn = mysql::connect(&self.source, &self.lease).await?;
            mysql::connections(&mut self.conn).await?
        };
        let commands = connections.into_iter().filter(|connection| connection.user == self.lease);
        let state = commands.map(|connection| connection.command).find(|command| command.starts_with("Binlog Dump"));
        let is_streaming = state.is_some();
        Ok(Attached { state, is_streaming, is_promised: is_streaming, is_gone: true, is_lost: false })
    }

    /// The connector itself says so.
    async fn tell_of_loss(&self, _connector: &Connector) -> Result<()> {
        Ok(())
    }
}
