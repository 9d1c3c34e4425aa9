//! Change feeds of Apache Iceberg, scenario by scenario. No container is needed: tables are in a folder, the catalog in SQLite.

mod basics;
mod format;
mod schema_evolution;
mod statements;
mod tails;
mod types;
mod write_modes;

use changeproof::runner::Catalogue;
use changeproof_iceberg::{IcebergChangelogScan, IcebergManifestDiff};

/// The scenarios of Iceberg and the methods that capture it.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "iceberg",
    packages: &[env!("CARGO_PKG_NAME")],
    methods: &[&IcebergChangelogScan, &IcebergManifestDiff],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/iceberg")),
    versions: &[],
    readme: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")),
};

/// What every page of scenarios begins with.
mod prelude {
    pub(crate) use changeproof::{error::Result, row, scenario, scenario::Scenario, schema::Type::*, script::*};
    pub(crate) use changeproof_iceberg::{Source, WriteMode, one_commit};

    /// Begins the declaration of a table.
    pub(crate) fn table(name: &str) -> TableBuilder {
        TableBuilder::new(name)
    }

    /// The warehouse, for what a script has no step for.
    pub(crate) fn lake(s: &mut Scenario) -> Result<&mut Source> {
        s.source()
    }
}
