//! The comparison of a promised stream with a captured one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Fault, FaultKind, describe};
use crate::{
    change::{Change, Op},
    guarantees::{Delivery, Expected, Guarantees, Order, Promise},
    schema::TableName,
    text,
    value::{Row, Value},
};

/// What was promised, flattened: each change with the delivery it belongs to, if it isn't a read.
type Promised<'a> = Vec<(Option<usize>, &'a Expected)>;

/// A table and a row's key.
type RowName<'a> = (&'a TableName, Vec<(&'a str, &'a Value)>);

/// Compares a stream with its promise. Returns the faults, and for each captured change the promised one that it is.
///
/// Changes are first paired by equality in the order of the stream, whatever their place. What is left on both sides is
/// paired by table, key and operation, and is then wrong in what it says; what is left after that is lost, duplicated or
/// never happened. The equal pairs then tell whether the order and the transactions are right.
pub fn diff(
    promise: &Promise,
    guarantees: &Guarantees,
    stream: &[Change],
) -> (Vec<Fault>, Vec<Option<(usize, Expected)>>) {
    let reads = promise.reads.iter().map(|read| (None, read));
    let deliveries = promise.transactions.iter().enumerate();
    let changes = deliveries.flat_map(|(tx, delivery)| delivery.changes.iter().map(move |change| (Some(tx), change)));
    let expected: Promised<'_> = reads.chain(changes).collect();

    let mut faults = Vec::new();
    let mut pairing = pair_equal(&expected, stream);
    explain_unpaired(&expected, stream, &mut pairing, &mut faults);
    match guarantees.order {
        Order::Commit => check_order(&expected, stream, &pairing, &mut faults),
        Order::CommitUnlessConcurrent => {
            check_partial_order(&expected, &promise.transactions, stream, &pairing, &mut faults);
        }
        Order::CommitOfEachTable => check_order_of_tables(&expected, stream, &pairing, &mut faults),
    }
    if guarantees.transactions {
        check_transactions(&expected, stream, &pairing, &mut faults);
    } else if let Some(change) = stream.iter().find(|change| change.tx.is_some()) {
        faults.push(Fault::new(FaultKind::UnpromisedTransaction, text::line(change, None)));
    }
    let matched = pairing.iter().map(|pair| pair.map(|(at, _)| (at, expected[at].1.clone()))).collect();
    (faults, matched)
}

/// For each captured change the index of the promised one, and whether they are equal.
type Pairing = Vec<Option<(usize, bool)>>;

fn pair_equal(expected: &Promised<'_>, stream: &[Change]) -> Pairing {
    let mut waiting: HashMap<_, VecDeque<usize>> = HashMap::new();
    for (at, (_, expected)) in expected.iter().enumerate() {
        let identity = (expected.op, &expected.table, told(expected.op, expected.after.as_ref()));
        waiting.entry(identity).or_default().push_back(at);
    }
    let mut last = 0;
    stream
        .iter()
        .map(|change| {
            let identity = (change.op, &change.table, told(change.op, change.after.as_ref()));
            let candidates = waiting.get_mut(&identity)?;
            let is_it = |at: usize| difference(expected[at].1, change).is_none();
            // What happened alike several times is taken for the next of them, so that a lost one isn't told as a swap.
            let next = candidates.iter().position(|at| *at >= last && is_it(*at));
            let found = next.or_else(|| candidates.iter().position(|at| is_it(*at)))?;
            last = candidates.remove(found)?;
            Some((last, true))
        })
        .collect()
}

/// What a change is known by. Of files more is told than is promised.
fn told(op: Op, row: Option<&Row>) -> Option<Vec<(&str, &Value)>> {
    row.filter(|_| op != Op::Files).map(Row::canonical)
}

/// Whether a captured change is the promised one.
pub(super) fn is_it(expected: &Expected, change: &Change) -> bool {
    difference(expected, change).is_none()
}

/// In what a captured change differs from the promised one; `None` if in nothing.
fn difference(expected: &Expected, change: &Change) -> Option<FaultKind> {
    if expected.op != change.op || expected.table != change.table {
        Some(FaultKind::Phantom)
    } else if !is_promised_row(expected, change.after.as_ref()) {
        Some(FaultKind::WrongValue)
    } else if !is_promised_image(expected, change.before.as_ref()) {
        Some(FaultKind::WrongBeforeImage)
    } else if expected.key != change.key {
        Some(FaultKind::WrongKey)
    } else if expected.renamed_from != change.renamed_from {
        Some(FaultKind::WrongValue)
    } else if expected.tombstone != change.tombstone {
        Some(if expected.tombstone { FaultKind::LostTombstone } else { FaultKind::WrongTombstone })
    } else {
        None
    }
}

