//! The pipeline: the log of PostgreSQL followed into tables of Iceberg.
//!
//! Each table is copied in the snapshot of a slot that is made for it and is gone afterwards, and follows the log from that slot's
//! beginning on. So a first copy, one that was killed, a table that came later, and one whose rows the log doesn't tell of are the
//! same. What the sink has is confirmed to the server only after it was committed there; and what comes again after a crash is known
//! by its position, and left out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use changeproof::{
    Change,
    change::Lsn,
    error::{Context, Error, Result},
    logical::{Commit, Event, Feed, FeedSettings, Known, NewSlot},
    postgres::{Address, end_of_log},
    schema::TableName,
};
use changeproof_iceberg::{Removed, Rewritten, Warehouse, ident, name_of};
use iceberg::table::Table;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_postgres::Client;

use crate::{
    SERVICE,
    batch::Batch,
    catalogue::{file_seen, has_slot, identity_of, is_of_all_tables, present_name},
    compacting::Compacting,
    copy::{Rows, SETTINGS},
    expiring::Expiring,
    settings::{Progress, Settings},
    shape::{Evolution, Shape},
    sink::{Replacement, Sink, Target},
};

/// A replication that has copied what was there, and is ready to follow.
pub struct Replication {
    address: Address,
    settings: Settings,
    feed: Feed,
    sink: Sink,
    targets: BTreeMap<u32, Target>,
    waiting: HashMap<u32, Waiting>,
    compacting: Compacting,
    expiring: Expiring,
    /// Whether the publication is of all tables: one that comes later then has no row that the log doesn't tell of.
    is_of_all: bool,
    /// How many changes have been taken since the last commit, and when the first of them was.
    taken: usize,
    since: Option<Instant>,
    /// How many transactions they are.
    ended: u64,
    /// The last transaction that has been read whole.
    last: Option<Commit>,
    is_amid: bool,
    /// Where the log ended when it was started.
    began: Lsn,
    progress: Progress,
}

/// What waits to be written to a table.
struct Waiting {
    known: Arc<Known>,
    batch: Batch,
    /// Whether the table has to be copied instead.
    is_to_be_copied: bool,
    /// When it was changed last, among all changes that wait.
    order: usize,
}

impl Replication {
    /// Makes the slot if there is none, and copies the tables that the sink lacks.
    ///
    /// # Errors
    /// The server or the catalog refuses; the sink has tables of this source, and the slot that they followed is gone.
    pub async fn start(
        address: &Address,
        warehouse: Warehouse,
        settings: Settings,
        mut progress: impl FnMut(&Progress) + Send,
    ) -> Result<Self> {
        let feed_settings = FeedSettings { failover: settings.failover, ..FeedSettings::of(&settings.publication) };
        let client = address.connect().await?;
        let sink = Sink::new(warehouse, identity_of(&client, address).await?, settings.misfit);
        let targets = sink.targets().await?;
        let is_there = has_slot(&client, &settings.slot).await?;
        let followed = targets.values().find(|target| target.position.is_some());
        if let Some(followed) = followed.filter(|_| !is_there) {
            let cause = format!("{} has followed the slot {}, which is gone", name_of(&followed.ident), settings.slot);
            return Err(Error::new(SERVICE, "go on", cause).help(
                "what was committed since is lost to the sink: remove its tables, so that they are copied anew",
            ));
        }
        if !is_there {
            // It is only made here: what is read from it begins anyway where the tables' copies do.
            drop(NewSlot::create(&settings.slot, address, &feed_settings).await?);
        }
        let feed = Feed::resume(&settings.slot, address, feed_settings).await?;
        let mut replication = Self {
            address: address.clone(),
            is_of_all: is_of_all_tables(&client, &settings.publication).await?,
            compacting: Compacting::new(settings.compact_above),
            expiring: Expiring::new(settings.keep_snapshots),
            settings,
            feed,
            sink,
            targets,
            waiting: HashMap::new(),
            taken: 0,
            since: None,
            ended: 0,
            last: None,
            is_amid: false,
            began: end_of_log(&client).await?,
            progress: Progress::default(),
        };
        let published = Known::all_published(&client, &replication.settings.publication).await?;
        let is_lacking = |(relation, _): &(u32, Arc<Known>)| {
            replication.targets.get(relation).is_none_or(|target| target.position.is_none())
        };
        let lacking: Vec<_> = published.into_iter().filter(is_lacking).collect();
        replication.copy(lacking, &mut progress).await?;
        Ok(replication)
    }

