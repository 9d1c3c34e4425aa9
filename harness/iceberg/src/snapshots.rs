//! Which snapshots lie between two others: the ancestry is followed, not time (specification, "Snapshots": a snapshot names
//! its parent, and `main` may have been rolled back).

use std::{collections::HashSet, iter::successors};

use changeproof::error::{Error, Result};
use iceberg::{spec::SnapshotRef, spec::TableMetadata, table::Table};

use crate::SERVICE;

/// A snapshot of the table.
///
/// # Errors
/// The table has none of the number: it never had, or it has expired.
pub fn snapshot(table: &Table, id: i64) -> Result<SnapshotRef> {
    table.metadata().snapshot_by_id(id).cloned().ok_or_else(|| unknown(table, id))
}

fn unknown(table: &Table, id: i64) -> Error {
    let known: Vec<String> = table.metadata().history().iter().map(|entry| entry.snapshot_id.to_string()).collect();
    let known = if known.is_empty() {
        "it has none at all".to_owned()
    } else {
        format!("its history names {}", known.join(", "))
    };
    Error::new(SERVICE, format!("find the snapshot {id} of {}", table.identifier()), format!("there is none; {known}"))
        .help("it may have expired: begin at a snapshot that is still there, or read the table anew")
}

/// A snapshot and its ancestors, the youngest first, as far back as they are still there.
pub fn ancestors<'a>(
    metadata: &'a TableMetadata,
    snapshot: &SnapshotRef,
) -> impl Iterator<Item = SnapshotRef> + use<'a> {
    let parent = |last: &SnapshotRef| metadata.snapshot_by_id(last.parent_snapshot_id()?).cloned();
    let mut known = HashSet::new();
    // Metadata that is damaged may go in a circle.
    successors(Some(snapshot.clone()), parent).take_while(move |snapshot| known.insert(snapshot.snapshot_id()))
}

/// The snapshots after `from` up to `to`, the oldest first. Without `from` all since the table's beginning.
///
/// # Errors
/// `from` is no ancestor of `to`; or one in between has expired, so that what it changed can't be told.
pub fn between(table: &Table, from: Option<i64>, to: &SnapshotRef) -> Result<Vec<SnapshotRef>> {
    let mut range: Vec<SnapshotRef> = ancestors(table.metadata(), to).collect();
    let doing = |from: &str| format!("follow {} from {from} to {}", table.identifier(), to.snapshot_id());
    match from {
        Some(from) => {
            let Some(at) = range.iter().position(|snapshot| snapshot.snapshot_id() == from) else {
                let known = snapshot(table, from)?;
                let theirs: HashSet<i64> = ancestors(table.metadata(), &known).map(|one| one.snapshot_id()).collect();
                let common = range.iter().find(|one| theirs.contains(&one.snapshot_id()));
                let common = common.map_or("they have no common ancestor".to_owned(), |common| {
                    format!("their last common ancestor is {}", common.snapshot_id())
                });
                let cause = format!(
                    "the one is no ancestor of the other: the table was rolled back, or they are of two branches; {common}"
                );
                return Err(Error::new(SERVICE, doing(&from.to_string()), cause)
                    .help("begin at that ancestor, or ask for the net changes between the two"));
            };
            range.truncate(at);
        }
        None => {
            if let Some(lost) = range.last().and_then(|oldest| oldest.parent_snapshot_id()) {
                let cause = format!("the snapshot {lost} has expired, and with it what it changed");
                return Err(Error::new(SERVICE, doing("its beginning"), cause)
                    .help("begin at a snapshot that is still there: its rows first, and then the changes since"));
            }
        }
    }
    range.reverse();
    Ok(range)
}
