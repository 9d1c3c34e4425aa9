//! Tests whose services are their own, in a state of their own: others don't survive what happens there.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use changeproof::{
    error::Result,
    runner::on_a_runtime,
    stack::{State, run_guard_if_asked},
    warehouse::WAREHOUSE,
};
use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};

const STATE_DIR: &str = "CHANGEPROOF_STATE_DIR";

/// A test by its name.
pub type Test = (&'static str, fn() -> LocalBoxFuture<'static, Result<()>>);

/// Runs tests in a state whose name ends so. To be called first thing in `main`.
pub fn main(ending: &str, tests: &'static [Test]) -> ExitCode {
    run_guard_if_asked();
    if let Some(status) = in_a_state_of_its_own(ending) {
        return status;
    }
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, move || on_a_runtime(test())));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Starts this process again in a state of its own, unless it is in it already. The environment of a process can't be changed safely
/// once it runs.
fn in_a_state_of_its_own(ending: &str) -> Option<ExitCode> {
    let (state, itself) = (State::open().ok()?, std::env::current_exe().ok()?);
    let dir = state.dir().to_string_lossy().into_owned();
    if dir.ends_with(ending) {
        return None;
    }
    let mut again = Command::new(itself);
    again.args(std::env::args_os().skip(1)).env(STATE_DIR, format!("{dir}{ending}")).env(WAREHOUSE, "s3");
    eprintln!("could not start again: {}", again.exec());
    Some(ExitCode::FAILURE)
}
