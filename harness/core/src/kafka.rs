//! Kafka's topics of one capture, which all begin with its name: made, found, read and removed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionListElem,
};

use crate::{
    error::{Context, Error, Result},
    stack::{Endpoint, USER},
};

const SERVICE: &str = "Kafka";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// What a client on this machine is told.
fn settings(kafka: &Endpoint) -> [(String, String); 6] {
    [
        ("bootstrap.servers", kafka.address()),
        ("security.protocol", "SASL_PLAINTEXT".to_owned()),
        ("sasl.mechanism", "PLAIN".to_owned()),
        ("sasl.username", USER.to_owned()),
        ("sasl.password", kafka.password.clone()),
        ("log_level", "2".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// How to reach brokers: the names and values of a client's settings (librdkafka's `CONFIGURATION.md`).
#[derive(Clone, Debug, Default)]
pub struct Brokers(BTreeMap<String, String>);

impl Brokers {
    /// Brokers at `HOST:PORT`, with further settings such as `security.protocol`.
    pub fn new(bootstrap: &str, further: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut brokers: BTreeMap<_, _> = further.into_iter().collect();
        brokers.insert("bootstrap.servers".to_owned(), bootstrap.to_owned());
        Self(brokers)
    }

    /// The broker of a stack.
    pub fn of(kafka: &Endpoint) -> Self {
        Self(settings(kafka).into())
    }

    /// The same with another setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What a client of one's own is told.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.0.iter().for_each(|(name, value)| {
            config.set(name, value);
        });
        config.set_log_level(RDKafkaLogLevel::Critical);
        config
    }
}

fn client(kafka: &Endpoint) -> ClientConfig {
    Brokers::of(kafka).config()
}

fn admin(kafka: &Endpoint) -> Result<AdminClient<DefaultClientContext>> {
    admin_by(&client(kafka))
}

pub(crate) fn admin_by(config: &ClientConfig) -> Result<AdminClient<DefaultClientContext>> {
    config.create().while_doing(SERVICE, "make an admin client")
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// Creates topics of one partition, whose records therefore stay in order.
///
/// # Errors
/// Kafka refuses.
pub async fn create_ordered(kafka: &Endpoint, names: &[&str]) -> Result<()> {
    let topics = names.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)));
    let topics: Vec<_> = topics.collect();
    let doing = || format!("create the topics {}", names.join(", "));
    let created = admin(kafka)?.create_topics(&topics, &options()).await;
    for created in created.while_doing(SERVICE, doing())? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::new(SERVICE, doing(), format!("{topic}: {code}"))),
        }
    }
    Ok(())
}

/// Removes every topic of a prefix.
///
/// # Errors
/// Kafka refuses.
pub async fn remove(kafka: &Endpoint, prefix: &str) -> Result<()> {
    let doing = || format!("remove the topics of {prefix}");
    let admin = admin(kafka)?;
    let listed = {
        let metadata = admin.inner().fetch_metadata(None, TIMEOUT).while_doing(SERVICE, doing())?;
        metadata.topics().iter().map(|topic| topic.name().to_owned()).collect::<Vec<_>>()
    };
    let of_prefix: Vec<_> = listed.iter().map(String::as_str).filter(|name| is_of(prefix, name)).collect();
    if of_prefix.is_empty() {
        return Ok(());
    }
    for removed in admin.delete_topics(&of_prefix, &options()).await.while_doing(SERVICE, doing())? {
        match removed {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => return Err(Error::new(SERVICE, doing(), format!("{topic}: {code}"))),
        }
    }
    Ok(())
}

