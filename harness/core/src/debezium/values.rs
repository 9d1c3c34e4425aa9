//! Values of Connect's JSON converter as values of PostgreSQL and MySQL.
//!
//! Sources: Kafka Connect's `JsonConverter`, Debezium's manual on the connectors, "Data type mappings".

use base64::{Engine, prelude::BASE64_STANDARD};
use bigdecimal::{BigDecimal, num_bigint::BigInt};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{
    source::Dialect,
    time,
    value::{Float, Row, Value, widen},
};

/// What Debezium writes for a value that the log doesn't hold (`unavailable.value.placeholder`).
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// A schema of Connect as the JSON converter writes it beside each payload.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Schema {
    #[serde(rename = "type")]
    ty: String,
    /// The logical type.
    name: Option<String>,
    /// The field's name within a struct.
    field: Option<String>,
    #[serde(default)]
    fields: Vec<Schema>,
    items: Option<Box<Schema>>,
    #[serde(default)]
    parameters: std::collections::HashMap<String, String>,
}

impl Schema {
    /// The schema of a field of this struct.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.iter().find(|field| field.field.as_deref() == Some(name))
    }

    /// Decodes a struct as a row, in the order of the schema's fields.
    pub(crate) fn row(&self, payload: &Json, dialect: Dialect) -> Option<Row> {
        let columns = payload.as_object()?;
        let column = |field: &Self| {
            let name = field.field.clone()?;
            let value = columns.get(&name)?;
            Some((name, field.value(value, dialect)))
        };
        Some(self.fields.iter().filter_map(column).collect())
    }

    fn value(&self, json: &Json, dialect: Dialect) -> Value {
        if json.is_null() {
            return Value::Null;
        }
        if is_unavailable(json) {
            return Value::Unavailable;
        }
        let logical = self.name.as_deref().and_then(|name| self.logical(name, json, dialect));
        logical.or_else(|| self.plain(json, dialect)).unwrap_or_else(|| Value::Text(text_of(json)))
    }

    fn plain(&self, json: &Json, dialect: Dialect) -> Option<Value> {
        Some(match self.ty.as_str() {
            "boolean" => Value::Bool(json.as_bool()?),
            "int8" | "int16" | "int32" | "int64" => Value::Int(json.as_i64()?.into()),
            "float" => Value::Float(Float::new(number(json).map(narrow)?)),
            "double" => Value::Float(Float::new(number(json)?)),
            "bytes" => Value::Bytes(BASE64_STANDARD.decode(json.as_str()?).ok()?),
            "array" => {
                let items = self.items.as_ref()?;
                Value::Array(json.as_array()?.iter().map(|item| items.value(item, dialect)).collect())
            }
            _ => return None,
        })
    }

    fn logical(&self, name: &str, json: &Json, dialect: Dialect) -> Option<Value> {
        let text = match name {
            "io.debezium.time.Date" => time::date(json.as_i64()?),
            "io.debezium.time.Timestamp" => time::timestamp(i128::from(json.as_i64()?) * 1000),
            "io.debezium.time.MicroTimestamp" => time::timestamp(json.as_i64()?.into()),
            "io.debezium.time.Time" => time::time(json.as_i64()?.checked_mul(1000)?)?,
            // A span of time, and no time of day.
            "io.debezium.time.MicroTime" if dialect == Dialect::MySql => time::span(json.as_i64()?),
            "io.debezium.time.MicroTime" => time::time(json.as_i64()?)?,
            "io.debezium.time.Year" => format!("{:04}", json.as_i64()?),
            "io.debezium.time.ZonedTimestamp" => time::zoned_timestamp(json.as_str()?)?,
            "org.apache.kafka.connect.data.Decimal" => {
                let scale = self.parameters.get("scale")?.parse().ok()?;
                return decimal(json, scale);
            }
            "io.debezium.data.VariableScaleDecimal" => {
                return decimal(json.get("value")?, json.get("scale")?.as_i64()?);
            }
            _ => return None,
        };
        Some(Value::Text(text))
    }
}

fn is_unavailable(json: &Json) -> bool {
    match json {
        Json::String(text) => text == UNAVAILABLE || *text == BASE64_STANDARD.encode(UNAVAILABLE),
        Json::Array(items) => matches!(items.as_slice(), [only] if is_unavailable(only)),
        _ => false,
    }
}

