//! What scans of Apache Iceberg cost.
//!
//! - *changelog*: the changes of a commit that rewrote 1,000,000 rows copy-on-write and changed 10,000 of them, or deleted them,
//!   against a plain read of the same Parquet files (the floor), and the former against Spark's `create_changelog_view` too if
//!   it is asked for;
//! - *appends*: the same of a commit that added 1,000,000 rows, also against PyIceberg;
//! - *lag*: how long a commit takes to arrive at a tail;
//! - *manifests*: which files a commit added, in tables of 10 to 10,000 files.

#[path = "../../shared/events.rs"]
mod events;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use changeproof::{
    error::{Context, Error, Result},
    schema::Type,
    script::{Action, TableBuilder},
    source::Source as _,
};
use changeproof_iceberg::{
    ChangelogScan, ChangelogTail, Commit, FilesDelta, Source, TableChange, TailEvent, commit_of, diff_files, ident,
    snapshot, write_batch,
};
use futures_util::{StreamExt, stream::BoxStream};
use iceberg::{
    arrow::schema_to_arrow_schema,
    spec::{DataContentType, DataFileBuilder, DataFileFormat, Struct},
    table::Table,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use self::events::name;

/// Rows of the table.
pub const ROWS: i64 = 1_000_000;

/// Rows that the commit changed: one in a hundred, in every file.
pub const CHANGED: i64 = ROWS / 100;

const FILES: i64 = 8;

/// So often a tail looks for new commits.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a commit did to one row in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Another value stands in it.
    Changed,
    /// It is not there any more.
    Deleted,
    /// Nothing; as many rows came beside them.
    Appended,
}

/// A table of which one commit has rewritten every file.
pub struct Rewritten {
    source: Source,
    before: i64,
    after: i64,
    files: Vec<String>,
}

impl Rewritten {
    /// Makes the table in a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub async fn create(folder: &Path, rewrite: Rewrite) -> Result<Self> {
        let mut source = Source::create(folder).await?;
        source.apply(&Action::CreateTable(events::table()).into()).await?;
        let first = source.warehouse().commit(&ident(&name()), &Write { rewrite: None }).await?;
        let second = source.warehouse().commit(&ident(&name()), &Write { rewrite: Some(rewrite) }).await?;
        let id = |table: &Table| table.metadata().current_snapshot_id().unwrap_or_default();
        let (before, after) = (id(&first), id(&second));
        let diff = diff_files(&second, Some(&snapshot(&second, before)?), &snapshot(&second, after)?).await?;
        let files = diff.added.iter().chain(&diff.removed).map(|file| file.file.file_path().to_owned()).collect();
        Ok(Self { source, before, after, files })
    }

    /// The snapshot before the commit, and that of it.
    pub fn snapshots(&self) -> (i64, i64) {
        (self.before, self.after)
    }

    /// Scans for the changes and returns their number.
    ///
    /// # Errors
    /// A file can't be read.
    pub async fn scan(&self) -> Result<usize> {
        let table = self.source.warehouse().table(&ident(&name())).await?;
        let mut batches = ChangelogScan::new(&table).after(self.before).up_to(self.after).stream();
        let mut changes = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            changes += batch.after.or(batch.before).map_or(0, |rows| rows.num_rows());
        }
        Ok(changes)
    }

    /// Reads the files that the commit added and removed, and nothing else; returns the number of their rows.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn read(&self) -> Result<usize> {
        let doing = "read a file";
        let mut rows = 0;
        for path in &self.files {
            let path = path.trim_start_matches("file://");
            let file = std::fs::File::open(path).while_doing("the floor", doing)?;
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).while_doing("the floor", doing)?;
            for batch in builder.with_batch_size(8192).build().while_doing("the floor", doing)? {
                rows += batch.while_doing("the floor", doing)?.num_rows();
            }
        }
        Ok(rows)
    }
}

/// Writes all rows, or all of them anew but for one in a hundred.
struct Write {
    rewrite: Option<Rewrite>,
}

#[async_trait]
impl TableChange for Write {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let mut delta = FilesDelta::default();
        let is_appended = self.rewrite == Some(Rewrite::Appended);
        if let Some(current) = table.metadata().current_snapshot().filter(|_| !is_appended) {
            delta.removed = diff_files(table, None, current).await?.added;
        }
        let first = if is_appended { ROWS } else { 0 };
        for file in 0..FILES {
            let range = first + ROWS / FILES * file..first + ROWS / FILES * (file + 1);
            delta.added.extend(write_batch(table, &rows(table, range, self.rewrite)?).await?);
        }
        commit_of(table, &delta).await.map(Some)
    }
}

