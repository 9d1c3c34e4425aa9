//! The state of pipelines, so that they can move to another Kafka and another Connect: written to a file, and read from it again.
//!
//! The state is what Kafka and Connect know, and neither the source nor a sink does: each connector's configuration and offsets, the records
//! of its topics, and how far groups of consumers have read them. A record keeps its offset: sinks have offsets in places of their own, as
//! Spark in its checkpoint, and Iceberg's sink for Kafka Connect in the summaries of its snapshots and in the column `_cdc`.
//!
//! The log of the source is no part of it. Before anything is made of a file, each source is asked whether it still has what its connector
//! hasn't read.

mod export;
mod file;
mod groups;
mod import;
mod restore;
mod secrets;
mod sources;
mod topics;

pub use self::{
    export::{Exported, export},
    file::VERSION,
    import::{Imported, Target, import},
    secrets::Given,
    sources::Sources,
};

/// Whose error it is.
const SERVICE: &str = "the pipelines' state";
