//! Random values of PostgreSQL, by each format.

use std::process::ExitCode;

use scenarios_connect::CATALOGUE;
use scenarios_postgres::TYPES;
use scenarios_relational::random;

fn main() -> ExitCode {
    random::main_of_values(CATALOGUE, TYPES)
}
