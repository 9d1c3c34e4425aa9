//! The changes of a table as it grows.

use std::time::Duration;

use async_trait::async_trait;
use changeproof::error::{Error, Result};
use futures_util::stream::{BoxStream, StreamExt};
use iceberg::{
    expr::Predicate,
    spec::{Operation, SnapshotRef},
    table::Table,
};
use tokio::{
    sync::mpsc::Sender,
    time::{MissedTickBehavior, interval},
};

use crate::{
    SERVICE,
    changelog::{ChangeBatch, ChangelogScan},
    guarded::streamed,
    snapshots::{ancestors, between},
};

/// A tail looks for new snapshots this often unless told otherwise.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a tail gets its table from, as it is at the moment: a catalog, or a folder by [`crate::open_table`]. Any function that
/// returns such a future is one.
#[async_trait]
pub trait TableSource: Send {
    /// The table as it is now.
    ///
    /// # Errors
    /// It can't be read; the tail ends with this error.
    async fn load(&mut self) -> Result<Table>;
}

#[async_trait]
impl<F, R> TableSource for F
where
    F: FnMut() -> R + Send,
    R: Future<Output = Result<Table>> + Send,
{
    async fn load(&mut self) -> Result<Table> {
        self().await
    }
}

/// What a tail tells.
#[derive(Clone, Debug)]
pub enum TailEvent {
    /// Rows that changed.
    Changes(ChangeBatch),
    /// All changes up to this snapshot have been told: another tail after it goes on from here and misses nothing.
    UpTo(SnapshotRef),
}

/// Follows a table as it grows, snapshot by snapshot.
///
/// ```no_run
/// # use std::path::PathBuf;
/// # use changeproof_iceberg::{ChangelogTail, TailEvent, open_table};
/// # use futures_util::StreamExt;
/// # async fn follow(path: PathBuf) -> changeproof::error::Result<()> {
/// let mut events = ChangelogTail::new(move || {
///     let path = path.clone();
///     async move { open_table(&path).await }
/// })
/// .stream();
/// while let Some(event) = events.next().await {
///     match event? {
///         TailEvent::Changes(batch) => println!("{:?} of snapshot {}", batch.kind, batch.snapshot.snapshot_id()),
///         TailEvent::UpTo(snapshot) => println!("to be gone on from: {}", snapshot.snapshot_id()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChangelogTail<S> {
    source: S,
    told: Option<i64>,
    every: Duration,
    filter: Option<Predicate>,
    memory_limit_bytes: Option<u64>,
}

impl<S: TableSource + 'static> ChangelogTail<S> {
    /// All changes from the table's beginning on.
    pub fn new(source: S) -> Self {
        Self { source, told: None, every: LOOK_EVERY, filter: None, memory_limit_bytes: None }
    }

    /// Only what is changed after this snapshot.
    #[must_use]
    pub fn after(mut self, snapshot_id: i64) -> Self {
        self.told = Some(snapshot_id);
        self
    }

    /// How often to look for new snapshots.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_millis(1));
        self
    }

    /// As [`ChangelogScan::filter`]; names are those of the columns that the table has when its snapshots are found.
    #[must_use]
    pub fn filter(mut self, predicate: Predicate) -> Self {
        self.filter = Some(predicate);
        self
    }

    /// As [`ChangelogScan::memory_limit`].
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit_bytes = Some(bytes);
        self
    }

    /// The changes of one snapshot after the other, without an end. Each batch has the ordinal of its snapshot since the tail
    /// began. After a rollback no snapshot stands for what it took back: that is told as the difference between the snapshot told
    /// last and the present one, as if it were one commit.
    ///
    /// # Errors
    /// In the stream, which ends with it: the table can't be loaded, or a snapshot that was not told yet has expired.
    pub fn stream(self) -> BoxStream<'static, Result<TailEvent>> {
        streamed(|sender| async move { self.run(&sender).await })
    }

    async fn run(mut self, sender: &Sender<Result<TailEvent>>) -> Result<()> {
        let mut looks = interval(self.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ordinal = 0;
        loop {
            looks.tick().await;
            let table = self.source.load().await?;
            let Some(current) = table.metadata().current_snapshot().cloned() else { continue };
            if self.told == Some(current.snapshot_id()) {
                continue;
            }
            let since = Since::new(&table, self.told, &current);
            let scan = self.filter.iter().cloned().fold(since.scan(), ChangelogScan::filter);
            let mut batches = self.memory_limit_bytes.into_iter().fold(scan, ChangelogScan::memory_limit).stream();
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                let batch = ChangeBatch { ordinal: ordinal + batch.ordinal, ..batch };
                send(sender, TailEvent::Changes(batch)).await?;
            }
            ordinal += since.commits()?;
            self.told = Some(current.snapshot_id());
            send(sender, TailEvent::UpTo(current)).await?;
        }
    }
}

async fn send(sender: &Sender<Result<TailEvent>>, event: TailEvent) -> Result<()> {
    let sent = sender.send(Ok(event)).await;
    sent.map_err(|_| Error::new(SERVICE, "tell changes", "nobody reads them any more"))
}

