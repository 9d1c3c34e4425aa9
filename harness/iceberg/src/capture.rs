//! The two methods: a changelog scan that follows tables as they grow, and what their manifests say.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use changeproof::{
    Change, Op, Row, Value,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    change::{Position, TxId},
    error::Result,
    guarantees::{
        AfterABreak, BeforeImages, Difference, Granularity, Guarantees, KeyChange, Order, ROWS, RowImage,
        SchemaChanges, Truncate, UnchangedToast, Values,
    },
    schema::TableName,
    source::Storage,
    stack::Service,
};
use futures_util::StreamExt;
use iceberg::{
    spec::{DataContentType, Operation, SnapshotRef},
    table::Table,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    Iceberg,
    changes::{changes, shape},
    files::{FilesDiff, LiveFile, diff_files},
    snapshots::{between, snapshot},
    source::{fence, name_of, read_rows, services, warehouse_of},
    tail::Since,
    warehouse::Warehouse,
};

/// So long a tail waits before it looks for new snapshots again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The changelog scan between snapshots, snapshot by snapshot as a table grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct IcebergChangelogScan;

/// Detection by manifests: which files came and went, and how many rows are in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct IcebergManifestDiff;

fn guarantees(options: &Options, granularity: Granularity) -> Guarantees {
    Guarantees {
        initial_snapshot: options.snapshot == SnapshotMode::Initial,
        snapshot_overlaps: false,
        snapshot_amid_changes: false,
        granularity,
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
        schema_changes: SchemaChanges::WithNextRow,
        unchanged_toast: UnchangedToast::Delivered,
        after_a_break: AfterABreak::ExactlyOnce,
        tombstones: false,
        values: Values::AS_STORED,
        read_values: None,
    }
}

#[async_trait]
impl Capture for IcebergChangelogScan {
    fn name(&self) -> &'static str {
        "changelog_scan"
    }

    fn summary(&self) -> &'static str {
        "incremental scan between snapshots: rows of files and delete files that came or went"
    }

    fn storage(&self) -> &'static dyn Storage {
        &Iceberg
    }

    fn services(&self) -> &'static [Service] {
        services()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        guarantees(options, Granularity::Difference(Difference { each_commit: true, keyed: true }))
    }

    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let tail = Tail::start(subject, Reader::Rows, options.snapshot).await?;
        Ok(Box::new(tail))
    }

    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Capture for IcebergManifestDiff {
    fn name(&self) -> &'static str {
        "manifest_diff"
    }

    fn summary(&self) -> &'static str {
        "metadata alone: which data and delete files a snapshot added and removed, and how many rows are in them"
    }

    fn storage(&self) -> &'static dyn Storage {
        &Iceberg
    }

    fn services(&self) -> &'static [Service] {
        services()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: false,
            snapshot_overlaps: false,
            snapshot_amid_changes: false,
            schema_changes: SchemaChanges::NextRow,
            ..guarantees(options, Granularity::Files)
        }
    }

    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, _options: &Options) -> Result<Box<dyn Subscription>> {
        let tail = Tail::start(subject, Reader::Files, SnapshotMode::NoData).await?;
        Ok(Box::new(tail))
    }

    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Rows,
    Files,
}

/// What a tail has told of a table.
#[derive(Clone, Debug)]
struct Told {
    name: TableName,
    snapshot: Option<i64>,
    /// The columns that it has told last; none before a new table's first row.
    shape: Option<Row>,
}

/// Follows all tables of a warehouse. A table is known by its UUID, so that it stays the same under another name.
struct Tail {
    warehouse: Warehouse,
    reader: Reader,
    every: Interval,
    told: BTreeMap<uuid::Uuid, Told>,
    ready: VecDeque<Change>,
    is_stopped: bool,
}

impl Tail {
    async fn start(subject: Subject<'_>, reader: Reader, mode: SnapshotMode) -> Result<Self> {
        let warehouse = warehouse_of(subject.stack, subject.database).await?;
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (told, ready) = (BTreeMap::new(), VecDeque::new());
        let mut tail = Self { warehouse, reader, every, told, ready, is_stopped: false };
        for ident in tail.warehouse.tables().await? {
            let table = tail.warehouse.table(&ident).await?;
            let snapshot = table.metadata().current_snapshot();
            if let Some(snapshot) = snapshot.filter(|_| mode == SnapshotMode::Initial && ident != fence()) {
                tail.ready.extend(reads(&table, snapshot).await?);
            }
            let shape = Some(shape(table.metadata().current_schema()));
            let told = Told { name: name_of(&ident), snapshot: snapshot.map(|snapshot| snapshot.snapshot_id()), shape };
            tail.told.insert(table.metadata().uuid(), told);
        }
        Ok(tail)
    }

    /// Looks for new snapshots. The fences' table is taken as it was before all others were looked at: what was committed
    /// before a fence is then told before it. What was found is told once all of it has been read, so that a look that is cut
    /// short loses nothing.
    async fn look(&mut self) -> Result<()> {
        let fence = fence();
        let fences = self.warehouse.table(&fence).await?;
        let mut found = Vec::new();
        let mut told = Vec::new();
        for ident in self.warehouse.tables().await? {
            if ident != fence {
                let table = self.warehouse.table(&ident).await?;
                self.look_at(&table, self.reader, &mut found, &mut told).await?;
            }
        }
        self.look_at(&fences, Reader::Rows, &mut found, &mut told).await?;
        self.ready.extend(found);
        self.told.extend(told);
        Ok(())
    }

