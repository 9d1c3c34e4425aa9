//! Timestamp polling: ask from time to time for the rows whose `updated_at` is later than the latest seen.
//!
//! What a look is, and what is known after it, is the same for every database; what is said to one stands in a file of its own.

mod mysql;
mod postgres;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Interval, MissedTickBehavior, interval};

pub use self::{mysql::MySqlTimestampPolling, postgres::TimestampPolling};
use crate::{
    capture::{Options, SnapshotMode, Subscription},
    change::{Change, Op, Position},
    error::{Context, Result},
    guarantees::{
        AfterABreak, BeforeImages, Granularity, Guarantees, KeyChange, Mark, Order, RowImage, SchemaChanges, Truncate,
        UnchangedToast, Values,
    },
    looking::Looking,
    schema::TableName,
    source::HARNESS_SCHEMA,
    value::{Row, Value},
};

const SERVICE: &str = "polling";

const SUMMARY: &str = "query-based: rows whose updated_at is later than the latest seen";

const DEFAULT_INTERVAL_MS: u64 = 100;

/// What polling says to a database.
#[async_trait]
trait Database: Send + Sync {
    /// A table as its catalogue describes it.
    type Shape: Send + Sync;

    /// Begins to see all tables as they are at one moment. A look that was cut short is given up.
    async fn begin(&mut self) -> Result<()>;

    /// The tables that there are, the harness's fence last.
    async fn tables(&mut self) -> Result<Vec<Watched<Self::Shape>>>;

    /// The rows of a table that bear a time later than the mark. Rows without a time are never found.
    async fn find(&mut self, table: &Watched<Self::Shape>, mark: Option<Micros>) -> Result<Vec<Found>>;

    /// Ends the look.
    async fn end(&mut self) -> Result<()>;

    /// Makes a connection that broke again.
    async fn reconnect(&mut self) -> Result<()>;
}

/// By what a table is known from look to look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// A number that a rename doesn't change.
    Number(u32),
    /// Its name alone.
    Name(TableName),
}

/// A table that is looked at, with its shape in the words of its database.
struct Watched<S> {
    identity: Identity,
    name: TableName,
    shape: S,
}

fn guarantees(options: &Options, mark: Mark, unchanged_updates: bool) -> Guarantees {
    Guarantees {
        initial_snapshot: options.snapshot == SnapshotMode::Initial,
        snapshot_overlaps: false,
        snapshot_amid_changes: false,
        granularity: Granularity::LatestState(mark),
        before_images: BeforeImages::None,
        row_image: RowImage::Full,
        fills_before_images: false,
        keys_by_identity: false,
        key_change: KeyChange::Update,
        keyless_update: KeyChange::Update,
        unchanged_updates,
        transactions: false,
        order: Order::Commit,
        truncate: Truncate::Missed,
        schema_changes: SchemaChanges::NextRow,
        unchanged_toast: UnchangedToast::Delivered,
        after_a_break: AfterABreak::ExactlyOnce,
        tombstones: false,
        values: Values::AS_STORED,
        read_values: None,
    }
}

/// Whether the database sets the time of updated rows.
fn is_touched(options: &Options) -> bool {
    options.settings.get("touch").is_none_or(|touch| touch != "false")
}

fn overlaps(options: &Options) -> bool {
    options.settings.get("overlap.ms").is_some_and(|overlap| overlap != "0")
}

fn number(options: &Options, setting: &str) -> Result<Option<u64>> {
    let given = options.settings.get(setting);
    given.map(|text| text.parse().while_doing(SERVICE, format!("read the setting {setting}={text}"))).transpose()
}

