//! Tables that evolve under a rule of the registry: which changes it lets through, what becomes of the connector and of the data where it
//! doesn't, and how that is mended; what the records refer to, and what an old reader makes of new ones.

use std::{
    collections::BTreeSet,
    fmt::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use apache_avro::{Schema, from_avro_datum, types::Value as Avro};
use changeproof::{
    Value,
    capture::{Capture, Options, Subscription, fence_number},
    connect::Connector,
    dead_letters::read,
    debezium::{DebeziumRegistered, Format},
    error::{Context, Error, Result},
    kafka::Brokers,
    postgres,
    registry::{Compatibility, Registry},
    runner::on_a_runtime,
    source::Place,
    stack::{Service, Stack, run_guard_if_asked},
    workspace::Workspace,
};
use libtest_mimic::{Arguments, Failed, Trial};

/// How long a change may take to come, or a connector to fail at it.
const WITHIN: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        Trial::test("avro::backward", || documented("backward", under(Format::Avro, Compatibility::Backward))),
        Trial::test("avro::forward", || documented("forward", under(Format::Avro, Compatibility::Forward))),
        Trial::test("avro::full", || documented("full", under(Format::Avro, Compatibility::Full))),
        Trial::test("avro::schemas_over_time", || documented("schemas_over_time", schemas_over_time(false))),
        Trial::test("avro::schemas_while_it_lags", || documented("schemas_while_it_lags", schemas_over_time(true))),
        Trial::test("avro::old_reader", || documented("old_reader", old_reader())),
        Trial::test("json_schema::backward", || {
            documented("json_schema_backward", under(Format::JsonSchema, Compatibility::Backward))
        }),
        Trial::test("json_schema::forward", || {
            documented("json_schema_forward", under(Format::JsonSchema, Compatibility::Forward))
        }),
        Trial::test("json_schema::full", || {
            documented("json_schema_full", under(Format::JsonSchema, Compatibility::Full))
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn documented(name: &str, story: impl Future<Output = Result<String>>) -> Result<(), Failed> {
    let page = on_a_runtime(story)?;
    scenarios_connect::document("compatibility", name, file!(), &page);
    Ok(())
}

/// Debezium with a registry, on a database of its own.
struct Book {
    stack: Stack,
    workspace: Workspace,
    subscription: Box<dyn Subscription>,
    registry: Registry,
    connector: Connector,
    /// The tables and identifiers of all rows that have come.
    seen: BTreeSet<(String, i128)>,
}

impl Book {
    async fn open(format: Format) -> Result<Self> {
        let method: &'static DebeziumRegistered = match format {
            Format::Avro => &DebeziumRegistered(Format::Avro),
            Format::JsonSchema => &DebeziumRegistered(Format::JsonSchema),
        };
        let stack = Stack::acquire(method.services()).await?;
        let workspace = Workspace::open(&stack, method, Place::Memory).await?;
        let subscription = workspace.start(&stack, &Options::default()).await?;
        let registry = Registry::of(&stack)?;
        let connector = Connector::new(&stack, workspace.subject(&stack).name, "Debezium")?;
        Ok(Self { stack, workspace, subscription, registry, connector, seen: BTreeSet::new() })
    }

    /// Runs statements as one transaction.
    ///
    /// The log can tell of a transaction a moment before others see it. What Debezium finds nothing of in the catalogue then, whether a column
    /// may be NULL, it takes for true; so a table is not made or changed in the same transaction as its rows.
    async fn run(&self, sql: &str) -> Result<()> {
        let client = self.workspace.source.as_a::<postgres::Source>()?.admin();
        client.batch_execute(sql).await.while_doing("PostgreSQL", format!("run {sql}"))
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.workspace.subject(&self.stack).name)
    }

    fn subject(&self, table: &str) -> String {
        format!("{}-value", self.topic(table))
    }

    /// Reads until everything has come that is committed; in the end all these rows of the table have.
    async fn catch_up(&mut self, table: &str, rows: &[i128]) -> Result<()> {
        let fence = i128::from(self.workspace.source.write_fence().await?);
        self.go_on_to(fence).await?;
        let of_table: Vec<_> = self.seen.iter().filter(|(seen, _)| seen == table).map(|(_, id)| *id).collect();
        if of_table == rows {
            return Ok(());
        }
        Err(Error::new("the test", format!("see the rows {rows:?} of {table}"), format!("{of_table:?}")))
    }

    async fn go_on_to(&mut self, fence: i128) -> Result<()> {
        loop {
            let next = tokio::time::timeout(WITHIN, self.subscription.next()).await;
            let change = next.map_err(|_| Error::new("the test", "see the next change", "none came"))??;
            if fence_number(&change).is_some_and(|number| number >= fence) {
                return Ok(());
            }
            if let Some(Value::Int(id)) = change.after.as_ref().and_then(|row| row.get("id")) {
                self.seen.insert((change.table.name().to_owned(), *id));
            }
        }
    }

    async fn restart(&self) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !self.connector.restart_if_failed().await? {
            if Instant::now() > deadline {
                return Err(Error::new("the test", "start the connector again", "it has not failed"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Connect answers before it has started the task; until then its status is that of the failure.
        while self.connector.status().await?.is_some_and(|status| status.task.as_deref() == Some("FAILED"))
            && Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn close(self) -> Result<()> {
        drop(self.subscription);
        self.workspace.close(&self.stack).await
    }
}

/// What becomes of a table: `id int PRIMARY KEY, kept text NOT NULL, maybe text, small int NOT NULL`, with a row in it.
struct Evolution {
    what: &'static str,
    sql: &'static str,
    /// The columns of the row that comes after it, and what they hold.
    row: &'static str,
    /// The rules that let it through in Avro.
    passes: &'static [Compatibility],
    /// And in JSON Schema.
    passes_as_json: &'static [Compatibility],
}

use Compatibility::{Backward, Forward, Full};

/// By the rules of the Avro specification, "Schema Resolution": what a reader misses must have a default, which Connect gives to what may be
/// NULL; an int is read as a long, and a long by no one as an int. A JSON Schema of Connect's leaves open what else an object has: who knows more
/// columns reads what those of the old schema may hold otherwise, so that each that comes breaks the one rule, and each that goes the other.
const EVOLUTIONS: &[Evolution] = &[
    Evolution {
        what: "a column comes that may be NULL",
        sql: "ALTER TABLE t ADD COLUMN new text",
        row: "(2, 'b', NULL, 2, 'x')",
        passes: &[Backward, Forward, Full],
        passes_as_json: &[Forward],
    },
    Evolution {
        what: "a column comes that may not, with a default",
        sql: "ALTER TABLE t ADD COLUMN new text NOT NULL DEFAULT 'd'",
        row: "(2, 'b', NULL, 2, 'x')",
        passes: &[Backward, Forward, Full],
        passes_as_json: &[Forward],
    },
    Evolution {
        what: "a column comes that may not, without a default",
        sql: "ALTER TABLE t ADD COLUMN new text NOT NULL DEFAULT 'd'; ALTER TABLE t ALTER new DROP DEFAULT",
        row: "(2, 'b', NULL, 2, 'x')",
        passes: &[Forward],
        passes_as_json: &[Forward],
    },
    Evolution {
        what: "a column goes that may be NULL",
        sql: "ALTER TABLE t DROP COLUMN maybe",
        row: "(2, 'b', 2)",
        passes: &[Backward, Forward, Full],
        passes_as_json: &[Backward],
    },
    Evolution {
        what: "a column goes that may not",
        sql: "ALTER TABLE t DROP COLUMN kept",
        row: "(2, NULL, 2)",
        passes: &[Backward],
        passes_as_json: &[Backward],
    },
    Evolution {
        what: "an int becomes a bigint",
        sql: "ALTER TABLE t ALTER small TYPE bigint",
        row: "(2, 'b', NULL, 1099511627776)",
        passes: &[Backward],
        passes_as_json: &[Backward, Forward, Full],
    },
    Evolution {
        what: "an int becomes a text",
        sql: "ALTER TABLE t ALTER small TYPE text",
        row: "(2, 'b', NULL, 'x')",
        passes: &[],
        passes_as_json: &[],
    },
    Evolution {
        what: "a column that may be NULL gets another name",
        sql: "ALTER TABLE t RENAME maybe TO other",
        row: "(2, 'b', NULL, 2)",
        passes: &[Backward, Forward, Full],
        passes_as_json: &[],
    },
];

const TABLE: &str = "id int PRIMARY KEY, kept text NOT NULL, maybe text, small int NOT NULL";

/// All evolutions under a rule, each of a table of its own.
async fn under(format: Format, rule: Compatibility) -> Result<String> {
    let mut book = Book::open(format).await?;
    let mut page = format!("Under the rule {rule}:\n");
    for (number, evolution) in (1..).zip(EVOLUTIONS) {
        let table = format!("t{number}");
        let sql = evolution.sql.replace("TABLE t ", &format!("TABLE {table} "));
        book.run(&format!("CREATE TABLE {table} ({TABLE})")).await?;
        book.run(&format!("INSERT INTO {table} VALUES (1, 'a', NULL, 1)")).await?;
        book.catch_up(&table, &[1]).await?;
        book.registry.set_compatibility(&book.subject(&table), rule).await?;
        book.run(&sql).await?;
        book.run(&format!("INSERT INTO {table} VALUES {}", evolution.row)).await?;
        let told = match book.catch_up(&table, &[1, 2]).await {
            Ok(()) => "accepted".to_owned(),
            Err(error) => {
                let reason = refusal(&error, &book.topic(""))?;
                book.registry.set_compatibility(&book.subject(&table), Compatibility::None).await?;
                book.restart().await?;
                book.catch_up(&table, &[1, 2]).await?;
                format!("refused\n  the connector stops: {reason}\n  without the rule and started again, all rows come")
            }
        };
        let passes = match format {
            Format::Avro => evolution.passes,
            Format::JsonSchema => evolution.passes_as_json,
        };
        let passes = passes.contains(&rule);
        if passes != (told == "accepted") {
            return Err(Error::new("the test", format!("find that {}: {passes} under {rule}", evolution.what), told));
        }
        let versions = book.registry.versions(&book.subject(&table)).await?.len();
        let _ =
            writeln!(page, "\n{}: {told}\n  {}\n  versions of the schema: {versions}", evolution.what, evolution.sql);
    }
    book.close().await?;
    Ok(page)
}

/// What the registry said, out of the trace of the connector; an error if it was another failure.
fn refusal(error: &Error, topics: &str) -> Result<String> {
    let told = error.to_string();
    let said = told.lines().flat_map(|line| line.split(" ← ")).find(|reason| reason.contains("Incompatible artifact"));
    said.map(|said| said.trim().replace(topics, ""))
        .ok_or_else(|| Error::new("the test", "see the registry refuse the schema", told.clone()))
}

/// The schemas that the records of a table refer to, while it changes and changes back. A connector that was stopped meanwhile finds in the
/// log what the columns were called and of which type they were; whether they may be NULL, and what their defaults are, it asks the database,
/// which knows what is true now.
async fn schemas_over_time(is_stopped: bool) -> Result<String> {
    let mut book = Book::open(Format::Avro).await?;
    if is_stopped {
        book.subscription.stop().await?;
    }
    book.run(&format!("CREATE TABLE t ({TABLE})")).await?;
    book.run("INSERT INTO t VALUES (1, 'a', NULL, 1)").await?;
    let steps = [
        "UPDATE t SET kept = 'b'",
        "ALTER TABLE t ADD COLUMN new text; UPDATE t SET new = 'x'",
        "ALTER TABLE t DROP COLUMN maybe; UPDATE t SET new = 'y'",
        "ALTER TABLE t DROP COLUMN new; ALTER TABLE t ADD COLUMN maybe text; UPDATE t SET maybe = 'again'",
        "ALTER TABLE t DROP COLUMN small; ALTER TABLE t ADD COLUMN small int NOT NULL DEFAULT 7; UPDATE t SET small = 8",
        "DELETE FROM t",
    ];
    for step in steps {
        if !is_stopped {
            book.catch_up("t", &[1]).await?;
        }
        for statement in step.split("; ") {
            book.run(statement).await?;
        }
    }
    if is_stopped {
        book.subscription.resume().await?;
    }
    book.catch_up("t", &[1]).await?;
    let versions = book.registry.versions(&book.subject("t")).await?;
    let letters = read(&Brokers::of(book.stack.endpoint(Service::Kafka)?), &book.topic("t")).await?;
    let mut page = String::new();
    for (letter, step) in letters.iter().zip(["INSERT"].iter().chain(&steps)) {
        let id = letter.value.as_deref().and_then(referred).unwrap_or_default();
        let version = versions.iter().find(|version| version.id == id);
        let version =
            version.ok_or_else(|| Error::new("the registry", format!("know the schema {id}"), "it does not"))?;
        let _ = writeln!(page, "version {}: {}\n  {step}", version.version, columns(&version.schema)?);
    }
    let _ = writeln!(page, "\nrecords {}, the tombstone included; versions {}", letters.len(), versions.len());
    book.close().await?;
    Ok(page)
}

/// The number of the schema in Confluent's wire format.
fn referred(value: &[u8]) -> Option<u32> {
    let (head, _) = value.split_first_chunk::<5>()?;
    let [0, id @ ..] = *head else { return None };
    Some(u32::from_be_bytes(id))
}

/// The columns of the image of a row in an envelope's schema.
fn columns(schema: &str) -> Result<String> {
    let schema: serde_json::Value = serde_json::from_str(schema).while_doing("the test", "read a schema")?;
    let before = &schema["fields"][0]["type"][1]["fields"];
    let columns = before.as_array().into_iter().flatten().map(|field| {
        let name = field["name"].as_str().unwrap_or_default();
        let optional = if field["type"].is_array() { "?" } else { "" };
        let default = field.get("default").filter(|default| !default.is_null());
        format!("{name}{optional}{}", default.map(|default| format!(" = {default}")).unwrap_or_default())
    });
    Ok(columns.collect::<Vec<_>>().join(", "))
}

/// What the library makes of a number that is too large for the reader (Avro specification, "Schema Resolution": only an int can be promoted).
const CUT_OFF: &str = "\n  the library cuts the number off, where it should say that it can't read it";

/// A reader that knows the first schema alone reads records of later ones.
async fn old_reader() -> Result<String> {
    let mut book = Book::open(Format::Avro).await?;
    let mut page = String::from("A reader that has the first version's schema reads rows of the second:\n");
    for (number, evolution) in (1..).zip(EVOLUTIONS) {
        let table = format!("t{number}");
        let sql = evolution.sql.replace("TABLE t ", &format!("TABLE {table} "));
        book.run(&format!("CREATE TABLE {table} ({TABLE})")).await?;
        book.run(&format!("INSERT INTO {table} VALUES (1, 'a', NULL, 1)")).await?;
        book.catch_up(&table, &[1]).await?;
        book.run(&sql).await?;
        book.run(&format!("INSERT INTO {table} VALUES {}", evolution.row)).await?;
        book.catch_up(&table, &[1, 2]).await?;
        let versions = book.registry.versions(&book.subject(&table)).await?;
        let schemas = versions.iter().map(|version| Schema::parse_str(&version.schema)).collect::<Result<Vec<_>, _>>();
        let schemas = schemas.while_doing("the test", "parse the schemas")?;
        let [old, new] = schemas.as_slice() else {
            return Err(Error::new("the registry", "have two versions", versions.len()));
        };
        let letters = read(&Brokers::of(book.stack.endpoint(Service::Kafka)?), &book.topic(&table)).await?;
        let mut of_new = letters.iter().filter_map(|letter| letter.value.as_deref());
        let datum = of_new.rfind(|value| referred(value) == Some(versions[1].id)).and_then(|value| value.get(5..));
        let mut datum = datum.ok_or_else(|| Error::new("the test", "find a record of the second version", "none"))?;
        let as_read = from_avro_datum(new, &mut datum, Some(old));
        let can_read = evolution.passes.iter().any(|rule| matches!(rule, Forward | Full));
        let told = as_read.map_or_else(|error| format!("can't: {error}"), |envelope| row_of(&envelope));
        let told = told.replace(&book.topic(""), "");
        let is_cut_off = !can_read && told.ends_with("small: 0");
        if can_read == (told.starts_with("can't") || is_cut_off) {
            return Err(Error::new("the test", format!("read {}: {can_read}", evolution.what), told));
        }
        let aside = if is_cut_off { CUT_OFF } else { "" };
        let _ = writeln!(page, "\n{}: {}\n  {told}{aside}", evolution.what, evolution.row);
    }
    book.close().await?;
    Ok(page)
}

/// The image of the row after the change in an envelope.
fn row_of(envelope: &Avro) -> String {
    let Avro::Record(fields) = envelope else { return format!("{envelope:?}") };
    let after = fields.iter().find(|(name, _)| name == "after").map(|(_, value)| value);
    let Some(Avro::Union(_, row)) = after else { return format!("{after:?}") };
    let Avro::Record(columns) = row.as_ref() else { return format!("{row:?}") };
    let told = columns.iter().map(|(name, value)| format!("{name}: {}", text(value)));
    told.collect::<Vec<_>>().join(", ")
}

fn text(value: &Avro) -> String {
    match value {
        Avro::Union(_, value) => text(value),
        Avro::Null => "NULL".to_owned(),
        Avro::String(text) => format!("'{text}'"),
        Avro::Int(number) => number.to_string(),
        Avro::Long(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
