//! Iceberg as a source: a warehouse of the lease's own, that scripts are applied to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use changeproof::{
    change::Position,
    error::{Context, Error, Result},
    judge::{Contents, StoredColumn, TableContents},
    row,
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    script::{Action, Alter, Step, TableBuilder},
    source::{self, HARNESS_SCHEMA, Place, Storage},
    stack::{Service, Stack},
    value::{Row, Value},
    warehouse::{self, S3Settings, is_in_a_bucket},
};
use futures_util::StreamExt;
use iceberg::{
    NamespaceIdent, TableCreation, TableIdent,
    spec::{FormatVersion, Literal, NestedField, NestedFieldRef, Schema, Transform, UnboundPartitionSpec},
};

use crate::{
    SERVICE,
    changelog::rows_at,
    mutation::{Mutation, WriteMode},
    rest::RestSettings,
    types::{self, from_iceberg, is_promotion, key_of},
    upsert::with_schema,
    values,
    warehouse::{Commit, TableChange, Warehouse},
    writer::commit_of,
};

/// Iceberg as a storage: tables in a folder with a catalog in SQLite, which needs no service; or in a bucket with a REST
/// catalog, if the variable [`WAREHOUSE`](changeproof::warehouse::WAREHOUSE) says so.
#[derive(Clone, Copy, Debug)]
pub struct Iceberg;

/// The services that hold the tables.
pub(crate) fn services() -> &'static [Service] {
    if is_in_a_bucket().unwrap_or_default() { &[Service::Minio, Service::IcebergRest] } else { &[] }
}

fn folder(stack: &Stack, name: &str) -> PathBuf {
    warehouse::folder(stack, "iceberg", name)
}

/// A lease's warehouse, which is made if it isn't there.
///
/// # Errors
/// The folder can't be made, or the catalog doesn't answer.
pub async fn warehouse_of(stack: &Stack, name: &str) -> Result<Warehouse> {
    if !is_in_a_bucket()? {
        return Warehouse::open(&folder(stack, name)).await;
    }
    warehouse_in_bucket(stack, name).await
}

/// A lease's warehouse in object storage, behind the REST catalog, wherever those of scenarios are.
///
/// # Errors
/// The catalog doesn't answer.
pub async fn warehouse_in_bucket(stack: &Stack, name: &str) -> Result<Warehouse> {
    let (minio, rest) = (stack.endpoint(Service::Minio)?, stack.endpoint(Service::IcebergRest)?);
    let (uri, s3) = (format!("http://{}", rest.address()), S3Settings::of(minio));
    Warehouse::connect(&RestSettings { uri, s3, ..RestSettings::default() }, Some(name)).await
}

#[async_trait]
impl Storage for Iceberg {
    fn title(&self) -> &'static str {
        SERVICE
    }

    fn server(&self) -> Option<Service> {
        None
    }

    async fn create(&self, stack: &Stack, name: &str, _place: Place) -> Result<Box<dyn source::Source>> {
        Ok(Box::new(Source::in_warehouse(warehouse_of(stack, name).await?).await?))
    }

    async fn remove(&self, stack: &Stack, name: &str) -> Result<()> {
        if is_in_a_bucket()? {
            return warehouse_of(stack, name).await?.remove().await;
        }
        warehouse::remove_folder(&folder(stack, name))
    }
}

/// A warehouse that a script is applied to. Each statement is a commit; those between BEGIN and COMMIT are one together.
#[derive(Debug)]
pub struct Source {
    warehouse: Warehouse,
    mode: WriteMode,
    format: FormatVersion,
    partition: Vec<(String, Transform)>,
    open: BTreeMap<String, Vec<Action>>,
    fences: i64,
}

/// The table that fences are written to.
pub(crate) fn fence() -> TableIdent {
    TableIdent::new(NamespaceIdent::new(HARNESS_SCHEMA.to_owned()), "fence".to_owned())
}

/// A table's name in the catalog.
pub fn ident(name: &TableName) -> TableIdent {
    TableIdent::new(NamespaceIdent::new(name.schema().to_owned()), name.name().to_owned())
}

/// A table's name in scripts and changes.
pub fn name_of(ident: &TableIdent) -> TableName {
    TableName::new(ident.namespace().to_string(), ident.name())
}

impl Source {
    /// Makes the warehouse in a folder, with the fence table.
    ///
    /// # Errors
    /// The folder can't be made.
    pub async fn create(folder: &Path) -> Result<Self> {
        Self::in_warehouse(Warehouse::open(folder).await?).await
    }

