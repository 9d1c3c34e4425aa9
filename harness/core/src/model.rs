//! The oracle: a script run on in-memory tables, which yields the ideal change stream and the final state.
//!
//! The Model knows typed actions only and nothing of any method. It does not re-implement a database: sessions are
//! expected not to touch the same rows at the same time, and constraints are not checked.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use crate::{
    change::Op,
    schema::{Table, TableName},
    script::{Action, Alter, Step},
    value::{Row, Value},
};

/// What truly happened, one event at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum IdealChange {
    /// A row or table changed.
    Row {
        /// Insert, update, delete or truncate; never read.
        op: Op,
        /// The table as it was defined at that moment.
        table: Arc<Table>,
        /// The whole row before.
        before: Option<Row>,
        /// The whole row after.
        after: Option<Row>,
        /// The columns that the statement named for the row after: the others stayed as they were, or got their defaults.
        named: Arc<[String]>,
    },
    /// A table was created.
    Created(Arc<Table>),
    /// A table's definition changed.
    Altered {
        /// The table as it was defined until then.
        table: Arc<Table>,
        /// What changed.
        change: Alter,
    },
}

/// One committed transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdealTransaction {
    /// Its changes in the order in which they were made.
    pub changes: Vec<IdealChange>,
    /// Of each change the number of the statement that made it, among all that the script ran.
    pub statements: Vec<usize>,
    /// When it began: its number among all transactions that the script began.
    pub began: usize,
    /// How many transactions had been committed when it began: later ones ran beside it.
    pub committed_before: usize,
}

/// The script does what the Model can't follow.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ModelError {
    /// No such table.
    #[error("the script names the table {0}, which it has not created")]
    UnknownTable(TableName),
    /// No such column.
    #[error("the script names the column {1} of {0}, which has no such column")]
    UnknownColumn(TableName, String),
    /// No such transaction or savepoint.
    #[error("the script ends {0}, which session {1} has not begun")]
    NotBegun(String, String),
    /// A transaction in a transaction, which PostgreSQL ignores and others take for a commit.
    #[error("the script begins a transaction on session {0}, which has one open")]
    BegunTwice(String),
}

/// A table's definition and rows.
#[derive(Clone, Debug, PartialEq)]
pub struct TableState {
    /// The definition.
    pub table: Arc<Table>,
    /// The rows, in the order in which PostgreSQL's heap holds them and a statement that changes several visits them: each
    /// update writes a new version at the end.
    pub rows: Vec<Row>,
}

/// Tables by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables(pub BTreeMap<TableName, TableState>);

impl Tables {
    fn get(&self, name: &TableName) -> Result<&TableState, ModelError> {
        self.0.get(name).ok_or_else(|| ModelError::UnknownTable(name.clone()))
    }

    /// Carries a change out.
    pub(crate) fn apply(&mut self, change: &IdealChange) {
        match change {
            IdealChange::Created(table) => {
                let state = TableState { table: Arc::clone(table), rows: Vec::new() };
                self.0.insert(table.name.clone(), state);
            }
            IdealChange::Altered { table, change } => {
                if let Some(state) = self.0.remove(&table.name) {
                    let state = altered(state, change);
                    self.0.insert(state.table.name.clone(), state);
                }
            }
            IdealChange::Row { op, table, before, after, .. } => {
                let Some(state) = self.0.get_mut(&table.name) else { return };
                let at = before.as_ref().and_then(|before| state.rows.iter().rposition(|row| row == before));
                match (op, at, after) {
                    (Op::Truncate, ..) => state.rows.clear(),
                    (_, at, after) => {
                        at.map(|at| state.rows.remove(at));
                        state.rows.extend(after.clone());
                    }
                }
            }
        }
    }
}

/// A table's definition after a change.
pub(crate) fn altered_table(table: &Arc<Table>, change: &Alter) -> Table {
    let state = TableState { table: Arc::clone(table), rows: Vec::new() };
    Table::clone(&altered(state, change).table)
}

