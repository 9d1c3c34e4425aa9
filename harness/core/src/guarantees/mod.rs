//! What a method promises, as data, and what remains of the ideal stream under that promise.
//!
//! [`Guarantees::promise`] turns what truly happened into exactly what the method says it will deliver, and names each
//! difference as a [`Loss`]. The judge then compares for equality: a stream that is worse than the promise is broken,
//! and so is one that is better, because then the promise is wrong.

mod changes;
mod contents;
mod differences;
mod files;
mod loss;
mod states;
mod values;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::{
    files::ROWS,
    loss::Loss,
    states::TIME_COLUMN,
    values::{Form, Rule, Values},
};
use crate::{
    change::Op,
    model::{Model, Tables},
    schema::TableName,
    value::Row,
};

/// What a method promises about the streams it delivers.
///
/// As JSON, an object with these names as its fields; a field that is left out has the value of [`Guarantees::default`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guarantees {
    /// Whether rows that exist before the capture begins are delivered as reads.
    pub initial_snapshot: bool,
    /// Whether what is written while the initial snapshot is taken may be told twice: in the row that is read, and as a change.
    pub snapshot_overlaps: bool,
    /// Whether rows that exist are read while changes are told: each row that is read is what it has become by the changes before it in
    /// the stream, and a row that changes meanwhile need not be read.
    pub snapshot_amid_changes: bool,
    /// What is delivered of a row that changes: every change, or how it stands whenever the method looks.
    pub granularity: Granularity,
    /// What is delivered of a row's old version.
    pub before_images: BeforeImages,
    /// Which columns of a row the source writes to its log when the row changes.
    pub row_image: RowImage,
    /// Whether columns that a before-image doesn't hold are filled in: with NULL, or where a column doesn't take NULL with
    /// its default or its type's zero, as if that were its value.
    pub fills_before_images: bool,
    /// Whether a table without a primary key has the columns of its replica identity's index as its key.
    pub keys_by_identity: bool,
    /// How an update of the primary key arrives.
    pub key_change: KeyChange,
    /// How an update of a row arrives whose table has no key.
    pub keyless_update: KeyChange,
    /// Whether an update that leaves its row as it was is delivered.
    pub unchanged_updates: bool,
    /// Whether changes tell the transaction they belong to, and transactions arrive whole.
    pub transactions: bool,
    /// In which order transactions arrive.
    pub order: Order,
    /// What is delivered of a TRUNCATE.
    pub truncate: Truncate,
    /// How a change of a table's definition is told.
    pub schema_changes: SchemaChanges,
    /// What becomes of large values that an update leaves as they are.
    pub unchanged_toast: UnchangedToast,
    /// What is delivered of changes that were on their way when the connection to the source broke.
    pub after_a_break: AfterABreak,
    /// Whether a tombstone follows each delete; that of a row without a key has no key either.
    pub tombstones: bool,
    /// In which form values are delivered.
    pub values: Values,
    /// In which form those of rows are that are read and not changed, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_values: Option<Values>,
}

/// What is delivered of a row that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// Every change, deletes included.
    EachChange,
    /// How rows stand whenever the method looks, if they bear a later time than the latest that it has seen of their table
    /// (its high-water mark). What comes and goes between two looks is not seen, and neither is a delete.
    LatestState(Mark),
    /// How a table's rows differ between two of its states. An update that leaves its row as it was is not delivered.
    Difference(Difference),
    /// All that a table holds whenever the method is looked at, if it is something else than before: of what keeps a table as
    /// another one is, and no history.
    Contents,
    /// Which files of a table came and went by a commit, and how many rows are in them; no rows.
    Files,
}

/// Between which states of a table a method tells the difference, and by what it knows a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Whether it compares the states before and after each commit; if not, those at two looks.
    pub each_commit: bool,
    /// Whether it knows a row by its key, and can therefore tell an update; if not, or without a key, by all it holds.
    pub keyed: bool,
}

