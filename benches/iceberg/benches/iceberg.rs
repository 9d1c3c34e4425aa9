//! The changelog scan against a plain read of the same files, against Spark and, for appends, against PyIceberg; the lag of a
//! tail; the manifest diff by the table's size.

#[path = "../../shared/mod.rs"]
mod shared;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use changeproof::error::{Context, Result};
use changeproof_benches_iceberg::{CHANGED, Growing, Listed, ROWS, Rewrite, Rewritten};
use tokio::runtime::Runtime;

use self::shared::{COMMITS, TIERS, by_turns, criterion, ms, must_be, number, print_lag, spark};

const CHANGELOG: &str = include_str!("../spark.py");
const APPENDS: &str = include_str!("../pyiceberg.py");

fn main() -> Result<()> {
    changeproof::stack::run_guard_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().while_doing("the bench", "start")?;
    let folder = std::env::temp_dir().join(format!("changeproof-bench-iceberg-{}", std::process::id()));
    let measured = changelog(&runtime, &folder.join("changed"))
        .and_then(|()| deleted(&runtime, &folder.join("deleted")))
        .and_then(|()| appended(&runtime, &folder.join("appended")))
        .and_then(|()| lag(&runtime, &folder.join("lag")))
        .and_then(|()| manifests(&runtime, &folder));
    std::fs::remove_dir_all(&folder).while_doing("the bench", "remove its folder")?;
    measured
}

fn changelog(runtime: &Runtime, folder: &Path) -> Result<()> {
    let table = runtime.block_on(Rewritten::create(folder, Rewrite::Changed))?;
    let scan = against_the_floor(runtime, "changelog", &table, CHANGED, 2 * ROWS)?;
    let (before, after) = table.snapshots();
    let told = runtime.block_on(spark(folder, CHANGELOG, &[&before.to_string(), &after.to_string()]))?;
    if let Some(told) = told {
        must_be("Spark's changes", told["changes"].as_u64(), u64::try_from(2 * CHANGED).ok())?;
        let (warm, session) = (number(&told, "warm_s"), number(&told, "session_s"));
        let times = warm / scan.as_secs_f64();
        println!("changelog: Spark {warm:.2} s warm, {session:.1} s its session; {times:.1} times our scan");
    }
    Ok(())
}

fn deleted(runtime: &Runtime, folder: &Path) -> Result<()> {
    let table = runtime.block_on(Rewritten::create(folder, Rewrite::Deleted))?;
    against_the_floor(runtime, "deletes", &table, CHANGED, 2 * ROWS - CHANGED).map(drop)
}

fn appended(runtime: &Runtime, folder: &Path) -> Result<()> {
    let table = runtime.block_on(Rewritten::create(folder, Rewrite::Appended))?;
    let scan = against_the_floor(runtime, "appends", &table, ROWS, ROWS)?;
    let (before, after) = table.snapshots();
    let told = runtime.block_on(spark(folder, APPENDS, &[&before.to_string(), &after.to_string()]))?;
    if let Some(told) = told {
        must_be("PyIceberg's rows", told["rows"].as_u64(), u64::try_from(ROWS).ok())?;
        let warm = number(&told, "warm_s");
        println!("appends: PyIceberg {warm:.2} s warm; {:.1} times our scan", warm / scan.as_secs_f64());
    }
    Ok(())
}

/// Times the scan for the changes and a plain read of the same files, and returns the former.
fn against_the_floor(runtime: &Runtime, name: &str, table: &Rewritten, changes: i64, rows: i64) -> Result<Duration> {
    must_be("changes", runtime.block_on(table.scan())?, usize::try_from(changes).unwrap_or(0))?;
    must_be("rows", table.read()?, usize::try_from(rows).unwrap_or(0))?;
    let mut criterion = criterion();
    criterion.bench_function(&format!("{name}/scan"), |bench| bench.iter(|| runtime.block_on(table.scan()).is_ok()));
    criterion.bench_function(&format!("{name}/floor"), |bench| bench.iter(|| table.read().is_ok()));
    let (scan, floor) = by_turns(|| runtime.block_on(table.scan()).map(drop), || table.read().map(drop))?;
    println!("{name}: scan {:.0} ms, plain read {:.0} ms, ratio {:.2}", ms(scan), ms(floor), ms(scan) / ms(floor));
    Ok(scan)
}

/// From a commit to its last row at a tail.
fn lag(runtime: &Runtime, folder: &Path) -> Result<()> {
    for rows in TIERS {
        let mut table = runtime.block_on(Growing::create(&folder.join(rows.to_string())))?;
        let mut times = Vec::new();
        for _ in 0..COMMITS {
            let committed = runtime.block_on(table.append(rows))?;
            must_be("rows at the tail", runtime.block_on(table.follow(rows))?, rows)?;
            times.push(Instant::now().saturating_duration_since(committed));
        }
        print_lag("changelog scan", rows, &mut times);
    }
    Ok(())
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
