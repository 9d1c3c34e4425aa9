//! The tables of the sink, and the commits that change them.
//!
//! How far a table has followed the log stands in the summary of its last snapshot and in its properties, written by the same commit
//! as the rows. The former is true after a rollback of the table too, the latter after its snapshots have expired.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use changeproof::{
    change::Lsn,
    error::{Context, Error, Result},
    logical::Known,
    schema::{TableName, Type},
    value::{Row, Value},
};
use changeproof_iceberg::{
    Commit, Expired, FilesDelta, OLD_METADATA, REMOVES_OLD_METADATA, Retention, Rewritten, RowWriter, TableChange,
    Warehouse, ancestors, commit_of, expire, ident, live_files, name_of, rows_of, rows_where, with_schema,
    write_key_deletes,
};
use iceberg::{
    TableCreation, TableIdent, TableUpdate,
    expr::{Predicate, Reference},
    spec::{DataFile, Datum},
    table::Table,
};

use crate::{
    SERVICE,
    batch::{Batch, Key},
    shape::{self, Shape},
    values::{Misfit, as_in_source, fitted},
};

/// The position of the log up to which a table has followed it.
const POSITION: &str = "changeproof.lsn";
/// The database that a table comes from.
const SOURCE: &str = "changeproof.source";
/// The table that it comes from, by its object identifier.
const RELATION: &str = "changeproof.relation";
/// What that looked like.
const SHAPE: &str = "changeproof.shape";

/// How many earlier metadata files a table keeps: each of them names all its snapshots.
const METADATA_FILES: u32 = 20;

/// So many keys are looked up in the sink at a time.
const LOOKED_UP_AT_A_TIME: usize = 200;

/// Tables of a catalog that are kept as those of a database are.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    warehouse: Warehouse,
    /// What the source is known by: its system identifier and the database's name.
    source: String,
    misfit: Misfit,
}

/// A table of the sink.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) ident: TableIdent,
    /// Everything up to here is in it; nothing if it was never copied.
    pub(crate) position: Option<Lsn>,
    pub(crate) shape: Option<Shape>,
}

impl Sink {
    /// The tables of a warehouse.
    pub(crate) fn new(warehouse: Warehouse, source: String, misfit: Misfit) -> Self {
        Self { warehouse, source, misfit }
    }

