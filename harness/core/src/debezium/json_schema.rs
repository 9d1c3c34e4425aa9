//! JSON Schema as Confluent's converter writes it: the schemas of Connect that it was made of.
//!
//! Sources: JSON Schema, draft 7; the properties `connect.*` for what it has no word for (`JsonSchemaData` of Confluent's converter).

use serde_json::{Map, Value as Json, json};

/// The schema of Connect that a JSON Schema was made of, as the JSON converter writes it.
pub(super) fn connect_schema(schema: &Json) -> Json {
    let (present, is_optional) = present(schema);
    let mut connect = declared(present);
    if let Some(connect) = connect.as_object_mut() {
        connect.insert("optional".to_owned(), json!(is_optional));
        let properties = [("title", "name"), ("connect.parameters", "parameters")];
        connect.extend(
            properties
                .into_iter()
                .filter_map(|(property, field)| present.get(property).map(|value| (field.to_owned(), value.clone()))),
        );
    }
    connect
}

/// The schema of what is there, and whether null may be in its place: one of null and another is how Connect's optional values are written.
fn present(schema: &Json) -> (&Json, bool) {
    let is_null = |branch: &Json| branch["type"] == "null";
    match schema.get("oneOf").and_then(Json::as_array) {
        Some(branches) => {
            (branches.iter().find(|branch| !is_null(branch)).unwrap_or(schema), branches.iter().any(is_null))
        }
        None => (schema, false),
    }
}

fn declared(schema: &Json) -> Json {
    let text = |property: &str| schema.get(property).and_then(Json::as_str);
    match text("connect.type").or_else(|| text("type")).unwrap_or_default() {
        "object" => json!({ "type": "struct", "fields": fields(schema) }),
        "map" => {
            let values = connect_schema(&schema["additionalProperties"]);
            json!({ "type": "map", "keys": { "type": "string" }, "values": values })
        }
        "array" => json!({ "type": "array", "items": connect_schema(&schema["items"]) }),
        "integer" => json!({ "type": "int64" }),
        "float32" => json!({ "type": "float" }),
        "float64" | "number" => json!({ "type": "double" }),
        same => json!({ "type": same }),
    }
}

/// In Connect's order: the properties of an object have none.
fn fields(schema: &Json) -> Vec<Json> {
    let mut properties: Vec<_> = schema["properties"].as_object().into_iter().flat_map(Map::iter).collect();
    properties.sort_by_key(|(_, property)| property["connect.index"].as_u64());
    let field = |(name, property): (&String, &Json)| {
        let mut field = connect_schema(property);
        field["field"] = json!(name);
        field
    };
    properties.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_those_of_connect_again() {
        let optional = |schema: Json| json!({ "oneOf": [{ "type": "null" }, schema] });
        let indexed = |mut schema: Json, index: u64| {
            schema["connect.index"] = json!(index);
            schema
        };
        let row = json!({ "type": "object", "title": "t.Value", "properties": {
            "price": indexed(optional(json!({
                "type": "string", "connect.type": "bytes", "title": "org.apache.kafka.connect.data.Decimal",
                "connect.parameters": { "scale": "2" }, "default": "AA==",
            })), 1),
            "id": indexed(json!({ "type": "integer", "connect.type": "int16" }), 0),
            "tags": indexed(json!({ "type": "array", "items": optional(json!({ "type": "string" })) }), 2),
            "share": indexed(json!({ "type": "number", "connect.type": "float32" }), 3),
            "words": indexed(json!({ "type": "object", "connect.type": "map", "additionalProperties": { "type": "boolean" } }), 4),
        } });
        let connect = json!({ "type": "struct", "name": "t.Value", "optional": true, "fields": [
            { "type": "int16", "optional": false, "field": "id" },
            { "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": { "scale": "2" }, "optional": true, "field": "price" },
            { "type": "array", "items": { "type": "string", "optional": true }, "optional": false, "field": "tags" },
            { "type": "float", "optional": false, "field": "share" },
            { "type": "map", "keys": { "type": "string" }, "values": { "type": "boolean", "optional": false }, "optional": false, "field": "words" },
        ] });
        assert_eq!(connect_schema(&optional(row)), connect);
    }
}
