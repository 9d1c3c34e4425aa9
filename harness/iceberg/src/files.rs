//! Which files two snapshots of a table differ in, from the metadata alone (specification, "Manifests" and "Manifest Lists").
//!
//! Manifests that both snapshots share hold the same files, so only the others are read: the work depends on what changed and
//! not on the table's size. What came and went is the difference of the live files and not what entries are marked as, since
//! an entry that is marked as deleted may bear the number of another snapshot (apache/paimon#8788).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use changeproof::error::{Context, Error, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use iceberg::{
    spec::{DataContentType, DataFile, Manifest, ManifestContentType, ManifestFile, SnapshotRef},
    table::Table,
};

use crate::{SERVICE, filter::Filter, guarded::guarded};

/// So many manifests are read at a time.
const READ_TOGETHER: usize = 8;

/// See [`LiveFile::identity`].
pub(crate) type FileIdentity = (String, Option<i64>);

/// A data or delete file that a snapshot holds.
#[derive(Clone, Debug)]
pub struct LiveFile {
    /// The file with its statistics.
    pub file: DataFile,
    /// The data sequence number: delete files apply to data files by it (specification, "Sequence Numbers").
    pub sequence_number: i64,
    /// The number of the file itself, which compaction gives anew.
    pub file_sequence_number: Option<i64>,
    /// The snapshot that added it.
    pub snapshot_id: i64,
    /// The number of the partition spec that it was written by.
    pub spec_id: i32,
}

impl LiveFile {
    /// What the file is known by: its path, and for a deletion vector its place there as well, since one Puffin file holds
    /// many.
    pub(crate) fn identity(&self) -> FileIdentity {
        (self.file.file_path().to_owned(), self.file.content_offset())
    }

    /// Whether it is a deletion vector (specification, "Deletion Vectors").
    pub fn is_deletion_vector(&self) -> bool {
        self.file.content_type() == DataContentType::PositionDeletes && self.file.content_offset().is_some()
    }

    /// Whether two files are of the same partition of the same spec.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.spec_id == other.spec_id && self.file.partition() == other.file.partition()
    }
}

/// The files that came and went between two snapshots.
#[derive(Clone, Debug, Default)]
pub struct FilesDiff {
    /// Data and delete files that only the later one holds.
    pub added: Vec<LiveFile>,
    /// Data and delete files that only the earlier one holds.
    pub removed: Vec<LiveFile>,
    /// How many data files both hold.
    pub carried_data_files: u64,
    /// How many delete files both hold.
    pub carried_delete_files: u64,
    /// How many manifests were read for this.
    pub manifests_read: usize,
}

/// Reads a table's manifests, each once.
#[derive(Debug)]
pub(crate) struct Manifests<'a> {
    table: &'a Table,
    filter: Option<Arc<Filter>>,
    read: Mutex<HashMap<String, Arc<Manifest>>>,
}

impl<'a> Manifests<'a> {
    pub(crate) fn new(table: &'a Table) -> Self {
        Self { table, filter: None, read: Mutex::default() }
    }

    /// Leaves out manifests that name no file of which a row matches.
    pub(crate) fn filtered(mut self, filter: Option<Arc<Filter>>) -> Self {
        self.filter = filter;
        self
    }

    pub(crate) fn filter(&self) -> Option<&Arc<Filter>> {
        self.filter.as_ref()
    }

