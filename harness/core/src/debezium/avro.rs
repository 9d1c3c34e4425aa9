//! Avro as Connect's converters write it: its schemas and values as those of the JSON converter.
//!
//! Sources: the Avro specification, "Schema Declaration"; the properties `connect.*` that Confluent's and Apicurio's converters add to what
//! Avro has no word for (`AvroData`).

use std::collections::HashMap;

use apache_avro::types::Value as Avro;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value as Json, json};

/// The schema of Connect that an Avro schema was made of, as the JSON converter writes it.
pub(super) fn connect_schema(avro: &Json) -> Json {
    Schemas::default().of(avro, "")
}

/// Named types by their full names, which are written once and referred to from then on.
#[derive(Default)]
struct Schemas(HashMap<String, Json>);

impl Schemas {
    fn of(&mut self, avro: &Json, namespace: &str) -> Json {
        match avro {
            Json::String(name) => self.named(name, namespace),
            Json::Array(branches) => self.union(branches, namespace),
            Json::Object(schema) => self.declared(schema, namespace),
            _ => Json::Null,
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Json {
        match connect_type(name) {
            Some(ty) => json!({ "type": ty, "optional": false }),
            None => self.0.get(&full_name(name, namespace)).cloned().unwrap_or_default(),
        }
    }

    /// Of null and one other, which is how Connect writes what may be absent.
    fn union(&mut self, branches: &[Json], namespace: &str) -> Json {
        let present = branches.iter().find(|branch| branch.as_str() != Some("null"));
        let mut schema = present.map(|branch| self.of(branch, namespace)).unwrap_or_default();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("optional".to_owned(), json!(branches.len() > 1));
        }
        schema
    }

    fn declared(&mut self, avro: &Map<String, Json>, namespace: &str) -> Json {
        let mut schema = match avro.get("type") {
            Some(Json::String(ty)) if ty == "record" => return self.record(avro, namespace),
            Some(Json::String(ty)) if ty == "array" => {
                json!({ "type": "array", "items": self.of(&avro["items"], namespace), "optional": false })
            }
            Some(Json::String(ty)) if ty == "map" => {
                let (keys, values) = (json!({ "type": "string" }), self.of(&avro["values"], namespace));
                json!({ "type": "map", "keys": keys, "values": values, "optional": false })
            }
            Some(ty) => self.of(ty, namespace),
            None => Json::Null,
        };
        add_what_connect_says(&mut schema, avro);
        schema
    }

    fn record(&mut self, avro: &Map<String, Json>, namespace: &str) -> Json {
        let name = full_name(avro["name"].as_str().unwrap_or_default(), text(avro, "namespace").unwrap_or(namespace));
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let fields = avro.get("fields").and_then(Json::as_array).into_iter().flatten().map(|field| {
            let mut schema = self.of(&field["type"], &inner);
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("field".to_owned(), field["name"].clone());
            }
            schema
        });
        let fields: Vec<_> = fields.collect();
        let mut schema = json!({ "type": "struct", "name": name, "fields": fields, "optional": false });
        add_what_connect_says(&mut schema, avro);
        self.0.insert(name, schema.clone());
        schema
    }
}

/// What Avro has no word for.
fn add_what_connect_says(schema: &mut Json, avro: &Map<String, Json>) {
    if let Some(schema) = schema.as_object_mut() {
        let properties = [("connect.type", "type"), ("connect.name", "name"), ("connect.parameters", "parameters")];
        for (property, field) in properties {
            schema.extend(avro.get(property).map(|value| (field.to_owned(), value.clone())));
        }
    }
}

fn text<'a>(schema: &'a Map<String, Json>, property: &str) -> Option<&'a str> {
    schema.get(property).and_then(Json::as_str)
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn connect_type(primitive: &str) -> Option<&'static str> {
    Some(match primitive {
        "boolean" => "boolean",
        "int" => "int32",
        "long" => "int64",
        "float" => "float",
        "double" => "double",
        "bytes" | "fixed" => "bytes",
        "string" | "enum" => "string",
        _ => return None,
    })
}

/// The same schema without the defaults of its fields.
pub(super) fn without_defaults(mut avro: Json) -> Json {
    match &mut avro {
        Json::Array(branches) => branches.iter_mut().for_each(|branch| *branch = without_defaults(branch.take())),
        Json::Object(schema) => {
            schema.remove("default");
            for part in ["type", "items", "values", "fields"] {
                if let Some(part) = schema.get_mut(part) {
                    *part = without_defaults(part.take());
                }
            }
        }
        _ => {}
    }
    avro
}

