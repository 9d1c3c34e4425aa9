"""The reduction of a micro-batch, records and times of day, in a session of Spark."""

import pytest

from changeproof_spark.connect_schema import Column, Kind, kind_of, taken_apart
from changeproof_spark.decimals import register
from changeproof_spark.merge import merge, reduced
from changeproof_spark.session import BRIEF


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name, value in BRIEF.items():
        builder = builder.config(name, value)
    session = builder.config("spark.sql.shuffle.partitions", "1").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    register(session)
    yield session
    session.stop()


COLUMNS = [Column("id", Kind("INT", "INT")), Column("n", Kind("STRING", "STRING"))]


def last(spark, changes):
    rows = ", ".join(
        f"('{op}', {lsn}L, {offset}L, {key}, named_struct('value', {key}), {'NULL' if n is ... else f'named_struct({chr(39)}value{chr(39)}, {n})'})"
        for op, lsn, offset, key, n in changes
    )
    names = "_op, _lsn, _offset, _key_0, _column_0, _column_1"
    spark.sql(f"SELECT * FROM VALUES {rows} AS v({names})").createOrReplaceTempView("changes")
    found = spark.sql(reduced("changes", COLUMNS[:1], COLUMNS)).orderBy("_key_0").collect()
    return [(row["_op"], row["_lsn"], row["_key_0"], row["_column_1"] and row["_column_1"]["value"]) for row in found]


def test_the_last_change_of_a_key_is_the_one_that_stands_last_in_the_log(spark):
    changes = [("u", 30, 1, 1, "'c'"), ("c", 10, 0, 1, "'a'"), ("u", 20, 2, 1, "'b'"), ("c", 15, 0, 2, "'x'"), ("d", 16, 1, 2, ...)]
    assert last(spark, changes) == [("u", 30, 1, "c"), ("d", 16, 2, "x")]


def test_a_value_that_was_not_sent_is_the_last_one_that_was(spark):
    assert last(spark, [("c", 10, 0, 1, "'large'"), ("u", 20, 1, 1, ...)]) == [("u", 20, 1, "large")]
    assert last(spark, [("c", 10, 0, 1, "'large'"), ("u", 20, 1, 1, "cast(NULL AS STRING)")]) == [("u", 20, 1, None)]


def test_changes_at_one_position_are_in_the_order_of_their_offsets(spark):
    assert last(spark, [("c", 10, 7, 1, "'b'"), ("c", 10, 6, 1, "'a'")]) == [("c", 10, 1, "b")]


def test_the_merge_leaves_alone_what_has_seen_more():
    statement = merge("t", "s", COLUMNS[:1], COLUMNS)
    assert "ON t.`id` = s._key_0" in statement
    assert statement.count("s._lsn > t._lsn") == 2


@pytest.mark.parametrize(
    ("micros", "clock"),
    [(0, "00:00:00"), (36_000_000_000, "10:00:00"), (37_200_500_000, "10:20:00.5"), (86_400_000_000, "24:00:00"), (1, "00:00:00.000001")],
)
def test_times_of_day(spark, micros, clock):
    decode = kind_of({"type": "int64", "name": "io.debezium.time.MicroTime"}).decode
    assert spark.sql(f"SELECT {decode.replace('{}', f'{micros}L')}").first()[0] == clock


def test_a_record_of_a_known_schema_is_taken_apart_as_one_of_another(spark):
    schema = r'''{"type":"struct","fields":[{"type":"string","field":"it's \\ \"naïve\""},{"type":"string","field":"payload"}]}'''
    records = [
        f'{{"schema":{schema},"payload":{{"n":"é","payload":{{"payload":1}}}}}}', f'{{"schema":{schema},"payload":null}}',
        f'{{"schema": {schema}, "payload": {{"n": 2}}}}', f'{{"schema":{schema},"payload":{{"n":3}}', f'{{"schema":{schema},"payl',
        '{"schema":{"type":"struct"},"payload":{"n":4}}', "no JSON", None,
    ]

    def of(known):
        rows = spark.createDataFrame([(at, record and record.encode()) for at, record in enumerate(records)], "at INT, r BINARY")
        taken = rows.selectExpr("at", f"{taken_apart('r', known)} AS v")
        payload = "from_json(v.payload, 'STRUCT<n: STRING, payload: STRING>')"
        read = taken.selectExpr("at", f"{payload}.n AS n", f"{payload}.payload AS payload", "v.schema AS schema").orderBy("at").collect()
        return [(row["n"], row["payload"], row["n"] and row["schema"]) for row in read]

    told = of({schema, '{"type":"int32"}', None})
    assert told == of(set())
    assert [n for n, *_ in told] == ["é", None, "2", None, None, "4", None, None]
    assert told[0][1:] == ('{"payload":1}', schema)