fn altered(state: TableState, change: &Alter) -> TableState {
    let mut table = Table::clone(&state.table);
    let mut rows = state.rows;
    match change {
        Alter::AddColumn(column) => {
            let default = column.default.clone().unwrap_or(Value::Null);
            rows.iter_mut().for_each(|row| row.set(&column.name, default.clone()));
            table.columns.push(column.clone());
        }
        Alter::DropColumn(name) => {
            rows.iter_mut().for_each(|row| {
                row.remove(name);
            });
            table.columns.retain(|column| column.name != *name);
            if table.key.contains(name) {
                table.key.clear();
            }
        }
        Alter::RenameColumn { from, to } => {
            for name in table.columns.iter_mut().map(|c| &mut c.name).chain(&mut table.key) {
                if name == from {
                    to.clone_into(name);
                }
            }
            let renamed = |row: &Row| {
                row.iter().map(|(name, value)| (if name == from { to } else { name }, value.clone())).collect()
            };
            rows = rows.iter().map(renamed).collect();
        }
        Alter::ChangeType { column, ty, .. } => {
            for column in table.columns.iter_mut().filter(|c| c.name == *column) {
                column.ty = ty.clone();
                column.default = column.default.as_ref().map(|value| value.cast(ty));
            }
            for row in &mut rows {
                if let Some(value) = row.get(column).map(|value| value.cast(ty)) {
                    row.set(column, value);
                }
            }
        }
        Alter::RenameTable(name) => table.name = TableName::new(table.name.schema(), name),
        Alter::Identity(identity) => table.identity = identity.clone(),
        Alter::Key(columns) => table.key.clone_from(columns),
    }
    TableState { table: Arc::new(table), rows }
}

/// An open transaction: its changes so far, each with the tables as they were before it touched them.
#[derive(Debug, Default)]
struct Open {
    changes: Vec<(IdealChange, Undo)>,
    statements: Vec<usize>,
    savepoints: Vec<(String, usize)>,
    began: usize,
    committed_before: usize,
}

/// How to take a change back. Rows are taken back one by one, so that sessions can interleave on a table.
#[derive(Debug)]
enum Undo {
    Row {
        table: TableName,
        /// The row before, and its place.
        before: Option<(usize, Row)>,
        after: Option<Row>,
    },
    Table {
        remove: Option<TableName>,
        restore: Option<TableState>,
    },
}

/// The script run on in-memory tables.
#[derive(Debug, Default)]
pub struct Model {
    tables: Tables,
    open: BTreeMap<String, Open>,
    committed: Vec<IdealTransaction>,
    /// How many transactions the script has begun.
    begun: usize,
    /// How many statements the script has run.
    ran: usize,
}

impl Model {
    /// A model of which no more is known than what was committed.
    pub(crate) fn of_committed(committed: Vec<IdealTransaction>) -> Self {
        let mut model = Self { committed, ..Self::default() };
        model.tables = model.tables_after(model.committed.len());
        model
    }

    /// Runs a step. A step outside a transaction is a transaction of its own.
    ///
    /// # Errors
    /// The step names what the script has not made.
    pub fn apply(&mut self, step: &Step) -> Result<(), ModelError> {
        let session = &step.session;
        match &step.action {
            Action::Begin | Action::BeginTwoPhase(_) => {
                if self.open.contains_key(session) {
                    return Err(ModelError::BegunTwice(session.clone()));
                }
                let open = self.begin();
                self.open.insert(session.clone(), open);
            }
            Action::Commit => {
                let open = self.end(session)?;
                self.commit(open);
            }
            Action::Rollback => {
                let open = self.end(session)?;
                self.undo(open.changes);
            }
            Action::Prepare(name) => {
                let open = self.end(session)?;
                self.open.insert(prepared(name), open);
            }
            Action::CommitPrepared(name) => {
                let open = self.end(&prepared(name))?;
                self.commit(open);
            }
            Action::RollbackPrepared(name) => {
                let open = self.end(&prepared(name))?;
                self.undo(open.changes);
            }
            Action::Savepoint(name) => {
                let open = self.open.get_mut(session).ok_or_else(|| not_begun(session))?;
                open.savepoints.push((name.clone(), open.changes.len()));
            }
            Action::RollbackTo(name) => {
                let open = self.open.get_mut(session).ok_or_else(|| not_begun(session))?;
                let at = open.savepoints.iter().rposition(|(savepoint, _)| savepoint == name);
                let at = at.ok_or_else(|| ModelError::NotBegun(format!("the savepoint {name}"), session.clone()))?;
                open.savepoints.truncate(at + 1);
                let undone = open.changes.split_off(open.savepoints[at].1);
                open.statements.truncate(open.changes.len());
                self.undo(undone);
            }
            action => {
                let mut done = Vec::new();
                self.run(action, &mut done)?;
                let statements = vec![self.ran; done.len()];
                self.ran += 1;
                if let Some(open) = self.open.get_mut(session) {
                    open.changes.extend(done);
                    open.statements.extend(statements);
                } else {
                    let only = Open { changes: done, statements, ..self.begin() };
                    self.commit(only);
                }
            }
        }
        Ok(())
    }

