"""Kafka Connect's schemas, as JsonConverter writes them beside each record, and what Spark makes of them.

Debezium's semantic types: its manual on the connector for PostgreSQL, "Data type mappings".
"""

import base64
import json
from dataclasses import dataclass

# What stands for a large value that an update has left alone (Debezium's `unavailable.value.placeholder`).
UNAVAILABLE = "__debezium_unavailable_value"
UNAVAILABLE_BYTES = base64.b64encode(UNAVAILABLE.encode()).decode()

PRIMITIVES = {
    "boolean": "BOOLEAN",
    "int8": "INT",
    "int16": "INT",
    "int32": "INT",
    "int64": "BIGINT",
    "float": "FLOAT",
    "float32": "FLOAT",
    "double": "DOUBLE",
    "float64": "DOUBLE",
    "string": "STRING",
    "bytes": "STRING",
}

# Iceberg's decimals have 38 digits at most (specification, "Primitive Types").
MAX_PRECISION = 38


class Unreadable(Exception):
    """A record is not what Debezium writes."""


@dataclass(frozen=True)
class Kind:
    """A type: as Spark reads it from JSON, as the table has it, and the expression that makes the one of the other."""

    wire: str
    type: str
    decode: str = "{}"
    # Whether a record's value stands for one that was not sent.
    unavailable: str = "false"


@dataclass(frozen=True)
class Column:
    """A column of a source's table."""

    name: str
    kind: Kind
    # The value that rows have which were there before the column, as a literal of SQL; none if NULL.
    default: str | None = None

    @property
    def type(self):
        return self.kind.type


def quoted(name):
    """A name as Spark SQL takes it, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def text(value):
    """A string literal of Spark SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def taken_apart(bytes_, known):
    """The expression of the schema and the payload that Connect's JsonConverter has put together, as a struct of two texts.

    A record is mostly schema, and to parse that takes most of the time. One of a known schema is told by how it begins.
    """
    parsed = f"from_json(cast({bytes_} AS STRING), 'STRUCT<schema: STRING, payload: STRING>')"
    cases = []
    for schema in sorted(filter(None, known)):
        begin = f'{{"schema":{schema},"payload":'
        length = len(begin.encode())
        payload = f"cast(substr({bytes_}, {length + 1}, octet_length({bytes_}) - {length + 1}) AS STRING)"
        cases.append(
            f"WHEN startswith({bytes_}, cast({text(begin)} AS BINARY)) AND endswith({bytes_}, cast('}}' AS BINARY)) "
            f"THEN named_struct('schema', {text(schema)}, 'payload', {payload})"
        )
    return f"CASE {' '.join(cases)} ELSE {parsed} END" if cases else parsed


def _time_of_day(unit):
    """Hours to microseconds, without zeros at the end, as PostgreSQL prints it: of the day's end too, which is 24:00:00."""
    micros = {"millis": "({} * 1000L)", "micros": "{}", "nanos": "({} div 1000L)"}[unit]
    clock = f"date_format(timestamp_micros({micros}), 'HH:mm:ss.SSSSSS')"
    return f"if({micros} = 86400000000L, '24:00:00', regexp_replace({clock}, '[.]?0{{1,6}}$', ''))"


def _decimal(parameters):
    scale = int(parameters.get("scale", "0"))
    precision = int(parameters.get("connect.decimal.precision", "0"))
    if not 0 < precision <= MAX_PRECISION or not 0 <= scale <= precision:
        return Kind("STRING", "STRING", f"decimal_text({{}}, {scale})", f"{{}} = '{UNAVAILABLE_BYTES}'")
    of = f"DECIMAL({precision},{scale})"
    return Kind("STRING", of, f"try_cast(decimal_text({{}}, {scale}) AS {of})")


