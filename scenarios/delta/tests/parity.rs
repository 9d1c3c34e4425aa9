//! Delta Lake by an implementation that no one here wrote: of what Spark writes our feed tells what Spark's `table_changes`
//! tells, row by row, and so it is the other way round.
//!
//! `CHANGEPROOF_SEED=…` makes other random statements.

#[path = "../../spark/mod.rs"]
mod spark;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use changeproof::{
    Change, Op,
    error::{Context, Result},
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef, raw},
    source::Source as _,
    stack::run_guard_if_asked,
};
use changeproof_delta::{ChangeFeed, Source, address_of, open_table};
use futures_util::TryStreamExt;
use libtest_mimic::Arguments;
use serde_json::json;

use self::spark::{Told, commits, json_row, read, seed, spark, statements, told, trial, wrong};

const SCRIPT: &str = include_str!("../spark/parity.py");

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        trial("our_feed_of_what_spark_writes", |folder| Box::pin(our_feed_of_what_spark_writes(folder))),
        trial("spark_tells_the_feed_of_what_we_write", |folder| {
            Box::pin(spark_tells_the_feed_of_what_we_write(folder))
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

async fn our_feed_of_what_spark_writes(folder: &Path) -> Result<()> {
    let seed = seed();
    let all = statements(seed);
    let table = |name: &str, statements: &[String], more: &[(&str, &str)]| {
        let feed = [("delta.enableChangeDataFeed", "true"), ("changeproof.key", r#"["id"]"#)];
        let properties: BTreeMap<_, _> = feed.iter().chain(more).copied().collect();
        json!({ "name": name, "properties": properties, "statements": statements })
    };
    let vectors = ("delta.enableDeletionVectors", "true");
    let by_name = ("delta.columnMapping.mode", "name");
    let spec = json!([
        table("plain", &all, &[("delta.enableDeletionVectors", "false")]),
        table("deletion_vectors", &all, &[vectors]),
        table("column_mapping", &all[..2], &[by_name]),
    ]);
    spark(folder, SCRIPT, "write", &spec).await?;
    for name in ["plain", "deletion_vectors"] {
        let seen = same(folder, name, &folder.join(name)).await;
        if seen? < 7 {
            return Err(wrong("compare with Spark", format!("{name}: too few commits have changes")));
        }
    }
    // Its columns bear other names in the files, which delta-rs doesn't undo in the feed, and says so.
    match our_changes(&folder.join("column_mapping")).await {
        Err(error) if error.to_string().contains("olumn mapping") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(wrong(
            "see delta-rs refuse the feed of a table with column mapping",
            "it reads it now: compare it with Spark's",
        )),
    }
}

/// Compares our feed with Spark's, and returns how many commits have changes.
async fn same(folder: &Path, name: &str, table: &Path) -> Result<usize> {
    let theirs = read(&folder.join(format!("{name}.changes.jsonl")))?;
    let theirs = commits(theirs.lines().map(spark_change).collect::<Result<_>>()?);
    let ours = commits(our_changes(table).await?);
    match ours.iter().zip(&theirs).enumerate().find(|(_, (ours, theirs))| ours != theirs) {
        Some((number, (ours, theirs))) => {
            let cause =
                format!("{name}, CHANGEPROOF_SEED={}, commit {number}: we tell {ours:#?}, Spark {theirs:#?}", seed());
            Err(wrong("tell what Spark tells", cause))
        }
        None if ours.len() != theirs.len() => {
            let cause =
                format!("{name}, CHANGEPROOF_SEED={}: {} commits, Spark has {}", seed(), ours.len(), theirs.len());
            Err(wrong("tell what Spark tells", cause))
        }
        None => Ok(ours.len()),
    }
}

fn spark_change(line: &str) -> Result<Told> {
    let json: serde_json::Value = serde_json::from_str(line).while_doing("the test", "read Spark's changes")?;
    let kind = json["_change_type"].as_str().unwrap_or_default();
    Ok(told(json["_commit_version"].as_i64().unwrap_or(-1), kind, &json_row(&json)))
}

async fn our_changes(table: &Path) -> Result<Vec<Told>> {
    let table = open_table(address_of(&table.to_string_lossy())?).await?;
    let mut commits = ChangeFeed::of(&table).stream();
    let mut all = Vec::new();
    while let Some(commit) = commits.try_next().await? {
        let version = i64::try_from(commit.version()).while_doing("the test", "number the commits")?;
        for Change { op, before, after, .. } in commit.changes(&"t".into())? {
            let (gone, came) = match op {
                Op::Update => ("update_preimage", "update_postimage"),
                _ => ("delete", "insert"),
            };
            all.extend(before.iter().map(|row| told(version, gone, row)));
            all.extend(after.iter().map(|row| told(version, came, row)));
        }
    }
    Ok(all)
}

async fn spark_tells_the_feed_of_what_we_write(folder: &Path) -> Result<()> {
    let mut source = Source::create(folder).await?;
    let table = TableBuilder::new("ours").key("id", Type::Int).column("name", Type::Text).column("n", Type::BigInt);
    let table = table.build();
    let t = TableRef::new(&table);
    let steps = [
        Action::CreateTable(table).into(),
        t.insert_many((1..=50).map(|id| row! { id: id, name: format!("n{id}"), n: i64::from(id) })),
        t.update(7, row! { name: "changed" }),
        t.delete(8),
        t.add_column("extra", Type::Text),
        raw("MERGE", [t.delete(9), t.update(10, row! { extra: "x" }), t.insert(row! { id: 60, name: "late" })]),
        t.update(7, row! { n: -7 }),
        t.delete(row! { n: 20 }),
        t.truncate(),
    ];
    for step in steps {
        source.apply(&step).await?;
    }
    spark(folder, SCRIPT, "read", &json!(["ours"])).await?;
    match same(folder, "ours", &folder.join("public/ours")).await? {
        7 => Ok(()),
        commits => Err(wrong("compare with Spark", format!("{commits} commits have changes"))),
    }
}
