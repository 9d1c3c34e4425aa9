"""Times Spark's changelog view on a table of the warehouse FOLDER between two snapshots: spark.py FOLDER BEFORE AFTER."""

import json
import sys
import time

import common

folder, before, after = sys.argv[1:]
began = time.monotonic()
spark = common.session(
    folder,
    {
        "spark.master": "local[*]",
        "spark.driver.memory": "3g",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.changeproof": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.changeproof.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "spark.sql.catalog.changeproof.uri": f"jdbc:sqlite:file:{folder}/catalog.db",
        "spark.sql.catalog.changeproof.jdbc.schema-version": "V1",
        "spark.sql.catalog.changeproof.warehouse": f"file://{folder}",
    },
)
session_s = time.monotonic() - began

times = []
for run in range(4):
    began = time.monotonic()
    spark.sql(
        f"CALL changeproof.system.create_changelog_view(table => 'public.events', changelog_view => 'changes_{run}', "
        f"options => map('start-snapshot-id', '{before}', 'end-snapshot-id', '{after}'), "
        "compute_updates => true, identifier_columns => array('id'))"
    )
    rows = spark.sql(f"SELECT * FROM changes_{run}").collect()
    times.append(time.monotonic() - began)

# The first run compiles; the best of the others is Spark at its warmest.
print(json.dumps({"session_s": round(session_s, 1), "cold_s": times[0], "warm_s": min(times[1:]), "changes": len(rows)}))
