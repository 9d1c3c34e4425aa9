//! Tables and columns as `pg_catalog` describes them.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{HARNESS_SCHEMA, HIDDEN_TIME, SERVICE};
use crate::{
    error::{Context, Error, Result},
    schema::{TableName, Type},
};

/// A table as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// The table's object identifier, which a rename doesn't change.
    pub oid: u32,
    /// The columns in order.
    pub columns: Vec<ColumnShape>,
    /// The primary key's columns in order; empty if there is none.
    pub key: Vec<String>,
    /// The columns whose old values the log holds (the replica identity).
    pub identity: Vec<String>,
}

/// A column as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// Its number, which a rename doesn't change and which is never used again.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type as `format_type` spells it; of a domain, the type that it is based on.
    pub type_name: String,
    /// Its type in the harness's words.
    pub ty: Type,
    /// Whether the database makes its value by an expression.
    pub is_generated: bool,
}

const TABLES: &str = "\
    SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, \
        COALESCE((SELECT indkey::int2[] FROM pg_index WHERE indrelid = c.oid AND indisprimary), '{}'), \
        COALESCE((SELECT indkey::int2[] FROM pg_index WHERE indrelid = c.oid AND indisreplident), '{}'), \
        COALESCE(array_agg(a.attnum ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}'), \
        COALESCE(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}'), \
        COALESCE(array_agg(CASE t.typtype \
            WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) \
            WHEN 'c' THEN 'composite' || E'\\x1f' || format_type(a.atttypid, NULL) || (SELECT string_agg(E'\\x1f' || f.attname, '' \
                ORDER BY f.attnum) FROM pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) \
            ELSE format_type(a.atttypid, a.atttypmod) END ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}'), \
        COALESCE(array_agg(a.attgenerated <> '' ORDER BY a.attnum) FILTER (WHERE a.attnum IS NOT NULL), '{}') \
    FROM pg_class c \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> $2 \
        LEFT JOIN pg_type t ON t.oid = a.atttypid \
    WHERE (c.relkind = 'r' OR $3 AND c.relkind = 'p') AND c.relpersistence = 'p' \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1) \
    GROUP BY c.oid, n.nspname, c.relname, c.relreplident";

/// The ordinary, logged tables of a database, without the harness's own.
///
/// # Errors
/// The catalogue can't be read.
pub async fn shapes(client: &Client) -> Result<BTreeMap<TableName, TableShape>> {
    let tables = client.query(TABLES, &[&HARNESS_SCHEMA, &HIDDEN_TIME, &false]).await;
    let tables = tables.while_doing(SERVICE, "read its catalogue")?;
    Ok(tables.iter().map(|row| (TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2)), shape(row))).collect())
}

/// A table as a publication has it.
pub(crate) struct Published {
    pub(crate) name: TableName,
    /// Its shape, of the columns that the log tells.
    pub(crate) shape: TableShape,
    /// See [`file_of`].
    pub(crate) filenode: u32,
}

/// The tables that a publication names in the log, partitioned ones among them if it publishes by the root, without the harness's own.
///
/// # Errors
/// The catalogue can't be read, or a table is of a kind that has no shape here.
pub(crate) async fn published(client: &Client, publication: &str) -> Result<Vec<Published>> {
    let doing = "look at the published tables";
    // By one statement, which sees each table or doesn't: a table that goes between two would look like one without a shape.
    // Before 18 the log's messages never have generated columns, and yet the view names them in 15.
    let query = format!(
        "SELECT t.*, p.schemaname::text, p.tablename::text, p.attnames::text[], \
            current_setting('server_version_num')::int >= 180000, {} \
        FROM pg_publication_tables p LEFT JOIN ({TABLES}) t ON p.schemaname = t.nspname AND p.tablename = t.relname \
        WHERE p.pubname = $4 AND p.schemaname <> $1",
        file_of("t.oid")
    );
    let tables = client.query(&query, &[&HARNESS_SCHEMA, &HIDDEN_TIME, &true, &publication]).await;
    let published = tables.while_doing(SERVICE, doing)?.into_iter().map(|row| {
        let name = TableName::new(row.get::<_, &str>(10), row.get::<_, &str>(11));
        if row.get::<_, Option<u32>>(0).is_none() {
            return Err(Error::new(SERVICE, doing, format!("{name} is neither an ordinary nor a partitioned table"))
                .help("take it out of the publication"));
        }
        let (mut shape, names, may_be_generated): (_, Vec<String>, bool) = (shape(&row), row.get(12), row.get(13));
        shape.columns.retain(|column| names.contains(&column.name) && (may_be_generated || !column.is_generated));
        Ok(Published { name, shape, filenode: row.get::<_, Option<u32>>(14).unwrap_or(0) })
    });
    published.collect()
}

