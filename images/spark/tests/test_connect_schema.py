import json

import pytest

from changeproof_spark.connect_schema import Unreadable, key_columns, kind_of, quoted, row_columns
from changeproof_spark.decimals import decimal_text


def envelope(*fields):
    return {"type": "struct", "fields": [{"field": "before", "fields": []}, {"field": "after", "fields": list(fields)}]}


def test_the_columns_of_a_table_are_those_of_after():
    columns = row_columns(envelope({"field": "id", "type": "int32"}, {"field": "n", "type": "string", "default": "it's"}))
    assert [(column.name, column.type, column.default) for column in columns] == [("id", "INT", None), ("n", "STRING", "'it\\'s'")]


def test_what_is_no_envelope_is_refused():
    with pytest.raises(Unreadable, match="no field `after`"):
        row_columns({"type": "struct", "fields": []})
    with pytest.raises(Unreadable, match="no type 'int128'"):
        row_columns(envelope({"field": "id", "type": "int128"}))
    with pytest.raises(Unreadable, match="no struct"):
        key_columns({"type": "string"})


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "int16"}, "INT"),
        ({"type": "int32", "name": "io.debezium.time.Date"}, "DATE"),
        ({"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, "TIMESTAMP_NTZ"),
        ({"type": "string", "name": "io.debezium.time.ZonedTimestamp"}, "TIMESTAMP"),
        ({"type": "int64", "name": "io.debezium.time.MicroTime"}, "STRING"),
        ({"type": "string", "name": "io.debezium.data.Uuid"}, "STRING"),
        ({"type": "bytes"}, "BINARY"),
        ({"type": "array", "items": {"type": "int32"}}, "ARRAY<INT>"),
        ({"type": "struct", "fields": [{"field": "x", "type": "double"}]}, "STRING"),
    ],
)
def test_types(schema, type_):
    assert kind_of(schema).type == type_


def decimal(precision, scale):
    parameters = {"scale": str(scale), "connect.decimal.precision": str(precision)}
    return {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": parameters}


def test_decimals_that_iceberg_has_no_digits_for_are_text():
    assert kind_of(decimal(38, 2)).type == "DECIMAL(38,2)"
    assert kind_of(decimal(39, 2)).type == "STRING"
    assert kind_of(decimal(3, 5)).type == "STRING"


@pytest.mark.parametrize(
    ("encoded", "scale", "number"),
    [("Ag==", 0, "2"), ("/w==", 2, "-0.01"), ("AA==", 3, "0.000"), ("AN4Ls6dkAAA=", 2, "625003110651658.24"), (None, 2, None), ("?", 2, None)],
)
def test_decimals_are_twos_complement(encoded, scale, number):
    assert decimal_text(encoded, scale) == number


def test_names_are_quoted():
    assert quoted("a`b") == "`a``b`"
    assert json.loads(json.dumps(quoted("größe"))) == "`größe`"
