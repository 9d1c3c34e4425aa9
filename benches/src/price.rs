//! What a capture costs its source: transactions per second of writers that wait for each answer, with each method on and
//! with none.
//!
//! Each round measures all of them, each on a database of its own. Every change is checked when it is seen: a row's
//! versions must come one after the other, and in the end be those that were written.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use changeproof::{
    Op,
    capture::{Capture, Subscription, fence_number},
    change::Change,
    error::{Context, Error, Result},
    stack::{Service, Stack},
};
use serde::Serialize;
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    Setup,
    load::{next, number},
    report::Report,
    rig::Database,
    server::Target,
    spread::Spread,
};

const ROUNDS: usize = 3;
const WRITERS: i64 = 4;

/// Not counted: the server's caches and the capture get going.
const WARM_UP: Duration = Duration::from_millis(500);
const COUNTED: Duration = Duration::from_secs(2);

/// Rows that are there before, for the updates.
const ROWS_BEFORE: i64 = 10_000;

/// The figures of one method, or of none.
#[derive(Debug, Serialize)]
struct Row {
    method: &'static str,
    profile: &'static str,
    rounds: usize,
    writers: i64,
    transactions_per_s: Spread,
    /// Against none in the same round.
    ratio: Spread,
    /// From the end of the last transaction until its change was visible: how far the capture lagged behind.
    catch_up_ms: Spread,
}

/// What one of them came to in one round.
#[derive(Clone, Copy)]
struct Measured {
    transactions_per_s: f64,
    catch_up: Duration,
}

/// Measures the rounds, and writes a report.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) async fn measure(
    writers: &Handle,
    storage: &'static str,
    idle: &'static dyn Capture,
    setups: &[Setup],
) -> Result<()> {
    // All services run while any method is measured, or none.
    let mut services: Vec<Service> = setups.iter().flat_map(|setup| setup.method.services()).copied().collect();
    services.sort_unstable();
    services.dedup();
    let _running = Stack::acquire(&services).await?;

    let mut report = Report::new(storage, "price", setups);
    let of_all: Vec<Option<&Setup>> = std::iter::once(None).chain(setups.iter().map(Some)).collect();
    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); of_all.len()];
    for _ in 0..ROUNDS {
        for (setup, measured) in of_all.iter().zip(&mut measured) {
            measured.push(measure_one(writers, idle, *setup, &mut report).await?);
        }
    }
    println!("| method, profile | transactions/s | against none | min | max | caught up after |");
    println!("|---|---:|---:|---:|---:|---:|");
    let none = measured.first().cloned().unwrap_or_default();
    for (setup, measured) in of_all.iter().zip(&measured) {
        let ratio = measured.iter().zip(&none).map(|(one, none)| one.transactions_per_s / none.transactions_per_s);
        let row = Row {
            method: setup.map_or("none", |setup| setup.method.name()),
            profile: setup.map_or("", Setup::profile_name),
            rounds: ROUNDS,
            writers: WRITERS,
            transactions_per_s: Spread::of(measured.iter().map(|one| one.transactions_per_s)),
            ratio: Spread::of(ratio),
            catch_up_ms: Spread::of(measured.iter().map(|one| one.catch_up.as_secs_f64() * 1e3)),
        };
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} ms |",
            if setup.is_some() { format!("{}, {}", row.method, row.profile) } else { row.method.to_owned() },
            row.transactions_per_s.median,
            row.ratio.median,
            row.ratio.min,
            row.ratio.max,
            row.catch_up_ms.median
        );
        report.rows.push(row);
    }
    report.write()
}

/// Without a method there is what an idle one has prepared, such as a publication that nobody reads, which costs nothing.
async fn measure_one(
    writers: &Handle,
    idle: &'static dyn Capture,
    setup: Option<&Setup>,
    report: &mut Report<Row>,
) -> Result<Measured> {
    let mut database = Database::open(setup.map_or(idle, |setup| setup.method)).await?;
    if setup.is_some() {
        report.describe(&database.versions().await?);
    }
    let measured = write_and_read(writers, &mut database, setup).await;
    database.close().await?;
    measured
}

async fn write_and_read(writers: &Handle, database: &mut Database, setup: Option<&Setup>) -> Result<Measured> {
    database.writer.insert(&(1..ROWS_BEFORE + 1)).await?;
    database.writer.run(database.target.analyze()).await?;
    let Some(setup) = setup else {
        let written = write(writers, database).await?;
        return Ok(Measured { transactions_per_s: written.per_s(), catch_up: Duration::ZERO });
    };
    let mut subscription = database.capture(setup).await?;
    let writing = async {
        let written = write(writers, database).await?;
        let ended = Instant::now();
        database.workspace.source.write_fence().await?;
        Ok::<_, Error>((written, ended))
    };
    let mut ledger = Ledger::default();
    let ((written, ended), ()) = tokio::try_join!(writing, ledger.read(subscription.as_mut()))?;
    let catch_up = ended.elapsed();
    ledger.compare(&written.versions)?;
    Ok(Measured { transactions_per_s: written.per_s(), catch_up })
}

