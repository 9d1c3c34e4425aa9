//! The capture: a feed whose changes are told with what has changed in their tables' definitions, and confirmed once they have
//! been delivered.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    feed::{Commit, Event, Feed, FeedSettings},
    relations::Known,
    slot::NewSlot,
};
use crate::{
    capture::{Options, SnapshotMode, Subject, Subscription},
    change::Change,
    error::{Context, Result},
    postgres::{self, Address, PUBLICATION},
    stack::Service,
};

pub(super) struct LogicalSubscription {
    feed: Feed,
    /// The shape of each table as it was told last.
    told: HashMap<u32, Arc<Known>>,
    ready: VecDeque<Change>,
}

impl LogicalSubscription {
    pub(super) async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
        let setting = |name: &str| options.settings.get(name);
        let address = if setting("way").is_some_and(|way| way == "tcp") { address.by_tcp() } else { address };
        let settings = FeedSettings {
            streaming: setting("streaming").is_none_or(|streaming| streaming != "off"),
            logical_decoding_work_mem: setting("logical_decoding_work_mem").cloned(),
            failover: setting("failover").is_some_and(|failover| failover == "true"),
            ..FeedSettings::of(PUBLICATION)
        };
        let client = address.connect().await?;
        let slot = NewSlot::create(subject.name, &address, &settings).await?;
        let mut ready = VecDeque::new();
        if options.snapshot == SnapshotMode::Initial {
            slot.enter_snapshot(&client).await?;
            ready = postgres::read_all(&client).await?;
            client.batch_execute("COMMIT").await.while_doing("PostgreSQL", "leave the slot's snapshot")?;
        }
        let told = Known::all_published(&client, PUBLICATION).await?;
        Ok(Self { feed: Feed::start(slot, &address, settings).await?, told, ready })
    }

    /// Makes a change ready, and before it what has changed in its table's definition.
    fn take(&mut self, relation: u32, table: Arc<Known>, change: Change) {
        let told = self.told.get(&relation);
        if !told.is_some_and(|told| Arc::ptr_eq(told, &table)) {
            if let Some(schema) = told.and_then(|told| table.change_since(told)) {
                let Change { position, tx, commit_time_us, .. } = &change;
                let (position, tx, commit_time_us) = (*position, tx.clone(), *commit_time_us);
                self.ready.push_back(Change { position, tx, commit_time_us, ..schema });
            }
            self.told.insert(relation, table);
        }
        self.ready.push_back(change);
    }
}

#[async_trait]
impl Subscription for LogicalSubscription {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            match self.feed.next().await? {
                Event::Change { relation, table, change, .. } => self.take(relation, table, change),
                Event::Committed(Commit { end, .. }) | Event::UpTo(end) => self.feed.done(end),
            }
        }
    }

    fn waiting_for(&self) -> String {
        self.feed.waiting_for()
    }

    async fn stop(&mut self) -> Result<()> {
        self.feed.stop().await
    }

    async fn resume(&mut self) -> Result<()> {
        self.feed.go_on().await
    }
}