/// The promised new row; of files the promised count, unless the metadata don't say it.
fn is_promised_row(expected: &Expected, row: Option<&Row>) -> bool {
    match (&expected.after, row) {
        (Some(promised), Some(row)) if expected.op == Op::Files => promised
            .iter()
            .all(|(name, count)| row.get(name).is_some_and(|told| told == count || *told == Value::Unavailable)),
        (promised, row) => promised.as_ref() == row,
    }
}

/// The promised part of the old row, and what the method fills in for the rest, which means nothing.
fn is_promised_image(expected: &Expected, image: Option<&Row>) -> bool {
    match (&expected.before, image) {
        (Some(before), Some(image)) => {
            image.len() == before.len() + expected.filler.len()
                && image.contains(before)
                && image.contains(&expected.filler)
        }
        (before, image) => before.as_ref() == image,
    }
}

/// Says of each change that has no equal partner what is wrong with it, and pairs it with what it should have been.
fn explain_unpaired(expected: &Promised<'_>, stream: &[Change], pairing: &mut Pairing, faults: &mut Vec<Fault>) {
    let paired: BTreeSet<usize> = pairing.iter().flatten().map(|(at, _)| *at).collect();
    let mut missing: Vec<usize> = (0..expected.len()).filter(|at| !paired.contains(at)).collect();
    for (at, change) in stream.iter().enumerate() {
        if pairing[at].is_some() {
            continue;
        }
        let shown = text::line(change, None);
        if let Some(found) = closest(expected, &missing, change) {
            let was = missing.remove(found);
            pairing[at] = Some((was, false));
            let should = expected[was].1;
            let kind = difference(should, change).unwrap_or(FaultKind::Phantom);
            faults.push(Fault::new(kind, format!("{shown} (promised: {})", describe(should))));
        } else if stream.iter().enumerate().any(|(other, same)| pairing[other].is_some() && same_event(same, change)) {
            faults.push(Fault::new(FaultKind::Duplicated, shown));
        } else {
            faults.push(Fault::new(FaultKind::Phantom, shown));
        }
    }
    for at in missing {
        faults.push(Fault::new(FaultKind::Lost, describe(expected[at].1)));
    }
}

/// Whether two changes tell the same, wherever they stand.
pub(crate) fn same_event(a: &Change, b: &Change) -> bool {
    a.op == b.op && a.table == b.table && a.key == b.key && a.before == b.before && a.after == b.after
}

/// The missing change that a captured one most likely is: same table and operation, and the same row by key or by content.
fn closest(expected: &Promised<'_>, missing: &[usize], change: &Change) -> Option<usize> {
    let alike = |at: &usize| {
        let expected = expected[*at].1;
        expected.op == change.op && expected.table == change.table
    };
    missing.iter().position(|at| alike(at) && !change.key.is_empty() && expected[*at].1.key == change.key).or_else(
        || {
            missing.iter().position(|at| {
                let same_row = change.after.is_some() && expected[*at].1.after == change.after;
                alike(at) && (change.key.is_empty() || same_row)
            })
        },
    )
}

/// Reads come first, in any order; after them every change stands where it happened.
fn check_order(expected: &Promised<'_>, stream: &[Change], pairing: &Pairing, faults: &mut Vec<Fault>) {
    let mut last: Option<usize> = None;
    for (change, pair) in stream.iter().zip(pairing) {
        let Some((at, _)) = pair else { continue };
        let is_read = expected[*at].1.op == Op::Read;
        match last {
            Some(last) if is_read && expected[last].1.op == Op::Read => {}
            Some(last) if *at < last => {
                faults.push(reordered(change, expected[last].1));
                continue;
            }
            _ => {}
        }
        last = Some(*at);
    }
}

