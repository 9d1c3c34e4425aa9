//! Records that a consumer could not use, in a topic of their own: as they came, with headers that say where from and why. The headers are
//! those of Kafka Connect (KIP-298, "Error Handling in Connect": `__connect.errors.…`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
    producer::{FutureProducer, FutureRecord},
};

use crate::{
    error::{Context, Error, Result},
    kafka::{Brokers, TIMEOUT},
};

const SERVICE: &str = "Kafka";

/// What the headers' names begin with.
const PREFIX: &str = "__connect.errors.";

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where it stands among the dead letters.
    pub place: Place,
    /// The topic that it came by; none if no header says so.
    pub topic: Option<String>,
    /// Where it stood there.
    pub origin: Option<Place>,
    /// Why it could not be used.
    pub reason: String,
    /// All headers that say something of it, without the beginning of their names.
    pub headers: BTreeMap<String, String>,
    /// Its key, as it came.
    pub key: Option<Vec<u8>>,
    /// Its value, as it came.
    pub value: Option<Vec<u8>>,
}

/// The place of a record in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let place = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        place.ok_or_else(|| format!("{text} is no place: it is PARTITION:OFFSET, such as 0:12"))
    }
}

impl Letter {
    fn of(record: &BorrowedMessage<'_>) -> Self {
        let mut headers = BTreeMap::new();
        for header in record.headers().into_iter().flat_map(Headers::iter) {
            if let (Some(name), Some(value)) = (header.key.strip_prefix(PREFIX), header.value) {
                headers.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned());
            }
        }
        let number = |name: &str| headers.get(name).map(String::as_str);
        let origin = number("partition")
            .and_then(|partition| partition.parse().ok())
            .and_then(|partition| Some(Place { partition, offset: number("offset")?.parse().ok()? }));
        let said = ["exception.message", "exception.class.name"].iter().find_map(|name| headers.get(*name));
        Self {
            place: Place { partition: record.partition(), offset: record.offset() },
            topic: headers.get("topic").cloned(),
            origin,
            reason: said.cloned().unwrap_or_else(|| "no header says why".to_owned()),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            headers,
        }
    }
}

/// All dead letters that a topic has now.
///
/// # Errors
/// There is no such topic, or the brokers don't answer.
pub async fn read(brokers: &Brokers, topic: &str) -> Result<Vec<Letter>> {
    let (config, name) = (brokers.config(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || read_all(config, &name));
    reading.await.while_doing(SERVICE, format!("read {topic}"))?
}

fn read_all(mut config: ClientConfig, topic: &str) -> Result<Vec<Letter>> {
    let doing = || format!("read {topic}");
    config.set("group.id", "changeproof-dead-letters").set("enable.auto.commit", "false");
    // The offsets of a topic written in transactions have gaps, so that only the broker knows where it ends.
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().while_doing(SERVICE, doing())?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).while_doing(SERVICE, doing())?;
    let found = metadata.topics().first().filter(|found| found.error().is_none());
    let partitions = found.map_or(&[][..], |found| found.partitions());
    if partitions.is_empty() {
        return Err(Error::new(SERVICE, doing(), "there is no such topic")
            .help("name the topic of the dead letters with --topic"));
    }
    let mut assigned = TopicPartitionList::new();
    let mut unread: BTreeSet<i32> = BTreeSet::new();
    for partition in partitions {
        let begin = assigned.add_partition_offset(topic, partition.id(), Offset::Beginning);
        begin.while_doing(SERVICE, doing())?;
        unread.insert(partition.id());
    }
    consumer.assign(&assigned).while_doing(SERVICE, doing())?;
    let mut letters = Vec::new();
    let mut heard = Instant::now();
    while !unread.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(record) => letters.push(Letter::of(&record.while_doing(SERVICE, doing())?)),
            None if heard.elapsed() < TIMEOUT => continue,
            None => return Err(Error::new(SERVICE, doing(), format!("nothing came for {} s", TIMEOUT.as_secs()))),
        }
        heard = Instant::now();
    }
    letters.sort_by_key(|letter| letter.place);
    Ok(letters)
}

/// Sends a dead letter to the topic that it came by, as it came.
///
/// # Errors
/// No header says which topic that is, or the brokers don't take it.
pub async fn replay(brokers: &Brokers, letter: &Letter) -> Result<()> {
    let doing = || format!("send the dead letter {} again", letter.place);
    let Some(topic) = &letter.topic else {
        return Err(Error::new(SERVICE, doing(), "no header says which topic it came by").help(
            "let whoever writes dead letters add the headers: errors.deadletterqueue.context.headers.enable=true",
        ));
    };
    let producer: FutureProducer = brokers.config().set("acks", "all").create().while_doing(SERVICE, doing())?;
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    // A record of the same key must come by the same partition.
    record.partition = letter.origin.map(|origin| origin.partition);
    producer.send(record, TIMEOUT).await.map_err(|(error, _)| error).while_doing(SERVICE, doing()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place { partition: 2, offset: 40 };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!("2".parse::<Place>().is_err_and(|error| error.contains("PARTITION:OFFSET")));
    }
}
