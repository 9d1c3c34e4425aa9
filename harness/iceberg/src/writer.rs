//! Writing: data files, delete files of each kind, and the snapshot that puts them into a table.
//!
//! `iceberg` 0.10 appends data files and no more, so row deltas and overwrites are put together here from its manifest writers
//! (specification, "Manifests", "Snapshots" and "Delete Formats").

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use changeproof::{
    error::{Context, Error, Result},
    value::Row,
};
use iceberg::{
    TableRequirement, TableUpdate,
    arrow::{RecordBatchPartitionSplitter, schema_to_arrow_schema},
    spec::{
        DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, MAIN_BRANCH, ManifestContentType,
        ManifestFile, ManifestListWriter, ManifestWriter, ManifestWriterBuilder, Operation, PartitionKey, SchemaRef,
        Snapshot, SnapshotReference, SnapshotRetention, Struct, Summary,
    },
    table::Table,
    writer::file_writer::{FileWriter, FileWriterBuilder, ParquetWriter, ParquetWriterBuilder},
};
use parquet::{basic::Compression, file::properties::WriterProperties};
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::{
    SERVICE,
    deletes::{position_schema, write_vector},
    files::{LiveFile, Manifests},
    values,
    warehouse::Commit,
};

/// The partition that a file is written for.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) values: Struct,
    pub(crate) spec_id: i32,
}

impl Partition {
    pub(crate) fn of(file: &LiveFile) -> Self {
        Self { values: file.file.partition().clone(), spec_id: file.spec_id }
    }
}

/// What a snapshot changes in a table's files.
#[derive(Clone, Debug, Default)]
pub struct FilesDelta {
    /// Data and delete files that come, each with the number of its partition spec.
    pub added: Vec<(DataFile, i32)>,
    /// Files that come in the place of others, each with its partition spec's number and the data sequence number that it has, so that
    /// later deletes apply to it as they did to these, or it to the same rows.
    pub rewritten: Vec<(DataFile, i32, i64)>,
    /// Data and delete files that go.
    pub removed: Vec<LiveFile>,
    /// Whether rows stay as they are: a compaction.
    pub is_replacement: bool,
    /// More for the snapshot's summary.
    pub properties: HashMap<String, String>,
}

impl FilesDelta {
    /// All that comes. A sequence number of -1 is given when it is committed: that of the snapshot.
    fn coming(&self) -> impl Iterator<Item = (&DataFile, i32, i64)> {
        let added = self.added.iter().map(|(file, spec)| (file, *spec, -1));
        added.chain(self.rewritten.iter().map(|(file, spec, number)| (file, *spec, *number)))
    }
}

fn new_path(table: &Table, ending: &str) -> String {
    format!("{}/data/{}.{ending}", table.metadata().location(), Uuid::new_v4())
}

/// Begins a new Parquet file.
pub(crate) async fn parquet_writer(table: &Table, schema: &SchemaRef) -> Result<ParquetWriter> {
    let path = new_path(table, "parquet");
    let doing = || format!("write the file {path}");
    // One row group: of several, the `iceberg` crate takes the bounds of those whose statistics are exact for the whole file's, and of a
    // long text they aren't. Readers would leave the file out for rows that it has.
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_row_count(None).build();
    let output = table.file_io().new_output(&path).while_doing(SERVICE, doing())?;
    ParquetWriterBuilder::new(properties, Arc::clone(schema)).build(output).await.while_doing(SERVICE, doing())
}

async fn write_parquet(table: &Table, schema: &SchemaRef, batch: &RecordBatch) -> Result<DataFileBuilder> {
    let doing = || format!("write a file of {}", table.identifier());
    let mut writer = parquet_writer(table, schema).await?;
    writer.write(batch).await.while_doing(SERVICE, doing())?;
    let written = writer.close().await.while_doing(SERVICE, doing())?;
    written.into_iter().next().ok_or_else(|| Error::new(SERVICE, doing(), "no row was given"))
}

pub(crate) fn finish(builder: &DataFileBuilder) -> Result<DataFile> {
    builder.build().while_doing(SERVICE, "describe a file")
}

