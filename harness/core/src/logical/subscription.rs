//! A slot being read: messages become changes, transactions are confirmed once they have been delivered, and a connection
//! that breaks is made again where the delivery stood.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;

use super::{
    pgoutput::{self, Message, Relation},
    relations::Known,
    wire::{self, Frame, Refusal, Walsender, Way},
};
use crate::{
    capture::{Options, SnapshotMode, Subject, Subscription},
    change::{Change, Lsn, Op, Position, TxId},
    error::{Context, Error, Result},
    postgres::{self, PUBLICATION},
    stack::{Endpoint, Service},
};

const SERVICE: &str = "logical replication";

/// How often the server hears what has been delivered, when there is anything new.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);

/// How long a broken connection is tried to be made again.
const RECONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long a slot may stay in use by a connection that has ended.
const FREE_WITHIN: Duration = Duration::from_secs(30);

/// A transaction whose changes come as they are read, since it has been committed.
#[derive(Debug)]
struct Open {
    tx: TxId,
    commit: Lsn,
    commit_time_us: i64,
    /// How many of its changes have been read, and how many of these were delivered before the connection broke.
    read: usize,
    delivered_before: usize,
}

/// A change of a streamed transaction that is still open, with the subtransaction that made it.
type Streamed = (u32, Arc<Known>, Change);

pub(super) struct LogicalSubscription {
    endpoint: Endpoint,
    database: String,
    slot: String,
    options: Options,
    client: Client,
    walsender: Option<Walsender>,
    relations: HashMap<u32, Arc<Known>>,
    /// A table that the log has told of and that is still to be looked up in the catalogue.
    to_look_up: Option<Arc<Relation>>,
    /// The shape of each table as it was told last.
    told: HashMap<u32, Arc<Known>>,
    ready: VecDeque<Change>,
    open: Option<Open>,
    /// The transaction amid which the connection broke, by its commit, and how many of its changes had been read.
    broken_off: Option<(Lsn, usize)>,
    streamed: HashMap<u32, Vec<Streamed>>,
    streaming: Option<u32>,
    /// The end of the last transaction that was read whole, and what the server knows of it.
    read_to: Lsn,
    confirmed: Lsn,
    confirm: Interval,
}

