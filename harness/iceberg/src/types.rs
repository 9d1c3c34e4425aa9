//! Types of tables in the words of a script and in those of Iceberg (specification, "Schemas and Data Types").

use std::sync::Arc;

use changeproof::{
    error::{Context, Error, Result},
    schema::{Column, Table, Type},
};
use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, Type as IcebergType};

use crate::SERVICE;

/// What Iceberg calls a type.
///
/// # Errors
/// It has no such type.
pub(crate) fn to_iceberg(ty: &Type, next_id: &mut i32) -> Result<IcebergType> {
    let primitive = match ty {
        Type::Bool => PrimitiveType::Boolean,
        Type::Int => PrimitiveType::Int,
        Type::BigInt => PrimitiveType::Long,
        Type::Real => PrimitiveType::Float,
        Type::Double => PrimitiveType::Double,
        Type::Numeric(Some((precision, scale))) => {
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: u32::from(*scale) }
        }
        Type::Text => PrimitiveType::String,
        Type::Bytes => PrimitiveType::Binary,
        Type::Date => PrimitiveType::Date,
        Type::Timestamp => PrimitiveType::Timestamp,
        Type::TimestampTz => PrimitiveType::Timestamptz,
        Type::Uuid => PrimitiveType::Uuid,
        Type::Array(element) => {
            *next_id += 1;
            let id = *next_id;
            let element = to_iceberg(element, next_id)?;
            return Ok(IcebergType::List(ListType::new(NestedField::list_element(id, element, false).into())));
        }
        Type::SmallInt
        | Type::Varchar(_)
        | Type::Numeric(None)
        | Type::Json
        | Type::Composite { .. }
        | Type::Other(_) => {
            let help = "use one that it has: boolean, int, bigint, real, double, numeric(P,S), text, bytes, date, timestamp, \
                        timestamptz, uuid, or an array of one";
            return Err(Error::new(SERVICE, format!("make a column of type {ty}"), "it has no such type").help(help));
        }
    };
    Ok(IcebergType::Primitive(primitive))
}

/// What a script calls a type of Iceberg; the format's own name where a script has none.
pub fn from_iceberg(ty: &IcebergType) -> Type {
    match ty {
        IcebergType::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => Type::Bool,
            PrimitiveType::Int => Type::Int,
            PrimitiveType::Long => Type::BigInt,
            PrimitiveType::Float => Type::Real,
            PrimitiveType::Double => Type::Double,
            PrimitiveType::Decimal { precision, scale } => {
                let digits = |digits: u32| u16::try_from(digits).unwrap_or(u16::MAX);
                Type::Numeric(Some((digits(*precision), digits(*scale))))
            }
            PrimitiveType::String => Type::Text,
            PrimitiveType::Binary => Type::Bytes,
            PrimitiveType::Date => Type::Date,
            PrimitiveType::Timestamp => Type::Timestamp,
            PrimitiveType::Timestamptz => Type::TimestampTz,
            PrimitiveType::Uuid => Type::Uuid,
            other => Type::Other(other.to_string()),
        },
        IcebergType::List(list) => Type::Array(Box::new(from_iceberg(&list.element_field.field_type))),
        other => Type::Other(other.to_string()),
    }
}

/// A field for a column, with the next free number.
///
/// # Errors
/// Iceberg has no such type.
pub fn field(column: &Column, required: bool, next_id: &mut i32) -> Result<NestedFieldRef> {
    *next_id += 1;
    let id = *next_id;
    let ty = to_iceberg(&column.ty, next_id)?;
    Ok(Arc::new(NestedField::new(id, &column.name, ty, required)))
}

/// A table's schema; its key becomes the identifier fields.
///
/// # Errors
/// Iceberg has no type for a column.
pub(crate) fn schema(table: &Table) -> Result<Schema> {
    let mut next_id = 0;
    let mut fields = Vec::new();
    for column in &table.columns {
        let in_key = table.key.contains(&column.name);
        fields.push(field(column, in_key || !column.nullable, &mut next_id)?);
    }
    let identifiers: Vec<i32> =
        fields.iter().filter(|field| table.key.contains(&field.name)).map(|field| field.id).collect();
    let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(identifiers).build();
    schema.while_doing(SERVICE, format!("make the schema of {}", table.name))
}

/// The names of a schema's identifier fields in the order of its columns.
pub(crate) fn key_of(schema: &Schema) -> Vec<String> {
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    let fields = schema.as_struct().fields().iter();
    fields.filter(|field| identifiers.contains(&field.id)).map(|field| field.name.clone()).collect()
}

/// The types that a column may be given in the place of its own (specification, "Schema Evolution").
pub fn is_promotion(from: &IcebergType, to: &IcebergType) -> bool {
    use IcebergType::Primitive;
    match (from, to) {
        (Primitive(PrimitiveType::Int), Primitive(PrimitiveType::Long))
        | (Primitive(PrimitiveType::Float), Primitive(PrimitiveType::Double)) => true,
        (
            Primitive(PrimitiveType::Decimal { precision, scale }),
            Primitive(PrimitiveType::Decimal { precision: wider, scale: same }),
        ) => scale == same && precision <= wider,
        _ => from == to,
    }
}

/// The names of a table's identifier fields in the order of its columns.
pub fn key_columns(table: &iceberg::table::Table) -> Vec<String> {
    key_of(table.metadata().current_schema())
}
