//! What a method promises, as data, and what remains of the ideal stream under that promise.
//!
//! [`Guarantees::promise`] turns what truly happened into exactly what the method says it will deliver, and names each
//! difference as a [`Loss`]. The judge then compares for equality: a stream that is worse than the promise is broken,
//! and so is one that is better, because then the promise is wrong.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::Serialize;

use crate::{
    change::Op,
    model::{IdealChange, IdealTransaction, Tables},
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    value::{Row, Value},
};

/// The bytes above which PostgreSQL moves an `EXTERNAL` value out of line (manual, 73.2 "TOAST": `TOAST_TUPLE_THRESHOLD`).
const TOAST_THRESHOLD_BYTES: usize = 2000;

/// What a method promises about the streams it delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// Whether rows that exist before the capture begins are delivered as reads.
    pub initial_snapshot: bool,
    /// What is delivered of a row's old version.
    pub before_images: BeforeImages,
    /// Whether columns that a before-image doesn't hold are filled in: with NULL, or where a column doesn't take NULL with
    /// its default or its type's zero, as if that were its value.
    pub fills_before_images: bool,
    /// How an update of the primary key arrives.
    pub key_change: KeyChange,
    /// Whether changes tell the transaction they belong to, transactions arrive whole and in commit order.
    pub transactions: bool,
    /// Whether TRUNCATE is delivered.
    pub truncate: bool,
    /// How a change of a table's definition is told.
    pub schema_changes: SchemaChanges,
    /// What becomes of large values that an update leaves as they are.
    pub unchanged_toast: UnchangedToast,
    /// Whether a tombstone follows each delete; that of a row without a key has no key either.
    pub tombstones: bool,
}

/// What is delivered of a row's old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeImages {
    /// The whole row, always.
    Full,
    /// What the table's replica identity writes to the log: the key, if it changed or the row was deleted; or the whole row.
    ReplicaIdentity,
}

/// How an update of the primary key arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// As one update.
    Update,
    /// As a delete of the old key and an insert of the new one.
    DeleteAndInsert,
}

/// How a change of a table's definition is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaChanges {
    /// Not at all: the next row simply has the new shape, and existing rows are not delivered again.
    NextRow,
}

/// What becomes of large values that an update leaves as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnchangedToast {
    /// They are delivered like any other.
    Delivered,
    /// They are marked as unavailable, unless the replica identity puts the whole old row into the log.
    Omitted,
}

/// Something that truly happened and that a method, as it promises, does not tell or tells differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// A delete (or the delete half of a key change) carries the key only.
    BeforeImageKeyOnly,
    /// A before-image that carries the key only makes values up for columns that don't take NULL.
    BeforeImageFilled,
    /// An update or delete carries no old row at all.
    NoBeforeImage,
    /// An update of the key arrives as delete + insert.
    KeyChangeSplit,
    /// A change of a table's definition is seen only in the next row.
    SchemaChangeSilent,
    /// A large value that didn't change is not delivered.
    UnchangedToastOmitted,
    /// A truncate is not delivered.
    TruncateMissed,
    /// Rows that a schema change rewrote in place are not delivered again.
    RewrittenRowsStale,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeImageKeyOnly => "before-image holds the key only",
            Self::BeforeImageFilled => "before-image makes up values of NOT NULL columns",
            Self::NoBeforeImage => "no before-image",
            Self::KeyChangeSplit => "key change split into delete + insert",
            Self::SchemaChangeSilent => "schema change seen only in the next row",
            Self::UnchangedToastOmitted => "unchanged TOAST value not sent",
            Self::TruncateMissed => "missed truncate",
            Self::RewrittenRowsStale => "rows rewritten by a schema change not sent again",
        })
    }
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
}

/// The stream that a method promises for what truly happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    /// The rows that the initial snapshot reads, in no order.
    pub reads: Vec<Expected>,
    /// The transactions that have any change to deliver.
    pub transactions: Vec<Vec<Expected>>,
    /// What the promise leaves out of the truth.
    pub losses: BTreeSet<Loss>,
}

