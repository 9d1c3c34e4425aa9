//! The second oracle: the stream, folded into tables, must give what the database then holds.
//!
//! It needs no Model, so it judges any SQL.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{Alterations, Fault, FaultKind};
use crate::{
    change::{Change, Op, Position},
    guarantees::{
        BeforeImages, Granularity, Guarantees, Loss, ROWS, RowImage, SchemaChanges, Truncate, UnchangedToast, Values,
    },
    schema::{TableName, Type},
    text,
    value::{Row, Value},
};

/// What a database holds, table by table.
pub type Contents = BTreeMap<TableName, TableContents>;

/// What one table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableContents {
    /// The primary key's columns; empty if there is none.
    pub key: Vec<String>,
    /// What the columns hold, where that is known: a value may be told in another form than it is stored in.
    pub columns: BTreeMap<String, StoredColumn>,
    /// The rows in no order.
    pub rows: Vec<Row>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredColumn {
    /// Its type.
    pub ty: Type,
    /// Whether the database makes its value by an expression.
    pub is_generated: bool,
}

impl TableContents {
    /// The same rows as a method tells their values.
    fn told(&self, values: &Values, losses: &mut BTreeSet<Loss>) -> Self {
        let told = |row: &Row| {
            let columns = row.iter().filter_map(|(name, value)| {
                let Some(column) = self.columns.get(name) else { return Some((name.to_owned(), value.clone())) };
                let value = values.told(&column.ty, column.is_generated, value, losses)?;
                Some((name.to_owned(), value))
            });
            columns.collect()
        };
        let rows: Vec<Row> = self.rows.iter().map(told).collect();
        Self { key: self.key.clone(), columns: self.columns.clone(), rows }
    }
}

type Key = Vec<(String, Value)>;

fn key_of(row: &Row) -> Key {
    let key = row.canonical();
    key.into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect()
}

#[derive(Debug)]
struct FoldedRow {
    row: Row,
    position: Option<Position>,
    /// Whether it was read, and has not been changed since.
    is_read: bool,
    /// Values that a later change left out, and where they were delivered.
    kept: BTreeMap<String, Option<Position>>,
}

impl FoldedRow {
    fn new(row: Row, position: Option<Position>) -> Self {
        Self { row, position, is_read: false, kept: BTreeMap::new() }
    }

    /// The values that the new version of the row leaves out stay what they were: those marked as unavailable, and those of
    /// columns that it may lack.
    fn keep(mut self, old: &Self, may_lack: impl Fn(&str) -> bool) -> Self {
        let omitted = self.row.iter().filter(|(_, value)| **value == Value::Unavailable).map(|(column, _)| column);
        let lacking = old.row.columns().filter(|column| may_lack(column) && self.row.get(column).is_none());
        let omitted: Vec<_> = omitted.chain(lacking).map(str::to_owned).collect();
        for column in omitted {
            if let Some(value) = old.row.get(&column) {
                self.row.set(&column, value.clone());
                let delivered = old.kept.get(&column).copied().unwrap_or(old.position);
                self.kept.insert(column, delivered);
            }
        }
        self
    }
}

/// A table's columns that changed.
type Altered<'a> = Option<&'a BTreeMap<String, Option<Position>>>;

fn is_altered(altered: Altered<'_>, column: &str) -> bool {
    altered.is_some_and(|altered| altered.contains_key(column))
}

#[derive(Debug, Default)]
struct FoldedTable {
    keyed: HashMap<Key, FoldedRow>,
    keyless: Vec<FoldedRow>,
    /// What the last change deleted: an insert that follows may be the same row under another key.
    deleted: Option<FoldedRow>,
}

