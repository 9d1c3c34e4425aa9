//! What the Change Data Feed of Delta Lake costs: how long reading it takes, and how long a commit takes to arrive at a tail.

#[path = "../../shared/events.rs"]
mod events;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use changeproof::{
    error::{Context, Error, Result},
    script::Action,
    source::Source as _,
};
use changeproof_delta::{ChangeFeed, FeedCommit, Source};
use deltalake::DeltaTable;
use futures_util::{StreamExt, stream::BoxStream};

use self::events::name;

/// Rows of the table.
pub const ROWS: usize = 1_000_000;

/// Rows that the last commit updated: one in a hundred.
pub const CHANGED: usize = ROWS / 100;

/// So often a tail looks for new versions.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A table that grows by appends, and a tail of its feed.
pub struct Events {
    source: Source,
    next: usize,
    tail: BoxStream<'static, Result<FeedCommit>>,
}

impl Events {
    /// Makes the table in a folder.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn create(folder: &Path) -> Result<Self> {
        let mut source = Source::create(folder).await?;
        source.apply(&Action::CreateTable(events::table()).into()).await?;
        let tail = ChangeFeed::of(&source.lake().table(&name()).await?).after(0).follow(LOOK_EVERY).stream();
        Ok(Self { source, next: 0, tail })
    }

    async fn table(&self) -> Result<DeltaTable> {
        self.source.lake().table(&name()).await
    }

    /// Appends rows by one commit, and returns when it was made.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn append(&mut self, count: usize) -> Result<Instant> {
        let rows = rows(self.next..self.next + count)?;
        self.next += count;
        let written = self.table().await?.write([rows]).await;
        written.while_doing("the bench", "append rows")?;
        Ok(Instant::now())
    }

    /// Updates one row in a hundred by one commit.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn update(&self) -> Result<()> {
        let update = self.table().await?.update().with_predicate("id % 100 = 0").with_update("kind", "'changed'");
        update.await.map(drop).while_doing("the bench", "update rows")
    }

    /// Reads the feed of versions after one, and returns the number of its rows.
    ///
    /// # Errors
    /// A file can't be read.
    pub async fn feed(&self, after: u64) -> Result<usize> {
        let mut commits = ChangeFeed::of(&self.table().await?).after(after).stream();
        let mut rows = 0;
        while let Some(commit) = commits.next().await {
            rows += rows_of(&commit?);
        }
        Ok(rows)
    }

    /// Follows the tail until so many rows have come, and returns how many did.
    ///
    /// # Errors
    /// A file can't be read, or the tail ends.
    pub async fn follow(&mut self, count: usize) -> Result<usize> {
        let mut rows = 0;
        while rows < count {
            match self.tail.next().await {
                Some(commit) => rows += rows_of(&commit?),
                None => return Err(Error::new("the bench", "follow the table", "the tail ended")),
            }
        }
        Ok(rows)
    }
}

fn rows_of(commit: &FeedCommit) -> usize {
    commit.batches().iter().map(RecordBatch::num_rows).sum()
}

fn rows(ids: std::ops::Range<usize>) -> Result<RecordBatch> {
    let signed = |id: usize| i64::try_from(id).unwrap_or(i64::MAX);
    let names = [("id", false), ("kind", true), ("note", true), ("amount", true)];
    let columns = names.into_iter().zip(events::columns(&ids.map(signed), |_| false));
    let columns = columns.map(|((name, nullable), column)| (name, column, nullable));
    RecordBatch::try_from_iter_with_nullable(columns).while_doing("the bench", "make rows")
}
