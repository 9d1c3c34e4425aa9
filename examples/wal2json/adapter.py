#!/usr/bin/env python3
"""wal2json, received by pg_recvlogical on this machine or (--in-container) in PostgreSQL's, for `cdc judge`."""

import json, os, pathlib, shutil, signal, subprocess, sys
from urllib.parse import urlsplit

SLOT = os.environ["CHANGEPROOF_SLOT"]
# pg_recvlogical tells the server from time to time what it has received: without this, the rest comes again after a resume.
POSITION = pathlib.Path(os.environ["CHANGEPROOF_FOLDER"], "position")
OPS = {"I": "insert", "U": "update", "D": "delete", "T": "truncate"}
OPTIONS = ["format-version=2", "include-lsn=1", "include-xids=1", "include-pk=1"]

# Beside pg_recvlogical somebody waits for the end of standard input and then interrupts it: so it goes however
# we end, also inside a container, where our signals don't reach.
RECEIVE = """
exec 3<&0 </dev/null
(read -r _ <&3; kill -INT $$) >/dev/null 2>&1 &
exec pg_recvlogical "$@" 3<&-
"""


def receiver(*arguments):
    where, url = [], os.environ["CHANGEPROOF_URL"]
    if "--in-container" in sys.argv or not shutil.which("pg_recvlogical"):
        where = ["docker", "exec", "--interactive", os.environ["CHANGEPROOF_CONTAINER"]]
        address = urlsplit(url)
        url = f"postgresql://{address.username}@{address.path}?host=/var/run/postgresql"
    command = [*where, "sh", "-c", RECEIVE, "sh", "--dbname", url, "--slot", SLOT, *arguments]
    # In a session of its own, so that the SIGTERM that stops us doesn't cut it off in the middle of a line.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def row(columns):
    """A row's values; of bytea wal2json leaves out the prefix of the hexadecimal form."""
    is_bytes = lambda column: column["type"] == "bytea" and column["value"] is not None
    return {c["name"]: "\\x" + c["value"] if is_bytes(c) else c["value"] for c in columns}


def change(event):
    columns, identity = event.get("columns", []), event.get("identity", [])
    new, old = row(columns), row(identity)
    key = [column["name"] for column in event.get("pk", [])]
    before, after = old or None, new or None
    if event["action"] == "U":
        # Where the log has no old row, wal2json takes the identity from the new one.
        if (set(old) == set(key) or set(old) < set(new)) and all(old[name] == new[name] for name in old):
            before = None
        # It leaves out large values that stayed the same; under REPLICA IDENTITY FULL the old row has them.
        after = {**{name: value for name, value in old.items() if name not in new}, **new}
    return {
        "type": "change",
        "op": OPS[event["action"]],
        "table": {"schema": event["schema"], "name": event["table"]},
        "key": {name: (new or old)[name] for name in key if name in (new or old)},
        "before": before,
        "after": after,
        "types": {column["name"]: column["type"] for column in columns + identity},
        "tx": event["xid"],
        "position": event["lsn"],
    }


def main():
    if "CHANGEPROOF_RESUME" not in os.environ:
        if receiver("--create-slot", "--plugin", "wal2json").wait() != 0:
            sys.exit("the slot could not be created")
    options = [f"--option={option}" for option in OPTIONS]
    print(json.dumps({"type": "ready"}), flush=True)
    stopped, silent = [], 0
    # The server may end a connection; then we go on behind what we have told.
    while not stopped and silent < 20:
        told = ["--startpos", POSITION.read_text()] if POSITION.exists() else []
        stream = receiver("--start", "--no-loop", "--file", "-", *options, *told)
        signal.signal(signal.SIGTERM, lambda *_: (stopped.append(True), stream.stdin.close()))
        silent += 1
        transaction = []
        for line in stream.stdout:
            silent = 0
            # Numbers stay text: their digits mean something.
            event = json.loads(line, parse_int=str, parse_float=str)
            if event["action"] in OPS:
                transaction.append(change(event))
            elif event["action"] == "C":
                # A transaction that is cut off comes again, whole.
                print("".join(json.dumps(change) + "\n" for change in transaction), end="", flush=True)
                POSITION.write_text(event["nextlsn"])
                transaction = []
        stream.wait()
    sys.exit(0 if stopped else "pg_recvlogical ends at once, again and again")


main()
