//! The changelog scan against a plain read of the same files, and against Spark; the manifest diff by the table's size.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    stack::{Stack, docker, image_tag},
};
use changeproof_benches_iceberg::{CHANGED, Listed, ROWS, Rewrite, Rewritten};
use criterion::Criterion;
use tokio::runtime::Runtime;

/// Set to 1, times Spark too; its image is built if it is missing.
const WITH_SPARK: &str = "CHANGEPROOF_BENCH_SPARK";

const SPARK: &str = include_str!("../spark.py");

const RUNS: u32 = 7;

fn main() -> Result<()> {
    changeproof::stack::run_guard_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().while_doing("the bench", "start")?;
    let folder = std::env::temp_dir().join(format!("changeproof-bench-iceberg-{}", std::process::id()));
    let measured = changelog(&runtime, &folder.join("changed"))
        .and_then(|()| deleted(&runtime, &folder.join("deleted")))
        .and_then(|()| manifests(&runtime, &folder));
    std::fs::remove_dir_all(&folder).while_doing("the bench", "remove its folder")?;
    measured
}

fn criterion() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(8))
}

fn must_be<T: Copy + PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::new("the bench", format!("count {what}"), format!("{got:?} and not {expected:?}")))
}

fn changelog(runtime: &Runtime, folder: &Path) -> Result<()> {
    let table = runtime.block_on(Rewritten::create(folder, Rewrite::Changed))?;
    let scan = against_the_floor(runtime, "changelog", &table, 2 * ROWS)?;
    if std::env::var_os(WITH_SPARK).is_some_and(|with| with == "1") {
        let told = runtime.block_on(spark(folder, table.snapshots()))?;
        // The JVM has things to say on the same stream.
        let told = told.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        let times: serde_json::Value = serde_json::from_str(told).while_doing("the bench", "read Spark's times")?;
        let warm = times["warm_s"].as_f64().unwrap_or(f64::NAN);
        must_be("Spark's changes", times["changes"].as_u64(), u64::try_from(2 * CHANGED).ok())?;
        println!(
            "changelog: Spark {:.2} s warm, {} s its session; {:.1} times our scan",
            warm,
            times["session_s"],
            warm / scan.as_secs_f64()
        );
    }
    Ok(())
}

fn deleted(runtime: &Runtime, folder: &Path) -> Result<()> {
    let table = runtime.block_on(Rewritten::create(folder, Rewrite::Deleted))?;
    against_the_floor(runtime, "deletes", &table, 2 * ROWS - CHANGED).map(drop)
}

/// Times the scan for the changes and a plain read of the same files, and returns the former.
fn against_the_floor(runtime: &Runtime, name: &str, table: &Rewritten, rows: i64) -> Result<Duration> {
    must_be("changes", runtime.block_on(table.scan())?, usize::try_from(CHANGED).unwrap_or(0))?;
    must_be("rows", table.read()?, usize::try_from(rows).unwrap_or(0))?;
    let mut criterion = criterion();
    criterion.bench_function(&format!("{name}/scan"), |bench| bench.iter(|| runtime.block_on(table.scan()).is_ok()));
    criterion.bench_function(&format!("{name}/floor"), |bench| bench.iter(|| table.read().is_ok()));
    // One after the other, so that a machine that gets slower does so for both.
    let (mut scans, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let began = Instant::now();
        runtime.block_on(table.scan())?;
        scans.push(began.elapsed());
        let began = Instant::now();
        table.read()?;
        floors.push(began.elapsed());
    }
    let (scan, floor) = (median(scans), median(floors));
    println!("{name}: scan {:.0} ms, plain read {:.0} ms, ratio {:.2}", ms(scan), ms(floor), ms(scan) / ms(floor));
    Ok(scan)
}

async fn spark(folder: &Path, (before, after): (i64, i64)) -> Result<String> {
    let stack = Stack::with_engine(&[]).await?;
    let script = folder.join("spark.py");
    std::fs::write(&script, SPARK).while_doing("the bench", "write the script")?;
    let (before, after) = (before.to_string(), after.to_string());
    let command = ["python3", &script.to_string_lossy(), &folder.to_string_lossy(), &before, &after];
    docker::run_on_folder(stack.state(), &image_tag("spark").await?, folder, 4096, &command).await
}

fn manifests(runtime: &Runtime, folder: &Path) -> Result<()> {
    let mut criterion = criterion();
    for files in [10, 100, 1_000, 10_000] {
        let table = runtime.block_on(Listed::create(&folder.join(format!("listed-{files}")), files))?;
        must_be("files and manifests read", runtime.block_on(table.diff())?, (1, 1))?;
        criterion.bench_function(&format!("manifests/{files}"), |bench| {
            bench.iter(|| runtime.block_on(table.diff()).is_ok());
        });
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
