//! The changes between snapshots of a table, copy-on-write and merge-on-read: a changelog scan.
//!
//! For two snapshots the files that they differ in are read ([`crate::files`]), with what delete files say of their rows
//! before and after ([`crate::plan`]). A row that has gone with one file and come with another as it was has only been carried
//! over, and is not told. What is left of both sides under the same identifier fields is an update (specification, "Identifier
//! Field IDs").

use std::sync::Arc;

use arrow_array::RecordBatch;
use changeproof::error::{Context, Result};
use futures_util::stream::BoxStream;
use iceberg::{
    expr::Predicate,
    spec::{Operation, SchemaRef, SnapshotRef},
    table::Table,
};
use tokio::sync::mpsc::Sender;

use crate::{
    SERVICE,
    comparison::Comparison,
    files::Manifests,
    filter::Filter,
    guarded::streamed,
    plan::{Plan, plan, plan_rows},
    snapshots::{between, snapshot},
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

/// A scan for the changes between two snapshots of a table.
#[derive(Clone, Debug)]
pub struct ChangelogScan {
    table: Table,
    from: Option<i64>,
    to: Option<i64>,
    is_net: bool,
    by_present_schema: bool,
    memory_limit_bytes: u64,
    filter: Option<Predicate>,
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
            filter: None,
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

    /// Only the rows that the predicate is true of: the changelog of the table as a reader sees it who filters it so. An update is
    /// told as one if the predicate is true of the row before and after; if it is true of one of them only, as a delete of the
    /// row that a filtering reader doesn't see any more, or as an insert of one that he didn't see.
    ///
    /// The names are those of the table's present columns, also for snapshots that had others. A comparison with NULL is true of
    /// no row, `NOT` or not, and a NaN is greater than all numbers. Manifests and files that can't hold such a row are not
    /// read, as far as partitions and statistics tell.
    #[must_use]
    pub fn filter(mut self, predicate: Predicate) -> Self {
        self.filter = Some(predicate);
        self
    }

    /// The changes in the order of their snapshots; within one, deletes before updates before inserts.
    ///
    /// # Errors
    /// In the stream: a snapshot that is unknown, expired or no ancestor, a file that is missing or damaged, a filter by a column
    /// that there isn't.
    pub fn stream(self) -> BoxStream<'static, Result<ChangeBatch>> {
        streamed(|sender| async move { self.run(&sender).await })
    }

    async fn run(&self, sender: &Sender<Result<ChangeBatch>>) -> Result<()> {
        let filter = self.filter.as_ref().map(|predicate| Filter::new(&self.table, predicate)).transpose()?;
        let manifests = Manifests::new(&self.table).filtered(filter.map(Arc::new));
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
        let plan = plan_rows(&Manifests::new(&table), &at, schema).await?;
        tell_rows(&table, &at, plan, &sender).await
    })
}

/// The rows that a plan has, of which nothing was there before, batch by batch.
///
/// # Errors
/// As of [`rows_at`].
pub(crate) fn rows_by(table: &Table, at: &SnapshotRef, plan: Plan) -> BoxStream<'static, Result<ChangeBatch>> {
    let (table, at) = (table.clone(), at.clone());
    streamed(|sender| async move { tell_rows(&table, &at, plan, &sender).await })
}

async fn tell_rows(table: &Table, at: &SnapshotRef, plan: Plan, sender: &Sender<Result<ChangeBatch>>) -> Result<()> {
    let comparison = Comparison { table, plan: &Arc::new(plan), ordinal: 0, snapshot: at, sender };
    comparison.tell_all(Kind::Insert).await
}
