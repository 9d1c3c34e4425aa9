//! Values of the source in the types of the sink.

use changeproof::{
    error::{Error, Result},
    logical::Known,
    schema::{TableName, Type},
    value::{Row, Value},
};

use crate::{SERVICE, shape::sink_type};

/// What to do with a value that the sink has no place for: NaN in a decimal, `infinity`, a year before Christ or beyond 9999 in a
/// date, an array of arrays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfit {
    /// Stop, and say which value it is.
    #[default]
    Refuse,
    /// Write NULL. The value is lost.
    Null,
}

/// A row as the sink holds it.
///
/// # Errors
/// A value has no place there, and it is not to be NULL.
pub(crate) fn fitted(table: &Known, row: &Row, misfit: Misfit) -> Result<Row> {
    let column = |(column, value): (&str, &Value)| {
        let ty = table.columns.iter().find(|known| *known.name == *column).map_or(&Type::Text, |known| &known.ty);
        let value = match (fit(value, ty), misfit) {
            (Some(value), _) => value,
            (None, Misfit::Null) => without(value),
            (None, Misfit::Refuse) => return Err(no_place(&table.name, column, value)),
        };
        Ok((column.to_owned(), value))
    };
    row.iter().map(column).collect()
}

/// What is left of a value without its parts that have no place.
fn without(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.iter().any(|item| matches!(item, Value::Array(_))) => {
            Value::Array(vec![Value::Null; items.len()])
        }
        _ => Value::Null,
    }
}

fn no_place(name: &TableName, column: &str, value: &Value) -> Error {
    Error::new(
        SERVICE,
        format!("write {name}"),
        format!("the value {value} of the column {column} has no place in the sink"),
    )
    .help("change it at the source, or let such values be NULL")
}

/// A value in the sink's type; none if it has no place there.
pub(crate) fn fit(value: &Value, ty: &Type) -> Option<Value> {
    match (value, ty) {
        (Value::Null | Value::Unavailable, _) => Some(value.clone()),
        (Value::Array(items), Type::Array(element)) => {
            let item = |item: &Value| match item {
                Value::Array(_) => None,
                item => fit(item, element),
            };
            items.iter().map(item).collect::<Option<_>>().map(Value::Array)
        }
        (value, ty) => match sink_type(ty) {
            Type::Text => Some(match value {
                Value::Text(_) => value.clone(),
                Value::Decimal(text) => Value::Text(text.clone()),
                other => Value::Text(other.to_string()),
            }),
            Type::Numeric(_) => matches!(value, Value::Decimal(text) if is_number(text)).then(|| value.clone()),
            Type::Date | Type::Timestamp | Type::TimestampTz => {
                matches!(value, Value::Text(text) if is_in_common_era(text)).then(|| value.clone())
            }
            _ => Some(value.clone()),
        },
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
}

/// Years of four digits after Christ: `2024-02-29`, `2024-02-29 12:00:00+00`.
fn is_in_common_era(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && !text.ends_with("BC")
}

/// A value of the sink as the source has it, for whoever compares the two.
pub(crate) fn as_in_source(value: Value, ty: &Type) -> Value {
    match (value, ty) {
        (Value::Text(text), Type::Numeric(_)) => Value::Decimal(text),
        (Value::Array(items), Type::Array(element)) => {
            Value::Array(items.into_iter().map(|item| as_in_source(item, element)).collect())
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_place_is_kept_and_what_has_none_is_none() {
        let numeric = Type::Numeric(Some((8, 2)));
        let list = Type::Array(Box::new(Type::Numeric(None)));
        for (value, ty, fitted) in [
            (Value::Decimal("1.50".into()), &numeric, Some(Value::Decimal("1.50".into()))),
            (Value::Decimal("NaN".into()), &numeric, None),
            (Value::Decimal("NaN".into()), &Type::Numeric(None), Some("NaN".into())),
            ("2024-02-29".into(), &Type::Date, Some("2024-02-29".into())),
            ("infinity".into(), &Type::Date, None),
            ("0044-03-15 BC".into(), &Type::Date, None),
            ("12024-02-29 00:00:00".into(), &Type::Timestamp, None),
            (Value::Array(vec![Value::Decimal("1.5".into())]), &list, Some(Value::Array(vec!["1.5".into()]))),
            (Value::Array(vec![Value::Array(vec![])]), &list, None),
            (Value::Null, &Type::Date, Some(Value::Null)),
        ] {
            assert_eq!(fit(&value, ty), fitted, "{value} as {ty}");
        }
        assert_eq!(as_in_source("1.5".into(), &Type::Numeric(None)), Value::Decimal("1.5".into()));
    }
}
