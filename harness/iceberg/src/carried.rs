//! Rows that were only carried over from a file that went to one that came, found by hashes of all that they hold.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::{filter::filter_record_batch, interleave::interleave_record_batch};
use changeproof::error::{Context, Result};

use crate::{SERVICE, hashes::ByHash};

/// Writers keep the order of rows. So many rows that went are looked at for the same as one that came, before all are.
const NEXT_ROWS: usize = 64;

/// Rows of one side.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) batches: Vec<RecordBatch>,
}

impl Side {
    /// These rows, by their batch and their place in it.
    pub(crate) fn take(&self, rows: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        interleave_record_batch(&batches, rows).while_doing(SERVICE, "put rows together")
    }
}

/// Rows that went and rows that came, as far as they have not been carried over.
#[derive(Default)]
pub(crate) struct Carried {
    gone: Vec<RecordBatch>,
    /// Of all rows that went, in their order.
    hashes: Vec<u128>,
    is_matched: Vec<bool>,
    /// Where the next row that came is looked for.
    next: usize,
    came: Vec<(RecordBatch, Vec<u128>)>,
}

impl Carried {
    /// Rows that went. All of them must be known before any that came.
    pub(crate) fn gone(&mut self, batch: RecordBatch, hashes: &[u128]) {
        self.hashes.extend(hashes);
        self.is_matched.resize(self.hashes.len(), false);
        self.gone.push(batch);
    }

    /// Rows that came. Those that follow in the order of the rows that went are known at once.
    pub(crate) fn came(&mut self, batch: &RecordBatch, hashes: &[u128]) -> Result<()> {
        let is_new: Vec<bool> = hashes.iter().map(|hash| !self.follows(*hash)).collect();
        if is_new.iter().any(|is_new| *is_new) {
            let left = hashes.iter().zip(&is_new).filter(|(_, is_new)| **is_new).map(|(hash, _)| *hash).collect();
            self.came.push((filtered(batch, is_new)?, left));
        }
        Ok(())
    }

    fn follows(&mut self, hash: u128) -> bool {
        let end = self.hashes.len().min(self.next + NEXT_ROWS);
        let found = (self.next..end).find(|at| self.hashes[*at] == hash && !self.is_matched[*at]);
        if let Some(at) = found {
            self.is_matched[at] = true;
            self.next = at + 1;
        }
        found.is_some()
    }

    /// What is left of both sides, once the rows are compared that are not in each other's order.
    pub(crate) fn left(mut self) -> Result<(Side, Side)> {
        let mut came = Side::default();
        if !self.came.is_empty() {
            let mut by_hash: ByHash<Vec<usize>> = ByHash::default();
            let left = self.hashes.iter().enumerate().filter(|(at, _)| !self.is_matched[*at]);
            left.for_each(|(at, hash)| by_hash.entry(*hash).or_default().push(at));
            for (batch, hashes) in std::mem::take(&mut self.came) {
                let mut carry =
                    |hash: &u128| by_hash.get_mut(hash).and_then(Vec::pop).map(|at| self.is_matched[at] = true);
                let is_new = hashes.iter().map(|hash| carry(hash).is_none()).collect();
                let rows = filtered(&batch, is_new)?;
                came.batches.extend(Some(rows).filter(|rows| rows.num_rows() > 0));
            }
        }
        let mut carried = self.is_matched.into_iter();
        let mut gone = Side::default();
        for batch in self.gone {
            let keep = carried.by_ref().take(batch.num_rows()).map(|carried| !carried).collect();
            let rows = filtered(&batch, keep)?;
            gone.batches.extend(Some(rows).filter(|rows| rows.num_rows() > 0));
        }
        Ok((gone, came))
    }
}

/// The rows that are to be kept.
pub(crate) fn filtered(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch> {
    filter_record_batch(batch, &BooleanArray::from(keep)).while_doing(SERVICE, "pick rows")
}
