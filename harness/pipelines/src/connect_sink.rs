//! PostgreSQL → Debezium → Kafka → Iceberg's sink for Kafka Connect, as a capture.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use changeproof::{
    Change,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    connect::Connector,
    debezium::DebeziumPostgres,
    error::{Error, Result},
    guarantees::Guarantees,
    kafka,
    postgres::Address,
    schema::TableName,
    stack::Service,
};
use changeproof_iceberg::{Warehouse, name_of, warehouse_in_bucket};
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, interval, sleep};

use crate::{
    contents::{Contents, Reading},
    layout::Layout,
    topics::{Topics, fence_after_existing, fences, guarantees},
};

const SERVICE: &str = "Iceberg's sink";

/// How long the sink may take to append what is in the topics.
const APPENDS_WITHIN: Duration = Duration::from_secs(120);

/// How often the tables are looked at, which change once a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// PostgreSQL → Debezium → Kafka → Iceberg's sink for Kafka Connect, which appends: each change is a row.
///
/// Settings: `view` (`current_state` by default: the rows that the changes leave; `none`: the tables as they are); those of the sink
/// with `sink.` before them; and those of Debezium's connector.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectSink;

const VIEW: &str = "view";

/// What the sink's own settings begin with.
const OWN: &str = "sink.";

/// Those that show what becomes of a table; each costs some seconds.
const PLAYS: &[&str] = &[
    "add_a_nullable_column",
    "append_only",
    "composite_key",
    "drop_a_column",
    "initial_snapshot_of_existing_rows",
    "insert_update_delete",
    "rename_a_column",
    "rollback_of_a_transaction",
    "several_tables_in_a_transaction",
    "table_created_while_capturing",
    "transaction_of_10_000_rows",
    "truncate_of_one_table",
    "unchanged_toast_identity_default",
    "update_of_a_primary_key",
    "widen_an_int_to_bigint",
];

#[async_trait]
impl Capture for ConnectSink {
    fn name(&self) -> &'static str {
        "connect_sink"
    }

    fn summary(&self) -> &'static str {
        "what is left of the rows that Iceberg's sink for Kafka Connect appends, one for each of Debezium's changes"
    }

    fn like(&self) -> Option<&'static str> {
        Some("debezium")
    }

    fn services(&self) -> &'static [Service] {
        use Service::{Connect, IcebergRest, Kafka, Minio, Postgres};
        &[Postgres, Kafka, Minio, IcebergRest, Connect]
    }

    fn plays(&self) -> Option<&'static [&'static str]> {
        Some(PLAYS)
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        guarantees(options)
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.prepare(subject).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Appending::start(subject, options).await?))
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        connector(subject)?.remove().await?;
        kafka::remove(subject.stack.endpoint(Service::Kafka)?, &control_topic(subject)).await?;
        DebeziumPostgres.clean_up(subject).await?;
        warehouse_in_bucket(subject.stack, subject.name).await?.remove().await
    }
}

fn connector(subject: Subject<'_>) -> Result<Connector> {
    Connector::new(subject.stack, &format!("{}-sink", subject.name), SERVICE)
}

/// The topic by which the sink's tasks agree on commits. It mustn't begin as those of the source do.
fn control_topic(subject: Subject<'_>) -> String {
    format!("control-{}", subject.name)
}

/// The sink's configuration (Iceberg's manual, "Kafka Connect").
fn configuration(subject: Subject<'_>, options: &Options) -> Result<Map<String, Json>> {
    let stack = subject.stack;
    let (rest, minio) = (stack.endpoint(Service::IcebergRest)?, stack.endpoint(Service::Minio)?);
    let settings = json!({
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": "1",
        "topics.regex": format!(r"{}\.(?!(transaction|notification|{})$).+", subject.name, fences()),
        "consumer.override.metadata.max.age.ms": "500",
        "errors.deadletterqueue.context.headers.enable": "true",
        "errors.deadletterqueue.topic.replication.factor": "1",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "true",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "transforms": "debezium",
        "transforms.debezium.type": "org.apache.iceberg.connect.transforms.DebeziumTransform",
        "transforms.debezium.cdc.target.pattern": format!("{}__{{db}}.{{table}}", subject.name),
        "iceberg.tables.dynamic-enabled": "true",
        "iceberg.tables.route-field": "_cdc.target",
        "iceberg.tables.auto-create-enabled": "true",
        "iceberg.tables.evolve-schema-enabled": "true",
        "iceberg.control.topic": control_topic(subject),
        "iceberg.control.commit.interval-ms": "1000",
    });
    let mut settings = settings.as_object().cloned().unwrap_or_default();
    let catalog = rest.iceberg_client(minio);
    settings.extend(catalog.map(|(name, value)| (format!("iceberg.catalog.{name}"), Json::String(value))));
    let client = stack.endpoint(Service::Kafka)?.kafka_client();
    settings.extend(client.map(|(name, value)| (format!("iceberg.kafka.{name}"), Json::String(value))));
    let own = |(name, value): (&String, &String)| Some((name.strip_prefix(OWN)?.to_owned(), json!(value)));
    settings.extend(options.settings.iter().filter_map(own));
    Ok(settings)
}