    /// Makes a new warehouse ready, with the fence table.
    ///
    /// # Errors
    /// The catalog refuses.
    pub async fn in_warehouse(warehouse: Warehouse) -> Result<Self> {
        let fence = TableBuilder::new(name_of(&fence())).key("id", Type::BigInt).build();
        let creation =
            TableCreation::builder().name(fence.name.name().to_owned()).schema(types::schema(&fence)?).build();
        warehouse.create(HARNESS_SCHEMA, creation).await?;
        Ok(Self::of(warehouse))
    }

    /// Writes to a warehouse that is there already, beside whoever made it.
    ///
    /// # Errors
    /// It can't be opened.
    pub async fn attach(folder: &Path) -> Result<Self> {
        Ok(Self::of(Warehouse::open(folder).await?))
    }

    fn of(warehouse: Warehouse) -> Self {
        let (mode, format) = (WriteMode::default(), FormatVersion::V2);
        Self { warehouse, mode, format, partition: Vec::new(), open: BTreeMap::new(), fences: 0 }
    }

    /// The warehouse.
    pub fn warehouse(&self) -> &Warehouse {
        &self.warehouse
    }

    /// Writes updates and deletes so from now on. Deletion vectors need tables of format 3, which are created from then on.
    pub fn write_by(&mut self, mode: WriteMode) {
        self.mode = mode;
        if mode == WriteMode::DeletionVectors {
            self.format = FormatVersion::V3;
        }
    }

    /// Creates tables of this version of the format from now on.
    pub fn format(&mut self, format: FormatVersion) {
        self.format = format;
    }

    /// Partitions tables that are created from now on by these columns and transforms, such as `("id", Transform::Bucket(4))`.
    pub fn partition_by(&mut self, fields: &[(&str, Transform)]) {
        self.partition = fields.iter().map(|(column, transform)| ((*column).to_owned(), *transform)).collect();
    }

    async fn create_table(&self, table: &Table) -> Result<()> {
        if table.identity != ReplicaIdentity::Default {
            let doing = format!("create the table {}", table.name);
            return Err(Error::new(SERVICE, doing, "it has no replica identity").help("leave it out"));
        }
        let schema = types::schema(table)?;
        let spec = match self.partition.as_slice() {
            [] => None,
            fields => Some(partition_spec(&schema, 0, fields)?),
        };
        let creation = TableCreation::builder()
            .name(table.name.name().to_owned())
            .schema(with_defaults(schema, &table.columns)?)
            .partition_spec_opt(spec)
            .format_version(self.format)
            .build();
        self.warehouse.create(table.name.schema(), creation).await.map(drop)
    }

    /// Carries out statements on one table's rows as one commit.
    async fn change_rows(&self, actions: &[Action]) -> Result<()> {
        let mut tables: Vec<&TableName> = Vec::new();
        actions.iter().for_each(|action| tables_of(action, &mut tables));
        tables.sort();
        tables.dedup();
        let table = match tables.as_slice() {
            [] => return Ok(()),
            [table] => *table,
            _ => {
                let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
                return Err(Error::new(
                    SERVICE,
                    format!("change {} together", names.join(" and ")),
                    "a commit is of one table",
                )
                .help("commit them one after the other"));
            }
        };
        let change = RowsChange { actions, mode: self.mode };
        self.warehouse.commit(&ident(table), &change).await.map(drop)
    }

    async fn alter(&self, name: &TableName, change: &Alter) -> Result<()> {
        if let Alter::RenameTable(to) = change {
            return self.warehouse.rename(&ident(name), &ident(&TableName::new(name.schema(), to))).await;
        }
        self.warehouse.commit(&ident(name), &Alteration { change }).await.map(drop)
    }
}

/// A partition spec of columns and their transforms. Its number isn't needed by the REST protocol, but by Iceberg's own server.
pub(crate) fn partition_spec(
    schema: &Schema,
    spec_id: i32,
    fields: &[(String, Transform)],
) -> Result<UnboundPartitionSpec> {
    let mut spec = UnboundPartitionSpec::builder().with_spec_id(spec_id);
    for (column, transform) in fields {
        let doing = || format!("partition by {column}");
        let id = schema.field_id_by_name(column);
        let id = id.ok_or_else(|| Error::new(SERVICE, doing(), "the table has no such column"))?;
        let name = format!("{column}_{transform}").replace(['[', ']'], "");
        spec = spec.add_partition_field(id, name, *transform).while_doing(SERVICE, doing())?;
    }
    Ok(spec.build())
}

