//! What a table of the source looks like, what has changed in that, and the schema that follows from it.
//!
//! A column is known by its number in the catalogue (`pg_attribute.attnum`), which no rename changes and which is never used again;
//! and in the sink by its field's number. Which belongs to which stands in a property of the sink's table.

use std::sync::Arc;

use changeproof::{
    error::{Context, Error, Result},
    logical::{Known, KnownColumn},
    schema::{Column, TableName, Type},
};
use changeproof_iceberg::{field, is_promotion};
use iceberg::spec::{NestedField, NestedFieldRef, Schema, Type as IcebergType};
use serde::{Deserialize, Serialize};

use crate::SERVICE;

/// What a table of the source looked like when it was written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The columns in order.
    pub(crate) columns: Vec<ShapeColumn>,
    /// The key's columns in order; none if it has no key.
    pub(crate) key: Vec<String>,
    /// The number of the file that the rows are in, of a partitioned table the newest of its partitions' files: another one after all of them
    /// were rewritten.
    pub(crate) filenode: u32,
}

/// A column of a table of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShapeColumn {
    /// Its number in the source's catalogue.
    pub(crate) number: i16,
    /// Its name.
    pub(crate) name: String,
    /// Its type in short words.
    pub(crate) ty: String,
    /// The number of its field in the sink; 0 before there is one.
    pub(crate) field: i32,
}

/// What to do with the sink's table to follow a change of the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evolution {
    /// Nothing.
    None,
    /// Give it the new columns: what its rows hold stays true.
    Columns {
        /// Columns with another name than before: the old one and the new one.
        renamed: Vec<(String, String)>,
        /// Columns that went.
        dropped: Vec<String>,
    },
    /// Copy it anew: rows that the log doesn't tell of have changed.
    Copy,
}

impl Shape {
    /// What a table looks like by the log's last word on it.
    /// None if the catalogue had forgotten a column by the time it was asked: the table has to be copied anew.
    pub(crate) fn of(known: &Known) -> Option<Self> {
        let column = |column: &KnownColumn| {
            Some(ShapeColumn {
                number: column.number?,
                name: column.name.to_string(),
                ty: column.ty.to_string(),
                field: 0,
            })
        };
        Some(Self {
            columns: known.columns.iter().map(column).collect::<Option<_>>()?,
            key: known.row_key().iter().map(ToString::to_string).collect(),
            filenode: known.filenode,
        })
    }

    fn column(&self, number: i16) -> Option<&ShapeColumn> {
        self.columns.iter().find(|column| column.number == number)
    }

    fn key_numbers(&self) -> Vec<i16> {
        let number =
            |name: &String| self.columns.iter().find(|column| column.name == *name).map(|column| column.number);
        self.key.iter().filter_map(number).collect()
    }

    /// What has changed since the table looked like `self`.
    pub(crate) fn evolution(&self, now: &Self, known: &Known) -> Evolution {
        let is_rewritten = self.filenode != now.filenode;
        let (mut renamed, mut is_changed) = (Vec::new(), self.columns.len() != now.columns.len());
        for (column, found) in now.columns.iter().zip(&known.columns) {
            match self.column(column.number) {
                None if found.fills_old_rows || is_rewritten => return Evolution::Copy,
                None => is_changed = true,
                Some(before) => {
                    if before.ty != column.ty && (is_rewritten || !keeps_values(&before.ty, &found.ty)) {
                        return Evolution::Copy;
                    }
                    is_changed |= before.ty != column.ty;
                    if before.name != column.name {
                        renamed.push((before.name.clone(), column.name.clone()));
                    }
                }
            }
        }
        if self.key_numbers() != now.key_numbers() {
            return Evolution::Copy;
        }
        let went = self.columns.iter().filter(|column| now.column(column.number).is_none());
        let dropped: Vec<String> = went.map(|column| column.name.clone()).collect();
        match is_changed || !renamed.is_empty() || !dropped.is_empty() {
            true => Evolution::Columns { renamed, dropped },
            false => Evolution::None,
        }
    }

