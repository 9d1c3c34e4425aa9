//! The text form of changes: one line each, grouped by transaction, with symbols for what varies between runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::{
    change::{Change, Op, Position},
    schema::TableName,
    value::{Row, Value},
};

/// What the symbols in front of the changes mean, for people who see them for the first time.
pub const LEGEND: &str = "= read by the snapshot   + insert   ~ update   ± there now   - delete   ! truncate   * new shape   # files   † tombstone follows";

/// One change on one line: symbol, table, key, then the other columns.
///
/// `image` names the columns that the before-image really holds, if that is known; what the method filled in for the
/// others means nothing and isn't shown.
pub fn line(change: &Change, image: Option<&[String]>) -> String {
    line_padded(change, image, 0)
}

fn head(change: &Change) -> String {
    let mut head = format!("{} {}", change.op.symbol(), change.table);
    for (_, value) in change.key.iter() {
        let _ = write!(head, " {value}");
    }
    head
}

fn line_padded(change: &Change, image: Option<&[String]>, width: usize) -> String {
    let head = head(change);
    let padding = width.saturating_sub(head.chars().count());
    let mut line = format!("{head}{:padding$}", "");
    let before = change.before.as_ref().map(|before| known_part(before, image));
    for part in parts(change, before.as_ref()) {
        let _ = write!(line, "  {part}");
    }
    if change.tombstone {
        line.push_str("  †");
    }
    line.trim_end().to_owned()
}

fn known_part(before: &Row, image: Option<&[String]>) -> Row {
    match image {
        Some(image) => before.project(image.iter().map(String::as_str)),
        None => before.clone(),
    }
}

/// The columns outside the key: the new value, or `old → new` where the method delivered both and they differ.
fn parts(change: &Change, before: Option<&Row>) -> Vec<String> {
    let in_key = |column: &str| change.key.get(column).is_some();
    let mut parts = Vec::new();
    match (change.op, &change.after) {
        (Op::Schema, _) => return schema_parts(change),
        (Op::Delete, _) => {
            let whole = change.before.as_ref();
            let columns = whole.iter().flat_map(|whole| whole.columns()).filter(|c| !in_key(c));
            for column in columns {
                parts.push(match before.and_then(|before| before.get(column)) {
                    Some(value) => format!("{column}: {value}"),
                    None => format!("{column}: (not in before-image)"),
                });
            }
        }
        (_, Some(after)) => {
            for (column, value) in after.iter() {
                let old = before.and_then(|before| before.get(column)).filter(|old| *old != value);
                match old {
                    Some(old) => parts.push(format!("{column}: {old} → {value}")),
                    None if in_key(column) => {}
                    None if change.op == Op::Files && *value == Value::Unavailable => {
                        parts.push(format!("{column}: (not in the metadata)"));
                    }
                    None => parts.push(format!("{column}: {value}")),
                }
            }
            if change.op == Op::Update && before.is_none() {
                parts.push("(no before-image)".to_owned());
            }
        }
        (_, None) => {}
    }
    parts
}

/// What changed in a table's definition: columns that came, went or have another type, and the table's earlier name.
fn schema_parts(change: &Change) -> Vec<String> {
    let (none, renamed) = (Row::default(), change.renamed_from.as_ref());
    let (before, after) = (change.before.as_ref().unwrap_or(&none), change.after.as_ref().unwrap_or(&none));
    let gone = before.iter().filter(|(column, _)| after.get(column).is_none());
    let came = after.iter().filter_map(|(column, ty)| match before.get(column) {
        None => Some(format!("{column}: came as {ty}")),
        Some(old) if old != ty => Some(format!("{column}: {old} → {ty}")),
        Some(_) => None,
    });
    let renamed = renamed.map(|name| format!("(was {name})"));
    renamed.into_iter().chain(gone.map(|(column, _)| format!("{column}: gone"))).chain(came).collect()
}

/// Numbers what varies between runs by its rank: the lowest LSN of a stream is `lsn#1`, whatever it is.
#[derive(Debug, Default)]
struct Symbols(BTreeMap<Position, usize>);

