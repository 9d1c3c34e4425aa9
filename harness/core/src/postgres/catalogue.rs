//! Tables and columns as `pg_catalog` describes them.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{HARNESS_SCHEMA, HIDDEN_TIME, SERVICE};
use crate::{
    error::{Context, Result},
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
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1) \
    GROUP BY c.oid, n.nspname, c.relname, c.relreplident";

/// The ordinary, logged tables of a database, without the harness's own.
///
/// # Errors
/// The catalogue can't be read.
pub async fn shapes(client: &Client) -> Result<BTreeMap<TableName, TableShape>> {
    let tables = client.query(TABLES, &[&HARNESS_SCHEMA, &HIDDEN_TIME]).await;
    let tables = tables.while_doing(SERVICE, "read its catalogue")?;
    let shape = |row: &tokio_postgres::Row| {
        let name = TableName::new(row.get::<_, String>(1), row.get::<_, String>(2));
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
        (name, TableShape { oid: row.get(0), columns, key, identity })
    };
    Ok(tables.iter().map(shape).collect())
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
