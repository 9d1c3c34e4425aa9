//! The changes of a table of Apache Iceberg.

use std::{
    fs::File,
    io::{BufWriter, Write},
    time::{Duration, Instant},
};

use anstyle::Style;
use changeproof::{
    Change, Op,
    error::{Context, Error, Result},
    schema::TableName,
    text,
};
use changeproof_iceberg::{
    ChangeBatch, ChangelogScan, ChangelogTail, TailEvent, ancestors, between, changes, diff_files, open_table,
    snapshot, told_files,
};
use futures_util::StreamExt;
use iceberg::{spec::SnapshotRef, table::Table};
use parquet::arrow::ArrowWriter;

use super::{Arguments, Format};
use crate::{exit::Failure, progress::Progress};

/// So long a tail waits before it looks for new commits again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Progress is told about this often.
const TELL_EVERY: Duration = Duration::from_secs(2);

const DIM: Style = Style::new().dimmed();

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let told = tokio::select! {
        told = tell(arguments) => told,
        // A tail has no other end, and what it has told is complete.
        () = crate::exit::interrupted() => return if arguments.tail { Ok(()) } else { Err(Failure::Interrupted) },
    };
    told.map_err(Failure::from)
}

async fn tell(arguments: &Arguments) -> Result<()> {
    let mut output = Output::new(arguments)?;
    let mut table = open_table(&arguments.table).await?;
    let mut from = arguments.from.as_deref().map(|from| find(&table, from)).transpose()?.map(|from| from.snapshot_id());
    if arguments.tail && !arguments.files {
        return follow(arguments, from, &TableName::from(table.identifier().name()), &mut output).await;
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
                tell_rows(&table, from, &to, arguments.net, &mut output).await?;
            }
            output.flush()?;
            from = Some(to.snapshot_id());
        }
        if !arguments.tail {
            return output.finish();
        }
        tokio::time::sleep(LOOK_EVERY).await;
        table = open_table(&arguments.table).await?;
    }
}

async fn follow(arguments: &Arguments, from: Option<i64>, name: &TableName, output: &mut Output) -> Result<()> {
    let path = arguments.table.clone();
    let tail = ChangelogTail::new(move || {
        let path = path.clone();
        async move { open_table(&path).await }
    });
    let mut events = from.into_iter().fold(tail.every(LOOK_EVERY), ChangelogTail::after).stream();
    while let Some(event) = events.next().await {
        match event? {
            TailEvent::Changes(batch) => drop(output.batch(&batch, name)?),
            TailEvent::UpTo(_) => output.flush()?,
        }
    }
    Ok(())
}

/// A snapshot by its number, or the present one of a moment.
fn find(table: &Table, text: &str) -> Result<SnapshotRef> {
    if let Ok(id) = text.parse() {
        return snapshot(table, id);
    }
    let doing = || format!("find the snapshot `{text}`");
    let moment = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| {
        Error::new("cdc", doing(), "it is neither a snapshot's number nor a time")
            .help("write a time as 2026-01-31T12:00:00Z; `cdc changes --files` tells the snapshots' numbers")
    })?;
    let mut history = table.metadata().history().iter().rev();
    let last = history.find(|entry| entry.timestamp_ms <= moment.timestamp_millis());
    let id = last.ok_or_else(|| Error::new("cdc", doing(), "the table had no snapshot yet"))?.snapshot_id;
    snapshot(table, id)
}

async fn tell_rows(
    table: &Table,
    from: Option<i64>,
    to: &SnapshotRef,
    is_net: bool,
    output: &mut Output,
) -> Result<()> {
    let scan = ChangelogScan::new(table).up_to(to.snapshot_id());
    let scan = from.into_iter().fold(scan, ChangelogScan::after);
    let mut batches = if is_net { scan.net() } else { scan }.stream();
    let name = TableName::from(table.identifier().name());
    let (progress, mut told, mut last) = (Progress::start(), 0, Instant::now());
    while let Some(batch) = batches.next().await {
        told += output.batch(&batch?, &name)?;
        if last.elapsed() > TELL_EVERY {
            progress.say(&format!("{told} changes"));
            last = Instant::now();
        }
    }
    Ok(())
}