    /// The committed transactions so far, in the order of their commits, those without any change included.
    pub fn committed(&self) -> &[IdealTransaction] {
        &self.committed
    }

    /// The tables as they are now, uncommitted changes included.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The tables as they were when a number of transactions had been committed.
    pub fn tables_after(&self, transactions: usize) -> Tables {
        let mut tables = Tables::default();
        let past = self.committed.iter().take(transactions).flat_map(|transaction| &transaction.changes);
        past.for_each(|change| tables.apply(change));
        tables
    }

    /// How many rows there were in all tables at each of these numbers of committed transactions.
    pub(crate) fn count_rows(&self, (from, to): (usize, usize)) -> Vec<usize> {
        let mut tables = self.tables_after(from);
        let count = |tables: &Tables| tables.0.values().map(|state| state.rows.len()).sum();
        let mut counts = vec![count(&tables)];
        for transaction in &self.committed[from..to] {
            transaction.changes.iter().for_each(|change| tables.apply(change));
            counts.push(count(&tables));
        }
        counts
    }

    fn end(&mut self, session: &str) -> Result<Open, ModelError> {
        self.open.remove(session).ok_or_else(|| not_begun(session))
    }

    fn begin(&mut self) -> Open {
        let began = self.begun;
        self.begun += 1;
        Open { began, committed_before: self.committed.len(), ..Open::default() }
    }

    fn commit(&mut self, open: Open) {
        let Open { changes, statements, began, committed_before, .. } = open;
        let changes = changes.into_iter().map(|(change, _)| change).collect();
        self.committed.push(IdealTransaction { changes, statements, began, committed_before });
    }

    fn undo(&mut self, changes: Vec<(IdealChange, Undo)>) {
        for (_, undo) in changes.into_iter().rev() {
            match undo {
                Undo::Row { table, before, after } => {
                    let Some(state) = self.tables.0.get_mut(&table) else { continue };
                    let at = after.and_then(|after| state.rows.iter().rposition(|r| *r == after));
                    at.map(|at| state.rows.remove(at));
                    if let Some((at, before)) = before {
                        state.rows.insert(at.min(state.rows.len()), before);
                    }
                }
                Undo::Table { remove, restore } => {
                    if let Some(name) = remove {
                        self.tables.0.remove(&name);
                    }
                    if let Some(state) = restore {
                        self.tables.0.insert(state.table.name.clone(), state);
                    }
                }
            }
        }
    }

