//! Some of the scenarios on object storage with a REST catalog: their pages are those of tables in a folder.
//!
//! All of them run there with `CHANGEPROOF_WAREHOUSE=s3` in the environment of the catalogue's own tests.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use changeproof::{runner::trials_of, stack::run_guard_if_asked};
use changeproof_iceberg::WAREHOUSE;
use libtest_mimic::Arguments;
use scenarios_iceberg::CATALOGUE;

/// One for each way of writing, and what the catalog has a part in.
const SCENARIOS: [&str; 9] = [
    "insert_update_delete",
    "position_deletes",
    "equality_deletes",
    "deletion_vectors",
    "partition_evolution",
    "rename_a_column",
    "rename_a_table",
    "compaction",
    "rollback_of_a_table",
];

fn main() -> ExitCode {
    run_guard_if_asked();
    if std::env::var(WAREHOUSE).as_deref() != Ok("s3") {
        let Ok(itself) = std::env::current_exe() else { return ExitCode::FAILURE };
        let error = Command::new(itself).args(std::env::args_os().skip(1)).env(WAREHOUSE, "s3").exec();
        eprintln!("could not start again with {WAREHOUSE}=s3: {error}");
        return ExitCode::FAILURE;
    }
    let scenarios = CATALOGUE.scenarios();
    let mut trials = Vec::new();
    for name in SCENARIOS {
        let Some(scenario) = scenarios.iter().find(|scenario| scenario.name == name) else {
            eprintln!("there is no scenario {name}");
            return ExitCode::FAILURE;
        };
        trials.extend(trials_of(CATALOGUE, scenario, "s3::"));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
