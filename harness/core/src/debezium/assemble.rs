//! Puts changes that arrive through many partitions back into the order of their transactions.
//!
//! A topic of three partitions keeps order per key only. Debezium's transaction topic (`provide.transaction.metadata`)
//! has one partition: its END records stand in commit order and say how many changes each transaction has. So a
//! transaction is whole when that many have arrived, and not when some time has passed. In the same way the initial
//! snapshot is whole when as many reads have arrived as its notifications count.
//!
//! MySQL's TRUNCATE belongs to no transaction that is counted, so counting doesn't tell whether one is still to come. Its record
//! was sent before the END of what was committed after it: once everything has been read that there was when that END came,
//! it is there too, and its identifier says where it belongs.
//!
//! A connector that starts again amid a transaction says BEGIN once more, goes on with the changes that it hadn't sent, and counts them from 1; its
//! END counts those alone. So the numbers of such a transaction clash, and its changes are put in the order of the source's log, once everything
//! has been read that there was when its END came.
//!
//! A connector that starts again may send records again. They never stand for others, and they are never swallowed: what
//! comes again is delivered again, for the judge to see. So is a tombstone without its delete.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    incremental::Incremental,
    record::{Boundary, Event, Notification, Place, transaction_id},
};
use crate::{
    change::{Change, Op, Position},
    schema::TableName,
    value::{Row, Value},
};

/// A transaction of which some records have arrived.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<(Place, Change)>,
    /// The numbers of the records that have arrived, messages included.
    numbers: HashSet<u64>,
    begins: usize,
    count: Option<u64>,
    /// Whether the connector started again amid it.
    is_cut: bool,
    tombstones_missing: usize,
}

impl Pending {
    fn is_whole(&self) -> bool {
        self.tombstones_missing == 0 && self.count.is_some_and(|count| self.numbers.len() as u64 >= count)
    }

    /// Whether it has ended and has no changes, as far as has been told.
    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.count == Some(0)
    }

    fn in_order(mut self) -> impl Iterator<Item = Change> {
        match self.is_cut {
            true => self.changes.sort_by_key(|(place, _)| *place),
            false => self.changes.sort_by_key(|(place, _)| place.number),
        }
        self.changes.into_iter().map(|(_, change)| change)
    }
}

/// How far the initial snapshot has come.
#[derive(Debug, PartialEq, Eq)]
enum Snapshot {
    /// Reads so far, and those announced by the tables' scans that have ended.
    Running { reads: u64, announced: u64 },
    /// All scans have ended; reads may still be on their way.
    Scanned { reads: u64, announced: u64 },
    /// All reads have been delivered, or there are none to come.
    Done,
}

/// Where a record came from: topic and partition.
pub(crate) type Origin<'a> = (&'a str, i32);

/// Changes waiting for the rest of their transaction.
#[derive(Debug)]
pub(crate) struct Assembler {
    pending: HashMap<String, Pending>,
    /// Ended transactions in commit order, delivered from the front.
    ended: VecDeque<String>,
    /// Transactions that have been delivered.
    delivered: HashSet<String>,
    /// Per partition the transaction whose last record there was a delete with its tombstone still to come, and which of its changes that is.
    deleted: HashMap<(String, i32), (String, usize, Row)>,
    /// The table of each topic, as its last change named it.
    tables: HashMap<String, TableName>,
    known_collections: HashSet<String>,
    snapshot: Snapshot,
    /// The rows that are read while the stream goes on, if a signal asks for any.
    incremental: Option<Incremental>,
    /// The rows with a key that the snapshot has read: one that began again reads them again.
    read: HashSet<(TableName, Vec<Value>)>,
    ready: VecDeque<Change>,
    sends_tombstones: bool,
    /// Whether there are changes that belong to no transaction's count.
    has_uncounted: bool,
    /// Those that have come and whose turn hasn't.
    uncounted: Vec<Change>,
    /// How many of the ended transactions may be delivered, since everything has been read that there was when they had ended.
    settled: usize,
    /// How many of the ended transactions have changes.
    awaited: usize,
    /// How many of them the connector started again amid.
    cut: usize,
}

