//! A connector on Kafka Connect, its topics, and the stream that comes out: what is the same for every source.

use std::time::Duration;

use async_trait::async_trait;
use rdkafka::{Message, message::OwnedMessage};
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::{
    assemble::Assembler,
    record::{Decoder, Event, control},
    signals::Signals,
};
use crate::{
    capture::{Options, Profile, SnapshotMode, Subject, Subscription},
    change::Change,
    connect::Connector,
    error::{Context, Error, Result},
    kafka::{self, Ends, Reader},
    stack::Service,
};

const SERVICE: &str = "Debezium";

/// The reference setup's settings.
const REFERENCE: &str = include_str!("../../../../fixtures/debezium/reference.json");

/// What the low-latency profile sets differently.
const LOW_LATENCY: &str = include_str!("../../../../fixtures/debezium/low_latency.json");

/// How long a connector may take until it streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to read all rows that a signal asks for.
const READS_WITHIN: Duration = Duration::from_secs(120);

/// How often a connector that says nothing is asked whether it has failed.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// What a server knows of a connector that reads its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attached {
    /// What the connector does there, in the server's words, if it knows of it.
    pub(super) state: Option<String>,
    /// Whether the connector is sent the log.
    pub(super) is_streaming: bool,
    /// Whether nothing more is needed for what is committed from now on to be delivered.
    pub(super) is_promised: bool,
    /// Whether it has left what the next start of it needs.
    pub(super) is_gone: bool,
    /// Whether the connector can't go on, although it says nothing of it.
    pub(super) is_lost: bool,
}

/// The side of the source: what differs from one connector to another.
#[async_trait]
pub(super) trait Server: Send {
    /// Looks how the connector stands.
    async fn look(&mut self) -> Result<Attached>;

    /// What the traces of failures hold after which the connector goes on if it is started again.
    fn passing_failures(&self) -> &'static [&'static str] {
        &[]
    }

    /// The error of a connector that has lost its place, if it has told of it anywhere.
    async fn tell_of_loss(&self, connector: &Connector) -> Result<()>;
}

/// The topics beside those of the tables.
pub(super) struct ControlTopics {
    pub(super) transactions: String,
    pub(super) notifications: String,
}

impl ControlTopics {
    fn new(prefix: &str) -> Self {
        Self { transactions: format!("{prefix}.transaction"), notifications: format!("{prefix}.notification") }
    }
}

pub(super) fn sends_tombstones(options: &Options) -> bool {
    is_on(options, "tombstones.on.delete")
}

/// Whether the connector writes which changes were a transaction.
pub(super) fn tells_transactions(options: &Options) -> bool {
    is_on(options, "provide.transaction.metadata")
}

/// Whether something is on that both profiles have on.
fn is_on(options: &Options, name: &str) -> bool {
    options.settings.get(name).is_none_or(|setting| setting != "false")
}

/// A connector's configuration: the profile, what the lease needs, and the settings asked for over both.
fn configuration(
    subject: Subject<'_>,
    lease: &Json,
    control: &ControlTopics,
    signals: Option<&Signals>,
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
        SnapshotMode::Initial if signals.is_none() => "initial",
        SnapshotMode::NoData | SnapshotMode::Initial => "no_data",
    };
    let every = json!({
        "tasks.max": "1",
        "topic.prefix": subject.name,
        "snapshot.mode": snapshot,
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": control.notifications,
        "signal.data.collection": signals.map(Signals::table),
    });
    for settings in [&every, lease] {
        configuration.extend(settings.as_object().cloned().unwrap_or_default());
    }
    // What one connector has and another doesn't know is taken out again by a null.
    configuration.retain(|_, value| !value.is_null());
    let settings = options.settings.iter().map(|(name, value)| (name.clone(), json!(value)));
    configuration.extend(settings);
    Ok(configuration)
}

/// Registers a connector with the settings that its lease needs, and waits until it streams; with signals until it has read all rows
/// that exist, too.
pub(super) async fn start(
    subject: Subject<'_>,
    lease: &Json,
    server: impl Server + 'static,
    decoder: Decoder,
    signals: Option<Signals>,
    options: &Options,
) -> Result<Box<dyn Subscription>> {
    let name = subject.name;
    let broker = subject.stack.endpoint(Service::Kafka)?;
    let connector = Connector::new(subject.stack, name, SERVICE)?.restarting_after(server.passing_failures());
    let control = ControlTopics::new(name);
    let mut ordered = vec![control.transactions.as_str(), control.notifications.as_str()];
    let definitions = decoder.definitions_topic().map(str::to_owned);
    ordered.extend(definitions.as_deref());
    kafka::create_ordered(broker, &ordered).await?;
    connector.create(&configuration(subject, lease, &control, signals.as_ref(), options)?).await?;
    let has_uncounted = decoder.has_uncounted();
    // Nothing is read before the stream if it is asked for by a signal later.
    let is_initial = options.snapshot == SnapshotMode::Initial && signals.is_none();
    let mut check = interval(CHECK_EVERY);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut subscription = DebeziumSubscription {
        connector,
        server: Box::new(server),
        reader: Reader::open(broker, name, &ordered).await?,
        control,
        decoder,
        assembler: Assembler::new(is_initial, sends_tombstones(options))
            .with_uncounted(has_uncounted)
            .with_incremental(signals.is_some()),
        referring: None,
        tells_transactions: tells_transactions(options),
        settling: None,
        has_new_topics: false,
        check,
    };
    // With an initial snapshot it is enough that what is committed later is in its stream.
    subscription
        .wait_for_server("the connector streams", |seen| seen.is_streaming || is_initial && seen.is_promised)
        .await?;
    if let Some(mut signals) = signals {
        signals.ask_for_all_rows().await?;
        let Ok(read) = timeout(READS_WITHIN, subscription.until_all_is_read()).await else {
            let doing = format!("read all rows within {} s", READS_WITHIN.as_secs());
            return Err(Error::new("Debezium", doing, subscription.waiting_for()));
        };
        read?;
    }
    Ok(Box::new(subscription))
}

