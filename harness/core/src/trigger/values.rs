//! Values of `to_jsonb` as values of PostgreSQL.
//!
//! Source: PostgreSQL's `datum_to_jsonb` (manual, 9.16 "JSON Functions"): numbers and booleans keep their kind, dates and
//! times come in ISO 8601, arrays and composites as JSON of their elements, everything else as text.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::{
    error::{Context, Result},
    guarantees::{Form, Rule, Values},
    schema::Type,
    time::zoned_timestamp,
    value::{Float, Row, Value, widen},
};

/// What `to_jsonb` can't give back as it was stored.
pub(super) fn told() -> Values {
    const RULES: [(&str, Form); 2] = [("hstore", Form::SpacedJsonObject), ("json", Form::BinaryJson)];
    let rules = RULES.map(|(ty, form)| Rule { ty: ty.into(), form });
    Values { rules: rules.to_vec().into(), ..Values::AS_STORED }
}

/// Reads a row; its columns come in the order of `types`, those that it doesn't name last.
pub(super) fn row(json: &str, types: &IndexMap<String, Type>) -> Result<Row> {
    let mut columns: IndexMap<String, Box<RawValue>> =
        serde_json::from_str(json).while_doing("the audit table", "read an entry")?;
    let known: Vec<_> =
        types.iter().filter_map(|(name, ty)| Some((name.clone(), ty, columns.shift_remove(name)?))).collect();
    let row = known.into_iter().map(|(name, ty, json)| (name, value(json.get(), ty)));
    let other = columns.iter().map(|(name, json)| (name.clone(), value(json.get(), &Type::Text)));
    Ok(row.chain(other).collect())
}

fn value(json: &str, ty: &Type) -> Value {
    match json.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => truth(true, ty),
        Some(b'f') => truth(false, ty),
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(_) if *ty == Type::Json => Value::Text(json.to_owned()),
            Ok(text) => text_value(&text, ty),
            Err(_) => Value::Text(json.to_owned()),
        },
        Some(b'[') => match (ty, serde_json::from_str::<Vec<Box<RawValue>>>(json)) {
            (Type::Array(element), Ok(items)) => {
                // The type of an array says nothing of its dimensions.
                let of = |item: &RawValue| if item.get().starts_with('[') { ty.clone() } else { Type::clone(element) };
                Value::Array(items.iter().map(|item| value(item.get(), &of(item))).collect())
            }
            _ => Value::Text(json.to_owned()),
        },
        Some(b'{') => Value::Text(match ty {
            Type::Composite { fields, .. } => record(json, fields).unwrap_or_else(|| json.to_owned()),
            _ => json.to_owned(),
        }),
        _ => number(json, ty),
    }
}

/// A composite value as the database prints it (manual, 8.16.6), from its fields by name.
fn record(json: &str, names: &[String]) -> Option<String> {
    let fields: IndexMap<String, Box<RawValue>> = serde_json::from_str(json).ok()?;
    let field = |name: &String| {
        let json = fields.get(name)?.get();
        let text = match json.as_bytes().first()? {
            b'n' => return Some(String::new()),
            b't' | b'f' => json[..1].to_owned(),
            b'"' => serde_json::from_str(json).ok()?,
            _ => json.to_owned(),
        };
        let is_plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "(),\"\\".contains(c));
        Some(if is_plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")) })
    };
    Some(format!("({})", names.iter().map(field).collect::<Option<Vec<_>>>()?.join(",")))
}

fn truth(truth: bool, ty: &Type) -> Value {
    match ty {
        Type::Json => Value::Text(truth.to_string()),
        _ => Value::Bool(truth),
    }
}

fn number(json: &str, ty: &Type) -> Value {
    let float = |number: f64| Value::Float(Float::new(number));
    match ty {
        Type::Numeric(_) => Value::Decimal(json.to_owned()),
        Type::Real => json.parse().map_or_else(|_| json.into(), |number: f32| float(widen(number))),
        Type::Double => json.parse().map_or_else(|_| json.into(), float),
        Type::Json => json.into(),
        _ => json.parse().map_or_else(|_| Value::Decimal(json.to_owned()), Value::Int),
    }
}

