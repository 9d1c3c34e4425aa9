//! What the benches of the table formats share. Each compiles it in: the formats need different releases of Arrow.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    stack::run_scripts,
};
use criterion::Criterion;
use serde_json::Value;

/// Set to 1, times Spark too; its image is built if it is missing.
const WITH_SPARK: &str = "CHANGEPROOF_BENCH_SPARK";

/// What scripts for Spark begin with.
const COMMON: &str = include_str!("../../scenarios/spark/common.py");

const MEMORY_MB: u32 = 4096;

const RUNS: usize = 7;

/// How many rows a commit has whose way to a tail is measured.
pub(crate) const TIERS: [usize; 3] = [1_000, 10_000, 100_000];

/// How many commits of each tier.
pub(crate) const COMMITS: usize = 20;

pub(crate) fn criterion() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(8))
}

pub(crate) fn must_be<T: Copy + PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::new("the bench", format!("count {what}"), format!("{got:?} and not {expected:?}")))
}

/// Times two things by turns, so that a machine that gets slower does so for both, and returns the median of each.
pub(crate) fn by_turns(
    mut one: impl FnMut() -> Result<()>,
    mut other: impl FnMut() -> Result<()>,
) -> Result<(Duration, Duration)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let began = Instant::now();
        one()?;
        ones.push(began.elapsed());
        let began = Instant::now();
        other()?;
        others.push(began.elapsed());
    }
    Ok((percentile(&mut ones, 50), percentile(&mut others, 50)))
}

pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints how long commits of a tier took to arrive at a tail.
pub(crate) fn print_lag(what: &str, rows: usize, times: &mut [Duration]) {
    let [p50, p95, p99] = [50, 95, 99].map(|percent| ms(percentile(times, percent)));
    println!("lag, {what}: {} commits of {rows} rows: p50 {p50:.0} ms, p95 {p95:.0} ms, p99 {p99:.0} ms", times.len());
}

/// Runs a script in Spark's image on a folder, if that is asked for, and returns the JSON object that it prints.
pub(crate) async fn spark(folder: &Path, script: &str, arguments: &[&str]) -> Result<Option<Value>> {
    if std::env::var_os(WITH_SPARK).is_none_or(|with| with != "1") {
        return Ok(None);
    }
    let folder_text = folder.to_string_lossy();
    let arguments: Vec<&str> = [&*folder_text].into_iter().chain(arguments.iter().copied()).collect();
    let scripts = [("bench.py", script), ("common.py", COMMON)];
    let told = run_scripts("spark", folder, MEMORY_MB, &scripts, &arguments).await?;
    // The JVM has things to say on the same stream.
    let told = told.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(told).map(Some).while_doing("the bench", "read Spark's times")
}

/// A number that a script has told.
pub(crate) fn number(told: &Value, name: &str) -> f64 {
    told[name].as_f64().unwrap_or(f64::NAN)
}
