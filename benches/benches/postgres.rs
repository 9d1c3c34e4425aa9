//! The methods on PostgreSQL.

use changeproof::{
    capture::Profile, debezium::DebeziumPostgres, logical::LogicalReplication, polling::TimestampPolling,
    trigger::AuditTrigger,
};
use changeproof_benches::{POLLING, Setup};

/// The defaults, for the results to name them.
const LOGICAL: &[(&str, &str)] = &[("streaming", "on")];
const TRIGGER: &[(&str, &str)] = &[("truncate", "false"), ("schema_changes", "false")];

const SETUPS: [Setup; 5] = [
    Setup { method: &DebeziumPostgres, profile: Profile::Reference, settings: &[] },
    Setup { method: &DebeziumPostgres, profile: Profile::LowLatency, settings: &[] },
    Setup { method: &LogicalReplication, profile: Profile::Reference, settings: LOGICAL },
    Setup { method: &AuditTrigger, profile: Profile::Reference, settings: TRIGGER },
    Setup { method: &TimestampPolling, profile: Profile::Reference, settings: POLLING },
];

fn main() -> std::process::ExitCode {
    changeproof_benches::main("postgres", &LogicalReplication, &SETUPS)
}