fn text_value(text: &str, ty: &Type) -> Value {
    match ty {
        Type::Timestamp | Type::TimestampTz => Value::Text(moment(text)),
        Type::Other(name) if name.starts_with("timestamp") => Value::Text(moment(text)),
        _ => Value::from_text(text, ty),
    }
}

/// ISO 8601 as the database prints it in UTC, whatever zone the session that wrote it had.
fn moment(text: &str) -> String {
    let (plain, is_bc) = text.strip_suffix(" BC").map_or((text, false), |plain| (plain, true));
    let has_zone = plain.len() > 6 && plain.contains('T') && matches!(plain.as_bytes()[plain.len() - 6], b'+' | b'-');
    if has_zone && !is_bc {
        return zoned_timestamp(plain).unwrap_or_else(|| text.to_owned());
    }
    let plain = plain.replacen('T', " ", 1);
    let plain = if has_zone { plain.trim_end_matches(":00").to_owned() } else { plain };
    if is_bc { format!("{plain} BC") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_the_database_prints() {
        for (json, ty, expected) in [
            ("1.50", Type::Numeric(None), Value::Decimal("1.50".into())),
            ("\"NaN\"", Type::Numeric(None), Value::Decimal("NaN".into())),
            ("1.5", Type::Double, 1.5.into()),
            ("0.1", Type::Real, 0.1.into()),
            ("\"Infinity\"", Type::Double, f64::INFINITY.into()),
            ("7", Type::BigInt, 7.into()),
            ("7", Type::Text, 7.into()),
            ("true", Type::Bool, true.into()),
            ("null", Type::Json, Value::Null),
            ("\"2024-02-29T23:59:59.5\"", Type::Timestamp, "2024-02-29 23:59:59.5".into()),
            ("\"2024-02-29T23:59:00+00:00\"", Type::TimestampTz, "2024-02-29 23:59:00+00".into()),
            ("\"2024-02-29T23:59:00.5-04:00\"", Type::TimestampTz, "2024-03-01 03:59:00.5+00".into()),
            ("\"2024-02-29T23:59:00\"", Type::Timestamp, "2024-02-29 23:59:00".into()),
            ("\"0044-03-15T12:00:00+00:00 BC\"", Type::TimestampTz, "0044-03-15 12:00:00+00 BC".into()),
            ("\"infinity\"", Type::TimestampTz, "infinity".into()),
            ("\"\\\\x00ff\"", Type::Bytes, Value::Bytes(vec![0, 255])),
            (r#"{"a": [1, 2.50, null]}"#, Type::Json, r#"{"a": [1, 2.50, null]}"#.into()),
            ("\"text\"", Type::Json, "\"text\"".into()),
            ("2.50", Type::Json, "2.50".into()),
        ] {
            assert_eq!(value(json, &ty), expected, "{json} as {ty}");
        }
        let fields = ["x", "y", "label"].map(str::to_owned).to_vec();
        let composite = Type::Composite { name: "p".into(), fields };
        let json = r#"{"x": 1, "y": null, "label": "a,\"b\""}"#;
        assert_eq!(value(json, &composite), Value::Text(r#"(1,,"a,""b""")"#.into()));
        let array = Type::Array(Box::new(Type::Text));
        assert_eq!(value(r#"["a", null, "b,c"]"#, &array), Value::Array(vec!["a".into(), Value::Null, "b,c".into()]));
        let matrix = Type::Array(Box::new(Type::Int));
        let inner = |a: i32, b: i32| Value::Array(vec![a.into(), b.into()]);
        assert_eq!(value("[[1, 2], [3, 4]]", &matrix), Value::Array(vec![inner(1, 2), inner(3, 4)]));
    }
}