async fn tell_files(table: &Table, from: Option<i64>, to: &SnapshotRef, output: &mut Output) -> Result<()> {
    let mut before = from.map(|from| snapshot(table, from)).transpose()?;
    // Without a beginning it begins at the oldest snapshot that is still there.
    let range = match from {
        Some(_) => between(table, from, to)?,
        None => ancestors(table.metadata(), to).into_iter().rev().collect(),
    };
    for after in range {
        let diff = diff_files(table, before.as_ref(), &after).await?;
        let change =
            Change { after: Some(told_files(&diff)), ..Change::new(Op::Files, table.identifier().name().into()) };
        output.change(&after, &change)?;
        before = Some(after);
    }
    Ok(())
}

/// Where changes are told.
struct Output {
    format: Format,
    parquet: Option<(File, Option<ArrowWriter<File>>)>,
    stdout: BufWriter<anstream::AutoStream<std::io::Stdout>>,
    snapshot: Option<i64>,
}

impl Output {
    fn new(arguments: &Arguments) -> Result<Self> {
        let parquet = match &arguments.output {
            Some(path) => {
                let file = File::create(path).while_doing("cdc", format!("write {}", path.display()))?;
                Some((file, None))
            }
            None => None,
        };
        let stdout = BufWriter::new(anstream::AutoStream::auto(std::io::stdout()));
        Ok(Self { format: arguments.format, parquet, stdout, snapshot: None })
    }

    /// Tells the changes of a batch, and returns how many there are.
    fn batch(&mut self, batch: &ChangeBatch, name: &TableName) -> Result<usize> {
        if let (Format::Parquet, Some((file, writer))) = (self.format, &mut self.parquet) {
            let doing = "write the Parquet file";
            let mut count = 0;
            for rows in batch.to_record_batches()? {
                count += rows.num_rows();
                if writer.is_none() {
                    let file = file.try_clone().while_doing("cdc", doing)?;
                    *writer = Some(ArrowWriter::try_new(file, rows.schema(), None).while_doing("cdc", doing)?);
                }
                let Some(writer) = writer.as_mut() else { continue };
                writer.write(&rows).map_err(|error| {
                    Error::new("cdc", doing, error)
                        .help("one file has one schema: tell the ranges before and after the table's definition changed apart")
                })?;
            }
            return Ok(count);
        }
        let changes = changes(batch, name)?;
        changes.iter().try_for_each(|change| self.change(&batch.snapshot, change))?;
        Ok(changes.len())
    }

    fn change(&mut self, snapshot: &SnapshotRef, change: &Change) -> Result<()> {
        let doing = "print the changes";
        if self.format == Format::Json {
            let json = serde_json::to_string(change).while_doing("cdc", doing)?;
            return writeln!(self.stdout, "{json}").while_doing("cdc", doing);
        }
        if self.snapshot.replace(snapshot.snapshot_id()) != Some(snapshot.snapshot_id()) {
            let time = snapshot.timestamp().map(|time| time.to_rfc3339()).unwrap_or_default();
            let (id, operation) = (snapshot.snapshot_id(), snapshot.summary().operation.as_str());
            writeln!(self.stdout, "{DIM}snapshot {id} · {time} · {operation}{DIM:#}").while_doing("cdc", doing)?;
        }
        writeln!(self.stdout, "  {}", text::line(change, None)).while_doing("cdc", doing)
    }

    fn flush(&mut self) -> Result<()> {
        self.stdout.flush().while_doing("cdc", "print the changes")
    }

    fn finish(mut self) -> Result<()> {
        if let Some((_, Some(writer))) = self.parquet.take() {
            writer.close().while_doing("cdc", "write the Parquet file")?;
        }
        self.flush()
    }
}
