//! The judge: is a captured stream what the method promised, no less and no more?

mod alterations;
mod amid;
mod diff;
mod fold;
mod positions;

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::Serialize;

pub use self::{
    alterations::{Alterations, Moment},
    diff::diff,
    fold::{Contents, StoredColumn, TableContents, judge_fold},
    positions::Reached,
};
pub(crate) use self::{diff::same_event, positions::out_of_place};
use crate::{
    change::{Change, Op},
    guarantees::{AfterABreak, Expected, Guarantees, Loss, Promise},
    model::Model,
    text,
};

/// At most this many faults are told in a message; a stream that is wholly wrong needs no more.
const FAULTS_TOLD: usize = 20;

/// The judge's answer for one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// The stream tells all that happened.
    Exact,
    /// The stream keeps the method's promises, which leave these out.
    AsGuaranteed {
        /// What the stream doesn't tell, or tells differently.
        losses: BTreeSet<Loss>,
    },
    /// The stream breaks a promise in just the ways that a known flaw of the method explains.
    KnownFlaw {
        /// Where the flaw is described.
        reference: String,
        /// The kinds of fault that it causes.
        kinds: BTreeSet<FaultKind>,
    },
    /// The capture could not go on without a gap, and said so instead.
    Refused {
        /// What its message says.
        told: String,
    },
    /// The stream breaks a promise.
    Broken {
        /// In which ways.
        faults: Vec<Fault>,
    },
}

impl Verdict {
    /// The verdict for the faults found and the losses allowed.
    pub fn new(faults: Vec<Fault>, losses: BTreeSet<Loss>) -> Self {
        if !faults.is_empty() {
            Self::Broken { faults }
        } else if losses.is_empty() {
            Self::Exact
        } else {
            Self::AsGuaranteed { losses }
        }
    }

    /// The verdict with what another oracle has found.
    #[must_use]
    pub fn and(self, more_faults: Vec<Fault>, more_losses: BTreeSet<Loss>) -> Self {
        let (mut faults, mut losses) = match self {
            Self::Exact | Self::KnownFlaw { .. } | Self::Refused { .. } => (vec![], BTreeSet::new()),
            Self::AsGuaranteed { losses } => (vec![], losses),
            Self::Broken { faults } => (faults, BTreeSet::new()),
        };
        faults.extend(more_faults);
        losses.extend(more_losses);
        Self::new(faults, losses)
    }

    /// The verdict for a stream that must show a known flaw: just these faults, each as often as it is named.
    ///
    /// A stream that doesn't show it is returned as it is: the flaw has been mended, and the scenario must say so.
    #[must_use]
    pub fn explained_by(self, reference: &str, kinds: &[FaultKind]) -> Self {
        let sorted = |mut kinds: Vec<FaultKind>| {
            kinds.sort_unstable();
            kinds
        };
        match &self {
            Self::Broken { faults } if sorted(faults.iter().map(|f| f.kind).collect()) == sorted(kinds.to_vec()) => {
                let kinds = kinds.iter().copied().collect();
                Self::KnownFlaw { reference: reference.to_owned(), kinds }
            }
            _ => self,
        }
    }

