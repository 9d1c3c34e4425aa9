//! Random scripts and random values, by every method of PostgreSQL.

use std::process::ExitCode;

use scenarios_postgres::{CATALOGUE, TYPES};
use scenarios_relational::random;

fn main() -> ExitCode {
    random::main(CATALOGUE, TYPES)
}
