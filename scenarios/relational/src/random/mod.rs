//! Random scripts, random values and restarts amid a load, by every method of a storage.
//!
//! A storage's test target `random` (with `harness = false`) is [`main`] on its catalogue and its types.
//!
//! A failing case is shrunk to a small one, and its seed is printed: `CHANGEPROOF_SEED=… CHANGEPROOF_CASES=…` replays it.
//! Without a seed the same few cases run each time; `make test-deep` runs many, from another seed each time.

mod restarts;
mod script;
mod values;

use std::process::ExitCode;

use changeproof::{
    capture::Capture,
    runner::{Catalogue, on_a_runtime},
    scenario::Scenario,
    source::Dialect,
    stack::run_guard_if_asked,
};
use futures_util::future::join_all;
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

pub use self::values::{Maker, quote};
use crate::load::DEFAULT_SEED;

const DEFAULT_CASES: u32 = 4;

/// Runs random scripts by all methods of a catalogue, and by each random values of these types, and restarts amid a load.
pub fn main(catalogue: Catalogue, types: &'static [Maker]) -> ExitCode {
    run_guard_if_asked();
    let mut trials = vec![Trial::test("random::scripts_by_all_methods", move || scripts(&catalogue))];
    trials.extend(values_of(catalogue, types));
    trials.extend(catalogue.methods.iter().copied().filter(|method| restarts::applies(*method)).map(restarts_of));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs random values alone.
pub fn main_of_values(catalogue: Catalogue, types: &'static [Maker]) -> ExitCode {
    run_guard_if_asked();
    libtest_mimic::run(&Arguments::from_args(), values_of(catalogue, types)).exit_code()
}

fn values_of(catalogue: Catalogue, types: &'static [Maker]) -> Vec<Trial> {
    let trial = |method: &&'static dyn Capture| {
        let method = *method;
        let name = format!("random::values_by_{}", method.name());
        Trial::test(name, move || values::deliver(method, types, seed()?, cases()?))
    };
    catalogue.methods.iter().map(trial).collect()
}

fn restarts_of(method: &'static dyn Capture) -> Trial {
    let name = format!("random::restarts_of_{}", method.name());
    Trial::test(name, move || on_a_runtime(restarts::judge(method, seed()?)))
}

fn number<T: std::str::FromStr>(variable: &str, default: T) -> Result<T, Failed> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable}={text} is no number").into()),
        Err(_) => Ok(default),
    }
}

fn seed() -> Result<u64, Failed> {
    number("CHANGEPROOF_SEED", DEFAULT_SEED)
}

fn cases() -> Result<u32, Failed> {
    number("CHANGEPROOF_CASES", DEFAULT_CASES)
}

fn scripts(catalogue: &Catalogue) -> Result<(), Failed> {
    let (seed, cases) = (seed()?, cases()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dialect = catalogue.methods.first().and_then(|method| method.storage().dialect());
    let definitions_commit = dialect == Some(Dialect::MySql);
    check(seed, cases, script::ops(), |ops| {
        let script = script::of(&ops, definitions_commit);
        let played = catalogue.methods.iter().map(|method| Scenario::play("random_script", *method, &script));
        let outcomes = runtime.block_on(join_all(played));
        match outcomes.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(error) => Err(format!("{}\n{error}", script::told(&script))),
        }
    })
}

/// Runs cases of a strategy; shrinks the first that fails.
fn check<S: Strategy>(
    seed: u64,
    cases: u32,
    strategy: S,
    mut holds: impl FnMut(S::Value) -> Result<(), String>,
) -> Result<(), Failed> {
    let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let holds = std::cell::RefCell::new(&mut holds);
    let run = TestRunner::new_with_rng(config, rng)
        .run(&strategy, |value| (holds.borrow_mut())(value).map_err(proptest::test_runner::TestCaseError::fail));
    match run {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, _)) => {
            Err(format!("CHANGEPROOF_SEED={seed} CHANGEPROOF_CASES={cases} replays it\n{reason}").into())
        }
        Err(TestError::Abort(reason)) => Err(format!("no case could be made: {reason}").into()),
    }
}
