//! What happened to tables while a stream was captured.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    change::{Change, Position},
    schema::TableName,
};

/// Definitions that changed while the stream was captured. A method that doesn't tell schema changes can't keep the
/// folded rows up with them.
#[derive(Clone, Debug, Default)]
pub struct Alterations {
    /// By the table's last name: columns added, dropped, renamed (both names) or retyped, and where in the source's
    /// history that was, if known. Rows delivered after it must be right.
    pub columns: BTreeMap<TableName, BTreeMap<String, Option<Position>>>,
    /// Tables' new names, in the order in which they got them.
    renames: Vec<Renames>,
    /// Names that were given up by a table, and that another one was created with.
    remade: BTreeSet<TableName>,
    /// Tables, by their last names, that were truncated.
    pub truncated: BTreeSet<TableName>,
    /// Whether rows were written that may bear an earlier time than rows written before them: transactions ran side by
    /// side, or the script sets the time itself.
    pub is_out_of_time: bool,
    /// Whether changes may have come again, behind later ones: the row that one of them changes may have gone by then.
    pub comes_again: bool,
}

/// Names that tables got at one moment.
#[derive(Clone, Debug)]
struct Renames {
    names: BTreeMap<TableName, TableName>,
    at: Moment,
}

/// When something happened, by the changes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the change of this place in the stream.
    Place(usize),
    /// Before what stands here in the source's history, or later.
    Position(Position),
}

impl Moment {
    /// Whether it was before the change of a place in the stream.
    fn is_before(self, (place, change): (usize, &Change)) -> bool {
        match self {
            Self::Place(at) => at <= place,
            Self::Position(at) => change.position.is_some_and(|position| at <= position),
        }
    }
}

impl Alterations {
    /// Records that a column changed.
    pub fn column(&mut self, table: &TableName, column: &str, at: Option<Position>) {
        let columns = self.columns.entry(table.clone()).or_default();
        columns.insert(column.to_owned(), at);
    }

    /// Records that tables got other names, all of them at once.
    pub fn rename(&mut self, names: impl IntoIterator<Item = (TableName, TableName)>, at: Moment) {
        let names: BTreeMap<_, _> = names.into_iter().collect();
        let columns: Vec<_> =
            names.iter().filter_map(|(from, to)| Some((to.clone(), self.columns.remove(from)?))).collect();
        let truncated: Vec<_> =
            names.iter().filter(|(from, _)| self.truncated.remove(from)).map(|(_, to)| to.clone()).collect();
        self.columns.extend(columns);
        self.truncated.extend(truncated);
        if !names.is_empty() {
            self.renames.push(Renames { names, at });
        }
    }

    /// Records that a table was created.
    pub fn create(&mut self, table: &TableName) {
        if self.renames.iter().any(|renames| renames.names.contains_key(table)) {
            self.remade.insert(table.clone());
        }
    }

    /// Records that a table was truncated.
    pub fn truncate(&mut self, table: &TableName) {
        self.truncated.insert(table.clone());
    }

    pub(super) fn has_renames(&self) -> bool {
        !self.renames.is_empty()
    }

    /// What a table was called in the end that had this name when the capture began.
    pub(super) fn last_name<'a>(&'a self, table: &'a TableName) -> &'a TableName {
        self.follow(table, |_| false)
    }

    /// What the table of a change was called in the end. A name that only one table has had means that table whenever the
    /// change came.
    pub(super) fn last_name_of<'a>(&'a self, place: usize, change: &'a Change) -> &'a TableName {
        self.follow(&change.table, |at| at.is_before((place, change)))
    }

    fn follow<'a>(&'a self, table: &'a TableName, is_past: impl Fn(Moment) -> bool) -> &'a TableName {
        let mut name = table;
        for (number, renames) in self.renames.iter().enumerate() {
            let Some(to) = renames.names.get(name) else { continue };
            let is_taken_over = |renames: &Renames| renames.names.values().any(|to| to == name);
            let is_ambiguous = self.remade.contains(name) || self.renames[number..].iter().any(is_taken_over);
            if !(is_ambiguous && is_past(renames.at)) {
                name = to;
            }
        }
        name
    }
}
