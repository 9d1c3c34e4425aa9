//! Rows that a file which came holds in the order of the file which it takes the place of.
//!
//! An equal pair of rows, one gone and one come, is no change, whichever rows make the pair. Writers keep the order of rows, so
//! most pairs are found where both files are read side by side; what is left over is compared by hashes. Where rows differ, the
//! next place is looked for at which both files hold the same again: near by in any way, since a few rows were changed, deleted
//! or added there, and farther off for many rows to which the same happened.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBufferBuilder;
use arrow_select::{concat::concat_batches, filter::filter_record_batch};
use changeproof::error::{Context, Result};
use futures_util::stream::{BoxStream, StreamExt};

use crate::{SERVICE, changelog::Kind, equal::Pair};

/// In so many rows of both sides each row is compared with each.
const NEAR_ROWS: usize = 16;

/// So far ahead rows are looked for that were only moved by others.
const FAR_ROWS: usize = 16 * 1024;

/// So many rows are read at least to see farther.
const LEAST_ROWS: usize = 1024;

/// Files that so many times in a row hold nothing of each other for as far as is looked are not of the same order.
const MOST_MISSES: usize = 3;

/// Takes rows that have no equal, side by side with [`Kind::Delete`] for those that went and [`Kind::Insert`] for the others.
pub(crate) trait Rest {
    async fn leave(&mut self, side: Kind, rows: RecordBatch) -> Result<()>;
}

/// Compares the rows that went with one file with those that came with another, and hands over what isn't in both.
pub(crate) async fn align(
    gone: BoxStream<'static, Result<RecordBatch>>,
    came: BoxStream<'static, Result<RecordBatch>>,
    rest: &mut impl Rest,
) -> Result<()> {
    let (mut gone, mut came) = (Window::new(Kind::Delete, gone), Window::new(Kind::Insert, came));
    let mut misses = 0;
    while misses < MOST_MISSES && gone.fill(rest).await? && came.fill(rest).await? {
        let pair = Pair::new(&gone.batch, &came.batch)?;
        if let Next::Further = compare(&pair, &mut gone, &mut came, &mut misses)
            && !(gone.look_further(rest).await? | came.look_further(rest).await?)
        {
            // There is nothing for as far as is looked.
            misses += 1;
            gone.pass(FAR_ROWS.min(gone.ahead()), true);
            came.pass(FAR_ROWS.min(came.ahead()), true);
        }
    }
    gone.leave_all(rest).await?;
    came.leave_all(rest).await
}

/// What two windows need to go on.
enum Next {
    /// Another batch in the place of one that is done.
    Batch,
    /// To see more than there is in them.
    Further,
}

fn compare(pair: &Pair, gone: &mut Window, came: &mut Window, misses: &mut usize) -> Next {
    let mut is_far = false;
    loop {
        let run = pair.run(gone.next, came.next, gone.ahead().min(came.ahead()));
        gone.pass(run, false);
        came.pass(run, false);
        if run >= NEAR_ROWS {
            *misses = 0;
        } else if is_far {
            // It was a row by itself, and not the order of the file.
            *misses += 1;
        }
        if gone.ahead() == 0 || came.ahead() == 0 || *misses >= MOST_MISSES {
            return Next::Batch;
        }
        let Some((left, right)) = meet(pair, gone, came) else { return Next::Further };
        is_far = left.max(right) > NEAR_ROWS;
        gone.pass(left, true);
        came.pass(right, true);
    }
}

/// How many rows of both sides to leave out for the next ones to be the same.
fn meet(pair: &Pair, gone: &Window, came: &Window) -> Option<(usize, usize)> {
    let is_met = |&(left, right): &(usize, usize)| {
        left < gone.ahead() && right < came.ahead() && pair.is_same(gone.next + left, came.next + right)
    };
    let near = (1..=2 * NEAR_ROWS).flat_map(|both| {
        let lefts = both.saturating_sub(NEAR_ROWS)..=both.min(NEAR_ROWS);
        lefts.map(move |left| (left, both - left))
    });
    let far = (NEAR_ROWS + 1..FAR_ROWS.min(gone.ahead().max(came.ahead())))
        .flat_map(|rows| [(rows, rows), (rows, 0), (0, rows)]);
    near.chain(far).find(is_met)
}

