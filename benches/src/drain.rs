//! How fast a backlog is read: a native method against the database's own program.
//!
//! In each round both readers are stopped at the same moment, then the backlog is written while nobody reads, then one reader
//! after the other drains it, in another order each time. The program throws away what it reads; the capture decodes it into
//! typed rows, and each row is checked.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use changeproof::error::Result;
use serde::Serialize;

use crate::{
    Setup,
    load::see_all,
    report::Report,
    rig::Rig,
    rival::{Rival, Way},
    spread::Spread,
};

const ROUNDS: usize = 6;

const ROWS: u32 = 100_000;
const ROWS_A_TRANSACTION: u32 = 100;

/// Who drains a backlog: the capture, and its rival.
const READERS: usize = 2;

/// The figures of one reader.
#[derive(Debug, Serialize)]
struct Row {
    reader: &'static str,
    way: Way,
    rows: u32,
    rows_a_transaction: u32,
    rounds: usize,
    took_ms: Spread,
    changes_per_s: f64,
    /// The capture's speed as a multiple of this one's, by round.
    capture_is_faster_by: Spread,
}

/// What the capture took for a backlog, and what its rival.
type Round = [Duration; READERS];

/// Measures the rounds by each way, and writes a report.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn measure(storage: &'static str, setup: &Setup, rival: Rival) -> Result<()> {
    let mut report = Report::new(storage, "drain", std::slice::from_ref(setup));
    let method = setup.method.name();
    println!("| {ROWS} changes read by | by | median | min | max | changes/s | {method}'s speed | min | max |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for way in rival.ways() {
        let setup = Setup { settings: rival.setting(*way), ..*setup };
        let mut rounds = Vec::new();
        // The first is to warm up.
        for number in 0..=ROUNDS {
            let mut rig = Rig::open(&setup).await?;
            report.describe(&rig.database.versions().await?);
            let measured = round(&mut rig, rival, *way, number).await;
            rig.close().await?;
            let measured = measured?;
            if number > 0 {
                rounds.push(measured);
            }
        }
        let readers = [method, rival.name()].into_iter().enumerate();
        report.rows.extend(readers.map(|(at, reader)| row(*way, reader, at, &rounds)));
    }
    report.write()
}

/// Sums a reader's rounds up, and prints them.
fn row(way: Way, reader: &'static str, at: usize, rounds: &[Round]) -> Row {
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let took = Spread::of(rounds.iter().map(|round| ms(round[at])));
    let ratio = Spread::of(rounds.iter().map(|round| ms(round[at]) / ms(round[0])));
    let changes_per_s = f64::from(ROWS) * 1e3 / took.median;
    println!(
        "| {} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {changes_per_s:.0} | {:.2}× | {:.2}× | {:.2}× |",
        reader,
        way.name(),
        took.median,
        took.min,
        took.max,
        ratio.median,
        ratio.min,
        ratio.max
    );
    Row {
        reader,
        way,
        rows: ROWS,
        rows_a_transaction: ROWS_A_TRANSACTION,
        rounds: rounds.len(),
        took_ms: took,
        changes_per_s,
        capture_is_faster_by: ratio,
    }
}

async fn round(rig: &mut Rig, rival: Rival, way: Way, number: usize) -> Result<Round> {
    rig.subscription.stop().await?;
    let prepared = rival.prepare(rig, way).await?;
    let ids = rig.ids(ROWS);
    for first in ids.clone().step_by(ROWS_A_TRANSACTION as usize) {
        rig.database.writer.insert(&(first..first + i64::from(ROWS_A_TRANSACTION))).await?;
    }
    let mut took = Round::default();
    for at in (0..READERS).map(|turn| (turn + number) % READERS) {
        took[at] = match at {
            0 => drain_by_capture(rig, &ids).await?,
            _ => rival.drain(rig, way, &prepared).await?,
        };
    }
    Ok(took)
}

/// From resuming the capture until the last change is visible.
async fn drain_by_capture(rig: &mut Rig, ids: &Range<i64>) -> Result<Duration> {
    let started = Instant::now();
    rig.subscription.resume().await?;
    see_all(rig.subscription.as_mut(), ids, |_| {}).await?;
    let took = started.elapsed();
    rig.subscription.stop().await?;
    Ok(took)
}
