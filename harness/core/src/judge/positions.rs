//! Positions and commit times: can the source have written each change there, and then?

use super::{Fault, FaultKind, Watch};
use crate::{
    change::{Change, Op, Position},
    text,
};

/// Some logs tell times in whole seconds, and cut what is over.
const SECOND_US: i64 = 1_000_000;

/// How far the source's history and the stream of a capture had come, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The moment, in microseconds since 1970 by the clock that this machine and its containers share.
    pub at_us: i64,
    /// Where the history ended: what was written later stands there or after it.
    pub end: Position,
    /// How many changes had been told.
    pub told: usize,
}

/// The faults of changes that stand where they can't, or were committed when they can't have been: at or behind the end that the history
/// had when they had been told already, or before the one that it had when all that had happened until then had been told.
///
/// The latter isn't asked of places within a log but at the beginning, for a transaction that is committed later may have written there; and
/// of nothing that may come again.
pub(crate) fn out_of_place(stream: &[Change], watch: &Watch, comes_again: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut found = |kind, what: String, change: &Change| {
        faults.push(Fault::new(kind, format!("{what}: {}", text::line(change, None))));
    };
    for (at, change) in stream.iter().enumerate().filter(|(_, change)| change.op != Op::Read) {
        let passed = watch.reached.partition_point(|reached| reached.told <= at);
        let told_by = watch.reached.get(passed);
        if let Some(position) = change.position {
            let not_before = match position {
                Position::Gtid(_) | Position::DomainGtid(_) => passed.checked_sub(1),
                Position::Lsn(_) | Position::Log(_) => (passed > 0).then_some(0),
                // An entry has its number before its transaction is committed.
                _ => None,
            };
            let comparable = |reached: &Reached| (reached.end.kind() == position.kind()).then_some(reached.end);
            let not_before = not_before.filter(|_| !comes_again).and_then(|at| comparable(&watch.reached[at]));
            let end = told_by.and_then(comparable);
            if not_before.is_some_and(|end| position.stands_before(end)) {
                found(FaultKind::WrongPosition, format!("{position:?} stands before what had been told"), change);
            }
            if end.is_some_and(|end| position == end || end.stands_before(position)) {
                found(FaultKind::WrongPosition, format!("{position:?} stands behind the history's end"), change);
            }
        }
        if let Some(time_us) = change.commit_time_us {
            if time_us < watch.opened_us - SECOND_US {
                found(FaultKind::WrongCommitTime, format!("{time_us} was before the first change"), change);
            }
            if told_by.is_some_and(|reached| time_us > reached.at_us) {
                found(FaultKind::WrongCommitTime, format!("{time_us} was after it had been told"), change);
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Lsn;

    fn at(position: Position) -> Change {
        Change { position: Some(position), ..Change::new(Op::Insert, "t".into()) }
    }

    fn lsn(lsn: u64) -> Position {
        Position::Lsn(Lsn(lsn))
    }

    fn gtid(text: &str) -> Position {
        Position::of_gtid(text).unwrap_or_else(|| lsn(0))
    }

    /// A capture that had come so far one second after the other.
    fn watch(ends: impl IntoIterator<Item = (Position, usize)>) -> Watch {
        let seconds = (10..).map(|second| second * SECOND_US);
        let reached = seconds.zip(ends).map(|(at_us, (end, told))| Reached { at_us, end, told }).collect();
        Watch { opened_us: 9 * SECOND_US, reached, ..Watch::default() }
    }

    #[test]
    fn a_change_stands_between_the_ends_that_the_history_had_before_and_after_it() {
        let watch = watch([(lsn(100), 0), (lsn(200), 2), (lsn(300), 3)]);
        let count = |positions: [u64; 3]| out_of_place(&positions.map(lsn).map(at), &watch, false).len();
        assert_eq!(count([100, 199, 299]), 0);
        assert_eq!(count([100, 199, 150]), 0, "a transaction that was committed later has written there");
        assert_eq!(count([99, 199, 299]), 1, "before the capture began");
        assert_eq!(count([100, 200, 299]), 1, "it was told before anything was written there");
        assert_eq!(count([100, 199, 1 << 40]), 1);
    }

    #[test]
    fn identifiers_of_transactions_are_those_of_their_commits() {
        let watch = watch([(gtid("0-1-10"), 0), (gtid("0-1-20"), 1), (gtid("0-1-30"), 2)]);
        let faults = |second: &str, comes_again: bool| {
            out_of_place(&[at(gtid("0-1-10")), at(gtid(second))], &watch, comes_again).len()
        };
        assert_eq!(faults("0-1-29", false), 0);
        assert_eq!(faults("0-1-19", false), 1, "all of it had been told");
        assert_eq!(faults("0-1-19", true), 0, "it comes again");
        assert_eq!(faults("0-1-30", true), 1);
        assert_eq!(faults("7-1-3", false), 0, "another domain counts for itself");
    }

    #[test]
    fn reads_and_positions_of_another_kind_are_not_compared() {
        let watch = watch([(lsn(100), 0), (lsn(200), 2)]);
        let read = Change { op: Op::Read, ..at(lsn(50)) };
        assert_eq!(out_of_place(&[read, at(Position::Look(1))], &watch, false), []);
    }

    #[test]
    fn a_change_is_committed_before_it_is_told_and_not_in_another_age() {
        let watch = watch([(lsn(100), 0), (lsn(200), 1)]);
        let count = |time_us: i64| {
            let change = Change { commit_time_us: Some(time_us), ..Change::new(Op::Insert, "t".into()) };
            out_of_place(&[change], &watch, false).len()
        };
        assert_eq!(count(10_500_000), 0);
        assert_eq!(count(8_000_000), 0, "in whole seconds");
        assert_eq!(count(7_999_999), 1);
        assert_eq!(count(11_000_001), 1);
        assert_eq!(count(10_500), 1, "milliseconds");
    }
}
