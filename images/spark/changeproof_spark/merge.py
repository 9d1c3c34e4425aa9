"""The changes of a micro-batch, reduced to the last of each key, and merged into a table.

A change's place is the position of the log that it stands at, and after that its offset: the records of a key are in one partition.
Each row keeps the position of its last change in `_lsn`. A change that comes again, or that another partition has overtaken, is older
than what the row has seen, and does nothing.
"""

from .connect_schema import quoted

LSN = "_lsn"


def reduced(changes, keys, columns):
    """The query of the last change of each key: its operation, its position, and of each column the last value that was sent.

    `changes` has `_op`, `_lsn`, `_offset`, the key's columns as `_key_N`, and each column as `_column_N`: a struct of its value, or
    NULL if the record doesn't tell it.
    """
    place = "struct(_lsn, _offset)"
    key = [f"_key_{number}" for number in range(len(keys))]
    values = [
        f"max_by(_column_{number}, {place}) FILTER (WHERE _column_{number} IS NOT NULL) AS _column_{number}"
        for number in range(len(columns))
    ]
    told = [f"max_by(_op, {place}) AS _op", "max(_lsn) AS _lsn", *values]
    return f"SELECT {', '.join(key + told)} FROM {changes} GROUP BY {', '.join(key)}"


def merge(table, source, keys, columns):
    """The statement that brings the last changes into a table.

    A value that was not sent leaves the row's own alone; in a row that is new it is the column's default.
    """
    numbers = {column.name: number for number, column in enumerate(columns)}
    same = " AND ".join(f"t.{quoted(key.name)} = s._key_{number}" for number, key in enumerate(keys))
    def sent(column):
        return f"s._column_{numbers[column.name]}"

    sets = [
        f"t.{quoted(column.name)} = if({sent(column)} IS NULL, t.{quoted(column.name)}, {sent(column)}.value)"
        for column in columns
    ]
    names = [quoted(column.name) for column in columns]
    values = [f"if({sent(column)} IS NULL, {column.default or 'NULL'}, {sent(column)}.value)" for column in columns]
    return (
        f"MERGE INTO {table} t USING {source} s ON {same} "
        f"WHEN MATCHED AND s._lsn > t.{LSN} AND s._op = 'd' THEN DELETE "
        f"WHEN MATCHED AND s._lsn > t.{LSN} THEN UPDATE SET {', '.join([*sets, f't.{LSN} = s._lsn'])} "
        f"WHEN NOT MATCHED AND s._op <> 'd' THEN INSERT ({', '.join([*names, LSN])}) VALUES ({', '.join([*values, 's._lsn'])})"
    )
