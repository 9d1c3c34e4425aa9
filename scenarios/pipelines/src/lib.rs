//! From PostgreSQL to Apache Iceberg, scenario by scenario: all those of PostgreSQL, judged by what the sink's tables hold.

use changeproof::runner::Catalogue;
use changeproof_pipelines::Direct;

/// The pipelines, and the scenarios of PostgreSQL for them.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "pipelines",
    methods: &[&Direct],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/pipelines")),
    versions: &[],
    ..scenarios_postgres::CATALOGUE
};
