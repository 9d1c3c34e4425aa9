//! Delta Lake as a source: a folder of tables of the lease's own, that scripts are applied to by delta-rs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use changeproof::{
    change::Position,
    error::{Context, Error, Result},
    judge::{Contents, StoredColumn, TableContents},
    row,
    schema::{ReplicaIdentity, Table, TableName, Type},
    script::{Action, Alter, Step, TableBuilder},
    source::{self, HARNESS_SCHEMA, Place, Storage},
    stack::{BUCKET, Service, Stack},
    value::Row,
    warehouse::{self, S3Settings, is_in_a_bucket},
};
use deltalake::{
    DeltaTable, TableProperty,
    datafusion::{
        datasource::MemTable,
        prelude::{SessionContext, col, lit},
    },
    kernel::StructField,
    protocol::SaveMode,
};

use crate::{
    SERVICE,
    literals::{condition, ident, literal},
    s3::use_s3,
    tables::{KEY_PROPERTY, Lake, columns_of, key_of, rows_of},
    types, values,
};

/// Delta Lake as a storage: tables in a folder, which needs no service; or in a bucket, if the variable
/// [`WAREHOUSE`](changeproof::warehouse::WAREHOUSE) says so.
#[derive(Clone, Copy, Debug)]
pub struct Delta;

/// The services that hold the tables.
pub(crate) fn services() -> &'static [Service] {
    if is_in_a_bucket().unwrap_or_default() { &[Service::Minio] } else { &[] }
}

fn folder(stack: &Stack, name: &str) -> PathBuf {
    warehouse::folder(stack, "delta", name)
}

/// Where a lease's tables are.
pub(crate) fn lake(stack: &Stack, name: &str) -> Result<Lake> {
    if !is_in_a_bucket()? {
        return Lake::open(&folder(stack, name));
    }
    use_s3(&S3Settings::of(stack.endpoint(Service::Minio)?));
    Lake::in_bucket(&format!("s3://{BUCKET}/delta/{name}"))
}

#[async_trait]
impl Storage for Delta {
    fn title(&self) -> &'static str {
        SERVICE
    }

    fn server(&self) -> Option<Service> {
        None
    }

    async fn create(&self, stack: &Stack, name: &str, _place: Place) -> Result<Box<dyn source::Source>> {
        Ok(Box::new(Source::in_lake(lake(stack, name)?).await?))
    }

    async fn remove(&self, stack: &Stack, name: &str) -> Result<()> {
        if is_in_a_bucket()? {
            return lake(stack, name)?.remove().await;
        }
        warehouse::remove_folder(&folder(stack, name))
    }
}

/// A folder of tables that a script is applied to. Each statement is a commit.
#[derive(Debug)]
pub struct Source {
    lake: Lake,
    has_feed: bool,
    partition: Vec<String>,
    fences: i64,
}

/// The table that fences are written to.
pub(crate) fn fence() -> TableName {
    TableName::new(HARNESS_SCHEMA, "fence")
}

impl Source {
    /// Makes the folder, with the fence table.
    ///
    /// # Errors
    /// The folder can't be made.
    pub async fn create(folder: &Path) -> Result<Self> {
        Self::in_lake(Lake::open(folder)?).await
    }

