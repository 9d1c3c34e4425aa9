//! How far groups of consumers have read.

use std::collections::BTreeSet;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};

use super::{
    SERVICE,
    file::{Committed, Group, Topic},
};
use crate::{
    error::{Context, Result},
    kafka::{Brokers, TIMEOUT},
};

fn consumer(brokers: &Brokers, group: &str) -> Result<BaseConsumer, KafkaError> {
    brokers.config().set("group.id", group).set("enable.auto.commit", "false").create()
}

/// The groups that have read any of these topics, and the names of those that still have members, which may commit more.
pub(super) async fn of_topics(brokers: &Brokers, topics: &[Topic]) -> Result<(Vec<Group>, BTreeSet<String>)> {
    let (brokers, mut asked) = (brokers.clone(), TopicPartitionList::new());
    for topic in topics.iter().filter(|topic| topic.partitions > 0) {
        asked.add_partition_range(&topic.name, 0, topic.partitions - 1);
    }
    let asking = tokio::task::spawn_blocking(move || {
        let (mut groups, mut alive) = (Vec::new(), BTreeSet::new());
        if asked.count() == 0 {
            return Ok((groups, alive));
        }
        let listed = consumer(&brokers, "changeproof-state")?.fetch_group_list(None, TIMEOUT)?;
        // Workers of Connect are a group too, which has read nothing.
        let are_consumers = |kind: &str| kind.is_empty() || kind == "consumer";
        for group in listed.groups().iter().filter(|group| are_consumers(group.protocol_type())) {
            let name = group.name();
            let committed = consumer(&brokers, name)?.committed_offsets(asked.clone(), TIMEOUT)?;
            let offsets: Vec<Committed> = committed.elements().iter().filter_map(as_committed).collect();
            if offsets.is_empty() {
                continue;
            }
            if !group.members().is_empty() {
                alive.insert(name.to_owned());
            }
            groups.push(Group { name: name.to_owned(), offsets });
        }
        Ok::<_, KafkaError>((groups, alive))
    });
    let doing = "ask how far groups of consumers have read";
    asking.await.while_doing(SERVICE, doing)?.while_doing("Kafka", doing)
}

fn as_committed(element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> Option<Committed> {
    match element.offset() {
        Offset::Offset(offset) => Some(Committed {
            topic: element.topic().to_owned(),
            partition: element.partition(),
            offset,
            metadata: element.metadata().to_owned(),
        }),
        _ => None,
    }
}

/// Commits for a group, which must have no members.
pub(super) async fn commit(brokers: &Brokers, group: &Group) -> Result<()> {
    let (brokers, of) = (brokers.clone(), group.clone());
    let committing = tokio::task::spawn_blocking(move || {
        let mut offsets = TopicPartitionList::new();
        for committed in &of.offsets {
            let mut element = offsets.add_partition(&committed.topic, committed.partition);
            element.set_offset(Offset::Offset(committed.offset))?;
            element.set_metadata(&committed.metadata);
        }
        consumer(&brokers, &of.name)?.commit(&offsets, CommitMode::Sync)
    });
    let doing = || format!("commit for the group {}", group.name);
    committing.await.while_doing(SERVICE, doing())?.while_doing("Kafka", doing())
}
