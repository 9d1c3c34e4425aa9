//! Compaction: small data files become one, and delete files go with the rows that they delete. No row changes.
//!
//! The rows of a snapshot are rewritten while others go on writing. What is made of its files has that snapshot's sequence number, so
//! that equality deletes which were committed since apply to it as they did to the files before it (specification, "Sequence
//! Numbers"; what Spark's `rewrite_data_files` does by `use-starting-sequence-number`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;
use changeproof::error::{Context, Error, Result};
use futures_util::StreamExt;
use iceberg::{
    TableIdent,
    spec::{DataContentType, DataFile},
    table::Table,
    writer::file_writer::FileWriter,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    SERVICE,
    changelog::rows_by,
    deletes::{Encoder, may_apply},
    files::{FileIdentity, LiveFile, Manifests},
    guarded::told,
    plan::{applies, is_unpartitioned, plan_files},
    reading::{columns_of, read, with_columns},
    rolling::{RowWriter, TARGET_BYTES, in_schema_of},
    snapshots::ancestors,
    warehouse::{Commit, TableChange, Warehouse},
    writer::{FilesDelta, commit_by, finish, parquet_writer},
};

/// A data file below this size is one of those that a compaction of small files makes one of (Spark's `min-file-size-bytes`: three
/// quarters of what files grow to).
pub const SMALL_BYTES: u64 = (TARGET_BYTES as u64) / 4 * 3;

/// Large files are rewritten too when equality deletes have so many keys to each of their rows: until then it is less work to read the
/// deletes with them.
const DELETES_PER_ROW: (u64, u64) = (1, 4);

/// How many files a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Data files.
    pub data: u64,
    /// Delete files.
    pub deletes: u64,
}

/// Files that were made of others of a table, and are to take their place.
#[derive(Debug)]
pub struct Rewritten {
    uuid: Uuid,
    /// The snapshot whose files they were, and by which schema they are written.
    snapshot: Option<i64>,
    schema: i32,
    delta: FilesDelta,
    /// The position delete files that they were made by.
    known: BTreeSet<FileIdentity>,
    /// How many files the table has then, but for those that have come since.
    pub left: FileCounts,
}

/// Files being rewritten; the work ends if this is dropped.
#[derive(Debug)]
pub struct Rewriting {
    task: JoinHandle<Result<Rewritten>>,
}

impl Rewriting {
    /// Begins to make one of the data files of a table that are smaller than `small_below`, in bytes, and one of the delete files that
    /// apply to the same of the others.
    pub fn begin(table: &Table, small_below: u64) -> Self {
        let table = table.clone();
        Self { task: tokio::spawn(async move { rewrite(&table, Extent::Below(small_below)).await }) }
    }

    /// Waits until the files are written. To commit them is the caller's. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub async fn end(&mut self) -> Result<Rewritten> {
        (&mut self.task).await.unwrap_or_else(|error| Err(told(error)))
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rewrites all data files of a table as few, and drops the delete files. If other writers have removed files of it meanwhile, or changed
/// its schema, nothing changes.
///
/// # Errors
/// A file can't be read or written.
pub async fn compact(warehouse: &Warehouse, table: &TableIdent) -> Result<()> {
    let rewritten = rewrite(&warehouse.table(table).await?, Extent::All).await?;
    warehouse.commit(table, &rewritten).await.map(drop)
}

#[async_trait]
impl TableChange for Rewritten {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let metadata = table.metadata();
        // Readers take the schema of the snapshot that a file comes with for that of the file.
        let is_same = metadata.uuid() == self.uuid && metadata.current_schema_id() == self.schema;
        let Some(current) = metadata.current_snapshot().filter(|_| is_same) else { return Ok(None) };
        // After a rollback the deletes that went may apply again.
        let is_ahead = ancestors(metadata, current).any(|known| Some(known.snapshot_id()) == self.snapshot);
        if self.delta.removed.is_empty() || !is_ahead {
            return Ok(None);
        }
        let manifests = Manifests::new(table);
        let (data, deletes) = manifests.of_both_kinds(current).await?;
        let there: BTreeSet<FileIdentity> = data.iter().chain(&deletes).map(LiveFile::identity).collect();
        // Positions are those of rows in the files that go.
        let is_new = |delete: &&LiveFile| !is_by_values(delete) && !self.known.contains(&delete.identity());
        let is_touched = |delete: &LiveFile| {
            let mut gone = self.delta.removed.iter().filter(|file| is_data(file));
            gone.any(|data| may_apply(delete, data, is_unpartitioned(table, delete)))
        };
        let is_overtaken = !self.delta.removed.iter().all(|file| there.contains(&file.identity()))
            || deletes.iter().filter(is_new).any(is_touched);
        if is_overtaken { Ok(None) } else { commit_by(&manifests, &self.delta).await.map(Some) }
    }
}

