//! A slot being read: messages become changes and the ends of their transactions, and a connection that breaks is made again
//! where the reading stood. What has been read is confirmed to the server by whoever reads, once it is safe.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_postgres::{Client, Row};

use super::{
    pgoutput::{self, Message, Relation},
    relations::Known,
    slot::NewSlot,
    wire::{self, Frame, Refusal, Walsender},
};
use crate::{
    change::{Change, Lsn, Op, Position, TxId},
    error::{Context, Error, Result},
    postgres::Address,
};

const SERVICE: &str = "logical replication";

/// How often the server hears what is safe, when there is anything new.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);

/// How long a broken connection is tried to be made again.
const RECONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long a slot may stay in use by a connection that has ended.
const FREE_WITHIN: Duration = Duration::from_secs(30);

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// The publication, which says whose changes are read.
    pub publication: String,
    /// Whether parts of large transactions are sent before their end; they are told at their commit all the same.
    pub streaming: bool,
    /// The memory above which a transaction is large, as PostgreSQL writes sizes; its own default if none.
    pub logical_decoding_work_mem: Option<String>,
    /// Whether a new slot outlives the server on standbys that get its slots (`FAILOVER`, since PostgreSQL 17).
    pub failover: bool,
}

impl FeedSettings {
    /// All that a publication has, with the server's own settings.
    pub fn of(publication: &str) -> Self {
        Self { publication: publication.to_owned(), streaming: true, logical_decoding_work_mem: None, failover: false }
    }

    pub(super) async fn connect(&self, address: &Address) -> Result<Walsender, Refusal> {
        let memory = self.logical_decoding_work_mem.as_ref();
        let settings = memory.map(|memory| format!("-c logical_decoding_work_mem={memory}")).unwrap_or_default();
        Walsender::connect(address, &settings).await
    }

    /// Protocol 2 brings parts of large transactions before their end (manual, 55.5 "Logical Streaming Replication Protocol").
    fn start_command(&self, slot: &str, from: Lsn) -> String {
        let (publication, streaming) = (&self.publication, if self.streaming { "on" } else { "off" });
        format!(
            "START_REPLICATION SLOT {slot} LOGICAL {from} (proto_version '2', publication_names '{publication}', \
             messages 'true', streaming '{streaming}')"
        )
    }
}

/// What a feed tells.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "almost all are changes, and boxing each would cost more than moving it")]
pub enum Event {
    /// A change of a committed transaction, and its table as the log knew it then.
    Change {
        /// The table's object identifier.
        relation: u32,
        /// What the table was like.
        table: Arc<Known>,
        /// The change.
        change: Change,
        /// Where its transaction's commit record begins: see [`Commit::at`].
        commit: Lsn,
    },
    /// All changes of a transaction have been told.
    Committed(Commit),
    /// Everything before this position has been told; no transaction ends there.
    UpTo(Lsn),
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit record begins: a snapshot or a slot that begins at a later position has all of it, and one that begins
    /// here or before has nothing of it.
    pub at: Lsn,
    /// Where its commit record ends: to confirm this is to be done with it.
    pub end: Lsn,
    /// When it was committed, in microseconds since 1970 (UTC).
    pub time_us: i64,
}

/// A transaction whose changes come as they are read, since it has been committed.
#[derive(Debug)]
struct Open {
    tx: TxId,
    commit: Lsn,
    commit_time_us: i64,
    /// How many of its changes have been read, and how many of these were told before the connection broke.
    read: usize,
    told_before: usize,
}

/// A change of a streamed transaction that is still open, with the subtransaction that made it.
type Streamed = (u32, u32, Arc<Known>, Change);

/// A slot being read.
pub struct Feed {
    address: Address,
    slot: String,
    settings: FeedSettings,
    client: Client,
    walsender: Option<Walsender>,
    relations: HashMap<u32, Arc<Known>>,
    /// A table that the log has told of and that is still to be looked up in the catalogue.
    to_look_up: Option<Arc<Relation>>,
    ready: VecDeque<Event>,
    open: Option<Open>,
    /// The transaction amid which the connection broke, by its commit, and how many of its changes had been read.
    broken_off: Option<(Lsn, usize)>,
    streamed: HashMap<u32, Vec<Streamed>>,
    streaming: Option<u32>,
    /// The end of the last transaction that was read whole, what whoever reads is done with, and what the server knows of that.
    read_to: Lsn,
    done: Lsn,
    confirmed: Lsn,
    confirm: Interval,
}

