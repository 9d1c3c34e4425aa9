//! A replication that starts again by itself after an error that may pass.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use changeproof::{error::Result, postgres::Address};
use changeproof_iceberg::Warehouse;
use tokio::time::{Instant, sleep};

use crate::replication::{Progress, Replication, Settings};

/// The longest pause after the first error; each error after it doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Follows the log until `stop` is ready, and starts again from where the sink's tables are when the source, the catalog or the storage
/// doesn't answer. It gives up when nothing has worked for as long as `patience`, or if somebody has to do something first: see
/// [`Error::has_help`](changeproof::error::Error::has_help).
///
/// Pauses grow, and are chosen at random up to their length, so that many replications don't come back at the same moment. `failed` is
/// told each error that is tried again after, and the pause.
///
/// # Errors
/// The last one.
pub async fn keep_replicating(
    address: &Address,
    warehouse: &Warehouse,
    settings: &Settings,
    patience: Duration,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(&Progress) + Send,
    mut failed: impl FnMut(&changeproof::error::Error, Duration),
) -> Result<()> {
    tokio::pin!(stop);
    let (mut worked, mut longest) = (Instant::now(), FIRST_PAUSE);
    loop {
        let mut tell = |now: &Progress| {
            (worked, longest) = (Instant::now(), FIRST_PAUSE);
            progress(now);
        };
        let ran = async {
            let mut replication = tokio::select! {
                started = Replication::start(address, warehouse.clone(), settings.clone(), &mut tell) => started?,
                // What was copied whole is there, and what was not is copied anew the next time.
                () = &mut stop => return Ok(()),
            };
            tell(replication.progress());
            replication.run(&mut stop, &mut tell).await
        };
        let error = match ran.await {
            Err(error) if !error.has_help() && worked.elapsed() < patience => error,
            ended => return ended,
        };
        let pause = jittered(longest);
        failed(&error, pause);
        tokio::select! {
            () = sleep(pause) => {}
            () = &mut stop => return Ok(()),
        }
        longest = (longest * 2).min(LONGEST_PAUSE);
    }
}

/// A random pause up to the longest.
fn jittered(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    longest * u32::try_from(random).unwrap_or_default() / 1000
}
