//! Change feeds of Delta Lake, scenario by scenario. No container is needed: tables are in a folder, written by delta-rs.

mod basics;
mod format;
mod looks;
mod schema_evolution;
mod statements;

use changeproof::runner::Catalogue;
use changeproof_delta::{DeltaChangeDataFeed, DeltaVersionDiff};

/// The scenarios of Delta Lake and the methods that capture it.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "delta",
    packages: &[env!("CARGO_PKG_NAME")],
    methods: &[&DeltaChangeDataFeed, &DeltaVersionDiff],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/delta")),
    versions: &[],
    readme: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")),
};

/// What every page of scenarios begins with.
mod prelude {
    pub(crate) use changeproof::{
        error::{Error, Result},
        row, scenario,
        scenario::Scenario,
        schema::Type::*,
        script::*,
    };
    pub(crate) use changeproof_delta::Source;

    /// Begins the declaration of a table.
    pub(crate) fn table(name: &str) -> TableBuilder {
        TableBuilder::new(name)
    }

    /// The folder of tables, for what a script has no step for.
    pub(crate) fn lake(s: &mut Scenario) -> Result<&mut Source> {
        s.source()
    }

    /// Statements that are one commit: a MERGE, or what is left of a table and comes instead (overwrite).
    pub(crate) fn one_commit(steps: impl IntoIterator<Item = Step>) -> Step {
        raw("", steps)
    }
}
