//! Types of tables in the words of a script and in those of Delta (protocol, "Schema Serialization Format").

use changeproof::{
    error::{Context, Error, Result},
    schema::{Column, Type},
};
use deltalake::kernel::{ArrayType, DataType, DecimalType, PrimitiveType, StructField};

use crate::SERVICE;

fn to_delta(ty: &Type) -> Result<DataType> {
    let primitive = match ty {
        Type::Bool => PrimitiveType::Boolean,
        Type::SmallInt => PrimitiveType::Short,
        Type::Int => PrimitiveType::Integer,
        Type::BigInt => PrimitiveType::Long,
        Type::Real => PrimitiveType::Float,
        Type::Double => PrimitiveType::Double,
        Type::Numeric(Some((precision, scale))) => {
            let digits =
                |digits: &u16| u8::try_from(*digits).while_doing(SERVICE, format!("make a column of type {ty}"));
            let decimal = DecimalType::try_new(digits(precision)?, digits(scale)?);
            PrimitiveType::Decimal(decimal.while_doing(SERVICE, format!("make a column of type {ty}"))?)
        }
        Type::Text => PrimitiveType::String,
        Type::Bytes => PrimitiveType::Binary,
        Type::Date => PrimitiveType::Date,
        Type::Timestamp => PrimitiveType::TimestampNtz,
        Type::TimestampTz => PrimitiveType::Timestamp,
        Type::Array(element) => return Ok(ArrayType::new(to_delta(element)?, true).into()),
        Type::Varchar(_) | Type::Numeric(None) | Type::Uuid | Type::Json | Type::Composite { .. } | Type::Other(_) => {
            let help = "use one that it has: boolean, smallint, int, bigint, real, double, numeric(P,S), text, bytes, date, \
                        timestamp, timestamptz, or an array of one";
            return Err(Error::new(SERVICE, format!("make a column of type {ty}"), "it has no such type").help(help));
        }
    };
    Ok(DataType::Primitive(primitive))
}

/// What a script calls a type of Delta; the format's own name where a script has none.
pub(crate) fn from_delta(ty: &DataType) -> Type {
    match ty {
        DataType::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => Type::Bool,
            PrimitiveType::Short => Type::SmallInt,
            PrimitiveType::Integer => Type::Int,
            PrimitiveType::Long => Type::BigInt,
            PrimitiveType::Float => Type::Real,
            PrimitiveType::Double => Type::Double,
            PrimitiveType::Decimal(decimal) => {
                Type::Numeric(Some((decimal.precision().into(), decimal.scale().into())))
            }
            PrimitiveType::String => Type::Text,
            PrimitiveType::Binary => Type::Bytes,
            PrimitiveType::Date => Type::Date,
            PrimitiveType::TimestampNtz => Type::Timestamp,
            PrimitiveType::Timestamp => Type::TimestampTz,
            other => Type::Other(other.to_string()),
        },
        DataType::Array(array) => Type::Array(Box::new(from_delta(array.element_type()))),
        other => Type::Other(other.to_string()),
    }
}

/// A field for a column.
///
/// # Errors
/// Delta has no such type.
pub(crate) fn field(column: &Column, nullable: bool) -> Result<StructField> {
    Ok(StructField::new(&column.name, to_delta(&column.ty)?, nullable))
}
