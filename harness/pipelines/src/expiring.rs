//! The expiry of the sink's snapshots: they go from the metadata between two commits, and their files beside these.

use std::{collections::HashMap, future::pending, time::Duration};

use changeproof_iceberg::{Expired, MOST_TOGETHER, Removed, Retention};
use iceberg::table::Table;
use tokio::task::JoinSet;

/// So many snapshots of a table expire together at least: each time costs a commit.
const TOGETHER: usize = 100;

/// Tables whose snapshots expire.
#[derive(Debug)]
pub(crate) struct Expiring {
    retention: Retention,
    /// How many old snapshots of a table stayed the last time, by the table's relation.
    left: HashMap<u32, usize>,
    /// The files of one table at a time.
    removing: JoinSet<Removed>,
}

impl Expiring {
    /// Lets snapshots expire that are older than this, unless their table says otherwise.
    pub(crate) fn new(max_age: Duration) -> Self {
        Self { retention: Retention { max_age, at_least: 1 }, left: HashMap::new(), removing: JoinSet::new() }
    }

    /// How long snapshots are kept if enough of a table are older for a commit, and no other files are being removed.
    pub(crate) fn is_due(&mut self, relation: u32, table: &Table) -> Option<Retention> {
        let (old, left) = (self.retention.old(table), self.left.entry(relation).or_default());
        *left = old.min(*left);
        (self.removing.is_empty() && old >= *left + TOGETHER).then_some(self.retention)
    }

    /// Leaves a table alone until more of its snapshots are old, for the catalog doesn't let them expire.
    pub(crate) fn has_failed(&mut self, relation: u32, table: &Table) {
        self.left.insert(relation, self.retention.old(table));
    }

    /// Begins to remove the files of snapshots that have expired.
    pub(crate) fn remove_files(&mut self, relation: u32, expired: Expired) {
        let is_all = expired.count() < MOST_TOGETHER;
        self.left.insert(relation, if is_all { self.retention.old(expired.table()) } else { 0 });
        self.removing.spawn(async move {
            // The tables are whole with these files, and some storage lets nobody remove any.
            expired.remove_files().await.unwrap_or(Removed { removed: 0, left: 1 })
        });
    }

    /// Whether files are being removed.
    pub(crate) fn is_running(&self) -> bool {
        !self.removing.is_empty()
    }

    /// Waits until the files are removed that are to be; for ever if none are. Dropping the future loses nothing.
    pub(crate) async fn removed(&mut self) -> Removed {
        match self.removing.join_next().await {
            Some(ended) => ended.unwrap_or(Removed { removed: 0, left: 1 }),
            None => pending().await,
        }
    }
}
