//! Iceberg by implementations that no one here wrote: what Spark writes is read by our scan, and what our writer writes is
//! read by Spark and PyIceberg. Where Spark can answer, our answer is Spark's, row by row.
//!
//! `CHANGEPROOF_SEED=…` makes other random statements.

#[path = "../../spark/mod.rs"]
mod spark;

use std::{path::Path, process::ExitCode};

use changeproof::{
    Row,
    error::{Context, Result},
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
    stack::run_guard_if_asked,
};
use changeproof_iceberg::{ChangelogScan, Kind, Source, WriteMode, changes, one_commit, open_table};
use futures_util::StreamExt;
use iceberg::spec::FormatVersion;
use libtest_mimic::Arguments;
use serde_json::json;

use self::spark::{Told, commits, json_row, read, seed, spark, statements, told, trial, wrong};

const SCRIPT: &str = include_str!("../spark/parity.py");

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        trial("our_scan_of_what_spark_writes", |folder| Box::pin(our_scan_of_what_spark_writes(folder))),
        trial("others_read_what_we_write", |folder| Box::pin(others_read_what_we_write(folder))),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Copy-on-write: our scan tells what Spark's changelog view tells, row by row. Merge-on-read, by position deletes and by
/// deletion vectors: Spark refuses, and our scan tells what Spark tells of the same statements copy-on-write.
async fn our_scan_of_what_spark_writes(folder: &Path) -> Result<()> {
    let seed = seed();
    let mut statements = statements(seed);
    let compaction = "CALL lake.system.rewrite_data_files(table => 'db.{name}', \
                      options => map('min-input-files', '1', 'delete-file-threshold', '1'))";
    statements.insert(10, compaction.to_owned());
    let table = |name: &str, format: u8, mode: &str| json!({ "name": name, "format": format, "mode": mode, "statements": statements });
    let spec = json!([
        table("copy_on_write", 2, "copy-on-write"),
        table("position_deletes", 2, "merge-on-read"),
        table("deletion_vectors", 3, "merge-on-read"),
    ]);
    spark(folder, SCRIPT, "write", &spec).await?;

    let theirs = read(&folder.join("copy_on_write.changes.jsonl"))?;
    let theirs = commits(theirs.lines().map(spark_change).collect::<Result<_>>()?);
    if theirs.len() < 7 {
        return Err(wrong("compare with Spark", format!("its changelog has {} commits only", theirs.len())));
    }
    for name in ["copy_on_write", "position_deletes", "deletion_vectors"] {
        let ours = commits(our_changes(&folder.join("lake/db").join(name)).await?);
        for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            if ours != theirs {
                let cause =
                    format!("{name}, CHANGEPROOF_SEED={seed}, commit {number}: we tell {ours:#?}, Spark {theirs:#?}");
                return Err(wrong("tell what Spark tells", cause));
            }
        }
        if ours.len() != theirs.len() {
            let cause = format!("{name}, CHANGEPROOF_SEED={seed}: {} commits, Spark has {}", ours.len(), theirs.len());
            return Err(wrong("tell what Spark tells", cause));
        }
        if name != "copy_on_write" {
            let refused = read(&folder.join(format!("{name}.refused")))?;
            if !refused.contains("Delete files are currently not supported in changelog scans") {
                return Err(wrong("see Spark refuse a table with delete files (apache/iceberg#14264)", refused));
            }
        }
    }
    Ok(())
}

fn spark_change(line: &str) -> Result<Told> {
    let json: serde_json::Value = serde_json::from_str(line).while_doing("the test", "read Spark's changes")?;
    let row = json_row(&json);
    let kind = json["_change_type"].as_str().unwrap_or_default();
    Ok(told(json["_change_ordinal"].as_i64().unwrap_or(-1), kind, &row))
}

async fn our_changes(table: &Path) -> Result<Vec<Told>> {
    let table = open_table(table).await?;
    let mut batches = ChangelogScan::new(&table).by_present_schema().stream();
    let mut all = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let ordinal = i64::from(batch.ordinal);
        let (before, after) = match batch.kind {
            Kind::Update => ("UPDATE_BEFORE", "UPDATE_AFTER"),
            Kind::Insert | Kind::Delete => ("DELETE", "INSERT"),
        };
        for change in changes(&batch, &"t".into())? {
            all.extend(change.before.iter().map(|row| told(ordinal, before, row)));
            all.extend(change.after.iter().map(|row| told(ordinal, after, row)));
        }
    }
    Ok(all)
}

/// A table written in each way is read by Spark as we read it; by PyIceberg too, but for equality deletes, which it refuses.
async fn others_read_what_we_write(folder: &Path) -> Result<()> {
    let mut source = Source::create(folder).await?;
    let modes = [
        ("copy_on_write", WriteMode::CopyOnWrite, FormatVersion::V2),
        ("position_deletes", WriteMode::PositionDeletes, FormatVersion::V2),
        ("equality_deletes", WriteMode::EqualityDeletes, FormatVersion::V2),
        ("deletion_vectors", WriteMode::DeletionVectors, FormatVersion::V3),
    ];
    for (name, mode, format) in modes {
        source.write_by(mode);
        source.format(format);
        let table = TableBuilder::new(name).key("id", Type::Int).column("name", Type::Text).column("n", Type::BigInt);
        let table = table.build();
        let t = TableRef::new(&table);
        let steps = [
            Action::CreateTable(table).into(),
            t.insert_many((1..=50).map(|id| row! { id: id, name: format!("n{id}"), n: i64::from(id) })),
            t.update(7, row! { name: "changed" }),
            t.delete(8),
            t.add_column("extra", Type::Text),
            one_commit([t.delete(9), t.update(10, row! { extra: "x" }), t.insert(row! { id: 60, name: "late" })]),
            t.update(7, row! { n: -7 }),
            t.delete(row! { n: 20 }),
        ];
        for step in steps {
            source.apply(&step).await?;
        }
    }
    let names: Vec<&str> = modes.iter().map(|(name, ..)| *name).collect();
    let contents = source.contents().await?;
    spark(folder, SCRIPT, "read", &json!(names)).await?;
    for name in names {
        let held = contents.get(&name.into()).map(|contents| contents.rows.clone()).unwrap_or_default();
        let ours = sorted(held.iter());
        let theirs = |path: String| -> Result<Vec<String>> {
            let lines = read(&folder.join(path))?;
            let rows = lines.lines().map(|line| serde_json::from_str(line).map(|json| json_row(&json)));
            Ok(sorted(rows.collect::<Result<Vec<Row>, _>>().while_doing("the test", "read rows")?.iter()))
        };
        let spark = theirs(format!("{name}.spark.jsonl"))?;
        if spark != ours || ours.len() != 48 {
            return Err(wrong("be read by Spark", format!("{name}: Spark has {spark:?}, we have {ours:?}")));
        }
        if name == "equality_deletes" {
            let refused = read(&folder.join(format!("{name}.pyiceberg.refused")))?;
            if !refused.contains("does not yet support equality deletes") {
                return Err(wrong("see PyIceberg refuse equality deletes", refused));
            }
            continue;
        }
        let python = theirs(format!("{name}.pyiceberg.jsonl"))?;
        if python != ours {
            return Err(wrong("be read by PyIceberg", format!("{name}: it has {python:?}, we have {ours:?}")));
        }
    }
    Ok(())
}

/// Rows in no order.
fn sorted<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| told(0, "", row).1).collect();
    rows.sort_unstable();
    rows
}
