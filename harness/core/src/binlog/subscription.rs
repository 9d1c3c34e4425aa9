//! The capture by the log: from an initial snapshot, or from now on, and again after a broken connection.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::Duration,
    vec,
};

use async_trait::async_trait;
use mysql_async::{Conn, Error as DriverError, prelude::Queryable};
use mysql_common::binlog::events::Event;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    SERVICE,
    charset::Collations,
    decode::{Decoder, Transaction},
    earlier,
    reading::{Log, Reading},
    seen::{Id, Seen},
    table,
};
use crate::{
    capture::{SnapshotMode, Subscription},
    change::{Change, Op},
    error::{Context, Error, Result},
    looking::{COMES_BACK_WITHIN, KNOCKS_EVERY},
    mysql::{self, Flavour, TableShape},
    schema::{TableName, Type},
    value::{Row, Value},
};

/// The server's error for a log that it can't give (`ER_SOURCE_FATAL_ERROR_READING_BINLOG`).
const CANT_GIVE: u16 = 1236;

/// What MariaDB says of a transaction that isn't in its history.
const NOT_THERE: [&str; 2] = ["not in the master's binlog", "is missing the GTID"];

/// The error of a server that is about to end (`ER_SERVER_SHUTDOWN`).
const SHUTS_DOWN: u16 = 1053;

/// A connection that breaks so often, each time so soon after it was made, breaks at what it is sent.
const BREAKS: u32 = 20;
const BREAKS_SOON: Duration = Duration::from_secs(2);

/// What keeps the transaction that was decoded last from being taken at once.
enum Obstacle {
    /// It was prepared in log from before the capture: its changes are looked for there.
    PreparedBefore(Id, JoinSet<Result<Vec<Change>>>),
    /// The log can't be made sense of.
    Unreadable(Error),
}

/// A capture by the binary log.
pub(super) struct Binlog {
    log: Log,
    /// By which the server knows a replica from others; each capture has one of its own.
    server_id: u32,
    reading: Option<Reading>,
    is_stopped: bool,
    decoder: Decoder,
    /// What has been read and not decoded yet.
    read: VecDeque<Event>,
    obstacle: Option<Obstacle>,
    /// What has been taken from the log, or was there before the capture began.
    seen: Seen,
    /// What is to be delivered next, as it was read.
    ready: VecDeque<vec::IntoIter<Change>>,
    /// When it has connected again last, and how often that was soon after the time before.
    reconnected: Option<Instant>,
    breaks: u32,
}

impl Binlog {
    /// Begins to capture: with an initial snapshot after what that has read, else after what there is now.
    pub(super) async fn start(log: Log, snapshot: SnapshotMode) -> Result<Self> {
        let lease = log.lease.as_str();
        let mut conn = mysql::connect_to_capture(&log.endpoint, lease).await?;
        let collations = Collations::of(log.flavour, &mut conn).await?;
        let is_initial = snapshot == SnapshotMode::Initial;
        if is_initial {
            begin_snapshot(&mut conn).await?;
        }
        let seen = Seen::executed(log.flavour, &mut conn).await?;
        let shapes = mysql::shapes(&mut conn, lease).await?;
        let mut ready = VecDeque::new();
        if is_initial {
            run(&mut conn, "UNLOCK TABLES").await?;
            ready.push_back(reads(&mut conn, lease, &shapes).await?.into_iter());
            run(&mut conn, "COMMIT").await?;
        }
        let shapes = shapes.into_iter().map(|(name, shape)| (name, told_shape(&shape)));
        let decoder = Decoder::new(lease, log.flavour, collations, shapes);
        let (server_id, reading, is_stopped) = (server_id(), None, false);
        let (read, obstacle, reconnected, breaks) = (VecDeque::new(), None, None, 0);
        let mut binlog =
            Self { log, server_id, reading, is_stopped, decoder, read, obstacle, seen, ready, reconnected, breaks };
        binlog.connect().await?;
        Ok(binlog)
    }