fn is_data(file: &LiveFile) -> bool {
    file.file.content_type() == DataContentType::Data
}

fn is_by_values(delete: &LiveFile) -> bool {
    delete.file.content_type() == DataContentType::EqualityDeletes
}

async fn rewrite(table: &Table, extent: Extent) -> Result<Rewritten> {
    let (uuid, schema) = (table.metadata().uuid(), table.metadata().current_schema_id());
    let Some(current) = table.metadata().current_snapshot() else {
        let (delta, known, left) = (FilesDelta::default(), BTreeSet::new(), FileCounts::default());
        return Ok(Rewritten { uuid, snapshot: None, schema, delta, known, left });
    };
    let snapshot = Some(current.snapshot_id());
    let manifests = Manifests::new(table);
    let (data, deletes) = manifests.of_both_kinds(current).await?;
    let known = deletes.iter().filter(|delete| !is_by_values(delete)).map(LiveFile::identity).collect();
    let choice = Choice::of(table, data, &deletes, extent);

    let mut rewritten = Vec::new();
    if !choice.small.is_empty() {
        let columns = table.metadata().current_schema();
        let plan = plan_files(&manifests, &choice.small, &deletes, columns.clone()).await?;
        let (mut rows, mut writer) = (rows_by(table, current, plan), RowWriter::new(table)?);
        while let Some(batch) = rows.next().await {
            if let Some(after) = &batch?.after {
                writer.write_batch(in_schema_of(table, after)?).await?;
            }
        }
        let files = writer.finish().await?;
        rewritten.extend(files.into_iter().map(|(file, spec_id)| (file, spec_id, current.sequence_number())));
    }
    let (made, merged) = (rewritten.len(), choice.merged.len());
    for group in &choice.merged {
        rewritten.push(merge_deletes(table, group).await?);
    }
    let left = FileCounts { data: count(choice.large + made), deletes: count(choice.others + merged) };
    let removed = choice.small.into_iter().chain(choice.done).chain(choice.merged.into_iter().flatten()).collect();
    let delta = FilesDelta { rewritten, removed, is_replacement: true, ..FilesDelta::default() };
    Ok(Rewritten { uuid, snapshot, schema, delta, known, left })
}

fn count(files: usize) -> u64 {
    u64::try_from(files).unwrap_or(u64::MAX)
}

/// Which data files are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    All,
    /// Those that are smaller than this, in bytes; but not a single one of which no row is deleted.
    Below(u64),
}

/// What becomes of a table's files.
#[derive(Debug, Default)]
struct Choice {
    /// Data files whose rows are written anew.
    small: Vec<LiveFile>,
    /// Delete files that then apply to nothing.
    done: Vec<LiveFile>,
    /// Equality delete files of each of which one is made: they compare the same columns, and apply to the same of the other data files.
    merged: Vec<Vec<LiveFile>>,
    /// How many data files and delete files stay as they are.
    large: usize,
    others: usize,
    /// How many rows the former have, and at least how many of different keys the equality deletes that apply to them.
    large_rows: u64,
    deleted_rows: u64,
}

