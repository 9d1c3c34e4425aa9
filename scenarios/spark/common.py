"""What Spark's side of the parity tests shares: a session on the folder, and rows as lines of JSON."""

import os
import pwd


def have_a_name():
    """Hadoop wants the user's name, and a container that runs as another user has none for it."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        with open("/etc/passwd", "a") as file:
            file.write(f"spark:x:{os.getuid()}:{os.getgid()}::/tmp:/bin/false\n")


def session(folder, settings):
    from pyspark.sql import SparkSession

    have_a_name()
    builder = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.local.dir", f"{folder}/tmp")
    )
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def write_json_lines(path, frame):
    with open(path, "w") as file:
        for row in frame.toJSON().collect():
            file.write(row + "\n")
