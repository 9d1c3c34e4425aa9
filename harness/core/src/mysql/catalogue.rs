//! Tables and columns as `information_schema` describes them.

use std::collections::BTreeMap;

use mysql_async::{Conn, prelude::Queryable};

use super::{HIDDEN_TIME, SERVICE, schema_of, sql::quote};
use crate::{
    error::{Context, Result},
    schema::{TableName, Type},
    source::HARNESS_SCHEMA,
};

/// A table as the catalogue describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableShape {
    /// The columns in order.
    pub columns: Vec<ColumnShape>,
    /// The primary key's columns in order; empty if there is none.
    pub key: Vec<String>,
}

/// A column as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// Its name.
    pub name: String,
    /// Its type in the harness's words.
    pub ty: Type,
    /// Whether the database makes its value by an expression.
    pub is_generated: bool,
}

/// The tables of a lease's databases, without the harness's own.
///
/// # Errors
/// The catalogue can't be read.
pub async fn shapes(conn: &mut Conn, lease: &str) -> Result<BTreeMap<TableName, TableShape>> {
    let lease_and_more = quote(&format!("^{lease}(_|$)"));
    let columns = format!(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.COLUMN_TYPE, c.EXTRA \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME) \
         WHERE c.TABLE_SCHEMA REGEXP {lease_and_more} AND t.TABLE_TYPE = 'BASE TABLE' AND c.COLUMN_NAME <> '{HIDDEN_TIME}' \
         ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION"
    );
    let keys = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA REGEXP {lease_and_more} AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
    );
    let doing = || "read its catalogue";
    let columns: Vec<(String, String, String, String, String)> =
        conn.query(columns).await.while_doing(SERVICE, doing())?;
    let keys: Vec<(String, String, String)> = conn.query(keys).await.while_doing(SERVICE, doing())?;
    let mut shapes: BTreeMap<TableName, TableShape> = BTreeMap::new();
    for (database, table, name, type_name, extra) in columns {
        let Some(schema) = schema_of(lease, &database).filter(|schema| *schema != HARNESS_SCHEMA) else { continue };
        let is_generated = extra.contains("STORED GENERATED") || extra.contains("VIRTUAL GENERATED");
        let column = ColumnShape { name, ty: type_named(&type_name), is_generated };
        shapes.entry(TableName::new(schema, table)).or_default().columns.push(column);
    }
    for (database, table, column) in keys {
        let Some(schema) = schema_of(lease, &database) else { continue };
        if let Some(shape) = shapes.get_mut(&TableName::new(schema, table)) {
            shape.key.push(column);
        }
    }
    Ok(shapes)
}

/// The tables of a lease's databases that have none of these columns, without the harness's own.
pub(super) async fn tables_without(conn: &mut Conn, lease: &str, columns: [&str; 2]) -> Result<Vec<TableName>> {
    let (lease_and_more, [one, other]) = (quote(&format!("^{lease}(_|$)")), columns.map(quote));
    let tables = format!(
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME FROM information_schema.TABLES t LEFT JOIN information_schema.COLUMNS c \
         ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND c.COLUMN_NAME IN ({one}, {other}) \
         WHERE t.TABLE_SCHEMA REGEXP {lease_and_more} AND t.TABLE_TYPE = 'BASE TABLE' AND c.COLUMN_NAME IS NULL"
    );
    let tables: Vec<(String, String)> = conn.query(tables).await.while_doing(SERVICE, "read its catalogue")?;
    let named = |(database, table): &(String, String)| {
        let schema = schema_of(lease, database).filter(|schema| *schema != HARNESS_SCHEMA)?;
        Some(TableName::new(schema, table))
    };
    Ok(tables.iter().filter_map(named).collect())
}

/// The harness's word for a type that `COLUMN_TYPE` has spelt. MariaDB spells integers with their width.
pub fn type_named(name: &str) -> Type {
    let limits = |base: &str| name.strip_prefix(base)?.strip_prefix('(')?.strip_suffix(')');
    if let Some((precision, scale)) = limits("decimal").and_then(|limits| limits.split_once(','))
        && let (Ok(precision), Ok(scale)) = (precision.parse(), scale.parse())
    {
        return Type::Numeric(Some((precision, scale)));
    }
    if let Some(Ok(length)) = limits("varchar").map(str::parse) {
        return Type::Varchar(length);
    }
    match name {
        "tinyint(1)" => Type::Bool,
        "smallint" | "smallint(6)" => Type::SmallInt,
        "int" | "int(11)" => Type::Int,
        "bigint" | "bigint(20)" => Type::BigInt,
        "float" => Type::Real,
        "double" => Type::Double,
        "longtext" => Type::Text,
        "longblob" => Type::Bytes,
        "date" => Type::Date,
        "datetime(6)" => Type::Timestamp,
        "timestamp(6)" => Type::TimestampTz,
        "char(36)" => Type::Uuid,
        "json" => Type::Json,
        _ => Type::Other(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_the_catalogues_spelling() {
        assert_eq!(type_named("decimal(10,2)"), Type::Numeric(Some((10, 2))));
        assert_eq!(type_named("varchar(20)"), Type::Varchar(20));
        assert_eq!(type_named("tinyint(1)"), Type::Bool);
        for name in ["tinyint", "int unsigned", "decimal(10,2) unsigned", "datetime(3)", "enum('a','b')", "text"] {
            assert_eq!(type_named(name), Type::Other(name.into()));
        }
    }
}
