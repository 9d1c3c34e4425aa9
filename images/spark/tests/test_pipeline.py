import pytest

from changeproof_spark.connect_schema import Unreadable
from changeproof_spark.pipeline import Version, is_passing


def row(schema, key=None):
    return {"version": 1, "schema": schema, "key": key, "first_lsn": 1, "last_lsn": 2}


@pytest.mark.parametrize(
    ("schema", "error"),
    [("not JSON", ValueError), ('{"type": "struct", "fields": []}', Unreadable), ("[]", AttributeError), ("null", AttributeError)],
)
def test_what_is_no_schema_of_debeziums_is_said(schema, error):
    with pytest.raises(error):
        Version.of(row(schema))


def test_what_is_wrong_with_the_program_or_the_data_does_not_pass():
    assert is_passing(RuntimeError("Connection refused"))
    for lasting in (TypeError("x"), KeyError("x"), RuntimeError("org.apache.spark.sql.AnalysisException: no such column")):
        assert not is_passing(lasting)