impl Choice {
    fn of(table: &Table, data: Vec<LiveFile>, deletes: &[LiveFile], extent: Extent) -> Self {
        let Extent::Below(small_below) = extent else { return Self::between(table, data, &[], deletes) };
        let (mut small, mut large): (Vec<_>, Vec<_>) =
            data.into_iter().partition(|file| file.file.file_size_in_bytes() < small_below);
        let is_whole = |file: &LiveFile| !deletes.iter().any(|delete| applies(table, delete, file));
        if small.len() == 1 && small.iter().all(is_whole) {
            large.append(&mut small);
        }
        let choice = Self::between(table, small, &large, deletes);
        let (deletes_of, rows) = DELETES_PER_ROW;
        if choice.deleted_rows * rows <= choice.large_rows * deletes_of {
            return choice;
        }
        let all = choice.small.into_iter().chain(large).collect();
        Self::between(table, all, &[], deletes)
    }

    fn between(table: &Table, small: Vec<LiveFile>, large: &[LiveFile], deletes: &[LiveFile]) -> Self {
        let mut choice = Self { small, large: large.len(), ..Self::default() };
        choice.large_rows = large.iter().map(|file| file.file.record_count()).sum();
        let mut numbers: Vec<i64> = large.iter().map(|file| file.sequence_number).collect();
        numbers.sort_unstable();
        let mut alike: BTreeMap<_, Vec<LiveFile>> = BTreeMap::new();
        for delete in deletes {
            if !large.iter().any(|data| applies(table, delete, data)) {
                choice.done.push(delete.clone());
            } else if is_by_values(delete) && is_unpartitioned(table, delete) {
                let older = numbers.partition_point(|number| *number < delete.sequence_number);
                alike.entry((older, delete.spec_id, delete.file.equality_ids())).or_default().push(delete.clone());
            } else {
                choice.others += 1;
            }
        }
        for group in alike.into_values() {
            // Two commits may delete by the same keys.
            choice.deleted_rows += group.iter().map(|delete| delete.file.record_count()).max().unwrap_or_default();
            if group.len() > 1 {
                choice.merged.push(group);
            } else {
                choice.others += 1;
            }
        }
        choice
    }
}

/// Writes one equality delete file of several, each of its rows once, with the greatest of their sequence numbers.
async fn merge_deletes(table: &Table, files: &[LiveFile]) -> Result<(DataFile, i32, i64)> {
    let doing = "put delete files together";
    let nothing = || Error::new(SERVICE, doing, "there is none");
    let (first, number) = files.first().zip(files.iter().map(|file| file.sequence_number).max()).ok_or_else(nothing)?;
    let ids = first.file.equality_ids().unwrap_or_default();
    let columns = columns_of(&with_columns(table, table.metadata().current_schema(), &ids)?, &ids)?;
    let (mut encoder, mut known) = (Encoder::default(), HashSet::<Box<[u8]>>::new());
    let mut writer = parquet_writer(table, &columns).await?;
    for file in files {
        let mut batches = read(table, file, &columns).await?;
        while let Some(batch) = batches.next().await? {
            let mut is_new = vec![false; batch.num_rows()];
            encoder.encode(&batch, 0..batch.num_columns(), |at, row| is_new[at] = known.insert(row.into()))?;
            let new = filter_record_batch(&batch, &BooleanArray::from(is_new)).while_doing(SERVICE, doing)?;
            writer.write(&new).await.while_doing(SERVICE, doing)?;
        }
    }
    let mut written = writer.close().await.while_doing(SERVICE, doing)?;
    let mut file = written.pop().ok_or_else(nothing)?;
    file.content(DataContentType::EqualityDeletes)
        .equality_ids(Some(ids))
        .partition(first.file.partition().clone())
        .partition_spec_id(first.spec_id);
    Ok((finish(&file)?, first.spec_id, number))
}

#[cfg(test)]
pub(crate) mod tests;
