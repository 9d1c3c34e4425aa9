//! Timestamp polling: ask from time to time for the rows whose `updated_at` is later than the latest seen.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    change::{Change, Op, Position},
    error::{Context, Result},
    guarantees::{
        AfterABreak, BeforeImages, Granularity, Guarantees, KeyChange, Mark, Order, RowImage, SchemaChanges,
        TIME_COLUMN, Truncate, UnchangedToast, Values,
    },
    postgres::{self, HARNESS_SCHEMA, HIDDEN_TIME, TableShape, ident, table},
    schema::TableName,
    stack::{Endpoint, Service},
    value::{Row, Value},
};

const SERVICE: &str = "polling";

const SET_UP: &str = include_str!("set_up.sql");

const DEFAULT_INTERVAL_MS: u64 = 100;

/// Polling by a table's column `updated_at`, or where it has none, by one that the set-up has given it.
///
/// Settings: `interval.ms` (100 by default) between two looks; `overlap.ms` (0) by which a look reaches back behind the
/// mark; `touch` (`true`), whether a trigger sets the time of updated rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampPolling;

#[async_trait]
impl Capture for TimestampPolling {
    fn name(&self) -> &'static str {
        "polling"
    }

    fn summary(&self) -> &'static str {
        "query-based: rows whose updated_at is later than the latest seen"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        let mark = Mark {
            touched_by_updates: options.settings.get("touch").is_none_or(|touch| touch != "false"),
            overlap: options.settings.get("overlap.ms").is_some_and(|overlap| overlap != "0"),
        };
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            granularity: Granularity::LatestState(mark),
            before_images: BeforeImages::None,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: false,
            key_change: KeyChange::Update,
            keyless_update: KeyChange::Update,
            unchanged_updates: true,
            transactions: false,
            order: Order::Commit,
            truncate: Truncate::Missed,
            schema_changes: SchemaChanges::NextRow,
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::ExactlyOnce,
            tombstones: false,
            values: Values::AS_STORED,
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        let client = postgres::connect(subject.stack.endpoint(Service::Postgres)?, subject.database).await?;
        client.batch_execute(SET_UP).await.while_doing(SERVICE, "give each table a time")
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let (endpoint, database) = (subject.stack.endpoint(Service::Postgres)?.clone(), subject.database.to_owned());
        let client = postgres::connect_to_capture(&endpoint, &database).await?;
        if options.settings.get("touch").is_some_and(|touch| touch == "false") {
            let untouched = "DROP FUNCTION changeproof_harness.touch CASCADE";
            client.batch_execute(untouched).await.while_doing(SERVICE, "leave updated rows as they are")?;
        }
        let every = Duration::from_millis(number(options, "interval.ms")?.unwrap_or(DEFAULT_INTERVAL_MS).max(1));
        let mut every = interval(every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let overlap_us = i64::try_from(number(options, "overlap.ms")?.unwrap_or(0).saturating_mul(1000));
        let overlap_us = overlap_us.while_doing(SERVICE, "read the setting overlap.ms")?;
        let (marks, delivered, ready) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let mut subscription = Polling {
            endpoint,
            database,
            client,
            every,
            overlap_us,
            marks,
            delivered,
            ready,
            is_looking: false,
            looks: 0,
        };
        subscription.look(Look::First(options.snapshot)).await?;
        Ok(Box::new(subscription))
    }

    /// All that it makes is in the database and goes with it.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

fn number(options: &Options, setting: &str) -> Result<Option<u64>> {
    let given = options.settings.get(setting);
    given.map(|text| text.parse().while_doing(SERVICE, format!("read the setting {setting}={text}"))).transpose()
}

/// Microseconds since 1970-01-01 00:00 UTC.
type Micros = i64;

struct Polling {
    endpoint: Endpoint,
    database: String,
    client: Client,
    every: Interval,
    overlap_us: Micros,
    /// The latest time seen of each table, by the table's object identifier.
    marks: HashMap<u32, Micros>,
    /// The time of each row's version that was delivered last. Only kept where looks overlap.
    delivered: HashMap<(u32, Vec<Value>), Micros>,
    ready: VecDeque<Change>,
    /// Whether a look has begun that has not ended: its future was dropped.
    is_looking: bool,
    /// How many looks have found anything.
    looks: u64,
}

