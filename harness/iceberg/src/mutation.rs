//! Statements on a table's rows, turned into the files of one snapshot. The rows of the table are held in memory: this writes
//! the tables of scripts.

use std::{collections::BTreeMap, sync::Arc};

use changeproof::{
    error::{Context, Error, Result},
    script::Action,
    value::{Row, Value},
};
use iceberg::{
    spec::{DataContentType, ManifestContentType, SchemaRef},
    table::Table,
};
use roaring::RoaringTreemap;

use crate::{
    SERVICE,
    files::{LiveFile, Manifests},
    plan::{Marker, plan_rows},
    reading::{columns_of, read},
    types::{from_iceberg, key_of},
    values,
    writer::{
        FilesDelta, Partition, write_deletion_vectors, write_equality_deletes, write_position_deletes, write_rows,
    },
};

/// How updates and deletes are written (specification, "Row-level deletes"; of Spark the table property `write.update.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Files with rows that change are written anew.
    #[default]
    CopyOnWrite,
    /// Merge-on-read: files name the positions of deleted rows. A table of format 3 must not be written so any more.
    PositionDeletes,
    /// Merge-on-read: files name the keys of deleted rows, or without a key all they hold. What Flink writes.
    EqualityDeletes,
    /// Merge-on-read of format 3: one bitmap for each data file.
    DeletionVectors,
}

/// Rows that differ, by what they hold.
type Rows = BTreeMap<Vec<(String, Value)>, Row>;

/// A data file and the rows in it that are there.
struct OpenFile {
    file: LiveFile,
    rows: Vec<(u64, Row)>,
    gone: Vec<(u64, Row)>,
}

/// A table under a statement, or several that are committed together.
pub(crate) struct Mutation<'a> {
    table: &'a Table,
    schema: SchemaRef,
    files: Vec<OpenFile>,
    came: Vec<Row>,
    is_truncated: bool,
}

impl<'a> Mutation<'a> {
    pub(crate) async fn begin(table: &'a Table) -> Result<Self> {
        let schema = Arc::clone(table.metadata().current_schema());
        let mut files = Vec::new();
        if let Some(snapshot) = table.metadata().current_snapshot() {
            let plan = plan_rows(&Manifests::new(table), snapshot, Arc::clone(&schema)).await?;
            let mut marker = Marker::default();
            for work in plan.work {
                let mut rows = Vec::new();
                let mut batches = read(table, &work.file, &plan.read_schema).await?;
                let mut first = 0;
                while let Some(batch) = batches.next().await? {
                    let marks = marker.mark(&work, &plan.read_schema, first, &batch)?;
                    let names: Vec<_> = schema.as_struct().fields().iter().map(|field| field.name.as_str()).collect();
                    let found = values::rows(&batch)?.into_iter().map(|row| row.project(names.iter().copied()));
                    let found = (first..).zip(found).zip(marks.came).filter(|(_, is_there)| *is_there);
                    rows.extend(found.map(|(row, _)| row));
                    first += u64::try_from(batch.num_rows()).while_doing(SERVICE, "count rows")?;
                }
                files.push(OpenFile { file: work.file, rows, gone: Vec::new() });
            }
        }
        Ok(Self { table, schema, files, came: Vec::new(), is_truncated: false })
    }