impl Guarantees {
    /// The stream promised for a capture that began on `existing` and saw `committed`.
    pub fn promise(&self, existing: &Tables, committed: &[IdealTransaction]) -> Promise {
        let mut promise = Promise::default();
        if self.initial_snapshot {
            promise.reads =
                existing.0.values().flat_map(|state| state.rows.iter().map(|row| read(&state.table, row))).collect();
        }
        for transaction in committed {
            let mut changes = Vec::new();
            for change in transaction {
                self.promise_change(change, &mut changes, &mut promise.losses);
            }
            if !changes.is_empty() {
                promise.transactions.push(changes);
            }
        }
        promise
    }

    fn promise_change(&self, change: &IdealChange, promised: &mut Vec<Expected>, losses: &mut BTreeSet<Loss>) {
        let IdealChange::Row { op, table, before, after } = change else {
            if matches!(change, IdealChange::Altered { change, .. } if changes_shape(change)) {
                match self.schema_changes {
                    SchemaChanges::NextRow => losses.insert(Loss::SchemaChangeSilent),
                };
            }
            return;
        };
        match (op, before, after) {
            (Op::Truncate, ..) if !self.truncate => {
                losses.insert(Loss::TruncateMissed);
            }
            (Op::Update, Some(before), Some(after)) => {
                self.promise_update(table, before, after, promised, losses);
            }
            (Op::Delete, Some(before), _) => {
                promised.push(self.promise_delete(table, before, losses));
            }
            _ => promised.push(Expected {
                op: *op,
                table: table.name.clone(),
                key: after.as_ref().map(|after| table.key_of(after)).unwrap_or_default(),
                before: None,
                filler: Row::default(),
                after: after.clone(),
                tombstone: false,
            }),
        }
    }

    fn promise_update(
        &self,
        table: &Arc<Table>,
        before: &Row,
        after: &Row,
        promised: &mut Vec<Expected>,
        losses: &mut BTreeSet<Loss>,
    ) {
        let key_changed = table.key_of(before) != table.key_of(after);
        let delivered = self.new_row(table, before, after, losses);
        let new = Expected {
            op: Op::Update,
            table: table.name.clone(),
            key: table.key_of(after),
            before: None,
            filler: Row::default(),
            after: Some(delivered),
            tombstone: false,
        };
        if key_changed && self.key_change == KeyChange::DeleteAndInsert {
            losses.insert(Loss::KeyChangeSplit);
            promised.push(self.promise_delete(table, before, losses));
            promised.push(Expected { op: Op::Insert, ..new });
        } else {
            let op = if key_changed { Op::Delete } else { Op::Update };
            let before = self.old_row(table, before, op, losses);
            let filler = self.filler(table, before.as_ref(), losses);
            promised.push(Expected { before, filler, ..new });
        }
    }

    fn promise_delete(&self, table: &Table, before: &Row, losses: &mut BTreeSet<Loss>) -> Expected {
        let image = self.old_row(table, before, Op::Delete, losses);
        Expected {
            op: Op::Delete,
            table: table.name.clone(),
            key: table.key_of(before),
            filler: self.filler(table, image.as_ref(), losses),
            before: image,
            after: None,
            tombstone: self.tombstones,
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

    /// The promised part of an old row. An update that leaves the key alone logs no key.
    fn old_row(&self, table: &Table, before: &Row, op: Op, losses: &mut BTreeSet<Loss>) -> Option<Row> {
        match (self.before_images, &table.identity, op) {
            (BeforeImages::Full, ..) | (_, ReplicaIdentity::Full, _) => Some(before.clone()),
            (_, ReplicaIdentity::Default, Op::Update) => {
                losses.insert(Loss::NoBeforeImage);
                None
            }
            (_, ReplicaIdentity::Default, _) => {
                if table.key.len() < table.columns.len() {
                    losses.insert(Loss::BeforeImageKeyOnly);
                }
                Some(table.key_of(before))
            }
        }
    }

    /// The promised new row: large values that stayed the same may be left out.
    fn new_row(&self, table: &Table, before: &Row, after: &Row, losses: &mut BTreeSet<Loss>) -> Row {
        let mut row = after.clone();
        if self.unchanged_toast == UnchangedToast::Omitted && table.identity != ReplicaIdentity::Full {
            for column in table.columns.iter().filter(|column| column.external) {
                let name = column.name.as_str();
                let unchanged = before.get(name) == after.get(name);
                if unchanged && after.get(name).is_some_and(is_stored_out_of_line) {
                    losses.insert(Loss::UnchangedToastOmitted);
                    row.set(name, Value::Unavailable);
                }
            }
        }
        row
    }
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
        Type::Text | Type::Varchar(_) | Type::Uuid | Type::Json | Type::Other(_) => "".into(),
    };
    column.default.clone().unwrap_or_else(zero)
}

fn read(table: &Table, row: &Row) -> Expected {
    Expected {
        op: Op::Read,
        table: table.name.clone(),
        key: table.key_of(row),
        before: None,
        filler: Row::default(),
        after: Some(row.clone()),
        tombstone: false,
    }
}

fn is_stored_out_of_line(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.len() > TOAST_THRESHOLD_BYTES,
        Value::Bytes(bytes) => bytes.len() > TOAST_THRESHOLD_BYTES,
        _ => false,
    }
}

