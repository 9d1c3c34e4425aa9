//! Debezium: a connector on Kafka Connect, its topics, and records to [`Change`](crate::change::Change)s.

mod assemble;
mod definitions;
mod incremental;
mod mysql;
mod postgres;
mod record;
mod signals;
mod subscription;
mod values;

pub use self::{mysql::DebeziumMySql, postgres::DebeziumPostgres};
