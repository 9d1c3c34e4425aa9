//! Some of the scenarios on object storage with a REST catalog: their pages are those of tables in a folder.
//!
//! All of them run there with `CHANGEPROOF_WAREHOUSE=s3` in the environment of the catalogue's own tests.

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

fn main() -> std::process::ExitCode {
    changeproof::runner::main_in_a_bucket(scenarios_iceberg::CATALOGUE, &SCENARIOS)
}