/// Writes rows as data files of the table's present schema, one for each partition.
///
/// # Errors
/// A value isn't of its column's type, or a file can't be written.
pub async fn write_rows(table: &Table, rows: &[Row]) -> Result<Vec<(DataFile, i32)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let schema = table.metadata().current_schema();
    let arrow = Arc::new(schema_to_arrow_schema(schema).while_doing(SERVICE, "translate the schema")?);
    write_batch(table, &values::batch(&arrow, rows)?).await
}

/// As [`write_rows`], of columns.
///
/// # Errors
/// As [`write_rows`].
pub async fn write_batch(table: &Table, batch: &RecordBatch) -> Result<Vec<(DataFile, i32)>> {
    let metadata = table.metadata();
    let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
    let parts = if spec.is_unpartitioned() {
        vec![(None, batch.clone())]
    } else {
        let splitter = RecordBatchPartitionSplitter::try_new_with_computed_values(Arc::clone(schema), Arc::clone(spec));
        let parts = splitter.and_then(|splitter| splitter.split(batch)).while_doing(SERVICE, "partition rows")?;
        parts.into_iter().map(|(key, batch)| (Some(key), batch)).collect()
    };
    let mut files = Vec::new();
    for (key, batch) in parts {
        let mut file = write_parquet(table, schema, &batch).await?;
        file.content(DataContentType::Data)
            .partition(key.as_ref().map_or_else(Struct::empty, |key: &PartitionKey| key.data().clone()))
            .partition_spec_id(spec.spec_id());
        files.push((finish(&file)?, spec.spec_id()));
    }
    Ok(files)
}

/// Writes an equality delete file: rows that hold these values of the columns are deleted.
///
/// # Errors
/// As [`write_rows`].
pub(crate) async fn write_equality_deletes(
    table: &Table,
    columns: &SchemaRef,
    rows: &[Row],
    partition: &Partition,
) -> Result<(DataFile, i32)> {
    let arrow = Arc::new(schema_to_arrow_schema(columns).while_doing(SERVICE, "translate the schema")?);
    let mut file = write_parquet(table, columns, &values::batch(&arrow, rows)?).await?;
    file.content(DataContentType::EqualityDeletes)
        .equality_ids(Some(columns.as_struct().fields().iter().map(|field| field.id).collect()))
        .partition(partition.values.clone())
        .partition_spec_id(partition.spec_id);
    Ok((finish(&file)?, partition.spec_id))
}

/// Writes a position delete file for one data file.
///
/// # Errors
/// The file can't be written.
pub(crate) async fn write_position_deletes(
    table: &Table,
    data: &LiveFile,
    positions: &RoaringTreemap,
) -> Result<(DataFile, i32)> {
    let schema = position_schema()?;
    let arrow = Arc::new(schema_to_arrow_schema(&schema).while_doing(SERVICE, "translate the schema")?);
    let path = data.file.file_path();
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(positions.iter().map(|_| path)));
    let numbers: Vec<i64> = positions.iter().filter_map(|position| i64::try_from(position).ok()).collect();
    let columns = vec![paths, Arc::new(Int64Array::from(numbers)) as ArrayRef];
    let batch = RecordBatch::try_new(arrow, columns).while_doing(SERVICE, "write position deletes")?;
    let mut file = write_parquet(table, &schema, &batch).await?;
    let partition = Partition::of(data);
    file.content(DataContentType::PositionDeletes)
        .referenced_data_file(Some(path.to_owned()))
        .partition(partition.values)
        .partition_spec_id(partition.spec_id);
    Ok((finish(&file)?, partition.spec_id))
}