/// The rows of one side that are being compared.
struct Window {
    side: Kind,
    rows: BoxStream<'static, Result<RecordBatch>>,
    is_at_end: bool,
    batch: RecordBatch,
    /// The first row of the batch that is still to be compared.
    next: usize,
    /// Of the rows before that, whether they are left over.
    is_left: BooleanBufferBuilder,
    has_left: bool,
}

impl Window {
    fn new(side: Kind, rows: BoxStream<'static, Result<RecordBatch>>) -> Self {
        let batch = RecordBatch::new_empty(std::sync::Arc::new(arrow_schema::Schema::empty()));
        let is_left = BooleanBufferBuilder::new(0);
        Self { side, rows, is_at_end: false, batch, next: 0, is_left, has_left: false }
    }

    fn ahead(&self) -> usize {
        self.batch.num_rows() - self.next
    }

    /// Goes past rows that are in both, or left over.
    fn pass(&mut self, rows: usize, is_left: bool) {
        self.is_left.append_n(rows, is_left);
        self.has_left |= is_left && rows > 0;
        self.next += rows;
    }

    /// Whether there is something to compare; takes the next batch if the last one is done.
    async fn fill(&mut self, rest: &mut impl Rest) -> Result<bool> {
        while self.ahead() == 0 {
            self.hand_over(rest).await?;
            let Some(batch) = self.read().await? else { return Ok(false) };
            self.batch = batch;
            self.next = 0;
        }
        Ok(true)
    }

    /// Puts further rows behind those that are to be compared, unless there are enough; whether it did.
    async fn look_further(&mut self, rest: &mut impl Rest) -> Result<bool> {
        if self.ahead() >= FAR_ROWS {
            return Ok(false);
        }
        // As many again, so that the rows of small batches aren't put together over and over.
        let (mut batches, mut missing) = (Vec::new(), self.ahead().max(LEAST_ROWS));
        while let Some(batch) = self.read().await? {
            missing = missing.saturating_sub(batch.num_rows());
            batches.push(batch);
            if missing == 0 {
                break;
            }
        }
        if batches.is_empty() {
            return Ok(false);
        }
        self.hand_over(rest).await?;
        let ahead = self.batch.slice(self.next, self.ahead());
        let batches = std::iter::once(&ahead).chain(&batches);
        self.batch = concat_batches(&self.batch.schema(), batches).while_doing(SERVICE, "put rows together")?;
        self.next = 0;
        Ok(true)
    }

    async fn read(&mut self) -> Result<Option<RecordBatch>> {
        let batch = if self.is_at_end { None } else { self.rows.next().await.transpose()? };
        self.is_at_end = batch.is_none();
        Ok(batch)
    }

    /// Hands over what is left of the rows that have been compared.
    async fn hand_over(&mut self, rest: &mut impl Rest) -> Result<()> {
        let is_left = BooleanArray::from(self.is_left.finish());
        if std::mem::take(&mut self.has_left) {
            let compared = self.batch.slice(0, self.next);
            let left = filter_record_batch(&compared, &is_left).while_doing(SERVICE, "pick rows")?;
            rest.leave(self.side, left).await?;
        }
        Ok(())
    }