/// What writers have done.
#[derive(Default)]
struct Written {
    counted: u32,
    /// The last version of each row that they changed.
    versions: HashMap<i64, i64>,
}

impl Written {
    fn per_s(&self) -> f64 {
        f64::from(self.counted) / COUNTED.as_secs_f64()
    }
}

async fn write(writers: &Handle, database: &Database) -> Result<Written> {
    let mut writing = JoinSet::new();
    let begin = Instant::now() + WARM_UP;
    for number in 0..WRITERS {
        writing.spawn_on(write_by_turns(database.target.clone(), number, begin), writers);
    }
    let mut all = Written::default();
    while let Some(written) = writing.join_next().await {
        let written = written.while_doing("the bench", "write")??;
        all.counted += written.counted;
        all.versions.extend(written.versions);
    }
    Ok(all)
}

/// Inserts a row and updates an older one by turns. No other writer touches these rows.
async fn write_by_turns(target: Target, writer: i64, begin: Instant) -> Result<Written> {
    const STRIDE: i64 = 7919;
    let connection = target.connect().await?;
    let mut written = Written::default();
    let end = begin + COUNTED;
    for turn in 0_i64.. {
        let is_insert = turn % 2 == 0;
        let (id, version) = if is_insert {
            (ROWS_BEFORE + 1 + turn / 2 * WRITERS + writer, 0)
        } else {
            let id = 1 + writer + (turn * STRIDE) % (ROWS_BEFORE / WRITERS) * WRITERS;
            (id, written.versions.get(&id).map_or(1, |version| version + 1))
        };
        match is_insert {
            true => connection.insert_one(id).await?,
            false => connection.update_one(id, version).await?,
        }
        written.versions.insert(id, version);
        let now = Instant::now();
        if now > end {
            break;
        }
        written.counted += u32::from(now > begin);
    }
    Ok(written)
}

/// The versions of rows as their changes have been seen.
#[derive(Default)]
struct Ledger(HashMap<i64, i64>);

impl Ledger {
    /// Takes changes until the fence.
    async fn read(&mut self, subscription: &mut dyn Subscription) -> Result<()> {
        loop {
            let change = next(subscription, || format!("{} rows were seen, not yet the fence", self.0.len())).await?;
            if fence_number(&change).is_some() {
                return Ok(());
            }
            if !self.takes(&change) {
                return Err(Error::new("the bench", "see each change once", format!("{change:?}")));
            }
        }
    }

    /// Whether a change is the next of its row; the latest state that polling delivers may leave some out.
    fn takes(&mut self, change: &Change) -> bool {
        let (Some(id), Some(version)) = (number(change, "id"), number(change, "version")) else { return false };
        let before = self.0.insert(id, version);
        match change.op {
            Op::Insert => before.is_none() && version == 0,
            Op::Update => version == before.unwrap_or(0) + 1,
            Op::Upsert => before.is_none_or(|before| version > before),
            _ => false,
        }
    }

    fn compare(&self, written: &HashMap<i64, i64>) -> Result<()> {
        let differs = written.iter().filter(|(id, version)| self.0.get(id) != Some(version)).count();
        if differs == 0 && self.0.len() == written.len() {
            return Ok(());
        }
        let seen = format!("{differs} of {} rows were not seen as they are; {} were seen", written.len(), self.0.len());
        Err(Error::new("the bench", "see every change", seen))
    }
}

#[cfg(test)]
mod tests {
    use changeproof::row;

    use super::*;

    fn change(op: Op, id: i64, version: i64) -> Change {
        Change { after: Some(row! { id: id, version: version }), ..Change::new(op, "readings".into()) }
    }

    #[test]
    fn a_version_left_out_or_repeated_is_not_taken_and_polling_may_leave_some_out() {
        let mut ledger = Ledger::default();
        assert!(ledger.takes(&change(Op::Insert, 1, 0)) && ledger.takes(&change(Op::Update, 1, 1)));
        assert!(!ledger.takes(&change(Op::Update, 1, 1)), "repeated");
        assert!(!ledger.takes(&change(Op::Update, 1, 3)), "left out");
        assert!(ledger.takes(&change(Op::Upsert, 2, 0)) && ledger.takes(&change(Op::Upsert, 2, 5)));
        assert!(!ledger.takes(&change(Op::Upsert, 2, 5)), "repeated");
    }

    #[test]
    fn rows_written_and_not_seen_are_told() {
        let ledger = Ledger(HashMap::from([(1, 0)]));
        assert!(ledger.compare(&HashMap::from([(1, 0)])).is_ok());
        assert!(ledger.compare(&HashMap::from([(1, 0), (2, 0)])).is_err());
        assert!(ledger.compare(&HashMap::new()).is_err());
    }
}