/// What a look finds, and what is known after it. Takes effect at its end only, so that a look cut short loses nothing.
#[derive(Default)]
struct Seen {
    changes: Vec<Change>,
    marks: HashMap<u32, Micros>,
    delivered: HashMap<(u32, Vec<Value>), Micros>,
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

impl Polling {
    /// Looks at all tables as they are at one moment.
    async fn look(&mut self, look: Look) -> Result<()> {
        let rollback = if self.is_looking { "ROLLBACK; " } else { "" };
        self.is_looking = true;
        let begin = format!("{rollback}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        self.client.batch_execute(&begin).await.while_doing(SERVICE, "begin a look")?;
        let mut seen = Seen::default();
        let tables = postgres::shapes(&self.client).await?;
        // The fence comes last: it says that all before it has been delivered.
        for (name, shape) in tables.into_iter().chain([postgres::fence()]) {
            self.look_at(&name, &shape, look, &mut seen).await?;
        }
        self.client.batch_execute("COMMIT").await.while_doing(SERVICE, "end a look")?;
        self.is_looking = false;
        self.marks.extend(seen.marks);
        self.delivered.extend(seen.delivered);
        let is_fence = |change: &Change| change.table.schema == HARNESS_SCHEMA;
        self.looks += u64::from(!seen.changes.iter().all(is_fence));
        let position = (look == Look::Next).then_some(Position::Look(self.looks));
        self.ready.extend(seen.changes.into_iter().map(|change| Change { position, ..change }));
        Ok(())
    }

    async fn look_at(&self, name: &TableName, shape: &TableShape, look: Look, seen: &mut Seen) -> Result<()> {
        let mark = self.marks.get(&shape.oid).copied();
        let mut found = find(&self.client, name, shape, mark.map(|mark| mark.saturating_sub(self.overlap_us))).await?;
        if self.overlap_us > 0 {
            // Where looks overlap, a row is met again; it is new if it bears another time.
            found.retain(|found| {
                let row = (shape.oid, values(if found.key.is_empty() { &found.row } else { &found.key }));
                let is_new = self.delivered.get(&row) != Some(&found.time);
                seen.delivered.insert(row, found.time);
                is_new
            });
        }
        found.sort_by_cached_key(|found| (found.time, values(&found.key), values(&found.row)));
        if let Some(latest) = found.last() {
            seen.marks.insert(shape.oid, mark.map_or(latest.time, |mark| mark.max(latest.time)));
        }
        let op = match look {
            Look::First(SnapshotMode::NoData) => return Ok(()),
            Look::First(SnapshotMode::Initial) => Op::Read,
            Look::Next => Op::Upsert,
        };
        let change = |found: Found| Change { key: found.key, after: Some(found.row), ..Change::new(op, name.clone()) };
        seen.changes.extend(found.into_iter().map(change));
        Ok(())
    }
}

fn values(row: &Row) -> Vec<Value> {
    row.iter().map(|(_, value)| value.clone()).collect()
}

/// The rows of a table that bear a time later than the mark. Rows without a time, or with an infinite one, are never found.
async fn find(client: &Client, name: &TableName, shape: &TableShape, mark: Option<Micros>) -> Result<Vec<Found>> {
    let has_own = shape.columns.iter().any(|column| column.name == TIME_COLUMN);
    let time = ident(if has_own { TIME_COLUMN } else { HIDDEN_TIME });
    let columns: Vec<_> = shape.columns.iter().map(|column| ident(&column.name)).collect();
    let micros = format!("(extract(epoch FROM {time}) * 1000000)::bigint");
    let columns = std::iter::once(micros).chain(columns).collect::<Vec<_>>().join(", ");
    // The column itself is compared, so that an index on it serves.
    let after = mark.map(|mark| format!(" AND {time} > timestamptz 'epoch' + interval '{mark} microseconds'"));
    let after = after.unwrap_or_default();
    let query = format!("SELECT {columns} FROM {} WHERE isfinite({time}){after}", table(name));
    let doing = || format!("look at the table {name}");
    let messages = client.simple_query(&query).await.while_doing(SERVICE, doing())?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|found| {
        let time = found.get(0).unwrap_or_default().parse().while_doing(SERVICE, doing())?;
        let row = postgres::row(found, 1, shape);
        let key = row.project(shape.key.iter().map(String::as_str));
        Ok(Found { time, key, row })
    })
    .collect()
}

#[async_trait]
impl Subscription for Polling {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            self.every.tick().await;
            if self.look(Look::Next).await.is_err() {
                // A connection that broke is made again, once; a look takes effect at its end, so nothing is skipped.
                self.client = postgres::connect_to_capture(&self.endpoint, &self.database).await?;
                self.is_looking = false;
                self.look(Look::Next).await?;
            }
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
