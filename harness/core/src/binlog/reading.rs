//! The log being read and decoded on a task of its own, ahead of whoever takes the changes.

use std::mem;

use futures_util::{FutureExt, StreamExt};
use mysql_async::{BinlogStream, Error as DriverError};
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::TryRecvError},
    },
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

/// How many times as many changes as belong together are read ahead.
const AHEAD: usize = 4;

/// How many changes are handed over together, if they are there: waking who takes them costs as much as decoding dozens.
const TOGETHER: usize = 2048;

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
    transactions: mpsc::Receiver<Vec<Transaction>>,
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

    /// The next transactions; none once the reading has ended.
    pub(super) async fn next(&mut self) -> Option<Vec<Transaction>> {
        self.transactions.recv().await
    }

    /// The next transactions, if they have been read.
    pub(super) fn next_ready(&mut self) -> Option<Vec<Transaction>> {
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
    transactions: mpsc::Sender<Vec<Transaction>>,
    mut stopped: oneshot::Receiver<()>,
) -> (Decoder, Ended) {
    let (mut read, mut changes) = (Vec::new(), 0);
    let ended = loop {
        let mut event = stream.next().now_or_never();
        if event.is_none() || changes >= TOGETHER {
            changes = 0;
            // Who doesn't take it any more has dropped this.
            if !read.is_empty() && transactions.send(mem::take(&mut read)).await.is_err() {
                break Ended::Here;
            }
            if stopped.try_recv() == Err(TryRecvError::Closed) {
                break Ended::Here;
            }
        }
        if event.is_none() {
            event = tokio::select! {
                biased;
                _ = &mut stopped => break Ended::Here,
                event = stream.next() => Some(event),
            };
        }
        let event = match event.flatten() {
            None | Some(Err(DriverError::Io(_))) => break Ended::Here,
            Some(Err(error)) => break Ended::Refused(error),
            Some(Ok(event)) => event,
        };
        let transaction = match decoder.event(&event) {
            Ok(Some(transaction)) => completed(&log, transaction).await,
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match transaction {
            Ok(transaction) => {
                changes += transaction.changes.len();
                read.push(transaction);
            }
            Err(error) => break Ended::Failed(error),
        }
    };
    if !read.is_empty() {
        // It has been dropped, or takes what there is.
        let _ = transactions.send(read).await;
    }
    (decoder, ended)
}

/// With its changes, if they stand in log from before this capture.
async fn completed(log: &Log, mut transaction: Transaction) -> Result<Transaction> {
    if let Some(name) = &transaction.prepared_before {
        transaction.changes = earlier::prepared(log, name, transaction.id).await?;
    }
    Ok(transaction)
}