/// Writes deletion vectors into one Puffin file (specification of Puffin, "File structure"): one blob for each data file.
///
/// # Errors
/// The file can't be written.
pub(crate) async fn write_deletion_vectors(
    table: &Table,
    vectors: &[(LiveFile, RoaringTreemap)],
) -> Result<Vec<(DataFile, i32)>> {
    const MAGIC: &[u8; 4] = b"PFA1";
    let doing = "write deletion vectors";
    let path = new_path(table, "puffin");
    let mut content = MAGIC.to_vec();
    let mut blobs = Vec::new();
    let mut places = Vec::new();
    for (data, positions) in vectors {
        let blob = write_vector(positions)?;
        places.push((content.len(), blob.len()));
        blobs.push(serde_json::json!({
            "type": "deletion-vector-v1",
            "fields": [],
            // What isn't known before the commit is given as -1, and taken from the manifest.
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": content.len(),
            "length": blob.len(),
            "properties": {
                "referenced-data-file": data.file.file_path(),
                "cardinality": positions.len().to_string(),
            },
        }));
        content.extend(blob);
    }
    let footer = serde_json::json!({ "blobs": blobs, "properties": {} }).to_string();
    let length = u32::try_from(footer.len()).while_doing(SERVICE, doing)?;
    content.extend([&MAGIC[..], footer.as_bytes(), &length.to_le_bytes(), &[0; 4], MAGIC].concat());
    let size = u64::try_from(content.len()).while_doing(SERVICE, doing)?;
    let output = table.file_io().new_output(&path).while_doing(SERVICE, doing)?;
    output.write(Bytes::from(content)).await.while_doing(SERVICE, format!("write the file {path}"))?;
    let signed = |number: usize| i64::try_from(number).while_doing(SERVICE, doing);
    let describe = |((data, positions), (offset, length)): (&(LiveFile, RoaringTreemap), (usize, usize))| {
        let partition = Partition::of(data);
        let file = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(path.clone())
            .file_format(DataFileFormat::Puffin)
            .file_size_in_bytes(size)
            .record_count(positions.len())
            .referenced_data_file(Some(data.file.file_path().to_owned()))
            .content_offset(Some(signed(offset)?))
            .content_size_in_bytes(Some(signed(length)?))
            .partition(partition.values)
            .partition_spec_id(partition.spec_id)
            .build();
        Ok((file.while_doing(SERVICE, doing)?, partition.spec_id))
    };
    vectors.iter().zip(places).map(describe).collect()
}

/// The commit that puts a delta into a table as its next snapshot.
///
/// # Errors
/// A manifest can't be read or written, or a file that is to go isn't there.
pub async fn commit_of(table: &Table, delta: &FilesDelta) -> Result<Commit> {
    commit_by(&Manifests::new(table), delta).await
}

/// As [`commit_of`], by manifests some of which have been read.
pub(crate) async fn commit_by(manifests_read: &Manifests<'_>, delta: &FilesDelta) -> Result<Commit> {
    let table = manifests_read.table();
    let metadata = table.metadata();
    let parent = metadata.current_snapshot();
    let snapshot = NewSnapshot { table, id: new_snapshot_id(), uuid: Uuid::new_v4(), delta };
    let mut manifests = match parent {
        Some(parent) => snapshot.kept_manifests(manifests_read, parent).await?,
        None => Vec::new(),
    };
    for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
        manifests.extend(snapshot.added_manifests(content).await?);
    }
    let list = snapshot.write_list(manifests).await?;
    let sequence_number = metadata.next_sequence_number();
    let builder = Snapshot::builder()
        .with_snapshot_id(snapshot.id)
        .with_parent_snapshot_id(parent.map(|parent| parent.snapshot_id()))
        .with_sequence_number(sequence_number)
        .with_timestamp_ms(now_ms().max(metadata.last_updated_ms()))
        .with_manifest_list(list.path)
        .with_summary(snapshot.summary())
        .with_schema_id(metadata.current_schema_id());
    let new = match list.rows {
        Some((first, added)) => builder.with_row_range(first, added).build(),
        None => builder.build(),
    };
    Ok(Commit {
        requirements: vec![TableRequirement::UuidMatch { uuid: metadata.uuid() }, is_current(table)],
        updates: vec![TableUpdate::AddSnapshot { snapshot: new }, to_main(snapshot.id)],
    })
}

/// Makes a snapshot the table's present one.
pub(crate) fn to_main(snapshot_id: i64) -> TableUpdate {
    let reference = SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None));
    TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.to_owned(), reference }
}

/// That nobody has given the table another snapshot meanwhile.
pub(crate) fn is_current(table: &Table) -> TableRequirement {
    TableRequirement::RefSnapshotIdMatch {
        r#ref: MAIN_BRANCH.to_owned(),
        snapshot_id: table.metadata().current_snapshot_id(),
    }
}

/// The present moment in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn new_snapshot_id() -> i64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    i64::try_from((high ^ low) >> 1).unwrap_or(i64::MAX)
}

struct WrittenList {
    path: String,
    /// The first of the numbers that new rows get, and how many there are (specification, "Row Lineage").
    rows: Option<(u64, u64)>,
}

