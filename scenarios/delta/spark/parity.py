"""The other side of the parity tests of Delta Lake: Spark writes tables and says what their feed tells, and reads what others wrote.

    parity.py write FOLDER    runs the statements of FOLDER/spec.json, and puts each table's changes beside it
    parity.py read FOLDER     puts the changes of each table of FOLDER that spec.json names beside it
"""

import json
import sys
from pathlib import Path

import common
from changeproof_spark.session import BRIEF
from common import write_json_lines


def session(folder):
    return common.session(
        folder,
        {
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.sql.warehouse.dir": f"{folder}/warehouse",
            "spark.databricks.delta.snapshotPartitions": "1",
            **BRIEF,
        },
    )


def tell_changes(spark, folder, name, path):
    # A version without a change has no row in the feed, and the first one has none at all.
    changes = spark.sql(f"SELECT * FROM table_changes_by_path('{path}', 0)")
    write_json_lines(folder / f"{name}.changes.jsonl", changes)


def write(folder):
    spark = session(folder)
    for spec in json.loads((folder / "spec.json").read_text()):
        name = spec["name"]
        path = f"{folder}/{name}"
        properties = ", ".join(f"'{key}'='{value}'" for key, value in spec["properties"].items())
        spark.sql(f"CREATE TABLE {name} (id INT, name STRING, n BIGINT) USING delta LOCATION '{path}' TBLPROPERTIES ({properties})")
        for statement in spec["statements"]:
            spark.sql(statement.replace("{table}", name))
        tell_changes(spark, folder, name, path)


def read(folder):
    spark = session(folder)
    for name in json.loads((folder / "spec.json").read_text()):
        tell_changes(spark, folder, name, f"{folder}/public/{name}")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
