//! The check that source and sink hold the same.
//!
//! Each row is a number: the hash of what it holds, in the sink's form. The sum of the numbers doesn't depend on the rows' order, so
//! two tables are compared by a sum for each part of them, where a row's key says which part it is of. Only parts that differ are
//! looked at row by row.

use std::{collections::BTreeMap, fmt};

use changeproof::{
    error::{Context, Result},
    logical::Known,
    postgres::Address,
    schema::TableName,
    value::Row,
};
use changeproof_iceberg::{Warehouse, from_iceberg, ident};
use futures_util::StreamExt;
use iceberg::table::Table;
use tokio_postgres::Client;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    batch::{Key, key_of},
    copy::{Rows, SETTINGS, count},
    layout::Layout,
    shape::sink_type,
    values::{Misfit, fitted},
};

/// So many parts a table is compared by.
const PARTS: usize = 1024;

/// So many rows that differ are named of a table.
const NAMED: usize = 20;

/// What the check found of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The table's name at the source.
    pub table: TableName,
    /// Its rows at the source.
    pub source_rows: u64,
    /// Its rows in the sink.
    pub sink_rows: u64,
    /// What is not the same; the first ones, if there are many.
    pub differences: Vec<Difference>,
}

impl Checked {
    /// Whether both hold the same.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.source_rows == self.sink_rows
    }
}

/// Something that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The sink has no such table.
    NoTable,
    /// A column is in one only, or of a type that doesn't follow from the other's.
    Column {
        /// Its name.
        column: String,
        /// Its type in the sink as it follows from the source's; none if it isn't there.
        expected: Option<String>,
        /// Its type in the sink.
        found: Option<String>,
    },
    /// A row is in one only, or holds something else.
    Row {
        /// The row at the source.
        source: Option<Row>,
        /// The row in the sink.
        sink: Option<Row>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |row: &Row| {
            let columns: Vec<String> = row.iter().map(|(column, value)| format!("{column}: {value}")).collect();
            columns.join(", ")
        };
        match self {
            Self::NoTable => f.write_str("the sink has no such table"),
            Self::Column { column, expected: Some(expected), found: Some(found) } => {
                write!(f, "the column {column} is {found} in the sink, and not {expected}")
            }
            Self::Column { column, expected: Some(_), .. } => write!(f, "the column {column} is missing in the sink"),
            Self::Column { column, .. } => write!(f, "the column {column} is in the sink only"),
            Self::Row { source: Some(source), sink: None } => write!(f, "only at the source: {}", row(source)),
            Self::Row { source: None, sink: Some(sink) } => write!(f, "only in the sink: {}", row(sink)),
            Self::Row { source, sink } => write!(
                f,
                "at the source {}; in the sink {}",
                source.as_ref().map(row).unwrap_or_default(),
                sink.as_ref().map(row).unwrap_or_default()
            ),
        }
    }
}

/// Compares the published tables of a database with those of a catalog. It is true of a moment at which nothing is under way.
///
/// # Errors
/// One of the two can't be read.
pub async fn check(
    address: &Address,
    publication: &str,
    warehouse: &Warehouse,
    layout: Layout,
    misfit: Misfit,
) -> Result<Vec<Checked>> {
    let client = address.connect().await?;
    let set_up = format!("{SETTINGS}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    client.batch_execute(&set_up).await.while_doing("PostgreSQL", "set up the connection")?;
    let mut tables: Vec<_> = Known::all_published(&client, publication).await?.into_values().collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let there = warehouse.tables().await?;
    let mut checked = Vec::new();
    for known in tables {
        let ident = ident(&known.name);
        checked.push(match there.contains(&ident) {
            true => {
                compared(
                    &Source { client: &client, publication, known: &known, layout, misfit },
                    &warehouse.table(&ident).await?,
                )
                .await?
            }
            false => Checked {
                table: known.name.clone(),
                source_rows: count(&client, publication, &known).await?,
                sink_rows: 0,
                differences: vec![Difference::NoTable],
            },
        });
    }
    Ok(checked)
}

/// The rows of a part: how many, and the sum of their hashes.
type Part = (u64, u128);

/// A table of the source.
struct Source<'a> {
    client: &'a Client,
    publication: &'a str,
    known: &'a Known,
    layout: Layout,
    misfit: Misfit,
}

