//! The capture itself: connector, slot, topics and the stream that comes out.

use std::time::Duration;

use async_trait::async_trait;
use rdkafka::{Message, message::BorrowedMessage};
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_postgres::Client;

use super::{
    assemble::Assembler,
    connect::Connector,
    record::{Decoder, control},
    topics::{self, Reader},
};
use crate::{
    capture::{Capture, Options, Profile, SnapshotMode, Subject, Subscription},
    change::Change,
    error::{Context, Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    postgres::{self, PUBLICATION},
    stack::{Endpoint, Service, USER},
};

/// The reference setup's settings.
const REFERENCE: &str = include_str!("../../../../fixtures/debezium/reference.json");

/// What the low-latency profile sets differently.
const LOW_LATENCY: &str = include_str!("../../../../fixtures/debezium/low_latency.json");

/// How long a connector may take until it streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(60);

/// How often a connector that says nothing is asked whether it has failed.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Debezium's connector for PostgreSQL with the plug-in pgoutput.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebeziumPostgres;

#[async_trait]
impl Capture for DebeziumPostgres {
    fn name(&self) -> &'static str {
        "debezium"
    }

    fn summary(&self) -> &'static str {
        "log-based: pgoutput → Debezium on Kafka Connect → Kafka"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres, Service::Kafka, Service::Connect]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            granularity: Granularity::EachChange,
            before_images: BeforeImages::ReplicaIdentity,
            row_image: RowImage::Full,
            fills_before_images: true,
            keys_by_identity: true,
            key_change: KeyChange::DeleteAndInsert,
            keyless_update: KeyChange::Update,
            unchanged_updates: true,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: SchemaChanges::NextRow,
            unchanged_toast: UnchangedToast::Omitted,
            after_a_break: AfterABreak::AtLeastOnce,
            tombstones: sends_tombstones(options),
            values: values(),
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        postgres::publish_all_tables(subject.stack.endpoint(Service::Postgres)?, subject.database).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let name = subject.name;
        let source = subject.stack.endpoint(Service::Postgres)?;
        let kafka = subject.stack.endpoint(Service::Kafka)?;
        let connector = Connector::new(subject.stack, name)?;
        let control = ControlTopics::new(name);
        topics::create_ordered(kafka, &[&control.transactions, &control.notifications]).await?;
        let configuration = configuration(subject, source, &control, options)?;
        let (created, server) = tokio::join!(connector.create(&configuration), postgres::connect(source, USER));
        created?;
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut subscription = DebeziumSubscription {
            connector,
            server: server?,
            slot: name.to_owned(),
            reader: Reader::open(kafka, name, &[&control.transactions, &control.notifications]).await?,
            control,
            decoder: Decoder::default(),
            assembler: Assembler::new(options.snapshot == SnapshotMode::Initial, sends_tombstones(options)),
            has_new_topics: false,
            check,
        };
        subscription.wait_until_streaming(options.snapshot).await?;
        Ok(Box::new(subscription))
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        let name = subject.name;
        Connector::new(subject.stack, name)?.remove().await?;
        topics::remove(subject.stack.endpoint(Service::Kafka)?, name).await
    }
}

/// Seen with `include.unknown.datatypes=false` and the other settings' defaults (Debezium's manual on the connector, "Data
/// type mappings"), but for what it doesn't say: `name` comes as NULL, and arrays in arrays do.
fn values() -> Values {
    const RULES: &[(&str, Form)] = &[
        ("interval", Form::Micros),
        ("time with time zone", Form::Utc),
        ("money", Form::Amount),
        ("bit", Form::Bits),
        ("bit varying", Form::Bits),
        ("hstore", Form::JsonObject),
        ("point", Form::Point),
        ("numeric", Form::ShortNumeric),
        ("numeric with scale", Form::NullUnlessFinite),
        ("name", Form::Null),
        ("composite", Form::Absent),
        ("tsquery", Form::Absent),
        ("box", Form::Absent),
        ("int4multirange", Form::Absent),
    ];
    let rules = RULES.iter().map(|(ty, form)| Rule { ty: (*ty).into(), form: *form });
    Values { rules: rules.collect(), generated_columns: false, nested_arrays: false }
}

fn sends_tombstones(options: &Options) -> bool {
    options.settings.get("tombstones.on.delete").is_none_or(|setting| setting != "false")
}

/// The connector's configuration: the profile, what the lease needs, and the settings asked for over both.
fn configuration(
    subject: Subject<'_>,
    source: &Endpoint,
    control: &ControlTopics,
    options: &Options,
) -> Result<Map<String, Json>> {
    let profile = |text: &str| {
        serde_json::from_str::<Map<String, Json>>(text).while_doing("Debezium", "read the profile in fixtures/debezium")
    };
    let mut configuration = profile(REFERENCE)?;
    if options.profile == Profile::LowLatency {
        configuration.extend(profile(LOW_LATENCY)?);
    }
    let snapshot = match options.snapshot {
        SnapshotMode::NoData => "no_data",
        SnapshotMode::Initial => "initial",
    };
    let lease = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": source.container,
        "database.port": "5432",
        "database.user": USER,
        "database.password": source.password,
        "database.dbname": subject.database,
        "topic.prefix": subject.name,
        "slot.name": subject.name,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": snapshot,
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": control.notifications,
    });
    configuration.extend(lease.as_object().cloned().unwrap_or_default());
    let settings = options.settings.iter().map(|(name, value)| (name.clone(), json!(value)));
    configuration.extend(settings);
    Ok(configuration)
}