pub(crate) fn is_of(prefix: &str, topic: &str) -> bool {
    topic.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Where all partitions of a prefix end now, but for those of the topics left out.
///
/// # Errors
/// Kafka doesn't answer.
pub async fn ends(kafka: &Endpoint, prefix: &str, without: &[&str]) -> Result<Ends> {
    let mut ends = Reader::open(kafka, prefix, &[]).await?.ends().await?;
    ends.retain(|(topic, ..)| !without.contains(&topic.as_str()));
    Ok(ends)
}

/// Where partitions end: by topic and partition the number of the next record.
pub type Ends = Vec<(String, i32, i64)>;

/// Reads all topics of a prefix from their beginning, without a consumer group and its rebalances.
pub(crate) struct Reader {
    consumer: Arc<StreamConsumer>,
    prefix: String,
    assigned: HashSet<(String, i32)>,
}

impl Reader {
    /// A reader of the topics of one partition named, and of those of the prefix that are there; later ones come with
    /// [`Reader::refresh`].
    ///
    /// The topics named are read whether or not they have come into view of this client: the broker may say of a topic
    /// that was just made that there is none, and what tells of other topics can't itself be waited to be told of.
    pub(crate) async fn open(kafka: &Endpoint, prefix: &str, ordered: &[&str]) -> Result<Self> {
        let consumer: StreamConsumer = client(kafka)
            .set("group.id", prefix)
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "5")
            .set("topic.metadata.refresh.fast.interval.ms", "10")
            .set("queued.min.messages", "100000")
            .set("socket.nagle.disable", "true")
            .create()
            .while_doing(SERVICE, "make a consumer")?;
        let mut reader = Self { consumer: Arc::new(consumer), prefix: prefix.to_owned(), assigned: HashSet::new() };
        reader.assign(ordered.iter().map(|topic| ((*topic).to_owned(), 1)))?;
        reader.refresh().await?;
        Ok(reader)
    }

    /// How many partitions are read.
    pub(crate) fn partitions(&self) -> usize {
        self.assigned.len()
    }

    /// Looks for topics that came since.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let doing = || format!("look for the topics of {}", self.prefix);
        let (consumer, prefix) = (Arc::clone(&self.consumer), self.prefix.clone());
        let looking = tokio::task::spawn_blocking(move || partitions(&consumer, &prefix));
        let found = looking.await.while_doing(SERVICE, doing())?.while_doing(SERVICE, doing())?;
        self.assign(found)
    }

    fn assign(&mut self, topics: impl IntoIterator<Item = (String, i32)>) -> Result<()> {
        let doing = || format!("read the topics of {}", self.prefix);
        let mut new = TopicPartitionList::new();
        for (topic, count) in topics {
            for partition in 0..count {
                if self.assigned.insert((topic.clone(), partition)) {
                    new.add_partition_offset(&topic, partition, Offset::Beginning).while_doing(SERVICE, doing())?;
                }
            }
        }
        if new.count() == 0 {
            return Ok(());
        }
        self.consumer.incremental_assign(&new).while_doing(SERVICE, doing())
    }

    /// Where all partitions end now, those of new topics included.
    pub(crate) async fn ends(&mut self) -> Result<Ends> {
        self.refresh().await?;
        let mut asked = TopicPartitionList::with_capacity(self.assigned.len());
        for (topic, partition) in &self.assigned {
            asked.add_partition_offset(topic, *partition, Offset::End).while_doing(SERVICE, "name a partition")?;
        }
        let consumer = Arc::clone(&self.consumer);
        let looking = tokio::task::spawn_blocking(move || ends_of(&consumer, &asked));
        let doing = || format!("look where the topics of {} end", self.prefix);
        looking.await.while_doing(SERVICE, doing())?.while_doing(SERVICE, doing())
    }

    /// Whether all partitions have been read up to these ends.
    pub(crate) fn has_read(&self, ends: &Ends) -> Result<bool> {
        let positions = self.consumer.position().while_doing(SERVICE, "ask what has been read")?;
        let is_read = |(topic, partition, end): &(String, i32, i64)| {
            let position = positions.find_partition(topic, *partition).map(|found| found.offset());
            *end == 0 || matches!(position, Some(Offset::Offset(next)) if next >= *end)
        };
        Ok(ends.iter().all(is_read))
    }

    /// The next record of any of the topics. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> Result<BorrowedMessage<'_>> {
        loop {
            match self.consumer.recv().await {
                // The client library reconnects by itself, and waits for a topic that was just made to have a leader.
                Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::LeaderNotAvailable,
                )) => {}
                received => return received.while_doing(SERVICE, "read the next record"),
            }
        }
    }
}

/// Where partitions end, by one request: each waits for the fetch that is under way on the same connection. One of a topic that was just made may
/// have no leader yet, or one that doesn't know it yet.
fn ends_of(consumer: &StreamConsumer, asked: &TopicPartitionList) -> Result<Ends, KafkaError> {
    if asked.count() == 0 {
        return Ok(Ends::new());
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        // What stands for the end instead of a time is answered by the end (librdkafka's `rd_kafka_offsets_for_times`).
        let found = consumer.offsets_for_times(asked.clone(), TIMEOUT);
        match found.and_then(|found| found.elements().iter().map(end).collect()) {
            Err(KafkaError::MetadataFetch(code) | KafkaError::OffsetFetch(code))
                if has_no_leader_yet(code) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            ends => return ends,
        }
    }
}

fn end(found: &TopicPartitionListElem<'_>) -> Result<(String, i32, i64), KafkaError> {
    found.error()?;
    match found.offset() {
        Offset::Offset(end) => Ok((found.topic().to_owned(), found.partition(), end)),
        _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
    }
}

/// Whether the broker that was asked has yet to learn that it leads the partition, or since when; all of these may be asked again (Kafka's
/// protocol guide, "Error Codes").
fn has_no_leader_yet(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
    )
}

fn partitions(consumer: &StreamConsumer, prefix: &str) -> Result<HashMap<String, i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| is_of(prefix, topic.name()))
        .map(|topic| {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            (topic.name().to_owned(), partitions)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_dot() {
        assert!(is_of("cp_1", "cp_1.public.t"));
        assert!(!is_of("cp_1", "cp_10.public.t"));
        assert!(is_of("cp_1", "cp_1"), "that of definitions");
    }
}
