//! Batches of a changelog scan as changes of rows.

use std::sync::Arc;

use changeproof::{
    Change, Op, Row,
    change::{Position, TxId},
    error::Result,
    schema::TableName,
    value::Value,
};
use iceberg::spec::SchemaRef;

use crate::{
    changelog::{ChangeBatch, Kind},
    types::{from_iceberg, key_of},
    values,
};

/// The changes of a batch in its order: key and whole rows, the snapshot's sequence number as position, its number as
/// transaction, its timestamp as commit time.
///
/// # Errors
/// A value is of a type that no script has.
pub fn changes(batch: &ChangeBatch, table: &TableName) -> Result<Vec<Change>> {
    let op = match batch.kind {
        Kind::Insert => Op::Insert,
        Kind::Delete => Op::Delete,
        Kind::Update => Op::Update,
    };
    let rows = |side: &Option<_>| -> Result<Vec<Option<Row>>> {
        let rows = side.as_ref().map(values::rows).transpose()?;
        Ok(rows.into_iter().flatten().map(Some).collect())
    };
    let (mut before, mut after) = (rows(&batch.before)?, rows(&batch.after)?);
    let count = before.len().max(after.len());
    before.resize(count, None);
    after.resize(count, None);
    let key: Vec<Arc<str>> = key_of(&batch.schema).iter().map(|name| name.as_str().into()).collect();
    let change = |(before, after): (Option<Row>, Option<Row>)| {
        let row = after.as_ref().or(before.as_ref());
        let key = row.map(|row| row.project(key.iter().map(|name| &**name))).unwrap_or_default();
        Change {
            key,
            before,
            after,
            position: Some(Position::Snapshot(batch.snapshot.sequence_number())),
            tx: Some(TxId::new(batch.snapshot.snapshot_id().to_string())),
            commit_time_us: Some(batch.snapshot.timestamp_ms().saturating_mul(1000)),
            ..Change::new(op, table.clone())
        }
    };
    Ok(before.into_iter().zip(after).map(change).collect())
}

/// A schema's columns and their types in the words of a script, as changes of a definition tell them.
pub(crate) fn shape(schema: &SchemaRef) -> Row {
    let fields = schema.as_struct().fields().iter();
    fields.map(|field| (field.name.clone(), Value::Text(from_iceberg(&field.field_type).to_string()))).collect()
}