    /// Makes a new place for tables ready, with the fence table.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn in_lake(lake: Lake) -> Result<Self> {
        let source = Self::of(lake);
        source.create_table(&TableBuilder::new(fence()).key("id", Type::BigInt).build()).await?;
        Ok(source)
    }

    /// Writes to a folder of tables that is there already, beside whoever made it.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn attach(folder: &Path) -> Result<Self> {
        Ok(Self::of(Lake::open(folder)?))
    }

    fn of(lake: Lake) -> Self {
        Self { lake, has_feed: true, partition: Vec::new(), fences: 0 }
    }

    /// The tables.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Whether tables that are created from now on have the Change Data Feed (`delta.enableChangeDataFeed`).
    pub fn feed(&mut self, has_feed: bool) {
        self.has_feed = has_feed;
    }

    /// Partitions tables that are created from now on by these columns.
    pub fn partition_by(&mut self, columns: &[&str]) {
        self.partition = columns.iter().map(|column| (*column).to_owned()).collect();
    }

    /// Enables the Change Data Feed of a table in mid-life.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn enable_feed(&self, name: &TableName) -> Result<()> {
        self.set_property(name, "delta.enableChangeDataFeed", "true").await
    }

    /// Gives a table a property (`ALTER TABLE … SET TBLPROPERTIES`), such as one that enables a table feature.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn set_property(&self, name: &TableName, property: &str, value: &str) -> Result<()> {
        let properties = [(property.to_owned(), value.to_owned())].into();
        let set = self.lake.table(name).await?.set_tbl_properties().with_properties(properties).await;
        set.map(drop).while_doing(SERVICE, format!("set {property} of {name}"))
    }

    /// Compacts a table's small files (`OPTIMIZE`).
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn compact(&self, name: &TableName) -> Result<()> {
        let compacted = self.lake.table(name).await?.optimize().await;
        compacted.map(drop).while_doing(SERVICE, format!("compact the table {name}"))
    }

    /// Removes all files that the present version doesn't need (`VACUUM` without retention).
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn vacuum(&self, name: &TableName) -> Result<()> {
        let vacuum = self.lake.table(name).await?.vacuum();
        let vacuum = vacuum.with_retention_period(chrono::Duration::zero()).with_enforce_retention_duration(false);
        vacuum
            .with_mode(deltalake::operations::vacuum::VacuumMode::Full)
            .await
            .map(drop)
            .while_doing(SERVICE, format!("vacuum the table {name}"))
    }

    /// Restores a table to what it was so many versions ago (`RESTORE`): a commit of its own.
    ///
    /// # Errors
    /// delta-rs refuses.
    pub async fn restore(&self, name: &TableName, versions: u64) -> Result<()> {
        let table = self.lake.table(name).await?;
        let target = table.version().unwrap_or(0).saturating_sub(versions);
        let restored = table.restore().with_version_to_restore(target).await;
        restored.map(drop).while_doing(SERVICE, format!("restore the table {name}"))
    }

    async fn create_table(&self, table: &Table) -> Result<()> {
        let doing = || format!("create the table {}", table.name);
        if table.identity != ReplicaIdentity::Default || table.columns.iter().any(|column| column.default.is_some()) {
            return Err(Error::new(SERVICE, doing(), "delta-rs has neither defaults nor a replica identity")
                .help("leave them out"));
        }
        let fields = table
            .columns
            .iter()
            .map(|column| types::field(column, column.nullable && !table.key.contains(&column.name)));
        let fields = fields.collect::<Result<Vec<StructField>>>()?;
        let url = self.lake.url(&table.name)?;
        if let Ok(folder) = url.to_file_path() {
            std::fs::create_dir_all(folder).while_doing(SERVICE, doing())?;
        }
        let key = serde_json::to_string(&table.key).while_doing(SERVICE, doing())?;
        let empty = DeltaTable::try_from_url(url).await.while_doing(SERVICE, doing())?;
        let created = empty
            .create()
            .with_columns(fields)
            .with_partition_columns(self.partition.iter().filter(|column| table.column(column).is_some()))
            .with_configuration([(KEY_PROPERTY, Some(key))])
            .with_configuration_property(TableProperty::EnableChangeDataFeed, Some(self.has_feed.to_string()))
            .with_raise_if_key_not_exists(false)
            .await;
        created.map(drop).while_doing(SERVICE, doing())
    }

    async fn insert(&self, name: &TableName, rows: &[Row], mode: SaveMode) -> Result<()> {
        let doing = || format!("write rows of {name}");
        let table = self.lake.table(name).await?;
        let batch = batch(&table, rows)?;
        table.write([batch]).with_save_mode(mode).await.map(drop).while_doing(SERVICE, doing())
    }

    /// MERGE: rows of the table's key are updated, or inserted, or deleted, by one commit.
    async fn merge(&self, name: &TableName, actions: &[Action]) -> Result<()> {
        let doing = || format!("merge into {name}");
        let table = self.lake.table(name).await?;
        let (columns, key, mut rows) = (columns_of(&table)?, key_of(&table)?, rows_of(&table).await?);
        if key.is_empty() {
            return Err(Error::new(SERVICE, doing(), "rows are matched by the table's key, and it has none"));
        }
        let (mut upserted, mut deleted) = (Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Insert { rows, .. } => upserted.extend(rows.iter().cloned()),
                Action::Update { at, set, .. } => {
                    let at = typed(at, &columns);
                    for mut row in rows.iter().filter(|row| row.contains(&at)).cloned() {
                        typed(set, &columns).iter().for_each(|(column, value)| row.set(column, value.clone()));
                        upserted.push(row);
                    }
                }
                Action::Delete { at, .. } => {
                    let at = typed(at, &columns);
                    let (gone, left) = std::mem::take(&mut rows).into_iter().partition(|row| row.contains(&at));
                    rows = left;
                    deleted.extend::<Vec<Row>>(gone);
                }
                other => return Err(Error::new(SERVICE, doing(), format!("{other:?} can't be a part of it"))),
            }
        }
        let session = SessionContext::new();
        let all: Vec<Row> = upserted.iter().chain(&deleted).cloned().collect();
        let source = batch(&table, &all)?;
        let marks: Vec<bool> = (0..all.len()).map(|at| at >= upserted.len()).collect();
        let (schema, source) = with_mark(&source, marks).while_doing(SERVICE, doing())?;
        let memory = MemTable::try_new(schema, vec![vec![source]]).while_doing(SERVICE, doing())?;
        let source = session.read_table(Arc::new(memory)).while_doing(SERVICE, doing())?;
        let matched = key
            .iter()
            .map(|column| format!("target.{0} = source.{0}", ident(column)))
            .collect::<Vec<_>>()
            .join(" AND ");
        let is_gone = || col("source.changeproof_is_gone").eq(lit(true));
        let names: Vec<String> = columns.iter().map(|(column, _)| column.clone()).collect();
        let set = |column: &String| (column.clone(), format!("source.{}", ident(column)));
        let merge = table
            .merge(source, matched)
            .with_source_alias("source")
            .with_target_alias("target")
            .when_matched_delete(|delete| delete.predicate(is_gone()))
            .and_then(|merge| {
                merge.when_matched_update(|update| {
                    names.iter().map(set).fold(update, |update, (column, value)| update.update(column, value))
                })
            })
            .and_then(|merge| {
                merge.when_not_matched_insert(|insert| {
                    names.iter().map(set).fold(insert, |insert, (column, value)| insert.set(column, value))
                })
            });
        merge.while_doing(SERVICE, doing())?.await.map(drop).while_doing(SERVICE, doing())
    }

    async fn alter(&self, name: &TableName, change: &Alter) -> Result<()> {
        let doing = || format!("change the definition of {name}");
        match change {
            Alter::AddColumn(column) if column.default.is_none() && column.nullable => {
                let field = types::field(column, true)?;
                let added = self.lake.table(name).await?.add_columns().with_fields([field]).await;
                added.map(drop).while_doing(SERVICE, doing())
            }
            Alter::AddColumn(_) => {
                Err(Error::new(SERVICE, doing(), "existing rows would have no value for it: it must take NULL"))
            }
            // Without column mapping a column is known by its name, in each file.
            Alter::DropColumn(_) | Alter::RenameColumn { .. } => {
                Err(Error::new(SERVICE, doing(), "delta-rs can't drop or rename a column (delta-io/delta-rs#930)")
                    .help("overwrite the table by another schema"))
            }
            Alter::ChangeType { .. } => Err(Error::new(
                SERVICE,
                doing(),
                "delta-rs can't change a column's type (type widening: delta-io/delta#2622)",
            )),
            Alter::RenameTable(_) | Alter::Identity(_) | Alter::Key(_) => {
                Err(Error::new(SERVICE, doing(), "a table in a folder has nothing of the kind"))
            }
        }
    }
}

