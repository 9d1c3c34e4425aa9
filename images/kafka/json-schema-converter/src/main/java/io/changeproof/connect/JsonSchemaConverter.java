package io.changeproof.connect;

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.kafka.common.cache.Cache;
import org.apache.kafka.common.cache.LRUCache;
import org.apache.kafka.common.cache.SynchronizedCache;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.Converter;

/**
 * Writes JSON, with its JSON Schema in a registry that has Confluent's interface, as Confluent's converter of this name does by default:
 * a zero, the schema's number in four bytes, and the JSON (Confluent Platform's manual, "Wire format"); the subject is the topic with
 * {@code -key} or {@code -value} ("Subject name strategy"). It is for connectors that write to Kafka, and doesn't read.
 *
 * <p>Its settings are {@code schema.registry.url}, and {@code replace.null.with.default} as that of the JSON converter.
 */
public final class JsonSchemaConverter implements Converter {
    private static final String URL = "schema.registry.url";
    private static final String DEFAULTS = "replace.null.with.default";
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final String CONTENT = "application/vnd.schemaregistry.v1+json";

    private record Written(String subject, Schema schema) {}

    private final Cache<Written, Integer> numbers = new SynchronizedCache<>(new LRUCache<>(1000));
    private final JsonConverter payload = new JsonConverter();
    private final ObjectMapper mapper = new ObjectMapper();
    private final HttpClient http = HttpClient.newBuilder().connectTimeout(TIMEOUT).build();
    private String registry;
    private String suffix;

    @Override
    public void configure(Map<String, ?> settings, boolean isKey) {
        if (!(settings.get(URL) instanceof String url) || url.isBlank()) {
            throw new ConfigException(URL, settings.get(URL), "give the address of a registry, such as http://registry:8080/apis/ccompat/v7");
        }
        registry = url.replaceAll("/+$", "");
        suffix = isKey ? "-key" : "-value";
        Map<String, Object> ofJson = new HashMap<>(Map.of("schemas.enable", "false"));
        if (settings.containsKey(DEFAULTS)) {
            ofJson.put(DEFAULTS, settings.get(DEFAULTS));
        }
        payload.configure(ofJson, isKey);
    }

    @Override
    public byte[] fromConnectData(String topic, Schema schema, Object value) {
        if (schema == null) {
            if (value == null) {
                return null;
            }
            throw new DataException("A value of topic " + topic + " has no schema, which JSON Schema needs");
        }
        int number = number(new Written(topic + suffix, schema));
        byte[] json = payload.fromConnectData(topic, schema, value);
        byte[] written = json == null ? "null".getBytes(StandardCharsets.UTF_8) : json;
        return ByteBuffer.allocate(1 + Integer.BYTES + written.length).put((byte) 0).putInt(number).put(written).array();
    }

    @Override
    public SchemaAndValue toConnectData(String topic, byte[] value) {
        throw new DataException("JsonSchemaConverter writes records and doesn't read them: topic " + topic);
    }

    private int number(Written written) {
        Integer known = numbers.get(written);
        if (known == null) {
            known = register(written);
            numbers.put(written, known);
        }
        return known;
    }

    /** The number that the registry gives to a schema, or gave to it before (Confluent's manual, "POST /subjects/(subject)/versions"). */
    private int register(Written written) {
        ObjectNode body = JsonNodeFactory.instance.objectNode().put("schemaType", "JSON").put("schema", JsonSchemas.of(written.schema()).toString());
        URI subject = URI.create(registry + "/subjects/" + URLEncoder.encode(written.subject(), StandardCharsets.UTF_8) + "/versions");
        HttpRequest request = HttpRequest.newBuilder(subject).timeout(TIMEOUT).header("Content-Type", CONTENT).POST(BodyPublishers.ofString(body.toString())).build();
        try {
            HttpResponse<String> response = http.send(request, BodyHandlers.ofString());
            if (response.statusCode() / 100 != 2) {
                throw new DataException("The registry refuses the schema of subject " + written.subject() + " with status " + response.statusCode() + ": " + response.body());
            }
            return mapper.readTree(response.body()).required("id").intValue();
        } catch (IOException reason) {
            throw new RetriableException("The registry at " + registry + " doesn't answer", reason);
        } catch (InterruptedException reason) {
            Thread.currentThread().interrupt();
            throw new RetriableException("Interrupted while the registry was asked", reason);
        }
    }
}
