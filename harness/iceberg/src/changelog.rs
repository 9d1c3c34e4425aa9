//! The changes between snapshots of a table, copy-on-write and merge-on-read: a changelog scan.
//!
//! For two snapshots the files that they differ in are read ([`crate::files`]), with what delete files say of their rows
//! before and after ([`crate::plan`]). A row that has gone with one file and come with another as it was has only been carried
//! over, and is not told. What is left of both sides under the same identifier fields is an update (specification, "Identifier
//! Field IDs").

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow_array::RecordBatch;
use changeproof::error::{Context, Error, Result};
use futures_util::stream::{BoxStream, StreamExt};
use iceberg::{
    spec::{Operation, SchemaRef, SnapshotRef},
    table::Table,
};
use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    SERVICE,
    carried::{Carried, Side, filtered},
    deletes::Encoder,
    files::Manifests,
    guarded::streamed,
    hashes::RowHasher,
    plan::{Marker, Plan, Work, plan, plan_rows},
    reading::read,
    snapshots::{between, snapshot},
    types::key_of,
};

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They came.
    Insert,
    /// They went.
    Delete,
    /// They hold something else under the same identifier.
    Update,
}

/// Rows to which the same happened in the same snapshot.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// What happened.
    pub kind: Kind,
    /// The rows before; none of inserts.
    pub before: Option<RecordBatch>,
    /// The rows after, of updates in the same order as before; none of deletes.
    pub after: Option<RecordBatch>,
    /// The place of the snapshot in the range, from 0, compactions not counted; the same for all in a net scan.
    pub ordinal: u32,
    /// The snapshot that changed them; the last one in a net scan.
    pub snapshot: SnapshotRef,
    /// Their columns: those of the snapshot's schema.
    pub schema: SchemaRef,
}

/// Compares with no more than about so much of the rows in memory unless told otherwise.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;

/// A row in memory takes about so many times the bytes that it takes in a compressed file.
const BYTES_IN_MEMORY_PER_BYTE: u64 = 6;

/// So many files are read and hashed side by side.
const FILES_READ_TOGETHER: usize = 4;

/// So many rows are told in a batch.
const BATCH_ROWS: usize = 8192;

/// A scan for the changes between two snapshots of a table.
#[derive(Clone, Debug)]
pub struct ChangelogScan {
    table: Table,
    from: Option<i64>,
    to: Option<i64>,
    is_net: bool,
    by_present_schema: bool,
    memory_limit_bytes: u64,
}

impl ChangelogScan {
    /// All changes from the table's beginning up to its present state, snapshot by snapshot.
    pub fn new(table: &Table) -> Self {
        Self {
            table: table.clone(),
            from: None,
            to: None,
            is_net: false,
            by_present_schema: false,
            memory_limit_bytes: MEMORY_LIMIT_BYTES,
        }
    }

    /// Only what was changed after this snapshot.
    #[must_use]
    pub fn after(mut self, snapshot_id: i64) -> Self {
        self.from = Some(snapshot_id);
        self
    }

    /// Only what was changed up to this snapshot and by it.
    #[must_use]
    pub fn up_to(mut self, snapshot_id: i64) -> Self {
        self.to = Some(snapshot_id);
        self
    }

    /// The difference between the two ends alone: what was changed several times is told once, and what was changed back not
    /// at all. The two need not be of one line: after a rollback this tells what it took back.
    #[must_use]
    pub fn net(mut self) -> Self {
        self.is_net = true;
        self
    }

    /// Tells all rows by the table's present columns; if not, those of each snapshot by its own.
    #[must_use]
    pub fn by_present_schema(mut self) -> Self {
        self.by_present_schema = true;
        self
    }

    /// How much of the rows may be in memory at a time, in bytes. If that is less than two snapshots differ in, the files are
    /// read several times.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit_bytes = bytes.max(1);
        self
    }

    /// The changes in the order of their snapshots; within one, deletes before updates before inserts.
    ///
    /// # Errors
    /// In the stream: a snapshot that is unknown, expired or no ancestor, a file that is missing or damaged.
    pub fn stream(self) -> BoxStream<'static, Result<ChangeBatch>> {
        streamed(|sender| async move { self.run(&sender).await })
    }

    async fn run(&self, sender: &Sender<Result<ChangeBatch>>) -> Result<()> {
        let manifests = Manifests::new(&self.table);
        let to = match self.to {
            Some(to) => snapshot(&self.table, to)?,
            None => match self.table.metadata().current_snapshot() {
                Some(current) => current.clone(),
                None => return Ok(()),
            },
        };
        if self.is_net {
            let from = self.from.map(|from| snapshot(&self.table, from)).transpose()?;
            return self.compare(&manifests, from.as_ref(), &to, 0, sender).await;
        }
        let mut before = self.from.map(|from| snapshot(&self.table, from)).transpose()?;
        let mut ordinal = 0;
        for after in between(&self.table, self.from, &to)? {
            // A compaction changes files and no rows (specification, "Snapshots", `operation`).
            if after.summary().operation != Operation::Replace {
                self.compare(&manifests, before.as_ref(), &after, ordinal, sender).await?;
                ordinal += 1;
            }
            before = Some(after);
        }
        Ok(())
    }

    async fn compare(
        &self,
        manifests: &Manifests<'_>,
        before: Option<&SnapshotRef>,
        after: &SnapshotRef,
        ordinal: u32,
        sender: &Sender<Result<ChangeBatch>>,
    ) -> Result<()> {
        let schema = match self.by_present_schema {
            true => Arc::clone(self.table.metadata().current_schema()),
            false => after.schema(self.table.metadata()).while_doing(SERVICE, "find the snapshot's schema")?,
        };
        let plan = Arc::new(plan(manifests, before, after, schema).await?);
        let comparison = Comparison { table: &self.table, plan: &plan, ordinal, snapshot: after, sender };
        comparison.run(self.memory_limit_bytes).await
    }
}

