//! Iceberg by implementations that no one here wrote: what Spark writes is read by our scan, and what our writer writes is
//! read by Spark and PyIceberg. Where Spark can answer, our answer is Spark's, row by row.
//!
//! `CHANGEPROOF_SEED=…` makes other random statements.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use changeproof::{
    Row, Value,
    error::{Context, Error, Result},
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
    stack::{Stack, State, docker, image_tag, run_guard_if_asked},
};
use changeproof_iceberg::{ChangelogScan, Kind, Source, WriteMode, changes, one_commit, open_table};
use futures_util::StreamExt;
use iceberg::spec::FormatVersion;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

/// Spark's driver, with the memory that the JVM takes beside its heap.
const MEMORY_MB: u32 = 2048;

const SCRIPT: &str = include_str!("../spark/parity.py");

fn main() -> ExitCode {
    run_guard_if_asked();
    let run = |test: fn(&Path) -> TestFuture<'_>| move || run(test);
    let trials = vec![
        Trial::test(
            "parity::our_scan_of_what_spark_writes",
            run(|folder| Box::pin(our_scan_of_what_spark_writes(folder))),
        ),
        Trial::test("parity::others_read_what_we_write", run(|folder| Box::pin(others_read_what_we_write(folder)))),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

type TestFuture<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Runs a test in a folder of its own, which is removed.
fn run(test: fn(&Path) -> TestFuture<'_>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = State::open()?.dir().join(format!("parity-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder)?;
    let ran = runtime.block_on(test(&folder));
    let removed = std::fs::remove_dir_all(&folder);
    ran?;
    Ok(removed?)
}

async fn spark(folder: &Path, command: &str) -> Result<()> {
    // While it is held, nobody takes the container for one that a crash has left.
    let stack = Stack::with_engine(&[]).await?;
    let script = folder.join("parity.py");
    std::fs::write(&script, SCRIPT).while_doing("the test", "write the script")?;
    let command = ["python3", &script.to_string_lossy(), command, &folder.to_string_lossy()];
    docker::run_on_folder(stack.state(), &image_tag("spark").await?, folder, MEMORY_MB, &command).await.map(drop)
}

fn wrong(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::new("parity", what, cause)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).while_doing("the test", format!("read {}", path.display()))
}

/// Statements of all kinds, chosen by a seed.
fn statements(mut seed: u64) -> Vec<String> {
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut last = 40;
    let mut statements =
        vec!["INSERT INTO {table} SELECT CAST(id AS INT), concat('n', id), id FROM range(1, 41)".to_owned()];
    for number in 0..10 {
        let (divisor, rest) = (2 + next(9), next(6));
        statements.push(match next(6) {
            0 | 1 => format!("UPDATE {{table}} SET name = 'u{number}', n = n + 1 WHERE id % {divisor} = {rest}"),
            2 => format!("DELETE FROM {{table}} WHERE id % {} = {rest}", divisor + 8),
            3 => {
                last += 5;
                let insert = "INSERT INTO {table} (id, name, n) SELECT CAST(id AS INT), 'late', -id FROM range";
                format!("{insert}({}, {})", last - 4, last + 1)
            }
            4 => format!("UPDATE {{table}} SET name = name WHERE id % {divisor} = {rest}"),
            _ => {
                last += 3;
                format!(
                    "MERGE INTO {{table}} USING (SELECT CAST(id AS INT) id, 'm{number}' name, id n FROM range({}, {})) s \
                     ON {{table}}.id = s.id WHEN MATCHED AND s.id % 5 = 0 THEN DELETE \
                     WHEN MATCHED THEN UPDATE SET name = s.name, n = s.n WHEN NOT MATCHED THEN INSERT (id, name, n) VALUES (s.id, s.name, s.n)",
                    last - 8,
                    last + 1
                )
            }
        });
    }
    statements.insert(8, "ALTER TABLE {table} ADD COLUMN extra STRING".to_owned());
    statements.insert(9, "UPDATE {table} SET extra = 'x' WHERE id % 3 = 0".to_owned());
    let compaction = "CALL lake.system.rewrite_data_files(table => 'db.{name}', \
                      options => map('min-input-files', '1', 'delete-file-threshold', '1'))";
    statements.insert(10, compaction.to_owned());
    statements
}

/// Copy-on-write: our scan tells what Spark's changelog view tells, row by row. Merge-on-read, by position deletes and by
/// deletion vectors: Spark refuses, and our scan tells what Spark tells of the same statements copy-on-write.
async fn our_scan_of_what_spark_writes(folder: &Path) -> Result<()> {
    let seed = std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229);
    let table = |name: &str, format: u8, mode: &str| json!({ "name": name, "format": format, "mode": mode, "statements": statements(seed) });
    let spec = json!([
        table("copy_on_write", 2, "copy-on-write"),
        table("position_deletes", 2, "merge-on-read"),
        table("deletion_vectors", 3, "merge-on-read"),
    ]);
    std::fs::write(folder.join("spec.json"), spec.to_string()).while_doing("the test", "write the statements")?;
    spark(folder, "write").await?;

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

/// A change with the number of its commit: what happened, and the row.
type Told = (i64, String);

fn told(ordinal: i64, kind: &str, row: &Row) -> Told {
    let columns =
        ["id", "name", "n", "extra"].map(|column| row.get(column).cloned().unwrap_or(Value::Null).to_string());
    (ordinal, format!("{kind} {}", columns.join(" ")))
}

fn spark_change(line: &str) -> Result<Told> {
    let json: serde_json::Value = serde_json::from_str(line).while_doing("the test", "read Spark's changes")?;
    let row = json_row(&json);
    let kind = json["_change_type"].as_str().unwrap_or_default();
    Ok(told(json["_change_ordinal"].as_i64().unwrap_or(-1), kind, &row))
}

fn json_row(json: &serde_json::Value) -> Row {
    let columns = json.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('_'));
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Number(number) => number.as_i64().map_or(Value::Null, Value::from),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        _ => Value::Null,
    };
    columns.map(|(name, json)| (name.clone(), value(json))).filter(|(_, value)| !value.is_null()).collect()
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

/// What each commit told, in no order; commits that told nothing are left out, for they differ by the way of writing.
fn commits(changes: Vec<Told>) -> Vec<Vec<String>> {
    let mut commits: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (ordinal, change) in changes {
        commits.entry(ordinal).or_default().push(change);
    }
    commits.values_mut().for_each(|changes| changes.sort_unstable());
    commits.into_values().collect()
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
    std::fs::write(folder.join("spec.json"), json!(names).to_string()).while_doing("the test", "name the tables")?;
    let contents = source.contents().await?;
    spark(folder, "read").await?;
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

fn sorted<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| told(0, "", row).1).collect();
    rows.sort_unstable();
    rows
}
