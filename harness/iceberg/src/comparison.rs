//! Two snapshots being compared, and their changes being told.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use arrow_array::RecordBatch;
use changeproof::error::{Error, Result};
use futures_util::stream::{BoxStream, StreamExt};
use iceberg::{spec::SnapshotRef, table::Table};
use tokio::sync::mpsc::Sender;

use crate::{
    SERVICE,
    carried::{Carried, Side},
    changelog::{ChangeBatch, Kind},
    deletes::Encoder,
    pairs::pairs,
    plan::{Plan, Work},
    rows::{Left, Part, key_columns, left_of_pair, left_of_side, rows_of_side},
};

/// A row in memory takes about so many times the bytes that it takes in a compressed file.
const BYTES_IN_MEMORY_PER_BYTE: u64 = 6;

/// So many files, or pairs of them, are read and compared side by side.
const READ_TOGETHER: usize = 4;

/// So many rows are told in a batch.
const BATCH_ROWS: usize = 8192;

/// Two snapshots being compared.
pub(crate) struct Comparison<'a> {
    pub(crate) table: &'a Table,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) ordinal: u32,
    pub(crate) snapshot: &'a SnapshotRef,
    pub(crate) sender: &'a Sender<Result<ChangeBatch>>,
}

impl Comparison<'_> {
    pub(crate) async fn run(&self, memory_limit_bytes: u64) -> Result<()> {
        let work = &self.plan.work;
        if !work.iter().any(Work::may_delete) {
            return self.tell_all(Kind::Insert).await;
        }
        if !work.iter().any(Work::may_insert) {
            return self.tell_all(Kind::Delete).await;
        }
        let pairs = pairs(work);
        let bytes: u64 = work.iter().map(|work| work.file.file.file_size_in_bytes()).sum();
        let passes = (bytes * BYTES_IN_MEMORY_PER_BYTE).div_ceil(memory_limit_bytes).max(1);
        // Of files that hold mostly the same in the same order little is left to be held in memory.
        if passes > 1 && !pairs.is_empty() && self.pass(&pairs, Part::WHOLE, memory_limit_bytes).await? {
            return Ok(());
        }
        for pass in 0..passes {
            self.pass(&pairs, Part { pass, passes }, u64::MAX).await?;
        }
        Ok(())
    }

    /// Tells all rows that have come, or that have gone, where none can have been carried over.
    pub(crate) async fn tell_all(&self, kind: Kind) -> Result<()> {
        for at in 0..self.plan.work.len() {
            let mut rows = rows_of_side(self.table.clone(), Arc::clone(self.plan), at, kind);
            while let Some(rows) = rows.next().await {
                self.tell(kind, rows?).await?;
            }
        }
        Ok(())
    }

    /// Compares the rows that are of one part, and tells their changes; whether there was memory enough for them.
    async fn pass(&self, pairs: &[(usize, usize)], part: Part, memory_limit_bytes: u64) -> Result<bool> {
        let (table, plan) = (self.table, self.plan);
        let paired: &HashSet<usize> = &pairs.iter().flat_map(|(gone, came)| [*gone, *came]).collect();
        let of_side = |side: Kind| {
            let alone = (0..plan.work.len()).filter(move |at| !paired.contains(at) && plan.work[*at].may(side));
            alone.map(move |at| left_of_side(table.clone(), Arc::clone(plan), at, side, part))
        };
        let of_pairs = pairs.iter().map(|pair| left_of_pair(table.clone(), Arc::clone(plan), *pair, part));

        let (mut carried, mut came, mut held_bytes) = (Carried::default(), Vec::new(), 0);
        let mut left = Together::new(of_pairs.chain(of_side(Kind::Delete)));
        while let Some(Left { side, rows, hashes }) = left.next().await? {
            held_bytes += u64::try_from(rows.get_array_memory_size()).unwrap_or(u64::MAX);
            if held_bytes > memory_limit_bytes {
                return Ok(false);
            }
            match side {
                Kind::Delete => carried.gone(rows, &hashes),
                _ => came.push((rows, hashes)),
            }
        }
        for (rows, hashes) in came {
            carried.came(&rows, &hashes)?;
        }
        let mut left = Together::new(of_side(Kind::Insert));
        while let Some(Left { rows, hashes, .. }) = left.next().await? {
            held_bytes += u64::try_from(rows.get_array_memory_size()).unwrap_or(u64::MAX);
            if held_bytes > memory_limit_bytes {
                return Ok(false);
            }
            carried.came(&rows, &hashes)?;
        }
        let (gone, came) = carried.left()?;
        self.tell_pairs(gone, came, &key_columns(&self.plan.schema)).await?;
        Ok(true)
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
        let is_updated: HashSet<(usize, usize)> = updated.iter().map(|(old, _)| *old).collect();
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

/// Files that are read side by side, and whose rows come in their order.
struct Together<I> {
    waiting: I,
    reading: VecDeque<BoxStream<'static, Result<Left>>>,
}

impl<I: Iterator<Item = BoxStream<'static, Result<Left>>>> Together<I> {
    fn new(mut waiting: I) -> Self {
        let reading = waiting.by_ref().take(READ_TOGETHER).collect();
        Self { waiting, reading }
    }

    async fn next(&mut self) -> Result<Option<Left>> {
        while let Some(first) = self.reading.front_mut() {
            if let Some(left) = first.next().await {
                return left.map(Some);
            }
            self.reading.pop_front();
            self.reading.extend(self.waiting.next());
        }
        Ok(None)
    }
}