    /// Whether a promise was broken. Broken never passes.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: Vec<String>| f.write_str(&items.join("; "));
        match self {
            Self::Exact => f.write_str("exact"),
            Self::AsGuaranteed { losses } => {
                f.write_str("as guaranteed: ")?;
                list(f, losses.iter().map(ToString::to_string).collect())
            }
            Self::Refused { told } => write!(f, "refuses to go on: {told}"),
            Self::KnownFlaw { reference, kinds } => {
                f.write_str("known flaw: ")?;
                list(f, kinds.iter().map(ToString::to_string).collect())?;
                write!(f, " ({reference})")
            }
            Self::Broken { faults } => {
                f.write_str("broken: ")?;
                list(f, faults.iter().take(FAULTS_TOLD).map(ToString::to_string).collect())?;
                match faults.len().saturating_sub(FAULTS_TOLD) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

/// A way in which a stream breaks its method's promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The change it was found at, in words.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// The ways in which a stream can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A change that was promised isn't there.
    Lost,
    /// A change is there more often than it happened.
    Duplicated,
    /// Changes are there in another order than they happened.
    Reordered,
    /// A change is there that never happened.
    Phantom,
    /// The new row isn't what the source holds.
    WrongValue,
    /// The old row isn't what was promised: wrong, missing, or more than promised.
    WrongBeforeImage,
    /// The change carries another key than the row has.
    WrongKey,
    /// A tombstone is missing.
    LostTombstone,
    /// A tombstone is there where none belongs.
    WrongTombstone,
    /// A transaction's changes are told as several transactions.
    SplitTransaction,
    /// Several transactions' changes are told as one.
    MergedTransactions,
    /// A transaction is told by a method that doesn't promise any.
    UnpromisedTransaction,
    /// The stream, folded into tables, doesn't give what the database holds.
    WrongState,
    /// The capture can't go on, and waits instead of saying so.
    Stalled,
    /// The change stands at a place where the source can't have written it.
    WrongPosition,
    /// The source can't have committed it at that time.
    WrongCommitTime,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Phantom => "never happened",
            Self::WrongValue => "wrong value",
            Self::WrongBeforeImage => "wrong before-image",
            Self::WrongKey => "wrong key",
            Self::LostTombstone => "lost tombstone",
            Self::WrongTombstone => "wrong tombstone",
            Self::SplitTransaction => "split transaction",
            Self::MergedTransactions => "merged transactions",
            Self::UnpromisedTransaction => "unpromised transaction",
            Self::WrongState => "wrong final state",
            Self::Stalled => "stalled without a word",
            Self::WrongPosition => "wrong position",
            Self::WrongCommitTime => "wrong commit time",
        })
    }
}

/// The stream as it was judged.
#[derive(Debug)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// For each change of the stream the promised change that it is, if any, and that one's place in the promise.
    pub matched: Vec<Option<(usize, Expected)>>,
    /// For each change of the stream, as [`told_once`] has it, the number of the model's transaction that it tells of, or of how many it
    /// shows the state.
    pub transactions: Vec<Option<usize>>,
    /// How many of the model's transactions the source had committed when the capture took its first look.
    pub cut: usize,
    /// The places in the stream of changes that were told although the rows of the first look have them already.
    pub overlap: BTreeSet<usize>,
}

impl Judgement {
    /// The moment in the stream at which the model's transaction of a number was over.
    pub fn moment_after(&self, number: usize) -> Moment {
        let is_later = |told: &Option<usize>| told.is_some_and(|told| told > number);
        Moment::Place(self.transactions.iter().position(is_later).unwrap_or(self.transactions.len()))
    }
}

/// The numbers of the transactions that matched changes belong to.
fn transactions(promise: &Promise, matched: &[Option<(usize, Expected)>]) -> Vec<Option<usize>> {
    let reads = promise.reads.iter().map(|_| None);
    let changes =
        promise.transactions.iter().flat_map(|delivery| delivery.changes.iter().map(|_| Some(delivery.number)));
    let numbers: Vec<_> = reads.chain(changes).collect();
    matched.iter().map(|matched| numbers.get(matched.as_ref()?.0).copied()?).collect()
}

/// When a capture looked at the source, counted in the model's committed transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// In which range it took its first look: equal numbers if nothing was written meanwhile, else a range within which
    /// the stream itself must show one consistent cut between its reads and its changes.
    pub began: (usize, usize),
    /// When it was asked for all that there was; a method that looks from time to time has looked then.
    pub looks: Vec<usize>,
    /// How often its connection to the source was broken, or it was stopped by force, while changes were on their way.
    pub breaks: usize,
    /// How many changes it had told before the first of these; nothing may be wrong with them.
    pub told_before_breaks: usize,
    /// When the first change can have been committed, in microseconds since 1970.
    pub opened_us: i64,
    /// How far the source's history had come when the capture began, and whenever it had told all that there was.
    pub reached: Vec<Reached>,
}

