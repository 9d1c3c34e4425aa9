//! Random values of PostgreSQL, by every pipeline.

use std::process::ExitCode;

use scenarios_pipelines::CATALOGUE;
use scenarios_postgres::TYPES;
use scenarios_relational::random;

fn main() -> ExitCode {
    random::main_of_values(CATALOGUE, TYPES)
}
