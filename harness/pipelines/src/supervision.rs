//! A replication that starts again by itself after an error that may pass.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use changeproof::{error::Result, postgres::Address};
use changeproof_iceberg::Warehouse;
use tokio::time::{Instant, sleep};

use crate::{
    replication::Replication,
    settings::{Progress, Settings},
};

/// The longest pause after the first error; each error after it doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Follows the log until `stop` is ready, and starts again from where the sink's tables are when the source, the catalog or the storage
/// doesn't answer. It gives up when nothing has worked for as long as `patience`, or if somebody has to do something first: see
/// [`Error::has_help`](changeproof::error::Error::has_help).
///
/// Pauses grow, and are chosen at random up to their length, so that many replications don't come back at the same moment. `progress` is
/// told whenever something has worked, with what has been done since the first start; `failed` each error that is tried again after, and
/// the pause.
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
    let is_stopped = AtomicBool::new(false);
    let stop = async {
        stop.await;
        is_stopped.store(true, Ordering::Relaxed);
    };
    tokio::pin!(stop);
    let (mut worked, mut longest) = (Instant::now(), FIRST_PAUSE);
    let (mut done, mut is_told) = (Progress::default(), false);
    loop {
        let before = done;
        let mut tell = |now: &Progress| {
            let now = before.and_then(now);
            // That it could be started again doesn't mean that it gets any further, unless there is nothing further.
            if now != done || now.is_caught_up || !is_told {
                (worked, longest, done, is_told) = (Instant::now(), FIRST_PAUSE, now, true);
                progress(&now);
            }
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
            // What stops it can't be waited for again.
            Err(error) if !error.has_help() && worked.elapsed() < patience && !is_stopped.load(Ordering::Relaxed) => {
                error
            }
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

impl Progress {
    /// What has been done in all, with what another start did since.
    fn and_then(&self, since: &Self) -> Self {
        Self {
            copied: self.copied + since.copied,
            changes: self.changes + since.changes,
            transactions: self.transactions + since.transactions,
            commits: self.commits + since.commits,
            expired: self.expired + since.expired,
            failed_expiries: self.failed_expiries + since.failed_expiries,
            removed_files: self.removed_files + since.removed_files,
            left_files: self.left_files + since.left_files,
            position: self.position.max(since.position),
            is_caught_up: since.is_caught_up,
            commit_time_us: since.commit_time_us.or(self.commit_time_us),
        }
    }
}

/// A random pause up to the longest.
fn jittered(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    longest * u32::try_from(random).unwrap_or_default() / 1000
}

#[cfg(test)]
mod tests {
    use changeproof::change::Lsn;

    use super::*;

    #[test]
    fn a_start_that_gets_no_further_is_no_progress() {
        let done = Progress {
            copied: 3,
            changes: 5,
            transactions: 2,
            commits: 4,
            position: Lsn(90),
            commit_time_us: Some(7),
            ..Progress::default()
        };
        assert_eq!(done.and_then(&Progress { position: Lsn(80), ..Progress::default() }), done);
        let further = done.and_then(&Progress { changes: 1, position: Lsn(95), ..Progress::default() });
        assert_eq!((further.changes, further.position, further.commit_time_us), (6, Lsn(95), Some(7)));
    }
}
