//! The promise of methods that deliver every change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    BeforeImages, Delivery, Expected, Guarantees, KeyChange, Loss, Order, Promise, RowImage, SchemaChanges, Truncate,
    UnchangedToast,
};
use crate::{
    change::Op,
    model::{self, IdealChange, IdealTransaction, Tables},
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    script::Alter,
    value::{Row, Value},
};

/// The bytes above which PostgreSQL moves an `EXTERNAL` value out of line (manual, 73.2 "TOAST": `TOAST_TUPLE_THRESHOLD`).
const TOAST_THRESHOLD_BYTES: usize = 2000;

/// The shapes of the tables that a method has told last, by the tables' present names. A table that was created while the
/// capture ran has none until its first row.
pub(super) type ToldShapes = BTreeMap<TableName, Arc<Table>>;

impl Guarantees {
    /// The stream promised for a capture that began on `existing` and saw what was committed from `cut` on.
    pub(super) fn promise_changes(&self, existing: &Tables, committed: &[IdealTransaction], cut: usize) -> Promise {
        let mut promise = Promise::default();
        if self.initial_snapshot {
            promise.reads = self.promise_reads(existing, &mut promise.losses);
        }
        let mut told = self.told_shapes(existing);
        let follows = self.truncate == Truncate::AsDeletes;
        let mut tables = if follows { existing.clone() } else { Tables::default() };
        for (number, transaction) in committed.iter().enumerate().skip(cut) {
            let mut changes = Vec::new();
            for change in &transaction.changes {
                self.promise_shape(change, &mut told, &mut changes, &mut promise.losses);
                self.promise_change(change, &tables, &mut changes, &mut promise.losses);
                if follows {
                    tables.apply(change);
                }
            }
            if !changes.is_empty() {
                let committed_before = transaction.committed_before;
                promise.transactions.push(Delivery { changes, number, committed_before });
            }
        }
        self.name_order(&mut promise);
        promise
    }

    pub(super) fn promise_reads(&self, existing: &Tables, losses: &mut BTreeSet<Loss>) -> Vec<Expected> {
        let rows = existing.0.values().flat_map(|state| state.rows.iter().map(|row| (&state.table, row)));
        rows.map(|(table, row)| self.promise_read(table, row, losses)).collect()
    }

    /// How a row is told that is read.
    pub(crate) fn promise_read(&self, table: &Arc<Table>, row: &Row, losses: &mut BTreeSet<Loss>) -> Expected {
        let values = self.read_values.as_ref().unwrap_or(&self.values);
        let (table, row) = (self.told_table(table), values.told_row(table, row, losses));
        Expected { key: table.key_of(&row), after: Some(row), ..Expected::new(Op::Read, table.name.clone()) }
    }

    /// A table as the method tells it: the columns that it delivers, and what it takes for the key.
    pub(super) fn told_table(&self, table: &Arc<Table>) -> Arc<Table> {
        let told = self.values.told_table(table);
        match &told.identity {
            ReplicaIdentity::Index(columns) if self.keys_by_identity && told.key.is_empty() => {
                Arc::new(Table { key: columns.clone(), ..Table::clone(&told) })
            }
            _ => told,
        }
    }

    pub(super) fn name_order(&self, promise: &mut Promise) {
        let transactions = &promise.transactions;
        let tables: BTreeSet<_> = transactions.iter().flat_map(|t| t.changes.iter().map(|c| &c.table)).collect();
        if self.order == Order::CommitOfEachTable && tables.len() > 1 && transactions.len() > 1 {
            promise.losses.insert(Loss::OrderAcrossTables);
        }
        let has_concurrent = transactions.windows(2).any(|pair| pair[0].is_beside(&pair[1]));
        if self.order == Order::CommitUnlessConcurrent && has_concurrent {
            promise.losses.insert(Loss::ConcurrentOrderUnknown);
        }
        if !self.transactions && transactions.iter().any(|transaction| transaction.changes.len() > 1) {
            promise.losses.insert(Loss::NoTransactions);
        }
    }