/// A snapshot being put together.
struct NewSnapshot<'a> {
    table: &'a Table,
    id: i64,
    uuid: Uuid,
    delta: &'a FilesDelta,
}

impl NewSnapshot<'_> {
    /// The parent's manifests; those with files that go are written anew, all of a kind and a partition spec as one.
    async fn kept_manifests(
        &self,
        manifests: &Manifests<'_>,
        parent: &iceberg::spec::SnapshotRef,
    ) -> Result<Vec<ManifestFile>> {
        let doing = "write a manifest";
        let mut gone: BTreeSet<_> = self.delta.removed.iter().map(LiveFile::identity).collect();
        let mut list = manifests.list(parent).await?;
        list.retain(|manifest| manifest.has_added_files() || manifest.has_existing_files());
        if gone.is_empty() {
            return Ok(list);
        }
        manifests.read_all(&list).await?;
        let mut kept = Vec::new();
        let mut anew: BTreeMap<(bool, i32), ManifestWriter> = BTreeMap::new();
        for manifest in list {
            let live = manifests.live(&manifest).await?;
            if !live.iter().any(|file| gone.contains(&file.identity())) {
                kept.push(manifest);
                continue;
            }
            let key = (manifest.content == ManifestContentType::Deletes, manifest.partition_spec_id);
            let writer = match anew.entry(key) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.writer(manifest.content, manifest.partition_spec_id)?),
            };
            for live in live {
                let is_gone = gone.remove(&live.identity());
                let LiveFile { file, sequence_number, file_sequence_number, snapshot_id, .. } = live;
                let written = if is_gone {
                    writer.add_delete_file(file, sequence_number, file_sequence_number)
                } else {
                    writer.add_existing_file(file, snapshot_id, sequence_number, file_sequence_number)
                };
                written.while_doing(SERVICE, doing)?;
            }
        }
        if let Some((path, _)) = gone.first() {
            return Err(Error::new(SERVICE, format!("remove the file {path}"), "it is not in the table"));
        }
        for writer in anew.into_values() {
            kept.push(writer.write_manifest_file().await.while_doing(SERVICE, doing)?);
        }
        Ok(kept)
    }

    /// Manifests of the new files of a kind, one for each partition spec.
    async fn added_manifests(&self, content: ManifestContentType) -> Result<Vec<ManifestFile>> {
        let mut by_spec: BTreeMap<i32, Vec<(&DataFile, i64)>> = BTreeMap::new();
        for (file, spec, sequence_number) in self.delta.coming() {
            if (file.content_type() == DataContentType::Data) == (content == ManifestContentType::Data) {
                by_spec.entry(spec).or_default().push((file, sequence_number));
            }
        }
        let mut written = Vec::new();
        for (spec, files) in by_spec {
            let mut writer = self.writer(content, spec)?;
            for (file, sequence_number) in files {
                writer.add_file(file.clone(), sequence_number).while_doing(SERVICE, "write a manifest")?;
            }
            written.push(writer.write_manifest_file().await.while_doing(SERVICE, "write a manifest")?);
        }
        Ok(written)
    }

    fn writer(&self, content: ManifestContentType, spec: i32) -> Result<ManifestWriter> {
        let metadata = self.table.metadata();
        let path = format!("{}/metadata/{}-{}.avro", metadata.location(), self.uuid, Uuid::new_v4().simple());
        let output = self.table.file_io().new_output(path).while_doing(SERVICE, "write a manifest")?;
        let spec = metadata.partition_spec_by_id(spec).ok_or_else(|| {
            Error::new(SERVICE, "write a manifest", format!("the table has no partition spec of the number {spec}"))
        })?;
        let schema = Arc::clone(metadata.current_schema());
        let builder =
            ManifestWriterBuilder::new(output, Some(self.id), schema, iceberg::spec::PartitionSpec::clone(spec));
        Ok(match (metadata.format_version(), content) {
            (FormatVersion::V1, _) => builder.build_v1(),
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        })
    }

    async fn write_list(&self, manifests: Vec<ManifestFile>) -> Result<WrittenList> {
        let doing = "write a manifest list";
        let metadata = self.table.metadata();
        let path = format!("{}/metadata/snap-{}-{}.avro", metadata.location(), self.id, self.uuid);
        let output = self.table.file_io().new_output(&path).while_doing(SERVICE, doing)?;
        let file = output.writer().await.while_doing(SERVICE, doing)?;
        let parent = metadata.current_snapshot_id();
        let sequence_number = metadata.next_sequence_number();
        let first_row = metadata.next_row_id();
        let mut writer = match metadata.format_version() {
            FormatVersion::V1 => ManifestListWriter::v1(file, self.id, parent),
            FormatVersion::V2 => ManifestListWriter::v2(file, self.id, parent, sequence_number),
            FormatVersion::V3 => ManifestListWriter::v3(file, self.id, parent, sequence_number, Some(first_row)),
        };
        writer.add_manifests(manifests.into_iter()).while_doing(SERVICE, doing)?;
        let rows = writer.next_row_id().map(|next| (first_row, next.saturating_sub(first_row)));
        writer.close().await.while_doing(SERVICE, doing)?;
        Ok(WrittenList { path, rows })
    }

    /// What the snapshot has changed, and what the table then holds (specification, appendix F.1 "Optional Snapshot Summary
    /// Fields"). Totals that the parent lacks can't be known.
    fn summary(&self) -> Summary {
        let added: Vec<&DataFile> = self.delta.coming().map(|(file, ..)| file).collect();
        let removed: Vec<&DataFile> = self.delta.removed.iter().map(|file| &file.file).collect();
        let mut properties = self.delta.properties.clone();
        let previous = self.table.metadata().current_snapshot().map(|parent| &parent.summary().additional_properties);
        for count in &COUNTS {
            let (came, went) = (count.of(&added), count.of(&removed));
            for (name, number) in [(count.added, came), (count.removed, went)] {
                if number > 0 {
                    properties.insert(name.to_owned(), number.to_string());
                }
            }
            let before = previous.map_or(Some(0), |previous| previous.get(count.total)?.parse::<u64>().ok());
            if let Some(before) = before {
                properties.insert(count.total.to_owned(), (before + came).saturating_sub(went).to_string());
            }
        }
        Summary { operation: self.operation(&added, &removed), additional_properties: properties }
    }

    fn operation(&self, added: &[&DataFile], removed: &[&DataFile]) -> Operation {
        let has_data = added.iter().any(|file| file.content_type() == DataContentType::Data);
        let has_deletes = added.iter().any(|file| file.content_type() != DataContentType::Data);
        match (self.delta.is_replacement, has_data, has_deletes || !removed.is_empty()) {
            (true, ..) => Operation::Replace,
            (false, true, true) => Operation::Overwrite,
            (false, true, false) => Operation::Append,
            (false, false, _) => Operation::Delete,
        }
    }
}