/// How a method that looks from time to time knows what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Whether the database sets a row's time when the row is updated; if not, that of its insert stays.
    pub touched_by_updates: bool,
    /// Whether rows are read again that bear a time somewhat before the mark, for what was committed late.
    pub overlap: bool,
    /// What a row's time is the time of.
    #[serde(default)]
    pub time_of: TimeOf,
    /// Whether a table that gets another name keeps its mark; if not it is a new one, and all its rows are.
    #[serde(default = "yes")]
    pub follows_renames: bool,
}

fn yes() -> bool {
    true
}

/// What a row's time is the time of, where the database sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOf {
    /// The beginning of its transaction: `now()` in PostgreSQL (manual, 9.9.5 "Current Date/Time").
    #[default]
    Transaction,
    /// The beginning of its statement: `NOW()` in MySQL (manual, 14.7 "Date and Time Functions").
    Statement,
}

/// In which order transactions arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In the order of their commits.
    Commit,
    /// In the order of their commits, but for those that ran side by side: of these any may come first, as long as the
    /// changes of each row stay in order.
    CommitUnlessConcurrent,
    /// The commits of each table in their order; the changes of one commit in any order, and so what happened to different
    /// tables.
    CommitOfEachTable,
}

/// What is delivered of a row's old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeforeImages {
    /// Nothing.
    None,
    /// The whole row, always.
    Full,
    /// Of an update the columns that it changed, of a delete the whole row.
    Changed,
    /// What the table's replica identity writes to the log: the key, if it changed or the row was deleted; or the whole row.
    ReplicaIdentity,
}

/// Which columns of a row MySQL writes to its log when the row changes (manual, 19.1.6.4: `binlog_row_image`). What isn't
/// there is left out of the images, and nothing tells it from a dropped column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowImage {
    /// All, before and after.
    Full,
    /// All but the texts and bytes without a limit of which the statement says nothing; and before it none of these, if there is a key.
    NoBlob,
    /// The key before, and after it what the statement gives a value; all columns of a table without a key before.
    Minimal,
}

/// What is delivered of a TRUNCATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// Nothing.
    Missed,
    /// One change that empties the table.
    Told,
    /// A delete of each row; of an empty table nothing.
    AsDeletes,
}

/// How an update arrives that changes what a row is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChange {
    /// As one update.
    Update,
    /// As a delete of the old key and an insert of the new one.
    DeleteAndInsert,
}

/// How a change of a table's definition is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChanges {
    /// Not at all: the next row simply has the new shape, and existing rows are not delivered again.
    NextRow,
    /// By a change of its own, in its place among the changes of rows. That a table was renamed is not told.
    AtOnce,
    /// As `AtOnce`, and a renamed table with its earlier name; but only if what is told of the columns has changed or the name.
    AtOnceWithNames,
    /// By a change of its own just before the next change of a row, since only then the log says what the table looks like:
    /// several changes of the definition come as one, and the last ones perhaps never.
    WithNextRow,
}

/// What is delivered of changes that were on their way when the connection to the source broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterABreak {
    /// Each of them once.
    ExactlyOnce,
    /// Each of them at least once, and perhaps out of its transaction and its order; but a delete perhaps without its tombstone.
    /// How many come again is left to chance, so here a method may be better than its promise.
    AtLeastOnce,
}

/// What becomes of large values that an update leaves as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnchangedToast {
    /// They are delivered like any other.
    Delivered,
    /// They are marked as unavailable, unless the replica identity puts the whole old row into the log.
    Omitted,
    /// Their columns are left out of the new row, and nothing tells them from dropped ones; but under the same condition.
    LeftOut,
}

/// A change as the method promises to deliver it.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// What happened.
    pub op: Op,
    /// The table it happened to.
    pub table: TableName,
    /// The primary key; empty if the table has none.
    pub key: Row,
    /// The promised part of the old row.
    pub before: Option<Row>,
    /// What the method puts into the columns that the old row's promised part lacks.
    pub filler: Row,
    /// The promised new row.
    pub after: Option<Row>,
    /// Whether a tombstone must follow.
    pub tombstone: bool,
    /// What the table was called before, if the change tells that it was renamed.
    pub renamed_from: Option<TableName>,
}

impl Expected {
    fn new(op: Op, table: TableName) -> Self {
        Self {
            op,
            table,
            key: Row::default(),
            before: None,
            filler: Row::default(),
            after: None,
            tombstone: false,
            renamed_from: None,
        }
    }
}

