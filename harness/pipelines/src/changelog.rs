//! Tables that Iceberg's sink for Kafka Connect appends changes to: the row of each, and in the struct `_cdc` what happened to it
//! (`org.apache.iceberg.connect.transforms.DebeziumTransform`).

use std::collections::BTreeMap;

use changeproof::{Row, Value, error::Result};
use changeproof_iceberg::flat_rows_of;
use iceberg::table::Table;

/// The column of what happened.
pub(crate) const COLUMN: &str = "_cdc";

/// The operation of a change: `I`, `U` or `D`.
const OP: &str = "_cdc.op";

/// The record's number in its partition. All records of a key are in one.
const OFFSET: &str = "_cdc.offset";

/// Before a column of the key.
const KEY: &str = "_cdc.key.";

/// The columns of the key, and what the changes leave of the rows: of each key the last, unless it is a delete. It is what
/// `images/spark/current_state.sql` selects.
///
/// # Errors
/// A file can't be read.
pub async fn current_state(table: &Table) -> Result<(Vec<String>, Vec<Row>)> {
    let changes = flat_rows_of(table).await?;
    let mut last: BTreeMap<Vec<Value>, &Row> = BTreeMap::new();
    for change in &changes {
        let key: Vec<Value> =
            change.iter().filter(|(name, _)| name.starts_with(KEY)).map(|(_, key)| key.clone()).collect();
        let last = last.entry(key).or_insert(change);
        if change.get(OFFSET) > last.get(OFFSET) {
            *last = change;
        }
    }
    let rows = last.into_values().filter(|change| change.get(OP) != Some(&Value::Text("D".to_owned())));
    Ok((key_of(&changes), rows.map(without_told).collect()))
}

/// The columns of the key, and the row of each change, as somebody sees it who takes the table for the source's.
///
/// # Errors
/// A file can't be read.
pub(crate) async fn all_rows(table: &Table) -> Result<(Vec<String>, Vec<Row>)> {
    let changes = flat_rows_of(table).await?;
    Ok((key_of(&changes), changes.iter().map(without_told).collect()))
}

fn key_of(changes: &[Row]) -> Vec<String> {
    let names = changes.first().into_iter().flat_map(Row::iter);
    names.filter_map(|(name, _)| name.strip_prefix(KEY)).map(str::to_owned).collect()
}

fn without_told(change: &Row) -> Row {
    change
        .iter()
        .filter(|(name, _)| !name.starts_with("_cdc."))
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}