/// A number in a summary.
struct Count {
    added: &'static str,
    removed: &'static str,
    total: &'static str,
    is_counted: fn(DataContentType) -> bool,
    number: fn(&DataFile) -> u64,
}

impl Count {
    fn of(&self, files: &[&DataFile]) -> u64 {
        files.iter().filter(|file| (self.is_counted)(file.content_type())).map(|file| (self.number)(file)).sum()
    }
}

const COUNTS: [Count; 6] = [
    Count {
        added: "added-data-files",
        removed: "deleted-data-files",
        total: "total-data-files",
        is_counted: |content| content == DataContentType::Data,
        number: |_| 1,
    },
    Count {
        added: "added-delete-files",
        removed: "removed-delete-files",
        total: "total-delete-files",
        is_counted: |content| content != DataContentType::Data,
        number: |_| 1,
    },
    Count {
        added: "added-records",
        removed: "deleted-records",
        total: "total-records",
        is_counted: |content| content == DataContentType::Data,
        number: DataFile::record_count,
    },
    Count {
        added: "added-position-deletes",
        removed: "removed-position-deletes",
        total: "total-position-deletes",
        is_counted: |content| content == DataContentType::PositionDeletes,
        number: DataFile::record_count,
    },
    Count {
        added: "added-equality-deletes",
        removed: "removed-equality-deletes",
        total: "total-equality-deletes",
        is_counted: |content| content == DataContentType::EqualityDeletes,
        number: DataFile::record_count,
    },
    Count {
        added: "added-files-size",
        removed: "removed-files-size",
        total: "total-files-size",
        is_counted: |_| true,
        number: DataFile::file_size_in_bytes,
    },
];
