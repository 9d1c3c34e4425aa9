//! Values and conditions as SQL of DataFusion, in which delta-rs takes them.

use std::fmt::Write;

use changeproof::{
    schema::Type,
    value::{Row, Value},
};

/// A column's name.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A value of a type.
pub(crate) fn literal(value: &Value, ty: &Type) -> String {
    let cast = |to: &str| match value {
        Value::Text(value) | Value::Decimal(value) => format!("CAST({} AS {to})", text(value)),
        other => format!("CAST({} AS {to})", text(&other.to_string())),
    };
    match (value, ty) {
        (Value::Null | Value::Unavailable, _) => "NULL".to_owned(),
        (Value::Bool(truth), _) => truth.to_string(),
        (Value::Int(number), _) => number.to_string(),
        (Value::Float(number), Type::Real) => format!("CAST('{}' AS FLOAT)", number.get()),
        (Value::Float(number), _) => format!("CAST('{}' AS DOUBLE)", number.get()),
        (_, Type::Numeric(Some((precision, scale)))) => cast(&format!("DECIMAL({precision}, {scale})")),
        (_, Type::Date) => cast("DATE"),
        (_, Type::Timestamp) => cast("TIMESTAMP"),
        (_, Type::TimestampTz) => {
            format!("arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')", text(&value_text(value)))
        }
        (Value::Bytes(bytes), _) => {
            let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                let _ = write!(digits, "{byte:02x}");
                digits
            });
            format!("X'{digits}'")
        }
        (Value::Array(items), Type::Array(element)) => {
            let items: Vec<_> = items.iter().map(|item| literal(item, element)).collect();
            format!("make_array({})", items.join(", "))
        }
        (Value::Text(value) | Value::Decimal(value), _) => text(value),
        (Value::Array(_), _) => "NULL".to_owned(),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The condition that columns hold these values; none for all rows.
pub(crate) fn condition(at: &Row, ty: impl Fn(&str) -> Type) -> Option<String> {
    let parts: Vec<_> = at
        .iter()
        .map(|(column, value)| match value {
            Value::Null => format!("{} IS NULL", ident(column)),
            value => format!("{} = {}", ident(column), literal(value, &ty(column))),
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(" AND "))
}
