//! Rows written as they come: files of a size, one after the other, for each partition.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef as ArrowSchema;
use changeproof::{
    error::{Context, Error, Result},
    value::Row,
};
use iceberg::{
    arrow::{RecordBatchPartitionSplitter, schema_to_arrow_schema},
    spec::{DataContentType, DataFile, Struct},
    table::Table,
    writer::{
        CurrentFileStatus,
        file_writer::{FileWriter, ParquetWriter},
    },
};

use crate::{
    SERVICE, values,
    writer::{finish, parquet_writer},
};

/// A data file is ended when it has grown to this size (`write.target-file-size-bytes` of a table is 512 MiB by default, which
/// readers on small machines don't like).
pub(crate) const TARGET_BYTES: usize = 128 << 20;

/// So many rows are made columns of at a time.
const BATCH_ROWS: usize = 8192;

/// Writes rows into data files of a table's present schema. Nothing is part of the table before the files are committed.
pub struct RowWriter {
    table: Table,
    arrow: ArrowSchema,
    splitter: Option<RecordBatchPartitionSplitter>,
    waiting: Vec<Row>,
    open: Vec<Open>,
    files: Vec<(DataFile, i32)>,
}

/// A file that is being written.
struct Open {
    partition: Struct,
    writer: ParquetWriter,
}

impl RowWriter {
    /// Begins to write.
    ///
    /// # Errors
    /// The table's schema or partition spec is none that can be written.
    pub fn new(table: &Table) -> Result<Self> {
        let metadata = table.metadata();
        let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
        let arrow = Arc::new(schema_to_arrow_schema(schema).while_doing(SERVICE, "translate the schema")?);
        let splitter = if spec.is_unpartitioned() {
            None
        } else {
            let splitter =
                RecordBatchPartitionSplitter::try_new_with_computed_values(Arc::clone(schema), Arc::clone(spec));
            Some(splitter.while_doing(SERVICE, "partition rows")?)
        };
        let (waiting, open, files) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { table: table.clone(), arrow, splitter, waiting, open, files })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// A value isn't of its column's type, or a file can't be written.
    pub async fn write(&mut self, row: Row) -> Result<()> {
        self.waiting.push(row);
        if self.waiting.len() < BATCH_ROWS { Ok(()) } else { self.write_waiting().await }
    }

    async fn write_waiting(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let batch = values::batch(&self.arrow, &self.waiting)?;
        self.waiting.clear();
        self.write_batch(batch).await
    }

    /// Writes rows that are columns already.
    ///
    /// # Errors
    /// The columns are not the table's, or a file can't be written.
    pub async fn write_batch(&mut self, batch: RecordBatch) -> Result<()> {
        let Some(splitter) = &self.splitter else { return self.write_part(Struct::empty(), &batch).await };
        let parts = splitter.split(&batch).while_doing(SERVICE, "partition rows")?;
        for (key, batch) in parts {
            self.write_part(key.data().clone(), &batch).await?;
        }
        Ok(())
    }

    async fn write_part(&mut self, partition: Struct, batch: &RecordBatch) -> Result<()> {
        let at = self.open.iter().position(|open| open.partition == partition).unwrap_or(self.open.len());
        if at == self.open.len() {
            let writer = parquet_writer(&self.table, self.table.metadata().current_schema()).await?;
            self.open.push(Open { partition, writer });
        }
        let writer = &mut self.open[at].writer;
        writer.write(batch).await.while_doing(SERVICE, "write a data file")?;
        if writer.current_written_size() < TARGET_BYTES {
            return Ok(());
        }
        let open = self.open.swap_remove(at);
        self.close(open).await
    }

    async fn close(&mut self, Open { partition, writer }: Open) -> Result<()> {
        let spec_id = self.table.metadata().default_partition_spec_id();
        let written = writer.close().await.while_doing(SERVICE, "end a data file")?;
        for mut file in written {
            file.content(DataContentType::Data).partition(partition.clone()).partition_spec_id(spec_id);
            self.files.push((finish(&file)?, spec_id));
        }
        Ok(())
    }

    /// Ends the files and returns them, for [`FilesDelta::added`](crate::FilesDelta::added).
    ///
    /// # Errors
    /// A file can't be written.
    pub async fn finish(mut self) -> Result<Vec<(DataFile, i32)>> {
        self.write_waiting().await?;
        for open in std::mem::take(&mut self.open) {
            self.close(open).await?;
        }
        Ok(self.files)
    }
}

/// The rows of a batch.
///
/// # Errors
/// A column is of a type that no row of a script has.
pub fn to_rows(batch: &RecordBatch) -> Result<Vec<Row>> {
    values::rows(batch)
}

/// The same columns in the schema of a table, for [`RowWriter::write_batch`].
///
/// # Errors
/// They are others.
pub(crate) fn in_schema_of(table: &Table, batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = table.metadata().current_schema();
    let arrow = Arc::new(schema_to_arrow_schema(schema).while_doing(SERVICE, "translate the schema")?);
    let column = |field: &Arc<arrow_schema::Field>| {
        let missing = || Error::new(SERVICE, "write rows", format!("the column {} is missing", field.name()));
        let column = batch.column_by_name(field.name()).ok_or_else(missing)?;
        arrow_cast::cast(column, field.data_type()).while_doing(SERVICE, "write rows")
    };
    let columns = arrow.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(arrow, columns).while_doing(SERVICE, "write rows")
}
