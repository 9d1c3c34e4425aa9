"""The session of Spark that pipelines run in."""

from .pipeline import CATALOG


def session(catalog, options=None):
    """A session with the catalog `lake`.

    The master and all else is as `spark-submit` or the options say; without either, Spark runs within this process.
    """
    from pyspark import SparkConf
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
        "spark.sql.streaming.stopTimeout": "60s",
        "spark.ui.showConsoleProgress": "false",
    }
    settings |= {f"spark.sql.catalog.{CATALOG}.{name}": value for name, value in catalog.items()}
    builder = SparkSession.builder.appName("changeproof")
    given = SparkConf()
    if not given.contains("spark.master"):
        local = {"spark.master": "local[*]", "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"}
        settings = local | settings
    for name, value in (settings | (options or {})).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