/// SQL for the number of the file that a relation's rows are in, as the snapshot has it: another one once all of them have been rewritten.
/// Of a partitioned table, whose rows are in its partitions' files, the newest of these. NULL if there is no such relation.
pub fn file_of(relation: &str) -> String {
    format!("({} SELECT max(relfilenode) FROM part JOIN pg_class USING (oid))", with_parts(relation))
}

/// SQL before a query of `part`: by `oid` a relation, and those that are its partitions and theirs. (`pg_partition_tree` would wait for
/// whoever has a lock on them.)
pub(crate) fn with_parts(relation: &str) -> String {
    format!(
        "WITH RECURSIVE part AS (SELECT {relation}::oid AS oid \
            UNION ALL SELECT inhrelid FROM part JOIN pg_class USING (oid) JOIN pg_inherits ON inhparent = oid WHERE relkind = 'p')"
    )
}

/// The shape that a row of [`TABLES`] tells.
fn shape(row: &tokio_postgres::Row) -> TableShape {
    let (identity, primary, index): (String, Vec<i16>, Vec<i16>) = (row.get(3), row.get(4), row.get(5));
    let numbers: Vec<i16> = row.get(6);
    let names: Vec<String> = row.get(7);
    let types: Vec<String> = row.get(8);
    let generated: Vec<bool> = row.get(9);
    let columns: Vec<_> = numbers
        .into_iter()
        .zip(names)
        .zip(types)
        .zip(generated)
        .map(|(((number, name), type_name), is_generated)| {
            let ty = type_named(&type_name);
            ColumnShape { number, name, type_name, ty, is_generated }
        })
        .collect();
    let named = |numbers: &[i16]| -> Vec<String> {
        let column = |number: &i16| columns.iter().find(|column| column.number == *number);
        numbers.iter().filter_map(column).map(|column| column.name.clone()).collect()
    };
    let key = named(&primary);
    let identity = match identity.as_str() {
        "f" => columns.iter().map(|column| column.name.clone()).collect(),
        "i" => named(&index),
        "d" => key.clone(),
        _ => Vec::new(),
    };
    TableShape { oid: row.get(0), columns, key, identity }
}

/// The harness's word for a type that `format_type` has spelt; of a composite type: `composite`, its name and its fields,
/// separated by the unit separator.
pub fn type_named(name: &str) -> Type {
    if let Some(composite) = name.strip_prefix("composite\x1f") {
        let mut parts = composite.split('\x1f').map(str::to_owned);
        return Type::Composite { name: parts.next().unwrap_or_default(), fields: parts.collect() };
    }
    if let Some(element) = name.strip_suffix("[]") {
        return Type::Array(Box::new(type_named(element)));
    }
    match name {
        "boolean" => Type::Bool,
        "smallint" => Type::SmallInt,
        "integer" => Type::Int,
        "bigint" | "oid" => Type::BigInt,
        "real" => Type::Real,
        "double precision" => Type::Double,
        "numeric" => Type::Numeric(None),
        "text" | "character varying" => Type::Text,
        "bytea" => Type::Bytes,
        "date" => Type::Date,
        "timestamp without time zone" => Type::Timestamp,
        "timestamp with time zone" => Type::TimestampTz,
        "uuid" => Type::Uuid,
        "jsonb" => Type::Json,
        _ => limited_type(name).unwrap_or_else(|| Type::Other(name.to_owned())),
    }
}

fn limited_type(name: &str) -> Option<Type> {
    let (base, limits) = name.strip_suffix(')')?.split_once('(')?;
    match base {
        "numeric" => {
            let (precision, scale) = limits.split_once(',')?;
            Some(Type::Numeric(Some((precision.parse().ok()?, scale.parse().ok()?))))
        }
        "character varying" => Some(Type::Varchar(limits.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_the_catalogues_spelling() {
        assert_eq!(type_named("numeric(10,2)"), Type::Numeric(Some((10, 2))));
        assert_eq!(type_named("character varying(20)"), Type::Varchar(20));
        assert_eq!(type_named("integer[]"), Type::Array(Box::new(Type::Int)));
        assert_eq!(type_named("interval"), Type::Other("interval".into()));
        assert_eq!(type_named("timestamp(3) without time zone"), Type::Other("timestamp(3) without time zone".into()));
    }
}