/// Statements on a table's rows.
struct RowsChange<'a> {
    actions: &'a [Action],
    mode: WriteMode,
}

#[async_trait]
impl TableChange for RowsChange<'_> {
    async fn on(&self, table: &iceberg::table::Table) -> Result<Option<Commit>> {
        let mut mutation = Mutation::begin(table).await?;
        self.actions.iter().try_for_each(|action| mutation.apply(action))?;
        match mutation.finish(self.mode).await? {
            Some(delta) => commit_of(table, &delta).await.map(Some),
            None => Ok(None),
        }
    }
}

/// A change of a table's definition.
struct Alteration<'a> {
    change: &'a Alter,
}

#[async_trait]
impl TableChange for Alteration<'_> {
    async fn on(&self, table: &iceberg::table::Table) -> Result<Option<Commit>> {
        let doing = || format!("change the definition of {}", table.identifier());
        let schema = altered(table, self.change).map_err(|cause| Error::new(SERVICE, doing(), cause))?;
        with_schema(table, schema).map(|(_, commit)| Some(commit))
    }
}

fn tables_of<'a>(action: &'a Action, tables: &mut Vec<&'a TableName>) {
    match action {
        Action::Insert { table, .. } | Action::Update { table, .. } | Action::Delete { table, .. } => {
            tables.push(table);
        }
        Action::Truncate(truncated) => tables.extend(truncated),
        Action::Raw { means, .. } => means.iter().for_each(|action| tables_of(action, tables)),
        _ => {}
    }
}

/// A table's schema after a change of its definition (specification, "Schema Evolution"): columns keep their numbers.
fn altered(table: &iceberg::table::Table, change: &Alter) -> Result<Schema, String> {
    let metadata = table.metadata();
    let schema = metadata.current_schema();
    let mut fields: Vec<NestedFieldRef> = schema.as_struct().fields().to_vec();
    let mut identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    let find = |fields: &[NestedFieldRef], name: &str| {
        fields.iter().position(|field| field.name == name).ok_or_else(|| format!("there is no column {name}"))
    };
    match change {
        Alter::AddColumn(column) => {
            let mut next_id = metadata.last_column_id();
            let field = types::field(column, !column.nullable, &mut next_id).map_err(|error| error.to_string())?;
            let field = match &column.default {
                Some(default) if metadata.format_version() < FormatVersion::V3 => {
                    return Err(format!("the default {default} of existing rows needs a table of format 3"));
                }
                Some(default) => {
                    let literal = literal(default, &field)?;
                    let field = NestedField::clone(&field).with_initial_default(literal.clone());
                    Arc::new(field.with_write_default(literal))
                }
                None if !column.nullable => {
                    return Err(format!("existing rows have no value for {}, which must not be NULL", column.name));
                }
                None => field,
            };
            fields.push(field);
        }
        Alter::DropColumn(name) => {
            let field = fields.remove(find(&fields, name)?);
            if identifiers.contains(&field.id) {
                return Err(format!("{name} is an identifier field"));
            }
        }
        Alter::RenameColumn { from, to } => {
            let at = find(&fields, from)?;
            let mut field = NestedField::clone(&fields[at]);
            field.name.clone_from(to);
            fields[at] = Arc::new(field);
        }
        Alter::ChangeType { column, ty, .. } => {
            let at = find(&fields, column)?;
            let mut field = NestedField::clone(&fields[at]);
            let new = types::to_iceberg(ty, &mut metadata.last_column_id()).map_err(|error| error.to_string())?;
            if !is_promotion(&field.field_type, &new) {
                return Err(format!("{} can't become {new}", field.field_type));
            }
            *field.field_type = new;
            fields[at] = Arc::new(field);
        }
        Alter::Key(columns) => {
            identifiers =
                columns.iter().map(|name| Ok(fields[find(&fields, name)?].id)).collect::<Result<_, String>>()?;
        }
        Alter::Identity(_) => return Err("it has no replica identity".to_owned()),
        Alter::RenameTable(_) => return Err("that is the catalog's to do".to_owned()),
    }
    let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build();
    schema.map_err(|error| error.to_string())
}