/// The stream that a method promises for what truly happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    /// The rows that the initial snapshot reads, in no order.
    pub reads: Vec<Expected>,
    /// The transactions that have any change to deliver; for a method that looks from time to time, its looks.
    pub transactions: Vec<Delivery>,
    /// What the promise leaves out of the truth.
    pub losses: BTreeSet<Loss>,
}

/// Changes that were committed, and are delivered, together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// The changes in order.
    pub changes: Vec<Expected>,
    /// The number of its transaction among the committed ones.
    pub number: usize,
    /// How many transactions had been committed when it began. Those from there up to its own number ran beside it.
    pub committed_before: usize,
}

impl Promise {
    /// What is promised up to the change of a number, in the order of commits.
    #[must_use]
    pub fn up_to(&self, count: usize) -> Self {
        let mut left = count.saturating_sub(self.reads.len());
        let transactions = self.transactions.iter().map(|delivery| {
            let changes: Vec<_> = delivery.changes.iter().take(left).cloned().collect();
            left -= changes.len();
            Delivery { changes, ..delivery.clone() }
        });
        let transactions = transactions.filter(|delivery| !delivery.changes.is_empty()).collect();
        let reads = self.reads.iter().take(count).cloned().collect();
        Self { reads, transactions, losses: self.losses.clone() }
    }

    /// How many changes are promised.
    pub fn count(&self) -> usize {
        self.reads.len() + self.transactions.iter().map(|delivery| delivery.changes.len()).sum::<usize>()
    }
}

impl Delivery {
    /// Whether two transactions ran side by side.
    pub fn is_beside(&self, other: &Self) -> bool {
        let (first, second) = if self.number < other.number { (self, other) } else { (other, self) };
        second.committed_before <= first.number
    }
}

impl Default for Guarantees {
    /// What the log of PostgreSQL, read without loss, can give: the promises of native logical replication.
    fn default() -> Self {
        Self {
            initial_snapshot: true,
            snapshot_overlaps: false,
            snapshot_amid_changes: false,
            granularity: Granularity::EachChange,
            before_images: BeforeImages::ReplicaIdentity,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: true,
            key_change: KeyChange::Update,
            keyless_update: KeyChange::Update,
            unchanged_updates: true,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: SchemaChanges::WithNextRow,
            unchanged_toast: UnchangedToast::Omitted,
            after_a_break: AfterABreak::ExactlyOnce,
            tombstones: false,
            values: Values::default(),
            read_values: None,
        }
    }
}

impl Guarantees {
    /// The stream promised for a capture that began when a number of the model's transactions had been committed, and that
    /// has looked, if it only looks from time to time, when so many had been.
    pub fn promise(&self, model: &Model, cut: usize, looks: &[usize]) -> Promise {
        match self.granularity {
            Granularity::EachChange => self.promise_changes(&model.tables_after(cut), model.committed(), cut),
            Granularity::LatestState(mark) => self.promise_states(mark, model.committed(), cut, looks),
            Granularity::Difference(difference) => self.promise_differences(difference, model.committed(), cut, looks),
            Granularity::Contents => self.promise_contents(model.committed(), cut, looks),
            Granularity::Files => self.promise_files(model.committed(), cut),
        }
    }

    /// How many changes of rows, and how many transactions, are still to be delivered from each of the model's committed
    /// transactions on, if that doesn't depend on when the method looks.
    pub(crate) fn remaining(&self, model: &Model) -> Option<Vec<(usize, usize)>> {
        if self.granularity != Granularity::EachChange {
            return None;
        }
        let committed = model.committed();
        let mut remaining = vec![(0, 0); committed.len() + 1];
        for delivery in self.promise_changes(&Tables::default(), committed, 0).transactions {
            let rows = delivery.changes.iter().filter(|change| change.op != Op::Schema).count();
            remaining[delivery.number] = (rows, 1);
        }
        for at in (0..committed.len()).rev() {
            remaining[at].0 += remaining[at + 1].0;
            remaining[at].1 += remaining[at + 1].1;
        }
        Some(remaining)
    }
}

#[cfg(test)]
mod tests;