/// A value as the JSON converter writes it.
pub(super) fn payload(value: &Avro) -> Json {
    match value {
        Avro::Null => Json::Null,
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => json!(value),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::TimestampNanos(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value)
        | Avro::LocalTimestampNanos(value) => json!(value),
        Avro::Float(value) => number(f64::from(*value)),
        Avro::Double(value) => number(*value),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => json!(BASE64_STANDARD.encode(bytes)),
        Avro::Decimal(decimal) => {
            json!(Vec::try_from(decimal).map(|bytes| BASE64_STANDARD.encode(bytes)).unwrap_or_default())
        }
        Avro::BigDecimal(decimal) => json!(decimal.to_plain_string()),
        Avro::String(text) | Avro::Enum(_, text) => json!(text),
        Avro::Uuid(uuid) => json!(uuid.to_string()),
        Avro::Union(_, value) => payload(value),
        Avro::Array(items) => items.iter().map(payload).collect(),
        Avro::Map(entries) => {
            Json::Object(entries.iter().map(|(name, value)| (name.clone(), payload(value))).collect())
        }
        Avro::Record(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), payload(value))).collect())
        }
        Avro::Duration(duration) => json!(format!("{duration:?}")),
    }
}

/// Numbers that JSON doesn't have are strings.
fn number(value: f64) -> Json {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_keep_what_connect_adds_and_what_is_named_once() {
        let avro = json!({
            "type": "record", "name": "Envelope", "namespace": "a.b", "fields": [
                { "name": "before", "type": ["null", { "type": "record", "name": "Value", "fields": [
                    { "name": "id", "type": { "type": "int", "connect.type": "int16" } },
                    { "name": "price", "type": ["null", {
                        "type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2,
                        "connect.parameters": { "scale": "2" }, "connect.name": "org.apache.kafka.connect.data.Decimal",
                    }] },
                    { "name": "tags", "type": { "type": "array", "items": ["null", "string"] } },
                ], "connect.name": "t.Value" }] },
                { "name": "after", "type": ["null", "Value"] },
            ],
        });
        let schema = connect_schema(&avro);
        assert_eq!(schema["name"], "a.b.Envelope");
        let (before, after) = (&schema["fields"][0], &schema["fields"][1]);
        assert_eq!((&before["field"], &after["field"]), (&json!("before"), &json!("after")));
        for value in [before, after] {
            assert_eq!((&value["type"], &value["name"]), (&json!("struct"), &json!("t.Value")));
            assert_eq!(value["fields"][0]["type"], "int16");
            assert_eq!(value["fields"][1]["parameters"]["scale"], "2");
            assert_eq!(value["fields"][1]["optional"], true);
            assert_eq!(value["fields"][2]["items"]["type"], "string");
        }
    }

    #[test]
    fn only_defaults_are_taken_out() {
        let avro = json!({ "type": "record", "name": "R", "fields": [
            { "name": "default", "type": ["null", { "type": "array", "items": { "type": "int", "default": 1 } }], "default": null },
        ] });
        let without = json!({ "type": "record", "name": "R", "fields": [
            { "name": "default", "type": ["null", { "type": "array", "items": { "type": "int" } }] },
        ] });
        assert_eq!(without_defaults(avro), without);
    }

    #[test]
    fn values_are_what_the_json_converter_writes() {
        let record = Avro::Record(vec![
            ("none".to_owned(), Avro::Union(0, Box::new(Avro::Null))),
            ("bytes".to_owned(), Avro::Union(1, Box::new(Avro::Bytes(vec![0, 255])))),
            ("decimal".to_owned(), Avro::Decimal(apache_avro::Decimal::from([0xff]))),
            ("nan".to_owned(), Avro::Double(f64::NAN)),
            ("float".to_owned(), Avro::Float(0.5)),
            ("list".to_owned(), Avro::Array(vec![Avro::Int(1), Avro::Long(2)])),
        ]);
        let written = json!({
            "none": null, "bytes": "AP8=", "decimal": "/w==", "nan": "NaN", "float": 0.5, "list": [1, 2],
        });
        assert_eq!(payload(&record), written);
    }
}
