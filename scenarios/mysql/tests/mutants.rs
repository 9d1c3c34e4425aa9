//! The native binary log, tampered with: the judge finds what is wrong, and calls it by its name.

use std::process::ExitCode;

use changeproof::{binlog::NativeBinlog, mysql::Flavour::MySql};
use scenarios_mysql::CATALOGUE;
use scenarios_relational::mutants;

fn main() -> ExitCode {
    mutants::main(CATALOGUE, &NativeBinlog(MySql), &[])
}