/// Reads come first; after them the commits of each table stand as they happened. A table that has got another name is the
/// same to nobody who can't tell that.
fn check_order_of_tables(expected: &Promised<'_>, stream: &[Change], pairing: &Pairing, faults: &mut Vec<Fault>) {
    let mut last_of_table: HashMap<&TableName, (Option<usize>, usize)> = HashMap::new();
    let mut last_streamed: Option<usize> = None;
    for (change, pair) in stream.iter().zip(pairing) {
        let Some((at, _)) = *pair else { continue };
        let commit = expected[at].0;
        if commit.is_none() {
            if let Some(last) = last_streamed {
                faults.push(reordered(change, expected[last].1));
            }
            continue;
        }
        last_streamed = Some(at);
        let last = last_of_table.entry(&change.table).or_insert((commit, at));
        // A changed definition stands before the rows of its commit.
        let is_late_shape = change.op == Op::Schema && commit == last.0 && at < last.1;
        if commit < last.0 || is_late_shape {
            faults.push(reordered(change, expected[last.1].1));
        } else {
            *last = (commit, at);
        }
    }
}

/// Reads come first; after them the changes of a transaction, those of a row, and transactions that did not run side by
/// side stand as they happened.
fn check_partial_order(
    expected: &Promised<'_>,
    deliveries: &[Delivery],
    stream: &[Change],
    pairing: &Pairing,
    faults: &mut Vec<Fault>,
) {
    let mut last_of_transaction: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last_of_row: HashMap<RowName<'_>, usize> = HashMap::new();
    for (change, pair) in stream.iter().zip(pairing) {
        let Some((at, _)) = *pair else { continue };
        let Some(tx) = expected[at].0 else {
            if let Some(first) = last_of_transaction.values().next() {
                faults.push(reordered(change, expected[*first].1));
            }
            continue;
        };
        let last_of_row = last_of_row.entry((&change.table, change.key.canonical())).or_insert(at);
        let overtaken = last_of_transaction
            .range(tx..)
            .find(|(other, last)| **last > at && (**other == tx || !deliveries[**other].is_beside(&deliveries[tx])))
            .map(|(_, last)| *last)
            .or((*last_of_row > at && !change.key.is_empty()).then_some(*last_of_row));
        if let Some(overtaken) = overtaken {
            faults.push(reordered(change, expected[overtaken].1));
            continue;
        }
        *last_of_row = at;
        last_of_transaction.insert(tx, at);
    }
}

fn reordered(change: &Change, after: &Expected) -> Fault {
    Fault::new(FaultKind::Reordered, format!("{} came after {}", text::line(change, None), describe(after)))
}

/// Each promised transaction must be one transaction of the stream, under a name of its own, and the other way round.
fn check_transactions(expected: &Promised<'_>, stream: &[Change], pairing: &Pairing, faults: &mut Vec<Fault>) {
    let mut run = 0;
    let mut told: BTreeMap<usize, (BTreeSet<usize>, &Change)> = BTreeMap::new();
    let mut happened: BTreeMap<&str, (BTreeSet<usize>, &Change)> = BTreeMap::new();
    let mut previous: Option<&Change> = None;
    for (change, pair) in stream.iter().zip(pairing) {
        if change.op == Op::Read {
            continue;
        }
        if change.tx.is_none() || previous.is_none_or(|previous| previous.tx != change.tx) {
            run += 1;
        }
        previous = Some(change);
        if let Some((Some(tx), _)) = pair.map(|(at, _)| expected[at]) {
            told.entry(tx).or_insert_with(|| (BTreeSet::new(), change)).0.insert(run);
            if let Some(name) = &change.tx {
                happened.entry(name.as_str()).or_insert_with(|| (BTreeSet::new(), change)).0.insert(tx);
            }
        }
    }
    for (_, change) in told.values().filter(|(runs, change)| runs.len() == 1 && change.tx.is_none()) {
        let detail = format!("{} doesn't tell the one it belongs to", text::line(change, None));
        faults.push(Fault::new(FaultKind::SplitTransaction, detail));
    }
    for (runs, change) in told.values().filter(|(runs, _)| runs.len() > 1) {
        let detail = format!("the one that begins with {} came as {}", text::line(change, None), runs.len());
        faults.push(Fault::new(FaultKind::SplitTransaction, detail));
    }
    for (txs, change) in happened.values().filter(|(txs, _)| txs.len() > 1) {
        let detail = format!("{} came as the one that begins with {}", txs.len(), text::line(change, None));
        faults.push(Fault::new(FaultKind::MergedTransactions, detail));
    }
}