/// Removes a connector and its topics.
pub(super) async fn clean_up(subject: Subject<'_>) -> Result<()> {
    Connector::new(subject.stack, subject.name, SERVICE)?.remove().await?;
    kafka::remove(subject.stack.endpoint(Service::Kafka)?, subject.name).await
}

struct DebeziumSubscription {
    connector: Connector,
    server: Box<dyn Server>,
    reader: Reader,
    control: ControlTopics,
    decoder: Decoder,
    assembler: Assembler,
    /// A record that only refers to its schemas, until they are there.
    referring: Option<OwnedMessage>,
    /// Whether transactions are told, and by them which tables have changes.
    tells_transactions: bool,
    /// How many transactions wait until everything has been read up to these ends of the partitions.
    settling: Option<(usize, Ends)>,
    has_new_topics: bool,
    check: Interval,
}

impl DebeziumSubscription {
    /// Waits until all rows have come that a signal asked for: everything that had been sent when it said that it had read them.
    async fn until_all_is_read(&mut self) -> Result<()> {
        while !self.assembler.has_scanned_all() {
            self.advance().await?;
        }
        let ends = self.reader.ends().await?;
        while !self.reader.has_read(&ends)? {
            self.advance().await?;
        }
        Ok(())
    }

    /// Waits for the next record, unless changes can be delivered without one.
    async fn advance(&mut self) -> Result<()> {
        if self.has_new_topics {
            self.reader.refresh().await?;
            self.has_new_topics = false;
        }
        if self.take_referring().await? || self.settle().await? {
            return Ok(());
        }
        tokio::select! {
            record = self.reader.next() => {
                let record = record?;
                if self.decoder.wire.is_some() {
                    self.referring = Some(record.detach());
                } else {
                    self.has_new_topics |= take(&record, &self.control, &mut self.decoder, &mut self.assembler)?;
                }
            }
            _ = self.check.tick() => {
                self.connector.check().await?;
                // A topic may have come into view of this client only after it was looked for, or nothing tells of new ones.
                self.has_new_topics |= self.assembler.is_waiting() || !self.tells_transactions;
            }
        }
        Ok(())
    }

    /// Takes the record whose schemas stand in the registry. Returns whether there was one.
    async fn take_referring(&mut self) -> Result<bool> {
        let (Some(record), Some(wire)) = (&self.referring, &mut self.decoder.wire) else { return Ok(false) };
        let whole = wire.with_schemas(record).await?;
        self.referring = None;
        self.has_new_topics |= take(&whole, &self.control, &mut self.decoder, &mut self.assembler)?;
        Ok(true)
    }

    /// Lets transactions go that wait for everything to be read that there was when they came. Returns whether any did.
    async fn settle(&mut self) -> Result<bool> {
        if self.settling.is_none()
            && let waiting @ 1.. = self.assembler.unsettled()
        {
            self.settling = Some((waiting, self.reader.ends().await?));
        }
        if let Some((waiting, ends)) = &self.settling
            && self.reader.has_read(ends)?
        {
            self.assembler.settle_all(*waiting);
            self.settling = None;
            return Ok(true);
        }
        Ok(false)
    }

    async fn wait_for_server(&mut self, what: &str, is_it: impl Fn(&Attached) -> bool) -> Result<()> {
        let deadline = Instant::now() + STREAMS_WITHIN;
        let mut last_check = Instant::now();
        loop {
            let seen = self.server.look().await?;
            if is_it(&seen) {
                return Ok(());
            }
            if last_check.elapsed() > CHECK_EVERY {
                self.connector.check().await?;
                if seen.is_lost {
                    self.server.tell_of_loss(&self.connector).await?;
                }
                last_check = Instant::now();
            }
            if Instant::now() > deadline {
                let status = self.connector.check().await?;
                let seen = format!("for the server it is {:?}, for Kafka Connect {status:?}", seen.state);
                return Err(Error::new("Debezium", format!("wait until {what}"), seen));
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
}

/// Hands a record to the assembler. Returns whether it tells of topics that may not be read yet.
fn take(
    record: &impl Message,
    topics: &ControlTopics,
    decoder: &mut Decoder,
    assembler: &mut Assembler,
) -> Result<bool> {
    let (topic, value) = (record.topic(), record.payload());
    match value {
        Some(value) if topic == topics.transactions => Ok(assembler.boundary(control(value)?)),
        Some(value) if topic == topics.notifications => Ok(assembler.notification(&control(value)?)),
        _ if decoder.is_history(topic) => Ok(false),
        Some(value) if decoder.definitions_topic() == Some(topic) => {
            for change in decoder.definitions(value)? {
                assembler.event((topic, record.partition()), Event::Change(Box::new(change), None));
            }
            Ok(false)
        }
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
            self.advance().await?;
        }
    }

    fn waiting_for(&self) -> String {
        let (missing, partitions) = (self.assembler.waiting_for(), self.reader.partitions());
        format!("it waits for {missing}, reading {partitions} partitions")
    }

    async fn stop(&mut self) -> Result<()> {
        self.connector.stop().await?;
        self.wait_for_server("the connector has gone", |seen| seen.is_gone).await
    }

    async fn resume(&mut self) -> Result<()> {
        self.connector.resume().await?;
        self.wait_for_server("the connector streams", |seen| seen.is_streaming).await
    }
}
