"""`python3 -m changeproof_spark run …` runs one pipeline, `serve` many; both also by `spark-submit`."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time

from changeproof_spark.server import Pipelines, serve
from changeproof_spark.session import session
from changeproof_spark.settings import Settings, Wrong


def pairs(given):
    found = {}
    for pair in given:
        name, separator, value = pair.partition("=")
        if not separator:
            raise Wrong(f"{pair} is not NAME=VALUE")
        found[name] = value
    return found


def arguments():
    parser = argparse.ArgumentParser(prog="changeproof_spark", description="From Debezium's topics to tables of Apache Iceberg.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="runs one pipeline until it is ended")
    run.add_argument("--name", required=True, help="what its checkpoint and its commits are called")
    run.add_argument("--topics", required=True, metavar="PREFIX", help="`topic.prefix` of Debezium's connector")
    run.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="the brokers")
    run.add_argument("--kafka-option", action="append", default=[], metavar="NAME=VALUE", help="such as security.protocol=SASL_SSL")
    run.add_argument("--checkpoint", required=True, metavar="FOLDER", help="where its place in the topics is kept; on a cluster one that all share")
    run.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="see settings.py, such as trigger='5 seconds'")
    served = commands.add_parser("serve", help="runs pipelines that are told over HTTP")
    served.add_argument("--host", default="127.0.0.1")
    served.add_argument("--port", type=int, default=8998)
    served.add_argument("--folder", required=True, help="where pipelines and their checkpoints are kept")
    for command in (run, served):
        command.add_argument(
            "--catalog-option", action="append", default=[], metavar="NAME=VALUE",
            help="an option of Iceberg's catalog, such as type=rest, uri=http://…, warehouse=s3://…",
        )
        command.add_argument("--spark-option", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def run_one(given, spark):
    from changeproof_spark.pipeline import Pipeline

    kafka = {"bootstrap.servers": given.bootstrap, **pairs(given.kafka_option)}
    told = {"name": given.name, "topics": given.topics, "kafka": kafka, **pairs(given.setting)}
    for name in ("max_records", "retry_for_s"):
        if name in told:
            told[name] = int(told[name])
    pipeline = Pipeline(spark, Settings.of(told), given.checkpoint)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    pipeline.start()
    told = time.monotonic()
    while not stopping.wait(0.2):
        pipeline.supervise(time.monotonic())
        status = pipeline.status()
        if status["state"] != "failed" and time.monotonic() - told < 5:
            continue
        told = time.monotonic()
        print(json.dumps({name: value for name, value in status.items() if name != "offsets"}), flush=True)
        if status["state"] == "failed":
            return 1
    pipeline.stop()
    return 0


def main():
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    given = arguments()
    try:
        spark = session(pairs(given.catalog_option), pairs(given.spark_option))
        if given.command == "run":
            return run_one(given, spark)
        pipelines = Pipelines(spark, given.folder)
        print(f"ready on {given.host}:{given.port}", flush=True)
        serve(pipelines, given.host, given.port, os.environ.get("CHANGEPROOF_TOKEN"))
    except Wrong as error:
        print(f"changeproof_spark: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