    /// What is told of a table's definition before a change, and what isn't.
    pub(super) fn promise_shape(
        &self,
        change: &IdealChange,
        told: &mut ToldShapes,
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        match change {
            IdealChange::Created(table) => {
                told.remove(&table.name);
            }
            IdealChange::Altered { table, change } => {
                if changes_shape(change) {
                    match self.schema_changes {
                        SchemaChanges::NextRow => {
                            losses.insert(Loss::SchemaChangeSilent);
                        }
                        SchemaChanges::WithNextRow => {
                            losses.insert(Loss::SchemaChangeLate);
                        }
                        SchemaChanges::AtOnce => {
                            let after = model::altered_table(table, change);
                            promised.push(Expected {
                                before: Some(self.types(table)),
                                after: Some(self.types(&after)),
                                ..Expected::new(Op::Schema, after.name)
                            });
                        }
                        SchemaChanges::AtOnceWithNames => {
                            self.promise_named_shape(table, &model::altered_table(table, change), promised, losses);
                        }
                    }
                }
                if let Alter::RenameTable(name) = change
                    && let Some(shape) = told.remove(&table.name)
                {
                    told.insert(TableName::new(table.name.schema(), name), shape);
                }
            }
            IdealChange::Row { table, .. } => {
                self.promise_shape_of(&self.told_table(table), told, promised);
            }
        }
    }

    /// What is told at once of a table's definition that has changed, if anything that is told of it has.
    fn promise_named_shape(
        &self,
        before: &Table,
        after: &Table,
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        let (old, new) = (self.types(before), self.types(after));
        let renamed_from = (before.name != after.name).then(|| before.name.clone());
        if old == new && renamed_from.is_none() {
            losses.insert(Loss::SchemaChangeSilent);
            return;
        }
        promised.push(Expected {
            before: Some(old),
            after: Some(new),
            renamed_from,
            ..Expected::new(Op::Schema, after.name.clone())
        });
    }

    /// A table's shape as a schema change tells it: its columns and their types.
    fn types(&self, table: &Table) -> Row {
        let told = |column: &Column| (column.name.clone(), Value::Text(self.values.type_name(&column.ty)));
        table.columns.iter().map(told).collect()
    }

    /// What is told of a table's definition before a change of its rows.
    pub(super) fn promise_shape_of(&self, table: &Arc<Table>, told: &mut ToldShapes, promised: &mut Vec<Expected>) {
        let last = told.insert(table.name.clone(), Arc::clone(table));
        let last = last.filter(|last| self.types(last) != self.types(table) || last.name != table.name);
        if let (SchemaChanges::WithNextRow, Some(last)) = (self.schema_changes, last) {
            promised.push(Expected {
                before: Some(self.types(&last)),
                after: Some(self.types(table)),
                renamed_from: Some(&last.name).filter(|name| **name != table.name).cloned(),
                ..Expected::new(Op::Schema, table.name.clone())
            });
        }
    }

    /// What is told of a change, which happens to these tables.
    fn promise_change(
        &self,
        change: &IdealChange,
        tables: &Tables,
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        let IdealChange::Row { op, table, before, after, named } = change else { return };
        if *op == Op::Truncate && self.truncate != Truncate::Told {
            self.promise_truncate(table, tables, promised, losses);
            return;
        }
        let mut told = |row: &Option<Row>| row.as_ref().map(|row| self.values.told_row(table, row, losses));
        let (before, after) = (&told(before), &told(after));
        let table = &self.told_table(table);
        match (op, before, after) {
            (Op::Update, Some(before), Some(after)) => {
                self.promise_update(table, before, after, named, promised, losses);
            }
            (Op::Delete, Some(before), _) => {
                promised.push(self.promise_delete(table, before, losses));
            }
            _ => promised.push(Expected {
                key: after.as_ref().map(|after| table.key_of(after)).unwrap_or_default(),
                after: after.as_ref().map(|after| self.new_image(table, after, named, losses)),
                ..Expected::new(*op, table.name.clone())
            }),
        }
    }

