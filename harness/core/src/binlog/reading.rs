//! The log being read on a task of its own, ahead of whoever decodes it.
//!
//! Decoded it is where it is taken: changes that one thread makes and another one drops share their counters and their memory
//! between two cores, which costs more than the decoding does.

use std::{io::ErrorKind, mem};

use futures_util::{FutureExt, StreamExt};
use mysql_async::{BinlogStream, Error as DriverError, IoError};
use mysql_common::binlog::events::Event;
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::TryRecvError},
    },
    task::JoinSet,
};

use super::SERVICE;
use crate::{
    error::{Context, Result},
    mysql::Flavour,
    stack::Endpoint,
};

/// How many times as many bytes as belong together are read ahead.
const AHEAD: usize = 4;

/// How many bytes of the log are handed over together, if they are there: waking who takes them costs as much as decoding dozens of
/// rows.
const TOGETHER_BYTES: u32 = 256 * 1024;

/// Whose log is read.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) flavour: Flavour,
    pub(super) endpoint: Endpoint,
    pub(super) lease: String,
}

/// A log that is being read.
pub(super) struct Reading {
    events: mpsc::Receiver<Vec<Event>>,
    /// Dropped with this, and the reading ends. It says what the server refused with, if it did.
    task: JoinSet<Option<DriverError>>,
    goes_on: Option<oneshot::Sender<()>>,
}

impl Reading {
    /// Begins to read; must be called within a runtime.
    pub(super) fn begin(stream: BinlogStream) -> Self {
        let (sender, events) = mpsc::channel(AHEAD);
        let (goes_on, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(read(stream, sender, stopped));
        Self { events, task, goes_on: Some(goes_on) }
    }

    /// The next events; none once the reading has ended.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        self.events.recv().await
    }

    /// The next events, if they have been read.
    pub(super) fn next_ready(&mut self) -> Option<Vec<Event>> {
        self.events.try_recv().ok()
    }

    /// Has the reading end. What has been read until then is still there to take.
    pub(super) fn stop(&mut self) {
        self.goes_on = None;
    }

    /// The server's error if one ended the reading, once no event is left; none if it was told to end, or the connection broke.
    ///
    /// # Errors
    /// It has panicked.
    pub(super) async fn ended(&mut self) -> Result<Option<DriverError>> {
        match self.task.join_next().await {
            Some(ended) => ended.while_doing(SERVICE, "read the log"),
            None => Ok(None),
        }
    }
}

/// Whether the connection is gone, and may be made anew; otherwise what was sent can't be read, and won't be the next time. (An event that
/// is cut short is told as the end of a stream too.)
fn is_broken(error: &IoError) -> bool {
    use ErrorKind as Kind;
    let IoError::Io(error) = error;
    matches!(
        error.kind(),
        Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

async fn read(
    mut stream: BinlogStream,
    events: mpsc::Sender<Vec<Event>>,
    mut stopped: oneshot::Receiver<()>,
) -> Option<DriverError> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    let ended = loop {
        let mut event = stream.next().now_or_never();
        if event.is_none() || bytes >= TOGETHER_BYTES {
            bytes = 0;
            // Who doesn't take it any more has dropped this.
            if !read.is_empty() && events.send(mem::take(&mut read)).await.is_err() {
                break None;
            }
            if stopped.try_recv() == Err(TryRecvError::Closed) {
                break None;
            }
        }
        if event.is_none() {
            event = tokio::select! {
                biased;
                _ = &mut stopped => break None,
                event = stream.next() => Some(event),
            };
        }
        match event.flatten() {
            None => break None,
            Some(Err(DriverError::Io(error))) if is_broken(&error) => break None,
            Some(Err(error)) => break Some(error),
            Some(Ok(event)) => {
                bytes += event.header().event_size();
                read.push(event);
            }
        }
    };
    if !read.is_empty() {
        // It has been dropped, or takes what there is.
        let _ = events.send(read).await;
    }
    ended
}
