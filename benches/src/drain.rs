//! How fast a backlog is read: native logical replication against PostgreSQL's own `pg_recvlogical`.
//!
//! In each round a slot for each reader is made at the same moment, then the backlog is written while nobody reads, then
//! one reader after the other drains its slot, in another order each time. `pg_recvlogical` throws away what it reads; the
//! capture decodes it into typed rows, and each row is checked.
//!
//! pgoutput sends each change in a packet of its own, so the way to the server counts: `pg_recvlogical` goes once the
//! capture's way (TCP to the port that the engine publishes) and once the shortest there is (a Unix socket, within the
//! server's container).

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    postgres::{PUBLICATION, end_of_log},
    stack::docker,
};
use serde::Serialize;

use crate::{Setup, load::see_all, report::Report, rig::Rig, spread::Spread};

const ROUNDS: usize = 6;

const ROWS: u32 = 100_000;
const ROWS_A_TRANSACTION: u32 = 100;

/// Who drains a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reader {
    Capture,
    PgRecvlogicalTheSameWay,
    PgRecvlogicalByUnixSocket,
}

impl Reader {
    const ALL: [Self; 3] = [Self::Capture, Self::PgRecvlogicalTheSameWay, Self::PgRecvlogicalByUnixSocket];

    fn name(self) -> &'static str {
        match self {
            Self::Capture => "logical",
            Self::PgRecvlogicalTheSameWay => "pg_recvlogical, the same way",
            Self::PgRecvlogicalByUnixSocket => "pg_recvlogical, by Unix socket",
        }
    }
}

/// The figures of one reader.
#[derive(Debug, Serialize)]
struct Row {
    reader: Reader,
    rows: u32,
    rows_a_transaction: u32,
    rounds: usize,
    took_ms: Spread,
    changes_per_s: f64,
    /// The capture's speed as a multiple of this one's, by round.
    capture_is_faster_by: Spread,
}

/// What each reader took for the same backlog, in the order of [`Reader::ALL`].
type Round = [Duration; Reader::ALL.len()];

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
        let measured = round(&mut rig, number).await;
        rig.close().await?;
        let measured = measured?;
        if number > 0 {
            rounds.push(measured);
        }
    }
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    println!("| {ROWS} changes read by | median | min | max | changes/s | logical's speed | min | max |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (at, reader) in Reader::ALL.into_iter().enumerate() {
        let took_ms = Spread::of(rounds.iter().map(|round| ms(round[at])));
        let row = Row {
            reader,
            rows: ROWS,
            rows_a_transaction: ROWS_A_TRANSACTION,
            rounds: rounds.len(),
            took_ms,
            changes_per_s: f64::from(ROWS) * 1e3 / took_ms.median,
            capture_is_faster_by: Spread::of(rounds.iter().map(|round| ms(round[at]) / ms(round[0]))),
        };
        let (took, ratio) = (row.took_ms, row.capture_is_faster_by);
        println!(
            "| {} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} | {:.2}× | {:.2}× | {:.2}× |",
            reader.name(),
            took.median,
            took.min,
            took.max,
            row.changes_per_s,
            ratio.median,
            ratio.min,
            ratio.max
        );
        report.rows.push(row);
    }
    report.write()
}

async fn round(rig: &mut Rig, number: usize) -> Result<Round> {
    let slot = |reader: Reader| format!("{}_{}", rig.database.workspace.database(), reader as u8);
    let slots = Reader::ALL.map(slot);
    for slot in &slots[1..] {
        let make = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
        rig.database.writer.execute(make, &[slot]).await.while_doing("PostgreSQL", "make a further slot")?;
    }
    rig.subscription.stop().await?;
    let ids = rig.ids(ROWS);
    for first in ids.clone().step_by(ROWS_A_TRANSACTION as usize) {
        rig.database.insert(&(first..first + i64::from(ROWS_A_TRANSACTION))).await?;
    }
    let mut took = Round::default();
    for at in (0..Reader::ALL.len()).map(|turn| (turn + number) % Reader::ALL.len()) {
        took[at] = match Reader::ALL[at] {
            Reader::Capture => drain_by_capture(rig, &ids).await?,
            reader => drain_by_pg_recvlogical(rig, reader, &slots[at]).await?,
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

/// Times the program within its container, so that the engine's own time doesn't count.
const TIMED: &str = r#"begin=$EPOCHREALTIME; "$@" && echo "$begin $EPOCHREALTIME""#;

/// From the program's start until its end.
async fn drain_by_pg_recvlogical(rig: &Rig, reader: Reader, slot: &str) -> Result<Duration> {
    let database = &rig.database;
    let (end, endpoint) = (end_of_log(&database.writer).await?.to_string(), database.endpoint()?);
    let (publication, port) = (format!("publication_names={PUBLICATION}"), endpoint.port.to_string());
    let mut command = [
        &["bash", "-c", TIMED, "bash", "pg_recvlogical", "--start", "--no-loop", "--file", "/dev/null"][..],
        &["--username", endpoint.user(), "--dbname", database.workspace.database(), "--slot", slot],
        &["--endpos", &end, "--option", "proto_version=2", "--option", &publication],
        &["--option", "messages=true", "--option", "streaming=on"],
    ]
    .concat();
    let told = if reader == Reader::PgRecvlogicalByUnixSocket {
        docker::run_in(&endpoint.container, &command).await?
    } else {
        command.extend(["--host", "127.0.0.1", "--port", &port]);
        let password = [format!("PGPASSWORD={}", endpoint.password)];
        docker::run_beside(database.stack.state(), &endpoint.image, &password, &command).await?
    };
    let mut times_s = told.split_whitespace().map(str::parse::<f64>);
    match (times_s.next(), times_s.next()) {
        (Some(Ok(begin)), Some(Ok(end))) => {
            Duration::try_from_secs_f64(end - begin).while_doing("the bench", "time pg_recvlogical")
        }
        _ => Err(Error::new("the bench", "time pg_recvlogical", format!("it told “{told}”"))),
    }
}
