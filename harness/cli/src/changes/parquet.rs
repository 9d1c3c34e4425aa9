// Compiled once for each format of tables, for their releases of Arrow differ: the module that includes this brings the types.

use std::{fs::File, path::Path};

use changeproof::error::{Context, Error, Result};

use super::{ArrowWriter, RecordBatch};

const DOING: &str = "write the Parquet file";

/// Changes as a Parquet file: the rows with what happened to them in columns behind.
pub(super) struct ParquetFile {
    file: File,
    writer: Option<ArrowWriter<File>>,
}

impl ParquetFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).while_doing("cdc", format!("write {}", path.display()))?;
        Ok(Self { file, writer: None })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = self.file.try_clone().while_doing("cdc", DOING)?;
                none.insert(ArrowWriter::try_new(file, rows.schema(), None).while_doing("cdc", DOING)?)
            }
        };
        writer.write(rows).map_err(|error| {
            Error::new("cdc", DOING, error)
                .help("one file has one schema: tell the ranges before and after the table's definition changed apart")
        })
    }

    pub(super) fn finish(self) -> Result<()> {
        self.writer.map_or(Ok(()), |writer| writer.close().map(drop).while_doing("cdc", DOING))
    }
}