/// What the connector of the source is told beside the profile: the sink has no use for tombstones, and fails at a truncate.
fn of_source(options: &Options) -> Options {
    let mut options = options.clone();
    options.settings.retain(|name, _| name != VIEW && !name.starts_with(OWN));
    for (name, value) in [("tombstones.on.delete", "false"), ("skipped.operations", "t")] {
        options.settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    options
}

struct Appending {
    topics: Topics,
    connector: Connector,
    warehouse: Warehouse,
    contents: Contents,
}

impl Appending {
    async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let warehouse = warehouse_in_bucket(subject.stack, subject.name).await?;
        let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
        kafka::create_ordered(subject.stack.endpoint(Service::Kafka)?, &[&control_topic(subject)]).await?;
        let topics = Topics::start(subject, &of_source(options)).await?;
        let connector = connector(subject)?;
        connector.create(&configuration(subject, options)?).await?;
        let reading = match options.settings.get(VIEW).map(String::as_str) {
            Some("none") => Reading::Appended,
            _ => Reading::Of(Layout::Changelog),
        };
        let contents = Contents::made_of(address, warehouse.clone(), reading);
        let mut appending = Self { topics, connector, warehouse, contents };
        if let Some(own) = fence_after_existing(subject).await? {
            appending.append_until(|fence| fence == own).await?;
        }
        appending.contents.begin(options.snapshot == SnapshotMode::Initial).await?;
        Ok(appending)
    }

    /// Waits until a fence is in the topics, and then until the tables have as many rows as the topics have records. Returns its number.
    async fn append_until(&mut self, is_it: impl Fn(i128) -> bool) -> Result<i128> {
        let mut checks = interval(Duration::from_secs(1));
        let fence = loop {
            tokio::select! {
                held = self.topics.hold(&is_it) => break held?,
                _ = checks.tick() => {
                    self.connector.check().await?;
                }
            }
        };
        let deadline = Instant::now() + APPENDS_WITHIN;
        loop {
            let rows = self.rows().await?;
            let is_there = |(table, records): (&TableName, &u64)| rows.get(table).is_some_and(|rows| rows >= records);
            if self.topics.records.iter().all(is_there) {
                return Ok(fence);
            }
            self.connector.check().await?;
            if Instant::now() > deadline {
                let doing = format!("wait until the tables have {:?} rows", self.topics.records);
                return Err(Error::new(SERVICE, doing, format!("they have {rows:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// How many rows each table has, by its present snapshot's summary.
    async fn rows(&mut self) -> Result<BTreeMap<TableName, u64>> {
        let mut rows = BTreeMap::new();
        for ident in self.warehouse.tables().await? {
            let table = self.warehouse.table(&ident).await?;
            let current = table.metadata().current_snapshot();
            let total = current.and_then(|it| it.summary().additional_properties.get("total-records")?.parse().ok());
            rows.insert(name_of(&ident), total.unwrap_or_default());
        }
        Ok(rows)
    }
}

#[async_trait]
impl Subscription for Appending {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.contents.pop() {
                return Ok(change);
            }
            let last = self.contents.fence();
            let fence = self.append_until(|fence| fence > last).await?;
            self.contents.tell(fence).await?;
        }
    }

    fn waiting_for(&self) -> String {
        self.topics.waiting_for()
    }

    async fn stop(&mut self) -> Result<()> {
        self.topics.stop().await?;
        self.connector.stop().await
    }

    async fn resume(&mut self) -> Result<()> {
        self.connector.resume().await?;
        self.topics.resume().await
    }
}
