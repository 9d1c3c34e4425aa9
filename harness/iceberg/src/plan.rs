//! Which data files to read for the changes between two snapshots, and what is deleted in each of them before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow_array::RecordBatch;
use changeproof::error::Result;
use iceberg::{
    spec::{DataContentType, ManifestContentType, SchemaRef, SnapshotRef},
    table::Table,
};
use roaring::RoaringTreemap;

use crate::{
    changelog::Kind,
    deletes::{DeleteFiles, Deletes, Encoder, EqualityDeletes, may_apply},
    files::{LiveFile, Manifests},
    filter::Filter,
    reading::with_columns,
};

/// A data file some of whose rows may have come or gone.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) file: LiveFile,
    /// What is deleted in it at the earlier snapshot; nothing at all of it is there if it isn't.
    pub(crate) before: Option<Dead>,
    /// The same for the later snapshot.
    pub(crate) after: Option<Dead>,
}

/// The deleted rows of a data file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dead {
    positions: RoaringTreemap,
    values: Vec<Arc<EqualityDeletes>>,
}

impl Dead {
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.values.is_empty()
    }
}

impl Work {
    pub(crate) fn may_delete(&self) -> bool {
        self.before.is_some() && self.after.as_ref().is_none_or(|after| !after.is_empty())
    }

    pub(crate) fn may_insert(&self) -> bool {
        self.after.is_some() && self.before.as_ref().is_none_or(|before| !before.is_empty())
    }

    /// Whether all of its rows have gone, or come.
    pub(crate) fn is_whole(&self, side: Kind) -> bool {
        let (this, other) =
            if side == Kind::Delete { (&self.before, &self.after) } else { (&self.after, &self.before) };
        other.is_none() && this.as_ref().is_some_and(Dead::is_empty)
    }

    /// Whether rows of it may have gone, or come.
    pub(crate) fn may(&self, side: Kind) -> bool {
        if side == Kind::Delete { self.may_delete() } else { self.may_insert() }
    }
}

/// What to read, and by which schema.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) work: Vec<Work>,
    /// The columns of the later snapshot.
    pub(crate) schema: SchemaRef,
    /// Those and the ones that equality deletes or the filter compare.
    pub(crate) read_schema: SchemaRef,
    /// Which rows are told.
    pub(crate) filter: Option<Arc<Filter>>,
}

/// Makes the plan for two snapshots; before the first one there is no file.
pub(crate) async fn plan(
    manifests: &Manifests<'_>,
    before: Option<&SnapshotRef>,
    after: &SnapshotRef,
    schema: SchemaRef,
) -> Result<Plan> {
    let diff = manifests.diff(before, after).await?;
    let filter = manifests.filter().cloned();
    // Only now: a file's statistics may have been told otherwise by another manifest, and the file is the same.
    let may_match = |file: &LiveFile| filter.as_ref().is_none_or(|filter| filter.may_hold(file));
    let is_data = |file: &LiveFile| file.file.content_type() == DataContentType::Data;
    let (added, new_deletes): (Vec<_>, Vec<_>) = diff.added.into_iter().filter(may_match).partition(is_data);
    let (removed, old_deletes): (Vec<_>, Vec<_>) = diff.removed.into_iter().filter(may_match).partition(is_data);
    let changed_deletes: Vec<LiveFile> = new_deletes.into_iter().chain(old_deletes).collect();

    let deletes_before = match before {
        Some(before) => manifests.all(before, ManifestContentType::Deletes).await?,
        None => Vec::new(),
    };
    let deletes_after = manifests.all(after, ManifestContentType::Deletes).await?;
    let compared = [&deletes_before, &deletes_after].into_iter().flatten();
    let mut compared: BTreeSet<i32> = compared.filter_map(|file| file.file.equality_ids()).flatten().collect();
    compared.extend(filter.iter().flat_map(|filter| filter.columns()));
    let compared: Vec<i32> = compared.into_iter().collect();
    let read_schema = with_columns(manifests.table(), &schema, &compared)?;
    let mut planner = Planner { manifests, schema: &read_schema, files: DeleteFiles::default() };

    let mut work = Vec::new();
    for file in removed {
        let dead = planner.dead(&file, &deletes_before).await?;
        work.push(Work { file, before: Some(dead), after: None });
    }
    if !changed_deletes.is_empty() {
        let new: BTreeSet<String> = added.iter().map(|file| file.file.file_path().to_owned()).collect();
        for file in manifests.all(after, ManifestContentType::Data).await? {
            if !may_match(&file)
                || new.contains(file.file.file_path())
                || !planner.is_touched(&file, &changed_deletes).await?
            {
                continue;
            }
            let before = planner.dead(&file, &deletes_before).await?;
            let after = planner.dead(&file, &deletes_after).await?;
            work.push(Work { file, before: Some(before), after: Some(after) });
        }
    }
    for file in added {
        let dead = planner.dead(&file, &deletes_after).await?;
        work.push(Work { file, before: None, after: Some(dead) });
    }
    Ok(Plan { work, schema, read_schema, filter })
}

/// The live rows of a snapshot: all of its data files, of which nothing was there before.
pub(crate) async fn plan_rows(manifests: &Manifests<'_>, snapshot: &SnapshotRef, schema: SchemaRef) -> Result<Plan> {
    plan(manifests, None, snapshot, schema).await
}