    pub(crate) fn apply(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Insert { rows, .. } => {
                for row in rows {
                    let row = self.typed(row)?;
                    let fields = self.schema.as_struct().fields();
                    let columns = fields.iter().map(|field| {
                        let value = row.get(&field.name).cloned().map_or_else(|| default_of(field), Ok)?;
                        if field.required && value.is_null() {
                            let cause = format!("the column {} doesn't take NULL", field.name);
                            return Err(Error::new(SERVICE, "insert a row", cause));
                        }
                        Ok((field.name.clone(), value))
                    });
                    let row = columns.collect::<Result<Vec<_>>>()?.into_iter().collect();
                    self.came.push(row);
                }
            }
            Action::Update { at, set, .. } => {
                let (at, set) = (self.typed(at)?, self.typed(set)?);
                let mut updated: Vec<Row> = self.take(&at);
                for row in &mut updated {
                    set.iter().for_each(|(column, value)| row.set(column, value.clone()));
                }
                self.came.extend(updated);
            }
            Action::Delete { at, .. } => {
                let at = self.typed(at)?;
                self.take(&at);
            }
            Action::Truncate(_) => {
                self.take(&Row::default());
                self.is_truncated = true;
            }
            Action::Raw { means, .. } => means.iter().try_for_each(|action| self.apply(action))?,
            other => {
                return Err(Error::new(SERVICE, "change rows", format!("{other:?} doesn't change any")));
            }
        }
        Ok(())
    }

    /// Removes the rows that have these values and returns them.
    fn take(&mut self, at: &Row) -> Vec<Row> {
        let mut taken = Vec::new();
        for file in &mut self.files {
            let (gone, rows) =
                std::mem::take(&mut file.rows).into_iter().partition(|(_, row): &(u64, Row)| row.contains(at));
            file.rows = rows;
            taken.extend(gone.iter().map(|(_, row)| row.clone()));
            file.gone.extend(gone);
        }
        let (gone, came) = std::mem::take(&mut self.came).into_iter().partition(|row| row.contains(at));
        self.came = came;
        taken.extend(gone);
        taken
    }

    fn typed(&self, row: &Row) -> Result<Row> {
        let columns = row.iter().map(|(name, value)| {
            let field = self.schema.field_by_name(name);
            let field = field.ok_or_else(|| {
                let table = self.table.identifier();
                Error::new(SERVICE, format!("change rows of {table}"), format!("it has no column {name}"))
            })?;
            Ok((name.to_owned(), value.cast(&from_iceberg(&field.field_type))))
        });
        columns.collect::<Result<Vec<_>>>().map(Row::from_iter)
    }

    /// Writes the files; nothing if no row was touched.
    pub(crate) async fn finish(self, mode: WriteMode) -> Result<Option<FilesDelta>> {
        let touched: Vec<&OpenFile> = self.files.iter().filter(|file| !file.gone.is_empty()).collect();
        if touched.is_empty() && self.came.is_empty() {
            return Ok(None);
        }
        let mut delta = FilesDelta::default();
        let whole_files = self.is_truncated || mode == WriteMode::CopyOnWrite;
        if whole_files && !touched.is_empty() {
            let paths: Vec<&str> = touched.iter().map(|file| file.file.file.file_path()).collect();
            delta.removed.extend(touched.iter().map(|file| file.file.clone()));
            let deletes = self.delete_files().await?;
            let is_of_them = |path: String| paths.contains(&path.as_str());
            delta.removed.extend(deletes.into_iter().filter(|d| d.file.referenced_data_file().is_some_and(is_of_them)));
            let kept = touched.iter().flat_map(|file| file.rows.iter().map(|(_, row)| row.clone()));
            let rows: Vec<Row> = kept.chain(self.came.iter().cloned()).collect();
            delta.added.extend(write_rows(self.table, &rows).await?);
            return Ok(Some(delta));
        }
        match mode {
            WriteMode::CopyOnWrite => {}
            WriteMode::PositionDeletes => {
                for file in touched {
                    let positions: RoaringTreemap = file.gone.iter().map(|(position, _)| *position).collect();
                    delta.added.push(write_position_deletes(self.table, &file.file, &positions).await?);
                }
            }
            WriteMode::DeletionVectors if touched.is_empty() => {}
            WriteMode::DeletionVectors => self.vectors(&touched, &mut delta).await?,
            WriteMode::EqualityDeletes => self.equality(&touched, &mut delta).await?,
        }
        delta.added.extend(write_rows(self.table, &self.came).await?);
        Ok(Some(delta))
    }

    async fn delete_files(&self) -> Result<Vec<LiveFile>> {
        match self.table.metadata().current_snapshot() {
            Some(snapshot) => Manifests::new(self.table).all(snapshot, ManifestContentType::Deletes).await,
            None => Ok(Vec::new()),
        }
    }

    /// New vectors in the place of old ones: all that is not there any more.
    async fn vectors(&self, touched: &[&OpenFile], delta: &mut FilesDelta) -> Result<()> {
        let vectors: Vec<(LiveFile, RoaringTreemap)> = touched
            .iter()
            .map(|open| {
                let mut positions: RoaringTreemap = RoaringTreemap::new();
                positions.insert_range(0..open.file.file.record_count());
                open.rows.iter().for_each(|(position, _)| {
                    positions.remove(*position);
                });
                (open.file.clone(), positions)
            })
            .collect();
        let is_of_them = |path: &str| vectors.iter().any(|(data, _)| data.file.file_path() == path);
        let old = self.delete_files().await?.into_iter().filter(|delete| {
            delete.file.content_type() == DataContentType::PositionDeletes
                && delete.file.referenced_data_file().is_some_and(|path| is_of_them(&path))
        });
        delta.removed.extend(old);
        delta.added.extend(write_deletion_vectors(self.table, &vectors).await?);
        Ok(())
    }

    async fn equality(&self, touched: &[&OpenFile], delta: &mut FilesDelta) -> Result<()> {
        let key = key_of(&self.schema);
        let fields = self.schema.as_struct().fields().iter();
        let compared = fields.filter(|field| key.is_empty() || key.contains(&field.name));
        let columns = columns_of(&self.schema, &compared.map(|field| field.id).collect::<Vec<_>>())?;
        let mut parts: Vec<(Partition, Rows)> = Vec::new();
        for open in touched {
            let partition = Partition::of(&open.file);
            let is_it =
                |(known, _): &(Partition, Rows)| known.spec_id == partition.spec_id && known.values == partition.values;
            let at = parts.iter().position(is_it).unwrap_or(parts.len());
            if at == parts.len() {
                parts.push((partition, Rows::new()));
            }
            for (_, row) in &open.gone {
                let part = row.project(columns.as_struct().fields().iter().map(|field| field.name.as_str()));
                let name = part.iter().map(|(column, value)| (column.to_owned(), value.clone())).collect();
                parts[at].1.insert(name, part);
            }
        }
        for (partition, rows) in parts {
            let rows: Vec<Row> = rows.into_values().collect();
            delta.added.push(write_equality_deletes(self.table, &columns, &rows, &partition).await?);
        }
        Ok(())
    }
}

/// What a row gets that doesn't name the column (specification, "Default values", `write-default`).
fn default_of(field: &iceberg::spec::NestedFieldRef) -> Result<Value> {
    let Some(default) = &field.write_default else { return Ok(Value::Null) };
    let json = default.clone().try_into_json(&field.field_type).while_doing(SERVICE, "read a default")?;
    Ok(match json {
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number.into()),
            None => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        other => Value::Text(other.to_string()),
    }
    .cast(&from_iceberg(&field.field_type)))
}
