//! Pipelines, made of a file.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Map, Value as Json};

use super::{
    SERVICE,
    file::{self, Connector, Contents, Line},
    groups,
    restore::{self, Restorer},
    secrets::Given,
    sources::Sources,
    topics,
};
use crate::{
    connect::Connect,
    error::{Context, Error, Result},
    kafka::Brokers,
};

/// Where pipelines are made.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The Connect, which must have none of the connectors.
    pub connect: &'a Connect,
    /// The brokers, which must have none of the topics.
    pub brokers: &'a Brokers,
    /// Secrets, and settings that are other than they were.
    pub given: &'a Given,
    /// Where the sources are asked for their logs.
    pub sources: &'a Sources,
    /// Whether connectors that ran when the file was written are started.
    pub starts: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The connectors.
    pub connectors: Vec<String>,
    /// How many topics they have.
    pub topics: usize,
    /// How many records these have.
    pub records: u64,
    /// How many groups of consumers have read them.
    pub groups: usize,
}

/// Makes the pipelines of a file. All that can be known to be wrong is looked for before anything is made.
///
/// # Errors
/// The file is damaged or of another version; there is a connector or topic of it already; a secret is missing; a source has no more of its
/// log what a connector hasn't read; Connect or Kafka fails.
pub async fn import(path: &Path, target: Target<'_>) -> Result<Imported> {
    let from = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || file::contents(&from));
    let contents = reading.await.while_doing(SERVICE, "read the file")??;
    check_that_none_is_there(&contents, target).await?;
    let mut connectors = Vec::new();
    for connector in &contents.connectors {
        let configuration = target.given.fill(connector)?;
        target.sources.check(connector, &configuration).await?;
        connectors.push((connector, configuration));
    }
    restore::make(target.brokers, &contents.topics).await?;
    write_records(path, target.brokers).await?;
    for group in &contents.groups {
        groups::commit(target.brokers, group).await?;
    }
    for (connector, configuration) in &connectors {
        make(target, connector, configuration).await?;
    }
    Ok(Imported {
        connectors: connectors.iter().map(|(connector, _)| connector.name.clone()).collect(),
        topics: contents.topics.len(),
        records: contents.records,
        groups: contents.groups.len(),
    })
}

async fn check_that_none_is_there(contents: &Contents, target: Target<'_>) -> Result<()> {
    let connectors: BTreeSet<String> = target.connect.connectors().await?.into_iter().collect();
    let topics: BTreeSet<String> = topics::all(target.brokers).await?.into_iter().map(|(topic, _)| topic).collect();
    let connector = contents.connectors.iter().map(|connector| &connector.name).find(|name| connectors.contains(*name));
    let topic = contents.topics.iter().map(|topic| &topic.name).find(|name| topics.contains(*name));
    let is_there = match (connector, topic) {
        (Some(name), _) => format!("Connect has a connector {name} already"),
        (None, Some(name)) => format!("Kafka has a topic {name} already"),
        (None, None) => return Ok(()),
    };
    Err(Error::new(SERVICE, "make pipelines of it", is_there)
        .help("import it where there is nothing of these names: an import adds nothing to what is there"))
}

async fn write_records(path: &Path, brokers: &Brokers) -> Result<()> {
    let (from, of) = (path.to_owned(), brokers.clone());
    let writing = tokio::task::spawn_blocking(move || {
        let mut restorer = Restorer::new(&of)?;
        let mut failed = None;
        let read = file::for_each_line(&from, |line| {
            let done = match line {
                Line::Partition(partition) => restorer.begin(partition),
                Line::Record(record) => restorer.record(record),
                _ => Ok(()),
            };
            done.map_err(|error| {
                let told = error.to_string();
                failed = Some(error);
                told
            })
        });
        // What Kafka says isn't about the file.
        failed.map_or(read, Err)?;
        restorer.into_begins()
    });
    restore::trim(brokers, &writing.await.while_doing(SERVICE, "write the records")??).await
}

async fn make(target: Target<'_>, connector: &Connector, configuration: &Map<String, Json>) -> Result<()> {
    target.connect.create_stopped(&connector.name, configuration).await?;
    let made = target.connect.connector(&connector.name, "Kafka Connect");
    made.wait_until_stopped().await?;
    if !connector.offsets.is_empty() {
        made.set_offsets(&connector.offsets).await?;
    }
    if target.starts && connector.ran {
        made.resume().await?;
    }
    Ok(())
}