/// The live rows of some data files of a snapshot, which has these delete files.
pub(crate) async fn plan_files(
    manifests: &Manifests<'_>,
    data: &[LiveFile],
    deletes: &[LiveFile],
    schema: SchemaRef,
) -> Result<Plan> {
    let compared: BTreeSet<i32> = deletes.iter().filter_map(|file| file.file.equality_ids()).flatten().collect();
    let compared: Vec<i32> = compared.into_iter().collect();
    let read_schema = with_columns(manifests.table(), &schema, &compared)?;
    let mut planner = Planner { manifests, schema: &read_schema, files: DeleteFiles::default() };
    let mut work = Vec::new();
    for file in data {
        let dead = planner.dead(file, deletes).await?;
        work.push(Work { file: file.clone(), before: None, after: Some(dead) });
    }
    Ok(Plan { work, schema, read_schema, filter: None })
}

struct Planner<'a, 'm> {
    manifests: &'m Manifests<'a>,
    schema: &'m SchemaRef,
    files: DeleteFiles,
}

impl Planner<'_, '_> {
    /// What delete files delete in a data file. A deletion vector takes the place of all position delete files.
    async fn dead(&mut self, data: &LiveFile, deletes: &[LiveFile]) -> Result<Dead> {
        let applying: Vec<&LiveFile> = deletes.iter().filter(|delete| self.applies(delete, data)).collect();
        let has_vector = applying.iter().any(|delete| delete.is_deletion_vector());
        let mut dead = Dead::default();
        for delete in applying {
            let is_position = delete.file.content_type() == DataContentType::PositionDeletes;
            if is_position && has_vector && !delete.is_deletion_vector() {
                continue;
            }
            match self.files.load(self.manifests.table(), delete, self.schema).await? {
                Deletes::Positions(positions) => {
                    if let Some(positions) = positions.get(data.file.file_path()) {
                        dead.positions |= positions;
                    }
                }
                Deletes::Values(values) => dead.values.push(values),
            }
        }
        Ok(dead)
    }

    fn applies(&self, delete: &LiveFile, data: &LiveFile) -> bool {
        applies(self.manifests.table(), delete, data)
    }

    /// Whether one of the delete files says anything of a data file.
    async fn is_touched(&mut self, data: &LiveFile, deletes: &[LiveFile]) -> Result<bool> {
        for delete in deletes {
            if !self.applies(delete, data) {
                continue;
            }
            match self.files.load(self.manifests.table(), delete, self.schema).await? {
                Deletes::Positions(positions) if !positions.contains_key(data.file.file_path()) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// Whether a delete file may delete rows of a data file, as far as the metadata tell.
pub(crate) fn applies(table: &Table, delete: &LiveFile, data: &LiveFile) -> bool {
    may_apply(delete, data, is_unpartitioned(table, delete)) && may_match(delete, data)
}

/// Whether a file was written by a spec without partitions, so that equality deletes of it are of the whole table.
pub(crate) fn is_unpartitioned(table: &Table, file: &LiveFile) -> bool {
    table.metadata().partition_spec_by_id(file.spec_id).is_some_and(|spec| spec.is_unpartitioned())
}

/// Whether the statistics leave it open that an equality delete file names a row of a data file.
fn may_match(delete: &LiveFile, data: &LiveFile) -> bool {
    let ids = delete.file.equality_ids().unwrap_or_default();
    let has_nulls = |file: &LiveFile, id| file.file.null_value_counts().get(&id).is_none_or(|count| *count > 0);
    ids.into_iter().all(|id| {
        let bounds = |file: &LiveFile| {
            let (lower, upper) =
                (file.file.lower_bounds().get(&id).cloned(), file.file.upper_bounds().get(&id).cloned());
            lower.zip(upper)
        };
        match (bounds(delete), bounds(data)) {
            (Some((low, high)), Some((data_low, data_high))) => {
                let is_apart = low > data_high || high < data_low;
                !is_apart || (has_nulls(delete, id) && has_nulls(data, id))
            }
            _ => true,
        }
    })
}

/// Tells of the rows of a data file which have gone and which have come.
#[derive(Debug, Default)]
pub(crate) struct Marker {
    encoders: BTreeMap<Vec<i32>, Encoder>,
}

/// Of each row of a batch whether it has gone, and whether it has come.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) gone: Vec<bool>,
    pub(crate) came: Vec<bool>,
}

impl Marker {
    /// Marks the rows of a batch that begins at a position of its file.
    pub(crate) fn mark(&mut self, work: &Work, schema: &SchemaRef, first: u64, batch: &RecordBatch) -> Result<Marks> {
        let before = self.alive(work.before.as_ref(), schema, first, batch)?;
        let after = self.alive(work.after.as_ref(), schema, first, batch)?;
        let only =
            |this: &[bool], other: &[bool]| this.iter().zip(other).map(|(this, other)| *this && !*other).collect();
        Ok(Marks { gone: only(&before, &after), came: only(&after, &before) })
    }

    fn alive(&mut self, dead: Option<&Dead>, schema: &SchemaRef, first: u64, batch: &RecordBatch) -> Result<Vec<bool>> {
        let Some(dead) = dead else { return Ok(vec![false; batch.num_rows()]) };
        let mut alive = vec![true; batch.num_rows()];
        if !dead.positions.is_empty() {
            (first..).zip(&mut alive).for_each(|(at, row)| *row = !dead.positions.contains(at));
        }
        for values in &dead.values {
            let fields = schema.as_struct().fields();
            let place = |id: &i32| fields.iter().position(|field| field.id == *id);
            let columns: Vec<usize> = values.field_ids.iter().filter_map(place).collect();
            let encoder = self.encoders.entry(values.field_ids.clone()).or_default();
            values.mark(batch, &columns, encoder, |at| alive[at] = false)?;
        }
        Ok(alive)
    }
}
