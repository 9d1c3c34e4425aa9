//! Random values of every type: what a method delivers of them, folded, must be what the database holds in its own text
//! form, or the other form that the method's guarantees name.

use changeproof::{
    capture::{Capture, Options, collect_until_fence},
    error::{Error, Result},
    judge::{Alterations, Contents, judge_fold},
    script::{TableBuilder, create, raw},
    source::{Dialect, Place},
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

/// What a row is made of: a number, a text, and which columns are NULL.
type Random = (i64, String, u32);

/// Rows of a case.
const ROWS: usize = 60;

/// A type, and how a literal of it is made of a number and a text.
pub type Maker = (&'static str, fn(i64, &str) -> String);

/// A text as a literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Delivers random rows, inserted, updated and deleted, and judges them by what the database then holds.
pub(super) fn deliver(
    method: &'static dyn Capture,
    types: &[Maker],
    seed: u64,
    cases: u32,
) -> std::result::Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let text = "[a-zA-Z0-9 äöüß€𝄞'\"\\\\{},:\n\t-]{0,24}";
    let rows = vec((any::<i64>(), text, any::<u32>()), ROWS * usize::try_from(cases)?);
    let rows = rows.new_tree(&mut runner).map_err(|reason| format!("no rows: {reason}"))?.current();
    let judged = runtime.block_on(Workspace::within(method, Place::Memory, async |stack, workspace| {
        write_and_judge(stack, workspace, types, &rows).await
    }));
    judged.map_err(|error| format!("CHANGEPROOF_SEED={seed} CHANGEPROOF_CASES={cases} replays it\n{error}").into())
}

async fn write_and_judge(stack: &Stack, workspace: &mut Workspace, types: &[Maker], rows: &[Random]) -> Result<()> {
    let options = Options::default();
    let all = || 0..types.len();
    let definitions: Vec<_> = all().map(|at| format!("c{at} {}", types[at].0)).collect();
    let table = create(&TableBuilder::new("samples"));
    let create = format!("CREATE TABLE samples (id int PRIMARY KEY, {})", definitions.join(", "));
    workspace.source.apply(&raw(&create, [table])).await?;
    let mut subscription = workspace.start(stack, &options).await?;
    let columns = all().map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
    for (id, (number, text, nulls)) in rows.iter().enumerate() {
        let value = |at: usize| {
            if (nulls >> (at % 32)).is_multiple_of(8) { "NULL".to_owned() } else { types[at].1(*number, text) }
        };
        let values = all().map(value).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO samples (id, {columns}) VALUES ({id}, {values})");
        workspace.source.apply(&raw(&insert, [])).await?;
        if id % 5 == 4 {
            let update = take_over(workspace.method().storage().dialect(), types.len(), id, id - 2);
            workspace.source.apply(&raw(&update, [])).await?;
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

/// The statement that gives a row all values of another one.
fn take_over(dialect: Option<Dialect>, columns: usize, id: usize, other: usize) -> String {
    let set = |of: &str| (0..columns).map(|at| format!("{of}c{at} = other.c{at}")).collect::<Vec<_>>().join(", ");
    match dialect {
        Some(Dialect::MySql) => {
            let join = format!("JOIN samples other ON other.id = {other}");
            format!("UPDATE samples one {join} SET {} WHERE one.id = {id}", set("one."))
        }
        _ => {
            format!("UPDATE samples one SET {} FROM samples other WHERE other.id = {other} AND one.id = {id}", set(""))
        }
    }
}
