//! The methods on MySQL.

use changeproof::{
    binlog::NativeBinlog, capture::Profile, debezium::DebeziumMySql, mysql::Flavour::MySql,
    polling::MySqlTimestampPolling,
};
use changeproof_benches::{POLLING, Setup};

const SETUPS: [Setup; 4] = [
    Setup { method: &DebeziumMySql(MySql), profile: Profile::Reference, settings: &[] },
    Setup { method: &DebeziumMySql(MySql), profile: Profile::LowLatency, settings: &[] },
    Setup { method: &NativeBinlog(MySql), profile: Profile::Reference, settings: &[] },
    Setup { method: &MySqlTimestampPolling(MySql), profile: Profile::Reference, settings: POLLING },
];

fn main() -> std::process::ExitCode {
    changeproof_benches::main("mysql", &NativeBinlog(MySql), &SETUPS)
}
