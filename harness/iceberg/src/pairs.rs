//! Which file that came takes the place of which that went: a guess that decides on nothing but time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use iceberg::spec::{Datum, Struct};

use crate::{files::LiveFile, plan::Work};

/// The partition of a file, and what is said of it.
type Mark<'a> = (i32, &'a Struct, Option<&'a Datum>);

/// Pairs of places in the work: of a file that went, and of the one that came for it. They are of the same partition, and the
/// least or greatest value of some column is theirs alone; the rest is paired in order.
pub(crate) fn pairs(work: &[Work]) -> Vec<(usize, usize)> {
    let places = |is_it: fn(&Work) -> bool| (0..work.len()).filter(|at| is_it(&work[*at])).collect::<BTreeSet<_>>();
    let mut gone = places(|work| work.after.is_none());
    let mut came = places(|work| work.before.is_none());
    let mut pairs = Vec::new();
    let mut pair = |gone: &mut BTreeSet<usize>, came: &mut BTreeSet<usize>, found: Vec<(usize, usize)>| {
        for (left, right) in found {
            gone.remove(&left);
            came.remove(&right);
            pairs.push((left, right));
        }
    };
    let columns: BTreeSet<i32> =
        gone.iter().flat_map(|at| work[*at].file.file.lower_bounds().keys().copied()).collect();
    for column in columns {
        for bound in [lower, upper] {
            let mark = |at: usize| -> Mark<'_> { mark(&work[at].file, bound(&work[at].file, column)) };
            let found = alone(&gone, &came, mark);
            pair(&mut gone, &mut came, found);
        }
    }
    let found = in_order(&gone, &came, |at| mark(&work[at].file, None));
    pair(&mut gone, &mut came, found);
    pairs.sort_unstable();
    pairs
}

fn lower(file: &LiveFile, column: i32) -> Option<&Datum> {
    file.file.lower_bounds().get(&column)
}

fn upper(file: &LiveFile, column: i32) -> Option<&Datum> {
    file.file.upper_bounds().get(&column)
}

fn mark<'a>(file: &'a LiveFile, bound: Option<&'a Datum>) -> Mark<'a> {
    (file.spec_id, file.file.partition(), bound)
}

type Places<'a> = HashMap<Mark<'a>, VecDeque<usize>>;

fn by_mark<'a>(places: &BTreeSet<usize>, mark: impl Fn(usize) -> Mark<'a>) -> Places<'a> {
    let mut by_mark = Places::new();
    places.iter().for_each(|at| by_mark.entry(mark(*at)).or_default().push_back(*at));
    by_mark
}

/// Those that one file of each side bears a mark of.
fn alone<'a>(gone: &BTreeSet<usize>, came: &BTreeSet<usize>, mark: impl Fn(usize) -> Mark<'a>) -> Vec<(usize, usize)> {
    let came = by_mark(came, &mark);
    let gone = by_mark(gone, mark).into_iter().filter(|(mark, gone)| mark.2.is_some() && gone.len() == 1);
    let pair = |(mark, gone): (Mark<'a>, VecDeque<usize>)| {
        came.get(&mark).filter(|came| came.len() == 1).map(|came| (gone[0], came[0]))
    };
    gone.filter_map(pair).collect()
}

fn in_order<'a>(
    gone: &BTreeSet<usize>,
    came: &BTreeSet<usize>,
    mark: impl Fn(usize) -> Mark<'a>,
) -> Vec<(usize, usize)> {
    let mut came = by_mark(came, &mark);
    let pair = |gone: &usize| came.get_mut(&mark(*gone)).and_then(VecDeque::pop_front).map(|came| (*gone, came));
    gone.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use changeproof::error::{Context, Result};
    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Literal};

    use super::*;
    use crate::plan::Dead;

    /// A file of a partition that went or came, with the least and greatest value of its columns.
    fn work(is_gone: bool, partition: i32, bounds: &[(i32, i64, i64)]) -> Result<Work> {
        let bound =
            |pick: fn(&(i32, i64, i64)) -> i64| bounds.iter().map(move |b| (b.0, Datum::long(pick(b)))).collect();
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path("f".to_owned())
            .file_format(DataFileFormat::Parquet)
            .file_size_in_bytes(1)
            .record_count(1)
            .partition(Struct::from_iter([Some(Literal::int(partition))]))
            .partition_spec_id(0)
            .lower_bounds(bound(|b| b.1))
            .upper_bounds(bound(|b| b.2))
            .build()
            .while_doing("test", "describe a file")?;
        let file = LiveFile { file, sequence_number: 0, file_sequence_number: None, snapshot_id: 0, spec_id: 0 };
        let (before, after) = if is_gone { (Some(Dead::default()), None) } else { (None, Some(Dead::default())) };
        Ok(Work { file, before, after })
    }

    #[test]
    fn files_are_paired_by_what_is_theirs_alone() -> Result<()> {
        let work = [
            work(true, 1, &[(1, 0, 9), (2, 0, 0)])?,
            work(true, 1, &[(1, 10, 19), (2, 0, 0)])?,
            work(true, 2, &[(1, 20, 29), (2, 0, 0)])?,
            work(true, 3, &[(1, 30, 39)])?,
            // The last row of the second was deleted; its order is another; the third has moved to another partition.
            work(false, 1, &[(1, 10, 18), (2, 0, 0)])?,
            work(false, 1, &[(1, 0, 9), (2, 0, 0)])?,
            work(false, 4, &[(1, 20, 29), (2, 0, 0)])?,
            work(false, 3, &[(1, 31, 38)])?,
            work(false, 3, &[])?,
        ];
        assert_eq!(pairs(&work), [(0, 5), (1, 4), (3, 7)]);
        Ok(())
    }

    #[test]
    fn a_file_that_is_there_before_and_after_has_no_pair() -> Result<()> {
        let mut touched = work(true, 1, &[])?;
        touched.after = Some(Dead::default());
        assert_eq!(pairs(&[touched, work(false, 1, &[])?]), []);
        Ok(())
    }
}