    /// The tables that are there of this source, by the object identifiers of those that they come from.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub(crate) async fn targets(&self) -> Result<BTreeMap<u32, Target>> {
        let mut targets = BTreeMap::new();
        for ident in self.warehouse.tables().await? {
            let table = self.warehouse.table(&ident).await?;
            let properties = table.metadata().properties();
            let relation = properties.get(RELATION).and_then(|relation| relation.parse::<u32>().ok());
            let Some(relation) = relation.filter(|_| properties.get(SOURCE) == Some(&self.source)) else { continue };
            let name = name_of(&ident);
            let shape = properties.get(SHAPE).map(|text| shape::parse(text, &name)).transpose()?;
            targets.insert(relation, Target { ident, position: position_of(&table)?, shape });
        }
        Ok(targets)
    }

    /// Begins to put all rows of a table into the sink in the place of what is there. Nothing of it is seen before its end.
    ///
    /// # Errors
    /// The catalog refuses.
    pub(crate) async fn begin<'a>(
        &self,
        relation: u32,
        known: &'a Known,
        target: Option<&Target>,
    ) -> Result<Replacement<'a>> {
        let shape = Shape::of(known);
        let shape =
            shape.ok_or_else(|| Error::new(SERVICE, format!("copy {}", known.name), "its definition is changing"))?;
        let ident = match target {
            Some(target) => target.ident.clone(),
            None => self.create(relation, known, &shape).await?,
        };
        let table = self.warehouse.table(&ident).await?;
        let before = target.and_then(|target| target.shape.as_ref());
        let (evolved, begun, shape) = evolved(&table, known, shape, before)?;
        let (writer, expected, misfit) = (RowWriter::new(&evolved)?, position_of(&table)?, self.misfit);
        Ok(Replacement { relation, known, ident, evolved, begun, shape, expected, writer, misfit })
    }

    /// Commits what was written as all that the table holds at a position.
    ///
    /// # Errors
    /// The catalog refuses, or a file can't be written.
    pub(crate) async fn end(&self, replacement: Replacement<'_>, position: Lsn) -> Result<Target> {
        let Replacement { relation, ident, evolved, begun, shape, expected, writer, .. } = replacement;
        let (added, state) = (writer.finish().await?, self.state(relation, &shape, position)?);
        self.warehouse.commit(&ident, &Following { expected, begun, evolved, added, replaces: true, state }).await?;
        Ok(Target { ident, position: Some(position), shape: Some(shape) })
    }

    /// Makes the table of one that has just been made at the source.
    ///
    /// # Errors
    /// The catalog refuses.
    pub(crate) async fn create_empty(&self, relation: u32, known: &Known) -> Result<Target> {
        let shape = Shape::of(known);
        let shape =
            shape.ok_or_else(|| Error::new(SERVICE, format!("make {}", known.name), "its definition is changing"))?;
        let ident = self.create(relation, known, &shape).await?;
        let table = self.warehouse.table(&ident).await?;
        let shape = table.metadata().properties().get(SHAPE).map(|text| shape::parse(text, &known.name)).transpose()?;
        Ok(Target { ident, position: None, shape })
    }

    async fn create(&self, relation: u32, known: &Known, shape: &Shape) -> Result<TableIdent> {
        let (shape, schema) = shape.clone().in_sink(&known.name, known, None, None, 0)?;
        let properties = [
            (SOURCE, self.source.clone()),
            (RELATION, relation.to_string()),
            (SHAPE, serde_json::to_string(&shape).while_doing(SERVICE, "describe a table")?),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(tidiness());
        let creation =
            TableCreation::builder().name(known.name.name().to_owned()).schema(schema).properties(properties).build();
        let ident = ident(&known.name);
        // Only this is for somebody to mend: a catalog that doesn't answer may do so later.
        if self.warehouse.tables().await?.contains(&ident) {
            let cause = "there is one of the name, which is not this pipeline's";
            return Err(Error::new(SERVICE, format!("make the table {}", known.name), cause)
                .help("if the table is somebody else's, give the sink a place of its own"));
        }
        self.warehouse.create(known.name.schema(), creation).await?;
        Ok(ident)
    }

    /// Writes what transactions have done to a table, as one snapshot. Returns the table as it is then.
    ///
    /// # Errors
    /// The catalog refuses, a file can't be written, or somebody else follows the log into the same table.
    pub(crate) async fn write(
        &self,
        relation: u32,
        known: &Known,
        target: &mut Target,
        mut batch: Batch,
        position: Lsn,
    ) -> Result<Table> {
        let table = self.warehouse.table(&target.ident).await?;
        let looked_up = batch.to_look_up();
        if !looked_up.is_empty() {
            batch.fill(known, &self.look_up(&table, known, target, &looked_up).await?)?;
        }
        let now = Shape::of(known).or_else(|| target.shape.clone());
        let now =
            now.ok_or_else(|| Error::new(SERVICE, format!("write {}", known.name), "its definition is changing"))?;
        let (evolved, begun, shape) = evolved(&table, known, now, target.shape.as_ref())?;
        let mut writer = RowWriter::new(&evolved)?;
        for row in batch.rows() {
            writer.write(fitted(known, row, self.misfit)?).await?;
        }
        let gone = if batch.is_truncated { Vec::new() } else { batch.gone(known) };
        let gone = gone.iter().map(|row| fitted(known, row, self.misfit)).collect::<Result<Vec<_>>>()?;
        let mut added = Vec::new();
        if !gone.is_empty() {
            if known.row_key().is_empty() {
                for row in left_of(&gone, rows_of(&table).await?) {
                    writer.write(row).await?;
                }
            }
            added.push(write_key_deletes(&evolved, &gone).await?);
        }
        added.extend(writer.finish().await?);
        let (expected, state) = (target.position, self.state(relation, &shape, position)?);
        let change = Following { expected, begun, evolved, added, replaces: batch.is_truncated, state };
        let table = self.warehouse.commit(&target.ident, &change).await?;
        (target.position, target.shape) = (Some(position), Some(shape));
        Ok(table)
    }

    /// Puts files that were rewritten in the place of those that they were made of.
    ///
    /// # Errors
    /// The catalog refuses.
    pub(crate) async fn replace_files(&self, target: &Target, rewritten: &Rewritten) -> Result<()> {
        self.warehouse.commit(&target.ident, rewritten).await.map(drop)
    }

    /// Drops the snapshots that a table no longer keeps.
    ///
    /// # Errors
    /// The catalog refuses.
    pub(crate) async fn expire(&self, target: &Target, retention: Retention) -> Result<Expired> {
        expire(&self.warehouse, &target.ident, retention).await
    }

    fn state(&self, relation: u32, shape: &Shape, position: Lsn) -> Result<BTreeMap<String, String>> {
        let shape = serde_json::to_string(shape).while_doing(SERVICE, "describe a table")?;
        let state = [
            (POSITION, position.to_string()),
            (SOURCE, self.source.clone()),
            (RELATION, relation.to_string()),
            (SHAPE, shape),
        ];
        Ok(state.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// Gives a table the name that it has at the source.
    ///
    /// # Errors
    /// There is one of the name, or the catalog refuses.
    pub(crate) async fn rename(&self, target: &mut Target, name: &TableName) -> Result<()> {
        let ident = ident(name);
        if ident != target.ident {
            self.warehouse.rename(&target.ident, &ident).await?;
            target.ident = ident;
        }
        Ok(())
    }

    /// The rows of keys, by the columns' names that the sink has now.
    async fn look_up(&self, table: &Table, known: &Known, target: &Target, keys: &[Key]) -> Result<BTreeMap<Key, Row>> {
        let mut found = BTreeMap::new();
        // The key's columns may have another name by now.
        let columns = known.row_key();
        let sink_name = |column: &Arc<str>| {
            let number = known.columns.iter().find(|known| known.name == *column)?.number?;
            let before = target.shape.as_ref()?.columns.iter().find(|before| before.number == number)?;
            Some(before.name.clone())
        };
        let names: Vec<String> =
            columns.iter().map(|column| sink_name(column).unwrap_or_else(|| column.to_string())).collect();
        for keys in keys.chunks(LOOKED_UP_AT_A_TIME) {
            let predicate = predicate(&names, keys);
            for row in rows_where(table, predicate).await? {
                let value = |(name, column): (&String, &Arc<str>)| {
                    let ty = known.columns.iter().find(|known| known.name == *column).map(|known| &known.ty);
                    let value = row.get(name).cloned().unwrap_or(Value::Null);
                    ty.map_or(value.clone(), |ty| as_in_source(value, ty))
                };
                let key: Key = names.iter().zip(columns).map(value).collect();
                found.insert(key, row);
            }
        }
        Ok(found)
    }
}

/// The properties by which a table's old metadata files go.
fn tidiness() -> [(String, String); 2] {
    [(REMOVES_OLD_METADATA, true.to_string()), (OLD_METADATA, METADATA_FILES.to_string())]
        .map(|(name, value)| (name.to_owned(), value))
}

/// Which of the sink's rows stay, of those that are equal to one that goes: a delete by values takes all of them.
fn left_of(gone: &[Row], mut rows: Vec<Row>) -> Vec<Row> {
    let content = |row: &Row| -> Vec<(String, Value)> {
        row.canonical().into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect()
    };
    let mut goes: BTreeMap<_, usize> = BTreeMap::new();
    for row in gone {
        *goes.entry(content(row)).or_default() += 1;
    }
    rows.retain(|row| match goes.get_mut(&content(row)) {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    });
    rows
}

/// True of all rows whose first key column is one of those asked for; true of every row where Iceberg can't compare it. (Rows of
/// other keys do no harm.)
fn predicate(names: &[String], keys: &[Key]) -> Predicate {
    let datum = |value: &Value| match value {
        Value::Int(number) => i64::try_from(*number).ok().map(Datum::long),
        Value::Text(text) => Some(Datum::string(text)),
        _ => None,
    };
    let values: Option<Vec<Datum>> = keys.iter().map(|key| datum(key.first()?)).collect();
    match (names.first(), values) {
        (Some(name), Some(values)) => Reference::new(name).is_in(values),
        _ => Predicate::AlwaysTrue,
    }
}

/// All rows of a table being written.
pub(crate) struct Replacement<'a> {
    relation: u32,
    known: &'a Known,
    ident: TableIdent,
    evolved: Table,
    begun: Commit,
    shape: Shape,
    expected: Option<Lsn>,
    writer: RowWriter,
    misfit: Misfit,
}

impl Replacement<'_> {
    /// Writes a row of the source.
    ///
    /// # Errors
    /// A value of it has no place in the sink, or a file can't be written.
    pub(crate) async fn write(&mut self, row: &Row) -> Result<()> {
        self.writer.write(fitted(self.known, row, self.misfit)?).await
    }
}

