//! The Change Data Feed of a commit, and of the whole table, against Spark's `table_changes`; the lag of a tail.

#[path = "../../shared/mod.rs"]
mod shared;

use std::{path::Path, time::Instant};

use changeproof::error::{Context, Result};
use changeproof_benches_delta::{CHANGED, Events, ROWS};
use tokio::runtime::Runtime;

use self::shared::{COMMITS, TIERS, by_turns, criterion, ms, must_be, number, print_lag, spark};

const SPARK: &str = include_str!("../spark.py");

/// The versions of the table: made, filled, updated.
const FILLED: u64 = 1;

fn main() -> Result<()> {
    changeproof::stack::run_guard_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().while_doing("the bench", "start")?;
    let folder = std::env::temp_dir().join(format!("changeproof-bench-delta-{}", std::process::id()));
    let measured = feed(&runtime, &folder.join("feed")).and_then(|()| lag(&runtime, &folder.join("lag")));
    std::fs::remove_dir_all(&folder).while_doing("the bench", "remove its folder")?;
    measured
}

fn feed(runtime: &Runtime, folder: &Path) -> Result<()> {
    let mut table = runtime.block_on(Events::create(folder))?;
    runtime.block_on(table.append(ROWS))?;
    runtime.block_on(table.update())?;
    let (one, all) = (2 * CHANGED, ROWS + 2 * CHANGED);
    must_be("rows of the update", runtime.block_on(table.feed(FILLED))?, one)?;
    must_be("rows of all versions", runtime.block_on(table.feed(0))?, all)?;
    let mut criterion = criterion();
    criterion.bench_function("feed/update", |bench| bench.iter(|| runtime.block_on(table.feed(FILLED)).is_ok()));
    criterion.bench_function("feed/all", |bench| bench.iter(|| runtime.block_on(table.feed(0)).is_ok()));
    let (of_one, of_all) =
        by_turns(|| runtime.block_on(table.feed(FILLED)).map(drop), || runtime.block_on(table.feed(0)).map(drop))?;
    println!("feed: of an update of {CHANGED} rows {:.0} ms, of all {all} rows {:.0} ms", ms(of_one), ms(of_all));
    if let Some(told) = runtime.block_on(spark(folder, SPARK, &[]))? {
        for (part, rows, ours) in [("update", one, of_one), ("all", all, of_all)] {
            must_be("Spark's rows", told[part]["rows"].as_u64(), u64::try_from(rows).ok())?;
            let warm = number(&told[part], "warm_s");
            println!("feed, {part}: Spark {warm:.2} s warm; {:.1} times ours", warm / ours.as_secs_f64());
        }
        println!("feed: Spark's session {:.1} s", number(&told, "session_s"));
    }
    Ok(())
}

/// From a commit to its last row at a tail.
fn lag(runtime: &Runtime, folder: &Path) -> Result<()> {
    for rows in TIERS {
        let mut table = runtime.block_on(Events::create(&folder.join(rows.to_string())))?;
        let mut times = Vec::new();
        for _ in 0..COMMITS {
            let committed = runtime.block_on(table.append(rows))?;
            must_be("rows at the tail", runtime.block_on(table.follow(rows))?, rows)?;
            times.push(Instant::now().saturating_duration_since(committed));
        }
        print_lag("change data feed", rows, &mut times);
    }
    Ok(())
}
