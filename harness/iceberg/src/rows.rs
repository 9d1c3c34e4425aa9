//! The rows of data files that have gone or come, as far as they must be compared.

use std::sync::Arc;

use arrow_array::RecordBatch;
use changeproof::error::{Context, Result};
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use iceberg::{spec::SchemaRef, table::Table};
use tokio::sync::mpsc::Sender;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    SERVICE,
    aligned::{Rest, align},
    carried::filtered,
    changelog::Kind,
    deletes::Encoder,
    guarded::streamed,
    hashes::RowHasher,
    plan::{Marker, Plan},
    reading::read,
    types::key_of,
};

/// The rows of a file that have gone, or come, without the columns that were read for deletes only.
pub(crate) fn rows_of_side(
    table: Table,
    plan: Arc<Plan>,
    at: usize,
    side: Kind,
) -> BoxStream<'static, Result<RecordBatch>> {
    let state = (None, Marker::default(), 0);
    let rows = try_unfold(state, move |(mut batches, mut marker, mut first)| {
        let (table, plan) = (table.clone(), Arc::clone(&plan));
        async move {
            let work = &plan.work[at];
            let mut opened = match batches.take() {
                Some(opened) => opened,
                None => read(&table, &work.file, &plan.read_schema).await?,
            };
            while let Some(batch) = opened.next().await? {
                let rows = if work.is_whole(side) && plan.filter.is_none() {
                    without_compared(&plan, &batch)?
                } else {
                    let marks = marker.mark(work, &plan.read_schema, first, &batch)?;
                    first += rows_of(&batch);
                    let mut marks = if side == Kind::Delete { marks.gone } else { marks.came };
                    if let Some(filter) = &plan.filter {
                        filter.unmark(&plan.read_schema, &batch, &mut marks)?;
                    }
                    filtered(&without_compared(&plan, &batch)?, marks)?
                };
                if rows.num_rows() > 0 {
                    return Ok(Some((rows, (Some(opened), marker, first))));
                }
            }
            Ok(None)
        }
    });
    rows.boxed()
}

/// The columns that aren't read for comparison only.
fn without_compared(plan: &Plan, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<usize> = (0..plan.schema.as_struct().fields().len()).collect();
    batch.project(&columns).while_doing(SERVICE, "leave columns out")
}

/// Rows of one side that may still be on the other, with their hashes.
pub(crate) struct Left {
    pub(crate) side: Kind,
    pub(crate) rows: RecordBatch,
    pub(crate) hashes: Vec<u128>,
}

/// The rows of a file that have gone, or come, and are of a part.
pub(crate) fn left_of_side(
    table: Table,
    plan: Arc<Plan>,
    at: usize,
    side: Kind,
    part: Part,
) -> BoxStream<'static, Result<Left>> {
    streamed(move |sender| async move {
        let mut leaving = Leaving::new(&plan.schema, part, sender);
        let mut rows = rows_of_side(table, plan, at, side);
        while let Some(rows) = rows.next().await {
            leaving.leave(side, rows?).await?;
        }
        Ok(())
    })
}

/// The rows of a part that only one of two files holds, or that stand in another order in the other.
pub(crate) fn left_of_pair(
    table: Table,
    plan: Arc<Plan>,
    (gone, came): (usize, usize),
    part: Part,
) -> BoxStream<'static, Result<Left>> {
    streamed(move |sender| async move {
        let mut leaving = Leaving::new(&plan.schema, part, sender);
        let gone = rows_of_side(table.clone(), Arc::clone(&plan), gone, Kind::Delete);
        let came = rows_of_side(table, plan, came, Kind::Insert);
        align(gone, came, &mut leaving).await
    })
}

/// Picks the rows of a part and hashes them.
struct Leaving {
    part: Part,
    key: Vec<usize>,
    encoder: Encoder,
    hasher: RowHasher,
    sender: Sender<Result<Left>>,
}

impl Leaving {
    fn new(schema: &SchemaRef, part: Part, sender: Sender<Result<Left>>) -> Self {
        let (encoder, hasher) = (Encoder::default(), RowHasher::default());
        Self { part, key: key_columns(schema), encoder, hasher, sender }
    }
}

impl Rest for Leaving {
    async fn leave(&mut self, side: Kind, rows: RecordBatch) -> Result<()> {
        let rows = self.part.of(rows, &self.key, &mut self.encoder)?;
        if rows.num_rows() > 0 {
            let hashes = self.hasher.hash(&rows)?;
            // Whoever has stopped to read has stopped the scan.
            let _ = self.sender.send(Ok(Left { side, rows, hashes })).await;
        }
        Ok(())
    }
}

/// One of several parts of the rows, for which there is memory at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) pass: u64,
    pub(crate) passes: u64,
}

impl Part {
    pub(crate) const WHOLE: Self = Self { pass: 0, passes: 1 };

    /// The rows of the part: by their key, so that an update's two halves meet, or by all they hold.
    fn of(self, rows: RecordBatch, key: &[usize], encoder: &mut Encoder) -> Result<RecordBatch> {
        if self.passes == 1 {
            return Ok(rows);
        }
        let mut is_of_it = Vec::with_capacity(rows.num_rows());
        let whole: Vec<usize> = (0..rows.num_columns()).collect();
        let columns = if key.is_empty() { &whole } else { key };
        encoder.encode(&rows, columns.iter().copied(), |_, bytes| {
            is_of_it.push(xxh3_64(bytes) % self.passes == self.pass);
        })?;
        filtered(&rows, is_of_it)
    }
}

/// The places of the identifier fields among a schema's columns.
pub(crate) fn key_columns(schema: &SchemaRef) -> Vec<usize> {
    let names = key_of(schema);
    let fields = schema.as_struct().fields().iter().enumerate();
    fields.filter(|(_, field)| names.contains(&field.name)).map(|(at, _)| at).collect()
}

fn rows_of(batch: &RecordBatch) -> u64 {
    u64::try_from(batch.num_rows()).unwrap_or(u64::MAX)
}
