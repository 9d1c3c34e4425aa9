//! Debezium: a connector on Kafka Connect, its topics, and records to [`Change`](crate::change::Change)s.

mod assemble;
mod avro;
mod definitions;
mod flat;
mod incremental;
mod json_schema;
mod mysql;
mod postgres;
mod record;
mod registered;
mod signals;
mod subscription;
mod values;
mod wire;

pub use self::{
    flat::DebeziumFlat, mysql::DebeziumMySql, postgres::DebeziumPostgres, registered::DebeziumRegistered, wire::Format,
};