    async fn look_at(
        &self,
        table: &Table,
        reader: Reader,
        found: &mut Vec<Change>,
        told: &mut Vec<(uuid::Uuid, Told)>,
    ) -> Result<()> {
        let uuid = table.metadata().uuid();
        let Some(current) = table.metadata().current_snapshot() else { return Ok(()) };
        let name = name_of(table.identifier());
        let before = self.told.get(&uuid).cloned();
        let mut now = before.unwrap_or_else(|| Told { name: name.clone(), snapshot: None, shape: None });
        if now.snapshot == Some(current.snapshot_id()) {
            return Ok(());
        }
        match reader {
            Reader::Rows => {
                let rollback = rolled_back(table, now.snapshot, current);
                let mut batches = Since::new(table, now.snapshot, current).scan().stream();
                while let Some(batch) = batches.next().await {
                    let batch = batch?;
                    let mut rows = changes(&batch, &name)?;
                    for change in &mut rows {
                        change.tx = rollback.clone().or(change.tx.take());
                    }
                    let shape = shape(&batch.schema);
                    if let (Some(first), Some(old)) = (rows.first(), now.shape.replace(shape.clone()))
                        && (old.iter().ne(shape.iter()) || now.name != name)
                    {
                        found.push(Change {
                            op: Op::Schema,
                            key: Row::default(),
                            before: Some(old),
                            after: Some(shape),
                            renamed_from: Some(&now.name).filter(|old| **old != name).cloned(),
                            ..first.clone()
                        });
                    }
                    now.name = name.clone();
                    found.extend(rows);
                }
            }
            Reader::Files => files_told(table, now.snapshot, current, &name, found).await?,
        }
        now.snapshot = Some(current.snapshot_id());
        told.push((uuid, now));
        Ok(())
    }
}

/// A name for what a rollback took back, if there was one: the snapshot that was told is no ancestor of the present one. No
/// snapshot stands for that, so the difference is told as one commit.
fn rolled_back(table: &Table, told: Option<i64>, current: &SnapshotRef) -> Option<TxId> {
    let since = Since::new(table, told, current);
    let name = |told| TxId::new(format!("{told} back to {}", current.snapshot_id()));
    told.filter(|_| since.is_rollback).map(name)
}

async fn reads(table: &Table, at: &SnapshotRef) -> Result<Vec<Change>> {
    let name = name_of(table.identifier());
    let key = crate::types::key_of(table.metadata().current_schema());
    let rows = read_rows(table, at).await?.into_iter();
    let read = |row: Row| Change {
        key: row.project(key.iter().map(String::as_str)),
        after: Some(row),
        ..Change::new(Op::Read, name.clone())
    };
    Ok(rows.map(read).collect())
}

/// What each snapshot since one that was told did to the files. A compaction does nothing to rows, and isn't told.
async fn files_told(
    table: &Table,
    from: Option<i64>,
    to: &SnapshotRef,
    name: &TableName,
    found: &mut Vec<Change>,
) -> Result<()> {
    let mut before = from.map(|from| snapshot(table, from)).transpose()?;
    let rollback = rolled_back(table, from, to);
    let range = if rollback.is_some() { vec![to.clone()] } else { between(table, from, to)? };
    for after in range {
        if rollback.is_some() || after.summary().operation != Operation::Replace {
            let diff = diff_files(table, before.as_ref(), &after).await?;
            found.push(Change {
                after: Some(told_files(&diff)),
                position: Some(Position::Snapshot(after.sequence_number())),
                tx: rollback.clone().or_else(|| Some(TxId::new(after.snapshot_id().to_string()))),
                commit_time_us: Some(after.timestamp_ms().saturating_mul(1000)),
                ..Change::new(Op::Files, name.clone())
            });
        }
        before = Some(after);
    }
    Ok(())
}

/// The files of a diff in words and numbers, and by how much the number of rows has changed: unknown where equality deletes
/// have a part in it, which may match any number of rows.
pub fn told_files(diff: &FilesDiff) -> Row {
    let mut row = Row::default();
    let is_equality = |file: &LiveFile| file.file.content_type() == DataContentType::EqualityDeletes;
    let has_equality = diff.added.iter().chain(&diff.removed).any(is_equality);
    let removes_data = diff.removed.iter().any(|file| file.file.content_type() == DataContentType::Data);
    let rows = |files: &[LiveFile]| -> i128 {
        let signed = files.iter().map(|file| match file.file.content_type() {
            DataContentType::Data => i128::from(file.file.record_count()),
            _ => -i128::from(file.file.record_count()),
        });
        signed.sum()
    };
    row.set(
        ROWS,
        if has_equality || (removes_data && diff.carried_delete_files > 0) {
            Value::Unavailable
        } else {
            Value::Int(rows(&diff.added) - rows(&diff.removed))
        },
    );
    for (what, files) in [("added", &diff.added), ("removed", &diff.removed)] {
        if !files.is_empty() {
            row.set(what, Value::Text(kinds(files)));
        }
    }
    row
}

/// How many files there are of each kind, and how many rows they hold or delete.
fn kinds(files: &[LiveFile]) -> String {
    let kind = |file: &LiveFile| match file.file.content_type() {
        DataContentType::Data => 0,
        DataContentType::PositionDeletes if file.is_deletion_vector() => 2,
        DataContentType::PositionDeletes => 1,
        DataContentType::EqualityDeletes => 3,
    };
    let names = ["data file", "position delete file", "deletion vector", "equality delete file"];
    let told = names.iter().enumerate().filter_map(|(number, name)| {
        let of_kind: Vec<_> = files.iter().filter(|file| kind(file) == number).collect();
        let rows: u64 = of_kind.iter().map(|file| file.file.record_count()).sum();
        let plural = if of_kind.len() == 1 { "" } else { "s" };
        (!of_kind.is_empty()).then(|| format!("{} {name}{plural} of {rows}", of_kind.len()))
    });
    told.collect::<Vec<_>>().join(", ")
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
        "it waits for new snapshots".to_owned()
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