    /// The same with the fields that the columns have in the sink already, and the schema with fields for those that have none.
    ///
    /// # Errors
    /// Iceberg has no such schema.
    pub(crate) fn in_sink(
        mut self,
        name: &TableName,
        known: &Known,
        before: Option<&Self>,
        schema: Option<&Schema>,
        last_field: i32,
    ) -> Result<(Self, Schema)> {
        let (mut next, key) = (last_field, known.row_key());
        let mut fields: Vec<NestedFieldRef> = Vec::new();
        for (column, found) in self.columns.iter_mut().zip(&known.columns) {
            let is_required = key.contains(&found.name);
            let declared = Column {
                name: column.name.clone(),
                ty: sink_type(&found.ty),
                nullable: !is_required,
                default: None,
                external: false,
                generated: None,
            };
            let new = field(&declared, is_required, &mut next.clone())?;
            let old = before.and_then(|before| before.column(column.number)).map(|before| before.field);
            let old = old.and_then(|id| schema?.field_by_id(id));
            let kept = old.filter(|old| holds(&old.field_type, &new.field_type));
            let made = match kept {
                Some(old) => {
                    let mut field = NestedField::clone(old);
                    field.name.clone_from(&column.name);
                    field.required = is_required;
                    if field.field_type.is_primitive() {
                        field.field_type.clone_from(&new.field_type);
                    }
                    Arc::new(field)
                }
                None => field(&declared, is_required, &mut next)?,
            };
            column.field = made.id;
            fields.push(made);
        }
        let identifiers: Vec<i32> =
            fields.iter().filter(|field| key.iter().any(|key| **key == *field.name)).map(|field| field.id).collect();
        let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build();
        Ok((self, schema.while_doing(SERVICE, format!("make the schema of {name}"))?))
    }
}

/// Whether a field of a type can hold values of another: its own, or one that it can be promoted to. The numbers of a list's elements
/// don't count.
fn holds(field: &IcebergType, values: &IcebergType) -> bool {
    match (field, values) {
        (IcebergType::List(field), IcebergType::List(values)) => {
            field.element_field.field_type == values.element_field.field_type
        }
        (field, values) => is_promotion(field, values),
    }
}

/// Whether rows hold the same under another type, and PostgreSQL therefore leaves them as they are (manual, `ALTER TABLE`, "Notes").
fn keeps_values(before: &str, now: &Type) -> bool {
    let arguments = |text: &str, name: &str| -> Option<Vec<u32>> {
        let inner = text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        inner.split(',').map(|number| number.parse().ok()).collect()
    };
    match now {
        Type::Text => before.starts_with("varchar("),
        Type::Varchar(length) => {
            arguments(before, "varchar").is_some_and(|before| before.as_slice() <= [*length].as_slice())
        }
        Type::Numeric(Some((precision, scale))) => match arguments(before, "numeric").as_deref() {
            Some([old, same]) => *old <= u32::from(*precision) && *same == u32::from(*scale),
            _ => false,
        },
        _ => false,
    }
}

/// The type that values of a type have in the sink: their own where Iceberg has it, or text as PostgreSQL prints it.
pub(crate) fn sink_type(ty: &Type) -> Type {
    match ty {
        Type::SmallInt => Type::Int,
        // 38 digits are the most that Iceberg has (specification, "Primitive Types").
        Type::Numeric(Some((precision, scale))) if *precision <= 38 && scale <= precision => ty.clone(),
        Type::Other(name) if name.starts_with("timestamp(") => {
            if name.ends_with(" with time zone") {
                Type::TimestampTz
            } else {
                Type::Timestamp
            }
        }
        Type::Numeric(_) | Type::Varchar(_) | Type::Json | Type::Composite { .. } | Type::Other(_) => Type::Text,
        Type::Array(element) => Type::Array(Box::new(sink_type(element))),
        other => other.clone(),
    }
}

/// A shape as the property of a table holds it.
///
/// # Errors
/// Somebody else has written it.
pub(crate) fn parse(text: &str, name: &TableName) -> Result<Shape> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(SERVICE, format!("read what {name} looked like"), error)
            .help("the property was changed by somebody else: remove the table, so that it is copied anew")
    })
}