impl Symbols {
    fn of(positions: impl Iterator<Item = Position>) -> Self {
        let mut ranks: BTreeMap<Position, usize> = positions.map(|position| (position, 0)).collect();
        ranks.values_mut().enumerate().for_each(|(rank, number)| *number = rank + 1);
        Self(ranks)
    }

    fn name(&self, position: Position) -> String {
        format!("{}#{}", position.kind(), self.0.get(&position).copied().unwrap_or_default())
    }
}

/// More changes of one kind in a row than this are told by their first, their last and their number.
const CHANGES_TOLD_IN_A_ROW: usize = 12;

/// A whole stream: reads first, then transaction by transaction.
///
/// `image` gives the columns that a change's before-image really holds, by the change's place in the stream.
pub fn stream(changes: &[Change], image: impl Fn(usize) -> Option<Vec<String>>) -> String {
    let mut text = String::new();
    let (reads, streamed): (Vec<_>, Vec<_>) = changes.iter().enumerate().partition(|(_, change)| change.op == Op::Read);
    if !reads.is_empty() {
        text.push_str("snapshot\n");
        let mut reads: Vec<_> = reads.into_iter().map(|(_, change)| (change, None)).collect();
        reads.sort_by_cached_key(|(read, _)| {
            let key = read.key.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
            (read.table.clone(), key, line(read, None))
        });
        write_group(&mut text, &reads);
    }
    let groups: Vec<_> = streamed.chunk_by(|(_, a), (_, b)| came_together(a, b)).collect();
    let symbols = Symbols::of(groups.iter().filter_map(|group| group[0].1.position));
    for (number, group) in groups.iter().enumerate() {
        let first = group[0].1;
        let position = first.position.map(|position| symbols.name(position));
        let _ = match (&first.tx, first.position, position) {
            (None, Some(position), Some(found)) if is_a_look(position) => writeln!(text, "{found}"),
            (tx, _, position) => {
                let name = if tx.is_some() { "tx" } else { "change" };
                let position = position.map(|position| format!(" · {position}")).unwrap_or_default();
                writeln!(text, "{name}#{}{position}", number + 1)
            }
        };
        let changes: Vec<_> = group.iter().map(|(at, change)| (*change, image(*at))).collect();
        write_group(&mut text, &changes);
    }
    if text.is_empty() {
        text.push_str("(no change)\n");
    }
    text
}

/// Whether many changes stand at the position, since all that a look or a comparison finds does.
fn is_a_look(position: Position) -> bool {
    matches!(position, Position::Look(_) | Position::Version(_) | Position::Snapshot(_))
}

/// Whether two changes belong to one transaction, or were found by one look.
fn came_together(a: &Change, b: &Change) -> bool {
    match (&a.tx, &b.tx) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.position == b.position && a.position.is_some_and(is_a_look),
        _ => false,
    }
}

/// A stream whose snapshot met the changes at a point that differs from run to run: which tables it tells of, and how.
pub fn handover(changes: &[Change]) -> String {
    told_of(changes, "snapshot and stream, met at another point in each run", "each row once, read or streamed")
}

/// The same, by a method whose snapshot and changes overlap.
pub fn overlapping(changes: &[Change]) -> String {
    told_of(changes, "snapshot and stream, which overlap by another part in each run", "at least once")
}

fn told_of(changes: &[Change], what: &str, how_often: &str) -> String {
    let mut tables: BTreeMap<&TableName, BTreeSet<char>> = BTreeMap::new();
    for change in changes {
        tables.entry(&change.table).or_default().insert(change.op.symbol());
    }
    let mut text = format!("{what}\n");
    for (table, symbols) in tables {
        let symbols: String = symbols.into_iter().collect();
        let _ = writeln!(text, "  {symbols} {table}  {how_often}");
    }
    text
}

/// A stream in which changes may have come again: which tables it tells of, and how.
pub fn repeated(changes: &[Change]) -> String {
    told_of(changes, "a stream with breaks, after which another part of it comes again in each run", "at least once")
}

