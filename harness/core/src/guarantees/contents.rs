//! The promise of what keeps a table as another one is: whenever somebody looks, all that the tables hold.
//!
//! A change of a table's definition is followed with the next change of a row, since only then the log tells what the table looks
//! like. What a table holds is told if it isn't what was told of it before: as a truncate, and an insert of each row.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Delivery, Expected, Guarantees, Loss, Promise,
    differences::{is_of_rows, name_collapsed},
};
use crate::{
    change::Op,
    model::{IdealChange, IdealTransaction, TableState, Tables},
    schema::{Table, TableName},
    script::Alter,
    value::{Row, sort_by_key},
};

/// Tables that follow others.
#[derive(Default)]
struct Following {
    tables: Tables,
    /// By a table's present name: what has changed in its definition that it has not followed yet.
    behind: BTreeMap<TableName, Vec<IdealChange>>,
}

impl Following {
    fn follow(&mut self, change: &IdealChange) {
        match change {
            IdealChange::Created(_) => self.tables.apply(change),
            IdealChange::Altered { table, change: alteration } => {
                let mut behind = self.behind.remove(&table.name).unwrap_or_default();
                behind.push(change.clone());
                self.behind.insert(name_after(table, alteration), behind);
            }
            IdealChange::Row { table, .. } => {
                let behind = self.behind.remove(&table.name).unwrap_or_default();
                behind.iter().chain([change]).for_each(|change| self.tables.apply(change));
            }
        }
    }
}

fn name_after(table: &Table, alteration: &Alter) -> TableName {
    match alteration {
        Alter::RenameTable(name) => TableName::new(table.name.schema(), name),
        _ => table.name.clone(),
    }
}

impl Guarantees {
    /// The stream promised for a capture that began at `cut`, and looked when so many transactions had been committed.
    pub(super) fn promise_contents(&self, committed: &[IdealTransaction], cut: usize, looks: &[usize]) -> Promise {
        let mut promise = Promise::default();
        let mut following = Following::default();
        let existing = committed.iter().take(cut).flat_map(|transaction| &transaction.changes);
        // What is there at the beginning is copied by the definitions of that moment.
        existing.for_each(|change| following.tables.apply(change));
        if self.initial_snapshot {
            promise.reads = self.promise_reads(&following.tables, &mut promise.losses);
        }
        let mut told = self.contents(&following.tables, &mut BTreeSet::new());
        let mut from = cut;
        for look in looks.iter().filter(|look| **look >= cut) {
            let period = &committed[from..*look];
            let with_rows = |transaction: &&IdealTransaction| transaction.changes.iter().any(is_of_rows);
            if period.iter().filter(with_rows).count() > 1 {
                promise.losses.insert(Loss::NoTransactions);
            }
            name_collapsed(period, &mut promise.losses);
            for change in period.iter().flat_map(|transaction| &transaction.changes) {
                following.follow(change);
                if let IdealChange::Altered { table, change: Alter::RenameTable(name) } = change
                    && let Some(rows) = told.remove(&table.name)
                {
                    told.insert(TableName::new(table.name.schema(), name), rows);
                }
            }
            from = *look;
            let now = self.contents(&following.tables, &mut promise.losses);
            let changes: Vec<Expected> = now
                .iter()
                .filter(|(name, rows)| told.get(*name).map_or(!rows.is_empty(), |told| told != *rows))
                .flat_map(|(name, rows)| all_of(&self.told_table(&following.tables.0[name].table), rows))
                .collect();
            if !changes.is_empty() {
                promise.transactions.push(Delivery { changes, number: *look, committed_before: *look });
            }
            told.extend(now);
        }
        promise
    }

    /// The rows of each table as they are told, in their order.
    fn contents(&self, tables: &Tables, losses: &mut BTreeSet<Loss>) -> BTreeMap<TableName, Vec<Row>> {
        let rows = |(name, state): (&TableName, &TableState)| {
            let mut rows: Vec<Row> =
                state.rows.iter().map(|row| self.values.told_row(&state.table, row, losses)).collect();
            sort_by_key(&mut rows, &state.table.key);
            (name.clone(), rows)
        };
        tables.0.iter().map(rows).collect()
    }
}

fn all_of(table: &Table, rows: &[Row]) -> Vec<Expected> {
    let insert = |row: &Row| Expected {
        key: table.key_of(row),
        after: Some(row.clone()),
        ..Expected::new(Op::Insert, table.name.clone())
    };
    [Expected::new(Op::Truncate, table.name.clone())].into_iter().chain(rows.iter().map(insert)).collect()
}
