//! The two loads.

use std::{
    collections::HashSet,
    ops::Range,
    time::{Duration, Instant},
};

use changeproof::{
    Op, Value,
    capture::Subscription,
    change::Change,
    error::{Context, Error, Result},
};
use hdrhistogram::Histogram;
use tokio_postgres::Client;

use crate::{Rig, Tier};

/// Nothing may take longer than this; then something is lost.
const SILENCE: Duration = Duration::from_secs(60);

/// Connections of the open loop. Each sends its rows without waiting for the answers to the ones before.
const WRITERS: usize = 4;

const INSERT: &str = "INSERT INTO public.readings (id, sensor, celsius, note) \
    VALUES ($1::bigint, 'sensor-' || ($1::bigint % 100), $1::bigint % 40, repeat('x', 60))";

/// The lags of an open loop, in microseconds.
#[derive(Debug)]
pub struct OpenLoop {
    /// From the moment a row was due until its change was visible.
    pub lags_us: Histogram<u64>,
    /// From the first row's due time until the last change.
    pub took: Duration,
}

/// Writes rows in one transaction, and returns the time from sending COMMIT until the last change was visible.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub async fn burst(rig: &mut Rig, rows: u32) -> Result<Duration> {
    let ids = rig.ids(rows);
    let insert = format!(
        "BEGIN; INSERT INTO public.readings (id, sensor, celsius, note) \
         SELECT i, 'sensor-' || (i % 100), i % 40, repeat('x', 60) FROM generate_series({}, {}) i",
        ids.start,
        ids.end - 1
    );
    rig.writer.batch_execute(&insert).await.while_doing("PostgreSQL", "write the burst")?;
    let started = Instant::now();
    let writer = &rig.writer;
    let commit = async { writer.batch_execute("COMMIT").await.while_doing("PostgreSQL", "commit") };
    let subscription = rig.subscription.as_mut();
    let seen = see_all(subscription, ids, |_| {});
    let (committed, seen) = tokio::join!(commit, seen);
    committed?;
    seen?;
    Ok(started.elapsed())
}

/// Offers rows at the tier's rate and notes each one's lag.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub async fn open_loop(rig: &mut Rig, tier: Tier) -> Result<OpenLoop> {
    let ids = rig.ids(tier.rows);
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let client = rig.connect().await?;
        let insert = client.prepare(INSERT).await.while_doing("PostgreSQL", "prepare the insert")?;
        writers.push((client, insert));
    }
    let interval = Duration::from_secs(1) / tier.offered_per_s;
    let (first, begin) = (ids.start, Instant::now() + Duration::from_millis(50));
    let due = move |id: i64| begin + interval * u32::try_from(id - first).unwrap_or(u32::MAX);

    let mut writing = tokio::task::JoinSet::new();
    for (number, (client, insert)) in writers.into_iter().enumerate() {
        let mine = ids.clone().skip(number).step_by(WRITERS);
        writing.spawn(async move { write(client, insert, mine, due).await });
    }
    let mut lags_us = histogram()?;
    let noted = see_all(rig.subscription.as_mut(), ids, |id| {
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

async fn write(
    client: Client,
    insert: tokio_postgres::Statement,
    ids: impl Iterator<Item = i64>,
    due: impl Fn(i64) -> Instant,
) -> Result<()> {
    let client = std::sync::Arc::new(client);
    let mut sent = tokio::task::JoinSet::new();
    for id in ids {
        tokio::time::sleep_until(due(id).into()).await;
        let (client, insert) = (std::sync::Arc::clone(&client), insert.clone());
        sent.spawn(async move { client.execute(&insert, &[&id]).await });
        while let Some(done) = sent.try_join_next() {
            check(done)?;
        }
    }
    while let Some(done) = sent.join_next().await {
        check(done)?;
    }
    Ok(())
}

fn check(done: Result<Result<u64, tokio_postgres::Error>, tokio::task::JoinError>) -> Result<()> {
    done.while_doing("the bench", "write")?.while_doing("PostgreSQL", "insert a row").map(drop)
}

/// Takes changes until each of the rows has been seen once.
async fn see_all(subscription: &mut dyn Subscription, ids: Range<i64>, mut seen: impl FnMut(i64)) -> Result<()> {
    let mut missing: HashSet<i64> = ids.collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(SILENCE, subscription.next()).await;
        let Ok(change) = next else {
            let seen = format!("{} are missing; {}", missing.len(), subscription.waiting_for());
            return Err(Error::new("the bench", "see every change", seen));
        };
        let change = change?;
        let id = inserted_id(&change).filter(|id| missing.remove(id));
        let Some(id) = id else {
            return Err(Error::new("the bench", "see each change once", format!("{change:?}")));
        };
        seen(id);
    }
    Ok(())
}

fn inserted_id(change: &Change) -> Option<i64> {
    match (change.op, change.after.as_ref()?.get("id")?) {
        (Op::Insert, Value::Int(id)) => i64::try_from(*id).ok(),
        _ => None,
    }
}