/// The rows of a table at a snapshot, batch by batch, deletes applied; by this schema.
///
/// # Errors
/// In the stream: a file that is missing or damaged.
pub fn rows_at(table: &Table, at: &SnapshotRef, schema: SchemaRef) -> BoxStream<'static, Result<ChangeBatch>> {
    let (table, at) = (table.clone(), at.clone());
    streamed(|sender| async move {
        let manifests = Manifests::new(&table);
        let plan = Arc::new(plan_rows(&manifests, &at, schema).await?);
        let comparison = Comparison { table: &table, plan: &plan, ordinal: 0, snapshot: &at, sender: &sender };
        comparison.tell_all(Kind::Insert).await
    })
}

/// Two snapshots being compared.
struct Comparison<'a> {
    table: &'a Table,
    plan: &'a Arc<Plan>,
    ordinal: u32,
    snapshot: &'a SnapshotRef,
    sender: &'a Sender<Result<ChangeBatch>>,
}

impl Comparison<'_> {
    async fn run(&self, memory_limit_bytes: u64) -> Result<()> {
        let work = &self.plan.work;
        if !work.iter().any(Work::may_delete) {
            return self.tell_all(Kind::Insert).await;
        }
        if !work.iter().any(Work::may_insert) {
            return self.tell_all(Kind::Delete).await;
        }
        let bytes: u64 = work.iter().map(|work| work.file.file.file_size_in_bytes()).sum();
        let passes = (bytes * BYTES_IN_MEMORY_PER_BYTE).div_ceil(memory_limit_bytes).max(1);
        for pass in 0..passes {
            self.pass(Part { pass, passes }).await?;
        }
        Ok(())
    }

    /// Tells all rows that have come, or that have gone, where none can have been carried over.
    async fn tell_all(&self, kind: Kind) -> Result<()> {
        let mut marker = Marker::default();
        for work in &self.plan.work {
            let mut batches = read(self.table, &work.file, &self.plan.read_schema).await?;
            let mut first = 0;
            while let Some(batch) = batches.next().await? {
                let marks = marker.mark(work, &self.plan.read_schema, first, &batch)?;
                first += rows_of(&batch);
                let rows = kept(self.plan, &batch, if kind == Kind::Insert { marks.came } else { marks.gone })?;
                if rows.num_rows() > 0 {
                    self.tell(kind, rows).await?;
                }
            }
        }
        Ok(())
    }

    /// Compares the rows that are of one part of the hashes: rows that are the same, or have the same key, are of the same part.
    async fn pass(&self, part: Part) -> Result<()> {
        let mut carried = Carried::default();
        for side in [Kind::Delete, Kind::Insert] {
            let is_of_it = |work: &Work| if side == Kind::Delete { work.may_delete() } else { work.may_insert() };
            let of_it = (0..self.plan.work.len()).filter(|at| is_of_it(&self.plan.work[*at]));
            // Files are read and hashed side by side, and compared in their order.
            let mut waiting = of_it.map(|at| hashed(self.table.clone(), Arc::clone(self.plan), at, side, part));
            let mut reading: VecDeque<_> = waiting.by_ref().take(FILES_READ_TOGETHER).collect();
            while let Some(mut rows) = reading.pop_front() {
                while let Some(rows) = rows.next().await {
                    let (rows, hashes) = rows?;
                    match side {
                        Kind::Delete => carried.gone(rows, &hashes),
                        _ => carried.came(&rows, &hashes)?,
                    }
                }
                reading.extend(waiting.next());
            }
        }
        let (gone, came) = carried.left()?;
        self.tell_pairs(gone, came, &key_columns(&self.plan.schema)).await
    }

    /// Tells what is left of both sides: updates where the key is the same.
    async fn tell_pairs(&self, gone: Side, came: Side, key: &[usize]) -> Result<()> {
        let mut encoder = Encoder::default();
        let mut by_key: HashMap<Box<[u8]>, Vec<(usize, usize)>> = HashMap::new();
        if !key.is_empty() {
            for (number, batch) in gone.batches.iter().enumerate() {
                encoder.encode(batch, key.iter().copied(), |row, bytes| {
                    by_key.entry(bytes.into()).or_default().push((number, row));
                })?;
            }
        }
        let (mut updated, mut inserted) = (Vec::new(), Vec::new());
        for (number, batch) in came.batches.iter().enumerate() {
            if key.is_empty() {
                inserted.extend((0..batch.num_rows()).map(|row| (number, row)));
                continue;
            }
            encoder.encode(batch, key.iter().copied(), |row, bytes| {
                match by_key.get_mut(bytes).and_then(Vec::pop) {
                    Some(old) => updated.push((old, (number, row))),
                    None => inserted.push((number, row)),
                }
            })?;
        }
        let is_updated: std::collections::HashSet<(usize, usize)> = updated.iter().map(|(old, _)| *old).collect();
        let deleted = gone.batches.iter().enumerate();
        let deleted = deleted.flat_map(|(number, batch)| (0..batch.num_rows()).map(move |row| (number, row)));
        let deleted: Vec<_> = deleted.filter(|row| !is_updated.contains(row)).collect();
        for rows in deleted.chunks(BATCH_ROWS) {
            self.tell(Kind::Delete, gone.take(rows)?).await?;
        }
        for pairs in updated.chunks(BATCH_ROWS) {
            let (old, new): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let (before, after) = (gone.take(&old)?, came.take(&new)?);
            self.send(Kind::Update, Some(before), Some(after)).await?;
        }
        for rows in inserted.chunks(BATCH_ROWS) {
            self.tell(Kind::Insert, came.take(rows)?).await?;
        }
        Ok(())
    }

    async fn tell(&self, kind: Kind, rows: RecordBatch) -> Result<()> {
        match kind {
            Kind::Delete => self.send(kind, Some(rows), None).await,
            _ => self.send(kind, None, Some(rows)).await,
        }
    }

    async fn send(&self, kind: Kind, before: Option<RecordBatch>, after: Option<RecordBatch>) -> Result<()> {
        let (ordinal, snapshot, schema) = (self.ordinal, self.snapshot.clone(), Arc::clone(&self.plan.schema));
        let sent = self.sender.send(Ok(ChangeBatch { kind, before, after, ordinal, snapshot, schema })).await;
        sent.map_err(|_| Error::new(SERVICE, "tell changes", "nobody reads them any more"))
    }
}