/// Folds a stream over what the database held when the capture began, and compares with what it holds at the end.
///
/// Tables that the database doesn't have at the end are not compared. Returns faults, and the losses that the
/// guarantees allow.
pub fn judge_fold(
    before: &Contents,
    stream: &[Change],
    after: &Contents,
    alterations: &Alterations,
    guarantees: &Guarantees,
) -> (Vec<Fault>, BTreeSet<Loss>) {
    if guarantees.granularity == Granularity::Files {
        return (count_files(before, stream, after, alterations), BTreeSet::new());
    }
    let mut faults = Vec::new();
    let mut losses = BTreeSet::new();
    let before: Contents = before
        .iter()
        .map(|(name, contents)| (name.clone(), contents.told(&guarantees.values, &mut BTreeSet::new())))
        .collect();
    let mut folded = start(&before, alterations);
    for (place, change) in stream.iter().enumerate() {
        let change = &with_whole_image(change, guarantees);
        let name = alterations.last_name_of(place, change);
        let table = folded.entry(name.clone()).or_default();
        let altered = alterations.columns.get(name);
        let leaves_out =
            guarantees.unchanged_toast == UnchangedToast::LeftOut || guarantees.row_image != RowImage::Full;
        let may_lack = |column: &str| leaves_out && !is_altered(altered, column);
        if let Err(fault) = table.apply(change, altered, may_lack) {
            if alterations.comes_again && table.follow_again(change) {
                continue;
            }
            let is_allowed = fault.kind == FaultKind::Duplicated && may_have_surplus(name, alterations, guarantees);
            faults.extend((!is_allowed).then_some(fault));
        }
        if guarantees.unchanged_toast == UnchangedToast::Delivered && omits_a_value(change) {
            let detail = format!("a value is not sent: {}", text::line(change, None));
            faults.push(Fault::new(FaultKind::WrongValue, detail));
        }
    }
    if alterations.has_renames() && guarantees.schema_changes == SchemaChanges::NextRow {
        losses.insert(Loss::SchemaChangeSilent);
    }
    for (name, contents) in after {
        let read = guarantees.read_values.as_ref().map(|values| contents.told(values, &mut losses).rows);
        let contents = &contents.told(&guarantees.values, &mut losses);
        let table = folded.remove(name).unwrap_or_default();
        let comparison = Comparison {
            name,
            contents,
            read,
            altered: alterations.columns.get(name),
            surplus: surplus_allowed(name, alterations, guarantees),
            may_lack: match guarantees.granularity {
                Granularity::EachChange | Granularity::Difference(_) | Granularity::Contents | Granularity::Files => {
                    false
                }
                Granularity::LatestState(mark) => alterations.is_out_of_time || !mark.touched_by_updates,
            },
            may_lack_columns: guarantees.row_image != RowImage::Full,
        };
        comparison.run(table, &mut faults, &mut losses);
    }
    (faults, losses)
}

/// An update whose old row holds just what changed, with the rest of it: that is as it is in the new row.
fn with_whole_image<'a>(change: &'a Change, guarantees: &Guarantees) -> Cow<'a, Change> {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if guarantees.before_images == BeforeImages::Changed && change.op == Op::Update => {
            let mut whole = after.clone();
            before.iter().for_each(|(column, value)| whole.set(column, value.clone()));
            Cow::Owned(Change { before: Some(whole), ..change.clone() })
        }
        _ => Cow::Borrowed(change),
    }
}

/// The rows that files are said to hold, added up, must be as many as there are; unless somewhere the metadata didn't say.
fn count_files(before: &Contents, stream: &[Change], after: &Contents, alterations: &Alterations) -> Vec<Fault> {
    let mut counts: BTreeMap<&TableName, Option<i128>> = BTreeMap::new();
    let held = |contents: &TableContents| i128::try_from(contents.rows.len()).unwrap_or(i128::MAX);
    counts.extend(before.iter().map(|(name, contents)| (alterations.last_name(name), Some(held(contents)))));
    for (place, change) in stream.iter().enumerate() {
        let told = match change.after.as_ref().and_then(|after| after.get(ROWS)) {
            Some(Value::Int(rows)) => Some(*rows),
            _ => None,
        };
        let count = counts.entry(alterations.last_name_of(place, change)).or_insert(Some(0));
        *count = count.zip(told).map(|(count, more)| count + more);
    }
    let wrong = after.iter().filter_map(|(name, contents)| {
        let counted = counts.get(name).copied().unwrap_or(Some(0))?;
        let detail = || format!("{name}: the files hold {counted} rows, the table {}", contents.rows.len());
        (counted != held(contents)).then(|| Fault::new(FaultKind::WrongState, detail()))
    });
    wrong.collect()
}