    pub(crate) fn table(&self) -> &'a Table {
        self.table
    }

    /// The manifests of a snapshot.
    pub(crate) async fn list(&self, snapshot: &SnapshotRef) -> Result<Vec<ManifestFile>> {
        let doing = || format!("read the manifest list {}", snapshot.manifest_list());
        let list = self.table.manifest_list_reader(snapshot).load().await.while_doing(SERVICE, doing())?;
        let may_match = |file: &ManifestFile| self.filter.as_ref().is_none_or(|filter| filter.may_name(file));
        Ok(list.consume_entries().into_iter().filter(may_match).collect())
    }

    pub(crate) async fn manifest(&self, file: &ManifestFile) -> Result<Arc<Manifest>> {
        let path = &file.manifest_path;
        if let Some(known) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(Arc::clone(known));
        }
        let doing = || format!("read the manifest {path}");
        let manifest = Arc::new(file.load_manifest(self.table.file_io()).await.while_doing(SERVICE, doing())?);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), Arc::clone(&manifest));
        Ok(manifest)
    }

    /// The files that a manifest says are in the table.
    pub(crate) async fn live(&self, file: &ManifestFile) -> Result<Vec<LiveFile>> {
        let manifest = self.manifest(file).await?;
        let entries = manifest.entries().iter().filter(|entry| entry.is_alive());
        entries
            .map(|entry| {
                let incomplete = || {
                    let doing = format!("read the manifest {}", file.manifest_path);
                    Error::new(SERVICE, doing, format!("{} has no sequence number", entry.file_path()))
                };
                Ok(LiveFile {
                    file: entry.data_file().clone(),
                    sequence_number: entry.sequence_number().ok_or_else(incomplete)?,
                    file_sequence_number: entry.file_sequence_number,
                    snapshot_id: entry.snapshot_id().unwrap_or(file.added_snapshot_id),
                    spec_id: file.partition_spec_id,
                })
            })
            .collect()
    }

    /// Reads those of these manifests that have not been read, several at a time.
    pub(crate) async fn read_all(&self, list: &[ManifestFile]) -> Result<()> {
        // Each future by itself: as closures of the stream the compiler doesn't find them general enough.
        let reading: Vec<_> = list.iter().map(|file| self.manifest(file)).collect();
        let mut read = stream::iter(reading).buffer_unordered(READ_TOGETHER);
        while read.try_next().await?.is_some() {}
        Ok(())
    }

    /// All files of a kind that a snapshot holds.
    pub(crate) async fn all(&self, snapshot: &SnapshotRef, content: ManifestContentType) -> Result<Vec<LiveFile>> {
        let mut list = self.list(snapshot).await?;
        list.retain(|manifest| manifest.content == content);
        self.read_all(&list).await?;
        let mut files = Vec::new();
        for manifest in &list {
            files.extend(self.live(manifest).await?);
        }
        Ok(files)
    }

    /// All data files that a snapshot holds, and all delete files.
    pub(crate) async fn of_both_kinds(&self, snapshot: &SnapshotRef) -> Result<(Vec<LiveFile>, Vec<LiveFile>)> {
        let data = self.all(snapshot, ManifestContentType::Data).await?;
        Ok((data, self.all(snapshot, ManifestContentType::Deletes).await?))
    }

    /// The files that two snapshots differ in. Before the first snapshot there is none.
    pub(crate) async fn diff(&self, before: Option<&SnapshotRef>, after: &SnapshotRef) -> Result<FilesDiff> {
        let earlier = match before {
            Some(before) => self.list(before).await?,
            None => Vec::new(),
        };
        let later = self.list(after).await?;
        let paths = |list: &[ManifestFile]| list.iter().map(|file| file.manifest_path.clone()).collect::<BTreeSet<_>>();
        let (earlier_paths, later_paths) = (paths(&earlier), paths(&later));
        let mut diff = FilesDiff::default();
        let mut gone: BTreeMap<_, LiveFile> = BTreeMap::new();
        for manifest in earlier.iter().filter(|manifest| !later_paths.contains(&manifest.manifest_path)) {
            diff.manifests_read += 1;
            gone.extend(self.live(manifest).await?.into_iter().map(|file| (file.identity(), file)));
        }
        for manifest in &later {
            let is_data = manifest.content == ManifestContentType::Data;
            let carried = if is_data { &mut diff.carried_data_files } else { &mut diff.carried_delete_files };
            if earlier_paths.contains(&manifest.manifest_path) {
                let count = |count: Option<u32>| u64::from(count.unwrap_or(0));
                *carried += count(manifest.added_files_count) + count(manifest.existing_files_count);
                continue;
            }
            diff.manifests_read += 1;
            for file in self.live(manifest).await? {
                if gone.remove(&file.identity()).is_some() {
                    *carried += 1;
                } else {
                    diff.added.push(file);
                }
            }
        }
        diff.removed = gone.into_values().collect();
        Ok(diff)
    }
}

/// The files that two snapshots of a table differ in: what manifest-based detection tells. Before the first snapshot there
/// is none.
///
/// # Errors
/// A manifest list or a manifest can't be read: with the file's name.
pub async fn diff_files(table: &Table, before: Option<&SnapshotRef>, after: &SnapshotRef) -> Result<FilesDiff> {
    let (table, before, after) = (table.clone(), before.cloned(), after.clone());
    guarded(async move { Manifests::new(&table).diff(before.as_ref(), &after).await }).await
}