    async fn leave_all(&mut self, rest: &mut impl Rest) -> Result<()> {
        self.pass(self.ahead(), true);
        while self.fill(rest).await? {
            self.pass(self.ahead(), true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray, cast::AsArray, types::Int64Type};
    use futures_util::stream;

    use super::*;

    type Row = (i64, Option<f64>, &'static str);

    /// Counts the rows that are left.
    #[derive(Default)]
    struct Leftovers {
        gone: Vec<RecordBatch>,
        came: Vec<RecordBatch>,
    }

    impl Rest for Leftovers {
        async fn leave(&mut self, side: Kind, rows: RecordBatch) -> Result<()> {
            if side == Kind::Delete {
                self.gone.push(rows);
            } else {
                self.came.push(rows);
            }
            Ok(())
        }
    }

    fn batches(rows: &[Row], batch_rows: usize) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let batch = |rows: &[Row]| {
            let columns: [(&str, ArrayRef, bool); 3] = [
                ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))), true),
                ("x", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>()), true),
                ("t", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))), true),
            ];
            RecordBatch::try_from_iter_with_nullable(columns).while_doing("test", "make a batch")
        };
        let batches = rows.chunks(batch_rows).map(batch).collect::<Result<Vec<_>>>()?;
        Ok(stream::iter(batches.into_iter().map(Ok)).boxed())
    }

    /// How often each row is there.
    fn counted(
        rows: impl IntoIterator<Item = (i64, Option<u64>, String)>,
    ) -> BTreeMap<(i64, Option<u64>, String), i64> {
        let mut counts = BTreeMap::new();
        rows.into_iter().for_each(|row| *counts.entry(row).or_default() += 1);
        counts
    }

    fn of_batch(batch: &RecordBatch) -> Vec<(i64, Option<u64>, String)> {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let numbers = batch.column(1).as_primitive::<arrow_array::types::Float64Type>();
        let texts = batch.column(2).as_string::<i32>();
        let row = |((id, number), text): ((Option<i64>, Option<f64>), Option<&str>)| {
            (id.unwrap_or(-1), number.map(f64::to_bits), text.unwrap_or("").to_owned())
        };
        ids.iter().zip(numbers).zip(texts).map(row).collect()
    }

    /// Aligns in batches of several sizes and returns how many rows were left of both sides, at most. What was taken from
    /// one side must have been taken from the other, too.
    async fn left(gone: &[Row], came: &[Row]) -> Result<(usize, usize)> {
        let mut most = (0, 0);
        for (gone_rows, came_rows) in [(8192, 8192), (100, 100), (7, 64), (1000, 3)] {
            let mut rest = Leftovers::default();
            align(batches(gone, gone_rows)?, batches(came, came_rows)?, &mut rest).await?;
            let taken = |all: &[Row], left: &[RecordBatch]| {
                let all = all.iter().map(|row| (row.0, row.1.map(f64::to_bits), row.2.to_owned()));
                let mut counts = counted(all);
                for (row, count) in counted(left.iter().flat_map(of_batch)) {
                    *counts.entry(row).or_default() -= count;
                }
                counts.retain(|_, count| *count != 0);
                counts
            };
            let from_gone = taken(gone, &rest.gone);
            assert!(from_gone.values().all(|count| *count > 0), "no row is left that wasn't there");
            assert_eq!(from_gone, taken(came, &rest.came));
            let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            most = (most.0.max(count(&rest.gone)), most.1.max(count(&rest.came)));
        }
        Ok(most)
    }

    fn rows(ids: impl IntoIterator<Item = i64>) -> Vec<Row> {
        #[expect(clippy::cast_precision_loss, reason = "any number will do")]
        let number = |id: i64| (id % 5 > 0).then_some(id as f64);
        ids.into_iter().map(|id| (id, number(id), ["", "a", "bb"][usize::try_from(id % 3).unwrap_or(0)])).collect()
    }

    #[tokio::test]
    async fn of_equal_files_nothing_is_left() -> Result<()> {
        let all = rows(0..20_000);
        assert_eq!(left(&all, &all).await?, (0, 0));
        assert_eq!(left(&all, &[]).await?, (20_000, 0));
        assert_eq!(left(&[], &all).await?, (0, 20_000));
        assert_eq!(left(&[], &[]).await?, (0, 0));
        Ok(())
    }

    #[tokio::test]
    async fn an_update_leaves_its_two_rows() -> Result<()> {
        let before = rows(0..10_000);
        for places in [vec![0], vec![5000], vec![9999], vec![8191, 8192], vec![1, 3, 4, 99, 100], (300..340).collect()]
        {
            for column in 0..3 {
                let mut after = before.clone();
                for at in &places {
                    match column {
                        0 => after[*at].0 = -1,
                        1 => after[*at].1 = Some(0.5),
                        _ => after[*at].2 = "other",
                    }
                }
                assert_eq!(left(&before, &after).await?, (places.len(), places.len()), "{places:?} of column {column}");
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn deletes_and_inserts_shift_what_follows() -> Result<()> {
        let all = rows(0..20_000);
        let each = rows((0..20_000).filter(|id| id % 100 != 7));
        assert_eq!(left(&all, &each).await?, (200, 0));
        assert_eq!(left(&each, &all).await?, (0, 200));
        let stretch = rows((0..20_000).filter(|id| !(3000..11_500).contains(id)));
        assert_eq!(left(&all, &stretch).await?, (8500, 0));
        assert_eq!(left(&stretch, &all).await?, (0, 8500));
        let ends = rows(10..19_000);
        assert_eq!(left(&all, &ends).await?, (1010, 0));
        assert_eq!(left(&ends, &all).await?, (0, 1010));
        Ok(())
    }

    #[tokio::test]
    async fn a_row_deleted_beside_one_changed_and_one_added() -> Result<()> {
        let before = rows(0..9000);
        let mut after = before.clone();
        after[4000].2 = "changed";
        after.remove(4001);
        after.insert(4003, (-5, None, "added"));
        after.remove(8000);
        assert_eq!(left(&before, &after).await?, (3, 2));
        Ok(())
    }

    #[tokio::test]
    async fn equal_rows_are_counted() -> Result<()> {
        let same = |count| vec![(1, None, "same"); count];
        assert_eq!(left(&same(5000), &same(5003)).await?, (0, 3));
        assert_eq!(left(&same(5000), &same(4000)).await?, (1000, 0));
        let mut mixed = same(100);
        mixed.splice(50..50, rows(0..3));
        assert_eq!(left(&mixed, &same(101)).await?, (3, 1));
        Ok(())
    }

    #[tokio::test]
    async fn of_files_that_share_nothing_all_is_left() -> Result<()> {
        let (before, after) = (rows(0..20_000), rows(20_000..40_000));
        assert_eq!(left(&before, &after).await?, (20_000, 20_000));
        Ok(())
    }

    #[tokio::test]
    async fn null_and_numbers_are_compared_by_their_bits() -> Result<()> {
        let nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
        let row = |number| vec![(1, number, "x")];
        for (at, left_number) in [None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(nan)].into_iter().enumerate() {
            for (other, number) in [None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(nan)].into_iter().enumerate() {
                let count = usize::from(at != other);
                assert_eq!(left(&row(left_number), &row(number)).await?, (count, count), "{left_number:?} {number:?}");
            }
        }
        Ok(())
    }

    /// What is the same but for its order may be left over, but is left over of both sides.
    #[tokio::test]
    async fn rows_in_another_order_are_left_of_both_sides() -> Result<()> {
        let before = rows(0..20_000);
        let mut after = before.clone();
        after.reverse();
        let (gone, came) = left(&before, &after).await?;
        assert_eq!(gone, came);
        // A random order: by steps of a number that is coprime to the number of rows.
        let shuffled = rows((0..20_000).map(|id| id * 7919 % 20_000));
        let (gone, came) = left(&before, &shuffled).await?;
        assert_eq!(gone, came);
        Ok(())
    }
}
