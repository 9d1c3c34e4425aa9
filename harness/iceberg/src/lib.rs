//! Apache Iceberg as a source of changes.
//!
//! - [`ChangelogScan`] tells the changes of rows between two snapshots of a table, copy-on-write and merge-on-read: position
//!   deletes, equality deletes, deletion vectors. Iceberg's own changelog scan refuses tables with delete files
//!   (apache/iceberg#14264).
//! - [`ChangelogTail`] follows a table as it grows.
//! - [`diff_files`] tells which files two snapshots differ in, from the metadata alone.
//! - [`Source`] is a warehouse that scripts are applied to, and [`IcebergChangelogScan`] and [`IcebergManifestDiff`] follow it.
//!
//! "Specification" is the Iceberg table specification, versions 2 and 3: <https://iceberg.apache.org/spec/>.

mod aligned;
mod capture;
mod carried;
mod changelog;
mod changes;
mod compaction;
mod comparison;
mod deletes;
mod equal;
mod expiry;
mod export;
mod files;
mod filter;
mod guarded;
mod hashes;
mod maintenance;
mod mutation;
mod open;
mod pairs;
mod plan;
mod pruning;
mod reading;
mod rest;
mod rolling;
mod rows;
mod snapshots;
mod source;
mod tail;
#[cfg(test)]
mod tests;
mod types;
mod upsert;
#[path = "../../arrow/values.rs"]
mod values;
mod warehouse;
mod writer;

pub use self::{
    capture::{IcebergChangelogScan, IcebergManifestDiff, told_files},
    changelog::{ChangeBatch, ChangelogScan, Kind, rows_at},
    changes::changes,
    compaction::{FileCounts, Rewriting, Rewritten, SMALL_BYTES, compact},
    expiry::{Expired, MOST_TOGETHER, Removed, Retention, expire},
    files::{FilesDiff, LiveFile, diff_files},
    mutation::WriteMode,
    open::{open_in_bucket, open_table},
    rest::RestSettings,
    rolling::{RowWriter, to_rows},
    snapshots::{ancestors, between, snapshot},
    source::{Iceberg, Source, ident, name_of, one_commit, warehouse_in_bucket, warehouse_of},
    tail::{ChangelogTail, TableSource, TailEvent},
    types::{field, from_iceberg, is_promotion, key_columns},
    upsert::{flat_rows_of, live_files, rows_of, rows_where, with_schema, write_key_deletes},
    warehouse::{Commit, OLD_METADATA, REMOVES_OLD_METADATA, TableChange, Warehouse},
    writer::{FilesDelta, commit_of, write_batch, write_rows},
};

/// Whose error it is.
pub(crate) const SERVICE: &str = "Iceberg";