impl Assembler {
    pub(crate) fn new(has_snapshot: bool, sends_tombstones: bool) -> Self {
        Self {
            pending: HashMap::new(),
            ended: VecDeque::new(),
            delivered: HashSet::new(),
            deleted: HashMap::new(),
            tables: HashMap::new(),
            known_collections: HashSet::new(),
            snapshot: match has_snapshot {
                true => Snapshot::Running { reads: 0, announced: 0 },
                false => Snapshot::Done,
            },
            incremental: None,
            read: HashSet::new(),
            ready: VecDeque::new(),
            sends_tombstones,
            has_uncounted: false,
            uncounted: Vec::new(),
            settled: 0,
            awaited: 0,
            cut: 0,
        }
    }

    /// The same for a connector that sends changes which no transaction counts.
    pub(crate) fn with_uncounted(self, has_uncounted: bool) -> Self {
        Self { has_uncounted, ..self }
    }

    /// The same for a connector that is asked for an incremental snapshot.
    pub(crate) fn with_incremental(self, is_incremental: bool) -> Self {
        Self { incremental: is_incremental.then(Incremental::default), ..self }
    }

    /// Whether no more rows are read that a signal has asked for.
    pub(crate) fn has_scanned_all(&self) -> bool {
        self.incremental.as_ref().is_none_or(Incremental::is_scanned)
    }

    /// How many transactions wait for everything to be read that there is now; nought if none does. What stands before one may become
    /// visible a moment after its end, as its own changes may: so only those that are whole are asked for.
    pub(crate) fn unsettled(&self) -> usize {
        if !self.must_settle() || !self.has_ended_changes() {
            return 0;
        }
        self.ended.iter().take_while(|tx| self.is_whole(tx)).count()
    }

    fn is_whole(&self, tx: &str) -> bool {
        self.pending.get(tx).is_some_and(Pending::is_whole)
    }

    fn must_settle(&self) -> bool {
        self.settled == 0 && (self.has_uncounted || self.cut > 0)
    }

    /// Whether any of the ended transactions has something to deliver. All transactions of a server end here, those of others without changes.
    fn has_ended_changes(&self) -> bool {
        self.awaited > 0 || self.incremental.is_some() && !self.ended.is_empty()
    }

    /// Everything has been read that there was when so many transactions waited.
    pub(crate) fn settle_all(&mut self, transactions: usize) {
        self.settled = transactions;
        self.deliver();
    }

    /// The next change whose turn has come.
    pub(crate) fn pop(&mut self) -> Option<Change> {
        self.ready.pop_front()
    }

    /// Takes a record of a table's topic.
    pub(crate) fn event(&mut self, (topic, partition): Origin<'_>, event: Event) {
        let origin = (topic.to_owned(), partition);
        if !matches!(event, Event::Tombstone(_)) {
            self.settle(&origin);
        }
        match event {
            Event::Change(change, place) => {
                self.tables.insert(topic.to_owned(), change.table.clone());
                match place {
                    Some(place) => self.change(origin, *change, place),
                    None => self.unnumbered(&origin, *change),
                }
            }
            Event::Tombstone(key) => self.tombstone(&origin, key),
            Event::Other(Some((tx, place))) if !self.delivered.contains(&tx) => {
                self.pending_with(tx, place);
            }
            Event::Other(_) => {}
        }
        self.deliver();
    }

    fn unnumbered(&mut self, origin: &(String, i32), change: Change) {
        if change.op == Op::Read
            && let Snapshot::Running { reads, .. } | Snapshot::Scanned { reads, .. } = &mut self.snapshot
        {
            let key: Vec<_> = change.key.iter().map(|(_, value)| value.clone()).collect();
            if key.is_empty() || self.read.insert((change.table.clone(), key)) {
                *reads += 1;
            }
        }
        if let Some(incremental) = self.incremental.as_mut().filter(|_| change.op == Op::Read) {
            self.ready.extend(incremental.read(origin, change));
        } else if self.has_uncounted && change.op != Op::Read {
            self.uncounted.push(change);
        } else {
            self.ready.push_back(change);
        }
    }

