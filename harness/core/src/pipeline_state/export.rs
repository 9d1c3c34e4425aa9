//! Pipelines, written to a file.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Map, Value as Json};

use super::{
    SERVICE,
    file::{Connector, Line, Topic, Writer},
    groups, secrets, topics,
};
use crate::{
    connect::{self, Connect},
    error::{Error, Result},
    kafka::{Brokers, is_of},
};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The connectors, which are stopped.
    pub connectors: Vec<String>,
    /// The names of the topics.
    pub topics: Vec<String>,
    /// How many records they have.
    pub records: u64,
    /// The groups of consumers that have read them.
    pub groups: Vec<String>,
    /// Those of them that have members: what they commit from now on is in no file.
    pub alive: BTreeSet<String>,
}

/// A connector, stopped.
struct Stopped {
    connector: connect::Connector,
    name: String,
    configuration: Map<String, Json>,
    ran: bool,
}

/// Stops connectors, all if none is named, and writes their state to a file; they stay stopped, for what they did from then on would be in no
/// file. Topics are those that they have used or that their settings name, and further ones.
///
/// # Errors
/// There is no such connector or topic, or the file is there already; Connect or Kafka fails. Connectors are then started again.
pub async fn export(
    path: &Path,
    connect: &Connect,
    brokers: &Brokers,
    connectors: &[String],
    further_topics: &[String],
) -> Result<Exported> {
    let out = Writer::create(path)?;
    let mut stopped = Vec::new();
    let exported = match stop(connect, connectors, &mut stopped).await {
        Ok(()) => write(out, brokers, &stopped, further_topics).await,
        Err(error) => Err(error),
    };
    if exported.is_err() {
        for stopped in stopped.iter().filter(|stopped| stopped.ran) {
            stopped.connector.resume().await?;
        }
    }
    exported
}

async fn stop(connect: &Connect, named: &[String], stopped: &mut Vec<Stopped>) -> Result<()> {
    let names = if named.is_empty() { connect.connectors().await? } else { named.to_vec() };
    if names.is_empty() {
        return Err(Error::new(SERVICE, "write it", "Connect has no connector"));
    }
    let mut sources_first = Vec::new();
    for name in names {
        let connector = connect.connector(&name, "Kafka Connect");
        let configuration = connector
            .configuration()
            .await?
            .ok_or_else(|| Error::new(SERVICE, format!("write the connector {name}"), "there is none of the name"))?;
        let ran = connector.status().await?.is_some_and(|status| status.connector != "STOPPED");
        sources_first.push(Stopped { connector, name, configuration, ran });
    }
    // What a source still sends while it stops, a sink may still read.
    sources_first.sort_by_key(|one| is_sink(&one.configuration));
    for one in sources_first {
        stopped.push(one);
        if let Some(one) = stopped.last() {
            one.connector.stop().await?;
        }
    }
    Ok(())
}

fn is_sink(configuration: &Map<String, Json>) -> bool {
    ["topics", "topics.regex"].iter().any(|setting| configuration.contains_key(*setting))
}

async fn write(mut out: Writer, brokers: &Brokers, stopped: &[Stopped], further: &[String]) -> Result<Exported> {
    let topics = topics_of(brokers, stopped, further).await?;
    for one in stopped {
        let (config, secrets) = secrets::without_secrets(one.configuration.clone());
        let offsets = if is_sink(&one.configuration) { Vec::new() } else { one.connector.offsets().await? };
        out.write(&Line::Connector(Connector { name: one.name.clone(), config, secrets, offsets, ran: one.ran }))?;
    }
    let (groups, alive) = groups::of_topics(brokers, &topics).await?;
    for topic in &topics {
        out.write(&Line::Topic(topic.clone()))?;
    }
    for group in &groups {
        out.write(&Line::Group(group.clone()))?;
    }
    let out = topics::write_records(brokers, topics.clone(), out).await?;
    Ok(Exported {
        connectors: stopped.iter().map(|one| one.name.clone()).collect(),
        records: out.finish()?,
        topics: topics.into_iter().map(|topic| topic.name).collect(),
        groups: groups.into_iter().map(|group| group.name).collect(),
        alive,
    })
}

/// The settings of connectors whose value is a topic.
const NAMING_A_TOPIC: [&str; 5] = [
    "schema.history.internal.kafka.topic",
    "notification.sink.topic.name",
    "signal.kafka.topic",
    "errors.deadletterqueue.topic.name",
    "iceberg.control.topic",
];

async fn topics_of(brokers: &Brokers, stopped: &[Stopped], further: &[String]) -> Result<Vec<Topic>> {
    let there = topics::all(brokers).await?;
    let mut wanted: BTreeSet<String> = further.iter().cloned().collect();
    if let Some(missing) = wanted.iter().find(|name| !there.iter().any(|(topic, _)| topic == *name)) {
        return Err(Error::new(SERVICE, format!("write the topic {missing}"), "there is none of the name"));
    }
    for one in stopped {
        let setting = |name: &str| one.configuration.get(name).and_then(Json::as_str);
        wanted.extend(one.connector.topics().await?);
        wanted.extend(NAMING_A_TOPIC.iter().filter_map(|name| setting(name)).map(str::to_owned));
        let listed = setting("topics").into_iter().flat_map(|topics| topics.split(','));
        wanted.extend(listed.map(|topic| topic.trim().to_owned()));
        if let Some(prefix) = setting("topic.prefix") {
            wanted.extend(there.iter().filter(|(topic, _)| is_of(prefix, topic)).map(|(topic, _)| topic.clone()));
        }
    }
    let mut topics = Vec::new();
    for topic in there.into_iter().filter(|(topic, _)| wanted.contains(topic)) {
        topics.push(topics::described(brokers, topic).await?);
    }
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(topics)
}