impl Feed {
    /// Reads a slot that was just made, from its beginning. The snapshot that it exported is gone with that.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn start(slot: NewSlot, address: &Address, settings: FeedSettings) -> Result<Self> {
        let NewSlot { name, begin, mut walsender, .. } = slot;
        let started = walsender.start(&settings.start_command(&name, begin)).await;
        wire::refused(started, format!("start replication of the slot {name}"))?;
        let mut feed = Self::at(address, name, settings, address.connect().await?, begin);
        feed.walsender = Some(walsender);
        Ok(feed)
    }

    /// Reads a slot that is there, from what was confirmed last.
    ///
    /// # Errors
    /// There is no such slot, the server has removed log that it needs, or it is in use.
    pub async fn resume(slot: &str, address: &Address, settings: FeedSettings) -> Result<Self> {
        let client = address.connect().await?;
        let state = slot_state(&client, slot).await.while_doing("PostgreSQL", format!("look at the slot {slot}"))?;
        let confirmed = check_slot(state, slot, None)?;
        let mut feed = Self::at(address, slot.to_owned(), settings, client, confirmed);
        feed.reconnect().await?;
        Ok(feed)
    }

    fn at(address: &Address, slot: String, settings: FeedSettings, client: Client, begin: Lsn) -> Self {
        let mut confirm = interval(CONFIRM_EVERY);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            address: address.clone(),
            slot,
            settings,
            client,
            walsender: None,
            relations: HashMap::new(),
            to_look_up: None,
            ready: VecDeque::new(),
            open: None,
            broken_off: None,
            streamed: HashMap::new(),
            streaming: None,
            read_to: begin,
            done: begin,
            confirmed: begin,
            confirm,
        }
    }

    /// A connection for questions to the database.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Connects and goes on where the reading stands. A slot that can't do so is an error, never a silent gap.
    async fn connect_again(&mut self) -> Result<Option<Refusal>> {
        let client = match self.address.connect().await {
            Ok(client) => client,
            Err(error) => return Ok(Some(std::io::Error::other(error.to_string()).into())),
        };
        self.client = client;
        match slot_state(&self.client, &self.slot).await {
            Ok(state) => check_slot(state, &self.slot, Some(self.read_to)).map(drop)?,
            // A server that is just being shut down ends connections that it has accepted.
            Err(error) => return Ok(Some(std::io::Error::other(error.to_string()).into())),
        }
        let walsender = async {
            let mut walsender = self.settings.connect(&self.address).await?;
            walsender.start(&self.settings.start_command(&self.slot, self.read_to)).await?;
            Ok::<_, Refusal>(walsender)
        };
        match walsender.await {
            Ok(walsender) => self.walsender = Some(walsender),
            Err(refusal) if refusal.is_passing() => return Ok(Some(refusal)),
            Err(refusal) => return wire::refused(Err(refusal), format!("go on with the slot {}", self.slot)),
        }
        Ok(None)
    }

    /// Forgets what the broken connection had begun to tell; the server tells it again.
    fn break_off(&mut self) {
        self.walsender = None;
        if let Some(open) = self.open.take() {
            self.broken_off = Some((open.commit, open.read.max(open.told_before)));
        }
        self.streamed.clear();
        self.streaming = None;
        self.to_look_up = None;
    }

    async fn reconnect(&mut self) -> Result<()> {
        let deadline = Instant::now() + RECONNECT_WITHIN;
        let mut pause = Duration::from_millis(20);
        while let Some(refusal) = self.connect_again().await? {
            if Instant::now() > deadline {
                return wire::refused(Err(refusal), format!("connect again to read the slot {}", self.slot));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Looks a table up, on a new connection if the one for questions broke; none if the server is away.
    async fn look_up(&mut self, relation: &Relation) -> Result<Option<Known>> {
        if let Ok(known) = Known::look_up(&self.client, relation).await {
            return Ok(Some(known));
        }
        let Ok(client) = self.address.connect().await else { return Ok(None) };
        self.client = client;
        Known::look_up(&self.client, relation).await.map(Some)
    }

    fn take(&mut self, at: Lsn, data: Bytes) -> Result<()> {
        let (subtransaction, message) = pgoutput::decode(data, self.streaming.is_some())?;
        match message {
            Message::Begin { xid, commit, commit_time_us } => {
                let told_before = self.broken_off.take().filter(|(broken, _)| *broken == commit);
                let told_before = told_before.map_or(0, |(_, read)| read);
                let tx = TxId::new(xid.to_string());
                self.open = Some(Open { tx, commit, commit_time_us, read: 0, told_before });
            }
            Message::Commit { end } => {
                if let Some(Open { commit, commit_time_us, .. }) = self.open.take() {
                    self.ready.push_back(Event::Committed(Commit { at: commit, end, time_us: commit_time_us }));
                }
                self.read_to = end;
            }
            Message::Relation(relation) => self.to_look_up = Some(relation),
            Message::Insert { relation, new } => {
                let known = self.known(relation)?;
                let change = known.insert(new);
                self.row(at, subtransaction, relation, known, change);
            }
            Message::Update { relation, old, new } => {
                let known = self.known(relation)?;
                let change = known.update(old, new);
                self.row(at, subtransaction, relation, known, change);
            }
            Message::Delete { relation, old } => {
                let known = self.known(relation)?;
                let change = known.delete(old);
                self.row(at, subtransaction, relation, known, change);
            }
            Message::Truncate { relations } => {
                for relation in relations {
                    let known = self.known(relation)?;
                    let change = Change::new(Op::Truncate, known.name.clone());
                    self.row(at, subtransaction, relation, known, change);
                }
            }
            Message::StreamStart { xid } => {
                self.streaming = Some(xid);
                self.streamed.entry(xid).or_default();
            }
            Message::StreamStop => self.streaming = None,
            Message::StreamAbort { xid, subtransaction } if xid == subtransaction => {
                self.streamed.remove(&xid);
            }
            Message::StreamAbort { xid, subtransaction } => {
                let changes = self.streamed.entry(xid).or_default();
                changes.retain(|(made_by, ..)| *made_by != subtransaction);
            }
            Message::StreamCommit { xid, commit, end, commit_time_us } => {
                let tx = TxId::new(xid.to_string());
                for (_, relation, table, change) in self.streamed.remove(&xid).unwrap_or_default() {
                    let change = Change { tx: Some(tx.clone()), commit_time_us: Some(commit_time_us), ..change };
                    self.ready.push_back(Event::Change { relation, table, change, commit });
                }
                self.ready.push_back(Event::Committed(Commit { at: commit, end, time_us: commit_time_us }));
                self.read_to = end;
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn known(&self, relation: u32) -> Result<Arc<Known>> {
        self.relations.get(&relation).map(Arc::clone).ok_or_else(|| {
            Error::new(SERVICE, "read a change", format!("the log has not told of its table {relation} before"))
        })
    }

    fn row(&mut self, at: Lsn, subtransaction: Option<u32>, relation: u32, table: Arc<Known>, mut change: Change) {
        change.position = Some(Position::Lsn(at));
        if let (Some(xid), Some(subtransaction)) = (self.streaming, subtransaction) {
            self.streamed.entry(xid).or_default().push((subtransaction, relation, table, change));
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.read += 1;
        if open.read > open.told_before {
            change.tx = Some(open.tx.clone());
            change.commit_time_us = Some(open.commit_time_us);
            self.ready.push_back(Event::Change { relation, table, change, commit: open.commit });
        }
    }

    /// Says that everything before a position is safe with whoever reads: the server is told soon, and needs that part of its log
    /// no more.
    pub fn done(&mut self, position: Lsn) {
        self.done = self.done.max(position);
    }

    /// Tells the server what is safe, now and not only when something is read. A connection that broke is made again by the next
    /// read.
    pub fn confirm(&mut self) {
        if self.tell_done().is_err() {
            self.break_off();
        }
    }

    fn tell_done(&mut self) -> Result<(), Refusal> {
        if let Some(walsender) = &mut self.walsender
            && self.done > self.confirmed
        {
            walsender.confirm(self.done)?;
            self.confirmed = self.done;
        }
        Ok(())
    }

    /// Keeps the server from taking a reader that is busy elsewhere for one that is gone (`wal_sender_timeout`).
    pub fn keep_alive(&mut self) {
        let confirmed = self.confirmed;
        if self.walsender.as_mut().is_some_and(|walsender| walsender.confirm(confirmed).is_err()) {
            self.break_off();
        }
    }

    /// Reads until there is something to tell.
    async fn read(&mut self) -> Result<(), Refusal> {
        while self.ready.is_empty() && self.to_look_up.is_none() {
            let Some(walsender) = &mut self.walsender else { return Ok(()) };
            let frame = tokio::select! {
                frame = walsender.frame() => frame?,
                _ = self.confirm.tick() => {
                    self.tell_done()?;
                    continue;
                }
            };
            match frame {
                Frame::Wal { at, data } => self.take(at, data).map_err(|error| Refusal::fatal(error.to_string()))?,
                Frame::KeepAlive { end, wants_reply } => {
                    // Between transactions everything that the server has sent has been read.
                    if self.open.is_none() && self.streamed.is_empty() && end > self.read_to {
                        self.read_to = end;
                        self.ready.push_back(Event::UpTo(end));
                    }
                    if wants_reply {
                        walsender.confirm(self.confirmed)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next event, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The slot is gone or behind the log that is kept, or the connection stays broken.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if let Some(relation) = self.to_look_up.clone() {
                match self.look_up(&relation).await? {
                    Some(known) => {
                        self.relations.insert(relation.oid, Arc::new(known));
                        self.to_look_up = None;
                    }
                    // It tells the table again when it has come back.
                    None => self.break_off(),
                }
            }
            if self.walsender.is_none() {
                self.reconnect().await?;
            }
            match self.read().await {
                Ok(()) => {}
                Err(refusal) if refusal.is_passing() => self.break_off(),
                Err(refusal) => return wire::refused(Err(refusal), format!("read the slot {}", self.slot)),
            }
        }
    }

    /// What it waits for, in words.
    pub fn waiting_for(&self) -> String {
        let waits = match &self.open {
            Some(open) => format!("the rest of transaction {}", open.tx.as_str()),
            None => "the next transaction".to_owned(),
        };
        format!("it waits for {waits} of the slot {}, having read to {}", self.slot, self.read_to)
    }

    /// Ends the connection and waits until the slot is free. [`Feed::next`] makes it again.
    ///
    /// # Errors
    /// The slot stays in use.
    pub async fn stop(&mut self) -> Result<()> {
        self.break_off();
        let query = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            let slot = self.client.query_opt(query, &[&self.slot]).await;
            let slot = slot.while_doing("PostgreSQL", format!("look at the slot {}", self.slot))?;
            if !slot.is_some_and(|slot| slot.get(0)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let doing = format!("wait until the slot {} is free", self.slot);
                return Err(Error::new(SERVICE, doing, "it stays in use"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Connects again after [`Feed::stop`].
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub async fn go_on(&mut self) -> Result<()> {
        self.reconnect().await
    }
}

/// What the server says of a slot, if there is one of the name.
async fn slot_state(client: &Client, slot: &str) -> Result<Option<Row>, tokio_postgres::Error> {
    let query = "SELECT confirmed_flush_lsn::text, wal_status FROM pg_replication_slots WHERE slot_name = $1";
    client.query_opt(query, &[&slot]).await
}

/// Whether a slot can be read from a position on, or from what was confirmed last; returns the latter.
fn check_slot(found: Option<Row>, slot: &str, read_to: Option<Lsn>) -> Result<Lsn> {
    let doing = || format!("go on with the slot {slot}");
    let delivered = || read_to.map(|lsn| format!("; delivered was everything up to {lsn}")).unwrap_or_default();
    let gap = |cause: &str| {
        Error::new(SERVICE, doing(), format!("{cause}{}", delivered()))
            .help("what was committed since is lost to this capture: start a new one with an initial snapshot")
    };
    let Some(found) = found else { return Err(gap("it is gone")) };
    let (confirmed, status): (Option<String>, Option<String>) = (found.get(0), found.get(1));
    if status.as_deref() == Some("lost") {
        return Err(gap("the server has removed log that it still needs (max_slot_wal_keep_size)"));
    }
    let confirmed = wire::lsn(Some(&confirmed))?;
    match read_to {
        Some(read_to) if confirmed > read_to => Err(gap(&format!("it begins at {confirmed}"))),
        _ => Ok(confirmed),
    }
}