    /// Delivers what no transaction counts and stands before this one.
    fn deliver_uncounted(&mut self, tx: &str) {
        let Some(place) = Position::of_gtid(tx) else { return };
        self.uncounted.sort_by_key(|change| change.position);
        let stands_before = |change: &mut Change| change.position.is_none_or(|position| position.stands_before(place));
        self.ready.extend(self.uncounted.extract_if(.., stands_before));
    }

    /// The transaction, in which another record stands.
    fn pending_with(&mut self, tx: String, place: Place) -> &mut Pending {
        let pending = self.pending.entry(tx).or_default();
        self.awaited += usize::from(pending.is_empty());
        pending.numbers.insert(place.number);
        pending
    }

    fn change(&mut self, origin: (String, i32), mut change: Change, place: Place) {
        let Some(tx) = change.tx.as_ref().map(|tx| tx.as_str().to_owned()) else {
            self.ready.push_back(change);
            return;
        };
        change.tombstone = false;
        if let Some(incremental) = self.incremental.as_mut().filter(|_| !self.delivered.contains(&tx)) {
            incremental.opened(&origin, &tx);
        }
        let awaits_tombstone = self.sends_tombstones && change.op == Op::Delete;
        let deleted = awaits_tombstone.then(|| (tx.clone(), change.key.clone()));
        let at = if self.delivered.contains(&tx) {
            self.ready.push_back(change);
            0
        } else {
            let pending = self.pending_with(tx, place);
            pending.tombstones_missing += usize::from(awaits_tombstone);
            pending.changes.push((place, change));
            pending.changes.len() - 1
        };
        if let Some((tx, key)) = deleted {
            self.deleted.insert(origin, (tx, at, key));
        }
    }

    /// A tombstone follows its delete at once in the same partition. One that follows anything else is a change of its own.
    fn tombstone(&mut self, origin: &(String, i32), key: Row) {
        let is_expected = self.deleted.get(origin).is_some_and(|(.., deleted)| *deleted == key);
        let Some((tx, at)) = self.settle(origin).filter(|_| is_expected) else {
            let table = self.tables.get(&origin.0).cloned();
            let table = table.unwrap_or_else(|| TableName::from(origin.0.as_str()));
            self.ready.push_back(Change { key, tombstone: true, ..Change::new(Op::Delete, table) });
            return;
        };
        if let Some((_, delete)) = self.pending.get_mut(&tx).and_then(|pending| pending.changes.get_mut(at)) {
            delete.tombstone = true;
        }
    }

    /// Waits no longer for the tombstone of the partition's last delete: the next record has come, be it that or another.
    fn settle(&mut self, origin: &(String, i32)) -> Option<(String, usize)> {
        let (tx, at, _) = self.deleted.remove(origin)?;
        if let Some(pending) = self.pending.get_mut(&tx) {
            pending.tombstones_missing = pending.tombstones_missing.saturating_sub(1);
        }
        Some((tx, at))
    }

    /// Takes a record of the transaction topic. Returns whether it names a table that was not known before.
    pub(crate) fn boundary(&mut self, boundary: Boundary) -> bool {
        let tx = transaction_id(&boundary.id).to_owned();
        if !self.delivered.contains(&tx) {
            let pending = self.pending.entry(tx.clone()).or_default();
            match (boundary.status.as_str(), boundary.event_count) {
                ("BEGIN", _) => pending.begins += 1,
                ("END", Some(count)) if pending.count.is_none() => {
                    pending.count = Some(count);
                    pending.is_cut = pending.begins > 1;
                    self.awaited += usize::from(!pending.is_empty());
                    self.cut += usize::from(pending.is_cut);
                    self.ended.push_back(tx);
                }
                _ => {}
            }
        }
        let mut is_new = false;
        for collection in boundary.data_collections.unwrap_or_default() {
            is_new |= self.known_collections.insert(collection.data_collection);
        }
        self.deliver();
        is_new
    }

