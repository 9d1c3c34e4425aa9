//! Runs a file's statements one by one on their sessions, and notes where in the source's history each left off.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use changeproof::{
    Change,
    capture::{Capture, Subscription, collect_until_fence},
    change::Position,
    error::{Context, Error, Result},
    guarantees::{Granularity, Guarantees, TIME_COLUMN},
    judge::{Alterations, Moment},
    postgres::{self, Source, TableShape},
    schema::TableName,
    source,
    stack::Endpoint,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_postgres::{Client, error::ErrorPosition};

use crate::sql_file::{FIRST_SESSION, Statement};

type Shapes = BTreeMap<TableName, TableShape>;

/// How often a statement that takes long is looked at: is it waiting for another session's lock?
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A statement may take this long in all.
const STATEMENT_WITHIN: Duration = Duration::from_secs(120);

/// A statement that ran.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) statement: Statement,
    /// Why it failed, if it did.
    pub(super) failure: Option<StatementFailure>,
    /// Whether it had to wait for another session's lock.
    pub(super) waited: bool,
    /// The tables as they were defined after it.
    pub(super) shapes: Arc<Shapes>,
}

/// What the database said against a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatementFailure {
    pub(super) message: String,
    /// The line of the file that the database points at.
    pub(super) line: usize,
    /// The column in that line, from 1, if it points at one.
    pub(super) column: Option<usize>,
}

/// What happened at the source.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) statements: Vec<Ran>,
    pub(super) causes: Causes,
    pub(super) alterations: Alterations,
    pub(super) alterations_count: usize,
}

/// Which statement caused which changes.
#[derive(Debug)]
pub(super) enum Causes {
    /// The end of the source's history after each step, and the statement whose changes stand before it.
    Positions(Vec<(Position, usize)>),
    /// How many changes had been delivered at each look, and the statement before it.
    Looks(Vec<(usize, usize)>),
}

impl Default for Causes {
    fn default() -> Self {
        Self::Positions(Vec::new())
    }
}

impl Causes {
    /// The statement that caused the change of this place in the stream; for what a look found, the last one before that look.
    pub(super) fn of(&self, place: usize, position: Option<Position>) -> Option<usize> {
        match self {
            Self::Positions(marks) => {
                let position = position?;
                let at = marks.partition_point(|(end, _)| *end <= position);
                marks.get(at).map(|(_, statement)| *statement)
            }
            Self::Looks(marks) => {
                let at = marks.partition_point(|(delivered, _)| *delivered <= place);
                marks.get(at).map(|(_, statement)| *statement)
            }
        }
    }
}

struct Session {
    client: Arc<Client>,
    process: i32,
    waiting: Option<(usize, JoinHandle<Result<(), tokio_postgres::Error>>)>,
}

/// A method watching the statements.
pub(super) struct Watcher {
    method: &'static dyn Capture,
    subscription: Box<dyn Subscription>,
    /// Whether what it misses between two looks is lost to it.
    pub(super) looks_from_time_to_time: bool,
    /// What it has delivered so far.
    pub(super) stream: Vec<Change>,
}

impl Watcher {
    pub(super) fn new(
        method: &'static dyn Capture,
        subscription: Box<dyn Subscription>,
        guarantees: &Guarantees,
    ) -> Self {
        let looks_from_time_to_time = match guarantees.granularity {
            Granularity::EachChange | Granularity::Files => false,
            Granularity::Difference(difference) => !difference.each_commit,
            Granularity::LatestState(_) => true,
        };
        Self { method, subscription, looks_from_time_to_time, stream: Vec::new() }
    }

    /// Waits until everything committed so far has been delivered.
    pub(super) async fn catch_up(&mut self, source: &mut dyn source::Source) -> Result<()> {
        let fence = source.write_fence().await?;
        let changes = collect_until_fence(self.subscription.as_mut(), fence).await?;
        self.stream.extend(changes);
        Ok(())
    }

    /// Where the source's history ends now. What a method finds by looking stands at its next look.
    async fn end_of_history(&self, source: &Source) -> Result<Position> {
        if !self.looks_from_time_to_time {
            return self.method.end_of_history(source).await;
        }
        let looks = self.stream.iter().rev().find_map(|change| match change.position {
            Some(Position::Look(look)) => Some(look),
            _ => None,
        });
        Ok(Position::Look(looks.unwrap_or(0) + 1))
    }
}

/// Statements being run.
pub(super) struct Execution {
    endpoint: Endpoint,
    database: String,
    pub(super) watcher: Watcher,
    sessions: BTreeMap<String, Session>,
    history: History,
    shapes: Arc<Shapes>,
}

impl Execution {
    pub(super) fn new(endpoint: Endpoint, database: &str, watcher: Watcher) -> Self {
        Self {
            endpoint,
            database: database.to_owned(),
            watcher,
            sessions: BTreeMap::new(),
            history: History::default(),
            shapes: Arc::default(),
        }
    }

