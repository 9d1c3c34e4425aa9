"""A pipeline: a streaming query over the topics, whose micro-batches are merged into the tables."""

import json
import logging
import random
import re
import time
from dataclasses import dataclass, field

from .connect_schema import Unreadable, key_columns, quoted, row_columns, taken_apart, text
from .evolution import Existing, Refused, fill, fills, statements
from .merge import LSN, merge, reduced

CATALOG = "lake"

# The position of the log at which the table's columns were as they are.
SCHEMA_LSN = "changeproof.schema-lsn"

# The position of the last truncate: what stands before it in the log, and comes later by another partition, is gone already.
TRUNCATED_AT = "changeproof.truncated-at"

# Whether the table has been made with its key.
KEYED = "changeproof.keyed"

# The defaults that rows still have to get of new columns, as JSON: a driver may die between the two.
FILLING = "changeproof.filling"

SNAPSHOT_PROPERTY = "spark.sql.iceberg.snapshot-property."

ENVELOPE = "STRUCT<op: STRING, source: STRUCT<schema: STRING, `table`: STRING, lsn: BIGINT, ts_ms: BIGINT>>"

# Of so many schemas records are told by how they begin.
AT_ONCE = 16

# So many schemas are kept, or those of a batch if they are more.
REMEMBERED = 1000

# What is no record of Debezium's.
UNREADABLE = "op IS NULL OR NOT has_schema OR name IS NULL"

# What doesn't change rows: messages of pg_logical_emit_message.
NO_ROWS = "('m')"

# What is wrong with a record whose values don't all have a place in the sink.
UNFIT = "it lacks the value of a column, or the sink has no place for it"

log = logging.getLogger("changeproof")


@dataclass
class Progress:
    """What a pipeline has done since it was started."""

    batches: int = 0
    records: int = 0
    dead_letters: int = 0
    retries: int = 0
    last_batch_s: float = 0.0
    # How far the last change that was merged is behind its commit.
    lag_s: float = 0.0
    # How often the query was started again after an error that may pass.
    starts: int = 0
    error: str | None = None


@dataclass
class Version:
    """The records of a topic that bear one schema."""

    number: int
    columns: list
    key: list | None
    first_lsn: int
    last_lsn: int

    @staticmethod
    def of(row):
        """Raises `Unreadable`, or an error of Python's, if it is no schema of Debezium's."""
        columns = row_columns(json.loads(row["schema"]))
        key = key_columns(json.loads(row["key"])) if row["key"] else None
        return Version(row["version"], columns, key, row["first_lsn"], row["last_lsn"])


@dataclass
class TableBatch:
    """What a micro-batch has for one table."""

    topic: str
    schema: str
    name: str
    versions: dict = field(default_factory=dict)
    last_lsn: int = 0
    truncated_at: int | None = None

    def newest(self):
        return max(self.versions.values(), key=lambda version: version.last_lsn)