    /// Takes a record of the notification topic. Returns whether a scan has ended, whose table may not have been known.
    pub(crate) fn notification(&mut self, notification: &Notification) -> bool {
        if let Some(incremental) =
            self.incremental.as_mut().filter(|_| notification.aggregate_type.starts_with("Incremental"))
        {
            incremental.notification(notification);
            return true;
        }
        if notification.aggregate_type != "Initial Snapshot" {
            return false;
        }
        let (reads, announced) = match self.snapshot {
            Snapshot::Running { reads, announced } => (reads, announced),
            Snapshot::Scanned { .. } | Snapshot::Done => return false,
        };
        self.snapshot = match notification.kind.as_str() {
            "TABLE_SCAN_COMPLETED" => {
                Snapshot::Running { reads, announced: announced + notification.rows().unwrap_or_default() }
            }
            // One that was cut short begins again from nothing, and announces all its reads again.
            "STARTED" => Snapshot::Running { reads, announced: 0 },
            "COMPLETED" | "SKIPPED" => Snapshot::Scanned { reads, announced },
            _ => return false,
        };
        self.deliver();
        true
    }

    fn deliver(&mut self) {
        if let Snapshot::Scanned { reads, announced } = self.snapshot
            && reads >= announced
        {
            self.snapshot = Snapshot::Done;
        }
        if self.snapshot != Snapshot::Done {
            return;
        }
        while let Some(tx) = self.ended.front() {
            if self.must_settle() || !self.is_whole(tx) {
                return;
            }
            let tx = tx.clone();
            self.deliver_uncounted(&tx);
            self.settled = self.settled.saturating_sub(1);
            self.delivered.extend(self.ended.pop_front());
            if let Some(whole) = self.pending.remove(&tx) {
                self.awaited -= usize::from(!whole.is_empty());
                self.cut -= usize::from(whole.is_cut);
                self.ready.extend(whole.in_order());
            }
            let reads = self.incremental.as_mut().map(|incremental| incremental.delivered(&tx));
            self.ready.extend(reads.into_iter().flatten());
        }
    }

    /// Whether something has ended of which not all has come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.has_ended_changes() || matches!(self.snapshot, Snapshot::Scanned { .. })
    }

    /// What is missing before the next change can be delivered.
    pub(crate) fn waiting_for(&self) -> String {
        match self.snapshot {
            Snapshot::Running { reads, .. } => {
                return format!("the initial snapshot to end, of which {reads} reads have come");
            }
            Snapshot::Scanned { reads, announced } => {
                return format!("{announced} reads of the initial snapshot, of which {reads} have come");
            }
            Snapshot::Done => {}
        }
        if let Some(incremental) = self.incremental.as_ref().filter(|incremental| !incremental.is_scanned()) {
            return incremental.waiting_for();
        }
        let not_empty = |tx: &&String| !self.pending.get(*tx).is_some_and(Pending::is_empty);
        let Some(tx) = self.ended.iter().find(not_empty) else {
            let is_open = |pending: &&Pending| pending.count.is_none() && !pending.numbers.is_empty();
            return match self.pending.values().filter(is_open).count() {
                0 => "the next transaction".to_owned(),
                open => format!("the END record of {open} transactions whose changes have come"),
            };
        };
        let Some(pending) = self.pending.get(tx) else {
            return format!("transaction {tx}");
        };
        format!(
            "transaction {tx}, of whose {} changes {} have come, with {} tombstones missing",
            pending.count.unwrap_or_default(),
            pending.numbers.len(),
            pending.tombstones_missing
        )
    }
}

#[cfg(test)]
mod tests;
