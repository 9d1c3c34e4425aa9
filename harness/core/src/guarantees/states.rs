//! The promise of methods that look from time to time at how rows stand.
//!
//! Such a method asks for the rows whose time is later than the latest it has seen of the table. Where the database sets it,
//! that is the time at which the row's transaction, or statement, *began* ([`TimeOf`]), so here it is the number of that
//! beginning; where the script's table has the column itself, it is the value that the script gave.

use std::collections::{BTreeMap, BTreeSet};

use super::{Delivery, Expected, Guarantees, Loss, Mark, Promise, TimeOf, changes};
use crate::{
    change::Op,
    model::{IdealChange, IdealTransaction, Tables},
    schema::{Table, TableName},
    script::Alter,
    value::Value,
};

/// The column that holds a row's time.
pub const TIME_COLUMN: &str = "updated_at";

/// The time that a row bears.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stamp {
    /// That at which the transaction, or the statement, of this number began.
    Began(usize),
    /// What the script wrote.
    Given(Value),
}

/// What is known of a row beside its values.
#[derive(Clone, Debug)]
struct Seen {
    stamp: Stamp,
    /// Whether this version has been delivered, or was there before the capture began.
    is_delivered: bool,
    /// The time of the version that was delivered last.
    delivered: Option<Stamp>,
}

/// Tables, what is known of their rows in the same order, and the marks of the tables that have any.
#[derive(Default)]
struct Watched {
    tables: Tables,
    seen: BTreeMap<TableName, Vec<Seen>>,
    marks: BTreeMap<TableName, Stamp>,
    /// Whether an update that leaves a row as it was gives it a new time.
    tells_unchanged: bool,
}

impl Guarantees {
    /// The stream promised for a capture that began at `cut` and looked when so many transactions had been committed.
    pub(super) fn promise_states(
        &self,
        mark: Mark,
        committed: &[IdealTransaction],
        cut: usize,
        looks: &[usize],
    ) -> Promise {
        let mut promise = Promise::default();
        let mut watched = Watched { tells_unchanged: self.unchanged_updates, ..Watched::default() };
        committed.iter().take(cut).for_each(|transaction| watched.follow(transaction, mark, &mut BTreeSet::new()));
        watched.begin();
        if self.initial_snapshot {
            promise.reads = self.promise_reads(&watched.tables, &mut promise.losses);
        }
        let mut from = cut;
        for look in looks.iter().filter(|look| **look >= cut) {
            for transaction in &committed[from..*look] {
                watched.follow(transaction, mark, &mut promise.losses);
            }
            from = *look;
            let changes = watched.look(mark, &mut promise.losses);
            if !changes.is_empty() {
                promise.losses.insert(Loss::InsertOrUpdate);
                promise.transactions.push(Delivery { changes, number: *look, committed_before: *look });
            }
        }
        promise
    }
}

impl Watched {
    /// The rows that are there when the capture begins set the marks.
    fn begin(&mut self) {
        for (name, seen) in &mut self.seen {
            if let Some(latest) = seen.iter().map(|seen| &seen.stamp).max() {
                self.marks.insert(name.clone(), latest.clone());
            }
            for row in seen {
                row.is_delivered = true;
                row.delivered = Some(row.stamp.clone());
            }
        }
    }

    fn follow(&mut self, transaction: &IdealTransaction, mark: Mark, losses: &mut BTreeSet<Loss>) {
        let rows = transaction.changes.iter().filter(|change| matches!(change, IdealChange::Row { .. }));
        if rows.count() > 1 {
            losses.insert(Loss::NoTransactions);
        }
        for (change, statement) in transaction.changes.iter().zip(&transaction.statements) {
            let began = match mark.time_of {
                TimeOf::Transaction => transaction.began,
                TimeOf::Statement => *statement,
            };
            self.follow_change(change, began, mark, losses);
            self.tables.apply(change);
        }
    }

