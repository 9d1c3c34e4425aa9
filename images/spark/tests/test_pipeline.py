from types import SimpleNamespace

import pytest

from changeproof_spark.connect_schema import Unreadable
from changeproof_spark.pipeline import Pipeline, Version, is_passing
from changeproof_spark.settings import Settings


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


def ended_by(error):
    """A pipeline whose query has ended by an error."""
    spark = SimpleNamespace(newSession=lambda: None)
    settings = Settings.of({"name": "p", "topics": "t", "kafka": {"bootstrap.servers": "k"}, "retry_for_s": 60})
    pipeline = Pipeline(spark, settings, "nowhere")
    pipeline.query = SimpleNamespace(isActive=False, exception=lambda: error, lastProgress=None)
    return pipeline


def test_an_error_that_may_pass_is_waited_for_from_its_first_moment_on_and_not_for_ever():
    pipeline = ended_by(RuntimeError("Connection refused"))
    assert pipeline.status()["state"] == "waiting"
    pipeline.supervise(now=100.0)
    assert pipeline.status()["state"] == "waiting" and pipeline.restart_at is not None
    pipeline.restart_at = None
    pipeline.supervise(now=161.0)
    assert pipeline.status()["state"] == "failed"


def test_an_error_that_does_not_pass_is_told():
    pipeline = ended_by(TypeError("x"))
    pipeline.supervise(now=100.0)
    assert (pipeline.status()["state"], pipeline.status()["error"]) == ("failed", "x")