    async fn connect(&mut self) -> Result<()> {
        let conn = connect_as_replica(&self.log).await?;
        match self.follow(conn).await? {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Connects again after the connection broke. A server that was started again takes a while.
    ///
    /// # Errors
    /// It doesn't come back in time, or refuses to send its log.
    async fn reconnect(&mut self) -> Result<()> {
        let is_soon = self.reconnected.is_some_and(|last| last.elapsed() < BREAKS_SOON);
        self.breaks = if is_soon { self.breaks + 1 } else { 0 };
        if self.breaks > BREAKS {
            let cause = format!("the connection has broken {BREAKS} times, each time at once, after {}", self.seen);
            return Err(Error::new(SERVICE, "go on", cause).help("what comes next in the log may be damaged"));
        }
        self.reconnected = Some(Instant::now());
        let until = Instant::now() + COMES_BACK_WITHIN;
        loop {
            let failure = match connect_as_replica(&self.log).await {
                Ok(conn) => match self.follow(conn).await? {
                    None => return Ok(()),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(failure);
            }
            sleep(KNOCKS_EVERY).await;
        }
    }

    /// Asks for all that hasn't been seen. Returns what has gone wrong if the connection broke at that: a server that is being shut down ends
    /// those that it has accepted.
    ///
    /// # Errors
    /// The server refuses, or lacks what has been delivered.
    async fn follow(&mut self, mut conn: Conn) -> Result<Option<Error>> {
        let asked = async {
            let missing = self.seen.missing(&mut conn).await?;
            Ok::<_, Error>((missing, self.seen.request_others(&mut conn, self.server_id).await?))
        };
        let (missing, request) = match asked.await {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(error)),
        };
        if let Some(missing) = missing {
            return Err(self.lacks(&format!("the server has never committed {missing}, which has been delivered")));
        }
        match conn.get_binlog_stream(request).await {
            Ok(stream) => {
                self.forget_connection();
                self.reading = Some(Reading::begin(stream));
                Ok(None)
            }
            Err(DriverError::Server(refusal)) if refusal.code != SHUTS_DOWN => {
                Err(self.told(DriverError::Server(refusal)))
            }
            Err(error) => Ok(Some(self.told(error))),
        }
    }

    /// The server isn't the one whose log was read.
    fn lacks(&self, cause: &str) -> Error {
        Error::new(SERVICE, format!("go on after {}", self.seen), cause).help(
            "its log was reset, it was restored from a backup, or it is a replica that had not received all: begin anew with an initial snapshot",
        )
    }

    /// An error of the server's, in words that say what it means for the capture.
    fn told(&self, error: DriverError) -> Error {
        match &error {
            DriverError::Server(refusal) if refusal.code == CANT_GIVE && refusal.message.contains("purged") => {
                let cause = format!("the server has purged log that it still needs: {}", refusal.message);
                Error::new(SERVICE, format!("go on after {}", self.seen), cause)
                    .help("what was committed since is lost to this capture: begin anew with an initial snapshot")
            }
            DriverError::Server(refusal)
                if refusal.code == CANT_GIVE && NOT_THERE.iter().any(|told| refusal.message.contains(told)) =>
            {
                self.lacks(&format!("the server has never committed what has been delivered: {}", refusal.message))
            }
            _ => match Err::<(), _>(error).while_doing(SERVICE, "read the log") {
                Err(error) => error,
                Ok(()) => Error::new(SERVICE, "read the log", "unknown"),
            },
        }
    }

    /// Forgets what was read and not taken: it is read again.
    fn forget_connection(&mut self) {
        self.reading = None;
        self.read.clear();
        self.obstacle = None;
        self.decoder.begins_anew();
    }

    fn take(&mut self, id: Id, changes: Vec<Change>) {
        self.seen.insert(id);
        self.ready.push_back(changes.into_iter());
    }

    /// Decodes and takes the next transaction of what has been read. Returns whether there was one, and no obstacle.
    fn decode(&mut self) -> bool {
        while self.obstacle.is_none() {
            let Some(event) = self.read.pop_front() else { return false };
            match self.decoder.event(&event) {
                Ok(None) => {}
                Ok(Some(Transaction { id, prepared_before: Some(name), .. })) => {
                    let (log, mut search) = (self.log.clone(), JoinSet::new());
                    search.spawn(async move { earlier::prepared(&log, &name, id).await });
                    self.obstacle = Some(Obstacle::PreparedBefore(id, search));
                }
                Ok(Some(Transaction { id, changes, .. })) => {
                    self.take(id, changes);
                    return true;
                }
                Err(error) => self.obstacle = Some(Obstacle::Unreadable(error)),
            }
        }
        false
    }

    /// Takes the transaction that an obstacle kept from being taken. Returns whether there was one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The log can't be made sense of; it is read again after what has been taken of it.
    async fn overcome(&mut self) -> Result<bool> {
        let found = match &mut self.obstacle {
            Some(Obstacle::PreparedBefore(_, search)) => search.join_next().await,
            _ => None,
        };
        let failure = match (self.obstacle.take(), found) {
            (None, _) => return Ok(false),
            (Some(Obstacle::PreparedBefore(id, _)), Some(Ok(Ok(changes)))) => {
                self.take(id, changes);
                return Ok(true);
            }
            (Some(Obstacle::PreparedBefore(..)), Some(Ok(Err(error)))) | (Some(Obstacle::Unreadable(error)), _) => {
                error
            }
            (Some(Obstacle::PreparedBefore(id, _)), _) => {
                Error::new(SERVICE, format!("look for {id}"), "it was given up")
            }
        };
        self.forget_connection();
        Err(failure)
    }

    /// Takes all that has been read, and learns why there is no more.
    async fn finish(&mut self) -> Result<()> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        while let Some(events) = reading.next().await {
            self.read.extend(events);
        }
        let refused = reading.ended().await;
        self.reading = None;
        while self.decode() || self.overcome().await? {}
        match refused? {
            Some(error) => Err(self.told(error)),
            None => Ok(()),
        }
    }
}

/// Opens a connection that may become a stream of the log, with all that is in it: a replica that doesn't say so is sent MariaDB's
/// transactions without their identifiers.
pub(super) async fn connect_as_replica(log: &Log) -> Result<Conn> {
    let mut conn = mysql::connect_to_capture(&log.endpoint, &log.lease).await?;
    if log.flavour == Flavour::MariaDb {
        run(&mut conn, "SET @mariadb_slave_capability = 4").await?;
    }
    Ok(conn)
}

/// Any number but those that servers usually have.
pub(super) fn server_id() -> u32 {
    let (id, ..) = uuid::Uuid::new_v4().as_fields();
    id | 0x8000_0000
}

async fn run(conn: &mut Conn, statement: &str) -> Result<()> {
    conn.query_drop(statement).await.while_doing(SERVICE, format!("run `{statement}`"))
}

/// Nothing is committed between the snapshot and the question what has been (MySQL manual, 19.1.2.5; as `mysqldump
/// --single-transaction --source-data` does it).
async fn begin_snapshot(conn: &mut Conn) -> Result<()> {
    run(conn, "FLUSH TABLES WITH READ LOCK").await?;
    run(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    run(conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await
}

/// All rows of the snapshot, with values as the log will tell them.
async fn reads(conn: &mut Conn, lease: &str, shapes: &BTreeMap<TableName, TableShape>) -> Result<Vec<Change>> {
    let mut reads = Vec::new();
    for (name, shape) in shapes {
        let mut shape = shape.clone();
        for column in shape.columns.iter_mut().filter(|column| column.ty == Type::Bool) {
            column.ty = Type::Other("tinyint(1)".to_owned());
        }
        for row in mysql::rows(conn, lease, name, &shape).await? {
            let key = row.project(shape.key.iter().map(String::as_str));
            reads.push(Change { key, after: Some(row), ..Change::new(Op::Read, name.clone()) });
        }
    }
    Ok(reads)
}

fn told_shape(shape: &TableShape) -> Row {
    let told = |column: &mysql::ColumnShape| (column.name.clone(), Value::Text(table::told_type(&column.ty)));
    shape.columns.iter().map(told).collect()
}

#[async_trait]
impl Subscription for Binlog {
    fn next_ready(&mut self) -> Option<Change> {
        let mut may_take = true;
        loop {
            while let Some(first) = self.ready.front_mut() {
                if let Some(change) = first.next() {
                    return Some(change);
                }
                self.ready.pop_front();
            }
            if self.decode() {
                continue;
            }
            // Transactions of others may go on without end.
            if self.obstacle.is_some() || !mem::take(&mut may_take) {
                return None;
            }
            self.read.extend(self.reading.as_mut()?.next_ready()?);
        }
    }

    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.next_ready() {
                return Ok(change);
            }
            if self.overcome().await? {
                continue;
            }
            match &mut self.reading {
                // A connection that broke is made again, and the log goes on after what has been taken of it.
                Some(reading) => match reading.next().await {
                    Some(events) => self.read.extend(events),
                    None => self.finish().await?,
                },
                None if self.is_stopped => {
                    return Err(Error::new(SERVICE, "deliver the next change", "the capture is stopped"));
                }
                None => self.reconnect().await?,
            }
        }
    }

    fn waiting_for(&self) -> String {
        format!("it waits for transactions other than {}", self.seen)
    }

    async fn stop(&mut self) -> Result<()> {
        self.is_stopped = true;
        if let Some(reading) = &mut self.reading {
            reading.stop();
        }
        let finished = self.finish().await;
        mysql::hang_up(&self.log.endpoint, &self.log.lease).await?;
        finished
    }

    async fn resume(&mut self) -> Result<()> {
        self.is_stopped = false;
        self.connect().await
    }
}
