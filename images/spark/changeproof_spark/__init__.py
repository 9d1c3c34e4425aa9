"""From Debezium's topics to tables of Apache Iceberg, by Spark Structured Streaming.

A pipeline reads all topics of a prefix. Each micro-batch is reduced to the last change of each key, and merged into the tables: see
`pipeline.py`. `connect_schema.py` and `evolution.py` need no Spark.
"""
