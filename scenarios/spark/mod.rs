//! What the parity tests of the table formats share: Spark in a container, and statements for it. Each test compiles it in.

use std::{collections::BTreeMap, path::Path};

use changeproof::{
    Row, Value,
    error::{Context, Error, Result},
    runner::on_a_runtime,
    stack::{State, run_scripts},
};
use libtest_mimic::{Failed, Trial};

/// Spark's driver, with the memory that the JVM takes beside its heap.
const MEMORY_MB: u32 = 2048;

/// What the scripts of both formats begin with.
const COMMON: &str = include_str!("common.py");

pub(crate) type TestFuture<'a> = std::pin::Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A test in a folder of its own, which is removed.
pub(crate) fn trial(name: &str, test: fn(&Path) -> TestFuture<'_>) -> Trial {
    Trial::test(format!("parity::{name}"), move || run(test))
}

fn run(test: fn(&Path) -> TestFuture<'_>) -> Result<(), Failed> {
    let folder = State::open()?.dir().join(format!("parity-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder)?;
    let ran = on_a_runtime(test(&folder));
    let removed = std::fs::remove_dir_all(&folder);
    ran?;
    Ok(removed?)
}

/// Runs a command of a script on the folder, after writing what it is to do into `spec.json`.
pub(crate) async fn spark(folder: &Path, script: &str, command: &str, spec: &serde_json::Value) -> Result<()> {
    let scripts = [("parity.py", script), ("common.py", COMMON), ("spec.json", &spec.to_string())];
    let arguments = [command, &folder.to_string_lossy()];
    run_scripts("spark", folder, MEMORY_MB, &scripts, &arguments).await.map(drop)
}

pub(crate) fn wrong(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::new("parity", what, cause)
}

pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).while_doing("the test", format!("read {}", path.display()))
}

/// The seed of random statements: `CHANGEPROOF_SEED`, or always the same.
pub(crate) fn seed() -> u64 {
    std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229)
}

/// Statements of all kinds, chosen by a seed.
pub(crate) fn statements(mut seed: u64) -> Vec<String> {
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
    statements
}

/// A change with the number of its commit: what happened, and the row.
pub(crate) type Told = (i64, String);

pub(crate) fn told(ordinal: i64, kind: &str, row: &Row) -> Told {
    let columns =
        ["id", "name", "n", "extra"].map(|column| row.get(column).cloned().unwrap_or(Value::Null).to_string());
    (ordinal, format!("{kind} {}", columns.join(" ")))
}

/// The columns of a row that Spark or Python wrote as JSON, but for those that say what happened to it.
pub(crate) fn json_row(json: &serde_json::Value) -> Row {
    let columns = json.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('_'));
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Number(number) => number.as_i64().map_or(Value::Null, Value::from),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        _ => Value::Null,
    };
    columns.map(|(name, json)| (name.clone(), value(json))).filter(|(_, value)| !value.is_null()).collect()
}

/// What each commit told, in no order; commits that told nothing are left out, for they differ by the way of writing.
pub(crate) fn commits(changes: Vec<Told>) -> Vec<Vec<String>> {
    let mut commits: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (ordinal, change) in changes {
        commits.entry(ordinal).or_default().push(change);
    }
    commits.values_mut().for_each(|changes| changes.sort_unstable());
    commits.into_values().collect()
}
