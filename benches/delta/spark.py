"""Times Spark's `table_changes` on the table public/events of FOLDER: spark.py FOLDER."""

import json
import sys
import time

import common

folder = sys.argv[1]
began = time.monotonic()
spark = common.session(
    folder,
    {
        "spark.master": "local[*]",
        "spark.driver.memory": "3g",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    },
)
told = {"session_s": round(time.monotonic() - began, 1)}

for part, first in [("update", 2), ("all", 1)]:
    times = []
    for _ in range(4):
        began = time.monotonic()
        # Without a fetch to the driver: the feed is read into memory, as ours is.
        changes = spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", first)
        changes = changes.load(f"{folder}/public/events").persist()
        rows = changes.count()
        times.append(time.monotonic() - began)
        changes.unpersist(blocking=True)
    # The first run compiles; the best of the others is Spark at its warmest.
    told[part] = {"cold_s": times[0], "warm_s": min(times[1:]), "rows": rows}

print(json.dumps(told))
