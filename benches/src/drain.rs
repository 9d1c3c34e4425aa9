//! How fast a backlog is read: native logical replication against PostgreSQL's own `pg_recvlogical`.
//!
//! In each round two slots are made at the same moment, then the backlog is written while nobody reads, then each slot is
//! drained by one of the two, first the one and in the next round first the other. `pg_recvlogical` throws away what it
//! reads; the capture decodes it into typed rows, and each row is checked.

use std::time::{Duration, Instant};

use changeproof::{
    error::{Context, Error, Result},
    postgres::{PUBLICATION, end_of_log},
    stack::docker,
};
use serde::Serialize;

use crate::{Setup, load::see_all, report::Report, rig::Rig, spread::Spread};

const ROUNDS: usize = 10;

const ROWS: u32 = 100_000;
const ROWS_A_TRANSACTION: u32 = 100;

/// The figures of the rounds.
#[derive(Debug, Serialize)]
struct Row {
    rows: u32,
    rows_a_transaction: u32,
    rounds: usize,
    capture_ms: Spread,
    capture_changes_per_s: f64,
    pg_recvlogical_ms: Spread,
    pg_recvlogical_changes_per_s: f64,
    /// The capture's speed as a multiple of the other's, by round.
    ratio: Spread,
}

/// What each took for the same backlog.
struct Round {
    capture: Duration,
    pg_recvlogical: Duration,
}

/// Measures the rounds, and writes a report.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn measure(storage: &'static str, setup: &Setup) -> Result<()> {
    let mut report = Report::new(storage, "drain", std::slice::from_ref(setup));
    let mut rounds = Vec::new();
    // The first is to warm up.
    for number in 0..=ROUNDS {
        let mut rig = Rig::open(setup).await?;
        report.describe(&rig.database.versions().await?);
        let measured = round(&mut rig, number.is_multiple_of(2)).await;
        rig.close().await?;
        let measured = measured?;
        if number > 0 {
            rounds.push(measured);
        }
    }
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let capture_ms = Spread::of(rounds.iter().map(|round| ms(round.capture)));
    let pg_recvlogical_ms = Spread::of(rounds.iter().map(|round| ms(round.pg_recvlogical)));
    let per_s = |ms: Spread| f64::from(ROWS) * 1e3 / ms.median;
    let row = Row {
        rows: ROWS,
        rows_a_transaction: ROWS_A_TRANSACTION,
        rounds: rounds.len(),
        capture_ms,
        capture_changes_per_s: per_s(capture_ms),
        pg_recvlogical_ms,
        pg_recvlogical_changes_per_s: per_s(pg_recvlogical_ms),
        ratio: Spread::of(rounds.iter().map(|round| ms(round.pg_recvlogical) / ms(round.capture))),
    };
    println!("| a backlog of {ROWS} changes | median | min | max | changes/s |\n|---|---:|---:|---:|---:|");
    for (reader, ms, per_s) in [
        (setup.method.name(), row.capture_ms, row.capture_changes_per_s),
        ("pg_recvlogical", row.pg_recvlogical_ms, row.pg_recvlogical_changes_per_s),
    ] {
        println!("| {reader} | {:.0} ms | {:.0} ms | {:.0} ms | {per_s:.0} |", ms.median, ms.min, ms.max);
    }
    println!("| speed as a multiple | {:.2} | {:.2} | {:.2} | |", row.ratio.median, row.ratio.min, row.ratio.max);
    report.rows.push(row);
    report.write()
}

async fn round(rig: &mut Rig, capture_first: bool) -> Result<Round> {
    let slot = format!("{}_recvlogical", rig.database.workspace.database());
    let make = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    rig.database.writer.execute(make, &[&slot]).await.while_doing("PostgreSQL", "make a second slot")?;
    rig.subscription.stop().await?;
    let ids = rig.ids(ROWS);
    for first in ids.clone().step_by(ROWS_A_TRANSACTION as usize) {
        rig.database.insert(&(first..first + i64::from(ROWS_A_TRANSACTION))).await?;
    }
    if capture_first {
        let capture = drain_by_capture(rig, &ids).await?;
        Ok(Round { capture, pg_recvlogical: drain_by_pg_recvlogical(rig, &slot).await? })
    } else {
        let pg_recvlogical = drain_by_pg_recvlogical(rig, &slot).await?;
        Ok(Round { capture: drain_by_capture(rig, &ids).await?, pg_recvlogical })
    }
}

/// From resuming the capture until the last change is visible.
async fn drain_by_capture(rig: &mut Rig, ids: &std::ops::Range<i64>) -> Result<Duration> {
    let started = Instant::now();
    rig.subscription.resume().await?;
    see_all(rig.subscription.as_mut(), ids, |_| {}).await?;
    let took = started.elapsed();
    rig.subscription.stop().await?;
    Ok(took)
}

/// Times the program within its container, so that the engine's own time doesn't count.
const TIMED: &str = r#"begin=$EPOCHREALTIME; "$@" && echo "$begin $EPOCHREALTIME""#;

/// From the program's start until its end.
async fn drain_by_pg_recvlogical(rig: &Rig, slot: &str) -> Result<Duration> {
    let end = end_of_log(&rig.database.writer).await?.to_string();
    let endpoint = rig.database.endpoint()?;
    let publication = format!("publication_names={PUBLICATION}");
    let command = [
        &["bash", "-c", TIMED, "bash", "pg_recvlogical", "--start", "--no-loop", "--file", "/dev/null"][..],
        &["--username", endpoint.user(), "--dbname", rig.database.workspace.database(), "--slot", slot],
        &["--endpos", &end, "--option", "proto_version=2", "--option", &publication],
        &["--option", "messages=true", "--option", "streaming=on"],
    ];
    let told = docker::run_in(&endpoint.container, &command.concat()).await?;
    let mut times_s = told.split_whitespace().map(str::parse::<f64>);
    match (times_s.next(), times_s.next()) {
        (Some(Ok(begin)), Some(Ok(end))) => {
            Duration::try_from_secs_f64(end - begin).while_doing("the bench", "time pg_recvlogical")
        }
        _ => Err(Error::new("the bench", "time pg_recvlogical", format!("it told “{told}”"))),
    }
}