/// What is new in a table since a snapshot that was told.
pub(crate) struct Since<'a> {
    table: &'a Table,
    told: Option<i64>,
    current: &'a SnapshotRef,
    /// Whether the snapshot that was told is no ancestor of the present one.
    pub(crate) is_rollback: bool,
}

impl<'a> Since<'a> {
    pub(crate) fn new(table: &'a Table, told: Option<i64>, current: &'a SnapshotRef) -> Self {
        // One that has expired is for the scan to complain of.
        let known = told.filter(|told| table.metadata().snapshot_by_id(*told).is_some());
        let mut line = ancestors(table.metadata(), current);
        let is_rollback = known.is_some_and(|told| line.all(|ancestor| ancestor.snapshot_id() != told));
        Self { table, told, current, is_rollback }
    }

    /// The scan that tells it.
    pub(crate) fn scan(&self) -> ChangelogScan {
        let scan = ChangelogScan::new(self.table).up_to(self.current.snapshot_id());
        let scan = self.told.into_iter().fold(scan, ChangelogScan::after);
        if self.is_rollback { scan.net() } else { scan }
    }

    /// How many ordinals the scan has.
    fn commits(&self) -> Result<u32> {
        if self.is_rollback {
            return Ok(1);
        }
        let snapshots = between(self.table, self.told, self.current)?;
        let commits = snapshots.iter().filter(|snapshot| snapshot.summary().operation != Operation::Replace).count();
        Ok(u32::try_from(commits).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use changeproof::{
        error::Context,
        row,
        schema::Type,
        script::{Action, TableBuilder, TableRef},
        source::Source as _,
    };
    use iceberg::{expr::Reference, spec::Datum};

    use super::*;
    use crate::{Kind, Source, ident};

    /// What is told up to the next snapshot that a tail may be gone on from: kinds, numbers of rows, ordinals.
    async fn told(events: &mut BoxStream<'static, Result<TailEvent>>) -> Result<(Vec<(Kind, usize, u32)>, i64)> {
        let mut told = Vec::new();
        loop {
            match events.next().await.transpose()? {
                Some(TailEvent::Changes(batch)) => {
                    let rows = batch.after.or(batch.before).map_or(0, |rows| rows.num_rows());
                    told.push((batch.kind, rows, batch.ordinal));
                }
                Some(TailEvent::UpTo(snapshot)) => return Ok((told, snapshot.snapshot_id())),
                None => return Err(Error::new("test", "follow the table", "the tail has ended")),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_tail_tells_each_look_and_can_be_gone_on_from() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
        let mut source = Source::create(&folder).await?;
        let table = TableBuilder::new("t").key("id", Type::Int).column("n", Type::Int).build();
        let t = TableRef::new(&table);
        source.apply(&Action::CreateTable(table).into()).await?;
        let (warehouse, name) = (source.warehouse().clone(), ident(t.name()));
        let tail = || {
            let (warehouse, name) = (warehouse.clone(), name.clone());
            ChangelogTail::new(move || {
                let (warehouse, name) = (warehouse.clone(), name.clone());
                async move { warehouse.table(&name).await }
            })
            .every(Duration::from_millis(5))
        };
        let mut events = tail().stream();
        let positive = Reference::new("n").greater_than(Datum::int(0));
        let mut filtered = tail().filter(positive).memory_limit(1 << 20).stream();

        source.apply(&t.insert_many([row! { id: 1, n: 1 }, row! { id: 2, n: -1 }])).await?;
        assert_eq!(told(&mut events).await?.0, [(Kind::Insert, 2, 0)]);
        assert_eq!(told(&mut filtered).await?.0, [(Kind::Insert, 1, 0)]);
        source.apply(&t.update(1, row! { n: -1 })).await?;
        let (changes, first) = told(&mut events).await?;
        assert_eq!(changes, [(Kind::Update, 1, 1)]);
        assert_eq!(told(&mut filtered).await?.0, [(Kind::Delete, 1, 1)]);
        source.compact(t.name()).await?;
        assert_eq!(told(&mut events).await?.0, []);
        source.apply(&t.delete(2)).await?;
        assert_eq!(told(&mut events).await?.0, [(Kind::Delete, 1, 2)]);
        source.roll_back(t.name(), 1).await?;
        assert_eq!(told(&mut events).await?.0, [(Kind::Insert, 1, 3)]);
        drop(events);

        let (changes, last) = told(&mut tail().after(first).stream()).await?;
        assert_eq!(changes, [], "the delete was taken back");
        source.expire(t.name()).await?;
        source.apply(&t.delete(2)).await?;
        assert!(told(&mut tail().after(first).stream()).await.is_err(), "its snapshot has expired");
        assert_eq!(told(&mut tail().after(last).stream()).await?.0, [(Kind::Delete, 1, 0)]);
        std::fs::remove_dir_all(&folder).while_doing("test", "clean up")
    }
}
