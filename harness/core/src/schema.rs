//! Tables and their columns, as a script declares them and a database describes them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::Serialize;

use crate::value::{Row, Value};

/// A table's name with its schema (in MySQL: its database). Each change has one, so those of a table share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    schema: String,
    name: String,
}

/// The schema that is left out when a name is printed.
pub const DEFAULT_SCHEMA: &str = "public";

impl TableName {
    /// A name in a schema of its own.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self(Arc::new(Parts { schema: schema.into(), name: name.into() }))
    }

    /// The schema; `public` where none was given.
    pub fn schema(&self) -> &str {
        &self.0.schema
    }

    /// The name, as the catalogue spells it.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl From<&str> for TableName {
    fn from(name: &str) -> Self {
        Self::new(DEFAULT_SCHEMA, name)
    }
}

/// Reads what [`Display`](fmt::Display) prints, and names in which nothing is quoted that needn't be: `name`,
/// `schema.name`, `"a.b"."say ""hi"""`.
impl FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no table's name: SCHEMA.NAME, with parts that hold a dot in quotes");
        let (first, rest) = name_part(text).ok_or_else(wrong)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return if rest.is_empty() { Ok(Self::new(DEFAULT_SCHEMA, first)) } else { Err(wrong()) };
        };
        match name_part(rest) {
            Some((second, "")) => Ok(Self::new(first, second)),
            _ => Err(wrong()),
        }
    }
}

/// A part of a name, and what follows it.
fn name_part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut part = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        let Some(more) = after.strip_prefix('"') else { return Some((part, after)) };
        part.push('"');
        rest = more;
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str| {
            if name.contains(|c: char| c.is_whitespace() || c == '.' || c == '"') {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.to_owned()
            }
        };
        if self.schema() != DEFAULT_SCHEMA {
            write!(f, "{}.", part(self.schema()))?;
        }
        f.write_str(&part(self.name()))
    }
}

impl Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A column's type, in words that every source can translate into its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Bool,
    /// 16 bits.
    SmallInt,
    /// 32 bits.
    Int,
    /// 64 bits.
    BigInt,
    /// 32-bit floating point.
    Real,
    /// 64-bit floating point.
    Double,
    /// Exact decimal with (precision, scale), both in digits, or without limit.
    Numeric(Option<(u16, u16)>),
    /// Text without limit.
    Text,
    /// Text up to a number of characters.
    Varchar(u32),
    /// Byte string.
    Bytes,
    /// Calendar date.
    Date,
    /// Date and time of day without a zone, in microseconds.
    Timestamp,
    /// Moment in time, in microseconds.
    TimestampTz,
    /// 128-bit identifier.
    Uuid,
    /// Parsed JSON (`jsonb` in PostgreSQL).
    Json,
    /// Array of another type.
    Array(Box<Type>),
    /// A row of fields.
    Composite {
        /// The type's name.
        name: String,
        /// The fields in order.
        fields: Vec<String>,
    },
    /// Anything else, as the source itself spells it.
    Other(String),
}

/// The type in short common words: `int`, `numeric(8,2)`, `text[]`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::SmallInt => "smallint",
            Self::Int => "int",
            Self::BigInt => "bigint",
            Self::Real => "real",
            Self::Double => "double",
            Self::Numeric(None) => "numeric",
            Self::Numeric(Some((precision, scale))) => return write!(f, "numeric({precision},{scale})"),
            Self::Text => "text",
            Self::Varchar(length) => return write!(f, "varchar({length})"),
            Self::Bytes => "bytes",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Array(element) => return write!(f, "{element}[]"),
            Self::Composite { name, .. } | Self::Other(name) => name,
        })
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name, as the catalogue spells it.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// The value a row gets that doesn't name the column.
    pub default: Option<Value>,
    /// Whether large values are stored out of line and uncompressed (PostgreSQL: `STORAGE EXTERNAL`).
    pub external: bool,
    /// The expression of the database's dialect that the stored value is made by, if nobody can write it.
    pub generated: Option<String>,
}

/// What a table writes to the log about the old version of a row (PostgreSQL manual, `ALTER TABLE … REPLICA IDENTITY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, and only if it changed or the row was deleted.
    Default,
    /// The whole row.
    Full,
    /// Nothing.
    Nothing,
    /// The columns of a unique index, and only if one of them changed or the row was deleted.
    Index(Vec<String>),
}

/// A table as a script declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// The primary key's columns; empty if there is none.
    pub key: Vec<String>,
    /// What the log holds of old rows.
    pub identity: ReplicaIdentity,
}

impl Table {
    /// The column of the name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The primary key's part of a row; empty if the table has no key.
    pub fn key_of(&self, row: &Row) -> Row {
        row.project(self.key.iter().map(String::as_str))
    }

    /// The columns of the replica identity, which are what a before-image can hold.
    pub fn identity_columns(&self) -> Vec<String> {
        match &self.identity {
            ReplicaIdentity::Default => self.key.clone(),
            ReplicaIdentity::Nothing => Vec::new(),
            ReplicaIdentity::Index(columns) => columns.clone(),
            ReplicaIdentity::Full => self.columns.iter().map(|column| column.name.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_short_and_unambiguous() {
        assert_eq!(TableName::from("orders").to_string(), "orders");
        assert_eq!(TableName::new("sales", "orders").to_string(), "sales.orders");
        assert_eq!(TableName::from("a.b").to_string(), "\"a.b\"");
        assert_eq!(TableName::from("Größe").to_string(), "Größe");
    }

    #[test]
    fn names_are_read_as_they_are_printed() {
        for name in [
            TableName::from("orders"),
            TableName::new("sales", "orders"),
            TableName::from("a.b"),
            TableName::new("say \"hi\"", "Straßen & Plätze"),
        ] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!("public.Straßen & Plätze".parse(), Ok(TableName::from("Straßen & Plätze")));
        for wrong in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b"] {
            assert!(wrong.parse::<TableName>().is_err(), "{wrong}");
        }
    }
}
