//! Random values of every type: what a method delivers of them, folded, must be what the database holds in its own text
//! form, or the other form that the method's guarantees name.

use changeproof::{
    capture::{Capture, Options, collect_until_fence},
    error::{Context, Error, Result},
    judge::{Alterations, Contents, judge_fold},
    postgres,
    source::Place,
    stack::Stack,
    workspace::Workspace,
};
use libtest_mimic::Failed;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Rows of a case.
const ROWS: usize = 60;

/// A type, and how a literal of it is made of a number and a text.
type Maker = (&'static str, fn(i64, &str) -> String);

const TYPES: &[Maker] = &[
    ("boolean", |n, _| (n % 2 == 0).to_string()),
    ("smallint", |n, _| format!("{}", n % 32_768)),
    ("integer", |n, _| format!("{}", n % 2_147_483_648)),
    ("bigint", |n, _| format!("'{n}'")),
    ("numeric", |n, _| format!("'{}.{}'", n / 1000, (n % 1000).unsigned_abs() + 1)),
    ("numeric(20,4)", |n, _| format!("'{n}'::numeric / 100000")),
    ("real", |n, _| format!("'{:e}'", f32::from_bits(u32::try_from(n & 0xBFFF_FFFF).unwrap_or_default()))),
    ("double precision", |n, _| format!("'{:e}'", f64::from_bits(n.unsigned_abs() & 0xBFFF_FFFF_FFFF_FFFF))),
    ("text", |_, t| quote(t)),
    ("varchar(40)", |_, t| quote(&t.chars().take(40).collect::<String>())),
    ("char(6)", |_, t| quote(&t.chars().take(3).collect::<String>())),
    ("bytea", |n, t| format!("convert_to({}, 'UTF8') || decode('{n:016x}', 'hex')", quote(t))),
    ("date", |n, _| format!("date '2000-01-01' + ({})::int", n % 700_000)),
    ("time", |n, _| format!("time '00:00' + make_interval(secs => {})", n.unsigned_abs() % 86_400)),
    ("timetz", |n, _| format!("timetz '{:02}:{:02}:00{:+03}'", n.unsigned_abs() % 24, n.unsigned_abs() % 60, n % 15)),
    ("timestamp", |n, _| {
        format!(
            "timestamp '2000-01-01' + make_interval(days => ({})::int, secs => 0.000001 * {})",
            n % 700_000,
            n.unsigned_abs() % 86_400_000_000
        )
    }),
    ("timestamptz", |n, _| {
        format!(
            "timestamptz '2000-01-01' + make_interval(days => ({})::int, secs => 0.000001 * {})",
            n % 700_000,
            n.unsigned_abs() % 86_400_000_000
        )
    }),
    ("interval", |n, _| {
        format!(
            "make_interval(months => ({})::int, days => ({})::int, secs => {} * 0.25)",
            n % 1000,
            n % 999,
            n % 100_000
        )
    }),
    ("uuid", |n, _| format!("'{:032x}'", (i128::from(n) * 0x9E37_79B9_7F4A_7C15).unsigned_abs())),
    ("inet", |n, _| {
        format!(
            "'{}.{}.{}.{}/{}'",
            n.rem_euclid(256),
            (n >> 8).rem_euclid(256),
            (n >> 16).rem_euclid(256),
            (n >> 24).rem_euclid(256),
            n.rem_euclid(33)
        )
    }),
    ("macaddr", |n, _| format!("'{:012x}'", n.rem_euclid(1 << 48))),
    ("money", |n, _| format!("('{}'::numeric / 100)::money", n % 10_000_000_000)),
    ("bit(11)", |n, _| format!("({})::int::bit(11)", n % 2048)),
    ("varbit", |n, _| format!("B'{:b}'", n.unsigned_abs() | 2)),
    ("jsonb", |n, t| {
        format!(
            "jsonb_build_object('n', '{n}'::numeric / 1000, {}, jsonb_build_array({}, NULL, true))",
            quote(&format!("k{t}")),
            quote(t)
        )
    }),
    ("json", |n, t| format!("json_build_object('n', {n}, 'text', {}, 'a', json_build_array(1, NULL))", quote(t))),
    ("int[]", |n, _| format!("ARRAY[{}, NULL, {}]", n % 1000, n % 77)),
    ("text[]", |_, t| format!("ARRAY[{}, NULL, '', 'NULL']", quote(t))),
    ("int4range", |n, _| format!("int4range(({})::int, ({})::int, '[]')", n % 1000, n % 1000 + 5)),
    ("tsvector", |_, t| format!("to_tsvector('simple', {})", quote(t))),
    ("point", |n, _| format!("point({}, {})", n % 1000, n % 77)),
];

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Delivers random rows, inserted, updated and deleted, and judges them by what the database then holds.
pub(crate) fn deliver(method: &'static dyn Capture, seed: u64, cases: u32) -> std::result::Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let text = "[a-zA-Z0-9 äöüß€𝄞'\"\\\\{},:\n\t-]{0,24}";
    let rows = vec((any::<i64>(), text, any::<u32>()), ROWS * usize::try_from(cases)?);
    let rows = rows.new_tree(&mut runner).map_err(|reason| format!("no rows: {reason}"))?.current();
    let judged = runtime.block_on(judge(method, &rows));
    judged.map_err(|error| format!("CHANGEPROOF_SEED={seed} CHANGEPROOF_CASES={cases} replays it\n{error}").into())
}

async fn judge(method: &'static dyn Capture, rows: &[(i64, String, u32)]) -> Result<()> {
    let stack = Stack::acquire(method.services()).await?;
    let mut workspace = Workspace::open(&stack, method, Place::Memory).await?;
    let judged = write_and_judge(&stack, &mut workspace, rows).await;
    let closed = workspace.close(&stack).await;
    judged?;
    closed
}

async fn write_and_judge(stack: &Stack, workspace: &mut Workspace, rows: &[(i64, String, u32)]) -> Result<()> {
    let options = Options::default();
    let columns = |definition: bool| {
        let column = |(at, (ty, _)): (usize, &Maker)| if definition { format!("c{at} {ty}") } else { format!("c{at}") };
        TYPES.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
    };
    let create = format!("CREATE TABLE samples (id int PRIMARY KEY, {})", columns(true));
    let run = async |workspace: &mut Workspace, sql: String| {
        let session = workspace.source.as_a_mut::<postgres::Source>()?.session("a").await?;
        session.batch_execute(&sql).await.while_doing("PostgreSQL", sql)
    };
    run(workspace, create).await?;
    let mut subscription = workspace.start(stack, &options).await?;
    for (id, (number, text, nulls)) in rows.iter().enumerate() {
        let value = |(at, (_, make)): (usize, &Maker)| {
            if (nulls >> at).is_multiple_of(8) { "NULL".to_owned() } else { make(*number, text) }
        };
        let values = TYPES.iter().enumerate().map(value).collect::<Vec<_>>().join(", ");
        run(workspace, format!("INSERT INTO samples (id, {}) VALUES ({id}, {values})", columns(false))).await?;
        if id % 5 == 4 {
            let other = id - 2;
            let all = columns(false);
            let set =
                format!("UPDATE samples SET ({all}) = (SELECT {all} FROM samples WHERE id = {other}) WHERE id = {id}");
            run(workspace, set).await?;
        }
    }
    let fence = workspace.source.write_fence().await?;
    let stream = collect_until_fence(subscription.as_mut(), fence).await?;
    let held = workspace.source.contents().await?;
    let guarantees = workspace.method().guarantees(&options);
    let (faults, _) = judge_fold(&Contents::new(), &stream, &held, &Alterations::default(), &guarantees);
    match faults.first() {
        None if held.values().map(|table| table.rows.len()).sum::<usize>() == rows.len() => Ok(()),
        None => Err(Error::new("random values", "write them all", "rows are missing")),
        Some(fault) => Err(Error::new(workspace.method().name(), "deliver the values", fault)),
    }
}