fn write_group(text: &mut String, changes: &[(&Change, Option<Vec<String>>)]) {
    let width = changes.iter().map(|(change, _)| head(change).chars().count()).max().unwrap_or(0);
    let like = |a: &Change, b: &Change| a.op == b.op && a.table == b.table;
    for run in changes.chunk_by(|(a, _), (b, _)| like(a, b)) {
        let mut put = |(change, image): &(&Change, Option<Vec<String>>)| {
            let _ = writeln!(text, "  {}", line_padded(change, image.as_deref(), width));
        };
        if run.len() <= CHANGES_TOLD_IN_A_ROW {
            run.iter().for_each(put);
        } else if let [first, between @ .., last] = run {
            put(first);
            let (op, table): (char, &TableName) = (first.0.op.symbol(), &first.0.table);
            let count = between.len();
            let _ = writeln!(text, "  {op} {table} … {count} more of these …");
            let _ = writeln!(text, "  {}", line_padded(last.0, last.1.as_deref(), width));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{Lsn, TxId},
        row,
    };

    fn change(op: Op, id: i32, before: Option<Row>, after: Option<Row>) -> Change {
        Change {
            key: row! { id: id },
            before,
            after,
            tombstone: op == Op::Delete,
            ..Change::new(op, "customers".into())
        }
    }

    #[test]
    fn a_change_shows_what_it_tells_and_what_it_does_not() {
        let (old, new) = (row! { id: 1, name: "Ada", tier: 1 }, row! { id: 1, name: "Eve", tier: 1 });
        let update = change(Op::Update, 1, Some(old.clone()), Some(new.clone()));
        assert_eq!(line(&update, None), "~ customers 1  name: Ada → Eve  tier: 1");
        let blind = change(Op::Update, 1, None, Some(new));
        assert_eq!(line(&blind, None), "~ customers 1  name: Eve  tier: 1  (no before-image)");
        let delete = change(Op::Delete, 1, Some(old), None);
        assert_eq!(line(&delete, None), "- customers 1  name: Ada  tier: 1  †");
        assert_eq!(
            line(&delete, Some(&["id".to_owned()])),
            "- customers 1  name: (not in before-image)  tier: (not in before-image)  †"
        );
        let moved = change(Op::Update, 2, Some(row! { id: 1 }), Some(row! { id: 2, name: "Ada" }));
        assert_eq!(line(&moved, None), "~ customers 2  id: 1 → 2  name: Ada");
    }

    #[test]
    fn positions_are_numbered_by_their_order_and_changes_grouped_by_transaction() {
        let at = |lsn: u64, tx: &str, id: i32| {
            let mut change = change(Op::Insert, id, None, Some(row! { id: id, n: id }));
            change.position = Some(Position::Lsn(Lsn(lsn)));
            change.tx = Some(TxId::new(tx));
            change
        };
        let changes = [at(900, "x", 1), at(950, "x", 10), at(100, "y", 2)];
        let expected =
            "tx#1 · lsn#2\n  + customers 1   n: 1\n  + customers 10  n: 10\ntx#2 · lsn#1\n  + customers 2  n: 2\n";
        assert_eq!(stream(&changes, |_| None), expected);
        let shifted: Vec<_> = [at(7900, "p", 1), at(7950, "p", 10), at(7100, "q", 2)].into();
        assert_eq!(stream(&shifted, |_| None), expected, "another run, the same page");
    }

    #[test]
    fn reads_are_sorted_and_long_runs_are_counted() {
        let read = |id: i32| change(Op::Read, id, None, Some(row! { id: id }));
        assert_eq!(stream(&[read(2), read(1)], |_| None), "snapshot\n  = customers 1\n  = customers 2\n");
        let many: Vec<_> = (1..=100).map(read).collect();
        assert!(stream(&many, |_| None).contains("= customers … 98 more of these …"));
        assert_eq!(stream(&[], |_| None), "(no change)\n");
    }
}
