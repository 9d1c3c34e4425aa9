#!/usr/bin/env python3
"""Captures a database of MySQL by mysqlbinlog, for `cdc judge --on mysql`, or of MariaDB by mariadb-binlog.

    cdc judge --on mysql --capture 'python3 examples/mysqlbinlog/adapter.py'
    cdc judge --on mariadb --capture 'python3 examples/mysqlbinlog/adapter.py mariadb'

It runs the mysqlbinlog and mysql of the server's container, or their namesakes. What mysqlbinlog prints of rows is made for people, so the values of bits and
sets stay as it prints them. It reads no rows that exist before, and doesn't go on where it was stopped.
"""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from urllib.parse import urlparse

URL = urlparse(os.environ["CHANGEPROOF_URL"])
LOGIN = ["--host=127.0.0.1", f"--user={URL.username}"]
IN_CONTAINER = ["docker", "exec", "--env", f"MYSQL_PWD={URL.password}", os.environ["CHANGEPROOF_CONTAINER"]]
IS_MARIADB = sys.argv[1:] == ["mariadb"]
ROWS = {"INSERT INTO": "insert", "UPDATE": "update", "DELETE FROM": "delete"}
CHARSETS = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "ascii": "ascii", "latin1": "cp1252", "utf16": "utf-16-be"}
DATABASE = os.environ["CHANGEPROOF_DATABASE"]
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}


def tell(**line):
    print(json.dumps(line, ensure_ascii=False), flush=True)


def utf8(text):
    """A text of lines that were read byte by byte."""
    return text.encode("latin-1").decode()


def unescape(sign):
    return chr(int(sign[1][1:], 16)) if len(sign[1]) > 1 else ESCAPES.get(sign[1], sign[1])


def value(text, ty):
    """A value in the database's own text form. A number may have its reading without a sign behind it."""
    if text == "NULL":
        return None
    if ty.startswith("TIMESTAMP"):
        seconds, _, fraction = text.strip("'").partition(".")
        moment = datetime(1970, 1, 1) + timedelta(seconds=int(seconds))
        return f"{moment}.{fraction}" if fraction else str(moment)
    if not text.startswith("'"):
        signed, _, unsigned = text.partition(" ")
        return unsigned.strip("()") if unsigned and "UNSIGNED" in ty else signed
    content = re.sub(r"\\(x..|.)", unescape, text[1:-1])
    if ty == "DATE":
        return content.replace(":", "-")
    if charset := re.search(r"CHARSET (\w+)", ty):
        return content.encode("latin-1").decode(CHARSETS[charset[1]])
    if re.match(r"(TINY|MEDIUM|LONG)?BLOB|(VAR)?BINARY", ty):
        return "\\x" + content.encode("latin-1").hex()
    return utf8(content)


class Log:
    """The log, line by line: tables with their columns, and rows."""

    def __init__(self):
        self.tx, self.mapped, self.tables, self.row = None, None, {}, None

    def begin_row(self, op, table):
        self.end_row()
        self.row = {"op": op, "table": table, "before": None, "after": None}

    def end_row(self):
        row, self.row = self.row, None
        if row is not None and row["table"].startswith(DATABASE):
            newest = row["before"] if row["after"] is None else row["after"]
            key = {column: newest[column] for column in self.tables[row["table"]]["key"]}
            tell(type="change", key=key, tx=self.tx, **row)

    def cell(self, number, text):
        column, ty = self.tables[self.row["table"]]["columns"][number - 1]
        self.row["before" if self.row["after"] is None else "after"][column] = value(text, ty)

    def take(self, line):
        if re.match(r"#\d{6} .* end_log_pos |COMMIT/\*!\*/|SET @@SESSION.GTID_NEXT= 'AUTOMATIC'", line):
            self.end_row()
        if mapped := re.search(r"Table_map: `(.*?)`\.`(.*?)` mapped", line):
            self.mapped = {"columns": [], "key": []}
            self.tables[utf8(f"{mapped[1]}.{mapped[2]}")] = self.mapped
        elif gtid := re.match(r"SET @@SESSION.GTID_NEXT= '(\w{8}-.*?)'|#\d{6} .*\tGTID (\d+-\d+-\d+) ", line):
            self.tx = gtid[1] or gtid[2]
        elif column := re.match(r"# (?:Columns\(|        )`(.*?)` (.*?)[,)]?$", line):
            self.mapped["columns"].append((utf8(column[1]), column[2].removesuffix(" NOT NULL")))
        elif key := re.match(r"# Primary Key\((.*)\)", line):
            self.mapped["key"] = utf8(key[1]).split(", ")
        elif rows := re.match(r"### (INSERT INTO|UPDATE|DELETE FROM) `(.*?)`\.`(.*?)`", line):
            self.begin_row(ROWS[rows[1]], utf8(f"{rows[2]}.{rows[3]}"))
        elif image := re.match(r"### (WHERE|SET)", line):
            self.row["before" if image[1] == "WHERE" else "after"] = {}
        elif cell := re.match(r"###   @(\d+)=(.*)", line, re.DOTALL):
            self.cell(int(cell[1]), cell[2])
        elif (emptied := re.match(r"(?i)TRUNCATE(?: TABLE)? `(.*?)`\.`(.*?)`", line)) and emptied[1].startswith(DATABASE):
            tell(type="change", op="truncate", table=utf8(f"{emptied[1]}.{emptied[2]}"), tx=self.tx)


def main():
    if os.environ.get("CHANGEPROOF_RESUME") or os.environ["CHANGEPROOF_SNAPSHOT"] == "initial":
        sys.exit("it neither resumes nor reads what is there")
    client, status, reader = ["mysql"], "SHOW BINARY LOG STATUS", ["mysqlbinlog"]
    server_id = "--connection-server-id"
    if IS_MARIADB:
        # Its reader doesn't understand all that a client's configuration may say.
        client, status, reader = ["mariadb"], "SHOW BINLOG STATUS", ["mariadb-binlog", "--no-defaults"]
        server_id = "--stop-never-slave-server-id"
    status = [*IN_CONTAINER, *client, *LOGIN, "--batch", "--skip-column-names", "--execute", status]
    file, position = subprocess.run(status, check=True, capture_output=True, text=True).stdout.split("\t")[:2]
    command = [*IN_CONTAINER, *reader, "--read-from-remote-server", *LOGIN, "--stop-never", "--verbose"]
    command += ["--base64-output=DECODE-ROWS", "--print-table-metadata", f"--start-position={position}"]
    command += [f"{server_id}={os.environ['CHANGEPROOF_SERVER_ID']}", file]
    read = subprocess.Popen(command, stdout=subprocess.PIPE)
    tell(type="ready")
    log = Log()
    for line in read.stdout:
        log.take(line.decode("latin-1").rstrip("\n"))
    sys.exit(read.wait() or "mysqlbinlog has ended")


main()
