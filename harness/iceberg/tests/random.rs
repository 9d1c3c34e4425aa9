//! Random statements on tables written in all ways, judged by the Model: what the changelog scan tells snapshot by snapshot,
//! what it tells of the two ends alone, and the same under a memory limit that makes it read the files many times.
//!
//! `CHANGEPROOF_SEED=… CHANGEPROOF_CASES=…` replays a failing case or runs more of them.

use std::collections::{BTreeMap, BTreeSet};

use changeproof::{
    Change, Op, Row, Value,
    capture::{Capture, Options},
    error::{Context, Error, Result},
    judge::{Alterations, Contents, TableContents, Verdict, Watch, judge, judge_fold},
    model::Model,
    row,
    schema::{TableName, Type},
    script::{Action, Step, TableBuilder, TableRef},
    source::Source as _,
};
use changeproof_iceberg::{ChangelogScan, IcebergChangelogScan, Source, WriteMode, changes, ident, one_commit};
use futures_util::StreamExt;
use iceberg::{
    expr::{Predicate, Reference},
    spec::{Datum, FormatVersion, Transform},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// So little memory that two snapshots of a few files are compared in several passes.
const SMALL_BYTES: u64 = 10_000;

/// One decision: what, on which table, which row, which number.
type Decision = (u8, bool, u16, i32);

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn scans_tell_what_random_statements_did() -> Result<(), Box<dyn std::error::Error>> {
    let (seed, cases) = (number("CHANGEPROOF_SEED", 20_240_229_u64), number("CHANGEPROOF_CASES", 12));
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let decisions = (any::<bool>(), 0_u8..3, vec((0_u8..22, any::<bool>(), any::<u16>(), -50..50_i32), 1..30));
    let run = TestRunner::new_with_rng(config, rng).run(&decisions, |(is_v3, mode, decisions)| {
        let folder = std::env::temp_dir().join(format!("changeproof-random-{}", uuid::Uuid::new_v4()));
        let mut told = Vec::new();
        let played = runtime.block_on(play(&folder, is_v3, mode, &decisions, &mut told));
        let removed = std::fs::remove_dir_all(&folder);
        let failed = |error: String| {
            let script = told.join("\n  ");
            TestCaseError::fail(format!(
                "CHANGEPROOF_SEED={seed} CHANGEPROOF_CASES={cases} replays it\n  {script}\n{error}"
            ))
        };
        played.map_err(|error| failed(error.to_string()))?;
        removed.map_err(|error| failed(error.to_string()))
    });
    Ok(run?)
}

struct Case {
    source: Source,
    model: Model,
    next_id: i64,
    is_v3: bool,
    /// The columns that were added, by table.
    added: BTreeMap<bool, Vec<(String, Type)>>,
    columns: usize,
}

async fn play(
    folder: &std::path::Path,
    is_v3: bool,
    mode: u8,
    decisions: &[Decision],
    told: &mut Vec<String>,
) -> Result<()> {
    let mut source = Source::create(folder).await?;
    source.format(if is_v3 { FormatVersion::V3 } else { FormatVersion::V2 });
    let mut case = Case { source, model: Model::default(), next_id: 1, is_v3, added: BTreeMap::new(), columns: 0 };
    let keyed = TableBuilder::new("keyed").key("id", Type::BigInt).column("n", Type::Int).column("t", Type::Text);
    let loose = TableBuilder::new("loose").column("n", Type::Int).column("t", Type::Text);
    let tables = [keyed.build(), loose.build()];
    let handles = tables.clone().map(|table| TableRef::new(&table));
    for table in tables {
        case.step(Action::CreateTable(table).into(), told).await?;
    }
    case.write_by(mode, told);
    for decision in decisions {
        case.decide(&handles, *decision, told).await?;
    }
    case.judge().await
}

impl Case {
    async fn step(&mut self, step: Step, told: &mut Vec<String>) -> Result<()> {
        told.push(format!("{:?}", step.action));
        self.source.apply(&step).await?;
        self.model.apply(&step).while_doing("the Model", "follow")
    }

    /// Carries a decision out, if it can be as things stand.
    async fn decide(&mut self, tables: &[TableRef; 2], decision: Decision, told: &mut Vec<String>) -> Result<()> {
        let (kind, is_loose, row, number) = decision;
        let table = &tables[usize::from(is_loose)];
        let id = 1 + i64::from(row) % self.next_id.max(1);
        let at = if is_loose {
            row! { n: number % 5 }
        } else {
            row! { id: id }
        };
        let step = match kind {
            0..=3 => self.insert(table, is_loose, 1 + usize::from(row % 3), number),
            4 | 5 => table.update(at, row! { t: format!("u{number}") }),
            6 => table.update(row! { n: number % 5 }, row! { n: number % 7 }),
            7 => table.update(row! { n: number % 5 }, row! { n: number % 5 }),
            8 | 9 => table.delete(at),
            10 => table.delete(row! { n: number % 5 }),
            11 if row % 4 == 0 => table.truncate(),
            11 | 12 => one_commit([
                table.delete(at.clone()),
                self.insert(table, is_loose, 2, number),
                table.update(row! { n: number % 5 }, row! { t: "merged" }),
            ]),
            13 => {
                self.columns += 1;
                let (name, ty) = (format!("c{}", self.columns), Type::Int);
                self.added.entry(is_loose).or_default().push((name.clone(), ty.clone()));
                table.add_column(&name, ty)
            }
            14 => match self.pick(is_loose, row) {
                Some((at, _)) => {
                    let (name, _) = self.added.entry(is_loose).or_default().remove(at);
                    table.drop_column(&name)
                }
                None => return Ok(()),
            },
            15 => match self.pick(is_loose, row) {
                Some((at, (name, ty))) => {
                    self.columns += 1;
                    let new = format!("c{}", self.columns);
                    self.added.entry(is_loose).or_default()[at] = (new.clone(), ty);
                    table.rename_column(&name, &new)
                }
                None => return Ok(()),
            },
            16 => match self.pick(is_loose, row) {
                Some((at, (name, Type::Int))) => {
                    self.added.entry(is_loose).or_default()[at].1 = Type::BigInt;
                    table.change_type(&name, Type::BigInt)
                }
                _ => return Ok(()),
            },
            17 => {
                told.push(format!("compact {}", table.name()));
                return self.source.compact(table.name()).await;
            }
            18 => {
                let transform =
                    [Transform::Bucket(3), Transform::Identity, Transform::Truncate(10)][usize::from(row % 3)];
                told.push(format!("partition {} by {transform} of n", table.name()));
                // The same spec again is refused, and nothing is lost.
                let _ = self.source.repartition(table.name(), "n", transform).await;
                return Ok(());
            }
            _ => {
                self.write_by(u8::try_from(row % 3).unwrap_or(0), told);
                return Ok(());
            }
        };
        self.step(step, told).await
    }

    fn write_by(&mut self, mode: u8, told: &mut Vec<String>) {
        let merge_on_read = if self.is_v3 { WriteMode::DeletionVectors } else { WriteMode::PositionDeletes };
        let mode = [WriteMode::CopyOnWrite, merge_on_read, WriteMode::EqualityDeletes][usize::from(mode)];
        told.push(format!("write by {mode:?}"));
        self.source.write_by(mode);
    }

    fn pick(&self, is_loose: bool, row: u16) -> Option<(usize, (String, Type))> {
        let added = self.added.get(&is_loose).filter(|added| !added.is_empty())?;
        let at = usize::from(row) % added.len();
        Some((at, added[at].clone()))
    }

    fn insert(&mut self, table: &TableRef, is_loose: bool, count: usize, number: i32) -> Step {
        let added = self.added.get(&is_loose).cloned().unwrap_or_default();
        let mut row = |at: usize| {
            let mut row = row! { n: number % 5, t: format!("t{}", number % 3) };
            if !is_loose {
                row.set("id", self.next_id);
                self.next_id += 1;
            }
            added.iter().take(at).for_each(|(name, _)| row.set(name, number));
            row
        };
        table.insert_many((0..count).map(&mut row))
    }

    async fn judge(&self) -> Result<()> {
        let contents = self.source.contents().await?;
        let failed = |what: &str, cause: String| Err(Error::new("the scan", what, cause));
        for (name, state) in &self.model.tables().0 {
            let real = contents.get(name).map(|contents| sorted(&contents.rows));
            if real.as_ref() != Some(&sorted(&state.rows)) {
                return failed(
                    "follow the Model",
                    format!("{name} holds {real:?}, the Model {:?}", sorted(&state.rows)),
                );
            }
        }
        let (each, by_limit) = (self.scan(false, None, None).await?, self.scan(false, Some(SMALL_BYTES), None).await?);
        for filter in filters() {
            let expected = sorted_changes(each.iter().filter_map(|change| filter.of(change)));
            for limit in [None, Some(SMALL_BYTES)] {
                let told = sorted_changes(self.scan(false, limit, Some(&filter.predicate)).await?);
                if told != expected {
                    let what = format!("tell the changes where {}", filter.predicate);
                    return failed(&what, format!("{told:#?} and not {expected:#?}"));
                }
            }
        }
        let guarantees = IcebergChangelogScan.guarantees(&Options::default());
        let without_shapes = |verdict: Verdict| match verdict {
            // What a tail adds to a scan is when a definition changed.
            Verdict::Broken { faults } => {
                Verdict::Broken { faults: faults.into_iter().filter(|fault| !fault.detail.starts_with('*')).collect() }
            }
            other => other,
        };
        for stream in [&each, &by_limit] {
            let verdict = without_shapes(judge(&self.model, &guarantees, &Watch::default(), stream).verdict);
            if matches!(&verdict, Verdict::Broken { faults } if !faults.is_empty()) {
                return failed("tell each change", format!("{verdict}"));
            }
        }
        for limit in [None, Some(SMALL_BYTES)] {
            let net = self.scan(true, limit, None).await?;
            let keys: BTreeSet<_> =
                net.iter().filter(|c| !c.key.is_empty()).map(|c| (&c.table, format!("{:?}", c.key))).collect();
            let keyed = net.iter().filter(|change| !change.key.is_empty()).count();
            if keys.len() != keyed || net.iter().any(|change| change.op != Op::Insert) {
                return failed(
                    "tell the net changes",
                    format!("from nothing there can only be one insert a row: {net:?}"),
                );
            }
            let stored: Contents = contents
                .iter()
                .map(|(name, held)| {
                    (
                        name.clone(),
                        TableContents { key: held.key.clone(), rows: held.rows.clone(), ..TableContents::default() },
                    )
                })
                .collect();
            let (faults, _) = judge_fold(&Contents::new(), &net, &stored, &Alterations::default(), &guarantees);
            if !faults.is_empty() {
                return failed("tell the net changes", format!("{faults:?}"));
            }
        }
        Ok(())
    }

    async fn scan(&self, is_net: bool, memory_limit: Option<u64>, filter: Option<&Predicate>) -> Result<Vec<Change>> {
        let mut told = Vec::new();
        for name in [TableName::from("keyed"), TableName::from("loose")] {
            let table = self.source.warehouse().table(&ident(&name)).await?;
            // What the present columns show of rows is what the table holds, for the net changes too.
            let scan = ChangelogScan::new(&table);
            let scan = if is_net { scan.net().by_present_schema() } else { scan };
            let scan = memory_limit.into_iter().fold(scan, ChangelogScan::memory_limit);
            let scan = filter.cloned().into_iter().fold(scan, ChangelogScan::filter);
            let mut batches = scan.stream();
            while let Some(batch) = batches.next().await {
                told.extend(changes(&batch?, &name)?);
            }
        }
        Ok(told)
    }
}

/// A predicate, and what it is true of.
struct Filter {
    predicate: Predicate,
    is_true: fn(&Row) -> bool,
}

impl Filter {
    /// The change as a reader sees it who sees no other rows.
    fn of(&self, change: &Change) -> Option<Change> {
        let seen = |row: &Option<Row>| row.clone().filter(self.is_true);
        let (before, after) = (seen(&change.before), seen(&change.after));
        let op = match (&before, &after) {
            (None, None) => return None,
            (Some(_), None) => Op::Delete,
            (None, Some(_)) => Op::Insert,
            (Some(_), Some(_)) => change.op,
        };
        Some(Change { op, before, after, ..change.clone() })
    }
}

fn int(row: &Row, column: &str) -> Option<i64> {
    match row.get(column) {
        Some(Value::Int(number)) => i64::try_from(*number).ok(),
        _ => None,
    }
}

fn begins_with(row: &Row, with: &str) -> bool {
    matches!(row.get("t"), Some(Value::Text(text)) if text.starts_with(with))
}

fn filters() -> Vec<Filter> {
    let (n, t) = (|| Reference::new("n"), || Reference::new("t"));
    vec![
        Filter { predicate: n().less_than(Datum::int(2)), is_true: |row| int(row, "n").is_some_and(|n| n < 2) },
        Filter {
            predicate: !n().equal_to(Datum::int(3)).or(n().is_null()),
            is_true: |row| int(row, "n").is_some_and(|n| n != 3),
        },
        Filter {
            predicate: n().is_in([Datum::int(1), Datum::int(4)]).and(t().starts_with(Datum::string("t"))),
            is_true: |row| matches!(int(row, "n"), Some(1 | 4)) && begins_with(row, "t"),
        },
        Filter {
            predicate: t().not_starts_with(Datum::string("u")).or(n().greater_than_or_equal_to(Datum::int(4))),
            is_true: |row| !begins_with(row, "u") || int(row, "n").is_some_and(|n| n >= 4),
        },
        Filter { predicate: n().is_null(), is_true: |row| int(row, "n").is_none() },
    ]
}

/// Changes in an order of their own: within a snapshot, only that of their kinds is promised.
fn sorted_changes(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    let mut changes: Vec<_> = changes.into_iter().map(|change| format!("{change:?}")).collect();
    changes.sort_unstable();
    changes
}

fn sorted(rows: &[Row]) -> Vec<Vec<(&str, &Value)>> {
    let mut rows: Vec<_> = rows.iter().map(Row::canonical).collect();
    rows.sort_unstable();
    rows
}
