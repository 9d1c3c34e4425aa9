//! PostgreSQL's native logical replication: a slot, the output plugin pgoutput, and a client of its own.

mod feed;
mod pgoutput;
mod relations;
mod slot;
mod subscription;
mod wire;

use async_trait::async_trait;

use self::subscription::LogicalSubscription;
pub use self::{
    feed::{Commit, Event, Feed, FeedSettings},
    relations::{Known, KnownColumn},
    slot::NewSlot,
};
use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    error::Result,
    guarantees::Guarantees,
    postgres,
    stack::Service,
};

/// Logical replication by pgoutput, without anything between the database and its reader.
///
/// Settings: `streaming` (`on` by default: parts of large transactions are sent before their end, and delivered at their
/// commit), `logical_decoding_work_mem`, the memory above which a transaction is large, and `way` (`tcp`: not by the Unix
/// socket, which is taken where there is one).
#[derive(Clone, Copy, Debug, Default)]
pub struct LogicalReplication;

#[async_trait]
impl Capture for LogicalReplication {
    fn name(&self) -> &'static str {
        "logical"
    }

    fn summary(&self) -> &'static str {
        "log-based: native logical replication, pgoutput read by a client of its own"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees { initial_snapshot: options.snapshot == SnapshotMode::Initial, ..Guarantees::default() }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        postgres::publish_all_tables(subject.stack.endpoint(Service::Postgres)?, subject.database).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(LogicalSubscription::start(subject, options).await?))
    }

    /// The slot belongs to the database and goes with it.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}
