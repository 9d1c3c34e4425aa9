//! Some of the scenarios with the direct pipeline's sink in object storage, behind a REST catalog: their pages are those of tables in a folder.
//!
//! All of them run there with `CHANGEPROOF_WAREHOUSE=s3` in the environment of the catalogue's own tests.

/// One for each way in which a commit is made, and what the catalog has a part in.
const SCENARIOS: [&str; 8] = [
    "insert_update_delete",
    "initial_snapshot_of_existing_rows",
    "rename_a_column",
    "rename_a_table",
    "change_text_to_int_by_using",
    "truncate_of_two_tables",
    "unchanged_toast_identity_default",
    "table_created_while_capturing",
];

fn main() -> std::process::ExitCode {
    changeproof::runner::main_in_a_bucket(scenarios_pipelines::DIRECT, &SCENARIOS)
}