/// Why the stream may give rows that the database doesn't hold, if it may.
fn surplus_allowed(table: &TableName, alterations: &Alterations, guarantees: &Guarantees) -> Option<Loss> {
    match guarantees.granularity {
        Granularity::LatestState(_) => Some(Loss::DeleteMissed),
        Granularity::Difference(_) | Granularity::Contents | Granularity::Files => None,
        Granularity::EachChange => {
            let is_missed = guarantees.truncate == Truncate::Missed && alterations.truncated.contains(table);
            is_missed.then_some(Loss::TruncateMissed)
        }
    }
}

fn may_have_surplus(table: &TableName, alterations: &Alterations, guarantees: &Guarantees) -> bool {
    surplus_allowed(table, alterations, guarantees).is_some()
}

fn omits_a_value(change: &Change) -> bool {
    change.after.iter().flat_map(Row::iter).any(|(_, value)| *value == Value::Unavailable)
}

fn start(before: &Contents, alterations: &Alterations) -> BTreeMap<TableName, FoldedTable> {
    let mut folded: BTreeMap<TableName, FoldedTable> = BTreeMap::new();
    for (name, contents) in before {
        let table = folded.entry(alterations.last_name(name).clone()).or_default();
        for row in &contents.rows {
            let key = row.project(contents.key.iter().map(String::as_str));
            let row = FoldedRow::new(row.clone(), None);
            if key.is_empty() {
                table.keyless.push(row);
            } else {
                table.keyed.insert(key_of(&key), row);
            }
        }
    }
    folded
}

impl FoldedTable {
    /// Applies a change; `may_lack` says which columns of a row that there is the change may leave out.
    fn apply(&mut self, change: &Change, altered: Altered<'_>, may_lack: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let deleted = self.deleted.take();
        let wrong =
            |what: &str| Err(Fault::new(FaultKind::WrongState, format!("{what}: {}", text::line(change, None))));
        match (change.op, &change.after) {
            (Op::Schema | Op::Files, _) => {
                self.deleted = deleted;
                Ok(())
            }
            (Op::Upsert, Some(after)) => {
                let row = FoldedRow::new(after.clone(), change.position);
                if change.key.is_empty() {
                    self.keyless.push(row);
                } else {
                    let key = key_of(&change.key);
                    let names = |key: &Key| key.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
                    let has_other_key = self.keyed.keys().next().is_some_and(|other| names(other) != names(&key));
                    if (altered.is_some() || has_other_key) && !self.keyed.contains_key(&key) {
                        self.take(change, altered);
                    }
                    self.keyed.insert(key, row);
                }
                Ok(())
            }
            (Op::Truncate, _) => {
                self.keyed.clear();
                self.keyless.clear();
                Ok(())
            }
            (Op::Read | Op::Insert, Some(after)) => {
                let row =
                    FoldedRow { is_read: change.op == Op::Read, ..FoldedRow::new(after.clone(), change.position) };
                let row = deleted.iter().fold(row, |row, old| row.keep(old, |_| false));
                if change.key.is_empty() {
                    self.keyless.push(row);
                } else if self.keyed.insert(key_of(&change.key), row).is_some() {
                    let detail = format!("the row was there already: {}", text::line(change, None));
                    return Err(Fault::new(FaultKind::Duplicated, detail));
                }
                Ok(())
            }
            (Op::Update, Some(after)) => {
                let Some(old) = self.take(change, altered) else {
                    return wrong("an update of a row that was never delivered");
                };
                let row = FoldedRow::new(after.clone(), change.position).keep(&old, may_lack);
                if change.key.is_empty() {
                    self.keyless.push(row);
                } else {
                    self.keyed.insert(key_of(&change.key), row);
                }
                Ok(())
            }
            (Op::Delete, _) => match self.take(change, altered) {
                Some(deleted) => {
                    self.deleted = Some(deleted);
                    Ok(())
                }
                None => wrong("a delete of a row that was never delivered"),
            },
            (_, None) => wrong("no new row"),
        }
    }

