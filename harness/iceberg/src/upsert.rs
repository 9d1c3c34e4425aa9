//! What a pipeline needs to keep a table as another one is: rows replaced by their key, all rows replaced, and a schema that
//! changes by the same commit.

use changeproof::{
    error::{Context, Error, Result},
    value::Row,
};
use futures_util::StreamExt;
use iceberg::{
    TableRequirement, TableUpdate,
    expr::Predicate,
    spec::{DataFile, Schema, TableMetadataBuilder},
    table::Table,
};

use crate::{
    SERVICE,
    changelog::{ChangelogScan, rows_at},
    files::{LiveFile, Manifests},
    reading::columns_of,
    source::read_rows,
    values,
    warehouse::{Commit, rebuilt},
    writer::{Partition, write_equality_deletes},
};

/// A table as it will be when its schema has changed, and the beginning of the commit that changes it: files are written for the
/// former, and what they are added by is appended to the latter.
///
/// # Errors
/// It can't have the schema.
pub fn with_schema(table: &Table, schema: Schema) -> Result<(Table, Commit)> {
    let doing = || format!("change the definition of {}", table.identifier());
    let metadata = table.metadata();
    let requirements = vec![
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
        TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: metadata.last_column_id() },
    ];
    let updates =
        vec![TableUpdate::AddSchema { schema: schema.clone() }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
    let builder = metadata.clone().into_builder(table.metadata_location().map(str::to_owned));
    let changed =
        builder.add_current_schema(schema).and_then(TableMetadataBuilder::build).while_doing(SERVICE, doing())?;
    let location = table.metadata_location().unwrap_or_default().to_owned();
    let changed = rebuilt(table, table.identifier(), changed.metadata, location)?;
    Ok((changed, Commit { requirements, updates }))
}

/// Writes an equality delete file by a table's identifier fields, or by all fields if it has none: rows with these values are deleted
/// that older snapshots have, and not those that come by the same one (specification, "Equality Delete Files").
///
/// # Errors
/// The table is partitioned, or the file can't be written.
pub async fn write_key_deletes(table: &Table, keys: &[Row]) -> Result<(DataFile, i32)> {
    let (schema, spec) = (table.metadata().current_schema(), table.metadata().default_partition_spec());
    let doing = || format!("delete rows of {} by their key", table.identifier());
    let mut identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    if identifiers.is_empty() {
        identifiers.extend(schema.as_struct().fields().iter().map(|field| field.id));
    }
    if !spec.is_unpartitioned() {
        return Err(Error::new(SERVICE, doing(), "it is partitioned, and a key doesn't tell the partition"));
    }
    let columns = columns_of(schema, &identifiers)?;
    let partition = Partition { values: iceberg::spec::Struct::empty(), spec_id: spec.spec_id() };
    write_equality_deletes(table, &columns, keys, &partition).await
}

/// All data and delete files of a table, for [`FilesDelta::removed`](crate::FilesDelta::removed).
///
/// # Errors
/// A manifest can't be read.
pub async fn live_files(table: &Table) -> Result<Vec<LiveFile>> {
    let Some(current) = table.metadata().current_snapshot() else { return Ok(Vec::new()) };
    let (mut files, deletes) = Manifests::new(table).of_both_kinds(current).await?;
    files.extend(deletes);
    Ok(files)
}

/// The present rows of a table that a predicate is true of.
///
/// # Errors
/// A file can't be read, or the predicate is by a column that isn't there.
pub async fn rows_where(table: &Table, predicate: Predicate) -> Result<Vec<Row>> {
    let Some(current) = table.metadata().current_snapshot() else { return Ok(Vec::new()) };
    let scan = ChangelogScan::new(table).up_to(current.snapshot_id()).net().filter(predicate);
    let (mut batches, mut rows) = (scan.stream(), Vec::new());
    while let Some(batch) = batches.next().await {
        if let Some(after) = &batch?.after {
            rows.extend(values::rows(after)?);
        }
    }
    Ok(rows)
}

/// All present rows of a table.
///
/// # Errors
/// A file can't be read.
pub async fn rows_of(table: &Table) -> Result<Vec<Row>> {
    match table.metadata().current_snapshot() {
        Some(current) => read_rows(table, current).await,
        None => Ok(Vec::new()),
    }
}

/// As [`rows_of`], where each field of a struct is a column of its own, named by its path: `_cdc.op`.
///
/// # Errors
/// As [`rows_of`].
pub async fn flat_rows_of(table: &Table) -> Result<Vec<Row>> {
    let Some(current) = table.metadata().current_snapshot() else { return Ok(Vec::new()) };
    let (mut batches, mut rows) = (rows_at(table, current, table.current_schema_ref()), Vec::new());
    while let Some(batch) = batches.next().await {
        if let Some(after) = &batch?.after {
            rows.extend(values::rows(&after.normalize(".", None).while_doing(SERVICE, "read a struct")?)?);
        }
    }
    Ok(rows)
}
