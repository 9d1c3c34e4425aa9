//! What Kafka Connect puts between Debezium and its topics, scenario by scenario: converters with a schema registry, and transforms.

mod transforms;

use std::path::Path;

use changeproof::{
    debezium::{DebeziumFlat, DebeziumRegistered, Format},
    runner::{Catalogue, compare_page},
};

/// Compares a page that no method and scenario of the catalogue belong to with the one on record, in a folder beside theirs. It panics if it is
/// another.
pub fn document(folder: &str, name: &str, file: &str, page: &str) {
    let folder = format!("{}/../../snapshots/connect/{folder}", env!("CARGO_MANIFEST_DIR"));
    compare_page(Path::new(&folder), name, file, None, page);
}

/// The forms of records, the scenarios of PostgreSQL in which they can make a difference, and those of transforms.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "connect",
    methods: &[&DebeziumRegistered(Format::Avro), &DebeziumRegistered(Format::JsonSchema), &DebeziumFlat],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/connect")),
    packages: &[scenarios_relational::PACKAGE, "scenarios-postgres", env!("CARGO_PKG_NAME")],
    versions: &[],
    ..scenarios_postgres::CATALOGUE
};
