//! How fast a backlog is read: native logical replication against PostgreSQL's own `pg_recvlogical`.
//!
//! In each round a slot for each reader is made at the same moment, then the backlog is written while nobody reads, then
//! one reader after the other drains its slot, in another order each time. `pg_recvlogical` throws away what it reads; the
//! capture decodes it into typed rows, and each row is checked.
//!
//! pgoutput sends each change in a packet of its own, so the way to the server counts: both readers go once by its Unix
//! socket, the shortest there is, and once by TCP, to the port that the engine publishes.

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

/// How the readers reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    UnixSocket,
    Tcp,
}

impl Way {
    const ALL: [Self; 2] = [Self::UnixSocket, Self::Tcp];

    fn name(self) -> &'static str {
        match self {
            Self::UnixSocket => "Unix socket",
            Self::Tcp => "TCP",
        }
    }

    fn setting(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::UnixSocket => &[],
            Self::Tcp => &[("way", "tcp")],
        }
    }
}

/// Who drains a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reader {
    Capture,
    PgRecvlogical,
}

impl Reader {
    const ALL: [Self; 2] = [Self::Capture, Self::PgRecvlogical];

    fn name(self) -> &'static str {
        match self {
            Self::Capture => "logical",
            Self::PgRecvlogical => "pg_recvlogical",
        }
    }
}

/// The figures of one reader.
#[derive(Debug, Serialize)]
struct Row {
    reader: Reader,
    way: Way,
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

/// Measures the rounds by each way, and writes a report.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn measure(storage: &'static str, setup: &Setup) -> Result<()> {
    let mut report = Report::new(storage, "drain", std::slice::from_ref(setup));
    println!("| {ROWS} changes read by | by | median | min | max | changes/s | logical's speed | min | max |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for way in Way::ALL {
        let setup = Setup { settings: way.setting(), ..*setup };
        let mut rounds = Vec::new();
        // The first is to warm up.
        for number in 0..=ROUNDS {
            let mut rig = Rig::open(&setup).await?;
            report.describe(&rig.database.versions().await?);
            let measured = round(&mut rig, way, number).await;
            rig.close().await?;
            let measured = measured?;
            if number > 0 {
                rounds.push(measured);
            }
        }
        report.rows.extend(Reader::ALL.into_iter().enumerate().map(|(at, reader)| row(way, reader, at, &rounds)));
    }
    report.write()
}

/// Sums a reader's rounds up, and prints them.
fn row(way: Way, reader: Reader, at: usize, rounds: &[Round]) -> Row {
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let took = Spread::of(rounds.iter().map(|round| ms(round[at])));
    let ratio = Spread::of(rounds.iter().map(|round| ms(round[at]) / ms(round[0])));
    let changes_per_s = f64::from(ROWS) * 1e3 / took.median;
    println!(
        "| {} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {changes_per_s:.0} | {:.2}× | {:.2}× | {:.2}× |",
        reader.name(),
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

async fn round(rig: &mut Rig, way: Way, number: usize) -> Result<Round> {
    if way == Way::UnixSocket && rig.database.endpoint()?.unix_socket().is_none() {
        let cause = "the engine doesn't share its files with this machine";
        return Err(Error::new("the bench", "reach the server by its Unix socket", cause)
            .help("run this part on Linux, with the engine on the same machine"));
    }
    let slot = format!("{}_recv", rig.database.workspace.database());
    let make = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    rig.database.writer.execute(make, &[&slot]).await.while_doing("PostgreSQL", "make a further slot")?;
    rig.subscription.stop().await?;
    let ids = rig.ids(ROWS);
    for first in ids.clone().step_by(ROWS_A_TRANSACTION as usize) {
        rig.database.insert(&(first..first + i64::from(ROWS_A_TRANSACTION))).await?;
    }
    let mut took = Round::default();
    for at in (0..Reader::ALL.len()).map(|turn| (turn + number) % Reader::ALL.len()) {
        took[at] = match Reader::ALL[at] {
            Reader::Capture => drain_by_capture(rig, &ids).await?,
            Reader::PgRecvlogical => drain_by_pg_recvlogical(rig, way, &slot).await?,
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
async fn drain_by_pg_recvlogical(rig: &Rig, way: Way, slot: &str) -> Result<Duration> {
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
    let told = if way == Way::UnixSocket {
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
