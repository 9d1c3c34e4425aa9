//! The changes between snapshots of a table, copy-on-write and merge-on-read: a changelog scan.
//!
//! For two snapshots the files that they differ in are read ([`crate::files`]), with what delete files say of their rows
//! before and after ([`crate::plan`]). A row that has gone with one file and come with another as it was has only been carried
//! over, and is not told. What is left of both sides under the same identifier fields is an update (specification, "Identifier
//! Field IDs").

use std::{collections::HashMap, sync::Arc};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::{filter::filter_record_batch, interleave::interleave_record_batch};
use changeproof::error::{Context, Error, Result};
use futures_util::stream::BoxStream;
use iceberg::{
    spec::{Operation, SchemaRef, SnapshotRef},
    table::Table,
};
use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::{
    SERVICE,
    deletes::Encoder,
    files::Manifests,
    guarded::streamed,
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
        let plan = plan(manifests, before, after, schema).await?;
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
        let plan = plan_rows(&manifests, &at, schema).await?;
        let comparison = Comparison { table: &table, plan: &plan, ordinal: 0, snapshot: &at, sender: &sender };
        comparison.tell_all(Kind::Insert).await
    })
}

/// Two snapshots being compared.
struct Comparison<'a> {
    table: &'a Table,
    plan: &'a Plan,
    ordinal: u32,
    snapshot: &'a SnapshotRef,
    sender: &'a Sender<Result<ChangeBatch>>,
}

/// The rows of one side that have no equal on the other, as far as that is known.
#[derive(Default)]
struct Side {
    batches: Vec<RecordBatch>,
}

/// Rows that have gone, by what they hold.
#[derive(Default)]
struct Gone {
    side: Side,
    /// The last row of each hash, as its place among `rows`, from 1.
    last: HashMap<u128, u32>,
    /// Each row's batch, its place there, and the row before it of the same hash.
    rows: Vec<(u32, u32, u32)>,
    is_carried: Vec<bool>,
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
            self.pass(pass, passes).await?;
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
                let rows = self.kept(&batch, if kind == Kind::Insert { marks.came } else { marks.gone })?;
                if rows.num_rows() > 0 {
                    self.tell(kind, rows).await?;
                }
            }
        }
        Ok(())
    }

    /// Compares the rows that are of one part of the hashes: rows that are the same, or have the same key, are of the same part.
    async fn pass(&self, pass: u64, passes: u64) -> Result<()> {
        let schema = &self.plan.schema;
        let key = key_columns(schema);
        let (mut marker, mut whole, mut keys) = (Marker::default(), Encoder::default(), Encoder::default());
        let (mut gone, mut came) = (Gone::default(), Side::default());
        for is_second in [false, true] {
            for work in &self.plan.work {
                if !(if is_second { work.may_insert() } else { work.may_delete() }) {
                    continue;
                }
                let mut batches = read(self.table, &work.file, &self.plan.read_schema).await?;
                let mut first = 0;
                while let Some(batch) = batches.next().await? {
                    let marks = marker.mark(work, &self.plan.read_schema, first, &batch)?;
                    first += rows_of(&batch);
                    let rows = self.kept(&batch, if is_second { marks.came } else { marks.gone })?;
                    let rows =
                        if passes == 1 { rows } else { of_pass(&rows, &key, &mut keys, &mut whole, pass, passes)? };
                    if rows.num_rows() == 0 {
                        continue;
                    }
                    let mut hashes = Vec::with_capacity(rows.num_rows());
                    whole.encode(&rows, 0..rows.num_columns(), |_, row| hashes.push(xxh3_128(row)))?;
                    if is_second {
                        let is_new: Vec<bool> = hashes.into_iter().map(|hash| !gone.carry(hash)).collect();
                        let rows = filtered(&rows, is_new)?;
                        came.batches.extend(Some(rows).filter(|rows| rows.num_rows() > 0));
                    } else {
                        gone.push(rows, &hashes)?;
                    }
                }
            }
        }
        self.tell_pairs(gone.left()?, came, &key).await
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

    /// The marked rows, without the columns that were read for comparison only.
    fn kept(&self, batch: &RecordBatch, marks: Vec<bool>) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.plan.schema.as_struct().fields().len()).collect();
        let batch = batch.project(&columns).while_doing(SERVICE, "leave columns out")?;
        if marks.iter().all(|mark| *mark) { Ok(batch) } else { filtered(&batch, marks) }
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

impl Gone {
    fn push(&mut self, batch: RecordBatch, hashes: &[u128]) -> Result<()> {
        let doing = "compare rows";
        let number = u32::try_from(self.side.batches.len()).while_doing(SERVICE, doing)?;
        for (row, hash) in (0..).zip(hashes) {
            let place = u32::try_from(self.rows.len() + 1).while_doing(SERVICE, doing)?;
            let previous = self.last.insert(*hash, place).unwrap_or(0);
            self.rows.push((number, row, previous));
        }
        self.is_carried.resize(self.rows.len(), false);
        self.side.batches.push(batch);
        Ok(())
    }

    /// Takes one of the rows of the hash for carried over, if there is one left.
    fn carry(&mut self, hash: u128) -> bool {
        let Some(last) = self.last.get_mut(&hash).filter(|last| **last > 0) else { return false };
        let at = *last as usize - 1;
        *last = self.rows[at].2;
        self.is_carried[at] = true;
        true
    }

    /// The rows that were not carried over.
    fn left(self) -> Result<Side> {
        let mut carried = self.is_carried.into_iter();
        let mut left = Side::default();
        for batch in self.side.batches {
            let keep: Vec<bool> = carried.by_ref().take(batch.num_rows()).map(|carried| !carried).collect();
            let rows = filtered(&batch, keep)?;
            left.batches.extend(Some(rows).filter(|rows| rows.num_rows() > 0));
        }
        Ok(left)
    }
}

impl Side {
    fn take(&self, rows: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        interleave_record_batch(&batches, rows).while_doing(SERVICE, "put rows together")
    }
}

fn filtered(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch> {
    filter_record_batch(batch, &BooleanArray::from(keep)).while_doing(SERVICE, "pick rows")
}

/// The rows whose hash is of one part: by the key, so that an update's two halves meet.
fn of_pass(
    rows: &RecordBatch,
    key: &[usize],
    keys: &mut Encoder,
    whole: &mut Encoder,
    pass: u64,
    passes: u64,
) -> Result<RecordBatch> {
    let mut is_of_it = Vec::with_capacity(rows.num_rows());
    let mut keep = |bytes: &[u8]| is_of_it.push(xxh3_64(bytes) % passes == pass);
    if key.is_empty() {
        whole.encode(rows, 0..rows.num_columns(), |_, row| keep(row))?;
    } else {
        keys.encode(rows, key.iter().copied(), |_, row| keep(row))?;
    }
    filtered(rows, is_of_it)
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
