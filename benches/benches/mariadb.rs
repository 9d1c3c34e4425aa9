//! The methods on MariaDB, of which Maxwell's Daemon is only there.

use changeproof::{
    binlog::NativeBinlog, capture::Profile, debezium::DebeziumMySql, maxwell::Maxwell, mysql::Flavour::MariaDb,
    polling::MySqlTimestampPolling,
};
use changeproof_benches::Setup;

/// Rows whose transactions overlap are lost to polling unless its looks do, too; writers here take far less than this.
const POLLING: &[(&str, &str)] = &[("interval.ms", "100"), ("overlap.ms", "250")];

const SETUPS: [Setup; 5] = [
    Setup { method: &DebeziumMySql(MariaDb), profile: Profile::Reference, settings: &[] },
    Setup { method: &DebeziumMySql(MariaDb), profile: Profile::LowLatency, settings: &[] },
    Setup { method: &NativeBinlog(MariaDb), profile: Profile::Reference, settings: &[] },
    Setup { method: &Maxwell, profile: Profile::Reference, settings: &[] },
    Setup { method: &MySqlTimestampPolling(MariaDb), profile: Profile::Reference, settings: POLLING },
];

fn main() -> std::process::ExitCode {
    changeproof_benches::main("mariadb", &NativeBinlog(MariaDb), &SETUPS)
}
