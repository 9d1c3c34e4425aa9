import pytest

from changeproof_spark.connect_schema import Column, Kind
from changeproof_spark.evolution import Existing, Refused, fill, fills, statements


def column(name, type_, default=None):
    return Column(name, Kind(type_, type_), default)


ID = (Existing("id", "INT"), column("id", "INT"))


def made(existing, columns, **options):
    return statements("t", [ID[0], *existing], [ID[1], *columns], **options)


def test_a_table_that_is_as_it_should_be_is_left_alone():
    assert made([], []) == []


def test_a_new_column_is_filled_with_its_default():
    assert made([], [column("n", "INT", "7")]) == ["ALTER TABLE t ADD COLUMN `n` INT"]
    assert fills([ID[0]], [ID[1], column("n", "INT", "7"), column("m", "INT")]) == {"n": "7"}
    assert fills([Existing("n", "INT")], [column("n", "INT", "7")]) == {}
    assert fill("t", "n", "7") == "UPDATE t SET `n` = 7 WHERE `n` IS NULL"


def test_a_renamed_column_is_one_that_went_and_one_that_came():
    assert made([Existing("a", "INT")], [column("b", "INT")]) == [
        "ALTER TABLE t DROP COLUMN `a`",
        "ALTER TABLE t ADD COLUMN `b` INT",
    ]


@pytest.mark.parametrize(
    ("before", "now"),
    [("INT", "BIGINT"), ("FLOAT", "DOUBLE"), ("DECIMAL(8,2)", "DECIMAL(10,2)")],
)
def test_types_are_promoted(before, now):
    assert made([Existing("n", before)], [column("n", now)]) == [f"ALTER TABLE t ALTER COLUMN `n` TYPE {now}"]


@pytest.mark.parametrize(
    ("before", "now"),
    [("BIGINT", "INT"), ("STRING", "INT"), ("DECIMAL(8,2)", "DECIMAL(8,3)"), ("DECIMAL(10,2)", "DECIMAL(8,2)")],
)
def test_what_is_no_promotion_is_refused_or_replaced(before, now):
    with pytest.raises(Refused, match=rf"was {before}".replace("(", r"\(").replace(")", r"\)")):
        made([Existing("n", before)], [column("n", now)])
    assert made([Existing("n", before)], [column("n", now)], replaces=True) == [
        "ALTER TABLE t DROP COLUMN `n`",
        f"ALTER TABLE t ADD COLUMN `n` {now}",
    ]
