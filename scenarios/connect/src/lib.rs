//! What Kafka Connect puts between Debezium and its topics, scenario by scenario: converters with a schema registry, and transforms.

mod transforms;

use changeproof::{
    debezium::{DebeziumFlat, DebeziumRegistered, Format},
    runner::Catalogue,
};

/// Compares a page that no method and scenario of the catalogue belong to with the one on record, in a folder beside theirs. It panics if it is
/// another.
pub fn document(folder: &str, name: &str, file: &str, page: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("{}/../../snapshots/connect/{folder}", env!("CARGO_MANIFEST_DIR")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(file);
    settings.bind(|| insta::assert_snapshot!(name, page));
}

/// The forms of records, the scenarios of PostgreSQL in which they can make a difference, and those of transforms.
pub const CATALOGUE: Catalogue = Catalogue {
    storage: "connect",
    methods: &[&DebeziumRegistered(Format::Avro), &DebeziumRegistered(Format::Json), &DebeziumFlat],
    snapshots: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/connect")),
    packages: &[scenarios_relational::PACKAGE, "scenarios-postgres", env!("CARGO_PKG_NAME")],
    versions: &[],
    ..scenarios_postgres::CATALOGUE
};
