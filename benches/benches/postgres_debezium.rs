//! Debezium on PostgreSQL.

use changeproof::debezium::DebeziumPostgres;

fn main() -> std::process::ExitCode {
    changeproof_benches::main("postgres", &DebeziumPostgres)
}