    /// A truncate that is not told, or told as what becomes of the rows.
    fn promise_truncate(
        &self,
        table: &Arc<Table>,
        tables: &Tables,
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        let rows = tables.0.get(&table.name).map_or(&[][..], |state| &state.rows);
        if self.truncate == Truncate::Missed || rows.is_empty() {
            losses.insert(Loss::TruncateMissed);
            return;
        }
        losses.insert(Loss::TruncateAsDeletes);
        for row in rows {
            let told = self.values.told_row(table, row, losses);
            promised.push(self.promise_delete(&self.told_table(table), &told, losses));
        }
    }

    fn promise_update(
        &self,
        table: &Arc<Table>,
        before: &Row,
        after: &Row,
        named: &[String],
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        if !self.unchanged_updates && before == after {
            losses.insert(Loss::UnchangedUpdateMissed);
            return;
        }
        let key_changed = table.key_of(before) != table.key_of(after);
        let delivered = self.new_row(table, (before, after), named, losses);
        let new = Expected {
            key: table.key_of(after),
            after: Some(delivered),
            ..Expected::new(Op::Update, table.name.clone())
        };
        let loses_key = key_changed && self.key_change == KeyChange::DeleteAndInsert;
        let has_no_key = table.key.is_empty() && self.keyless_update == KeyChange::DeleteAndInsert;
        if loses_key || has_no_key {
            losses.insert(if loses_key { Loss::KeyChangeSplit } else { Loss::UpdateSplit });
            promised.push(self.promise_delete(table, before, losses));
            promised.push(Expected { op: Op::Insert, ..new });
        } else {
            let before = self.old_row(table, before, Some(after), losses);
            let filler = self.filler(table, before.as_ref(), losses);
            promised.push(Expected { before, filler, ..new });
        }
    }

    fn promise_delete(&self, table: &Table, before: &Row, losses: &mut BTreeSet<Loss>) -> Expected {
        let image = self.old_row(table, before, None, losses);
        Expected {
            key: table.key_of(before),
            filler: self.filler(table, image.as_ref(), losses),
            before: image,
            tombstone: self.tombstones,
            ..Expected::new(Op::Delete, table.name.clone())
        }
    }

    fn filler(&self, table: &Table, image: Option<&Row>, losses: &mut BTreeSet<Loss>) -> Row {
        let Some(image) = image.filter(|_| self.fills_before_images) else {
            return Row::default();
        };
        let missing = table.columns.iter().filter(|column| image.get(&column.name).is_none());
        let filler: Row = missing.map(|column| (column.name.clone(), filled_in(column))).collect();
        if filler.iter().any(|(_, value)| !value.is_null()) {
            losses.insert(Loss::BeforeImageFilled);
        }
        filler
    }

    /// The promised part of an old row. An update that leaves the columns of the replica identity alone logs none of them.
    fn old_row(&self, table: &Table, before: &Row, after: Option<&Row>, losses: &mut BTreeSet<Loss>) -> Option<Row> {
        match self.before_images {
            BeforeImages::Full => return Some(self.old_image(table, before, losses)),
            BeforeImages::Changed => return Some(changed_part(before, after, losses)),
            BeforeImages::ReplicaIdentity if table.identity == ReplicaIdentity::Full => return Some(before.clone()),
            BeforeImages::ReplicaIdentity | BeforeImages::None => {}
        }
        let identity = table.identity_columns();
        let image = before.project(identity.iter().map(String::as_str));
        let is_unchanged = after.is_some_and(|after| after.contains(&image));
        if self.before_images == BeforeImages::None || is_unchanged || image.is_empty() {
            losses.insert(Loss::NoBeforeImage);
            return None;
        }
        if after.is_none() && image.len() < table.columns.len() {
            losses.insert(Loss::BeforeImageKeyOnly);
        }
        Some(image)
    }

    /// What the log's image of an old row holds.
    fn old_image(&self, table: &Table, before: &Row, losses: &mut BTreeSet<Loss>) -> Row {
        let is_in = |column: &Column| match self.row_image {
            RowImage::Full => true,
            RowImage::NoBlob => table.key.is_empty() || table.key.contains(&column.name) || !is_blob(&column.ty),
            RowImage::Minimal => table.key.is_empty() || table.key.contains(&column.name),
        };
        let image =
            before.project(table.columns.iter().filter(|column| is_in(column)).map(|column| column.name.as_str()));
        if image.len() < before.len() {
            losses.insert(Loss::ColumnsLeftOut);
        }
        image
    }

