//! Random scripts and random values, by every method of MySQL.

#[path = "random/types.rs"]
mod types;

use std::process::ExitCode;

use scenarios_mysql::CATALOGUE;
use scenarios_relational::random;

fn main() -> ExitCode {
    random::main(CATALOGUE, types::TYPES)
}
