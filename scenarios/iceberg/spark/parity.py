"""The other side of the parity tests: Spark writes tables and says what it makes of them, and reads what others wrote.

    parity.py write FOLDER    runs the statements of FOLDER/spec.json, and puts each table's changelog beside it
    parity.py read FOLDER     reads each table of the warehouse FOLDER by Spark and by PyIceberg
"""

import json
import sys
from pathlib import Path

import common
from changeproof_spark.session import BRIEF
from common import write_json_lines


def session(folder, name, catalog):
    of_catalog = {f"spark.sql.catalog.{name}.{key}": value for key, value in catalog.items()}
    return common.session(
        folder,
        {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            f"spark.sql.catalog.{name}": "org.apache.iceberg.spark.SparkCatalog",
            **of_catalog,
            **BRIEF,
        },
    )


def write(folder):
    spark = session(folder, "lake", {"type": "hadoop", "warehouse": f"{folder}/lake"})
    for spec in json.loads((folder / "spec.json").read_text()):
        name = spec["name"]
        table = f"lake.db.{name}"
        modes = ", ".join(f"'write.{what}.mode'='{spec['mode']}'" for what in ("delete", "update", "merge"))
        spark.sql(
            f"CREATE TABLE {table} (id INT NOT NULL, name STRING, n BIGINT) USING iceberg "
            f"TBLPROPERTIES ('format-version'='{spec['format']}', {modes})"
        )
        spark.sql(f"ALTER TABLE {table} SET IDENTIFIER FIELDS id")
        for statement in spec["statements"]:
            spark.sql(statement.replace("{table}", table).replace("{name}", name))
        try:
            spark.sql(
                f"CALL lake.system.create_changelog_view(table => 'db.{name}', changelog_view => 'changes_{name}', "
                "compute_updates => true, identifier_columns => array('id'))"
            )
            changes = spark.sql(f"SELECT * FROM changes_{name}")
            write_json_lines(folder / f"{name}.changes.jsonl", changes)
        except Exception as error:
            (folder / f"{name}.refused").write_text(str(error).splitlines()[0])


def read(folder):
    uri = f"jdbc:sqlite:file:{folder}/catalog.db"
    spark = session(
        folder,
        # The catalog bears its own name in the database.
        "changeproof",
        {
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": uri,
            "warehouse": f"file://{folder}",
            "jdbc.schema-version": "V1",
        },
    )
    from pyiceberg.catalog.sql import SqlCatalog

    python = SqlCatalog("changeproof", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    for name in json.loads((folder / "spec.json").read_text()):
        write_json_lines(folder / f"{name}.spark.jsonl", spark.sql(f"SELECT * FROM changeproof.public.{name}"))
        try:
            rows = python.load_table(("public", name)).scan().to_arrow().to_pylist()
            (folder / f"{name}.pyiceberg.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        except Exception as error:
            (folder / f"{name}.pyiceberg.refused").write_text(str(error))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
