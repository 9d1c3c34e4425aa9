//! Values in Arrow's columns, read and written.
//!
//! Iceberg's and Delta's crates need different major versions of Arrow, so this file is compiled into each of the two crates
//! against its own.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
    builder::FixedSizeBinaryBuilder,
    cast::AsArray,
    new_null_array,
    types::{Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_buffer::OffsetBuffer;
use arrow_cast::cast;
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use changeproof::{
    error::{Context, Error, Result},
    time,
    value::{Float, Row, Value},
};
use chrono::{NaiveDate, NaiveDateTime};

use crate::SERVICE;

/// A 16-byte binary is how Arrow holds a UUID.
const UUID_BYTES: i32 = 16;

/// The value at a place of a column.
///
/// # Errors
/// The column is of a type that no table of a script has.
pub(crate) fn value(column: &dyn Array, at: usize) -> Result<Value> {
    if column.is_null(at) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(at)),
        DataType::Int32 => Value::Int(column.as_primitive::<Int32Type>().value(at).into()),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(at).into()),
        // Through the shortest decimal form, as the scripts' own values of that type.
        DataType::Float32 => Value::from_text(
            &column.as_primitive::<Float32Type>().value(at).to_string(),
            &changeproof::schema::Type::Real,
        ),
        DataType::Float64 => Value::Float(Float::new(column.as_primitive::<Float64Type>().value(at))),
        DataType::Decimal128(_, scale) => {
            Value::Decimal(decimal_text(column.as_primitive::<Decimal128Type>().value(at), *scale))
        }
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(at).to_owned()),
        DataType::LargeUtf8 => Value::Text(column.as_string::<i64>().value(at).to_owned()),
        DataType::Utf8View => Value::Text(column.as_string_view().value(at).to_owned()),
        DataType::Binary => Value::Bytes(column.as_binary::<i32>().value(at).to_vec()),
        DataType::LargeBinary => Value::Bytes(column.as_binary::<i64>().value(at).to_vec()),
        DataType::BinaryView => Value::Bytes(column.as_binary_view().value(at).to_vec()),
        DataType::FixedSizeBinary(UUID_BYTES) => {
            let bytes = column.as_fixed_size_binary().value(at);
            Value::Text(uuid::Uuid::from_slice(bytes).while_doing(SERVICE, "read a UUID")?.to_string())
        }
        DataType::Date32 => Value::Text(time::date(column.as_primitive::<Date32Type>().value(at).into())),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let text = time::timestamp(column.as_primitive::<TimestampMicrosecondType>().value(at).into());
            Value::Text(if zone.is_some() { format!("{text}+00") } else { text })
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(at);
            Value::Array((0..items.len()).map(|item| value(items.as_ref(), item)).collect::<Result<_>>()?)
        }
        other => {
            return Err(Error::new(SERVICE, "read a column", format!("values of type {other} are not supported")));
        }
    })
}

fn decimal_text(unscaled: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{}{whole}{point}{fraction}", if unscaled < 0 { "-" } else { "" })
}

fn unscaled(text: &str, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > scale {
        return None;
    }
    format!("{whole}{fraction:0<scale$}").parse().ok()
}

/// The rows of a batch.
///
/// # Errors
/// As [`value`].
pub(crate) fn rows(batch: &RecordBatch) -> Result<Vec<Row>> {
    let schema = batch.schema();
    let names: Vec<Arc<str>> = schema.fields().iter().map(|field| field.name().as_str().into()).collect();
    let columns: Vec<ArrayRef> = batch.columns().iter().map(plain).collect::<Result<_>>()?;
    let row = |at| {
        let columns = names.iter().zip(&columns);
        columns.map(|(name, column)| Ok((Arc::clone(name), value(column.as_ref(), at)?))).collect::<Result<Vec<_>>>()
    };
    (0..batch.num_rows()).map(|at| row(at).map(Row::from_iter)).collect()
}

/// A column without its dictionary, in which the values of a partition may come.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).while_doing(SERVICE, "read a column"),
        _ => Ok(Arc::clone(column)),
    }
}

/// Rows as a batch of a schema; a column that a row doesn't have is NULL.
///
/// # Errors
/// A value isn't of its column's type.
pub(crate) fn batch(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| {
        let values: Vec<&Value> = rows.iter().map(|row| row.get(field.name()).unwrap_or(&Value::Null)).collect();
        array(field, &values)
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).while_doing(SERVICE, "write rows")
}

fn wrong(field: &Field, value: &Value) -> Error {
    Error::new(
        SERVICE,
        format!("write the column {}", field.name()),
        format!("{value} is not of type {}", field.data_type()),
    )
}

/// Values as a column; `take` makes of each that isn't NULL what the column holds.
fn collect<T, A: FromIterator<Option<T>>>(
    field: &Field,
    values: &[&Value],
    take: impl Fn(&Value) -> Option<T>,
) -> Result<A> {
    let value = |value: &&Value| match value {
        Value::Null => Ok(None),
        value => take(value).map(Some).ok_or_else(|| wrong(field, value)),
    };
    values.iter().map(value).collect()
}

