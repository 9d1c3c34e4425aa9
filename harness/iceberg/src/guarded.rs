//! Work on files that others wrote: a panic of a library over a damaged one is an error like others, and never the quiet end of
//! a stream.

use changeproof::error::{Error, Result};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::{JoinError, JoinHandle},
};

use crate::SERVICE;

/// So many items wait for their reader.
const ITEMS_AHEAD: usize = 4;

/// Runs work to its end.
pub(crate) async fn guarded<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(told(error)))
}

/// What work sends, as a stream; the work ends with its reader.
pub(crate) fn streamed<T, W>(work: impl FnOnce(Sender<Result<T>>) -> W) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    W: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = channel(ITEMS_AHEAD);
    let task = Some(tokio::spawn(work(sender)));
    unfold(Running { task, receiver }, |mut running| async move { running.next().await.map(|item| (item, running)) })
        .boxed()
}

struct Running<T> {
    task: Option<JoinHandle<Result<()>>>,
    receiver: Receiver<Result<T>>,
}

impl<T> Running<T> {
    async fn next(&mut self) -> Option<Result<T>> {
        if let Some(item) = self.receiver.recv().await {
            return Some(item);
        }
        match self.task.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(error) => Some(Err(told(error))),
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What has ended a task before its time, as an error.
pub(crate) fn told(error: JoinError) -> Error {
    let cause = match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        }
        Err(error) => error.to_string(),
    };
    Error::new(SERVICE, "read the table", format!("a library gave up on one of its files: {cause}"))
        .help("the table's metadata or a manifest is damaged")
}