impl Watch {
    /// Whether the method may have delivered changes more often than they happened.
    pub fn may_come_again(&self, guarantees: &Guarantees) -> bool {
        self.breaks > 0 && guarantees.after_a_break == AfterABreak::AtLeastOnce
    }

    /// Whether the method may have told changes that the rows of its first look have already.
    pub fn overlaps(&self, guarantees: &Guarantees) -> bool {
        guarantees.initial_snapshot && guarantees.snapshot_overlaps && self.began.0 != self.began.1
    }
}

/// What changes that come again look like.
pub(crate) const COMES_AGAIN: [FaultKind; 4] =
    [FaultKind::Duplicated, FaultKind::Reordered, FaultKind::SplitTransaction, FaultKind::MergedTransactions];

/// Judges a stream against the Model.
pub fn judge(model: &Model, guarantees: &Guarantees, watch: &Watch, stream: &[Change]) -> Judgement {
    if guarantees.initial_snapshot && guarantees.snapshot_amid_changes {
        return amid::judge(model, guarantees, watch, stream);
    }
    let began = watch.began;
    let judged = |cut: usize| {
        let promise = guarantees.promise(model, cut, &watch.looks);
        let overlap = overlap(model, guarantees, watch, cut, stream);
        let (mut faults, mut matched) = diff(&promise, guarantees, &told_once(stream, &overlap));
        let transactions = transactions(&promise, &matched);
        // What was told twice is no promised change.
        overlap.iter().for_each(|at| matched.insert(*at, None));
        let mut losses = promise.losses;
        if watch.overlaps(guarantees) {
            losses.insert(Loss::SnapshotOverlaps);
        }
        if watch.may_come_again(guarantees) {
            faults.retain(|fault| !COMES_AGAIN.contains(&fault.kind));
            losses.insert(Loss::MayComeAgain);
            forgive_tombstones(watch.breaks, &mut faults, &mut losses);
        }
        Judgement { verdict: Verdict::new(faults, losses), matched, transactions, cut, overlap }
    };
    if began.0 == began.1 {
        let judgement = judged(began.1);
        let is_broken = judgement.verdict.is_broken();
        let faults = if is_broken { Vec::new() } else { before_breaks(model, guarantees, watch, stream) };
        return Judgement { verdict: judgement.verdict.and(faults, BTreeSet::new()), ..judgement };
    }
    // Steps that deliver nothing make for several cuts with the same changes; their reads then tell them apart.
    let changes = stream.iter().filter(|change| !matches!(change.op, Op::Read | Op::Schema)).count();
    let transactions = count_transactions(stream);
    let remaining = guarantees.remaining(model);
    let reads = stream.iter().filter(|change| change.op == Op::Read).count();
    // Where changes don't tell the cut, since they overlap with the reads or are no single ones, the reads do.
    let by_reads = guarantees.initial_snapshot && (watch.overlaps(guarantees) || remaining.is_none());
    let rows = if by_reads { model.count_rows(began) } else { Vec::new() };
    let is_likely = |cut: &usize| match (&remaining, rows.get(cut - began.0)) {
        (_, Some(rows)) => *rows == reads,
        (Some(remaining), None) => remaining[*cut].0 == changes,
        (None, None) => true,
    };
    let explained = (began.0..=began.1).filter(is_likely).map(judged).find(|judgement| !judgement.verdict.is_broken());
    let closest = || {
        let remaining = remaining.as_ref()?;
        (began.0..=began.1).find(|cut| remaining[*cut].1 == transactions)
    };
    explained.unwrap_or_else(|| judged(closest().unwrap_or(began.1)))
}