/// The topics beside those of the tables.
struct ControlTopics {
    transactions: String,
    notifications: String,
}

impl ControlTopics {
    fn new(prefix: &str) -> Self {
        Self { transactions: format!("{prefix}.transaction"), notifications: format!("{prefix}.notification") }
    }
}

struct DebeziumSubscription {
    connector: Connector,
    server: Client,
    slot: String,
    reader: Reader,
    control: ControlTopics,
    decoder: Decoder,
    assembler: Assembler,
    has_new_topics: bool,
    check: Interval,
}

const SLOT_STATE: &str = "\
    SELECT COALESCE(r.state, 'inactive')::text, s.wal_status = 'lost' FROM pg_replication_slots s \
    LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1";

impl DebeziumSubscription {
    /// With an initial snapshot it is enough that the slot is there: what is committed later is in its stream.
    async fn wait_until_streaming(&mut self, snapshot: SnapshotMode) -> Result<()> {
        self.wait_for_slot("the connector streams", |state| match snapshot {
            SnapshotMode::NoData => state == Some("streaming"),
            SnapshotMode::Initial => matches!(state, Some("streaming" | "inactive")),
        })
        .await
    }

    /// A connector whose slot has lost its log doesn't fail: it takes it for one that is being made, and asks again for half
    /// an hour (`PostgresConnection.fetchReplicationSlotInfo`: 900 times, every 2 s). Only its log tells.
    async fn tell_of_a_lost_slot(&self) -> Result<()> {
        if !self.connector.has_logged(&format!("Cannot obtain valid replication slot '{}'", self.slot)).await? {
            return Ok(());
        }
        let doing = format!("go on with the slot {}", self.slot);
        let cause = "the server has removed log that it still needs (max_slot_wal_keep_size); the connector says that it is \
                     running, and asks for the slot again every 2 s for half an hour";
        Err(Error::new("Debezium", doing, cause)
            .help("what was committed since is lost to this connector: start a new one with an initial snapshot"))
    }

    async fn wait_for_slot(&self, what: &str, is_it: impl Fn(Option<&str>) -> bool) -> Result<()> {
        let looking = || "look at the replication slot";
        let deadline = Instant::now() + STREAMS_WITHIN;
        let mut last_check = Instant::now();
        let look = self.server.prepare(SLOT_STATE).await.while_doing("PostgreSQL", looking())?;
        loop {
            let slot = self.server.query_opt(&look, &[&self.slot]).await;
            let slot = slot.while_doing("PostgreSQL", looking())?;
            let is_lost = slot.as_ref().and_then(|slot| slot.get::<_, Option<bool>>(1)).unwrap_or_default();
            let state: Option<String> = slot.map(|slot| slot.get(0));
            if is_it(state.as_deref()) {
                return Ok(());
            }
            if last_check.elapsed() > CHECK_EVERY {
                self.connector.check().await?;
                if is_lost {
                    self.tell_of_a_lost_slot().await?;
                }
                last_check = Instant::now();
            }
            if Instant::now() > deadline {
                let status = self.connector.check().await?;
                let seen = format!("the slot is {state:?}, the connector {status:?}");
                return Err(Error::new("Debezium", format!("wait until {what}"), seen));
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
}

/// Hands a record to the assembler. Returns whether it tells of topics that may not be read yet.
fn take(
    record: &BorrowedMessage<'_>,
    topics: &ControlTopics,
    decoder: &mut Decoder,
    assembler: &mut Assembler,
) -> Result<bool> {
    let (topic, value) = (record.topic(), record.payload());
    match value {
        Some(value) if topic == topics.transactions => Ok(assembler.boundary(control(value)?)),
        Some(value) if topic == topics.notifications => Ok(assembler.notification(&control(value)?)),
        value => {
            let event = decoder.event(record.key(), value)?;
            assembler.event((topic, record.partition()), event);
            Ok(false)
        }
    }
}

#[async_trait]
impl Subscription for DebeziumSubscription {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.assembler.pop() {
                return Ok(change);
            }
            if self.has_new_topics {
                self.reader.refresh().await?;
                self.has_new_topics = false;
            }
            tokio::select! {
                record = self.reader.next() => {
                    self.has_new_topics |=
                        take(&record?, &self.control, &mut self.decoder, &mut self.assembler)?;
                }
                _ = self.check.tick() => {
                    self.connector.check().await?;
                    // A topic may have come into view of this client only after it was looked for.
                    self.has_new_topics |= self.assembler.is_waiting();
                }
            }
        }
    }

    fn waiting_for(&self) -> String {
        let (missing, partitions) = (self.assembler.waiting_for(), self.reader.partitions());
        format!("it waits for {missing}, reading {partitions} partitions")
    }

    async fn stop(&mut self) -> Result<()> {
        self.connector.stop().await?;
        self.wait_for_slot("the slot is free", |state| state == Some("inactive")).await
    }

    async fn resume(&mut self) -> Result<()> {
        self.connector.resume().await?;
        self.wait_for_slot("the connector streams", |state| state == Some("streaming")).await
    }
}