fn with_mark(
    batch: &arrow_array::RecordBatch,
    marks: Vec<bool>,
) -> Result<(arrow_schema::SchemaRef, arrow_array::RecordBatch), arrow_schema::ArrowError> {
    let own = batch.schema();
    let mark = arrow_schema::Field::new("changeproof_is_gone", arrow_schema::DataType::Boolean, false);
    let fields = own.fields().iter().cloned().chain([Arc::new(mark)]);
    let schema = Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()));
    let marks: arrow_array::ArrayRef = Arc::new(arrow_array::BooleanArray::from(marks));
    let columns = batch.columns().iter().cloned().chain([marks]).collect();
    Ok((Arc::clone(&schema), arrow_array::RecordBatch::try_new(schema, columns)?))
}

/// Values as their columns hold them.
fn typed(row: &Row, columns: &[(String, Type)]) -> Row {
    let cast = |(column, value): (&str, &changeproof::Value)| {
        let ty = columns.iter().find(|(name, _)| name == column).map(|(_, ty)| ty);
        (column.to_owned(), ty.map_or_else(|| value.clone(), |ty| value.cast(ty)))
    };
    row.iter().map(cast).collect()
}

fn batch(table: &DeltaTable, rows: &[Row]) -> Result<arrow_array::RecordBatch> {
    let columns = columns_of(table)?;
    for row in rows {
        if let Some(unknown) = row.columns().find(|column| !columns.iter().any(|(name, _)| name == column)) {
            return Err(Error::new(SERVICE, "write rows", format!("the table has no column {unknown}")));
        }
    }
    let rows: Vec<Row> = rows.iter().map(|row| typed(row, &columns)).collect();
    let schema = table.snapshot().while_doing(SERVICE, "read the table's schema")?.snapshot().arrow_schema();
    values::batch(&schema, &rows)
}

