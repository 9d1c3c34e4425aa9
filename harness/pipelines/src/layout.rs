//! How a sink holds the rows of a source's table.

use changeproof::{error::Result, value::Row};
use changeproof_iceberg::{rows_at, to_rows};
use futures_util::stream::{BoxStream, StreamExt, empty, once};
use iceberg::table::Table;

use crate::{changelog, spark::LSN};

/// How the rows of a source's table are found in a sink's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// They are its rows: of the direct replication.
    #[default]
    Rows,
    /// They are its rows, without the column `_lsn`: of Spark's pipeline.
    Merged,
    /// They are what a changelog leaves, as Iceberg's sink for Kafka Connect appends it: of each key the last change, unless it is a
    /// delete.
    Changelog,
}

impl Layout {
    /// The rows of a table, some at a time; a changelog's all at once, and held in memory.
    pub(crate) fn rows(self, table: &Table) -> BoxStream<'static, Result<Vec<Row>>> {
        if self == Self::Changelog {
            let table = table.clone();
            return once(async move { Ok(changelog::current_state(&table).await?.1) }).boxed();
        }
        let Some(current) = table.metadata().current_snapshot() else { return empty().boxed() };
        let batches = rows_at(table, current, table.current_schema_ref());
        let rows = batches.map(|batch| batch?.after.as_ref().map_or(Ok(Vec::new()), to_rows));
        match self {
            Self::Merged => rows.map(|rows| Ok(rows?.iter().map(without_lsn).collect())).boxed(),
            _ => rows.boxed(),
        }
    }

    /// Whether a column of the sink's table is the pipeline's own.
    pub(crate) fn is_own(self, column: &str) -> bool {
        match self {
            Self::Rows => false,
            Self::Merged => column == LSN,
            Self::Changelog => column == changelog::COLUMN,
        }
    }
}

fn without_lsn(row: &Row) -> Row {
    row.iter().filter(|(name, _)| *name != LSN).map(|(name, value)| (name.to_owned(), value.clone())).collect()
}
