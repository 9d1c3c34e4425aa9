//! Debezium for PostgreSQL: pgoutput through Kafka Connect and Kafka to [`Change`]s.

mod assemble;
mod connect;
mod postgres;
mod record;
mod topics;
mod values;

pub use self::postgres::DebeziumPostgres;