LOGICAL = {
    "io.debezium.time.Date": Kind("INT", "DATE", "date_from_unix_date({})"),
    "org.apache.kafka.connect.data.Date": Kind("INT", "DATE", "date_from_unix_date({})"),
    "io.debezium.time.Timestamp": Kind(
        "BIGINT", "TIMESTAMP_NTZ", "cast(timestamp_millis({}) AS TIMESTAMP_NTZ)"
    ),
    "io.debezium.time.MicroTimestamp": Kind(
        "BIGINT", "TIMESTAMP_NTZ", "cast(timestamp_micros({}) AS TIMESTAMP_NTZ)"
    ),
    "io.debezium.time.NanoTimestamp": Kind(
        "BIGINT", "TIMESTAMP_NTZ", "cast(timestamp_micros({} div 1000L) AS TIMESTAMP_NTZ)"
    ),
    "org.apache.kafka.connect.data.Timestamp": Kind(
        "BIGINT", "TIMESTAMP_NTZ", "cast(timestamp_millis({}) AS TIMESTAMP_NTZ)"
    ),
    "io.debezium.time.ZonedTimestamp": Kind("STRING", "TIMESTAMP", "try_cast({} AS TIMESTAMP)"),
    "io.debezium.time.Time": Kind("INT", "STRING", _time_of_day("millis")),
    "io.debezium.time.MicroTime": Kind("BIGINT", "STRING", _time_of_day("micros")),
    "io.debezium.time.NanoTime": Kind("BIGINT", "STRING", _time_of_day("nanos")),
}


def kind_of(schema):
    """The type of a field.

    Raises `Unreadable` for a type that Connect doesn't have.
    """
    name, parameters = schema.get("name"), schema.get("parameters") or {}
    if name in LOGICAL:
        return LOGICAL[name]
    if name == "org.apache.kafka.connect.data.Decimal":
        return _decimal(parameters)
    if name == "io.debezium.data.VariableScaleDecimal":
        wire = "STRUCT<scale: INT, value: STRING>"
        return Kind(wire, "STRING", "decimal_text({}.value, {}.scale)")
    of = schema.get("type")
    if of == "bytes":
        return Kind("STRING", "BINARY", "unbase64({})", f"{{}} = '{UNAVAILABLE_BYTES}'")
    if of == "string":
        return Kind("STRING", "STRING", "{}", f"{{}} = '{UNAVAILABLE}'")
    if of in PRIMITIVES:
        return Kind(PRIMITIVES[of], PRIMITIVES[of])
    if of == "array":
        items = kind_of(schema["items"])
        decode = "{}" if items.decode == "{}" else f"transform({{}}, e -> {items.decode.replace('{}', 'e')})"
        is_unavailable = f"coalesce({items.unavailable.replace('{}', 'get({}, 0)')}, false)"
        return Kind(f"ARRAY<{items.wire}>", f"ARRAY<{items.type}>", decode, is_unavailable)
    if of == "map":
        keys, values = kind_of(schema["keys"]), kind_of(schema["values"])
        return Kind(f"MAP<{keys.wire}, {values.wire}>", "STRING", "to_json({})")
    if of == "struct":
        fields = ", ".join(f"{quoted(field['field'])}: {kind_of(field).wire}" for field in schema["fields"])
        return Kind(f"STRUCT<{fields}>", "STRING", "to_json({})")
    raise Unreadable(f"Connect has no type {of!r}")


def _default(schema, kind):
    value = schema.get("default")
    if value is None:
        return None
    if isinstance(value, bool):
        literal = str(value).lower()
    elif isinstance(value, str):
        literal = text(value)
    elif isinstance(value, (int, float)):
        literal = f"cast({text(str(value))} AS {kind.wire})"
    else:
        literal = f"from_json({text(json.dumps(value))}, {text(kind.wire)})"
    return kind.decode.replace("{}", literal)


def _columns(fields):
    columns = []
    for field in fields:
        kind = kind_of(field)
        columns.append(Column(field["field"], kind, _default(field, kind)))
    return columns


def row_columns(value_schema):
    """The columns of a table, of the schema of an envelope: those of `after`.

    Raises `Unreadable` if it is none.
    """
    for field in value_schema.get("fields") or []:
        if field.get("field") == "after":
            return _columns(field["fields"])
    raise Unreadable("the schema has no field `after`: it is not Debezium's envelope")


def key_columns(key_schema):
    """The columns of a table's key, of the schema of a record's key.

    Raises `Unreadable` if it is none.
    """
    if key_schema.get("type") != "struct":
        raise Unreadable("the key is no struct")
    return _columns(key_schema["fields"])
