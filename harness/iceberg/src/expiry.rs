//! Expiry: snapshots that a table no longer keeps go from its metadata, and with them the files that only they had (specification,
//! "Snapshot Retention Policy").
//!
//! References don't expire by their age, and a snapshot that none leads to stays until it is as old as one of `main` would have to be: it
//! may have been rolled back by mistake.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use changeproof::error::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use iceberg::{
    TableIdent, TableRequirement, TableUpdate,
    spec::{MAIN_BRANCH, ManifestFile, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata},
    table::Table,
};
use serde::Deserialize;

use crate::{
    SERVICE,
    files::Manifests,
    snapshots::ancestors,
    warehouse::{Commit, TableChange, Warehouse},
    writer::{is_current, now_ms},
};

/// So many snapshots expire together at most, the oldest first: of a table that never had any expire there may be hundreds of thousands.
pub const MOST_TOGETHER: usize = 1000;

/// So many files are removed at a time.
const REMOVED_TOGETHER: usize = 8;

/// How long a table keeps the snapshots of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Those that are younger stay.
    pub max_age: Duration,
    /// So many stay at least, the branch's present one among them; that one stays in any case.
    pub at_least: usize,
}

impl Retention {
    /// What the table's properties say (`history.expire.max-snapshot-age-ms`, `history.expire.min-snapshots-to-keep`), and this where they
    /// say nothing; nothing if no file of the table may be removed (`gc.enabled`).
    pub fn of(self, table: &Table) -> Option<Self> {
        let properties = table.metadata().properties();
        let number = |name: &str| properties.get(name).and_then(|number| number.parse::<u64>().ok());
        if properties.get("gc.enabled").is_some_and(|is_enabled| is_enabled == "false") {
            return None;
        }
        let at_least = number("history.expire.min-snapshots-to-keep").and_then(|number| usize::try_from(number).ok());
        Some(Self {
            max_age: number("history.expire.max-snapshot-age-ms").map_or(self.max_age, Duration::from_millis),
            at_least: at_least.unwrap_or(self.at_least),
        })
    }

    /// How many of a table's snapshots are older than it keeps them, those among them that stay for another reason: a tag, or the least that
    /// a branch keeps.
    pub fn old(self, table: &Table) -> usize {
        let Some(retention) = self.of(table) else { return 0 };
        let oldest = before(retention.max_age);
        table.metadata().snapshots().filter(|snapshot| snapshot.timestamp_ms() <= oldest).count()
    }
}

/// The moment so long ago, in milliseconds since 1970.
fn before(age: Duration) -> i64 {
    now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// A table before and after snapshots of it have expired.
#[derive(Clone, Debug)]
pub struct Expired {
    before: Table,
    after: Table,
}

/// Files that only expired snapshots had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many of them are gone.
    pub removed: u64,
    /// How many the storage would not remove.
    pub left: u64,
}

/// Drops the snapshots from a table's metadata that it no longer keeps. Their files stay until [`Expired::remove_files`].
///
/// # Errors
/// The catalog refuses.
pub async fn expire(warehouse: &Warehouse, ident: &TableIdent, retention: Retention) -> Result<Expired> {
    let before = warehouse.table(ident).await?;
    let after = match retention.of(&before) {
        Some(retention) => warehouse.commit(ident, &Expiry(retention)).await?,
        None => before.clone(),
    };
    let is_same = before.metadata().uuid() == after.metadata().uuid();
    Ok(Expired { before: if is_same { before } else { after.clone() }, after })
}

struct Expiry(Retention);

#[async_trait]
impl TableChange for Expiry {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let snapshot_ids = expired(table.metadata(), self.0)?;
        let is_any = !snapshot_ids.is_empty();
        let updates = vec![TableUpdate::RemoveSnapshots { snapshot_ids }];
        let is_it = TableRequirement::UuidMatch { uuid: table.metadata().uuid() };
        Ok(is_any.then(|| Commit { requirements: vec![is_it, is_current(table)], updates }))
    }
}

fn expired(metadata: &TableMetadata, retention: Retention) -> Result<Vec<i64>> {
    let mut kept = BTreeSet::new();
    for reference in references(metadata)? {
        let Some(snapshot) = metadata.snapshot_by_id(reference.snapshot_id) else { continue };
        let (mut at_least, mut oldest) = (retention.at_least.max(1), before(retention.max_age));
        match reference.retention {
            SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, .. } => {
                let own = min_snapshots_to_keep.and_then(|number| usize::try_from(number).ok());
                at_least = own.map_or(at_least, |own| own.max(1));
                oldest = max_snapshot_age_ms.map_or(oldest, |age| now_ms().saturating_sub(age));
            }
            SnapshotRetention::Tag { .. } => (at_least, oldest) = (1, i64::MAX),
        }
        let is_kept = |(at, snapshot): &(usize, SnapshotRef)| *at < at_least || snapshot.timestamp_ms() > oldest;
        let line = ancestors(metadata, snapshot).enumerate().take_while(is_kept);
        kept.extend(line.map(|(_, snapshot)| snapshot.snapshot_id()));
    }
    let oldest = before(retention.max_age);
    let is_gone =
        |snapshot: &&SnapshotRef| snapshot.timestamp_ms() <= oldest && !kept.contains(&snapshot.snapshot_id());
    let mut gone: Vec<&SnapshotRef> = metadata.snapshots().filter(is_gone).collect();
    gone.sort_by_key(|snapshot| snapshot.sequence_number());
    Ok(gone.into_iter().take(MOST_TOGETHER).map(|snapshot| snapshot.snapshot_id()).collect())
}