    fn run(&mut self, action: &Action, done: &mut Vec<(IdealChange, Undo)>) -> Result<(), ModelError> {
        match action {
            Action::CreateTable(table) => {
                let undo = Undo::Table { remove: Some(table.name.clone()), restore: None };
                self.change(IdealChange::Created(Arc::new(table.clone())), undo, done);
            }
            Action::Insert { table, rows } => {
                for row in rows {
                    let after = inserted(&self.tables.get(table)?.table, row)?;
                    let named = named(row);
                    self.change_row(Op::Insert, table, (None, Some(after)), named, done)?;
                }
            }
            Action::Update { table, at, set } => {
                let state = self.tables.get(table)?;
                let set = assigned(&state.table, set)?;
                let at = assigned(&state.table, at)?;
                let matching: Vec<_> = state.rows.iter().filter(|row| row.contains(&at)).cloned().collect();
                let named = named(&set);
                for before in matching {
                    let mut after = before.clone();
                    set.iter().for_each(|(column, value)| after.set(column, value.clone()));
                    self.change_row(Op::Update, table, (Some(before), Some(after)), Arc::clone(&named), done)?;
                }
            }
            Action::Delete { table, at } => {
                let state = self.tables.get(table)?;
                let at = assigned(&state.table, at)?;
                let matching: Vec<_> = state.rows.iter().filter(|row| row.contains(&at)).cloned().collect();
                for before in matching {
                    self.change_row(Op::Delete, table, (Some(before), None), [].into(), done)?;
                }
            }
            Action::Truncate(tables) => {
                for table in tables {
                    let state = self.tables.get(table)?;
                    let undo = Undo::Table { remove: None, restore: Some(state.clone()) };
                    let table = Arc::clone(&state.table);
                    let op = Op::Truncate;
                    let (before, after, named) = (None, None, [].into());
                    self.change(IdealChange::Row { op, table, before, after, named }, undo, done);
                }
            }
            Action::Alter { table, change } => {
                let state = self.tables.get(table)?.clone();
                let table = Arc::clone(&state.table);
                let remove = match change {
                    Alter::RenameTable(name) => Some(TableName::new(table.name.schema(), name)),
                    _ => None,
                };
                let undo = Undo::Table { remove, restore: Some(state) };
                self.change(IdealChange::Altered { table, change: change.clone() }, undo, done);
            }
            Action::Raw { means, .. } => {
                means.iter().try_for_each(|action| self.run(action, done))?;
            }
            Action::Begin
            | Action::BeginTwoPhase(_)
            | Action::Commit
            | Action::Rollback
            | Action::Savepoint(_)
            | Action::RollbackTo(_)
            | Action::Prepare(_)
            | Action::CommitPrepared(_)
            | Action::RollbackPrepared(_) => {}
        }
        Ok(())
    }

    fn change_row(
        &mut self,
        op: Op,
        name: &TableName,
        (before, after): (Option<Row>, Option<Row>),
        named: Arc<[String]>,
        done: &mut Vec<(IdealChange, Undo)>,
    ) -> Result<(), ModelError> {
        let state = self.tables.get(name)?;
        let table = Arc::clone(&state.table);
        let was = before
            .as_ref()
            .and_then(|before| Some((state.rows.iter().rposition(|row| row == before)?, before.clone())));
        let undo = Undo::Row { table: name.clone(), before: was, after: after.clone() };
        self.change(IdealChange::Row { op, table, before, after, named }, undo, done);
        Ok(())
    }

    fn change(&mut self, change: IdealChange, undo: Undo, done: &mut Vec<(IdealChange, Undo)>) {
        self.tables.apply(&change);
        done.push((change, undo));
    }
}

fn named(row: &Row) -> Arc<[String]> {
    row.columns().map(str::to_owned).collect()
}

/// A prepared transaction stands among the open ones under a name that no session has.
fn prepared(name: &str) -> String {
    format!("prepared transaction {name}")
}

fn not_begun(session: &str) -> ModelError {
    ModelError::NotBegun("a transaction".to_owned(), session.to_owned())
}

/// The row that is stored: all columns in the table's order, defaults filled in, values as their types hold them.
fn inserted(table: &Table, row: &Row) -> Result<Row, ModelError> {
    let given = assigned(table, row)?;
    Ok(table
        .columns
        .iter()
        .map(|column| {
            let value = given.get(&column.name).or(column.default.as_ref());
            (column.name.clone(), value.cloned().unwrap_or(Value::Null))
        })
        .collect())
}

fn assigned(table: &Table, row: &Row) -> Result<Row, ModelError> {
    row.iter()
        .map(|(name, value)| {
            let column =
                table.column(name).ok_or_else(|| ModelError::UnknownColumn(table.name.clone(), name.to_owned()))?;
            Ok((name.to_owned(), value.cast(&column.ty)))
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Row::from_iter)
}

#[cfg(test)]
mod tests;
