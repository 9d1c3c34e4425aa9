//! Delta Lake as a source of changes.
//!
//! - [`DeltaChangeDataFeed`] follows the Change Data Feed of tables, commit by commit.
//! - [`DeltaVersionDiff`] compares two versions by time travel, which needs no feed and sees nothing in between.
//! - [`Source`] is a folder of tables that scripts are applied to.
//!
//! "Protocol" is the Delta transaction log protocol: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

mod capture;
mod diff;
mod feed;
mod literals;
mod s3;
mod source;
mod tables;
mod types;
#[path = "../../arrow/values.rs"]
mod values;

pub use self::{
    capture::{DeltaChangeDataFeed, DeltaVersionDiff},
    diff::rows_between,
    feed::{ChangeFeed, FeedCommit},
    s3::use_s3,
    source::{Delta, Source},
    tables::{Lake, address_of, is_table, load_version, open_table, version_at, version_of},
};

/// Whose error it is.
pub(crate) const SERVICE: &str = "Delta Lake";
