//! Rows that are read while changes are told: each must be what the changes before it in the stream have made of it, and none may be
//! missing that nothing else told of.

use std::collections::{BTreeSet, HashSet};

use super::{Fault, FaultKind, Judgement, Watch, describe, diff};
use crate::{
    change::{Change, Op},
    guarantees::{Expected, Guarantees, Loss},
    model::{IdealChange, Model, Tables},
    schema::TableName,
    text,
    value::{Row, Value},
};

/// A row by its table and key.
type RowName = (TableName, Vec<Value>);

fn name_of(table: &TableName, key: &Row) -> RowName {
    (table.clone(), key.iter().map(|(_, value)| value.clone()).collect())
}

/// Judges the changes without the reads, and then each read by its place among them.
pub(super) fn judge(model: &Model, guarantees: &Guarantees, watch: &Watch, stream: &[Change]) -> Judgement {
    let changes: Vec<_> = stream.iter().filter(|change| change.op != Op::Read).cloned().collect();
    let of_changes = Guarantees { initial_snapshot: false, ..guarantees.clone() };
    let judged = super::judge(model, &of_changes, watch, &changes);
    let mut told = judged.matched.into_iter().zip(judged.transactions);
    let mut reads = Reads::new(model, guarantees, judged.cut);
    let (mut matched, mut transactions) = (Vec::new(), Vec::new());
    for change in stream {
        let (pair, transaction) = match change.op {
            Op::Read => {
                reads.take(change);
                (None, None)
            }
            _ => told.next().unwrap_or_default(),
        };
        transaction.into_iter().for_each(|number| reads.follow(number));
        matched.push(pair);
        transactions.push(transaction);
    }
    let faults = reads.end(watch.began.1);
    let losses = BTreeSet::from([Loss::SnapshotOverlaps]);
    Judgement {
        verdict: judged.verdict.and(faults, losses),
        matched,
        transactions,
        cut: judged.cut,
        overlap: BTreeSet::new(),
    }
}

/// The reads of a stream, and the tables as they are at the place that has been reached.
struct Reads<'a> {
    model: &'a Model,
    guarantees: &'a Guarantees,
    began: usize,
    tables: Tables,
    /// How many of the model's transactions the tables have seen.
    reached: usize,
    read: HashSet<RowName>,
    faults: Vec<Fault>,
}

impl<'a> Reads<'a> {
    fn new(model: &'a Model, guarantees: &'a Guarantees, began: usize) -> Self {
        let tables = model.tables_after(began);
        Self { model, guarantees, began, tables, reached: began, read: HashSet::new(), faults: Vec::new() }
    }

    /// The stream has told the transaction of a number.
    fn follow(&mut self, number: usize) {
        let behind = self.model.committed().iter().take(number + 1).skip(self.reached);
        behind.flat_map(|transaction| &transaction.changes).for_each(|change| self.tables.apply(change));
        self.reached = self.reached.max(number + 1);
    }

    /// The row as it is told now, if it is there.
    fn expected(&self, read: &Change) -> Option<Expected> {
        let state = self.tables.0.get(&read.table)?;
        let row = state.rows.iter().find(|row| state.table.key_of(row) == read.key)?;
        Some(self.guarantees.promise_read(&state.table, row, &mut BTreeSet::new()))
    }

    fn take(&mut self, read: &Change) {
        let line = || text::line(read, None);
        if !self.read.insert(name_of(&read.table, &read.key)) {
            self.faults.push(Fault::new(FaultKind::Duplicated, line()));
        }
        match self.expected(read) {
            None => self.faults.push(Fault::new(FaultKind::Phantom, line())),
            Some(expected) if !diff::is_it(&expected, read) => {
                let detail = format!("{} (at its place it is {})", line(), describe(&expected));
                self.faults.push(Fault::new(FaultKind::WrongValue, detail));
            }
            Some(_) => {}
        }
    }

    /// The faults, with the rows that were there and of which nothing has told: no read, and no change before the reading had ended,
    /// when so many transactions had been committed.
    fn end(mut self, ended: usize) -> Vec<Fault> {
        for transaction in &self.model.committed()[self.began..ended.max(self.began)] {
            for change in &transaction.changes {
                if let IdealChange::Row { table, before, after, .. } = change {
                    let keys = before.iter().chain(after).map(|row| name_of(&table.name, &table.key_of(row)));
                    self.read.extend(keys);
                }
            }
        }
        for state in self.model.tables_after(self.began).0.into_values() {
            for row in &state.rows {
                if !self.read.contains(&name_of(&state.table.name, &state.table.key_of(row))) {
                    let expected = self.guarantees.promise_read(&state.table, row, &mut BTreeSet::new());
                    self.faults.push(Fault::new(FaultKind::Lost, describe(&expected)));
                }
            }
        }
        self.faults
    }
}
