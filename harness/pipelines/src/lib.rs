//! Pipelines from PostgreSQL to Apache Iceberg.
//!
//! - [`Replication`] keeps tables of Iceberg as those of a database are: a copy first, then what is committed, exactly once.
//! - [`check`] compares the two and names the rows that differ.
//! - [`Direct`] is the former as a capture, so that scenarios judge what becomes of the sink's tables.
//!
//! ```text
//! slot ──► Feed ──► Batch (net change by key) ──► one commit a table: deletes by key, rows, schema, position of the log
//! ```

mod batch;
mod capture;
mod catalogue;
mod check;
mod copy;
mod replication;
mod shape;
mod sink;
mod values;

pub use self::{
    capture::Direct,
    check::{Checked, Difference, check},
    replication::{Cadence, Progress, Replication, Settings},
    values::Misfit,
};

/// Whose error it is.
pub(crate) const SERVICE: &str = "the replication";