#[async_trait]
impl source::Source for Source {
    async fn apply(&mut self, step: &Step) -> Result<()> {
        match &step.action {
            Action::CreateTable(table) => self.create_table(table).await,
            Action::Alter { table, change } => self.alter(table, change).await,
            Action::Insert { table, rows } => self.insert(table, rows, SaveMode::Append).await,
            Action::Update { table: name, at, set } => {
                let doing = || format!("update rows of {name}");
                let table = self.lake.table(name).await?;
                let columns = columns_of(&table)?;
                let ty = |column: &str| {
                    let found = columns.iter().find(|(name, _)| name == column);
                    found.map_or(Type::Text, |(_, ty)| ty.clone())
                };
                let mut update = table.update();
                if let Some(condition) = condition(&typed(at, &columns), ty) {
                    update = update.with_predicate(condition);
                }
                for (column, value) in typed(set, &columns).iter() {
                    update = update.with_update(ident(column), literal(value, &ty(column)));
                }
                update.await.map(drop).while_doing(SERVICE, doing())
            }
            Action::Delete { table: name, at } => {
                let table = self.lake.table(name).await?;
                let columns = columns_of(&table)?;
                let ty = |column: &str| {
                    let found = columns.iter().find(|(name, _)| name == column);
                    found.map_or(Type::Text, |(_, ty)| ty.clone())
                };
                let mut delete = table.delete();
                if let Some(condition) = condition(&typed(at, &columns), ty) {
                    delete = delete.with_predicate(condition);
                }
                delete.await.map(drop).while_doing(SERVICE, format!("delete rows of {name}"))
            }
            Action::Truncate(names) => {
                for name in names {
                    let deleted = self.lake.table(name).await?.delete().await;
                    deleted.map(drop).while_doing(SERVICE, format!("delete all rows of {name}"))?;
                }
                Ok(())
            }
            Action::Raw { means, .. } => match means.as_slice() {
                [Action::Truncate(_), Action::Insert { table, rows }] => {
                    self.insert(table, rows, SaveMode::Overwrite).await
                }
                [Action::Insert { table, .. } | Action::Update { table, .. } | Action::Delete { table, .. }, ..] => {
                    self.merge(table, means).await
                }
                _ => Err(Error::new(SERVICE, "run a step", "these statements can't be one commit")),
            },
            Action::Begin
            | Action::BeginTwoPhase(_)
            | Action::Commit
            | Action::Rollback
            | Action::Savepoint(_)
            | Action::RollbackTo(_)
            | Action::Prepare(_)
            | Action::CommitPrepared(_)
            | Action::RollbackPrepared(_) => {
                Err(Error::new(SERVICE, "run a step", "it has no transactions of several statements"))
            }
        }
    }

    async fn write_fence(&mut self) -> Result<i64> {
        self.fences += 1;
        self.insert(&fence(), &[row! { id: self.fences }], SaveMode::Append).await?;
        Ok(self.fences)
    }

    async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::new();
        for name in self.lake.names().await? {
            if name == fence() {
                continue;
            }
            let table = self.lake.table(&name).await?;
            let columns = columns_of(&table)?.into_iter();
            let columns = columns.map(|(column, ty)| (column, StoredColumn { ty, is_generated: false })).collect();
            contents.insert(name, TableContents { key: key_of(&table)?, columns, rows: rows_of(&table).await? });
        }
        Ok(contents)
    }

    async fn version(&self) -> Result<String> {
        Ok(format!("delta-rs {}", deltalake::crate_version()))
    }

    async fn end_of_history(&self) -> Result<Position> {
        Err(Error::new(SERVICE, "tell where its history ends", "each table has a history of its own"))
    }
}