async fn compared(origin: &Source<'_>, table: &Table) -> Result<Checked> {
    let known = origin.known;
    let mut checked = Checked {
        table: known.name.clone(),
        source_rows: 0,
        sink_rows: 0,
        differences: columns_that_differ(known, table, origin.layout),
    };
    if !checked.differences.is_empty() {
        return Ok(checked);
    }
    let (mut source, mut sink) = (vec![Part::default(); PARTS], vec![Part::default(); PARTS]);
    let mut rows = Rows::of(origin.client, origin.publication, known).await?;
    while let Some(row) = rows.next().await? {
        add(&mut source, known, &fitted(known, &row, origin.misfit)?);
    }
    let mut batches = origin.layout.rows(table);
    while let Some(batch) = batches.next().await {
        batch?.iter().for_each(|row| add(&mut sink, known, row));
    }
    let count = |parts: &[Part]| parts.iter().map(|(rows, _)| rows).sum();
    (checked.source_rows, checked.sink_rows) = (count(&source), count(&sink));
    let differing: Vec<usize> = (0..PARTS).filter(|part| source[*part] != sink[*part]).collect();
    if !differing.is_empty() {
        checked.differences = rows_that_differ(origin, table, &differing).await?;
    }
    Ok(checked)
}

/// Columns that are in one of the two only; and, where a type in the sink follows from that at the source, those of another type.
fn columns_that_differ(known: &Known, table: &Table, layout: Layout) -> Vec<Difference> {
    let is_other = |expected: &String, found: &String| layout == Layout::Rows && expected != found;
    let expected = known.columns.iter().map(|column| (column.name.to_string(), sink_type(&column.ty).to_string()));
    let expected: BTreeMap<String, String> = expected.collect();
    let fields = table.metadata().current_schema().as_struct().fields().iter();
    let fields = fields.filter(|field| !layout.is_own(&field.name));
    let found: BTreeMap<String, String> =
        fields.map(|field| (field.name.clone(), from_iceberg(&field.field_type).to_string())).collect();
    let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ = names.into_iter().filter(|name| match (expected.get(*name), found.get(*name)) {
        (Some(expected), Some(found)) => is_other(expected, found),
        _ => true,
    });
    differ
        .map(|name| Difference::Column {
            column: name.clone(),
            expected: expected.get(name).cloned(),
            found: found.get(name).cloned(),
        })
        .collect()
}

/// The key of a row in the sink's form; the whole row, if its table has none.
fn name_of(known: &Known, row: &Row) -> Key {
    let key = key_of(known, row);
    if key.is_empty() { row.canonical().into_iter().map(|(_, value)| value.clone()).collect() } else { key }
}

fn part_of(known: &Known, row: &Row) -> usize {
    let hash = xxh3_128(format!("{:?}", name_of(known, row)).as_bytes());
    usize::try_from(hash % PARTS as u128).unwrap_or(0)
}

fn add(parts: &mut [Part], known: &Known, row: &Row) {
    let (rows, sum) = &mut parts[part_of(known, row)];
    *rows += 1;
    *sum = sum.wrapping_add(xxh3_128(format!("{:?}", row.canonical()).as_bytes()));
}

async fn rows_that_differ(origin: &Source<'_>, table: &Table, parts: &[usize]) -> Result<Vec<Difference>> {
    let known = origin.known;
    let mut rows: BTreeMap<Key, (Vec<Row>, Vec<Row>)> = BTreeMap::new();
    let is_asked = |row: &Row| parts.contains(&part_of(known, row));
    let mut source = Rows::of(origin.client, origin.publication, known).await?;
    while let Some(row) = source.next().await? {
        let row = fitted(known, &row, origin.misfit)?;
        if is_asked(&row) {
            rows.entry(name_of(known, &row)).or_default().0.push(row);
        }
    }
    let mut batches = origin.layout.rows(table);
    while let Some(batch) = batches.next().await {
        for row in batch?.into_iter().filter(is_asked) {
            rows.entry(name_of(known, &row)).or_default().1.push(row);
        }
    }
    let mut differences = Vec::new();
    for (mut source, mut sink) in rows.into_values() {
        source.retain(|row| match sink.iter().position(|other| other == row) {
            Some(at) => {
                sink.swap_remove(at);
                false
            }
            None => true,
        });
        for at in 0..source.len().max(sink.len()) {
            differences.push(Difference::Row { source: source.get(at).cloned(), sink: sink.get(at).cloned() });
        }
    }
    differences.truncate(NAMED);
    Ok(differences)
}
