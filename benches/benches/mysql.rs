//! The methods on MySQL.

use changeproof::{
    binlog::NativeBinlog, capture::Profile, debezium::DebeziumMySql, mysql::Flavour::MySql,
    polling::MySqlTimestampPolling,
};
use changeproof_benches::Setup;

/// Rows whose transactions overlap are lost to polling unless its looks do, too; writers here take far less than this.
const POLLING: &[(&str, &str)] = &[("interval.ms", "100"), ("overlap.ms", "250")];

const SETUPS: [Setup; 4] = [
    Setup { method: &DebeziumMySql(MySql), profile: Profile::Reference, settings: &[] },
    Setup { method: &DebeziumMySql(MySql), profile: Profile::LowLatency, settings: &[] },
    Setup { method: &NativeBinlog(MySql), profile: Profile::Reference, settings: &[] },
    Setup { method: &MySqlTimestampPolling(MySql), profile: Profile::Reference, settings: POLLING },
];

fn main() -> std::process::ExitCode {
    changeproof_benches::main("mysql", &NativeBinlog(MySql), &SETUPS)
}