    /// What the log's image of a new row holds, of which a statement has named these columns.
    fn new_image(&self, table: &Table, after: &Row, named: &[String], losses: &mut BTreeSet<Loss>) -> Row {
        let is_in = |name: &str| {
            let is_named = named.iter().any(|named| named == name);
            let is_blob = table.column(name).is_some_and(|column| is_blob(&column.ty));
            match self.row_image {
                RowImage::Full => true,
                RowImage::NoBlob => is_named || !is_blob || table.key.iter().any(|key| key == name),
                RowImage::Minimal => is_named,
            }
        };
        let image = after.project(after.columns().filter(|name| is_in(name)));
        if image.len() < after.len() {
            losses.insert(Loss::ColumnsLeftOut);
        }
        image
    }

    /// The promised new row: large values that stayed the same may be left out, and so may all others.
    fn new_row(
        &self,
        table: &Table,
        (before, after): (&Row, &Row),
        named: &[String],
        losses: &mut BTreeSet<Loss>,
    ) -> Row {
        let mut row = self.new_image(table, after, named, losses);
        if self.unchanged_toast != UnchangedToast::Delivered && table.identity != ReplicaIdentity::Full {
            for column in table.columns.iter().filter(|column| column.external) {
                let name = column.name.as_str();
                let unchanged = before.get(name) == after.get(name);
                if unchanged && after.get(name).is_some_and(is_stored_out_of_line) {
                    losses.insert(Loss::UnchangedToastOmitted);
                    if self.unchanged_toast == UnchangedToast::LeftOut {
                        row.remove(name);
                    } else {
                        row.set(name, Value::Unavailable);
                    }
                }
            }
        }
        row
    }
}

/// The old values of the columns that an update changed; those of a delete are all.
fn changed_part(before: &Row, after: Option<&Row>, losses: &mut BTreeSet<Loss>) -> Row {
    let has_changed = |name: &str| after.is_none_or(|after| before.get(name) != after.get(name));
    let part = before.project(before.columns().filter(|name| has_changed(name)));
    if part.len() < before.len() {
        losses.insert(Loss::OldValuesOfChangesOnly);
    }
    part
}

/// What stands for a value that isn't known (Debezium: the field's default in the schema of the record).
fn filled_in(column: &Column) -> Value {
    if column.nullable {
        return Value::Null;
    }
    let zero = || match &column.ty {
        Type::Bool => Value::Bool(false),
        Type::SmallInt | Type::Int | Type::BigInt => Value::Int(0),
        Type::Real | Type::Double => Value::from(0.0),
        Type::Numeric(_) => Value::Int(0).cast(&column.ty),
        Type::Bytes => Value::Bytes(Vec::new()),
        Type::Date => "1970-01-01".into(),
        Type::Timestamp => "1970-01-01 00:00:00".into(),
        Type::TimestampTz => "1970-01-01 00:00:00+00".into(),
        Type::Array(_) => Value::Array(Vec::new()),
        Type::Text | Type::Varchar(_) | Type::Uuid | Type::Json | Type::Composite { .. } | Type::Other(_) => "".into(),
    };
    column.default.clone().unwrap_or_else(zero)
}

fn is_stored_out_of_line(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.len() > TOAST_THRESHOLD_BYTES,
        Value::Bytes(bytes) => bytes.len() > TOAST_THRESHOLD_BYTES,
        _ => false,
    }
}

pub(super) fn changes_shape(change: &Alter) -> bool {
    !matches!(change, Alter::Identity(_) | Alter::Key(_))
}

/// A text, or bytes, without a limit, or a document.
fn is_blob(ty: &Type) -> bool {
    match ty {
        Type::Text | Type::Bytes | Type::Json => true,
        Type::Other(name) => name.ends_with("text") || name.ends_with("blob"),
        _ => false,
    }
}
