//! Runs a file's statements one by one on their sessions, and notes where in the source's history each left off.

mod truncated;

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use changeproof::{
    Change,
    capture::{Capture, Subscription, collect_until_fence},
    change::Position,
    error::{Context, Error, Result},
    guarantees::{Granularity, Guarantees, TIME_COLUMN},
    judge::{Alterations, Moment},
    schema::TableName,
    source::Source,
};
use tokio::{task::JoinHandle, time::Instant};

use self::truncated::truncated;
use super::database::{Database, Refusal, Session, Shape, Shapes};
use crate::sql_file::{FIRST_SESSION, Statement};

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
    #[cfg_attr(
        not(any(feature = "iceberg", feature = "delta")),
        expect(dead_code, reason = "databases have positions")
    )]
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

/// What became of a statement, with the session that it ran on.
type Ended = (Box<dyn Session>, Result<(), Refusal>);

/// A session of the file.
enum State {
    Free(Box<dyn Session>),
    /// Its statement of this number waits for a lock of another session; with the server's number for it.
    Waits(usize, u64, JoinHandle<Ended>),
    /// Its statement runs.
    Busy,
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
            Granularity::LatestState(_) | Granularity::Contents => true,
        };
        Self { method, subscription, looks_from_time_to_time, stream: Vec::new() }
    }

    /// Waits until everything committed so far has been delivered.
    pub(super) async fn catch_up(&mut self, source: &mut dyn Source) -> Result<()> {
        let fence = source.write_fence().await?;
        let changes = collect_until_fence(self.subscription.as_mut(), fence).await?;
        self.stream.extend(changes);
        Ok(())
    }

    /// Where the source's history ends now. What a method finds by looking stands at its next look.
    async fn end_of_history(&self, source: &dyn Source) -> Result<Position> {
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
    database: Box<dyn Database>,
    pub(super) watcher: Watcher,
    sessions: BTreeMap<String, State>,
    history: History,
    shapes: Arc<Shapes>,
}

impl Execution {
    pub(super) fn new(database: Box<dyn Database>, watcher: Watcher) -> Self {
        Self { database, watcher, sessions: BTreeMap::new(), history: History::default(), shapes: Arc::default() }
    }