fn array(field: &Field, values: &[&Value]) -> Result<ArrayRef> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let bytes = |value: &Value| match value {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let float = |value: &Value| match value {
        Value::Float(number) => Some(number.get()),
        _ => None,
    };
    Ok(match field.data_type() {
        DataType::Boolean => Arc::new(collect::<_, BooleanArray>(field, values, |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })?),
        DataType::Int32 => Arc::new(collect::<_, Int32Array>(field, values, |value| match value {
            Value::Int(number) => i32::try_from(*number).ok(),
            _ => None,
        })?),
        DataType::Int64 => Arc::new(collect::<_, Int64Array>(field, values, |value| match value {
            Value::Int(number) => i64::try_from(*number).ok(),
            _ => None,
        })?),
        #[expect(clippy::cast_possible_truncation, reason = "the column is of single precision")]
        DataType::Float32 => {
            Arc::new(collect::<_, Float32Array>(field, values, |value| float(value).map(|number| number as f32))?)
        }
        DataType::Float64 => Arc::new(collect::<_, Float64Array>(field, values, float)?),
        DataType::Decimal128(precision, scale) => {
            let numbers = collect::<_, Decimal128Array>(field, values, |value| match value {
                Value::Decimal(text) => unscaled(text, *scale),
                _ => None,
            })?;
            let numbers = numbers.with_precision_and_scale(*precision, *scale);
            Arc::new(numbers.while_doing(SERVICE, format!("write the column {}", field.name()))?)
        }
        DataType::Utf8 => Arc::new(collect::<_, StringArray>(field, values, text)?),
        DataType::LargeUtf8 => Arc::new(collect::<_, LargeStringArray>(field, values, text)?),
        DataType::Binary => Arc::new(collect::<_, BinaryArray>(field, values, bytes)?),
        DataType::LargeBinary => Arc::new(collect::<_, LargeBinaryArray>(field, values, bytes)?),
        DataType::FixedSizeBinary(UUID_BYTES) => Arc::new(uuids(field, values)?),
        DataType::Date32 => Arc::new(collect::<_, Date32Array>(field, values, |value| days(&text(value)?))?),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let moments = collect::<_, TimestampMicrosecondArray>(field, values, |value| micros(&text(value)?))?;
            Arc::new(moments.with_timezone_opt(zone.clone()))
        }
        DataType::List(element) => Arc::new(lists(field, element, values)?),
        other => {
            let doing = format!("write the column {}", field.name());
            return Err(Error::new(SERVICE, doing, format!("values of type {other} are not supported")));
        }
    })
}

fn days(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// A moment as the scripts write it, with or without the zone UTC.
fn micros(text: &str) -> Option<i64> {
    let text = text.strip_suffix("+00").unwrap_or(text);
    Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc().timestamp_micros())
}

fn uuids(field: &Field, values: &[&Value]) -> Result<FixedSizeBinaryArray> {
    let mut builder = FixedSizeBinaryBuilder::new(UUID_BYTES);
    for value in values {
        match value {
            Value::Null => builder.append_null(),
            Value::Text(text) => {
                let uuid = uuid::Uuid::parse_str(text).map_err(|_| wrong(field, value))?;
                builder.append_value(uuid.as_bytes()).while_doing(SERVICE, "write a UUID")?;
            }
            other => return Err(wrong(field, other)),
        }
    }
    Ok(builder.finish())
}

fn lists(field: &Field, element: &Arc<Field>, values: &[&Value]) -> Result<ListArray> {
    let mut items: Vec<&Value> = Vec::new();
    let mut lengths = Vec::new();
    let mut valid = Vec::new();
    for value in values {
        match value {
            Value::Array(list) => {
                items.extend(list);
                lengths.push(list.len());
                valid.push(true);
            }
            Value::Null => {
                lengths.push(0);
                valid.push(false);
            }
            other => return Err(wrong(field, other)),
        }
    }
    let items = if items.is_empty() { new_null_array(element.data_type(), 0) } else { array(element, &items)? };
    let offsets = OffsetBuffer::from_lengths(lengths);
    let lists = ListArray::try_new(Arc::clone(element), offsets, items, Some(valid.into()));
    lists.while_doing(SERVICE, format!("write the column {}", field.name()))
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;
    use changeproof::row;

    use super::*;

    #[test]
    fn rows_come_back_from_columns_as_they_went_in() -> Result<()> {
        let field = |name: &str, ty| Field::new(name, ty, true);
        let zone = Some("+00:00".into());
        let list = DataType::List(Arc::new(Field::new("element", DataType::Int32, true)));
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            field("id", DataType::Int64),
            field("price", DataType::Decimal128(8, 2)),
            field("share", DataType::Float32),
            field("day", DataType::Date32),
            field("at", DataType::Timestamp(TimeUnit::Microsecond, zone)),
            field("uuid", DataType::FixedSizeBinary(16)),
            field("list", list),
            field("raw", DataType::LargeBinary),
        ]));
        let full = row! {
            id: 1i64, price: Value::Decimal("-0.05".into()), share: Value::Float(Float::new(0.1)), day: "1969-12-31",
            at: "2024-02-29 12:00:00.5+00", uuid: "67e55044-10b1-426f-9247-bb680e5fe0c8", list: vec![1, 2], raw: &b"\x00\xff"[..],
        };
        let empty: Row = full.columns().map(|name| (name.to_owned(), Value::Null)).collect();
        let given = [full, empty];
        assert_eq!(rows(&batch(&schema, &given)?)?, given);
        assert!(batch(&schema, &[row! { price: Value::Decimal("1.234".into()) }]).is_err(), "a digit would be lost");
        assert!(batch(&schema, &[row! { id: "one" }]).is_err());
        Ok(())
    }
}
