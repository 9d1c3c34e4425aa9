//! The changes of a table of Apache Iceberg.

#[path = "parquet.rs"]
#[allow(clippy::duplicate_mod, reason = "each format of tables has a release of Arrow of its own")]
mod parquet_file;

use std::{path::Path, time::Duration};

use arrow_array::RecordBatch;
use changeproof::{
    Change, Op,
    error::{Context, Error, Result},
    schema::TableName,
    warehouse::S3Settings,
};
use changeproof_iceberg::{
    ChangeBatch, ChangelogScan, ChangelogTail, RestSettings, TailEvent, Warehouse, ancestors, between, changes,
    diff_files, open_in_bucket, open_table, snapshot, told_files,
};
use futures_util::StreamExt;
use iceberg::{TableIdent, spec::SnapshotRef, table::Table};
use parquet::arrow::ArrowWriter;

use self::parquet_file::ParquetFile;
use super::{
    Arguments,
    output::{Output, moment_ms},
};

/// So long a tail waits before it looks for new commits again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Tells the changes that the arguments ask for.
pub(super) async fn tell(arguments: &Arguments) -> Result<()> {
    let mut output = Output::new(arguments);
    let mut parquet = arguments.output.as_deref().map(ParquetFile::create).transpose()?;
    let place = Place::of(arguments);
    let mut table = place.clone().open().await?;
    let mut from = arguments.from.as_deref().map(|from| find(&table, from)).transpose()?.map(|from| from.snapshot_id());
    if arguments.tail && !arguments.files {
        return follow(place, from, &TableName::from(table.identifier().name()), &mut output).await;
    }
    loop {
        let to = match &arguments.to {
            Some(to) => Some(find(&table, to)?),
            None => table.metadata().current_snapshot().cloned(),
        };
        if let Some(to) = to.filter(|to| Some(to.snapshot_id()) != from) {
            if arguments.files {
                tell_files(&table, from, &to, &mut output).await?;
            } else {
                tell_rows(&table, from, &to, arguments.net, &mut output, parquet.as_mut()).await?;
            }
            output.flush()?;
            from = Some(to.snapshot_id());
        }
        if !arguments.tail {
            return parquet.map_or(Ok(()), ParquetFile::finish);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        table = place.clone().open().await?;
    }
}

/// Where the table is.
#[derive(Clone)]
struct Place {
    table: String,
    catalog: Option<String>,
    warehouse: Option<String>,
}

impl Place {
    fn of(arguments: &Arguments) -> Self {
        let Arguments { table, catalog, warehouse, .. } = arguments;
        Self { table: table.clone(), catalog: catalog.clone(), warehouse: warehouse.clone() }
    }

    /// The table as it is now: by its catalog, or by its files alone.
    async fn open(self) -> Result<Table> {
        let s3 = S3Settings::from_environment();
        let Some(uri) = self.catalog else {
            return match self.table.starts_with("s3://") {
                true => open_in_bucket(&self.table, &s3).await,
                false => open_table(Path::new(&self.table)).await,
            };
        };
        let token = std::env::var("ICEBERG_REST_TOKEN").ok();
        let settings = RestSettings { uri, warehouse: self.warehouse, token, s3 };
        let ident = TableIdent::from_strs(self.table.split('.'));
        let ident = ident.while_doing("cdc", format!("read the name {} as NAMESPACE.TABLE", self.table))?;
        Warehouse::connect(&settings, None).await?.table(&ident).await
    }
}

async fn follow(place: Place, from: Option<i64>, name: &TableName, output: &mut Output) -> Result<()> {
    let tail = ChangelogTail::new(move || place.clone().open());
    let mut events = from.into_iter().fold(tail.every(LOOK_EVERY), ChangelogTail::after).stream();
    while let Some(event) = events.next().await {
        match event? {
            TailEvent::Changes(batch) => tell_batch(&batch, name, output)?,
            TailEvent::UpTo(_) => output.flush()?,
        }
    }
    Ok(())
}

fn tell_batch(batch: &ChangeBatch, name: &TableName, output: &mut Output) -> Result<()> {
    let heading = || heading(&batch.snapshot);
    changes(batch, name)?.iter().try_for_each(|change| output.change(batch.snapshot.snapshot_id(), heading, change))
}

/// A snapshot by its number, or the present one of a moment.
fn find(table: &Table, text: &str) -> Result<SnapshotRef> {
    if let Ok(id) = text.parse() {
        return snapshot(table, id);
    }
    let moment_ms = moment_ms(text, "snapshot")?;
    let mut history = table.metadata().history().iter().rev();
    let last = history.find(|entry| entry.timestamp_ms <= moment_ms);
    let none = || Error::new("cdc", format!("find the snapshot `{text}`"), "the table had no snapshot yet");
    snapshot(table, last.ok_or_else(none)?.snapshot_id)
}

async fn tell_rows(
    table: &Table,
    from: Option<i64>,
    to: &SnapshotRef,
    is_net: bool,
    output: &mut Output,
    mut parquet: Option<&mut ParquetFile>,
) -> Result<()> {
    let scan = ChangelogScan::new(table).up_to(to.snapshot_id());
    let scan = from.into_iter().fold(scan, ChangelogScan::after);
    let mut batches = if is_net { scan.net() } else { scan }.stream();
    let name = TableName::from(table.identifier().name());
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        match parquet.as_mut() {
            Some(parquet) => write(&batch, parquet, output)?,
            None => tell_batch(&batch, &name, output)?,
        }
    }
    Ok(())
}

fn write(batch: &ChangeBatch, parquet: &mut ParquetFile, output: &mut Output) -> Result<()> {
    for rows in batch.to_record_batches()? {
        output.count(rows.num_rows());
        parquet.write(&rows)?;
    }
    Ok(())
}

async fn tell_files(table: &Table, from: Option<i64>, to: &SnapshotRef, output: &mut Output) -> Result<()> {
    let mut before = from.map(|from| snapshot(table, from)).transpose()?;
    // Without a beginning it begins at the oldest snapshot that is still there.
    let range = if from.is_some() {
        between(table, from, to)?
    } else {
        let mut line: Vec<_> = ancestors(table.metadata(), to).collect();
        line.reverse();
        line
    };
    for after in range {
        let diff = diff_files(table, before.as_ref(), &after).await?;
        let change =
            Change { after: Some(told_files(&diff)), ..Change::new(Op::Files, table.identifier().name().into()) };
        output.change(after.snapshot_id(), || heading(&after), &change)?;
        before = Some(after);
    }
    Ok(())
}

fn heading(snapshot: &SnapshotRef) -> String {
    let time = snapshot.timestamp().map(|time| time.to_rfc3339()).unwrap_or_default();
    format!("snapshot {} · {time} · {}", snapshot.snapshot_id(), snapshot.summary().operation.as_str())
}