/// The table by its columns to come, and the commit's beginning, which gives it these.
fn evolved(table: &Table, known: &Known, now: Shape, before: Option<&Shape>) -> Result<(Table, Commit, Shape)> {
    let (schema, last) = (table.metadata().current_schema(), table.metadata().last_column_id());
    let (shape, new) = now.in_sink(&known.name, known, before, Some(schema), last)?;
    let is_same = new.as_struct() == schema.as_struct()
        && new.identifier_field_ids().collect::<Vec<_>>() == schema.identifier_field_ids().collect::<Vec<_>>();
    if is_same {
        return Ok((table.clone(), Commit::default(), shape));
    }
    let (evolved, commit) = with_schema(table, new)?;
    Ok((evolved, commit, shape))
}

/// How far a table has followed the log: by the youngest snapshot that says so, or else by its properties.
fn position_of(table: &Table) -> Result<Option<Lsn>> {
    let metadata = table.metadata();
    let mut line = metadata.current_snapshot().into_iter().flat_map(|current| ancestors(metadata, current));
    let told = line.find_map(|snapshot| snapshot.summary().additional_properties.get(POSITION).cloned());
    let told = told.or_else(|| metadata.properties().get(POSITION).cloned());
    let doing = || format!("read how far {} has followed the log", table.identifier());
    told.map(|told| told.parse().while_doing(SERVICE, doing())).transpose()
}

