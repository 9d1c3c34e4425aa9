//! Random values of PostgreSQL, by the direct pipeline.

use std::process::ExitCode;

use scenarios_pipelines::DIRECT;
use scenarios_postgres::TYPES;
use scenarios_relational::random;

fn main() -> ExitCode {
    random::main_of_values(DIRECT, TYPES)
}
