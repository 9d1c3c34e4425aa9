//! Reads of an incremental snapshot, which come between the changes of the stream.
//!
//! Records of one key keep their order, since they share a partition. Changes wait here for the rest of their transaction and reads don't,
//! so a read waits for the transactions that had records before it in its partition; and for no others, since those may come after what
//! follows it there.
//!
//! How many reads come is not told: the connector counts the rows that it has read, and drops those that change just then.

use std::collections::{HashMap, HashSet};

use super::record::Notification;
use crate::change::Change;

/// How far an incremental snapshot has come.
#[derive(Debug, Default)]
pub(super) struct Incremental {
    /// The reads that have come.
    reads: u64,
    /// Those that the tables' scans that have ended have found, of which some may have been dropped.
    found: u64,
    /// Whether all scans have ended.
    is_scanned: bool,
    /// The transactions that have had records in a partition and aren't delivered yet.
    open: HashMap<(String, i32), HashSet<String>>,
    /// Reads that wait, each with the transactions that it waits for.
    held: Vec<(HashSet<String>, Change)>,
}

impl Incremental {
    /// A partition has had a record of a transaction that isn't delivered yet.
    pub(super) fn opened(&mut self, origin: &(String, i32), tx: &str) {
        match self.open.get_mut(origin) {
            Some(open) if open.contains(tx) => {}
            Some(open) => {
                open.insert(tx.to_owned());
            }
            None => {
                self.open.insert(origin.clone(), HashSet::from([tx.to_owned()]));
            }
        }
    }

    /// Takes a read of a partition. Returns it if it needn't wait.
    pub(super) fn read(&mut self, origin: &(String, i32), read: Change) -> Option<Change> {
        self.reads += 1;
        match self.open.get(origin).filter(|open| !open.is_empty()) {
            None => Some(read),
            Some(open) => {
                self.held.push((open.clone(), read));
                None
            }
        }
    }

    /// A transaction has been delivered. Returns the reads whose turn has come.
    pub(super) fn delivered(&mut self, tx: &str) -> Vec<Change> {
        for open in self.open.values_mut().chain(self.held.iter_mut().map(|(before, _)| before)) {
            open.remove(tx);
        }
        self.held.extract_if(.., |(before, _)| before.is_empty()).map(|(_, read)| read).collect()
    }

    /// Takes a record of the notification topic.
    pub(super) fn notification(&mut self, notification: &Notification) {
        match notification.kind.as_str() {
            "TABLE_SCAN_COMPLETED" => self.found += notification.rows().unwrap_or_default(),
            "COMPLETED" => self.is_scanned = true,
            _ => {}
        }
    }

    /// Whether all scans have ended, so that no more reads are sent.
    pub(super) fn is_scanned(&self) -> bool {
        self.is_scanned
    }

    /// What has come so far.
    pub(super) fn waiting_for(&self) -> String {
        format!(
            "the incremental snapshot to end, of which {} reads have come, and {} rows are known",
            self.reads, self.found
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::Op, row};

    fn read(id: i32) -> Change {
        Change { key: row! { id: id }, ..Change::new(Op::Read, "t".into()) }
    }

    #[test]
    fn a_read_waits_for_the_transactions_before_it_in_its_partition() {
        let mut incremental = Incremental::default();
        let [one, other] = [("t".to_owned(), 0), ("t".to_owned(), 1)];
        assert_eq!(incremental.read(&one, read(1)), Some(read(1)));
        incremental.opened(&one, "a");
        incremental.opened(&one, "b");
        incremental.opened(&other, "c");
        assert_eq!(incremental.read(&one, read(2)), None);
        assert_eq!(incremental.read(&other, read(3)), None);
        assert_eq!(incremental.delivered("a"), []);
        assert_eq!(incremental.delivered("b"), [read(2)], "whatever others wait for");
        assert_eq!(incremental.delivered("c"), [read(3)]);
        assert_eq!(incremental.read(&one, read(4)), Some(read(4)));
    }

    #[test]
    fn it_ends_when_it_says_so() {
        let mut incremental = Incremental::default();
        let mut told = |kind: &str| {
            incremental.notification(&Notification {
                aggregate_type: "Incremental Snapshot".into(),
                kind: kind.into(),
                additional_data: [("total_rows_scanned".into(), Some("2".into()))].into(),
            });
            incremental.is_scanned()
        };
        assert!(!told("STARTED") && !told("TABLE_SCAN_COMPLETED") && told("COMPLETED"));
        assert!(incremental.waiting_for().contains("2 rows"));
    }
}
