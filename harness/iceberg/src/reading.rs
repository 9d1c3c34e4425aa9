//! Rows of a file as Arrow's columns, in the order in which they stand in it.

use std::sync::Arc;

use arrow_array::{RecordBatch, new_null_array};
use arrow_cast::cast;
use arrow_schema::SchemaRef as ArrowSchemaRef;
use changeproof::error::{Context, Error, Result};
use futures_util::{StreamExt, stream};
use iceberg::{
    Runtime,
    arrow::{ArrowReaderBuilder, schema_to_arrow_schema},
    scan::{ArrowRecordBatchStream, FileScanTask},
    spec::{DataContentType, DataFileFormat, NestedField, Schema, SchemaRef},
    table::Table,
};

use crate::{SERVICE, files::LiveFile};

/// As many rows are held at a time; a batch of a wide table is still small.
const BATCH_ROWS: usize = 8192;

/// A file's rows, batch by batch.
pub(crate) struct Batches {
    path: String,
    schema: ArrowSchemaRef,
    /// Which of the columns the file doesn't have, so that they are NULL.
    is_lacking: Vec<bool>,
    stream: ArrowRecordBatchStream,
    rows_left: u64,
}

/// Opens a file, whose columns come as the schema has them, whatever they were when it was written. Deletes aren't applied.
pub(crate) async fn read(table: &Table, file: &LiveFile, schema: &SchemaRef) -> Result<Batches> {
    let path = file.file.file_path();
    let doing = || format!("read the file {path}");
    if file.file.file_format() != DataFileFormat::Parquet {
        let cause = format!("files of the format {} are not supported", file.file.file_format());
        return Err(Error::new(SERVICE, doing(), cause));
    }
    let spec = table.metadata().partition_spec_by_id(file.spec_id).cloned();
    let is_partitioned = spec.as_ref().is_some_and(|spec| !spec.is_unpartitioned());
    let fields = schema.as_struct().fields();
    let is_lacking: Vec<bool> = fields.iter().map(|field| lacks(table, file, field)).collect();
    let ids =
        fields.iter().zip(&is_lacking).filter(|(_, is_lacking)| !**is_lacking).map(|(field, _)| field.id).collect();
    let mut task = FileScanTask::builder()
        .with_file_size_in_bytes(file.file.file_size_in_bytes())
        .with_start(0)
        .with_length(file.file.file_size_in_bytes())
        .with_data_file_path(path.to_owned())
        .with_data_file_format(DataFileFormat::Parquet)
        .with_schema(Arc::clone(schema))
        .with_project_field_ids(ids)
        .with_case_sensitive(true)
        .build();
    task.record_count = Some(file.file.record_count());
    // Columns that files are partitioned by may be left out of them; delete files hold all that they compare.
    if is_partitioned && file.file.content_type() == DataContentType::Data {
        task.partition = Some(file.file.partition().clone());
        task.partition_spec = spec;
    }
    let runtime = Runtime::try_current().while_doing(SERVICE, doing())?;
    let reader = ArrowReaderBuilder::new(table.file_io().clone(), runtime)
        .with_data_file_concurrency_limit(1)
        .with_batch_size(BATCH_ROWS)
        .build();
    let scan = reader.read(stream::iter([Ok(task)]).boxed()).while_doing(SERVICE, doing())?;
    let schema = Arc::new(schema_to_arrow_schema(schema).while_doing(SERVICE, doing())?);
    let (path, stream, rows_left) = (path.to_owned(), scan.stream(), file.file.record_count());
    Ok(Batches { path, schema, is_lacking, stream, rows_left })
}

/// Whether a file was written before the table had a column that isn't primitive: the `iceberg` crate fills in NULL for primitive ones
/// only.
fn lacks(table: &Table, file: &LiveFile, field: &NestedField) -> bool {
    let metadata = table.metadata();
    let written_by = || metadata.schema_by_id(metadata.snapshot_by_id(file.snapshot_id)?.schema_id()?);
    !field.field_type.is_primitive() && written_by().is_some_and(|schema| schema.field_by_id(field.id).is_none())
}

impl Batches {
    /// The next rows; none at the end.
    ///
    /// # Errors
    /// The file can't be read, is damaged, or holds another number of rows than its entry says.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let doing = || format!("read the file {}", self.path);
        let Some(batch) = self.stream.next().await else {
            return match self.rows_left {
                0 => Ok(None),
                missing => {
                    Err(Error::new(SERVICE, doing(), format!("it holds {missing} rows fewer than its manifest says")))
                }
            };
        };
        let batch = batch.while_doing(SERVICE, doing())?;
        let rows = u64::try_from(batch.num_rows()).while_doing(SERVICE, doing())?;
        let left = self.rows_left.checked_sub(rows);
        self.rows_left =
            left.ok_or_else(|| Error::new(SERVICE, doing(), "it holds more rows than its manifest says"))?;
        let mut found = batch.columns().iter();
        let fields = self.schema.fields().iter().zip(&self.is_lacking);
        let columns = fields.map(|(field, is_lacking)| match if *is_lacking { None } else { found.next() } {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            // A column that is the same in the whole file may come in a form of its own.
            Some(column) => cast(column, field.data_type()),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().while_doing(SERVICE, doing())?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).while_doing(SERVICE, doing()).map(Some)
    }
}

/// The part of a schema that these columns are.
///
/// # Errors
/// It lacks one of them.
pub(crate) fn columns_of(schema: &SchemaRef, field_ids: &[i32]) -> Result<SchemaRef> {
    let fields = field_ids.iter().map(|id| {
        let field = schema.field_by_id(*id).cloned();
        field.ok_or_else(|| Error::new(SERVICE, "find a column", format!("no schema has a column of the number {id}")))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    let part = Schema::builder().with_fields(fields).build();
    part.map(Arc::new).while_doing(SERVICE, "make a part of the schema")
}

/// A schema with further columns behind its own, from whichever schema of the table has them: equality deletes may compare
/// columns that have been dropped since.
///
/// # Errors
/// No schema of the table has one of them.
pub(crate) fn with_columns(table: &Table, schema: &SchemaRef, field_ids: &[i32]) -> Result<SchemaRef> {
    let mut fields = schema.as_struct().fields().to_vec();
    for id in field_ids {
        if fields.iter().any(|field| field.id == *id) {
            continue;
        }
        let mut schemas: Vec<_> = table.metadata().schemas_iter().collect();
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        let found = schemas.into_iter().find_map(|schema| schema.field_by_id(*id)).cloned();
        let unknown =
            || Error::new(SERVICE, "apply equality deletes", format!("no schema has a column of the number {id}"));
        let mut field = NestedField::clone(&*found.ok_or_else(unknown)?);
        // Its name may have been given to another column.
        field.name = format!("{}#{id}", field.name);
        field.required = false;
        fields.push(field.into());
    }
    if fields.len() == schema.as_struct().fields().len() {
        return Ok(Arc::clone(schema));
    }
    let extended = Schema::builder().with_fields(fields).build();
    extended.map(Arc::new).while_doing(SERVICE, "add the compared columns")
}
