package io.changeproof.connect;

import java.io.IOException;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.json.JsonConverter;

/** JSON Schemas (draft 7) of Connect's, in which the properties {@code connect.*} hold what JSON Schema has no word for. */
final class JsonSchemas {
    private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final JsonConverter DEFAULTS = new JsonConverter();

    static {
        DEFAULTS.configure(Map.of("schemas.enable", "false"), false);
    }

    private JsonSchemas() {}

    static ObjectNode of(Schema schema) {
        ObjectNode described = described(schema);
        if (!schema.isOptional()) {
            return described;
        }
        ObjectNode optional = NODES.objectNode();
        optional.putArray("oneOf").add(NODES.objectNode().put("type", "null")).add(described);
        return optional;
    }

    private static ObjectNode described(Schema schema) {
        ObjectNode described = typed(schema);
        if (schema.name() != null) {
            described.put("title", schema.name());
        }
        if (schema.version() != null) {
            described.put("connect.version", schema.version());
        }
        if (schema.doc() != null) {
            described.put("description", schema.doc());
        }
        if (schema.parameters() != null) {
            ObjectNode parameters = described.putObject("connect.parameters");
            schema.parameters().forEach(parameters::put);
        }
        if (schema.defaultValue() != null) {
            described.set("default", defaultOf(schema));
        }
        return described;
    }

    private static ObjectNode typed(Schema schema) {
        ObjectNode node = NODES.objectNode();
        switch (schema.type()) {
            case INT8, INT16, INT32, INT64 -> node.put("type", "integer").put("connect.type", schema.type().getName());
            case FLOAT32, FLOAT64 -> node.put("type", "number").put("connect.type", schema.type().getName());
            case BOOLEAN -> node.put("type", "boolean");
            case STRING -> node.put("type", "string");
            case BYTES -> node.put("type", "string").put("connect.type", "bytes");
            case ARRAY -> node.put("type", "array").set("items", of(schema.valueSchema()));
            case MAP -> {
                if (schema.keySchema().type() != Schema.Type.STRING) {
                    throw new DataException("A map whose keys are " + schema.keySchema().type() + " is no object of JSON");
                }
                node.put("type", "object").put("connect.type", "map").set("additionalProperties", of(schema.valueSchema()));
            }
            case STRUCT -> {
                node.put("type", "object");
                ObjectNode properties = node.putObject("properties");
                for (Field field : schema.fields()) {
                    properties.set(field.name(), of(field.schema()).put("connect.index", field.index()));
                }
            }
        }
        return node;
    }

    /** What the JSON converter writes of the default, as it does of values. */
    private static JsonNode defaultOf(Schema schema) {
        try {
            return MAPPER.readTree(DEFAULTS.fromConnectData("", schema, schema.defaultValue()));
        } catch (IOException reason) {
            throw new DataException("The default of " + schema.name() + " can't be written as JSON", reason);
        }
    }
}
