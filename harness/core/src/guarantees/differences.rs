//! The promise of methods that compare: how a table's rows differ between two of its states.
//!
//! What happened in between is not asked for. A row that came and went is not told, nor is an update that left its row as it
//! was, and rows without a key are told apart by what they hold, so that an update is one row less and another one more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Delivery, Difference, Expected, Guarantees, Loss, Promise, changes::ToldShapes};
use crate::{
    change::Op,
    model::{IdealChange, IdealTransaction, TableState, Tables},
    schema::{Table, TableName},
    value::{Row, Value},
};

/// A row as a list that has an order.
type Content = Vec<(String, Value)>;

impl Guarantees {
    /// The stream promised for a capture that began at `cut`, and compared at each commit or when so many transactions had
    /// been committed.
    pub(super) fn promise_differences(
        &self,
        difference: Difference,
        committed: &[IdealTransaction],
        cut: usize,
        looks: &[usize],
    ) -> Promise {
        let mut promise = Promise::default();
        let mut tables = Tables::default();
        committed.iter().take(cut).flat_map(|transaction| &transaction.changes).for_each(|change| tables.apply(change));
        if self.initial_snapshot {
            promise.reads = self.promise_reads(&tables, &mut promise.losses);
        }
        let mut told = self.told_shapes(&tables);
        let each_commit: Vec<usize> = (cut + 1..=committed.len()).collect();
        let ends = if difference.each_commit { &each_commit } else { looks };
        let mut from = cut;
        for end in ends.iter().filter(|end| **end >= cut) {
            let period = &committed[from..*end];
            let changes = self.promise_period(difference, period, &mut tables, &mut told, &mut promise.losses);
            if !changes.is_empty() {
                let number = end.saturating_sub(1);
                promise.transactions.push(Delivery { changes, number, committed_before: number });
            }
            from = *end;
        }
        self.name_order(&mut promise);
        promise
    }

    /// How the tables differ before and after some transactions.
    fn promise_period(
        &self,
        difference: Difference,
        period: &[IdealTransaction],
        tables: &mut Tables,
        told: &mut ToldShapes,
        losses: &mut BTreeSet<Loss>,
    ) -> Vec<Expected> {
        let events = || period.iter().flat_map(|transaction| &transaction.changes);
        let with_rows = |transaction: &&IdealTransaction| transaction.changes.iter().any(is_of_rows);
        if period.iter().filter(with_rows).count() > 1 {
            losses.insert(Loss::NoTransactions);
        }
        // The rows that were there before, in the shape that their tables have now.
        let mut before = tables.clone();
        for event in events() {
            name_losses(difference, event, tables, losses);
            tables.apply(event);
            if is_of_rows(event) {
                continue;
            }
            before.apply(event);
            // A comparison tells a changed definition with the next row, or not at all.
            self.promise_shape(event, told, &mut Vec::new(), losses);
        }
        name_collapsed(period, losses);
        let mut changes = Vec::new();
        for (name, state) in &tables.0 {
            let (before, after) = (self.told_rows(before.0.get(name), losses), self.told_rows(Some(state), losses));
            let table = self.told_table(&state.table);
            let differences = differ(&table, difference.keyed && !table.key.is_empty(), before, after);
            if !differences.is_empty() {
                self.promise_shape_of(&table, told, &mut changes);
            }
            changes.extend(differences);
        }
        changes
    }

    fn told_rows(&self, state: Option<&TableState>, losses: &mut BTreeSet<Loss>) -> Vec<Row> {
        let rows = state.into_iter().flat_map(|state| state.rows.iter().map(|row| (&state.table, row)));
        rows.map(|(table, row)| self.values.told_row(table, row, losses)).collect()
    }
}

pub(super) fn is_of_rows(change: &IdealChange) -> bool {
    matches!(change, IdealChange::Row { .. })
}

/// What a comparison can't tell of a change, whatever else happens.
fn name_losses(difference: Difference, change: &IdealChange, tables: &Tables, losses: &mut BTreeSet<Loss>) {
    match change {
        IdealChange::Row { op: Op::Truncate, table, .. } => {
            let is_empty = tables.0.get(&table.name).is_none_or(|state| state.rows.is_empty());
            losses.insert(if is_empty { Loss::TruncateMissed } else { Loss::TruncateAsDeletes });
        }
        IdealChange::Row { op: Op::Update, before: Some(before), after: Some(after), table, .. } => {
            if before == after {
                losses.insert(Loss::UnchangedUpdateMissed);
            } else if !difference.keyed || table.key.is_empty() {
                losses.insert(Loss::UpdateSplit);
            } else if table.key_of(before) != table.key_of(after) {
                losses.insert(Loss::KeyChangeSplit);
            }
        }
        _ => {}
    }
}

/// A row that was touched twice between two comparisons is told once, or not at all.
pub(super) fn name_collapsed(period: &[IdealTransaction], losses: &mut BTreeSet<Loss>) {
    let mut touched: BTreeMap<(&TableName, Content), usize> = BTreeMap::new();
    for change in period.iter().flat_map(|transaction| &transaction.changes) {
        let IdealChange::Row { table, before, after, .. } = change else { continue };
        let name = |row: &Row| content(&if table.key.is_empty() { row.clone() } else { table.key_of(row) });
        let rows: BTreeSet<Content> = before.iter().chain(after).map(name).collect();
        for row in rows {
            *touched.entry((&table.name, row)).or_default() += 1;
        }
    }
    if touched.values().any(|times| *times > 1) {
        losses.insert(Loss::VersionsCollapsed);
    }
}

fn content(row: &Row) -> Content {
    row.canonical().into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect()
}

/// How rows differ: deletes, then updates and inserts.
fn differ(table: &Arc<Table>, keyed: bool, before: Vec<Row>, after: Vec<Row>) -> Vec<Expected> {
    // Rows are told apart by their key, or by all they hold; of equal ones as many are left as there are more.
    let name = |row: &Row| content(&if keyed { table.key_of(row) } else { row.clone() });
    let mut gone: BTreeMap<Content, Vec<Row>> = BTreeMap::new();
    for row in before {
        gone.entry(name(&row)).or_default().push(row);
    }
    let mut came = Vec::new();
    for row in after {
        match gone.get_mut(&name(&row)).and_then(Vec::pop) {
            Some(old) if old == row => {}
            old => came.push((old, row)),
        }
    }
    let expected = |op, row: &Row| Expected { key: table.key_of(row), ..Expected::new(op, table.name.clone()) };
    let deletes =
        gone.into_values().flatten().map(|old| Expected { before: Some(old.clone()), ..expected(Op::Delete, &old) });
    let others = came.into_iter().map(|(old, row)| {
        let op = if old.is_some() { Op::Update } else { Op::Insert };
        Expected { before: old, after: Some(row.clone()), ..expected(op, &row) }
    });
    deletes.chain(others).collect()
}

impl Guarantees {
    /// The shapes of tables as they are told when the capture begins.
    pub(super) fn told_shapes(&self, tables: &Tables) -> ToldShapes {
        tables.0.iter().map(|(name, state)| (name.clone(), self.told_table(&state.table))).collect()
    }
}
