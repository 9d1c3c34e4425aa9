//! Slots being made, with the snapshots that they export.

use tokio_postgres::Client;

use super::{
    feed::FeedSettings,
    wire::{self, Walsender},
};
use crate::{
    change::Lsn,
    error::{Context, Error, Result},
    postgres::Address,
};

/// A slot that was just made. What was committed before its beginning is in the snapshot that it exported, and all the rest will
/// be in its stream (manual, 47.2.5 "Exported Snapshots").
pub struct NewSlot {
    pub(super) name: String,
    /// Where it begins: transactions whose commit record begins here or later are in its stream.
    pub begin: Lsn,
    snapshot: String,
    pub(super) walsender: Walsender,
}

impl NewSlot {
    /// Makes a slot for pgoutput.
    ///
    /// # Errors
    /// The server refuses: there is one of the name, or none may be made.
    pub async fn create(name: &str, address: &Address, settings: &FeedSettings) -> Result<Self> {
        let failover = if settings.failover { ", FAILOVER" } else { "" };
        Self::make(name, "", failover, address, settings).await
    }

    /// Makes a slot that goes with its connection, for the sake of its snapshot.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn temporary(name: &str, address: &Address, settings: &FeedSettings) -> Result<Self> {
        Self::make(name, "TEMPORARY ", "", address, settings).await
    }

    async fn make(name: &str, kind: &str, more: &str, address: &Address, settings: &FeedSettings) -> Result<Self> {
        let doing = || format!("create the slot {name}");
        let mut walsender = wire::refused(settings.connect(address).await, "connect in replication mode")?;
        let create = format!("CREATE_REPLICATION_SLOT {name} {kind}LOGICAL pgoutput (SNAPSHOT 'export'{more})");
        let created = wire::refused(walsender.command(&create).await, doing())?;
        let begin = wire::lsn(created.get(1))?;
        let snapshot = created.into_iter().nth(2).flatten();
        let snapshot = snapshot.ok_or_else(|| Error::new("PostgreSQL", doing(), "it exported no snapshot"))?;
        Ok(Self { name: name.to_owned(), begin, snapshot, walsender })
    }

    /// Begins a transaction that sees what was committed before the slot begins, and nothing else.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn enter_snapshot(&self, client: &Client) -> Result<()> {
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'", self.snapshot);
        client.batch_execute(&begin).await.while_doing("PostgreSQL", "enter the slot's snapshot")
    }
}
