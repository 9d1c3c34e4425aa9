//! What a replication is told, and what it tells of itself.

use std::time::Duration;

use changeproof::change::Lsn;

use crate::values::Misfit;

/// When what was read is committed to the sink, at the end of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// So long after the first change that waits.
    pub every: Duration,
    /// Or as soon as so many changes wait.
    pub changes: usize,
}

impl Default for Cadence {
    /// Every 500 ms, or 100,000 changes.
    fn default() -> Self {
        Self { every: Duration::from_millis(500), changes: 100_000 }
    }
}

/// What to replicate, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The slot, which is made if there is none.
    pub slot: String,
    /// Whether standbys get it if it is made (PostgreSQL 17), so that the replication goes on at one of them after a failover.
    pub failover: bool,
    /// The publication, which says what is replicated.
    pub publication: String,
    /// When to commit.
    pub cadence: Cadence,
    /// What to do with values that the sink has no place for.
    pub misfit: Misfit,
    /// A table of more data files or delete files than this is compacted, not counted those that compaction leaves as they are.
    pub compact_above: u64,
    /// Snapshots of a table that are older expire, and the files go that only they have, unless the table's properties say otherwise.
    pub keep_snapshots: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slot: "changeproof".to_owned(),
            failover: false,
            publication: "changeproof".to_owned(),
            cadence: Cadence::default(),
            misfit: Misfit::default(),
            compact_above: 100,
            keep_snapshots: Duration::from_secs(3600),
        }
    }
}

/// What a replication has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows that were copied.
    pub copied: u64,
    /// Changes that were committed to the sink.
    pub changes: u64,
    /// Transactions that were committed to the sink, without those that changed nothing there.
    pub transactions: u64,
    /// Commits to the sink's tables.
    pub commits: u64,
    /// Snapshots of the sink's tables that have expired.
    pub expired: u64,
    /// How often the catalog didn't let any expire.
    pub failed_expiries: u64,
    /// Files that were removed with them.
    pub removed_files: u64,
    /// Files that no snapshot has any more, and that could not be removed.
    pub left_files: u64,
    /// Everything up to here is in the sink.
    pub position: Lsn,
    /// Whether that is all that was committed before it was started last.
    pub is_caught_up: bool,
    /// When the last transaction that is in the sink was committed at the source, in microseconds since 1970 (UTC).
    pub commit_time_us: Option<i64>,
}
