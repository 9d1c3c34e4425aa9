//! Change data capture of PostgreSQL, scenario by scenario.

mod basics;
mod keys;
mod options;
mod schema_evolution;
mod slots;
mod snapshots;
mod statements;
mod tables;
mod timestamps;
mod toast;
mod transactions;
mod truncate;
mod types;

use changeproof::{
    debezium::DebeziumPostgres, logical::LogicalReplication, polling::TimestampPolling, runner::Catalogue,
    trigger::AuditTrigger,
};

/// The scenarios of PostgreSQL and the methods that capture it.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "postgres",
    package: env!("CARGO_PKG_NAME"),
    methods: &[&DebeziumPostgres, &LogicalReplication, &AuditTrigger, &TimestampPolling],
};

/// What every page of scenarios begins with.
mod prelude {
    pub(crate) use changeproof::{
        error::Result, judge::FaultKind, row, scenario, scenario::Scenario, schema::Type::*, script::*,
    };

    /// Begins the declaration of a table.
    pub(crate) fn table(name: &str) -> TableBuilder {
        TableBuilder::new(name)
    }
}
