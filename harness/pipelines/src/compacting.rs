//! The compaction of the sink's tables: their files are rewritten beside the commits, and put in between two of them.

use std::{collections::HashMap, future::pending};

use changeproof::error::Result;
use changeproof_iceberg::{FileCounts, Rewriting, Rewritten, SMALL_BYTES};
use iceberg::table::Table;

/// Tables being compacted, one at a time.
#[derive(Debug)]
pub(crate) struct Compacting {
    /// A table that has got so many files since it was compacted is compacted again.
    above: u64,
    /// How many files the last compaction of a table has left, by the table's relation.
    left: HashMap<u32, FileCounts>,
    running: Option<(u32, Rewriting)>,
}

impl Compacting {
    /// Compacts tables of more data files, or delete files, than this, not counted those that a compaction leaves.
    pub(crate) fn new(above: u64) -> Self {
        Self { above, left: HashMap::new(), running: None }
    }

    /// Begins to rewrite the files of a table if they have become too many, and those of no other are being rewritten.
    pub(crate) fn look_at(&mut self, relation: u32, table: &Table) {
        let (now, left) = (counts(table), self.left.entry(relation).or_default());
        // A truncate leaves fewer.
        *left = FileCounts { data: left.data.min(now.data), deletes: left.deletes.min(now.deletes) };
        let are_many = now.data > left.data + self.above || now.deletes > left.deletes + self.above;
        if are_many && self.running.is_none() {
            self.running = Some((relation, Rewriting::begin(table, SMALL_BYTES)));
        }
    }

    /// Whether files are being rewritten.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Waits until files are rewritten that are to be put in, and returns the relation that they are of; for ever if none are. Dropping
    /// the future loses nothing.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub(crate) async fn rewritten(&mut self) -> Result<(u32, Rewritten)> {
        let Some((relation, rewriting)) = &mut self.running else { return pending().await };
        let (relation, ended) = (*relation, rewriting.end().await);
        self.running = None;
        let rewritten = ended?;
        self.left.insert(relation, rewritten.left);
        Ok((relation, rewritten))
    }
}

/// How many files a table has, by the summary of its snapshot.
fn counts(table: &Table) -> FileCounts {
    let current = table.metadata().current_snapshot();
    let total = |name: &str| {
        let total = current.and_then(|current| current.summary().additional_properties.get(name));
        total.and_then(|total| total.parse().ok()).unwrap_or_default()
    };
    FileCounts { data: total("total-data-files"), deletes: total("total-delete-files") }
}
