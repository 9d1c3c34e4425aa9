//! The promise of methods that tell which files of a table came and went, from its metadata alone.

use std::collections::BTreeMap;

use super::{Delivery, Expected, Guarantees, Loss, Promise};
use crate::{
    change::Op,
    model::{IdealChange, IdealTransaction, Tables},
    schema::TableName,
    value::{Row, Value},
};

/// By how much the number of a table's rows has changed, in what a commit's files tell.
pub const ROWS: &str = "rows";

impl Guarantees {
    /// One change for each table and commit that changed its rows: by how many, as far as the metadata say so.
    pub(super) fn promise_files(&self, committed: &[IdealTransaction], cut: usize) -> Promise {
        let mut promise = Promise::default();
        let mut tables = Tables::default();
        for (number, transaction) in committed.iter().enumerate() {
            let mut differences: BTreeMap<TableName, i128> = BTreeMap::new();
            for change in &transaction.changes {
                if let IdealChange::Row { op, table, .. } = change {
                    let held = tables.0.get(&table.name).map_or(0, |state| state.rows.len());
                    match (op, i128::try_from(held).unwrap_or(i128::MAX)) {
                        (Op::Truncate, 0) => {}
                        (Op::Truncate, held) => *differences.entry(table.name.clone()).or_default() -= held,
                        (Op::Insert, _) => *differences.entry(table.name.clone()).or_default() += 1,
                        (Op::Delete, _) => *differences.entry(table.name.clone()).or_default() -= 1,
                        _ => *differences.entry(table.name.clone()).or_default() += 0,
                    }
                }
                tables.apply(change);
            }
            if number < cut || differences.is_empty() {
                continue;
            }
            let changes = differences.into_iter().map(|(table, rows)| {
                let after: Row = [(ROWS, Value::Int(rows))].into_iter().collect();
                Expected { after: Some(after), ..Expected::new(Op::Files, table) }
            });
            promise.losses.insert(Loss::RowsNotTold);
            promise.transactions.push(Delivery {
                changes: changes.collect(),
                number,
                committed_before: transaction.committed_before,
            });
        }
        self.name_order(&mut promise);
        promise
    }
}
