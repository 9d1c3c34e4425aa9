//! The log being read and decoded on a task of its own, ahead of whoever takes the changes.

use futures_util::StreamExt;
use mysql_async::{BinlogStream, Error as DriverError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    SERVICE,
    decode::{Decoder, Transaction},
    earlier,
};
use crate::{
    error::{Context, Result},
    mysql::Flavour,
    stack::Endpoint,
};

/// How many transactions are read ahead: as few as keep both sides busy, since one may be large.
const AHEAD: usize = 8;

/// Whose log is read.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) flavour: Flavour,
    pub(super) endpoint: Endpoint,
    pub(super) lease: String,
}

/// Why the reading ended.
pub(super) enum Ended {
    /// It was told to, or the connection broke.
    Here,
    /// The server sent an error.
    Refused(DriverError),
    /// The log can't be made sense of.
    Failed(crate::error::Error),
}

/// A log that is being read.
pub(super) struct Reading {
    transactions: mpsc::Receiver<Transaction>,
    /// Dropped with this, and the reading ends.
    task: JoinSet<(Decoder, Ended)>,
    goes_on: Option<oneshot::Sender<()>>,
}

impl Reading {
    /// Begins to read; must be called within a runtime.
    pub(super) fn begin(log: Log, stream: BinlogStream, decoder: Decoder) -> Self {
        let (sender, transactions) = mpsc::channel(AHEAD);
        let (goes_on, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(read(log, stream, decoder, sender, stopped));
        Self { transactions, task, goes_on: Some(goes_on) }
    }

    /// The next transaction; none once the reading has ended.
    pub(super) async fn next(&mut self) -> Option<Transaction> {
        self.transactions.recv().await
    }

    /// The next transaction, if it has been read.
    pub(super) fn next_ready(&mut self) -> Option<Transaction> {
        self.transactions.try_recv().ok()
    }

    /// Has the reading end. What has been read until then is still there to take.
    pub(super) fn stop(&mut self) {
        self.goes_on = None;
    }

    /// Why the reading has ended, and what it knew of the log, once no transaction is left.
    ///
    /// # Errors
    /// It has panicked.
    pub(super) async fn ended(&mut self) -> Result<(Decoder, Ended)> {
        match self.task.join_next().await {
            Some(ended) => ended.while_doing(SERVICE, "read the log"),
            None => Ok((Decoder::default(), Ended::Here)),
        }
    }
}

async fn read(
    log: Log,
    mut stream: BinlogStream,
    mut decoder: Decoder,
    transactions: mpsc::Sender<Transaction>,
    mut stopped: oneshot::Receiver<()>,
) -> (Decoder, Ended) {
    loop {
        let event = tokio::select! {
            biased;
            _ = &mut stopped => return (decoder, Ended::Here),
            event = stream.next() => match event {
                None | Some(Err(DriverError::Io(_))) => return (decoder, Ended::Here),
                Some(Err(error)) => return (decoder, Ended::Refused(error)),
                Some(Ok(event)) => event,
            },
        };
        let transaction = match decoder.event(&event) {
            Ok(Some(transaction)) => completed(&log, transaction).await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match transaction {
            // Nobody takes it any more: this has been dropped.
            Ok(transaction) => {
                if transactions.send(transaction).await.is_err() {
                    return (decoder, Ended::Here);
                }
            }
            Err(error) => return (decoder, Ended::Failed(error)),
        }
    }
}

/// With its changes, if they stand in log from before this capture.
async fn completed(log: &Log, mut transaction: Transaction) -> Result<Transaction> {
    if let Some(name) = &transaction.prepared_before {
        transaction.changes = earlier::prepared(log, name, transaction.id).await?;
    }
    Ok(transaction)
}