    /// Runs the statements; stops at the first that fails, unless told to keep going.
    pub(super) async fn run_all(
        &mut self,
        statements: &[Statement],
        source: &mut Source,
        keep_going: bool,
    ) -> Result<()> {
        for (number, statement) in statements.iter().enumerate() {
            if statement.look_before && self.watcher.looks_from_time_to_time && number > 0 {
                self.look(source, number - 1).await?;
            }
            self.run(number, statement, source).await?;
            if !keep_going && self.history.statements.iter().any(|ran| ran.failure.is_some()) {
                break;
            }
        }
        Ok(())
    }

    /// Lets the method look; what it finds is shown under the statement of the number.
    async fn look(&mut self, source: &mut Source, number: usize) -> Result<()> {
        self.watcher.catch_up(source).await?;
        self.note(source, number).await
    }

    /// Waits for statements that still wait, ends open transactions as a closing connection does, and tells what happened
    /// and what was delivered of it.
    pub(super) async fn finish(mut self, source: &mut Source) -> Result<(History, Vec<Change>)> {
        let names: Vec<_> = self.sessions.keys().cloned().collect();
        for name in names.iter().filter(|name| !self.is_waiting(name)) {
            self.roll_back(name).await?;
        }
        self.note(source, self.history.statements.len().saturating_sub(1)).await?;
        for name in &names {
            if let Some(number) = self.settle(name).await? {
                self.note(source, number).await?;
            }
            self.roll_back(name).await?;
        }
        self.look(source, self.history.statements.len().saturating_sub(1)).await?;
        Ok((self.history, self.watcher.stream))
    }

    fn is_waiting(&self, name: &str) -> bool {
        self.sessions.get(name).is_some_and(|session| session.waiting.is_some())
    }

    async fn roll_back(&self, name: &str) -> Result<()> {
        let Some(session) = self.sessions.get(name) else { return Ok(()) };
        let ended = session.client.batch_execute("ROLLBACK").await;
        ended.while_doing("PostgreSQL", format!("end session {name}"))
    }

    async fn run(&mut self, number: usize, statement: &Statement, source: &Source) -> Result<()> {
        self.open(&statement.session).await?;
        if self.is_waiting(&statement.session) {
            let failure = StatementFailure {
                message: format!(
                    "session {} still waits for a lock that a later statement would have to free",
                    statement.session
                ),
                line: statement.line,
                column: None,
            };
            self.push(statement, Some(failure));
            return Ok(());
        }
        self.push(statement, None);
        let Some(session) = self.sessions.get_mut(&statement.session) else {
            return Ok(());
        };
        let (client, sql) = (Arc::clone(&session.client), statement.sql.clone());
        let mut running = tokio::spawn(async move { client.batch_execute(&sql).await });
        let deadline = Instant::now() + STATEMENT_WITHIN;
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut running).await {
                Ok(ended) => {
                    self.note_end(number, ended.while_doing("cdc", "run a statement")?);
                    break;
                }
                Err(_) if is_blocked(source, session.process).await? => {
                    session.waiting = Some((number, running));
                    self.history.statements[number].waited = true;
                    break;
                }
                Err(_) if Instant::now() > deadline => {
                    let doing = format!("run the statement of line {}", statement.line);
                    let cause = format!("it took more than {} s", STATEMENT_WITHIN.as_secs());
                    return Err(Error::new("PostgreSQL", doing, cause));
                }
                Err(_) => {}
            }
        }
        let released = self.settle_released(source).await?;
        self.note(source, released.unwrap_or(number)).await
    }

    fn push(&mut self, statement: &Statement, failure: Option<StatementFailure>) {
        let (statement, shapes) = (statement.clone(), Arc::clone(&self.shapes));
        self.history.statements.push(Ran { statement, failure, waited: false, shapes });
    }

    async fn open(&mut self, name: &str) -> Result<()> {
        if !self.sessions.contains_key(name) {
            let client = postgres::connect(&self.endpoint, &self.database).await?;
            let process = client.query_one("SELECT pg_backend_pid()", &[]).await;
            let process = process.while_doing("PostgreSQL", format!("open session {name}"))?.get(0);
            let session = Session { client: Arc::new(client), process, waiting: None };
            self.sessions.insert(name.to_owned(), session);
        }
        Ok(())
    }

    /// Waits for the statements that no longer wait for a lock. Returns one of them: what the log got meanwhile is its own.
    async fn settle_released(&mut self, source: &Source) -> Result<Option<usize>> {
        let mut released = None;
        let names: Vec<_> = self.sessions.keys().cloned().collect();
        for name in names {
            let Some(session) = self.sessions.get(&name) else { continue };
            if session.waiting.is_none() {
                continue;
            }
            if !is_blocked(source, session.process).await? {
                released = self.settle(&name).await?;
            }
        }
        Ok(released)
    }

    /// Waits for the end of a session's waiting statement, if it has one, and returns which one it was.
    async fn settle(&mut self, name: &str) -> Result<Option<usize>> {
        let waiting = self.sessions.get_mut(name).and_then(|session| session.waiting.take());
        let Some((number, running)) = waiting else { return Ok(None) };
        let Ok(ended) = tokio::time::timeout(STATEMENT_WITHIN, running).await else {
            let line = self.history.statements[number].statement.line;
            let seconds = STATEMENT_WITHIN.as_secs();
            let cause = format!("session {name} still waited for a lock after {seconds} s");
            return Err(Error::new("PostgreSQL", format!("run the statement of line {line}"), cause));
        };
        self.note_end(number, ended.while_doing("cdc", "run a statement")?);
        Ok(Some(number))
    }

    fn note_end(&mut self, number: usize, ended: Result<(), tokio_postgres::Error>) {
        if let (Err(error), Some(ran)) = (ended, self.history.statements.get_mut(number)) {
            ran.failure = Some(failure(&ran.statement, &error));
        }
    }

    /// Notes the log's end as that of a statement, and what changed in the tables' definitions.
    async fn note(&mut self, source: &Source, number: usize) -> Result<()> {
        let end = self.watcher.end_of_history(source).await?;
        let shapes = source.shapes().await?;
        if let Causes::Positions(marks) = &mut self.history.causes {
            marks.push((end, number));
        }
        let (alterations, count) = (&mut self.history.alterations, &mut self.history.alterations_count);
        note_alterations(&self.shapes, &shapes, end, alterations, count);
        if let Some(ran) = self.history.statements.get(number) {
            note_statement(&ran.statement, &shapes, alterations);
        }
        self.shapes = Arc::new(shapes);
        if let Some(ran) = self.history.statements.get_mut(number) {
            ran.shapes = Arc::clone(&self.shapes);
        }
        Ok(())
    }
}