    /// Follows a change that has come again, of a row that has gone. Returns whether it is one.
    fn follow_again(&mut self, change: &Change) -> bool {
        match (change.op, &change.after) {
            _ if change.key.is_empty() => return false,
            (Op::Update, Some(after)) => {
                self.keyed.insert(key_of(&change.key), FoldedRow::new(after.clone(), change.position));
            }
            (Op::Delete, _) => {}
            _ => return false,
        }
        true
    }

    /// Removes the row that a change replaces or deletes: by its old key, or without a key by its whole old row. A row that
    /// was delivered before columns changed is found by what did not change.
    fn take(&mut self, change: &Change, altered: Altered<'_>) -> Option<FoldedRow> {
        let unaltered = |row: &Row| row.project(row.columns().filter(|c| !is_altered(altered, c)));
        if change.key.is_empty() {
            let before = change.before.as_ref()?;
            let same = |folded: &FoldedRow| unaltered(&folded.row) == unaltered(before);
            let at = self.keyless.iter().position(|folded| folded.row == *before);
            if let Some(at) = at.or_else(|| self.keyless.iter().position(same)) {
                return Some(self.keyless.swap_remove(at));
            }
            altered?;
            let key = self.keyed.iter().find(|(_, folded)| same(folded))?.0.clone();
            return self.keyed.remove(&key);
        }
        let old_key = change.before.as_ref().map(|before| before.project(change.key.columns()));
        let old_key = old_key.filter(|key| key.len() == change.key.len());
        let key = key_of(old_key.as_ref().unwrap_or(&change.key));
        if let Some(row) = self.keyed.remove(&key) {
            return Some(row);
        }
        let has_key = |folded: &FoldedRow| key_of(&folded.row.project(change.key.columns())) == key;
        let moved = self.keyed.iter().find(|(other, folded)| is_same_key(other, &key, altered) || has_key(folded));
        let moved = moved?.0.clone();
        self.keyed.remove(&moved)
    }

    fn into_rows(self) -> Vec<FoldedRow> {
        self.keyed.into_values().chain(self.keyless).collect()
    }
}

/// Whether two keys hold the same values under names of which some changed.
fn is_same_key(a: &Key, b: &Key, altered: Altered<'_>) -> bool {
    let parts = |key: &Key| -> (Key, Vec<Value>) {
        let (moved, fixed): (Key, Key) = key.iter().cloned().partition(|(column, _)| is_altered(altered, column));
        let mut moved: Vec<_> = moved.into_iter().map(|(_, value)| value).collect();
        moved.sort_unstable();
        (fixed, moved)
    };
    parts(a) == parts(b)
}

struct Comparison<'a> {
    name: &'a TableName,
    contents: &'a TableContents,
    /// Its rows as they are told that are read, if in another form.
    read: Option<Vec<Row>>,
    altered: Altered<'a>,
    /// Why the stream may give rows that the database doesn't hold.
    surplus: Option<Loss>,
    /// Whether the stream may lack rows, or give their earlier versions.
    may_lack: bool,
    /// Whether its rows may lack columns, of which the statement that made them said nothing.
    may_lack_columns: bool,
}

