"""What to do to a table of Iceberg so that it has the columns of its source's."""

import re
from dataclasses import dataclass

from .connect_schema import quoted

# What Iceberg promotes (specification, "Schema Evolution").
PROMOTIONS = {("INT", "BIGINT"), ("FLOAT", "DOUBLE")}
DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")


class Refused(Exception):
    """The pipeline can't go on, and somebody has to decide."""


@dataclass(frozen=True)
class Existing:
    """A column of the sink's table."""

    name: str
    type: str


def _is_promotion(before, now):
    if (before, now) in PROMOTIONS:
        return True
    old, new = DECIMAL.fullmatch(before), DECIMAL.fullmatch(now)
    return bool(old and new) and old[2] == new[2] and int(old[1]) <= int(new[1])


def statements(table, existing, columns, replaces=False):
    """The statements that make the one into the other.

    A renamed column can't be told from one that went and another that came, for records hold names alone.

    Raises `Refused` if a type has changed in a way that Iceberg can't follow, unless the column may be replaced, which loses what it
    holds: the source has rewritten all rows, and no record tells of them.
    """
    before = {column.name: column.type for column in existing}
    now = {column.name for column in columns}
    made = [f"ALTER TABLE {table} DROP COLUMN {quoted(name)}" for name in before if name not in now]
    for column in columns:
        old = before.get(column.name)
        if old == column.type:
            continue
        if old is not None and _is_promotion(old, column.type):
            made.append(f"ALTER TABLE {table} ALTER COLUMN {quoted(column.name)} TYPE {column.type}")
            continue
        if old is not None and not replaces:
            raise Refused(
                f"the column {column.name} of {table} was {old} and is {column.type}: the rows that are there can't follow. "
                "Copy the table anew (an ad hoc snapshot), or set `on_type_change` to `replace`, which makes them NULL"
            )
        if old is not None:
            made.append(f"ALTER TABLE {table} DROP COLUMN {quoted(column.name)}")
        made.append(f"ALTER TABLE {table} ADD COLUMN {quoted(column.name)} {column.type}")
    return made


def fills(existing, columns):
    """By the name of each new column with a default, the value of rows that were there before it: no record tells of them."""
    before = {column.name for column in existing}
    return {column.name: column.default for column in columns if column.name not in before and column.default is not None}


def fill(table, name, default):
    """The statement that gives rows the default of a new column; again, it does nothing."""
    return f"UPDATE {table} SET {quoted(name)} = {default} WHERE {quoted(name)} IS NULL"