fn literal(value: &Value, field: &NestedFieldRef) -> Result<Literal, String> {
    Ok(match (value, from_iceberg(&field.field_type)) {
        (Value::Bool(truth), _) => Literal::bool(*truth),
        (Value::Int(number), Type::Int) => Literal::int(i32::try_from(*number).map_err(|error| error.to_string())?),
        (Value::Int(number), Type::BigInt) => Literal::long(i64::try_from(*number).map_err(|error| error.to_string())?),
        (Value::Float(number), Type::Double) => Literal::double(number.get()),
        (Value::Text(text), Type::Text) => Literal::string(text),
        (value, ty) => return Err(format!("{value} can't be a default of type {ty}")),
    })
}

/// The defaults of a table's columns, for rows that don't name them.
fn with_defaults(schema: Schema, columns: &[Column]) -> Result<Schema> {
    if columns.iter().all(|column| column.default.is_none()) {
        return Ok(schema);
    }
    let fields = schema.as_struct().fields().iter().map(|field| {
        let default =
            columns.iter().find(|column| column.name == field.name).and_then(|column| column.default.as_ref());
        match default {
            Some(default) => {
                let literal = literal(default, field).map_err(|cause| Error::new(SERVICE, "make a default", cause))?;
                Ok(Arc::new(NestedField::clone(field).with_write_default(literal)))
            }
            None => Ok(Arc::clone(field)),
        }
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    let built = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build();
    built.while_doing(SERVICE, "make a schema")
}

#[async_trait]
impl source::Source for Source {
    async fn apply(&mut self, step: &Step) -> Result<()> {
        let session = &step.session;
        match &step.action {
            Action::CreateTable(table) => self.create_table(table).await,
            Action::Alter { table, change } => self.alter(table, change).await,
            Action::Begin => {
                self.open.insert(session.clone(), Vec::new());
                Ok(())
            }
            Action::Rollback => {
                self.open.remove(session);
                Ok(())
            }
            Action::Commit => {
                let actions = self.open.remove(session).unwrap_or_default();
                self.change_rows(&actions).await
            }
            Action::BeginTwoPhase(_)
            | Action::Savepoint(_)
            | Action::RollbackTo(_)
            | Action::Prepare(_)
            | Action::CommitPrepared(_)
            | Action::RollbackPrepared(_) => {
                Err(Error::new(SERVICE, "run a step", "a commit has no savepoints and no second phase"))
            }
            action => match self.open.get_mut(session) {
                Some(open) => {
                    open.push(action.clone());
                    Ok(())
                }
                None => self.change_rows(std::slice::from_ref(action)).await,
            },
        }
    }

    async fn write_fence(&mut self) -> Result<i64> {
        self.fences += 1;
        let insert = Action::Insert { table: name_of(&fence()), rows: vec![row! { id: self.fences }] };
        self.change_rows(&[insert]).await?;
        Ok(self.fences)
    }

    async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::new();
        for ident in self.warehouse.tables().await? {
            if ident == fence() {
                continue;
            }
            let table = self.warehouse.table(&ident).await?;
            let schema = table.metadata().current_schema();
            let columns = schema.as_struct().fields().iter().map(|field| {
                let stored = StoredColumn { ty: from_iceberg(&field.field_type), is_generated: false };
                (field.name.clone(), stored)
            });
            let rows = match table.metadata().current_snapshot() {
                Some(snapshot) => read_rows(&table, snapshot).await?,
                None => Vec::new(),
            };
            let stored = TableContents { key: key_of(schema), columns: columns.collect(), rows };
            contents.insert(name_of(&ident), stored);
        }
        Ok(contents)
    }

    async fn version(&self) -> Result<String> {
        Ok(format!("format {}", self.format))
    }

    async fn end_of_history(&self) -> Result<Position> {
        Err(Error::new(SERVICE, "tell where its history ends", "each table has a history of its own"))
    }
}

/// The rows of a table at a snapshot, by the table's present columns.
pub(crate) async fn read_rows(table: &iceberg::table::Table, at: &iceberg::spec::SnapshotRef) -> Result<Vec<Row>> {
    let schema = Arc::clone(table.metadata().current_schema());
    let mut stream = rows_at(table, at, schema);
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        if let Some(after) = batch?.after {
            rows.extend(values::rows(&after)?);
        }
    }
    Ok(rows)
}

/// Statements that are committed as one snapshot, such as those of a MERGE.
pub fn one_commit(steps: impl IntoIterator<Item = Step>) -> Step {
    let means = steps.into_iter().map(|step| step.action).collect();
    Action::Raw { sql: "MERGE".to_owned(), means }.into()
}