fn rows(table: &Table, ids: std::ops::Range<i64>, rewrite: Option<Rewrite>) -> Result<RecordBatch> {
    let schema = schema_to_arrow_schema(table.metadata().current_schema()).while_doing("the bench", "make rows")?;
    let ids = ids.filter(|id| rewrite != Some(Rewrite::Deleted) || id % 100 > 0);
    let columns = events::columns(&ids, |id| rewrite == Some(Rewrite::Changed) && id % 100 == 0);
    RecordBatch::try_new(Arc::new(schema), columns).while_doing("the bench", "make rows")
}

/// A table that grows, and a tail of its changes.
pub struct Growing {
    source: Source,
    next: i64,
    events: BoxStream<'static, Result<TailEvent>>,
}

impl Growing {
    /// Makes the table in a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub async fn create(folder: &Path) -> Result<Self> {
        let mut source = Source::create(folder).await?;
        source.apply(&Action::CreateTable(events::table()).into()).await?;
        let warehouse = source.warehouse().clone();
        let now = move || {
            let warehouse = warehouse.clone();
            async move { warehouse.table(&ident(&name())).await }
        };
        Ok(Self { source, next: 0, events: ChangelogTail::new(now).every(LOOK_EVERY).stream() })
    }

    /// Appends rows by one commit, and returns when it was made.
    ///
    /// # Errors
    /// A file can't be written.
    pub async fn append(&mut self, count: usize) -> Result<Instant> {
        let end = self.next + i64::try_from(count).while_doing("the bench", "count rows")?;
        let range = std::mem::replace(&mut self.next, end)..end;
        self.source.warehouse().commit(&ident(&name()), &Append { range }).await?;
        Ok(Instant::now())
    }

    /// Follows the tail until so many rows have come, and returns how many did.
    ///
    /// # Errors
    /// A file can't be read, or the tail ends.
    pub async fn follow(&mut self, count: usize) -> Result<usize> {
        let mut rows = 0;
        while rows < count {
            match self.events.next().await {
                Some(event) => {
                    if let TailEvent::Changes(batch) = event? {
                        rows += batch.after.map_or(0, |rows| rows.num_rows());
                    }
                }
                None => return Err(Error::new("the bench", "follow the table", "the tail ended")),
            }
        }
        Ok(rows)
    }
}

struct Append {
    range: std::ops::Range<i64>,
}

#[async_trait]
impl TableChange for Append {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let added = write_batch(table, &rows(table, self.range.clone(), None)?).await?;
        commit_of(table, &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}

/// A table of so many files, to which one was added. Only its metadata are real: nothing else is read.
pub struct Listed {
    table: Table,
    before: i64,
    after: i64,
}

impl Listed {
    /// Makes the table in a folder.
    ///
    /// # Errors
    /// A manifest can't be written.
    pub async fn create(folder: &Path, files: usize) -> Result<Self> {
        let mut source = Source::create(folder).await?;
        let table = TableBuilder::new(name()).key("id", Type::BigInt).build();
        source.apply(&Action::CreateTable(table).into()).await?;
        let first = source.warehouse().commit(&ident(&name()), &List { files }).await?;
        let table = source.warehouse().commit(&ident(&name()), &List { files: 1 }).await?;
        let id = |table: &Table| table.metadata().current_snapshot_id().unwrap_or_default();
        Ok(Self { before: id(&first), after: id(&table), table })
    }

    /// Which files the last commit added: how many, and how many manifests were read for it.
    ///
    /// # Errors
    /// A manifest can't be read.
    pub async fn diff(&self) -> Result<(usize, usize)> {
        let (before, after) = (snapshot(&self.table, self.before)?, snapshot(&self.table, self.after)?);
        let diff = diff_files(&self.table, Some(&before), &after).await?;
        match diff.removed.len() {
            0 => Ok((diff.added.len(), diff.manifests_read)),
            removed => Err(Error::new("the bench", "diff the manifests", format!("{removed} files went"))),
        }
    }
}

struct List {
    files: usize,
}

#[async_trait]
impl TableChange for List {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let file = |number: usize| {
            let sequence = table.metadata().next_sequence_number();
            let file = DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(format!("{}/data/{sequence}-{number}.parquet", table.metadata().location()))
                .file_format(DataFileFormat::Parquet)
                .file_size_in_bytes(1 << 20)
                .record_count(10_000)
                .partition(Struct::empty())
                .partition_spec_id(0)
                .build();
            Ok((file.while_doing("the bench", "describe a file")?, 0))
        };
        let added = (0..self.files).map(file).collect::<Result<Vec<_>>>()?;
        commit_of(table, &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}