    /// Runs the statements; stops at the first that fails, unless told to keep going.
    pub(super) async fn run_all(
        &mut self,
        statements: &[Statement],
        source: &mut dyn Source,
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
    async fn look(&mut self, source: &mut dyn Source, number: usize) -> Result<()> {
        self.watcher.catch_up(source).await?;
        self.note(source, number).await
    }

    /// Waits for statements that still wait, ends open transactions as a closing connection does, and tells what happened
    /// and what was delivered of it.
    pub(super) async fn finish(mut self, source: &mut dyn Source) -> Result<(History, Vec<Change>)> {
        let names: Vec<_> = self.sessions.keys().cloned().collect();
        for name in &names {
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
        matches!(self.sessions.get(name), Some(State::Waits(..)))
    }

    /// Ends a session's transaction, unless its statement waits.
    async fn roll_back(&mut self, name: &str) -> Result<()> {
        let Some(State::Free(session)) = self.sessions.get_mut(name) else { return Ok(()) };
        let ended = session.run("ROLLBACK").await.map_err(|refusal| refusal.message);
        ended.map_err(|cause| Error::new(self.database.title(), format!("end session {name}"), cause))
    }

    async fn run(&mut self, number: usize, statement: &Statement, source: &dyn Source) -> Result<()> {
        self.open(&statement.session).await?;
        // Somebody else's lock may have gone meanwhile, such as that of a capture's snapshot.
        if self.is_waiting(&statement.session)
            && let Some(released) = self.settle_released().await?
        {
            self.note(source, released).await?;
        }
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
        let Some(State::Free(mut session)) =
            self.sessions.get_mut(&statement.session).map(|state| mem::replace(state, State::Busy))
        else {
            return Ok(());
        };
        let (id, sql) = (session.number(), statement.sql.clone());
        let mut running = tokio::spawn(async move {
            let ended = session.run(&sql).await;
            (session, ended)
        });
        let deadline = Instant::now() + STATEMENT_WITHIN;
        let state = loop {
            match tokio::time::timeout(LOOK_EVERY, &mut running).await {
                Ok(ended) => {
                    let (session, ended) = ended.while_doing("cdc", "run a statement")?;
                    self.note_end(number, ended);
                    break State::Free(session);
                }
                Err(_) if self.database.is_blocked(id).await? => {
                    self.history.statements[number].waited = true;
                    break State::Waits(number, id, running);
                }
                Err(_) if Instant::now() > deadline => {
                    let doing = format!("run the statement of line {}", statement.line);
                    let cause = format!("it took more than {} s", STATEMENT_WITHIN.as_secs());
                    return Err(Error::new(self.database.title(), doing, cause));
                }
                Err(_) => {}
            }
        };
        self.sessions.insert(statement.session.clone(), state);
        let released = self.settle_released().await?;
        self.note(source, released.unwrap_or(number)).await
    }

    fn push(&mut self, statement: &Statement, failure: Option<StatementFailure>) {
        let (statement, shapes) = (statement.clone(), Arc::clone(&self.shapes));
        self.history.statements.push(Ran { statement, failure, waited: false, shapes });
    }

    async fn open(&mut self, name: &str) -> Result<()> {
        if !self.sessions.contains_key(name) {
            self.sessions.insert(name.to_owned(), State::Free(self.database.open().await?));
        }
        Ok(())
    }

    /// Waits for the statements that no longer wait for a lock. Returns one of them: what the log got meanwhile is its own.
    async fn settle_released(&mut self) -> Result<Option<usize>> {
        let mut released = None;
        let waiting = self.sessions.iter().filter_map(|(name, state)| match state {
            State::Waits(_, id, _) => Some((name.clone(), *id)),
            _ => None,
        });
        for (name, id) in waiting.collect::<Vec<_>>() {
            if !self.database.is_blocked(id).await? {
                released = self.settle(&name).await?;
            }
        }
        Ok(released)
    }

    /// Waits for the end of a session's waiting statement, if it has one, and returns which one it was.
    async fn settle(&mut self, name: &str) -> Result<Option<usize>> {
        let (number, running) = match self.sessions.remove(name) {
            Some(State::Waits(number, _, running)) => (number, running),
            state => {
                self.sessions.extend(state.map(|state| (name.to_owned(), state)));
                return Ok(None);
            }
        };
        let Ok(ended) = tokio::time::timeout(STATEMENT_WITHIN, running).await else {
            let line = self.history.statements[number].statement.line;
            let seconds = STATEMENT_WITHIN.as_secs();
            let cause = format!("session {name} still waited for a lock after {seconds} s");
            return Err(Error::new(self.database.title(), format!("run the statement of line {line}"), cause));
        };
        let (session, ended) = ended.while_doing("cdc", "run a statement")?;
        self.sessions.insert(name.to_owned(), State::Free(session));
        self.note_end(number, ended);
        Ok(Some(number))
    }

    fn note_end(&mut self, number: usize, ended: Result<(), Refusal>) {
        if let (Err(refusal), Some(ran)) = (ended, self.history.statements.get_mut(number)) {
            ran.failure = Some(failure(&ran.statement, refusal));
        }
    }

    /// Notes the log's end as that of a statement, and what changed in the tables' definitions.
    async fn note(&mut self, source: &dyn Source, number: usize) -> Result<()> {
        let shapes = self.database.shapes(source).await?;
        let end = self.watcher.end_of_history(source).await?;
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

/// What can't be seen in the tables' definitions: rows that went without a trace, and times that don't follow the commits.
fn note_statement(statement: &Statement, shapes: &Shapes, alterations: &mut Alterations) {
    if let Some(truncated) = truncated(&statement.sql) {
        shapes.keys().filter(|name| truncated.has(name)).for_each(|name| alterations.truncate(name));
    }
    let has_time = shapes.values().any(|shape| shape.columns.values().any(|column| column.name == TIME_COLUMN));
    alterations.is_out_of_time |= has_time || statement.session != FIRST_SESSION;
}

fn note_alterations(before: &Shapes, after: &Shapes, at: Position, alterations: &mut Alterations, count: &mut usize) {
    let pairs: Vec<_> =
        before.iter().filter_map(|(name, old)| Some(((name, old), same_table((name, old), before, after)?))).collect();
    let renamed = pairs.iter().filter(|((old, _), (new, _))| old != new);
    let renamed: Vec<_> = renamed.map(|((old, _), (new, _))| ((*old).clone(), (*new).clone())).collect();
    *count += renamed.len();
    alterations.rename(renamed, Moment::Position(at));
    let is_new = |name: &TableName| !pairs.iter().any(|(_, (new, _))| *new == name);
    after.keys().filter(|name| is_new(name)).for_each(|name| alterations.create(name));
    for ((_, old), (name, new)) in pairs {
        let mut note = |column: &str| alterations.column(name, column, Some(at));
        for (same, column) in &old.columns {
            match new.columns.get(same) {
                Some(other) if other == column => {}
                other => {
                    note(&column.name);
                    other.iter().for_each(|other| note(&other.name));
                    *count += 1;
                }
            }
        }
        for (_, column) in new.columns.iter().filter(|(same, _)| !old.columns.contains_key(*same)) {
            note(&column.name);
            *count += 1;
        }
    }
}

/// The table as it is now: the one of its number, or of its name if that is no other one's number.
fn same_table<'a>(
    (name, old): (&TableName, &Shape),
    before: &Shapes,
    after: &'a Shapes,
) -> Option<(&'a TableName, &'a Shape)> {
    let by_number = || after.iter().find(|(_, new)| old.number.is_some() && new.number == old.number);
    let is_others = |new: &Shape| new.number.is_some() && before.values().any(|other| other.number == new.number);
    by_number().or_else(|| after.get_key_value(name).filter(|(_, new)| !is_others(new)))
}

fn failure(statement: &Statement, refusal: Refusal) -> StatementFailure {
    let Some(at) = refusal.at else {
        return StatementFailure { message: refusal.message, line: statement.line, column: None };
    };
    let before: String = statement.sql.chars().take(at).collect();
    let line = statement.line + before.matches('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    StatementFailure { message: refusal.message, line, column: Some(column) }
}
