//! From PostgreSQL to Apache Iceberg, scenario by scenario: all those of PostgreSQL, judged by what the sink's tables hold.

pub mod apart;
mod connect_sink;
pub mod sinks;
mod truncate;

use changeproof::runner::Catalogue;
use changeproof_pipelines::{ConnectSink, Direct, Spark};

/// The pipelines, and the scenarios of PostgreSQL for them.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "pipelines",
    methods: &[&Spark, &ConnectSink, &Direct],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/pipelines")),
    packages: &[scenarios_relational::PACKAGE, "scenarios-postgres", env!("CARGO_PKG_NAME")],
    versions: &[],
    ..scenarios_postgres::CATALOGUE
};

/// The direct pipeline alone: the sinks of the others are always in object storage, and the forms of their values are not all described.
pub const DIRECT: Catalogue = Catalogue { methods: &[&Direct], readme: None, ..CATALOGUE };
