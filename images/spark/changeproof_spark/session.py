"""The session of Spark that pipelines run in."""

import os

from .pipeline import CATALOG

# For a few rows it takes less to interpret plans than to compile them, and than what the JVM's optimising compiler takes.
BRIEF = {
    "spark.driver.defaultJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}


def session(catalog, options=None):
    """A session with the catalog `lake`.

    The master and all else is as `spark-submit` or the options say; without either, Spark runs within this process.
    """
    from pyspark.sql import SparkSession

    settings = {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        f"spark.sql.catalog.{CATALOG}": "org.apache.iceberg.spark.SparkCatalog",
        # Another writer's changes are seen at once.
        f"spark.sql.catalog.{CATALOG}.cache-enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",
        # What has no place becomes NULL here, and is then looked for: see `Pipeline._of_version`.
        "spark.sql.ansi.enabled": "false",
        # It has a record parsed once for each of its parts that is used.
        "spark.sql.optimizer.enableJsonExpressionOptimization": "false",
        # What is kept of a micro-batch is kept for seconds.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.sql.streaming.stopTimeout": "60s",
        # A query that ends while it writes down its first batch leaves a piece of that, by which it would refuse to start for ever.
        "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    settings |= {f"spark.sql.catalog.{CATALOG}.{name}": value for name, value in catalog.items()}
    builder = SparkSession.builder.appName("changeproof")
    # What `spark-submit` was told only its JVM knows yet, so that a `SparkConf` is empty here; this is how pyspark finds that JVM.
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        local = {"spark.master": "local[*]", "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"}
        # Micro-batches are to be done soon; a pause among them does no harm. A JVM that is told of two collectors doesn't start.
        if "spark.driver.extraJavaOptions" not in (options or {}):
            local["spark.driver.defaultJavaOptions"] = "-XX:+UseParallelGC"
        settings = local | settings
    for name, value in (settings | (options or {})).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