/// The marked rows, without the columns that were read for comparison only.
fn kept(plan: &Plan, batch: &RecordBatch, marks: Vec<bool>) -> Result<RecordBatch> {
    let columns: Vec<usize> = (0..plan.schema.as_struct().fields().len()).collect();
    let batch = batch.project(&columns).while_doing(SERVICE, "leave columns out")?;
    if marks.iter().all(|mark| *mark) { Ok(batch) } else { filtered(&batch, marks) }
}

/// The rows of a file that have gone, or come, and that are of a part; with their hashes.
fn hashed(
    table: Table,
    plan: Arc<Plan>,
    at: usize,
    side: Kind,
    part: Part,
) -> BoxStream<'static, Result<(RecordBatch, Vec<u128>)>> {
    streamed(move |sender| async move {
        let (work, key) = (&plan.work[at], key_columns(&plan.schema));
        let (mut marker, mut hasher) = (Marker::default(), RowHasher::default());
        let mut encoder = Encoder::default();
        let mut batches = read(&table, &work.file, &plan.read_schema).await?;
        let mut first = 0;
        while let Some(batch) = batches.next().await? {
            let marks = marker.mark(work, &plan.read_schema, first, &batch)?;
            first += rows_of(&batch);
            let rows = kept(&plan, &batch, if side == Kind::Delete { marks.gone } else { marks.came })?;
            let rows = part.of(rows, &key, &mut encoder)?;
            if rows.num_rows() > 0 {
                let hashes = hasher.hash(&rows)?;
                // Whoever has stopped to read has stopped the scan.
                let _ = sender.send(Ok((rows, hashes))).await;
            }
        }
        Ok(())
    })
}

/// One of several parts of the rows, for which there is memory at a time.
#[derive(Clone, Copy, Debug)]
struct Part {
    pass: u64,
    passes: u64,
}

impl Part {
    /// The rows of the part: by their key, so that an update's two halves meet, or by all they hold.
    fn of(self, rows: RecordBatch, key: &[usize], encoder: &mut Encoder) -> Result<RecordBatch> {
        if self.passes == 1 {
            return Ok(rows);
        }
        let mut is_of_it = Vec::with_capacity(rows.num_rows());
        let whole: Vec<usize> = (0..rows.num_columns()).collect();
        let columns = if key.is_empty() { &whole } else { key };
        encoder.encode(&rows, columns.iter().copied(), |_, bytes| {
            is_of_it.push(xxh3_64(bytes) % self.passes == self.pass);
        })?;
        filtered(&rows, is_of_it)
    }
}

/// The places of the identifier fields among a schema's columns.
fn key_columns(schema: &SchemaRef) -> Vec<usize> {
    let names = key_of(schema);
    let fields = schema.as_struct().fields().iter().enumerate();
    fields.filter(|(_, field)| names.contains(&field.name)).map(|(at, _)| at).collect()
}

fn rows_of(batch: &RecordBatch) -> u64 {
    u64::try_from(batch.num_rows()).unwrap_or(u64::MAX)
}