impl LogicalSubscription {
    pub(super) async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let endpoint = subject.stack.endpoint(Service::Postgres)?.clone();
        let (database, slot) = (subject.database.to_owned(), subject.name.to_owned());
        let client = postgres::connect_to_capture(&endpoint, &database).await?;
        let doing = || format!("create the slot {slot}");
        let mut walsender = wire::refused(connect(&endpoint, &database, options).await, "connect in replication mode")?;
        let create = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput (SNAPSHOT 'export')");
        let created = wire::refused(walsender.command(&create).await, doing())?;
        let begin = wire::lsn(created.get(1))?;
        let ready = match (options.snapshot, created.get(2)) {
            (SnapshotMode::Initial, Some(Some(exported))) => read_snapshot(&client, exported).await?,
            _ => VecDeque::new(),
        };
        let told = Known::all_published(&client).await?;
        let mut confirm = interval(CONFIRM_EVERY);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut subscription = Self {
            endpoint,
            database,
            slot,
            options: options.clone(),
            client,
            walsender: None,
            relations: HashMap::new(),
            to_look_up: None,
            told,
            ready,
            open: None,
            broken_off: None,
            streamed: HashMap::new(),
            streaming: None,
            read_to: begin,
            confirmed: begin,
            confirm,
        };
        let started = walsender.start(&subscription.start_command()).await;
        wire::refused(started, format!("start replication of the slot {}", subscription.slot))?;
        subscription.walsender = Some(walsender);
        Ok(subscription)
    }

    /// Protocol 2 brings parts of large transactions before their end (manual, 55.5 "Logical Streaming Replication Protocol").
    fn start_command(&self) -> String {
        let streaming = self.options.settings.get("streaming").map_or("on", String::as_str);
        format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '2', publication_names '{PUBLICATION}', \
             messages 'true', streaming '{streaming}')",
            self.slot, self.read_to
        )
    }

    /// Connects and goes on where the delivery stands. A slot that can't do so is an error, never a silent gap.
    async fn connect_again(&mut self) -> Result<Option<Refusal>> {
        let client = match postgres::connect_to_capture(&self.endpoint, &self.database).await {
            Ok(client) => client,
            Err(error) => return Ok(Some(std::io::Error::other(error.to_string()).into())),
        };
        self.client = client;
        self.check_slot().await?;
        let walsender = async {
            let mut walsender = connect(&self.endpoint, &self.database, &self.options).await?;
            walsender.start(&self.start_command()).await?;
            Ok::<_, Refusal>(walsender)
        };
        match walsender.await {
            Ok(walsender) => self.walsender = Some(walsender),
            Err(refusal) if refusal.is_passing() => return Ok(Some(refusal)),
            Err(refusal) => return wire::refused(Err(refusal), format!("go on with the slot {}", self.slot)),
        }
        Ok(None)
    }

    async fn check_slot(&self) -> Result<()> {
        let doing = || format!("go on with the slot {}", self.slot);
        let query = "SELECT confirmed_flush_lsn::text, wal_status FROM pg_replication_slots WHERE slot_name = $1";
        let slot = self.client.query_opt(query, &[&self.slot]).await.while_doing("PostgreSQL", doing())?;
        let help = "what was committed since is lost to this capture: start a new one with an initial snapshot";
        let Some(slot) = slot else {
            let cause = format!("it is gone; delivered was everything up to {}", self.read_to);
            return Err(Error::new(SERVICE, doing(), cause).help(help));
        };
        let (confirmed, status): (Option<String>, Option<String>) = (slot.get(0), slot.get(1));
        if status.as_deref() == Some("lost") {
            let cause = format!(
                "the server has removed log that it still needs (max_slot_wal_keep_size); delivered was everything up to {}",
                self.read_to
            );
            return Err(Error::new(SERVICE, doing(), cause).help(help));
        }
        let confirmed = wire::lsn(Some(&confirmed))?;
        if confirmed > self.read_to {
            let cause = format!("it begins at {confirmed}; delivered was everything up to {}", self.read_to);
            return Err(Error::new(SERVICE, doing(), cause).help(help));
        }
        Ok(())
    }

    /// Forgets what the broken connection had begun to tell; the server tells it again.
    fn break_off(&mut self) {
        self.walsender = None;
        if let Some(open) = self.open.take() {
            self.broken_off = Some((open.commit, open.read.max(open.delivered_before)));
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

    /// Looks a table up, on a new connection if the one for questions broke.
    async fn look_up(&mut self, relation: &Relation) -> Result<Known> {
        if let Ok(known) = Known::look_up(&self.client, relation).await {
            return Ok(known);
        }
        self.client = postgres::connect_to_capture(&self.endpoint, &self.database).await?;
        Known::look_up(&self.client, relation).await
    }

    fn take(&mut self, at: Lsn, data: Bytes) -> Result<()> {
        let (subtransaction, message) = pgoutput::decode(data, self.streaming.is_some())?;
        match message {
            Message::Begin { xid, commit, commit_time_us } => {
                let delivered_before = self.broken_off.take().filter(|(broken, _)| *broken == commit);
                let delivered_before = delivered_before.map_or(0, |(_, read)| read);
                let tx = TxId(xid.to_string());
                self.open = Some(Open { tx, commit, commit_time_us, read: 0, delivered_before });
            }
            Message::Commit { end } => {
                self.open = None;
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
            Message::StreamCommit { xid, end, commit_time_us } => {
                let tx = TxId(xid.to_string());
                for (relation, known, change) in self.streamed.remove(&xid).unwrap_or_default() {
                    self.deliver(
                        relation,
                        known,
                        Change { tx: Some(tx.clone()), commit_time_us: Some(commit_time_us), ..change },
                    );
                }
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

    fn row(&mut self, at: Lsn, subtransaction: Option<u32>, relation: u32, known: Arc<Known>, mut change: Change) {
        change.position = Some(Position::Lsn(at));
        if let (Some(xid), Some(subtransaction)) = (self.streaming, subtransaction) {
            self.streamed.entry(xid).or_default().push((subtransaction, known, change));
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.read += 1;
        if open.read > open.delivered_before {
            change.tx = Some(open.tx.clone());
            change.commit_time_us = Some(open.commit_time_us);
            self.deliver(relation, known, change);
        }
    }

    /// Delivers a change, and before it what has changed in its table's definition.
    fn deliver(&mut self, relation: u32, known: Arc<Known>, change: Change) {
        let told = self.told.get(&relation);
        if !told.is_some_and(|told| Arc::ptr_eq(told, &known)) {
            if let Some(schema) = told.and_then(|told| known.change_since(told)) {
                let Change { position, tx, commit_time_us, .. } = &change;
                let (position, tx, commit_time_us) = (*position, tx.clone(), *commit_time_us);
                self.ready.push_back(Change { position, tx, commit_time_us, ..schema });
            }
            self.told.insert(relation, known);
        }
        self.ready.push_back(change);
    }

    /// Tells the server what has been delivered: all that was read, once nothing of it waits to be taken.
    fn confirm(&mut self) -> Result<(), Refusal> {
        if let Some(walsender) = &mut self.walsender
            && self.ready.is_empty()
            && self.read_to > self.confirmed
        {
            walsender.confirm(self.read_to)?;
            self.confirmed = self.read_to;
        }
        Ok(())
    }

    /// Reads until there is a change to deliver.
    async fn read(&mut self) -> Result<(), Refusal> {
        while self.ready.is_empty() && self.to_look_up.is_none() {
            let Some(walsender) = &mut self.walsender else { return Ok(()) };
            let frame = tokio::select! {
                frame = walsender.frame() => frame?,
                _ = self.confirm.tick() => {
                    self.confirm()?;
                    continue;
                }
            };
            match frame {
                Frame::Wal { at, data } => self.take(at, data).map_err(|error| Refusal::fatal(error.to_string()))?,
                Frame::KeepAlive { end, wants_reply } => {
                    // Between transactions everything that the server has sent has been delivered.
                    if self.open.is_none() && self.streamed.is_empty() {
                        self.read_to = self.read_to.max(end);
                    }
                    if wants_reply {
                        walsender.confirm(self.confirmed)?;
                    }
                }
            }
        }
        Ok(())
    }
}

async fn connect(endpoint: &Endpoint, database: &str, options: &Options) -> Result<Walsender, Refusal> {
    let memory = options.settings.get("logical_decoding_work_mem");
    let settings = memory.map(|memory| format!("-c logical_decoding_work_mem={memory}")).unwrap_or_default();
    let way = match options.settings.get("way").map(String::as_str) {
        Some("tcp") => Way::Tcp,
        _ => Way::Shortest,
    };
    Walsender::connect(endpoint, way, database, &settings).await
}

/// Reads all tables as they are in an exported snapshot: the slot's stream begins right after it.
async fn read_snapshot(client: &Client, exported: &str) -> Result<VecDeque<Change>> {
    let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{exported}'");
    client.batch_execute(&begin).await.while_doing("PostgreSQL", "enter the slot's snapshot")?;
    let reads = postgres::read_all(client).await?;
    client.batch_execute("COMMIT").await.while_doing("PostgreSQL", "leave the slot's snapshot")?;
    Ok(reads)
}

#[async_trait]
impl Subscription for LogicalSubscription {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if let Some(relation) = self.to_look_up.clone() {
                let known = self.look_up(&relation).await?;
                self.relations.insert(relation.oid, Arc::new(known));
                self.to_look_up = None;
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

    fn waiting_for(&self) -> String {
        let waits = match &self.open {
            Some(open) => format!("the rest of transaction {}", open.tx.0),
            None => "the next transaction".to_owned(),
        };
        format!("it waits for {waits} of the slot {}, having read to {}", self.slot, self.read_to)
    }

    async fn stop(&mut self) -> Result<()> {
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

    async fn resume(&mut self) -> Result<()> {
        self.reconnect().await
    }
}