    fn follow_change(&mut self, change: &IdealChange, began: usize, mark: Mark, losses: &mut BTreeSet<Loss>) {
        match change {
            IdealChange::Created(table) => {
                self.seen.insert(table.name.clone(), Vec::new());
            }
            IdealChange::Altered { table, change } => {
                if changes::changes_shape(change) {
                    losses.insert(Loss::SchemaChangeSilent);
                }
                if let Alter::RenameTable(name) = change {
                    let renamed = TableName::new(table.name.schema(), name);
                    let mut seen = self.seen.remove(&table.name).unwrap_or_default();
                    let latest = self.marks.remove(&table.name);
                    if mark.follows_renames {
                        self.marks.extend(latest.map(|latest| (renamed.clone(), latest)));
                    } else {
                        seen.iter_mut().for_each(|seen| (seen.is_delivered, seen.delivered) = (false, None));
                    }
                    self.seen.insert(renamed, seen);
                }
            }
            IdealChange::Row { op: Op::Truncate, table, .. } => {
                losses.insert(Loss::TruncateMissed);
                self.seen.entry(table.name.clone()).or_default().clear();
            }
            IdealChange::Row { table, before, after, .. } => {
                let Some(state) = self.tables.0.get(&table.name) else { return };
                let seen = self.seen.entry(table.name.clone()).or_default();
                // The tables' rows and what is known of them are kept in the same order: see `Tables::apply`.
                let at = before.as_ref().and_then(|before| state.rows.iter().rposition(|row| row == before));
                let old = at.map(|at| seen.remove(at));
                if before == after && !self.tells_unchanged {
                    losses.insert(Loss::UnchangedUpdateMissed);
                    seen.extend(old);
                    return;
                }
                if old.is_some() {
                    losses.insert(Loss::NoBeforeImage);
                }
                if old.as_ref().is_some_and(|old| !old.is_delivered) {
                    losses.insert(Loss::VersionsCollapsed);
                }
                let Some(after) = after else {
                    losses.insert(Loss::DeleteMissed);
                    return;
                };
                if before.as_ref().is_some_and(|before| table.key_of(before) != table.key_of(after)) {
                    losses.insert(Loss::OldKeyMissed);
                }
                let stamp = match (after.get(TIME_COLUMN), &old) {
                    (Some(given), _) => Stamp::Given(given.clone()),
                    (None, Some(old)) if !mark.touched_by_updates => old.stamp.clone(),
                    (None, _) => Stamp::Began(began),
                };
                seen.push(Seen { stamp, is_delivered: false, delivered: old.and_then(|old| old.delivered) });
            }
        }
    }

    /// What the method finds when it looks: table by table, by time and then by key.
    fn look(&mut self, mark: Mark, losses: &mut BTreeSet<Loss>) -> Vec<Expected> {
        let mut found = Vec::new();
        for (name, state) in &self.tables.0 {
            let Some(seen) = self.seen.get_mut(name) else { continue };
            let before = self.marks.get(name).cloned();
            let mut new = Vec::new();
            for (row, seen) in state.rows.iter().zip(seen) {
                if seen.is_delivered {
                    continue;
                }
                let is_after = before.as_ref().is_none_or(|mark| seen.stamp > *mark);
                let is_in_overlap = mark.overlap && seen.delivered.as_ref() != Some(&seen.stamp);
                if (is_after || is_in_overlap) && seen.stamp != Stamp::Given(Value::Null) {
                    seen.is_delivered = true;
                    seen.delivered = Some(seen.stamp.clone());
                    new.push((seen.stamp.clone(), expected(&state.table, row)));
                } else {
                    losses.insert(Loss::BehindTheMark);
                }
            }
            new.sort_by(|(a, x), (b, y)| (a, values(x)).cmp(&(b, values(y))));
            if let Some((latest, _)) = new.last() {
                let mark = before.filter(|before| before > latest).unwrap_or_else(|| latest.clone());
                self.marks.insert(name.clone(), mark);
            }
            found.extend(new.into_iter().map(|(_, expected)| expected));
        }
        found
    }
}

fn expected(table: &Table, row: &crate::value::Row) -> Expected {
    Expected { key: table.key_of(row), after: Some(row.clone()), ..Expected::new(Op::Upsert, table.name.clone()) }
}

fn values(expected: &Expected) -> (Vec<Value>, Vec<Value>) {
    let values = |row: &crate::value::Row| row.iter().map(|(_, value)| value.clone()).collect();
    (values(&expected.key), expected.after.iter().flat_map(values).collect())
}