/// All branches and tags: `iceberg` tells one only if its name is known.
fn references(metadata: &TableMetadata) -> Result<Vec<SnapshotReference>> {
    #[derive(Deserialize)]
    struct References {
        #[serde(default)]
        refs: HashMap<String, SnapshotReference>,
    }
    let doing = "read a table's branches and tags";
    let metadata_json = serde_json::to_value(metadata).while_doing(SERVICE, doing)?;
    let References { mut refs } = serde_json::from_value(metadata_json).while_doing(SERVICE, doing)?;
    if let Some(id) = metadata.current_snapshot_id() {
        let main = || SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
        refs.entry(MAIN_BRANCH.to_owned()).or_insert_with(main);
    }
    Ok(refs.into_values().collect())
}

impl Expired {
    /// How many snapshots have expired.
    pub fn count(&self) -> usize {
        self.gone().count()
    }

    /// The table as it is since.
    pub fn table(&self) -> &Table {
        &self.after
    }

    fn gone(&self) -> impl Iterator<Item = &SnapshotRef> {
        self.before.metadata().snapshots().filter(|snapshot| !self.is_kept(snapshot.snapshot_id()))
    }

    fn is_kept(&self, id: i64) -> bool {
        self.after.metadata().snapshot_by_id(id).is_some()
    }

    /// Removes the files that only the expired snapshots had: data and delete files, manifests, manifest lists. What is not removed, because
    /// this is cut short or the storage refuses, no snapshot leads to any more, and an engine's `remove_orphan_files` finds it.
    ///
    /// # Errors
    /// A manifest or a list of them can't be read; nothing is removed then.
    pub async fn remove_files(&self) -> Result<Removed> {
        let files = self.before.file_io();
        let removing: Vec<_> = self.files().await?.into_iter().map(|path| files.delete(path)).collect();
        let mut removing = stream::iter(removing).buffer_unordered(REMOVED_TOGETHER);
        let mut removed = Removed::default();
        while let Some(ended) = removing.next().await {
            match ended {
                Ok(()) => removed.removed += 1,
                Err(_) => removed.left += 1,
            }
        }
        Ok(removed)
    }

    /// The paths of those files.
    ///
    /// A file of an expired snapshot that one of the others has too is in one of [`Self::beside`].
    async fn files(&self) -> Result<BTreeSet<String>> {
        let manifests = Manifests::new(&self.before);
        let kept = lists(&manifests, self.beside()).await?;
        let mut gone = lists(&manifests, self.gone()).await?;
        gone.retain(|path, _| !kept.contains_key(path));
        let mut files = paths(&manifests, gone.values()).await?;
        if !files.is_empty() {
            for path in paths(&manifests, kept.values()).await? {
                files.remove(&path);
            }
        }
        files.extend(gone.into_keys());
        files.extend(self.gone().map(|snapshot| snapshot.manifest_list().to_owned()));
        Ok(files)
    }

    /// Those of the others that have each file which an expired snapshot shares with any of them.
    ///
    /// All snapshots between two that have a file have it. So of those that are known to descend from all expired ones the oldest will do;
    /// of how others are related to expired ones, what would tell may have expired before.
    fn beside(&self) -> impl Iterator<Item = &SnapshotRef> {
        let metadata = self.before.metadata();
        let current = metadata.current_snapshot().into_iter();
        let line: Vec<i64> = current.flat_map(|it| ancestors(metadata, it)).map(|it| it.snapshot_id()).collect();
        let is_one_line = self.gone().all(|gone| line.contains(&gone.snapshot_id()));
        let descend: BTreeSet<i64> = line.into_iter().take_while(|id| is_one_line && self.is_kept(*id)).collect();
        self.after.metadata().snapshots().filter(move |snapshot| {
            let parent = snapshot.parent_snapshot_id();
            !descend.contains(&snapshot.snapshot_id()) || parent.is_none_or(|parent| !self.is_kept(parent))
        })
    }
}

/// The manifests of snapshots, by their paths.
async fn lists(
    manifests: &Manifests<'_>,
    snapshots: impl Iterator<Item = &SnapshotRef>,
) -> Result<BTreeMap<String, ManifestFile>> {
    let reading: Vec<_> = snapshots.map(|snapshot| manifests.list(snapshot)).collect();
    let (mut lists, mut found) = (stream::iter(reading).buffer_unordered(REMOVED_TOGETHER), BTreeMap::new());
    while let Some(list) = lists.try_next().await? {
        found.extend(list.into_iter().map(|manifest| (manifest.manifest_path.clone(), manifest)));
    }
    Ok(found)
}

/// The paths of the files that manifests say are in the table.
async fn paths<'a>(manifests: &Manifests<'_>, of: impl Iterator<Item = &'a ManifestFile>) -> Result<BTreeSet<String>> {
    let list: Vec<ManifestFile> = of.cloned().collect();
    manifests.read_all(&list).await?;
    let mut paths = BTreeSet::new();
    for manifest in &list {
        paths.extend(manifests.live(manifest).await?.into_iter().map(|file| file.file.file_path().to_owned()));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
