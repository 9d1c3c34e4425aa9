//! Some of the scenarios on object storage: their pages are those of tables in a folder.
//!
//! All of them run there with `CHANGEPROOF_WAREHOUSE=s3` in the environment of the catalogue's own tests.

/// One for each way of writing, and what removes or lists files.
const SCENARIOS: [&str; 6] =
    ["insert_update_delete", "merge", "partitioned_table", "vacuum_before_the_feed_was_read", "optimize", "restore"];

fn main() -> std::process::ExitCode {
    changeproof::runner::main_in_a_bucket(scenarios_delta::CATALOGUE, &SCENARIOS)
}