/// Takes the first look.
async fn start(database: impl Database + 'static, options: &Options) -> Result<Box<dyn Subscription>> {
    let every = Duration::from_millis(number(options, "interval.ms")?.unwrap_or(DEFAULT_INTERVAL_MS).max(1));
    let mut every = interval(every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let overlap_us = i64::try_from(number(options, "overlap.ms")?.unwrap_or(0).saturating_mul(1000));
    let overlap_us = overlap_us.while_doing(SERVICE, "read the setting overlap.ms")?;
    let (marks, delivered, ready) = (HashMap::new(), HashMap::new(), VecDeque::new());
    let mut subscription = Polling { database, every, overlap_us, marks, delivered, ready, looks: 0 };
    subscription.look_at_all(Look::First(options.snapshot)).await?;
    Ok(Box::new(subscription))
}

/// Microseconds since 1970-01-01 00:00 UTC.
type Micros = i64;

struct Polling<D> {
    database: D,
    every: Interval,
    overlap_us: Micros,
    /// The latest time seen of each table.
    marks: HashMap<Identity, Micros>,
    /// The time of each row's version that was delivered last. Only kept where looks overlap.
    delivered: HashMap<(Identity, Vec<Value>), Micros>,
    ready: VecDeque<Change>,
    /// How many looks have found anything.
    looks: u64,
}

/// What a look finds, and what is known after it. Takes effect at its end only, so that a look cut short loses nothing.
#[derive(Default)]
struct Seen {
    changes: Vec<Change>,
    marks: HashMap<Identity, Micros>,
    delivered: HashMap<(Identity, Vec<Value>), Micros>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Sets the marks; with an initial snapshot it delivers what it finds.
    First(SnapshotMode),
    Next,
}

struct Found {
    time: Micros,
    key: Row,
    row: Row,
}

impl<D: Database> Polling<D> {
    /// Looks at all tables as they are at one moment.
    async fn look_at_all(&mut self, look: Look) -> Result<()> {
        self.database.begin().await?;
        let mut seen = Seen::default();
        // The fence comes last: it says that all before it has been delivered.
        for table in self.database.tables().await? {
            self.look_at(&table, look, &mut seen).await?;
        }
        self.database.end().await?;
        self.marks.extend(seen.marks);
        self.delivered.extend(seen.delivered);
        let is_fence = |change: &Change| change.table.schema() == HARNESS_SCHEMA;
        self.looks += u64::from(!seen.changes.iter().all(is_fence));
        let position = (look == Look::Next).then_some(Position::Look(self.looks));
        self.ready.extend(seen.changes.into_iter().map(|change| Change { position, ..change }));
        Ok(())
    }

    async fn look_at(&mut self, table: &Watched<D::Shape>, look: Look, seen: &mut Seen) -> Result<()> {
        let mark = self.marks.get(&table.identity).copied();
        let mut found = self.database.find(table, mark.map(|mark| mark.saturating_sub(self.overlap_us))).await?;
        if self.overlap_us > 0 {
            // Where looks overlap, a row is met again; it is new if it bears another time.
            found.retain(|found| {
                let row = (table.identity.clone(), values(if found.key.is_empty() { &found.row } else { &found.key }));
                let is_new = self.delivered.get(&row) != Some(&found.time);
                seen.delivered.insert(row, found.time);
                is_new
            });
        }
        found.sort_by_cached_key(|found| (found.time, values(&found.key), values(&found.row)));
        if let Some(latest) = found.last() {
            seen.marks.insert(table.identity.clone(), mark.map_or(latest.time, |mark| mark.max(latest.time)));
        }
        let op = match look {
            Look::First(SnapshotMode::NoData) => return Ok(()),
            Look::First(SnapshotMode::Initial) => Op::Read,
            Look::Next => Op::Upsert,
        };
        let change =
            |found: Found| Change { key: found.key, after: Some(found.row), ..Change::new(op, table.name.clone()) };
        seen.changes.extend(found.into_iter().map(change));
        Ok(())
    }
}

fn values(row: &Row) -> Vec<Value> {
    row.iter().map(|(_, value)| value.clone()).collect()
}

#[async_trait]
impl<D: Database> Looking for Polling<D> {
    async fn connect(&mut self) -> Result<()> {
        self.database.reconnect().await
    }

    async fn look(&mut self) -> Result<()> {
        self.look_at_all(Look::Next).await
    }
}

#[async_trait]
impl<D: Database> Subscription for Polling<D> {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            self.every.tick().await;
            self.look_with_patience().await?;
        }
    }

    fn waiting_for(&self) -> String {
        "it waits for rows with a later time than those seen".to_owned()
    }

    /// Nothing runs between two looks.
    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        Ok(())
    }
}