fn changes_shape(change: &crate::script::Alter) -> bool {
    !matches!(change, crate::script::Alter::Identity(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Model, ModelError},
        row,
        script::{Action, Step, TableBuilder, TableRef},
    };

    const EVERYTHING: Guarantees = Guarantees {
        initial_snapshot: true,
        before_images: BeforeImages::Full,
        fills_before_images: false,
        key_change: KeyChange::Update,
        transactions: true,
        truncate: true,
        schema_changes: SchemaChanges::NextRow,
        unchanged_toast: UnchangedToast::Delivered,
        tombstones: false,
    };

    fn promise(guarantees: &Guarantees, steps: &[Step]) -> Result<Promise, ModelError> {
        let mut model = Model::default();
        steps.iter().try_for_each(|step| model.apply(step))?;
        Ok(guarantees.promise(&Tables::default(), model.committed()))
    }

    fn table() -> (Step, TableRef) {
        let table = TableBuilder::new("t").key("id", Type::Int).column("n", Type::Int).build();
        let handle = TableRef::new(&table);
        (Action::CreateTable(table).into(), handle)
    }

    #[test]
    fn a_missed_truncate_is_a_loss_and_leaves_no_empty_transaction() -> Result<(), ModelError> {
        let (create, t) = table();
        let steps = [create, t.insert(row! { id: 1 }), t.truncate()];
        let blind = promise(&Guarantees { truncate: false, ..EVERYTHING }, &steps)?;
        assert_eq!(blind.transactions.len(), 1);
        assert_eq!(blind.losses, BTreeSet::from([Loss::TruncateMissed]));
        assert_eq!(promise(&EVERYTHING, &steps)?.transactions.len(), 2);
        Ok(())
    }

    #[test]
    fn a_key_change_is_one_update_or_a_delete_and_an_insert() -> Result<(), ModelError> {
        let (create, t) = table();
        let steps = [create, t.insert(row! { id: 1, n: 5 }), t.update(1, row! { id: 2 })];
        let ops = |promise: &Promise| {
            promise.transactions[1].iter().map(|change| (change.op, change.key.clone())).collect::<Vec<_>>()
        };
        assert_eq!(ops(&promise(&EVERYTHING, &steps)?), [(Op::Update, row! { id: 2 })]);
        let split = Guarantees { key_change: KeyChange::DeleteAndInsert, ..EVERYTHING };
        let split = promise(&split, &steps)?;
        assert_eq!(ops(&split), [(Op::Delete, row! { id: 1 }), (Op::Insert, row! { id: 2 })]);
        assert!(split.losses.contains(&Loss::KeyChangeSplit));
        Ok(())
    }

    #[test]
    fn a_change_of_the_replica_identity_is_no_change_of_the_shape() -> Result<(), ModelError> {
        let (create, t) = table();
        let alter =
            Action::Alter { table: t.name().clone(), change: crate::script::Alter::Identity(ReplicaIdentity::Full) };
        let by_identity = Guarantees { before_images: BeforeImages::ReplicaIdentity, ..EVERYTHING };
        let steps = [create, t.insert(row! { id: 1, n: 5 }), alter.into(), t.delete(1)];
        let promised = promise(&by_identity, &steps)?;
        assert_eq!(promised.losses, BTreeSet::new());
        assert_eq!(promised.transactions[1][0].before, Some(row! { id: 1, n: 5 }));
        Ok(())
    }
}
