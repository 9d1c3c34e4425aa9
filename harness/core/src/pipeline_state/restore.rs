//! Records, written so that each has the offset that it had.
//!
//! Kafka counts offsets up by itself, so what stood between records has to be made again:
//! - what was gone before the first record (retention) is written as fillers, and removed again (DeleteRecords);
//! - one offset is the mark that ends a transaction, which is had by writing the record before it as a transaction;
//! - several (of compaction, or of transactions that came to nothing) are fillers in a transaction that is aborted, and its mark. Those who
//!   read what isn't committed would see the fillers, as they would have seen what others aborted.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::{NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    topic_partition_list::TopicPartitionListElem,
};

use super::{
    SERVICE,
    file::{Partition, Record, Topic},
};
use crate::{
    error::{Context, Error, Result},
    kafka::{Brokers, TIMEOUT, admin_by, options},
};

/// The key of fillers: a compacted topic takes none without.
const FILLER: &[u8] = b"changeproof-filler";

/// Makes topics with the broker's own number of replicas.
pub(super) async fn make(brokers: &Brokers, topics: &[Topic]) -> Result<()> {
    let doing = "make the topics";
    let new = |topic: &'_ Topic| -> Vec<(String, String)> { topic.config.clone().into_iter().collect() };
    let configs: Vec<_> = topics.iter().map(new).collect();
    let new: Vec<_> = topics
        .iter()
        .zip(&configs)
        .map(|(topic, config)| {
            let made = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            config.iter().fold(made, |made, (name, value)| made.set(name, value))
        })
        .collect();
    for made in admin_by(&brokers.config())?.create_topics(&new, &options()).await.while_doing("Kafka", doing)? {
        made.map_err(|(topic, code)| Error::new("Kafka", format!("make the topic {topic}"), code))?;
    }
    Ok(())
}

/// Hears of each record where it was written.
#[derive(Default)]
struct Deliveries(Mutex<Option<String>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// The offset that the record is to have.
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, wanted: Box<i64>) {
        let wrong = match result {
            Ok(written) if written.offset() == *wanted => return,
            Ok(written) => format!("it got the offset {} in the place of {wanted}", written.offset()),
            Err((error, _)) => error.to_string(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(wrong);
    }
}

type Sender = BaseProducer<Deliveries>;

/// Writes partitions, one after the other.
pub(super) struct Restorer {
    plain: Sender,
    config: ClientConfig,
    /// Writes transactions; made when there is one.
    marking: Option<Sender>,
    at: Option<Partition>,
    next: i64,
    /// The record that was told last. What follows it says how it is written.
    held: Option<Record>,
    /// By topic and partition the first offset that is to stay.
    begins: BTreeMap<(String, i32), i64>,
}

impl Restorer {
    pub(super) fn new(brokers: &Brokers) -> Result<Self> {
        let mut config = brokers.config();
        config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "5");
        Ok(Self {
            plain: sender(&config)?,
            config,
            marking: None,
            at: None,
            next: 0,
            held: None,
            begins: BTreeMap::new(),
        })
    }

    /// Begins a partition, which must be empty.
    pub(super) fn begin(&mut self, partition: Partition) -> Result<()> {
        self.end()?;
        (self.next, self.at) = (0, Some(partition));
        Ok(())
    }

    pub(super) fn record(&mut self, record: Record) -> Result<()> {
        self.fill_up_to(record.offset)?;
        self.held = Some(record);
        Ok(())
    }

    /// Ends the partition that was begun last.
    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(end) = self.at.as_ref().map(|at| at.end) {
            self.fill_up_to(end)?;
            settle(&self.plain, &self.place())?;
        }
        self.at = None;
        Ok(())
    }

    /// The offsets at which partitions are to begin, if not at 0.
    pub(super) fn into_begins(mut self) -> Result<BTreeMap<(String, i32), i64>> {
        self.end()?;
        Ok(self.begins)
    }

    /// Writes the record that was held back, and what makes the next one get this offset.
    fn fill_up_to(&mut self, offset: i64) -> Result<()> {
        let Some(record) = self.held.take() else {
            if offset > 0 {
                self.begins.insert(self.topic_and_partition(), offset);
            }
            return (self.next..offset).try_for_each(|_| self.send(None));
        };
        match offset - record.offset - 1 {
            0 => self.send(Some(&record)),
            1 => self.transaction(&[Some(&record)], true),
            gap => {
                self.send(Some(&record))?;
                let fillers = vec![None; usize::try_from(gap - 1).unwrap_or_default()];
                self.transaction(&fillers, false)
            }
        }
    }

    fn send(&mut self, record: Option<&Record>) -> Result<()> {
        send(&self.plain, &self.place(), &self.topic_and_partition(), self.next, record)?;
        self.next += 1;
        Ok(())
    }

    /// Writes records as a transaction; its mark is one more.
    fn transaction(&mut self, records: &[Option<&Record>], commits: bool) -> Result<()> {
        let (place, to) = (self.place(), self.topic_and_partition());
        settle(&self.plain, &place)?;
        if self.marking.is_none() {
            self.config.set("transactional.id", format!("changeproof-state-{}", uuid::Uuid::new_v4()));
            let made = sender(&self.config)?;
            made.init_transactions(TIMEOUT).while_doing("Kafka", "begin to write transactions")?;
            self.marking = Some(made);
        }
        let Some(marking) = &self.marking else { return Ok(()) };
        marking.begin_transaction().while_doing("Kafka", &place)?;
        for record in records {
            send(marking, &place, &to, self.next, *record)?;
            self.next += 1;
        }
        settle(marking, &place)?;
        let ended = if commits { marking.commit_transaction(TIMEOUT) } else { marking.abort_transaction(TIMEOUT) };
        self.next += 1;
        ended.while_doing("Kafka", &place)?;
        wait_for_mark(marking, &place, &to, self.next)
    }

    fn topic_and_partition(&self) -> (String, i32) {
        self.at.as_ref().map(|at| (at.topic.clone(), at.number)).unwrap_or_default()
    }

    fn place(&self) -> String {
        let (topic, partition) = self.topic_and_partition();
        format!("write the partition {partition} of {topic}")
    }
}

