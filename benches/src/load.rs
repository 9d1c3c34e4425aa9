//! Inserts, and taking their changes: a burst, an open loop.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use changeproof::{
    Op, Value,
    capture::{Subscription, next_unless_silent},
    change::Change,
    error::{Context, Error, Result},
};
use hdrhistogram::Histogram;
use tokio::{runtime::Handle, task::JoinSet};

use crate::{choice::Tier, rig::Rig, server::Target};

/// Connections of the open loop. Each sends its rows without waiting for the answers to the ones before.
const WRITERS: usize = 4;

/// Until the first row of the open loop is due.
const CONNECT: Duration = Duration::from_millis(500);

/// The lags of an open loop, in microseconds.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    /// From the moment a row was due until its change was visible.
    pub(crate) lags_us: Histogram<u64>,
    /// From the first row's due time until the last change.
    pub(crate) took: Duration,
}

/// Writes rows in one transaction, and returns the time from sending COMMIT until the last change was visible.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn burst(rig: &mut Rig, rows: u32) -> Result<Duration> {
    let ids = rig.ids(rows);
    let writer = &rig.database.writer;
    writer.run("BEGIN").await?;
    writer.insert(&ids).await?;
    let started = Instant::now();
    let commit = writer.run("COMMIT");
    let (committed, seen) = tokio::join!(commit, see_all(rig.subscription.as_mut(), &ids, |_| {}));
    committed?;
    seen?;
    Ok(started.elapsed())
}

/// Offers rows at the tier's rate and notes each one's lag.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn open_loop(writers: &Handle, rig: &mut Rig, tier: Tier) -> Result<OpenLoop> {
    let ids = rig.ids(tier.rows);
    let interval = Duration::from_secs(1) / tier.offered_per_s;
    let (first, begin) = (ids.start, Instant::now() + CONNECT);
    let due = move |id: i64| begin + interval * u32::try_from(id - first).unwrap_or(u32::MAX);

    let mut writing = JoinSet::new();
    for number in 0..WRITERS {
        let mine = ids.clone().skip(number).step_by(WRITERS);
        writing.spawn_on(write(rig.database.target.clone(), mine, due), writers);
    }
    let mut lags_us = histogram()?;
    let noted = see_all(rig.subscription.as_mut(), &ids, |id| {
        let lag = Instant::now().saturating_duration_since(due(id));
        lags_us.saturating_record(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
    });
    noted.await?;
    while let Some(written) = writing.join_next().await {
        written.while_doing("the bench", "write")??;
    }
    Ok(OpenLoop { lags_us, took: begin.elapsed() })
}

fn histogram() -> Result<Histogram<u64>> {
    const LONGEST_US: u64 = 600_000_000;
    Histogram::new_with_bounds(1, LONGEST_US, 3).while_doing("the bench", "make a histogram")
}

async fn write(target: Target, ids: impl Iterator<Item = i64>, due: impl Fn(i64) -> Instant) -> Result<()> {
    let writer = target.connect().await?;
    let mut sent = JoinSet::new();
    for id in ids {
        tokio::time::sleep_until(due(id).into()).await;
        let writer = Arc::clone(&writer);
        sent.spawn(async move { writer.insert_one(id).await });
        while let Some(done) = sent.try_join_next() {
            done.while_doing("the bench", "write")??;
        }
    }
    while let Some(done) = sent.join_next().await {
        done.while_doing("the bench", "write")??;
    }
    Ok(())
}

/// Takes changes until each of the rows has been seen once.
///
/// # Errors
/// A change is lost, repeated or unknown, or the capture fails.
pub(crate) async fn see_all(
    subscription: &mut dyn Subscription,
    ids: &Range<i64>,
    mut seen: impl FnMut(i64),
) -> Result<()> {
    let mut is_missing: Vec<bool> = ids.clone().map(|_| true).collect();
    let mut missing = is_missing.len();
    while missing > 0 {
        let change = next(subscription, || format!("{missing} rows are missing")).await?;
        let id = inserted(&change).and_then(|id| {
            let is_missing = is_missing.get_mut(usize::try_from(id.checked_sub(ids.start)?).ok()?)?;
            std::mem::take(is_missing).then_some(id)
        });
        let Some(id) = id else {
            return Err(Error::new("the bench", "see each change once", format!("{change:?}")));
        };
        missing -= 1;
        seen(id);
    }
    Ok(())
}

/// The next change.
///
/// # Errors
/// The capture fails, or nothing comes for so long that something must be lost.
pub(crate) async fn next(subscription: &mut dyn Subscription, missing: impl Fn() -> String) -> Result<Change> {
    if let Some(change) = next_unless_silent(subscription).await {
        return change;
    }
    let seen = format!("{}; {}", missing(), subscription.waiting_for());
    Err(Error::new("the bench", "see every change", seen))
}

/// A whole number in the row that a change leaves.
pub(crate) fn number(change: &Change, column: &str) -> Option<i64> {
    match change.after.as_ref()?.get(column)? {
        Value::Int(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

/// The row that came, if one did. Polling can't tell that from a change of it.
fn inserted(change: &Change) -> Option<i64> {
    number(change, "id").filter(|_| matches!(change.op, Op::Insert | Op::Upsert))
}
