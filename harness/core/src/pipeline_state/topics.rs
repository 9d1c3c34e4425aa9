//! Topics and their records, as they are read.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{ConfigSource, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};

use super::{
    SERVICE,
    file::{Bytes, Line, Partition, Record, Topic, Writer},
};
use crate::{
    error::{Context, Error, Result},
    kafka::{Brokers, TIMEOUT, admin_by, options},
};

/// How long a partition may say nothing that isn't read to its end.
const SILENCE: Duration = Duration::from_secs(30);

/// The topics that a broker has, with how many partitions each.
pub(super) async fn all(brokers: &Brokers) -> Result<Vec<(String, i32)>> {
    let admin = admin_by(&brokers.config())?;
    let listing = tokio::task::spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
        let topics = metadata.topics().iter();
        let partitions = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok::<_, KafkaError>(
            topics.map(|topic| (topic.name().to_owned(), partitions(topic.partitions().len()))).collect(),
        )
    });
    listing.await.while_doing(SERVICE, "list the topics")?.while_doing("Kafka", "list the topics")
}

/// A topic with what was set for it.
pub(super) async fn described(brokers: &Brokers, (name, partitions): (String, i32)) -> Result<Topic> {
    let doing = || format!("ask for the configuration of {name}");
    let asked = [ResourceSpecifier::Topic(&name)];
    let told = admin_by(&brokers.config())?.describe_configs(&asked, &options()).await.while_doing("Kafka", doing())?;
    let mut config = std::collections::BTreeMap::new();
    for resource in told {
        let entries = resource.map_err(|code| Error::new("Kafka", doing(), code))?.entries;
        let own = entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
        config.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
    }
    Ok(Topic { name, partitions, config })
}

/// Writes all records of some topics that were committed, partition by partition.
pub(super) async fn write_records(brokers: &Brokers, topics: Vec<Topic>, mut out: Writer) -> Result<Writer> {
    let config = brokers.config();
    let writing = tokio::task::spawn_blocking(move || {
        let consumer = consumer(config)?;
        for topic in &topics {
            for partition in 0..topic.partitions {
                write_partition(&consumer, &topic.name, partition, &mut out)?;
            }
        }
        Ok(out)
    });
    writing.await.while_doing(SERVICE, "write the records")?
}

fn consumer(mut config: ClientConfig) -> Result<BaseConsumer> {
    config
        .set("group.id", "changeproof-state")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // What a transaction has left undone is nobody's.
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50");
    config.create().while_doing("Kafka", "make a consumer")
}

fn write_partition(consumer: &BaseConsumer, topic: &str, partition: i32, out: &mut Writer) -> Result<()> {
    let doing = || format!("read the partition {partition} of {topic}");
    let (begin, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT).while_doing("Kafka", doing())?;
    out.write(&Line::Partition(Partition { topic: topic.to_owned(), number: partition, begin, end }))?;
    if begin == end {
        return Ok(());
    }
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, partition, Offset::Offset(begin)).while_doing("Kafka", doing())?;
    consumer.assign(&assigned).while_doing("Kafka", doing())?;
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            // Offsets behind the last record may be those of marks that end transactions.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Ok(record)) if record.offset() >= end => {
                let cause = format!("it ended at {end}, and goes on: somebody writes to it");
                return Err(
                    Error::new(SERVICE, doing(), cause).help("stop whoever does; connectors are stopped already")
                );
            }
            Some(record) => out.write(&Line::Record(told(&record.while_doing("Kafka", doing())?)))?,
            None if heard.elapsed() > SILENCE => {
                let cause = format!("no record has come for {} s, and it ends at {end}", SILENCE.as_secs());
                return Err(Error::new(SERVICE, doing(), cause));
            }
            None => continue,
        }
        heard = Instant::now();
    }
}

fn told(record: &BorrowedMessage<'_>) -> Record {
    let bytes = |bytes: Option<&[u8]>| bytes.map(|bytes| Bytes(bytes.to_vec()));
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    Record {
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis(),
        key: bytes(record.key()),
        value: bytes(record.payload()),
        headers: headers.map(|header| (header.key.to_owned(), bytes(header.value))).collect(),
    }
}
