//! The two methods: the Change Data Feed, and the difference between versions.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use changeproof::{
    Change, Op,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    error::Result,
    guarantees::{
        AfterABreak, BeforeImages, Difference, Granularity, Guarantees, KeyChange, Order, RowImage, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    schema::TableName,
    source::Storage,
    stack::Service,
};
use deltalake::DeltaTable;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    Delta,
    diff::rows_between,
    feed::FeedCommit,
    source::{fence, lake, services},
    tables::{Lake, key_of, rows_of, version_of},
};

/// So long a tail waits before it looks for new versions again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The Change Data Feed, version by version as a table grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeltaChangeDataFeed;

/// The difference between the versions at two looks.
///
/// Settings: `keyed` (`true` by default), whether rows are known by the table's key.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeltaVersionDiff;

fn guarantees(options: &Options) -> Guarantees {
    Guarantees {
        initial_snapshot: options.snapshot == SnapshotMode::Initial,
        snapshot_overlaps: false,
        snapshot_amid_changes: false,
        granularity: Granularity::EachChange,
        before_images: BeforeImages::Full,
        row_image: RowImage::Full,
        fills_before_images: false,
        keys_by_identity: false,
        key_change: KeyChange::DeleteAndInsert,
        keyless_update: KeyChange::DeleteAndInsert,
        unchanged_updates: true,
        transactions: true,
        order: Order::CommitOfEachTable,
        truncate: Truncate::AsDeletes,
        schema_changes: SchemaChanges::NextRow,
        unchanged_toast: UnchangedToast::Delivered,
        after_a_break: AfterABreak::ExactlyOnce,
        tombstones: false,
        values: Values::AS_STORED,
        read_values: None,
    }
}

fn is_keyed(options: &Options) -> bool {
    options.settings.get("keyed").is_none_or(|keyed| keyed != "false")
}

#[async_trait]
impl Capture for DeltaChangeDataFeed {
    fn name(&self) -> &'static str {
        "change_data_feed"
    }

    fn summary(&self) -> &'static str {
        "the rows that each commit records as inserted, deleted, and updated before and after"
    }

    fn storage(&self) -> &'static dyn Storage {
        &Delta
    }

    fn services(&self) -> &'static [Service] {
        services()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        guarantees(options)
    }

    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Tail::start(subject, Reader::Feed, options.snapshot).await?))
    }

    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Capture for DeltaVersionDiff {
    fn name(&self) -> &'static str {
        "version_diff"
    }

    fn summary(&self) -> &'static str {
        "two versions by time travel, compared row by row: no feed is needed, and what happened in between is not seen"
    }

    fn storage(&self) -> &'static dyn Storage {
        &Delta
    }

    fn services(&self) -> &'static [Service] {
        services()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            granularity: Granularity::Difference(Difference { each_commit: false, keyed: is_keyed(options) }),
            transactions: false,
            ..guarantees(options)
        }
    }

    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let reader = Reader::Diff { keyed: is_keyed(options) };
        Ok(Box::new(Tail::start(subject, reader, options.snapshot).await?))
    }

    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Feed,
    Diff { keyed: bool },
}

/// Follows all tables of a folder.
struct Tail {
    lake: Lake,
    reader: Reader,
    every: Interval,
    /// The version that was told of each table.
    told: BTreeMap<TableName, DeltaTable>,
    ready: VecDeque<Change>,
    is_stopped: bool,
}

impl Tail {
    async fn start(subject: Subject<'_>, reader: Reader, mode: SnapshotMode) -> Result<Self> {
        let lake = lake(subject.stack, subject.database)?;
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tail = Self { lake, reader, every, told: BTreeMap::new(), ready: VecDeque::new(), is_stopped: false };
        for name in tail.lake.names().await? {
            let table = tail.lake.table(&name).await?;
            if mode == SnapshotMode::Initial && name != fence() {
                let key = key_of(&table)?;
                let rows = rows_of(&table).await?.into_iter();
                tail.ready.extend(rows.map(|row| Change {
                    key: row.project(key.iter().map(String::as_str)),
                    after: Some(row),
                    ..Change::new(Op::Read, name.clone())
                }));
            }
            tail.told.insert(name, table);
        }
        Ok(tail)
    }

    /// Looks for new versions. The fences' table is taken as it was before all others were looked at: what was committed
    /// before a fence is then told before it. What was found is told once all of it has been read, so that a look that is cut
    /// short loses nothing.
    async fn look(&mut self) -> Result<()> {
        let fence = fence();
        let fences = self.lake.table(&fence).await?;
        let (mut found, mut told) = (Vec::new(), Vec::new());
        for name in self.lake.names().await?.into_iter().filter(|name| *name != fence) {
            let table = self.lake.table(&name).await?;
            if self.look_at(&name, &table, self.reader, &mut found).await? {
                told.push((name, table));
            }
        }
        if self.look_at(&fence, &fences, Reader::Diff { keyed: true }, &mut found).await? {
            told.push((fence, fences));
        }
        self.ready.extend(found);
        self.told.extend(told);
        Ok(())
    }

    /// Finds what is new in a table, and returns whether anything is.
    async fn look_at(
        &self,
        name: &TableName,
        table: &DeltaTable,
        reader: Reader,
        found: &mut Vec<Change>,
    ) -> Result<bool> {
        let before = self.told.get(name);
        if before.map(version_of) == Some(version_of(table)) {
            return Ok(false);
        }
        match reader {
            Reader::Feed => {
                let first = before.map_or(0, |before| version_of(before) + 1);
                for version in first..=version_of(table) {
                    let commit = FeedCommit::read(self.lake.at_version(name, version).await?).await?;
                    found.extend(commit.changes(name)?);
                }
            }
            Reader::Diff { keyed } => found.extend(rows_between(name, before, table, keyed).await?),
        }
        Ok(true)
    }
}

#[async_trait]
impl Subscription for Tail {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            self.every.tick().await;
            if !self.is_stopped {
                self.look().await?;
            }
        }
    }

    fn waiting_for(&self) -> String {
        "it waits for new versions".to_owned()
    }

    async fn stop(&mut self) -> Result<()> {
        self.is_stopped = true;
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.is_stopped = false;
        Ok(())
    }
}
