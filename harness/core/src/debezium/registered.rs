//! Debezium with the schemas of its records in a registry.

use async_trait::async_trait;

use super::{
    postgres::{self, DebeziumPostgres},
    wire::{Format, Wire},
};
use crate::{
    capture::{Capture, Options, Subject, Subscription},
    error::Result,
    guarantees::Guarantees,
    registry::Registry,
    stack::{CONFLUENT_PATH, Endpoint, Service},
};

/// Those in which the form of a record can make a difference.
const PLAYS: &[&str] = &[
    "add_a_column_not_null_with_a_default",
    "add_a_nullable_column",
    "arrays",
    "arrays_of_two_dimensions",
    "bits_and_money",
    "bytes_identifiers_and_addresses",
    "change_text_to_int_by_using",
    "change_the_scale_of_a_numeric",
    "common_types",
    "composite_key",
    "dates_far_away",
    "delete_with_not_null_columns",
    "documents",
    "domains",
    "drop_a_column",
    "drop_and_add_again_with_another_type",
    "enum_with_a_value_added",
    "floats_at_their_edges",
    "geometry",
    "hstore",
    "initial_snapshot_of_existing_rows",
    "insert_update_delete",
    "insert_update_delete_identity_full",
    "interleaved_transactions",
    "intervals",
    "logical_messages",
    "minus_zero",
    "no_primary_key_identity_full",
    "nulls_and_defaults",
    "nulls_replaced_by_the_converters_default",
    "numerics_at_their_limits",
    "quoted_and_non_ascii_names",
    "ranges",
    "rename_a_column",
    "rename_a_table",
    "replica_identity_nothing",
    "texts",
    "times_of_day",
    "transaction_of_10_000_rows",
    "truncate_of_one_table",
    "unchanged_toast_identity_default",
    "update_of_a_primary_key",
    "widen_an_int_to_bigint",
];

/// Debezium's connector for PostgreSQL, whose records refer to schemas in a registry.
#[derive(Clone, Copy, Debug)]
pub struct DebeziumRegistered(pub Format);

#[async_trait]
impl Capture for DebeziumRegistered {
    fn name(&self) -> &'static str {
        match self.0 {
            Format::Avro => "avro",
            Format::JsonSchema => "json_schema",
        }
    }

    fn summary(&self) -> &'static str {
        match self.0 {
            Format::Avro => "log-based: pgoutput → Debezium on Kafka Connect, Avro with schemas in a registry → Kafka",
            Format::JsonSchema => {
                "log-based: pgoutput → Debezium on Kafka Connect, JSON with JSON Schemas in a registry → Kafka"
            }
        }
    }

    fn like(&self) -> Option<&'static str> {
        Some(DebeziumPostgres.name())
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres, Service::Kafka, Service::Connect, Service::Registry]
    }

    fn plays(&self) -> Option<&'static [&'static str]> {
        Some(PLAYS)
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        DebeziumPostgres.guarantees(options)
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.prepare(subject).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let endpoint = subject.stack.endpoint(Service::Registry)?;
        let options = options.with_defaults(settings(self.0, endpoint));
        let wire = Wire::new(self.0, Registry::of(subject.stack)?);
        postgres::start(subject, &options, Some(wire)).await
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.clean_up(subject).await?;
        let registry = Registry::of(subject.stack)?;
        registry.remove(&format!("{}.", subject.name)).await
    }
}

/// Of Apicurio's converter, and what makes it write Confluent's wire format (Apicurio's manual, "Configuring Kafka serializers/deserializers").
const AVRO: [(&str, &str); 5] = [
    ("converter", "io.apicurio.registry.utils.converter.AvroConverter"),
    ("converter.apicurio.registry.auto-register", "true"),
    ("converter.apicurio.registry.as-confluent", "true"),
    ("converter.apicurio.registry.headers.enabled", "false"),
    ("converter.apicurio.registry.use-id", "contentId"),
];

/// The converters' settings, and names that Avro allows (Debezium's manual, "Avro naming").
fn settings(format: Format, registry: &Endpoint) -> Vec<(String, String)> {
    let of_registry = |path: &str| format!("http://{}:8080/{path}", registry.container);
    let both = |name: &str, value: &str| ["key", "value"].map(|side| (format!("{side}.{name}"), value.to_owned()));
    match format {
        Format::Avro => {
            let url = both("converter.apicurio.registry.url", &of_registry("apis/registry/v2"));
            let names = ["schema.name.adjustment.mode", "field.name.adjustment.mode"];
            let names = names.map(|name| (name.to_owned(), "avro".to_owned()));
            AVRO.iter().flat_map(|(name, value)| both(name, value)).chain(url).chain(names).collect()
        }
        Format::JsonSchema => {
            let url = both("converter.schema.registry.url", &of_registry(CONFLUENT_PATH));
            both("converter", "io.changeproof.connect.JsonSchemaConverter").into_iter().chain(url).collect()
        }
    }
}
