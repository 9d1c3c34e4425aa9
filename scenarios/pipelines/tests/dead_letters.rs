//! Records that can't be read, or don't fit the sink, amid others that flow: they are found among the dead letters as they came, with where
//! from and why, and what is sent again after it was mended arrives.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use changeproof::{
    capture::{Capture, Options, Subject},
    dead_letters::{Letter, read, replay},
    error::{Context, Error, Result},
    kafka::{self, Brokers},
    postgres::{self, Address, PUBLICATION, PostgreSql},
    runner::on_a_runtime,
    source::{Place, Storage as _},
    stack::{Lease, Service, Stack, run_guard_if_asked},
};
use changeproof_iceberg::warehouse_in_bucket;
use changeproof_pipelines::{ConnectSink, Layout, Misfit, Spark, check};
use libtest_mimic::{Arguments, Trial};
use tokio_postgres::Client;

/// How long the rest may take to flow.
const WITHIN: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        Trial::test("spark::dead_letters", || on_a_runtime(by_spark())),
        Trial::test("connect_sink::dead_letters", || on_a_runtime(by_the_sink())),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A database with a pipeline of its own that has a topic for dead letters.
struct Bench {
    stack: Stack,
    lease: Lease,
    address: Address,
    client: Client,
    pipeline: &'static dyn Capture,
    layout: Layout,
    name: String,
}

impl Bench {
    async fn open(pipeline: &'static dyn Capture, layout: Layout) -> Result<Self> {
        let stack = Stack::acquire(pipeline.services()).await?;
        let lease = Lease::take(stack.state(), "dead_letters")?;
        drop(PostgreSql.create(&stack, lease.name(), Place::Memory).await?);
        let endpoint = stack.endpoint(Service::Postgres)?;
        postgres::publish_all_tables(endpoint, lease.name()).await?;
        let address = Address::of(endpoint, lease.name());
        let client = address.connect().await?;
        let name = format!("{}_{}", lease.name(), pipeline.name());
        let bench = Self { stack, lease, address, client, pipeline, layout, name };
        bench.run("CREATE TABLE visits (id int PRIMARY KEY, at timestamptz)").await?;
        kafka::create_ordered(bench.stack.endpoint(Service::Kafka)?, &[&bench.dead_letters()]).await?;
        Ok(bench)
    }

    fn subject(&self) -> Subject<'_> {
        Subject { stack: &self.stack, database: self.lease.name(), name: &self.name }
    }

    fn topic(&self) -> String {
        format!("{}.public.visits", self.name)
    }

    fn dead_letters(&self) -> String {
        format!("dlq-{}", self.name)
    }

    fn brokers(&self) -> Result<Brokers> {
        Ok(Brokers::of(self.stack.endpoint(Service::Kafka)?))
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.while_doing("PostgreSQL", "run the test's SQL")
    }

    /// Writes a record to the table's topic that no connector has written.
    async fn write(&self, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let place = changeproof::dead_letters::Place { partition: 0, offset: 0 };
        let letter = Letter {
            place,
            topic: Some(self.topic()),
            origin: Some(place),
            reason: String::new(),
            headers: std::collections::BTreeMap::new(),
            key: key.map(<[u8]>::to_vec),
            value: Some(value.to_vec()),
        };
        replay(&self.brokers()?, &letter).await
    }

    /// Waits until the sink holds what the source holds.
    async fn flow(&self) -> Result<()> {
        let warehouse = warehouse_in_bucket(&self.stack, &self.name).await?;
        let deadline = Instant::now() + WITHIN;
        loop {
            let checked = check(&self.address, PUBLICATION, &warehouse, self.layout, Misfit::Refuse).await?;
            let user_tables: Vec<_> = checked.iter().filter(|table| table.table.schema() == "public").collect();
            if user_tables.iter().all(|table| table.is_equal()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new("the test", "see the rest flow", format!("{user_tables:?}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn letters(&self) -> Result<Vec<Letter>> {
        read(&self.brokers()?, &self.dead_letters()).await
    }

    async fn close(self) -> Result<()> {
        self.pipeline.clean_up(self.subject()).await?;
        kafka::remove(self.stack.endpoint(Service::Kafka)?, &self.dead_letters()).await?;
        drop(self.client);
        PostgreSql.remove(&self.stack, self.lease.name()).await?;
        self.lease.release()
    }
}

fn must(holds: bool, what: &str, seen: impl std::fmt::Debug) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new("the test", what, format!("{seen:?}"))) }
}