fn sender(config: &ClientConfig) -> Result<Sender> {
    config.create_with_context(Deliveries::default()).while_doing("Kafka", "make a producer")
}

fn send(
    sender: &Sender,
    doing: &str,
    (topic, partition): &(String, i32),
    offset: i64,
    record: Option<&Record>,
) -> Result<()> {
    let mut sent: BaseRecord<'_, [u8], [u8], Box<i64>> = BaseRecord::with_opaque_to(topic, Box::new(offset));
    sent.partition = Some(*partition);
    match record {
        Some(record) => {
            sent.key = record.key.as_ref().map(|key| key.0.as_slice());
            sent.payload = record.value.as_ref().map(|value| value.0.as_slice());
            sent.timestamp = record.timestamp_ms;
            sent.headers = (!record.headers.is_empty()).then(|| {
                record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: value.as_ref().map(|value| &value.0) })
                })
            });
        }
        None => sent.key = Some(FILLER),
    }
    loop {
        match sender.send(sent) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                sender.poll(TIMEOUT);
                sent = again;
            }
            Err((error, _)) => return Err(Error::new("Kafka", doing, error)),
        }
    }
}

/// Waits until all that was sent is written where it is to be.
fn settle(sender: &Sender, doing: &str) -> Result<()> {
    sender.flush(TIMEOUT).while_doing("Kafka", doing)?;
    let wrong = sender.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
    match wrong {
        Some(wrong) => Err(Error::new(SERVICE, doing, wrong).help("let nobody else write to the topic meanwhile")),
        None => Ok(()),
    }
}

/// Waits until the mark of a transaction is written: its end is answered before.
fn wait_for_mark(sender: &Sender, doing: &str, (topic, partition): &(String, i32), end: i64) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let ends = sender.client().fetch_watermarks(topic, *partition, TIMEOUT).while_doing("Kafka", doing)?;
        if ends.1 >= end {
            return Ok(());
        }
        if Instant::now() > deadline {
            let cause = format!("the mark of a transaction has not come: it ends at {}, and not at {end}", ends.1);
            return Err(Error::new("Kafka", doing, cause));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes what stands before these offsets.
pub(super) async fn trim(brokers: &Brokers, begins: &BTreeMap<(String, i32), i64>) -> Result<()> {
    if begins.is_empty() {
        return Ok(());
    }
    let doing = "remove what stands before the first records";
    let mut kept = TopicPartitionList::new();
    for ((topic, partition), begin) in begins {
        kept.add_partition_offset(topic, *partition, Offset::Offset(*begin)).while_doing("Kafka", doing)?;
    }
    let trimmed = admin_by(&brokers.config())?.delete_records(&kept, &options()).await.while_doing("Kafka", doing)?;
    trimmed.elements().iter().try_for_each(TopicPartitionListElem::error).while_doing("Kafka", doing)
}
