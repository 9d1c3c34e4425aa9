//! Random scripts and random values, by the methods of MariaDB that share a server.

#[path = "random/types.rs"]
mod types;

use std::process::ExitCode;

use changeproof::{
    binlog::NativeBinlog, debezium::DebeziumMySql, mysql::Flavour::MariaDb, polling::MySqlTimestampPolling,
    runner::Catalogue,
};
use scenarios_mysql::MARIADB;
use scenarios_relational::random;

/// Without Maxwell, which would need a server for each script, and ends at definitions that it doesn't understand.
const SHARED: Catalogue = Catalogue {
    methods: &[&DebeziumMySql(MariaDb), &NativeBinlog(MariaDb), &MySqlTimestampPolling(MariaDb)],
    ..MARIADB
};

fn main() -> ExitCode {
    random::main(SHARED, types::TYPES)
}
