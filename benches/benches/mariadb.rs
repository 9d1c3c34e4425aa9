//! The methods on MariaDB, of which Maxwell's Daemon is only there.

use changeproof::{
    binlog::NativeBinlog, capture::Profile, debezium::DebeziumMySql, maxwell::Maxwell, mysql::Flavour::MariaDb,
    polling::MySqlTimestampPolling,
};
use changeproof_benches::{POLLING, Setup};

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