async fn is_blocked(source: &Source, process: i32) -> Result<bool> {
    let blockers = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    let blocked = source.admin().query_one(blockers, &[&process]).await;
    Ok(blocked.while_doing("PostgreSQL", "look for locks")?.get(0))
}

/// What can't be seen in the tables' definitions: rows that went without a trace, and times that don't follow the commits.
fn note_statement(statement: &Statement, shapes: &Shapes, alterations: &mut Alterations) {
    let words = || statement.sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    if words().next().is_some_and(|word| word.eq_ignore_ascii_case("truncate")) {
        let cascades = words().any(|word| word.eq_ignore_ascii_case("cascade"));
        let is_named = |name: &TableName| words().any(|word| word.eq_ignore_ascii_case(&name.name));
        let truncated = shapes.keys().filter(|name| cascades || is_named(name) || statement.sql.contains(&name.name));
        truncated.for_each(|name| alterations.truncate(name));
    }
    let has_time = shapes.values().any(|shape| shape.columns.iter().any(|column| column.name == TIME_COLUMN));
    alterations.is_out_of_time |= has_time || statement.session != FIRST_SESSION;
}

fn note_alterations(before: &Shapes, after: &Shapes, at: Position, alterations: &mut Alterations, count: &mut usize) {
    let same = |old: &TableShape| after.iter().find(|(_, new)| new.oid == old.oid);
    let renamed = before.iter().filter_map(|(old_name, old)| {
        let (name, _) = same(old).filter(|(name, _)| *name != old_name)?;
        Some((old_name.clone(), name.clone()))
    });
    let renamed: Vec<_> = renamed.collect();
    *count += renamed.len();
    alterations.rename(renamed, Moment::Position(at));
    let is_new = |new: &TableShape| before.values().all(|old| old.oid != new.oid);
    after.iter().filter(|(_, new)| is_new(new)).for_each(|(name, _)| alterations.create(name));
    for old in before.values() {
        let Some((name, new)) = same(old) else { continue };
        let mut note = |column: &str| alterations.column(name, column, Some(at));
        for column in &old.columns {
            match new.columns.iter().find(|other| other.number == column.number) {
                None => {
                    note(&column.name);
                    *count += 1;
                }
                Some(other) if other.name != column.name || other.type_name != column.type_name => {
                    note(&column.name);
                    note(&other.name);
                    *count += 1;
                }
                Some(_) => {}
            }
        }
        for column in &new.columns {
            if !old.columns.iter().any(|other| other.number == column.number) {
                note(&column.name);
                *count += 1;
            }
        }
    }
}

fn failure(statement: &Statement, error: &tokio_postgres::Error) -> StatementFailure {
    let Some(said) = error.as_db_error() else {
        return StatementFailure { message: error.to_string(), line: statement.line, column: None };
    };
    let mut message = said.message().to_owned();
    for (label, more) in [("detail", said.detail()), ("hint", said.hint())] {
        if let Some(more) = more {
            message.push_str(&format!("\n       {label}: {more}"));
        }
    }
    let Some(ErrorPosition::Original(position)) = said.position() else {
        return StatementFailure { message, line: statement.line, column: None };
    };
    let before: String = statement.sql.chars().take((*position as usize).saturating_sub(1)).collect();
    let line = statement.line + before.matches('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    StatementFailure { message, line, column: Some(column) }
}