/// The key of a record of the connector's, and its value broken off after the schema, by which its like are known.
async fn broken_off(bench: &Bench) -> Result<(Vec<u8>, Vec<u8>)> {
    const PAYLOAD: &[u8] = b"\"payload\":";
    let records = read(&bench.brokers()?, &bench.topic()).await?;
    let found = records.into_iter().find_map(|record| {
        let (key, mut value) = (record.key?, record.value?);
        let at = value.windows(PAYLOAD.len()).position(|bytes| bytes == PAYLOAD)?;
        value.truncate(at + PAYLOAD.len());
        value.extend_from_slice(b"{\"op\"}");
        Some((key, value))
    });
    found.ok_or_else(|| Error::new("the test", "find a record of the connector's", "none has a key and a payload"))
}

/// A record that breaks off, broken bytes, a record without a schema, and a moment that Iceberg has no place for.
async fn by_spark() -> Result<()> {
    let bench = Bench::open(&Spark, Layout::Merged).await?;
    let mut options = Options::default();
    options.settings.insert("spark.dead_letters".to_owned(), bench.dead_letters());
    // Long enough that a batch has the broken records and what the connector writes after them.
    options.settings.insert("spark.trigger".to_owned(), "2 seconds".to_owned());
    let pipeline = Spark.start(bench.subject(), &options).await?;
    bench.run("INSERT INTO visits VALUES (1, '2024-02-29 12:00+00')").await?;
    bench.flow().await?;

    let (key, broken_off) = broken_off(&bench).await?;
    let broken: &[&[u8]] = &[&broken_off, b"\x00\xff not JSON", br#"{"payload": {"op": "c", "after": {"id": 9}}}"#];
    for value in broken {
        bench.write(Some(&key), value).await?;
    }
    bench
        .run("UPDATE visits SET at = '2024-03-01 09:00+00'; INSERT INTO visits VALUES (2, 'infinity'), (3, NULL)")
        .await?;
    // The value is mended at the source: the record of that is like others.
    bench.run("UPDATE visits SET at = '2024-03-01 12:00+00' WHERE id = 2").await?;
    bench.flow().await?;

    let letters = bench.letters().await?;
    for value in broken {
        let found = letters.iter().find(|letter| letter.value.as_deref() == Some(*value));
        let is_told = |letter: &&Letter| {
            letter.topic.as_ref() == Some(&bench.topic()) && letter.reason.contains("not a record of Debezium's")
        };
        must(found.as_ref().is_some_and(is_told), "find broken bytes as they came, with where from and why", &letters)?;
    }
    let unfit = letters.iter().find(|letter| letter.reason.ends_with(": at"));
    let unfit =
        unfit.ok_or_else(|| Error::new("the test", "find the value without a place", format!("{letters:?}")))?;

    // What is sent again as it came is older than what the row has seen since, fits no better, and comes back.
    replay(&bench.brokers()?, unfit).await?;
    let deadline = Instant::now() + WITHIN;
    while bench.letters().await?.len() == letters.len() {
        must(Instant::now() < deadline, "see a letter that was sent again come back", &letters)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.flow().await?;
    drop(pipeline);
    bench.close().await
}

/// Broken bytes, by the dead letters of Kafka Connect itself.
async fn by_the_sink() -> Result<()> {
    let bench = Bench::open(&ConnectSink, Layout::Changelog).await?;
    let mut options = Options::default();
    options.settings.insert("sink.errors.tolerance".to_owned(), "all".to_owned());
    options.settings.insert("sink.errors.deadletterqueue.topic.name".to_owned(), bench.dead_letters());
    let pipeline = ConnectSink.start(bench.subject(), &options).await?;
    bench.run("ALTER TABLE visits DROP COLUMN at; INSERT INTO visits VALUES (1)").await?;
    bench.flow().await?;
    let broken: &[u8] = b"\x00\xff not JSON";
    bench.write(None, broken).await?;
    bench.run("INSERT INTO visits VALUES (2)").await?;
    bench.flow().await?;
    let letters = bench.letters().await?;
    let is_it = |letter: &Letter| {
        letter.value.as_deref() == Some(broken)
            && letter.topic.as_ref() == Some(&bench.topic())
            && letter.reason.contains("serialization error")
    };
    must(
        letters.len() == 1 && letters.iter().all(is_it),
        "find broken bytes as they came, with where from and why",
        &letters,
    )?;
    drop(pipeline);
    bench.close().await
}