    /// What it has done.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Follows the log until `stop` is ready; what has been read by then is committed first.
    ///
    /// # Errors
    /// The slot or the catalog fails, or a change can't be written.
    pub async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        mut progress: impl FnMut(&Progress) + Send,
    ) -> Result<()> {
        tokio::pin!(stop);
        let mut told = self.progress;
        loop {
            if self.progress != told {
                told = self.progress;
                progress(&told);
            }
            let due = self.since.filter(|_| !self.is_amid).map(|since| since + self.settings.cadence.every);
            tokio::select! {
                biased;
                () = &mut stop => {
                    while self.is_amid {
                        let event = self.feed.next().await?;
                        self.take(event)?;
                    }
                    self.flush().await?;
                    self.feed.confirm();
                    progress(&self.progress);
                    // The tables are whole without.
                    let _ = timeout(TIDIES_WITHIN, self.end_tidying()).await;
                    progress(&self.progress);
                    return self.feed.stop().await;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.flush().await?,
                rewritten = self.compacting.rewritten() => self.replace_files(rewritten?).await?,
                removed = self.expiring.removed() => self.count(removed),
                event = self.feed.next() => {
                    self.take(event?)?;
                    if !self.is_amid && self.taken >= self.settings.cadence.changes {
                        self.flush().await?;
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Change { relation, table, change, commit } => {
                self.is_amid = true;
                let target = self.targets.get(&relation).and_then(|target| target.position);
                if target.is_some_and(|position| commit < position) {
                    return Ok(());
                }
                self.taken += 1;
                self.since.get_or_insert_with(Instant::now);
                self.change(relation, table, change)
            }
            Event::Committed(commit) => {
                self.is_amid = false;
                self.last = Some(commit);
                match self.since {
                    None => self.is_done(commit.end),
                    Some(_) => self.ended += 1,
                }
                Ok(())
            }
            Event::UpTo(position) => {
                if self.since.is_none() {
                    self.is_done(position);
                }
                Ok(())
            }
        }
    }

    fn is_done(&mut self, position: Lsn) {
        self.feed.done(position);
        self.progress.position = position;
        self.progress.is_caught_up |= position >= self.began;
    }

    fn change(&mut self, relation: u32, table: Arc<Known>, change: Change) -> Result<()> {
        let target = self.targets.get(&relation);
        let is_new = target.is_none() && self.is_of_all;
        let waiting = self.waiting.entry(relation).or_insert_with(|| Waiting {
            known: Arc::clone(&table),
            batch: Batch::default(),
            is_to_be_copied: target.is_none_or(|target| target.position.is_none()) && !is_new,
            order: 0,
        });
        waiting.order = self.taken;
        let is_first = waiting.batch.is_empty();
        if is_first || !Arc::ptr_eq(&waiting.known, &table) {
            let before = if is_first && !is_new {
                target.and_then(|target| target.shape.clone())
            } else {
                Shape::of(&waiting.known)
            };
            match (before, Shape::of(&table)) {
                (Some(before), Some(now)) => match before.evolution(&now, &table) {
                    Evolution::None => {}
                    // Rows without a key are known by all that they hold.
                    Evolution::Columns { .. } if table.row_key().is_empty() => waiting.is_to_be_copied = true,
                    Evolution::Columns { renamed, dropped } => waiting.batch.reshape(&renamed, &dropped),
                    Evolution::Copy => waiting.is_to_be_copied = true,
                },
                _ => waiting.is_to_be_copied = true,
            }
            waiting.known = table;
        }
        if waiting.is_to_be_copied {
            return Ok(());
        }
        waiting.batch.take(&waiting.known, change)
    }

    /// Commits what waits to the sink, the table that was changed last at last: whoever sees a change there sees all that were
    /// committed before it.
    async fn flush(&mut self) -> Result<()> {
        let Some(last) = self.last.filter(|_| self.since.is_some()) else { return Ok(()) };
        let mut waiting: Vec<(u32, Waiting)> = std::mem::take(&mut self.waiting).into_iter().collect();
        waiting.sort_by_key(|(_, waiting)| waiting.order);
        for (relation, Waiting { known, batch, is_to_be_copied, .. }) in waiting {
            self.rename(relation, &known).await?;
            if is_to_be_copied {
                self.copy(vec![(relation, known)], &mut |_| {}).await?;
                continue;
            }
            if batch.is_empty() {
                continue;
            }
            if !self.targets.contains_key(&relation) {
                self.targets.insert(relation, self.sink.create_empty(relation, &known).await?);
            }
            let Some(target) = self.targets.get_mut(&relation) else { continue };
            self.progress.changes += u64::try_from(batch.changes).unwrap_or(u64::MAX);
            let written = Box::pin(self.sink.write(relation, &known, target, batch, last.end));
            let table = with_feed_alive(&mut self.feed, written).await?;
            self.progress.commits += 1;
            self.compacting.look_at(relation, &table);
            self.expire(relation, &table).await;
        }
        self.progress.transactions += std::mem::take(&mut self.ended);
        (self.taken, self.since) = (0, None);
        self.progress.commit_time_us = Some(last.time_us);
        self.is_done(last.end);
        Ok(())
    }

    async fn replace_files(&mut self, (relation, rewritten): (u32, Rewritten)) -> Result<()> {
        let Some(target) = self.targets.get(&relation) else { return Ok(()) };
        let replaced = Box::pin(self.sink.replace_files(target, &rewritten));
        with_feed_alive(&mut self.feed, replaced).await
    }

    /// Lets old snapshots of a table expire, if they are many; but none while files are read that they may have.
    async fn expire(&mut self, relation: u32, table: &Table) {
        if self.compacting.is_running() {
            return;
        }
        let (retention, target) = (self.expiring.is_due(relation, table), self.targets.get(&relation));
        let Some((retention, target)) = retention.zip(target) else { return };
        let expired = with_feed_alive(&mut self.feed, Box::pin(self.sink.expire(target, retention))).await;
        if let Ok(expired) = expired {
            self.progress.expired += u64::try_from(expired.count()).unwrap_or(u64::MAX);
            self.expiring.remove_files(relation, expired);
        } else {
            // The tables are whole without; and a catalog that doesn't answer is told of by the next commit.
            self.progress.failed_expiries += 1;
            self.expiring.has_failed(relation, table);
        }
    }

    fn count(&mut self, Removed { removed, left }: Removed) {
        self.progress.removed_files += removed;
        self.progress.left_files += left;
    }

    /// Waits for the compaction and the removal of files that are under way.
    async fn end_tidying(&mut self) -> Result<()> {
        if self.compacting.is_running() {
            let rewritten = self.compacting.rewritten().await?;
            self.replace_files(rewritten).await?;
        }
        if self.expiring.is_running() {
            let removed = self.expiring.removed().await;
            self.count(removed);
        }
        Ok(())
    }

    /// Copies tables in the snapshot of a slot; a table that was rewritten or removed meanwhile is looked at again.
    async fn copy(
        &mut self,
        mut tables: Vec<(u32, Arc<Known>)>,
        progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<()> {
        for _ in 0..COPIES {
            if tables.is_empty() {
                return Ok(());
            }
            tables = self.copy_once(tables, progress).await?;
        }
        let names: Vec<String> = tables.iter().map(|(_, known)| known.name.to_string()).collect();
        let cause = format!("they were rewritten while they were read, {COPIES} times");
        Err(Error::new(SERVICE, format!("copy {}", names.join(", ")), cause)
            .help("try again when nobody changes their definition"))
    }

    /// Copies tables, and returns those that have to be copied again.
    async fn copy_once(
        &mut self,
        tables: Vec<(u32, Arc<Known>)>,
        progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<Vec<(u32, Arc<Known>)>> {
        let (client, admin) = (self.address.connect().await?, self.address.connect().await?);
        client.batch_execute(SETTINGS).await.while_doing("PostgreSQL", "set up the connection")?;
        let name = format!("{}_copy", self.settings.slot);
        let publication = self.settings.publication.clone();
        let slot = NewSlot::temporary(&name, &self.address, &FeedSettings::of(&publication)).await?;
        slot.enter_snapshot(&client).await?;
        let now = Known::all_published(&client, &publication).await?;
        let mut again = Vec::new();
        let mut tables = tables.into_iter();
        for (relation, known) in tables.by_ref() {
            let known = now.get(&relation).cloned().unwrap_or(known);
            let Some(seen) = file_seen(&client, relation).await? else { continue };
            let origin = Origin { client: &client, admin: &admin, publication: &publication, relation, seen };
            let copied = Box::pin(origin.copy(&known, &self.sink, self.targets.get(&relation), slot.begin));
            let Some((target, rows)) = with_feed_alive(&mut self.feed, copied).await? else {
                again.push((relation, known));
                break;
            };
            self.targets.insert(relation, target);
            self.progress.copied += rows;
            self.progress.commits += 1;
            progress(&self.progress);
        }
        // An error may have ended the snapshot.
        again.extend(tables);
        Ok(again)
    }

    /// Gives the sink's table the name that the source's has by now, and moves another that bears it out of the way.
    async fn rename(&mut self, relation: u32, known: &Known) -> Result<()> {
        let in_the_way =
            self.targets.iter().find(|(other, target)| **other != relation && target.ident == ident(&known.name));
        if let Some(other) = in_the_way.map(|(other, _)| *other) {
            // Its own next change may be far away.
            let now = present_name(self.feed.client(), other).await?;
            let aside = TableName::new(known.name.schema(), format!("{}__{other}", known.name.name()));
            let free = now.filter(|now| !self.targets.values().any(|target| target.ident == ident(now)));
            if let Some(target) = self.targets.get_mut(&other) {
                self.sink.rename(target, &free.unwrap_or(aside)).await?;
            }
        }
        match self.targets.get_mut(&relation) {
            Some(target) => self.sink.rename(target, &known.name).await,
            None => Ok(()),
        }
    }
}

/// A table of the source, to be copied in a snapshot.
struct Origin<'a> {
    client: &'a Client,
    /// Another connection, which sees the present.
    admin: &'a Client,
    publication: &'a str,
    relation: u32,
    /// The file that its rows were in by the snapshot.
    seen: u32,
}

impl Origin<'_> {
    /// Copies the table, unless it was rewritten since the snapshot: to that it looks empty then (manual, 13.6 "Caveats").
    async fn copy(
        &self,
        known: &Known,
        sink: &Sink,
        target: Option<&Target>,
        position: Lsn,
    ) -> Result<Option<(Target, u64)>> {
        let mut replacement = sink.begin(self.relation, known, target).await?;
        let copied = self.read(known, &mut replacement).await;
        if file_seen(self.admin, self.relation).await? != Some(self.seen) {
            return Ok(None);
        }
        let rows = copied?;
        Ok(Some((sink.end(replacement, position).await?, rows)))
    }

    async fn read(&self, known: &Known, replacement: &mut Replacement<'_>) -> Result<u64> {
        let mut rows = Rows::of(self.client, self.publication, known).await?;
        let mut count = 0;
        while let Some(row) = rows.next().await? {
            replacement.write(&row).await?;
            count += 1;
        }
        Ok(count)
    }
}

/// How long a stop waits for a compaction and a removal of files that are under way.
const TIDIES_WITHIN: Duration = Duration::from_secs(30);

/// How often a table is copied that is rewritten while it is read.
const COPIES: u32 = 5;

/// The server hears at least so often that its reader is alive, whose connection it ends after a minute of silence.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);

/// Does some work, and keeps the connection to the slot alive meanwhile.
async fn with_feed_alive<T>(feed: &mut Feed, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut tick = interval(KEEP_ALIVE_EVERY);
    tick.tick().await;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => feed.keep_alive(),
        }
    }
}