fn text_of(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

/// Numbers that JSON doesn't have come as strings.
fn number(json: &Json) -> Option<f64> {
    json.as_f64().or_else(|| json.as_str()?.parse().ok())
}

#[expect(clippy::cast_possible_truncation, reason = "the sender widened a 32-bit number")]
fn narrow(number: f64) -> f64 {
    widen(number as f32)
}

/// An unscaled integer, big-endian in two's complement, and its scale.
fn decimal(unscaled: &Json, scale: i64) -> Option<Value> {
    let bytes = BASE64_STANDARD.decode(unscaled.as_str()?).ok()?;
    let number = BigDecimal::new(BigInt::from_signed_bytes_be(&bytes), scale);
    Some(Value::Decimal(number.to_plain_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(schema: Json, payload: &Json) -> Result<Value, serde_json::Error> {
        Ok(serde_json::from_value::<Schema>(schema)?.value(payload, Dialect::PostgreSql))
    }

    fn logical(ty: &str, name: &str, payload: &Json) -> Result<String, serde_json::Error> {
        let schema = json!({ "type": ty, "name": name, "parameters": { "scale": "2" } });
        Ok(match decoded(schema, payload)? {
            Value::Text(text) | Value::Decimal(text) => text,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn logical_types_become_the_text_that_postgres_prints() -> Result<(), serde_json::Error> {
        let time = |name: &str| format!("io.debezium.time.{name}");
        assert_eq!(logical("int32", &time("Date"), &json!(0))?, "1970-01-01");
        assert_eq!(logical("int32", &time("Date"), &json!(-1))?, "1969-12-31");
        let micros = json!(1_709_208_000_120_000_i64);
        assert_eq!(logical("int64", &time("MicroTimestamp"), &micros)?, "2024-02-29 12:00:00.12");
        let millis = json!(1_709_208_000_000_i64);
        assert_eq!(logical("int64", &time("Timestamp"), &millis)?, "2024-02-29 12:00:00");
        assert_eq!(logical("int64", &time("MicroTime"), &json!(60_000_000))?, "00:01:00");
        assert_eq!(logical("int64", &time("MicroTime"), &json!(86_400_000_000_i64))?, "24:00:00");
        for outside in [json!(-3_600_000_000_i64), json!(90_000_000_000_i64)] {
            let time = logical("int64", &time("MicroTime"), &outside)?;
            assert_eq!(time, format!("Int({outside})"), "no time of the day before or after");
        }
        let zoned = json!("2024-02-29T12:00:00.5+02:00");
        assert_eq!(logical("string", &time("ZonedTimestamp"), &zoned)?, "2024-02-29 10:00:00.5+00");
        let connect = "org.apache.kafka.connect.data.Decimal";
        assert_eq!(logical("bytes", connect, &json!("AJY="))?, "1.50");
        assert_eq!(logical("bytes", connect, &json!("/w=="))?, "-0.01");
        let variable = json!({ "scale": 3, "value": "AQ==" });
        assert_eq!(logical("struct", "io.debezium.data.VariableScaleDecimal", &variable)?, "0.001");
        let zero = json!({ "scale": 2, "value": "AA==" });
        assert_eq!(logical("struct", "io.debezium.data.VariableScaleDecimal", &zero)?, "0.00");
        Ok(())
    }

    #[test]
    fn plain_types_keep_their_kind() -> Result<(), serde_json::Error> {
        assert_eq!(decoded(json!({ "type": "int16" }), &json!(7))?, Value::Int(7));
        assert_eq!(decoded(json!({ "type": "float" }), &json!(0.1_f32))?, Value::from(0.1));
        assert_eq!(decoded(json!({ "type": "double" }), &json!("NaN"))?, Value::from(f64::NAN));
        assert_eq!(decoded(json!({ "type": "bytes" }), &json!("AP8="))?, Value::Bytes(vec![0, 255]));
        let array = json!({ "type": "array", "items": { "type": "string" } });
        assert_eq!(decoded(array, &json!(["a", null]))?, Value::Array(vec!["a".into(), Value::Null]));
        assert_eq!(decoded(json!({ "type": "string" }), &Json::Null)?, Value::Null);
        Ok(())
    }

    #[test]
    fn what_the_log_does_not_hold_is_not_mistaken_for_a_value() -> Result<(), serde_json::Error> {
        for payload in [json!(UNAVAILABLE), json!(BASE64_STANDARD.encode(UNAVAILABLE)), json!([UNAVAILABLE])] {
            assert_eq!(decoded(json!({ "type": "string" }), &payload)?, Value::Unavailable);
        }
        Ok(())
    }
}