class Pipeline:
    """One pipeline under way."""

    def __init__(self, spark, settings, checkpoint):
        self.spark = spark.newSession()
        self.settings = settings
        self.checkpoint = checkpoint
        self.progress = Progress()
        self.query = None
        self.offsets = {}
        # When the query is to be started again, and since when it has not worked.
        self.restart_at = None
        self.failing_since = None
        self.has_given_up = False
        self.pause = 0.2
        self.batches_then = 0
        # Whether no batch has been merged since the start.
        self._is_first = True
        # By table the position of the last truncate that it has seen.
        self._truncated = {}
        # The tables that are known to have been made with their key.
        self._keyed = set()
        # By version the schema of the records that bear it, and of their keys.
        self._schemas = {}

    def start(self):
        """Starts the streaming query; it goes on where its checkpoint says."""
        from .decimals import register

        register(self.spark)
        self.progress.error = None
        self.has_given_up = False
        self._is_first = True
        self._truncated.clear()
        self._keyed.clear()
        self._schemas.clear()
        prefix = re.escape(self.settings.topics)
        source = self.spark.readStream.format("kafka").options(**self._kafka())
        left_out = "|".join(filter(None, ["transaction", "notification", "message", self.settings.without]))
        source = source.option("subscribePattern", rf"{prefix}\.(?!({left_out})$).+")
        source = source.option("startingOffsets", "earliest").option("failOnDataLoss", "true")
        source = source.option("maxOffsetsPerTrigger", self.settings.max_records)
        writer = source.load().writeStream.foreachBatch(self._apply).queryName(self.settings.name)
        writer = writer.option("checkpointLocation", self.checkpoint).trigger(processingTime=self.settings.trigger)
        self.query = writer.start()

    def supervise(self, now):
        """Starts the query again that has ended by an error that may pass, after a pause that grows; to be called all the while."""
        if self.query is None or self.query.isActive or self.query.exception() is None:
            return
        if self.restart_at is not None and now >= self.restart_at:
            self.restart_at = None
            self.progress.starts += 1
            self.start()
        elif self.restart_at is None and is_passing(self.query.exception()):
            if self.progress.batches != self.batches_then:
                self.batches_then, self.failing_since, self.pause = self.progress.batches, now, 0.2
            self.failing_since = self.failing_since or now
            if now - self.failing_since < self.settings.retry_for_s:
                log.warning("%s: it is started again: %s", self.settings.name, first_line(self.query.exception()))
                self.restart_at = now + random.uniform(0, self.pause)
                self.pause = min(self.pause * 2, 10.0)
            else:
                self.has_given_up = True

    def stop(self):
        self.restart_at = None
        if self.query is not None:
            self.query.stop()

    def status(self):
        """Its state, and by topic and partition the number of the next record to be merged."""
        state = "stopped"
        if self.query is not None and self.query.isActive:
            state = "running"
        elif self.query is not None and self.query.exception() is not None:
            # One that may pass is waited for, whether or not somebody has looked at it since.
            state = "waiting" if is_passing(self.query.exception()) and not self.has_given_up else "failed"
            self.progress.error = self.progress.error or str(self.query.exception())
        last = self.query.lastProgress if self.query is not None else None
        sources = json.loads(last.json)["sources"] if last else []
        if sources and sources[0]["endOffset"]:
            self.offsets = sources[0]["endOffset"]
        return {"state": state, "offsets": self.offsets, **vars(self.progress)}

    def _kafka(self):
        return {f"kafka.{name}": str(value) for name, value in self.settings.kafka.items()}

    def _apply(self, batch, number):
        """Merges a micro-batch, again and again while the sink doesn't answer: what was merged already does nothing."""
        began = time.monotonic()
        deadline, pause = began + self.settings.retry_for_s, 0.2
        while True:
            try:
                self._merge(batch, number)
                break
            except Refused as error:
                self.progress.error = str(error)
                raise
            except Exception as error:
                if time.monotonic() > deadline or not is_passing(error):
                    self.progress.error = str(error)
                    raise
                self.progress.retries += 1
                log.warning("%s: batch %s is tried again: %s", self.settings.name, number, first_line(error))
                # Full jitter, so that many pipelines don't come back at once.
                time.sleep(random.uniform(0, pause))
                pause = min(pause * 2, 10.0)
        self._is_first = False
        self.progress.batches += 1
        self.progress.last_batch_s = time.monotonic() - began

    def _merge(self, batch, number):
        spark = batch.sparkSession
        known = list(self._schemas.values())[-AT_ONCE:]
        read = batch.where("value IS NOT NULL").selectExpr(
            "topic", "partition", "offset", f"{taken_apart('key', {one['key'] for one in known})} AS k",
            f"{taken_apart('value', {one['schema'] for one in known})} AS v",
        ).selectExpr("*", f"from_json(v.payload, '{ENVELOPE}') AS e").selectExpr(
            "*", "xxhash64(v.schema, if(e.op = 't', NULL, k.schema)) AS version",
        )
        # Without the schemas, which are most of each record.
        records = read.selectExpr(
            "topic", "partition", "offset", "version", "v.schema IS NOT NULL AS has_schema", "e.op AS op", "e.source.schema AS namespace",
            "e.source.`table` AS name", "coalesce(e.source.lsn, 0L) AS lsn", "e.source.ts_ms AS ts_ms", "k.payload AS key",
            "v.payload AS value",
        ).persist()
        try:
            tables, unreadable = self._tables(read, records)
            for which, why, count in unreadable:
                self._bury(batch, records.where(which), text(f"not a record of Debezium's: {why}"), count)
            # The one that was changed last comes last: when it has, everything before it has.
            for table in sorted(tables, key=lambda table: table.last_lsn):
                self._merge_table(spark, batch, table, records, number)
        finally:
            records.unpersist()

    def _tables(self, read, records):
        """What there is for which table; and which records can't be read, why, and how many they are."""
        told = records.groupBy("topic", "version").agg(*[
            _sql(expression) for expression in (
                f"first(namespace) FILTER (WHERE NOT ({UNREADABLE})) AS namespace",
                f"first(name) FILTER (WHERE NOT ({UNREADABLE})) AS name", f"min(lsn) FILTER (WHERE NOT ({UNREADABLE})) AS first_lsn",
                "max(lsn) AS last_lsn", "count(*) AS records", "max(lsn) FILTER (WHERE op = 't') AS truncated_at",
                "max(ts_ms) AS ts_ms", f"count(*) FILTER (WHERE {UNREADABLE}) AS unreadable",
                f"count(*) FILTER (WHERE NOT ({UNREADABLE}) AND op NOT IN {NO_ROWS}) AS of_rows",
            )
        ]).collect()
        self._learn(read, [row["version"] for row in told if row["of_rows"]])
        tables, unreadable = {}, 0
        refused = []
        for row in told:
            unreadable += row["unreadable"]
            self.progress.records += row["records"]
            if not row["of_rows"]:
                continue
            try:
                version = Version.of({**row.asDict(), **self._schemas[row["version"]]})
            except (Unreadable, ValueError, KeyError, TypeError, AttributeError) as error:
                which = f"topic = {text(row['topic'])} AND version = {row['version']}L AND NOT ({UNREADABLE})"
                refused.append((which, str(error), row["of_rows"]))
                continue
            table = tables.setdefault(row["topic"], TableBatch(row["topic"], row["namespace"], row["name"]))
            table.last_lsn = max(table.last_lsn, row["last_lsn"])
            if row["truncated_at"] is not None:
                table.truncated_at = max(table.truncated_at or 0, row["truncated_at"])
            table.versions[row["version"]] = version
            if row["ts_ms"]:
                self.progress.lag_s = max(0.0, time.time() - row["ts_ms"] / 1000)
        if unreadable:
            refused.append((UNREADABLE, "it has no schema, no operation or no table", unreadable))
        return list(tables.values()), refused

    def _learn(self, read, versions):
        """Looks up those of the versions that have not been seen; in the end those of this batch are the latest."""
        unknown = [version for version in versions if version not in self._schemas]
        if unknown:
            told = read.where(f"version IN ({', '.join(f'{version}L' for version in unknown)})").groupBy("version")
            for row in told.agg(_sql("first(v.schema) AS schema"), _sql("first(k.schema) AS key")).collect():
                self._schemas[row["version"]] = {"schema": row["schema"], "key": row["key"]}
        for version in versions:
            if version not in self._schemas:
                raise RuntimeError("the topics have lost records while they were read: they are read again")
            self._schemas[version] = self._schemas.pop(version)
        for version in list(self._schemas)[:-max(REMEMBERED, len(versions))]:
            del self._schemas[version]

    def _merge_table(self, spark, raw, batch, records, number):
        namespace = self.settings.namespace.replace("{schema}", batch.schema)
        table = f"{CATALOG}.{quoted(namespace)}.{quoted(batch.name)}"
        keyed = [version for version in batch.versions.values() if version.key]
        columns = batch.newest().columns
        keys = max(keyed, key=lambda version: version.last_lsn).key if keyed else []
        existed = spark.catalog.tableExists(table)
        if existed and table not in self._truncated:
            self._take_up(spark, table)
        if existed and self._has_merged(spark, table, number):
            return
        if existed and not self._is_to_be_made_again(spark, table, keys):
            self._evolve(spark, table, batch, columns)
        else:
            self._truncated.setdefault(table, -1)
            self._create(spark, table, namespace, columns, keys, batch.newest().first_lsn)
        batch.truncated_at = self._truncate(spark, table, batch.truncated_at)
        if not keys:
            if any(version.key is None for version in batch.versions.values()) and not self._is_truncates_only(records, batch):
                raise Refused(
                    f"{batch.schema}.{batch.name} has no key, by which its rows could be known: give it one, or name columns in "
                    "the connector's `message.key.columns`"
                )
            return
        columns = [column for column in columns if column.name in set(spark.table(table).columns)]
        changes = self._changes(records, batch, keys, columns)
        name = f"changes_{abs(hash((self.settings.name, batch.topic)))}"
        try:
            self._merge_changes(spark, table, changes, name, keys, columns, number)
        except Exception as error:
            if UNFIT not in str(error):
                raise
            # Only now it is worth a look for them.
            unfit = changes.where("size(_unfit) > 0").persist()
            self._bury(raw, unfit, f"concat('{UNFIT}: ', array_join(_unfit, ', '))", unfit.count())
            unfit.unpersist()
            fit = changes.where("size(_unfit) = 0")
            self._merge_changes(spark, table, fit, name, keys, columns, number)

    def _merge_changes(self, spark, table, changes, name, keys, columns, number):
        must_fit = f"if(size(_unfit) > 0, raise_error('{UNFIT}'), _op) AS _op"
        changes.selectExpr(must_fit, "* EXCEPT (_op)").createOrReplaceTempView(name)
        spark.sql(reduced(name, keys, columns)).createOrReplaceTempView(f"last_{name}")
        self._mark(spark, number)
        try:
            spark.sql(merge(table, f"last_{name}", keys, columns))
        finally:
            self._unmark(spark)

    def _is_truncates_only(self, records, batch):
        rows = records.where(f"topic = {text(batch.topic)} AND op <> 't' AND op NOT IN {NO_ROWS}")
        return rows.isEmpty()

    def _is_to_be_made_again(self, spark, table, keys):
        """Whether a table was made by a truncate alone, which has no key: a column of it can't become one that is not NULL any more."""
        if not keys or table in self._keyed:
            return False
        is_empty = spark.table(table).isEmpty()
        if not is_empty:
            self._keyed.add(table)
        return is_empty

    def _create(self, spark, table, namespace, columns, keys, lsn):
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{quoted(namespace)}")
        names = {key.name for key in keys}
        declared = [f"{quoted(column.name)} {column.type}{' NOT NULL' if column.name in names else ''}" for column in columns]
        mode = self.settings.write_mode
        properties = {
            "format-version": "2", SCHEMA_LSN: lsn, "write.merge.mode": mode, "write.delete.mode": mode, "write.update.mode": mode,
            "write.distribution-mode": "none", TRUNCATED_AT: self._truncated[table],
        }
        listed = ", ".join(f"{text(name)} = {text(str(value))}" for name, value in properties.items())
        spark.sql(f"CREATE OR REPLACE TABLE {table} ({', '.join([*declared, f'{LSN} BIGINT'])}) USING iceberg TBLPROPERTIES ({listed})")
        if keys:
            spark.sql(f"ALTER TABLE {table} SET IDENTIFIER FIELDS {', '.join(quoted(key.name) for key in keys)}")
            spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{KEYED}' = 'true')")
            self._keyed.add(table)

    def _evolve(self, spark, table, batch, columns):
        fields = spark.table(table).schema.fields
        existing = [Existing(one.name, one.dataType.simpleString().upper()) for one in fields if one.name != LSN]
        if [(one.name, one.type) for one in existing] == [(column.name, column.type) for column in columns]:
            return
        newest = batch.newest()
        if newest.last_lsn <= _number(spark, table, SCHEMA_LSN):
            return
        if self.settings.dropped_columns == "keep":
            known = {column.name for column in columns}
            existing = [one for one in existing if one.name in known]
        made = statements(table, existing, columns, self.settings.on_type_change == "replace")
        if not made:
            return
        filled = fills(existing, columns)
        if filled:
            spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{FILLING}' = {text(json.dumps(filled))})")
        for statement in made:
            spark.sql(statement)
        self._fill(spark, table, filled)
        spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{SCHEMA_LSN}' = '{newest.first_lsn}')")

    def _fill(self, spark, table, filled):
        """Gives the rows of a table the defaults of new columns."""
        if not filled:
            return
        present = set(spark.table(table).columns)
        for name, default in filled.items():
            if name in present:
                spark.sql(fill(table, name, default))
        spark.sql(f"ALTER TABLE {table} UNSET TBLPROPERTIES ('{FILLING}')")

    def _take_up(self, spark, table):
        """Reads what the table remembers, and does what a driver that died has left undone."""
        self._truncated[table] = _number(spark, table, TRUNCATED_AT)
        if _property(spark, table, KEYED):
            self._keyed.add(table)
        self._fill(spark, table, json.loads(_property(spark, table, FILLING) or "{}"))

    def _truncate(self, spark, table, at):
        """Removes the rows that a truncate has, if there is one. Returns the position of the last one that the table has seen."""
        if at is not None and at > self._truncated[table]:
            spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('{TRUNCATED_AT}' = '{at}')")
            spark.sql(f"DELETE FROM {table} WHERE {LSN} < {at}")
            self._truncated[table] = at
        return self._truncated[table]

    def _changes(self, records, batch, keys, columns):
        """The changes of all versions of the schema, in the columns that the table has now. What a truncate has overtaken is left out."""
        of_topic = records.where(f"topic = {text(batch.topic)} AND op IN ('r', 'c', 'u', 'd') AND lsn > {batch.truncated_at}")
        union = None
        for version in batch.versions.values():
            if version.key is None:
                continue
            part = self._of_version(of_topic.where(f"version = {version.number}L"), version, keys, columns)
            union = part if union is None else union.unionByName(part)
        return union

    def _of_version(self, records, version, keys, columns):
        told = {column.name: column.kind for column in version.columns}
        told_keys = {column.name: column.kind for column in version.key}
        row = _struct(told)
        parsed = records.selectExpr(
            "*", f"from_json(value, {text(f'STRUCT<after: {row}>')}) AS v", f"from_json(key, {text(_struct(told_keys))}) AS k",
        )
        made = ["op AS _op", "lsn AS _lsn", "offset AS _offset", "topic", "partition", "offset"]
        unfit = []
        for number, key in enumerate(keys):
            kind = told_keys.get(key.name, key.kind)
            raw = f"k.{quoted(key.name)}"
            made.append(f"{kind.decode.replace('{}', raw)} AS _key_{number}")
            unfit.append(f"if({kind.decode.replace('{}', raw)} IS NULL, {text(key.name)}, NULL)")
        for number, column in enumerate(columns):
            kind = told.get(column.name)
            if kind is None:
                made.append(f"cast(NULL AS STRUCT<value: {column.type}>) AS _column_{number}")
                continue
            raw = f"v.after.{quoted(column.name)}"
            value = f"cast({kind.decode.replace('{}', raw)} AS {column.type})"
            is_kept = f"coalesce({kind.unavailable.replace('{}', raw)}, false)"
            made.append(f"if(op = 'd' OR {is_kept}, NULL, named_struct('value', {value})) AS _column_{number}")
            # A row whose key has changed comes as a new one, and without the large values that were left alone: nobody has them.
            has_none = f"{is_kept} AND op IN ('c', 'r') OR NOT {is_kept} AND {raw} IS NOT NULL AND {value} IS NULL"
            unfit.append(f"if({has_none}, {text(column.name)}, NULL)")
        made.append(f"filter(array({', '.join(unfit)}), column -> column IS NOT NULL) AS _unfit")
        return parsed.selectExpr(*made)

    def _bury(self, raw, records, why, count):
        """Sends records to the dead letters, as they came, with headers that say where from and why (KIP-298)."""
        if self.settings.dead_letters is None:
            first = records.selectExpr("topic", "partition", "offset", f"{why} AS why").first()
            raise Refused(
                f"{first['topic']}, partition {first['partition']}, offset {first['offset']}: {first['why']}. "
                "Name a topic in `dead_letters` to go on without such records"
            )
        headers = {
            "__connect.errors.topic": "topic", "__connect.errors.partition": "partition", "__connect.errors.offset": "offset",
            "__connect.errors.exception.message": why, "__connect.errors.task.name": text(self.settings.name),
        }
        listed = ", ".join(
            f"named_struct('key', {text(name)}, 'value', cast(cast({value} AS STRING) AS BINARY))" for name, value in headers.items()
        )
        place = ["topic", "partition", "offset"]
        letters = records.selectExpr(*place, f"array({listed}) AS headers").join(raw.select(*place, "key", "value"), place, "left")
        letters = letters.select("key", "value", "headers")
        letters.write.format("kafka").options(**self._kafka()).option("topic", self.settings.dead_letters).save()
        self.progress.dead_letters += count

    def _query_id(self, spark):
        return spark.sparkContext.getLocalProperty("sql.streaming.queryId")

    def _has_merged(self, spark, table, number):
        """Whether a batch that a start repeats was merged before the end that made it start. Only its first batch can have been."""
        if not self._is_first:
            return False
        mine = f"summary['changeproof.query'] = '{self._query_id(spark)}'"
        last = spark.sql(f"SELECT max(cast(summary['changeproof.batch'] AS BIGINT)) FROM {table}.snapshots WHERE {mine}")
        last = last.first()[0]
        return last is not None and last >= number

    def _mark(self, spark, number):
        spark.conf.set(SNAPSHOT_PROPERTY + "changeproof.query", self._query_id(spark))
        spark.conf.set(SNAPSHOT_PROPERTY + "changeproof.batch", str(number))

    def _unmark(self, spark):
        spark.conf.unset(SNAPSHOT_PROPERTY + "changeproof.query")
        spark.conf.unset(SNAPSHOT_PROPERTY + "changeproof.batch")


def _property(spark, table, name):
    found = spark.sql(f"SHOW TBLPROPERTIES {table}").where(f"key = '{name}'").collect()
    return found[0]["value"] if found else None


def _number(spark, table, name):
    """A number that a table has as a property; -1 if it has none."""
    return int(_property(spark, table, name) or -1)


def is_passing(error):
    """Whether an error may pass: one of the network or of a server, and none of analysis or of data."""
    told = f"{type(error).__name__}: {error}"
    lasting = ("Refused", "TypeError", "KeyError", "AttributeError", "NameError", "AnalysisException", "ParseException", "ValidationException", "IllegalArgumentException", "NumberFormatException")
    return not any(name in told for name in lasting)


def first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _sql(expression):
    from pyspark.sql.functions import expr

    return expr(expression)


def _struct(kinds):
    return f"STRUCT<{', '.join(f'{quoted(name)}: {kind.wire}' for name, kind in kinds.items())}>"
