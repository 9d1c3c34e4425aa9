//! Pipelines from PostgreSQL to Apache Iceberg.
//!
//! - [`Replication`] keeps tables of Iceberg as those of a database are: a copy first, then what is committed, exactly once.
//! - [`keep_replicating`] starts it again after an error that may pass.
//! - [`check`] compares the two and names the rows that differ.
//! - [`Direct`] is the former as a capture, so that scenarios judge what becomes of the sink's tables.
//! - [`Spark`] is the same by Debezium, Kafka and Spark Structured Streaming, [`ConnectSink`] by Iceberg's sink for Kafka Connect.
//!
//! ```text
//! slot ──► Feed ──► Batch (net change by key) ──► one commit a table: deletes by key, rows, schema, position of the log
//! ```

mod batch;
mod catalogue;
mod changelog;
mod check;
mod compacting;
mod connect_sink;
mod contents;
mod copy;
mod direct;
mod expiring;
mod layout;
mod replication;
mod settings;
mod shape;
mod sink;
mod spark;
mod supervision;
mod topics;
mod values;

pub use self::{
    changelog::current_state,
    check::{Checked, Difference, check},
    connect_sink::ConnectSink,
    direct::Direct,
    layout::Layout,
    replication::Replication,
    settings::{Cadence, Progress, Settings},
    spark::Spark,
    supervision::keep_replicating,
    values::Misfit,
};

/// Whose error it is.
pub(crate) const SERVICE: &str = "the replication";