/// The faults of a stream that ends because the capture could not go on: it must be a beginning of what was promised.
pub fn judge_beginning(model: &Model, guarantees: &Guarantees, watch: &Watch, stream: &[Change]) -> Vec<Fault> {
    let promise = guarantees.promise(model, watch.began.1, &watch.looks);
    let faults = |count: usize| {
        let mut beginning = promise.up_to(count);
        if count < promise.reads.len() {
            // They may be read in any order.
            let is_told = |read: &&Expected| stream.iter().any(|change| diff::is_it(read, change));
            beginning.reads = promise.reads.iter().filter(is_told).cloned().collect();
        }
        let (mut faults, _) = diff(&beginning, guarantees, stream);
        faults.retain(|fault| !watch.may_come_again(guarantees) || !COMES_AGAIN.contains(&fault.kind));
        faults
    };
    let told = stream.len().min(promise.count());
    if !watch.may_come_again(guarantees) {
        return faults(told);
    }
    // What comes again makes the stream longer than what it tells.
    (0..=told).rev().map(faults).find(Vec::is_empty).unwrap_or_else(|| faults(told))
}

/// The faults of what was told before the first break, of which nothing is forgiven.
fn before_breaks(model: &Model, guarantees: &Guarantees, watch: &Watch, stream: &[Change]) -> Vec<Fault> {
    let told = &stream[..watch.told_before_breaks.min(stream.len())];
    if told.is_empty() || !watch.may_come_again(guarantees) {
        return Vec::new();
    }
    judge_beginning(model, guarantees, &Watch { breaks: 0, ..watch.clone() }, told)
}

/// Each break may be between a delete and its tombstone, which have the same offset, so that it isn't sent again (debezium/debezium#7945).
fn forgive_tombstones(breaks: usize, faults: &mut Vec<Fault>, losses: &mut BTreeSet<Loss>) {
    let is_it = |fault: &Fault| fault.kind == FaultKind::LostTombstone;
    if (1..=breaks).contains(&faults.iter().filter(|fault| is_it(fault)).count()) {
        faults.retain(|fault| !is_it(fault));
        losses.insert(Loss::TombstoneLost);
    }
}

/// The places of changes that happened between the capture's start and the cut: each of them may be told once.
fn overlap(model: &Model, guarantees: &Guarantees, watch: &Watch, cut: usize, stream: &[Change]) -> BTreeSet<usize> {
    if !watch.overlaps(guarantees) {
        return BTreeSet::new();
    }
    let promise = guarantees.promise(model, watch.began.0, &watch.looks);
    let transactions = promise.transactions.into_iter().filter(|delivery| delivery.number < cut);
    let mut twice: Vec<_> = transactions.flat_map(|delivery| delivery.changes).collect();
    let mut is_told_twice = |change: &Change| {
        let found = twice.iter().position(|expected| diff::is_it(expected, change));
        found.is_some_and(|found| {
            twice.remove(found);
            true
        })
    };
    (0..stream.len()).filter(|at| stream[*at].op != Op::Read && is_told_twice(&stream[*at])).collect()
}

/// The stream without what stands at these places.
pub(crate) fn told_once<'a>(stream: &'a [Change], overlap: &BTreeSet<usize>) -> Cow<'a, [Change]> {
    if overlap.is_empty() {
        return Cow::Borrowed(stream);
    }
    let once = stream.iter().enumerate().filter(|(at, _)| !overlap.contains(at));
    Cow::Owned(once.map(|(_, change)| change.clone()).collect())
}

fn count_transactions(stream: &[Change]) -> usize {
    let mut ids: Vec<_> = stream.iter().filter(|c| c.op != Op::Read).map(|c| &c.tx).collect();
    ids.dedup();
    ids.len()
}

/// A promised change in the words of a captured one, for messages.
fn describe(expected: &Expected) -> String {
    text::line(
        &Change {
            key: expected.key.clone(),
            before: expected.before.clone(),
            after: expected.after.clone(),
            tombstone: expected.tombstone,
            renamed_from: expected.renamed_from.clone(),
            ..Change::new(expected.op, expected.table.clone())
        },
        None,
    )
}

#[cfg(test)]
mod tests;