/// A commit that follows the log: files, columns and the position together, once it is sure that nobody else has written the table.
struct Following {
    expected: Option<Lsn>,
    /// The commit's beginning, which gives the table its columns, and the table with them.
    begun: Commit,
    evolved: Table,
    added: Vec<(DataFile, i32)>,
    /// Whether all that was there goes.
    replaces: bool,
    state: BTreeMap<String, String>,
}

#[async_trait]
impl TableChange for Following {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let found = position_of(table)?;
        if found != self.expected {
            let told = |position: Option<Lsn>| position.map_or("nowhere".to_owned(), |position| position.to_string());
            let cause = format!("it has come to {}, and not to {}", told(found), told(self.expected));
            return Err(Error::new(SERVICE, format!("write {}", table.identifier()), cause)
                .help("somebody else follows the log into the same table: let only one do so"));
        }
        let removed = if self.replaces { live_files(table).await? } else { Vec::new() };
        let position = self.state.get(POSITION).cloned().unwrap_or_default();
        let properties = [(POSITION.to_owned(), position)].into();
        let delta = FilesDelta { added: self.added.clone(), removed, properties, ..FilesDelta::default() };
        let Commit { requirements, updates } = commit_of(&self.at_present(table)?, &delta).await?;
        let mut properties: HashMap<String, String> = self.state.clone().into_iter().collect();
        let known = table.metadata().properties();
        properties.extend(tidiness().into_iter().filter(|(name, _)| !known.contains_key(name)));
        let state = TableUpdate::SetProperties { updates: properties };
        Ok(Some(Commit {
            requirements: self.begun.requirements.iter().cloned().chain(requirements).collect(),
            updates: self.begun.updates.iter().cloned().chain(updates).chain([state]).collect(),
        }))
    }
}

impl Following {
    /// The table with the snapshots that it has now, for others may compact it, and the columns that it is to have.
    fn at_present(&self, now: &Table) -> Result<Table> {
        let columns = self.evolved.metadata();
        if columns.current_schema_id() == now.metadata().current_schema_id() {
            return Ok(now.clone());
        }
        with_schema(now, columns.current_schema().as_ref().clone()).map(|(table, _)| table)
    }
}

/// The types that a table's columns have at the source, as far as values are told apart by them.
///
/// # Errors
/// The property is somebody else's.
pub(crate) fn shape_of(table: &Table, name: &TableName) -> Result<BTreeMap<String, Type>> {
    let text = table.metadata().properties().get(SHAPE);
    let shape = text.map(|text| shape::parse(text, name)).transpose()?;
    let columns = shape.into_iter().flat_map(|shape| shape.columns);
    Ok(columns.map(|column| (column.name, type_of(&column.ty))).collect())
}

fn type_of(text: &str) -> Type {
    match text.strip_suffix("[]") {
        Some(element) => Type::Array(Box::new(type_of(element))),
        None if text.starts_with("numeric") => Type::Numeric(None),
        None => Type::Text,
    }
}
