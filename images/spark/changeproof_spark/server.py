"""Pipelines by name, and what is told and asked of them over HTTP.

| request | |
|---|---|
| `PUT /pipelines/NAME` | makes the pipeline of these settings and starts it; one that has other settings goes on with these from its checkpoint |
| `GET /pipelines/NAME` | its state, offsets, and counts |
| `POST /pipelines/NAME/stop`, `/start` | stops it, and starts it where it stopped |
| `DELETE /pipelines/NAME` | stops it and forgets it, its checkpoint included; its tables stay |
| `GET /pipelines` | their names and states |
| `GET /metrics` | for Prometheus |
| `GET /health` | answers once Spark is ready |

What was started is started again when the server starts: the settings stand beside the checkpoints.
"""

import hmac
import json
import logging
import os
import pathlib
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .pipeline import Pipeline, first_line
from .settings import Settings, Wrong

NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
PATH = re.compile(r"/pipelines/([^/]+)(?:/(stop|start))?")

METRICS = {
    "batches": ("batches_total", "counter", "Micro-batches merged."),
    "records": ("records_total", "counter", "Records read."),
    "dead_letters": ("dead_letters_total", "counter", "Records sent to the dead letters."),
    "retries": ("retries_total", "counter", "Batches tried again because the sink did not answer."),
    "last_batch_s": ("last_batch_seconds", "gauge", "What the last batch took."),
    "lag_s": ("lag_seconds", "gauge", "How far the last change that was merged is behind its commit."),
}

log = logging.getLogger("changeproof")


class Pipelines:
    """The pipelines of one session, and the folder that keeps what is to be started again."""

    def __init__(self, spark, folder):
        self.spark = spark
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.pipelines = {}
        for file in sorted(self.folder.glob("*.json")):
            kept = json.loads(file.read_text())
            self._add(Settings.of(kept["settings"]), is_started=kept["is_started"])

    def _add(self, settings, is_started=True):
        pipeline = Pipeline(self.spark, settings, str(self.folder / settings.name))
        self.pipelines[settings.name] = pipeline
        self._keep(settings, is_started)
        if is_started:
            pipeline.start()

    def _keep(self, settings, is_started):
        file = self.folder / f"{settings.name}.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"settings": settings.as_json(), "is_started": is_started}))
        os.replace(new, file)

    def put(self, name, given):
        settings = Settings.of({**given, "name": name})
        with self.lock:
            known = self.pipelines.get(name)
            if known is None or known.settings != settings:
                if known is not None:
                    known.stop()
                self._add(settings)
            return self.pipelines[name].status()

    def get(self, name):
        return self.pipelines[name].status()

    def act(self, name, action):
        with self.lock:
            pipeline = self.pipelines[name]
            if action == "stop":
                pipeline.stop()
            elif pipeline.status()["state"] != "running":
                pipeline.start()
            self._keep(pipeline.settings, action == "start")
            return pipeline.status()

    def remove(self, name):
        with self.lock:
            self.pipelines.pop(name).stop()
            (self.folder / f"{name}.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def states(self):
        return {name: pipeline.status()["state"] for name, pipeline in sorted(self.pipelines.items())}

    def supervise(self):
        """Starts pipelines again that have ended by an error that may pass, as long as the process lives."""
        while True:
            time.sleep(0.2)
            with self.lock:
                for pipeline in self.pipelines.values():
                    try:
                        pipeline.supervise(time.monotonic())
                    except Exception:
                        log.exception("%s could not be started again", pipeline.settings.name)

    def metrics(self):
        """The counts of all pipelines in Prometheus's text format."""
        statuses = {name: pipeline.status() for name, pipeline in sorted(self.pipelines.items())}
        lines = []
        for field, (metric, kind, words) in METRICS.items():
            lines += [f"# HELP changeproof_spark_{metric} {words}", f"# TYPE changeproof_spark_{metric} {kind}"]
            lines += [f'changeproof_spark_{metric}{{pipeline="{name}"}} {status[field]}' for name, status in statuses.items()]
        lines += ["# HELP changeproof_spark_failed 1 if the pipeline has failed.", "# TYPE changeproof_spark_failed gauge"]
        for name, status in statuses.items():
            lines.append(f'changeproof_spark_failed{{pipeline="{name}"}} {int(status["state"] == "failed")}')
        return "\n".join(lines) + "\n"


def handler(pipelines, token):
    """The class that answers requests, which must bear the token if there is one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def answer(self, status, body):
            text = body if isinstance(body, str) else json.dumps(body)
            encoded = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def handle_request(self, method):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b"{}"
            given = self.headers.get("Authorization", "")
            if token and self.path != "/health" and not hmac.compare_digest(given, f"Bearer {token}"):
                return self.answer(401, {"error": "the token is missing or wrong"})
            try:
                return self.answer(200, self.dispatch(method, body))
            except KeyError:
                return self.answer(404, {"error": f"there is no {method} {self.path}"})
            except (Wrong, json.JSONDecodeError) as error:
                return self.answer(400, {"error": str(error)})
            except Exception as error:
                log.exception("%s %s", method, self.path)
                return self.answer(500, {"error": first_line(error)})

        def dispatch(self, method, body):
            if (method, self.path) == ("GET", "/health"):
                return {"state": "ready"}
            if (method, self.path) == ("GET", "/pipelines"):
                return pipelines.states()
            if (method, self.path) == ("GET", "/metrics"):
                return pipelines.metrics()
            found = PATH.fullmatch(self.path)
            if not found or not NAME.fullmatch(found[1]):
                raise KeyError(self.path)
            name, action = found.groups()
            match (method, action):
                case ("PUT", None):
                    return pipelines.put(name, json.loads(body))
                case ("GET", None):
                    return pipelines.get(name)
                case ("POST", "stop" | "start"):
                    return pipelines.act(name, action)
                case ("DELETE", None):
                    pipelines.remove(name)
                    return {"state": "removed"}
            raise KeyError(self.path)

        def do_GET(self):
            self.handle_request("GET")

        def do_PUT(self):
            self.handle_request("PUT")

        def do_POST(self):
            self.handle_request("POST")

        def do_DELETE(self):
            self.handle_request("DELETE")

    return Handler


def serve(pipelines, host, port, token):
    """Answers until the process is ended."""
    server = ThreadingHTTPServer((host, port), handler(pipelines, token))
    server.daemon_threads = True
    threading.Thread(target=pipelines.supervise, daemon=True).start()
    server.serve_forever()