impl Comparison<'_> {
    fn run(&self, table: FoldedTable, faults: &mut Vec<Fault>, losses: &mut BTreeSet<Loss>) {
        let folded = table.into_rows();
        let key_is_stable = !self.contents.key.is_empty() && !self.contents.key.iter().any(|c| self.is_altered(c));
        if key_is_stable {
            self.by_key(folded, faults, losses);
        } else {
            self.by_content(&folded, faults, losses);
        }
    }

    fn is_altered(&self, column: &str) -> bool {
        is_altered(self.altered, column)
    }

    /// Whether a folded row may be wrong in a column: it was delivered before the column changed.
    fn may_be_stale(&self, column: &str, row: &FoldedRow) -> bool {
        let delivered_at = row.kept.get(column).copied().unwrap_or(row.position);
        self.is_altered(column)
            && match (self.altered.and_then(|altered| altered.get(column)), delivered_at) {
                _ if row.row.get(column) == Some(&Value::Unavailable) => true,
                (Some(Some(altered_at)), Some(delivered_at)) => delivered_at < *altered_at,
                _ => true,
            }
    }

    fn by_key(&self, folded: Vec<FoldedRow>, faults: &mut Vec<Fault>, losses: &mut BTreeSet<Loss>) {
        let key = |row: &Row| key_of(&row.project(self.contents.key.iter().map(String::as_str)));
        let mut by_key: HashMap<Key, FoldedRow> = HashMap::new();
        for row in folded {
            if let Some(other) = by_key.insert(key(&row.row), row) {
                faults.push(self.fault(&format!("the stream gives the key of {} twice", other.row)));
            }
        }
        let mut folded = by_key;
        for (at, row) in self.contents.rows.iter().enumerate() {
            let Some(delivered) = folded.remove(&key(row)) else {
                if self.may_lack {
                    losses.insert(Loss::BehindTheMark);
                    continue;
                }
                faults.push(self.fault(&format!("the database holds {row}, the stream lost it")));
                continue;
            };
            let read = self.read.as_ref().filter(|_| delivered.is_read).and_then(|rows| rows.get(at));
            let row = read.unwrap_or(row);
            let columns: BTreeSet<&str> = row.columns().chain(delivered.row.columns()).collect();
            let is_wrong = |column: &&str| {
                let told = delivered.row.get(column);
                row.get(column) != told && !(self.may_lack_columns && told.is_none())
            };
            let wrong: Vec<&str> = columns.into_iter().filter(is_wrong).collect();
            if wrong.iter().all(|column| self.may_be_stale(column, &delivered)) {
                if !wrong.is_empty() {
                    losses.insert(Loss::RewrittenRowsStale);
                }
            } else if self.may_lack {
                losses.insert(Loss::BehindTheMark);
            } else {
                let shown = self.contents.key.iter().map(String::as_str).chain(wrong);
                let shown: BTreeSet<&str> = shown.collect();
                let (held, given) = (row.project(shown.clone()), delivered.row.project(shown));
                faults.push(self.fault(&format!("the database holds {held}, the stream gives {given}")));
            }
        }
        for extra in folded.into_values() {
            if let Some(loss) = self.surplus {
                losses.insert(loss);
                continue;
            }
            faults.push(self.fault(&format!("the stream gives {}, the database lacks it", extra.row)));
        }
    }

    fn by_content(&self, folded: &[FoldedRow], faults: &mut Vec<Fault>, losses: &mut BTreeSet<Loss>) {
        let is_in_all = |column: &str| folded.iter().all(|row| row.row.get(column).is_some());
        let is_told = |column: &str| !self.may_lack_columns || is_in_all(column);
        if self.difference(folded, is_told, losses).is_none() {
            return;
        }
        match self.difference(folded, |column| is_told(column) && !self.is_altered(column), losses) {
            None => {
                losses.insert(Loss::RewrittenRowsStale);
            }
            Some(detail) => faults.push(self.fault(&detail)),
        }
    }

    /// The first row that one side has more often than the other and may not, looking at some columns only.
    fn difference(
        &self,
        folded: &[FoldedRow],
        columns: impl Fn(&str) -> bool,
        losses: &mut BTreeSet<Loss>,
    ) -> Option<String> {
        let part = |row: &Row| key_of(&row.project(row.columns().filter(|column| columns(column))));
        let mut counts: HashMap<Key, i64> = HashMap::new();
        for row in &self.contents.rows {
            *counts.entry(part(row)).or_default() += 1;
        }
        for delivered in folded {
            *counts.entry(part(&delivered.row)).or_default() -= 1;
        }
        if let Some(loss) = self.surplus
            && counts.values().any(|count| *count < 0)
        {
            losses.insert(loss);
            counts.retain(|_, count| *count > 0);
        }
        if self.may_lack && counts.values().any(|count| *count > 0) {
            losses.insert(Loss::BehindTheMark);
            counts.retain(|_, count| *count < 0);
        }
        let (row, count) = counts.into_iter().filter(|(_, count)| *count != 0).min()?;
        let row: Row = row.into_iter().collect();
        let (more, less) = if count > 0 { ("database", "stream") } else { ("stream", "database") };
        Some(format!("the {more} has {row} {} times more than the {less}", count.abs()))
    }

    fn fault(&self, detail: &str) -> Fault {
        Fault::new(FaultKind::WrongState, format!("{}: {detail}", self.name))
    }
}
