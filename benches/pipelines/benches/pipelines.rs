//! From the commit at the source until a row can be queried in Iceberg, by each pipeline in the same run; and how fast the direct one
//! copies and follows, against what the source and the sink can do alone.
//!
//! `lag` and `throughput` as arguments choose a part, `1k`, `10k`, `100k` a tier, `spark`, `connect_sink`, `direct` a pipeline,
//! `reference` and `low_latency` a profile.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use changeproof::{
    capture::{Capture, Options, Profile, Subject},
    error::{Context, Error, Result},
    postgres::{self, Address, PUBLICATION, PostgreSql, end_of_log},
    schema::TableName,
    source::{Place, Storage},
    stack::{Lease, Service, Stack},
};
use changeproof_iceberg::{Warehouse, ident, warehouse_in_bucket};
use changeproof_pipelines::{Cadence, ConnectSink, Replication, Settings, Spark, keep_replicating};
use futures_util::StreamExt;
use parquet::arrow::ArrowWriter;
use tokio::{sync::oneshot, time::sleep_until};
use tokio_postgres::Client;

const TIERS: [(&str, usize); 3] = [("1k", 1_000), ("10k", 10_000), ("100k", 100_000)];

/// How many transactions the rows of a tier are committed in, and for how long.
const COMMITS: usize = 100;
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// How often a table is looked at. Each look takes the catalog and the storage a millisecond or two, which a pipeline that fills both
/// cores would have to wait for.
const LOOKS: Duration = Duration::from_millis(100);
const LOOKS_AT_DIRECT: Duration = Duration::from_millis(10);

/// How long rows may take to be there.
const THERE_WITHIN: Duration = Duration::from_secs(180);

/// Rows that are copied, and then written while nobody follows.
const ROWS: usize = 200_000;

/// How soon pipelines write what has come.
struct Pace {
    profile: Profile,
    name: &'static str,
    /// Between two of Spark's micro-batches; with none they follow each other.
    trigger: &'static str,
    /// Between two commits of Iceberg's sink.
    sink_commits_ms: &'static str,
    /// Between two of the direct pipeline.
    direct: Duration,
}

const PACES: [Pace; 2] = [
    Pace {
        profile: Profile::Reference,
        name: "reference",
        trigger: "5 seconds",
        sink_commits_ms: "1000",
        direct: Duration::from_millis(500),
    },
    Pace {
        profile: Profile::LowLatency,
        name: "low_latency",
        trigger: "0 seconds",
        sink_commits_ms: "250",
        direct: Duration::from_millis(100),
    },
];

const SERVICES: [Service; 6] =
    [Service::Postgres, Service::Kafka, Service::Connect, Service::Minio, Service::IcebergRest, Service::Spark];

fn main() -> Result<()> {
    changeproof::stack::run_guard_if_asked();
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_asked = |names: &[&str], name: &str| {
        let of_kind = |asked: &String| names.contains(&asked.as_str());
        !asked.iter().any(of_kind) || asked.iter().any(|asked| asked == name)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().while_doing("the bench", "start")?;
    let (tiers, pipelines) = (TIERS.map(|(name, _)| name), ["spark", "connect_sink", "direct"]);
    let paces: Vec<_> =
        PACES.iter().filter(|pace| is_asked(&PACES.each_ref().map(|pace| pace.name), pace.name)).collect();
    if is_asked(&["lag", "throughput"], "lag") {
        for pipeline in pipelines.into_iter().filter(|pipeline| is_asked(&pipelines, pipeline)) {
            for (_, rows) in TIERS.into_iter().filter(|(tier, _)| is_asked(&tiers, tier)) {
                for pace in &paces {
                    runtime.block_on(lag(pipeline, rows, pace))?;
                }
            }
        }
    }
    if is_asked(&["lag", "throughput"], "throughput") {
        runtime.block_on(throughput())?;
    }
    Ok(())
}

/// A database of its own.
struct Rig {
    stack: Stack,
    lease: Lease,
    address: Address,
    client: Client,
}

impl Rig {
    async fn open(services: &[Service]) -> Result<Self> {
        let stack = Stack::acquire(services).await?;
        let lease = Lease::take(stack.state(), "bench")?;
        drop(PostgreSql.create(&stack, lease.name(), Place::Disk).await?);
        let endpoint = stack.endpoint(Service::Postgres)?;
        postgres::publish_all_tables(endpoint, lease.name()).await?;
        let address = Address::of(endpoint, lease.name());
        let client = address.connect().await?;
        let table = "CREATE TABLE readings (id int PRIMARY KEY, station text NOT NULL, value bigint NOT NULL)";
        client.batch_execute(table).await.while_doing("PostgreSQL", "make the table")?;
        Ok(Self { stack, lease, address, client })
    }

    /// Writes rows of these numbers as one transaction.
    async fn write(&self, from: usize, to: usize) -> Result<()> {
        let sql =
            format!("INSERT INTO readings SELECT n, 'station ' || n % 97, n * 7 FROM generate_series({from}, {to}) n");
        self.client.batch_execute(&sql).await.while_doing("PostgreSQL", "write rows")
    }

    async fn close(self) -> Result<()> {
        drop(self.client);
        PostgreSql.remove(&self.stack, self.lease.name()).await?;
        self.lease.release()
    }
}

async fn lag(pipeline: &str, rows: usize, pace: &Pace) -> Result<()> {
    let rig = Rig::open(&SERVICES).await?;
    let name = format!("{}_bench", rig.lease.name());
    let subject = Subject { stack: &rig.stack, database: rig.lease.name(), name: &name };
    let warehouse = warehouse_in_bucket(&rig.stack, &name).await?;
    let options = |name: &str, value: &str| Options {
        profile: pace.profile,
        settings: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..Options::default()
    };
    let mut lags = match pipeline {
        "direct" => by_direct(&rig, &warehouse, rows, pace.direct).await?,
        "spark" => {
            let merging = Spark.start(subject, &options("spark.trigger", pace.trigger)).await?;
            let lags = written_and_seen(&rig, &warehouse, rows, LOOKS).await?;
            drop(merging);
            Spark.clean_up(subject).await?;
            lags
        }
        _ => {
            let options = options("sink.iceberg.control.commit.interval-ms", pace.sink_commits_ms);
            let appending = ConnectSink.start(subject, &options).await?;
            let lags = written_and_seen(&rig, &warehouse, rows, LOOKS).await?;
            drop(appending);
            ConnectSink.clean_up(subject).await?;
            lags
        }
    };
    lags.sort_unstable();
    let [p50, p95, p99] = [50, 95, 99].map(|percent| lags[(lags.len() * percent).div_ceil(100) - 1].as_millis());
    println!(
        "commit to queryable, {pipeline}, {}: {rows} rows in {COMMITS} commits within 10 s: p50 {p50} ms, p95 {p95} ms, p99 {p99} ms",
        pace.name
    );
    warehouse.remove().await?;
    rig.close().await
}

fn settings(rig: &Rig, every: Duration) -> Settings {
    Settings {
        slot: format!("{}_bench", rig.lease.name()),
        publication: PUBLICATION.to_owned(),
        cadence: Cadence { every, ..Cadence::default() },
        ..Settings::default()
    }
}

async fn by_direct(rig: &Rig, warehouse: &Warehouse, rows: usize, every: Duration) -> Result<Vec<Duration>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = settings(rig, every);
    let stopped = async { drop(stopped.await) };
    let patience = Duration::from_secs(30);
    let replicating = keep_replicating(&rig.address, warehouse, &settings, patience, stopped, |_| {}, |_, _| {});
    let measuring = async {
        let lags = written_and_seen(rig, warehouse, rows, LOOKS_AT_DIRECT).await;
        let _ = stop.send(());
        lags
    };
    let (replicated, lags) = tokio::join!(replicating, measuring);
    replicated?;
    lags
}

/// Writes the rows of a tier, and sees when the rows of each commit can be queried. The same load once before has every JVM compile
/// what it needs.
async fn written_and_seen(rig: &Rig, warehouse: &Warehouse, rows: usize, looks: Duration) -> Result<Vec<Duration>> {
    rig.write(0, 0).await?;
    seen(warehouse, 1, looks).await?;
    lags_of(rig, warehouse, 1..1 + rows, looks).await?;
    lags_of(rig, warehouse, 1 + rows..1 + 2 * rows, looks).await
}

/// Of rows of these numbers; all before them are there.
async fn lags_of(rig: &Rig, warehouse: &Warehouse, rows: Range<usize>, looks: Duration) -> Result<Vec<Duration>> {
    let (first, each) = (rows.start, rows.len() / COMMITS);
    let began = Instant::now();
    let writing = async {
        let mut committed = Vec::with_capacity(COMMITS);
        for commit in 0..COMMITS {
            let due = began
                + WRITTEN_WITHIN * u32::try_from(commit).unwrap_or_default() / u32::try_from(COMMITS).unwrap_or(1);
            sleep_until(due.into()).await;
            rig.write(first + commit * each, first + (commit + 1) * each - 1).await?;
            committed.push(Instant::now());
        }
        Ok::<_, Error>(committed)
    };
    let seeing = async {
        let mut seen_at = Vec::with_capacity(COMMITS);
        for commit in 0..COMMITS {
            seen_at.push(seen(warehouse, first + (commit + 1) * each, looks).await?);
        }
        Ok::<_, Error>(seen_at)
    };
    let (committed, seen_at) = tokio::join!(writing, seeing);
    Ok(committed?
        .into_iter()
        .zip(seen_at?)
        .map(|(committed, seen)| seen.saturating_duration_since(committed))
        .collect())
}

/// Waits until the sink's table has so many rows. Returns when it was seen.
async fn seen(warehouse: &Warehouse, rows: usize, looks: Duration) -> Result<Instant> {
    let table = ident(&TableName::new("public", "readings"));
    let deadline = Instant::now() + THERE_WITHIN;
    loop {
        let there = match warehouse.tables().await?.contains(&table) {
            true => total(&warehouse.table(&table).await?),
            false => 0,
        };
        if there >= rows {
            return Ok(Instant::now());
        }
        if Instant::now() > deadline {
            return Err(Error::new("the bench", format!("see {rows} rows"), format!("there are {there}")));
        }
        tokio::time::sleep(looks).await;
    }
}

fn total(table: &iceberg::table::Table) -> usize {
    let current = table.metadata().current_snapshot();
    current.and_then(|it| it.summary().additional_properties.get("total-records")?.parse().ok()).unwrap_or_default()
}

/// How fast the direct replication copies and follows, against what the source can read and the sink can write.
async fn throughput() -> Result<()> {
    let rig = Rig::open(&[Service::Postgres]).await?;
    rig.write(1, ROWS).await?;
    let folder = std::env::temp_dir().join(format!("changeproof-bench-pipelines-{}", std::process::id()));
    let warehouse = Warehouse::open(&folder).await?;

    let source = timed(copy_out(&rig)).await?;
    let sink = write_parquet(&folder.join("floor.parquet"))?;
    let began = Instant::now();
    let mut replication =
        Replication::start(&rig.address, warehouse.clone(), settings(&rig, Cadence::default().every), |_| {}).await?;
    let copied = began.elapsed();
    print_rate("the copy", copied);
    print_rate("its floor, COPY to nowhere", source);
    print_rate("its floor, Parquet written from memory", sink);

    let mut replicate_to_end = async |from: usize| -> Result<Duration> {
        rig.write(from + 1, from + ROWS).await?;
        let goal = end_of_log(&rig.client).await?;
        rig.write(from + ROWS + 1, from + ROWS + 1).await?;
        let (reached, is_reached) = oneshot::channel();
        let (mut reached, began) = (Some(reached), Instant::now());
        let stop = async { drop(is_reached.await) };
        replication
            .run(stop, |progress| {
                if progress.position >= goal {
                    reached.take().map(|reached| reached.send(()));
                }
            })
            .await?;
        Ok(began.elapsed())
    };
    let followed = replicate_to_end(ROWS).await?;
    print_rate("a backlog followed", followed);
    drop(replication);
    std::fs::remove_dir_all(&folder).while_doing("the bench", "remove its folder")?;
    rig.close().await
}

async fn timed(work: impl Future<Output = Result<()>>) -> Result<Duration> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

async fn copy_out(rig: &Rig) -> Result<()> {
    let rows = rig.client.copy_out("COPY readings TO STDOUT").await.while_doing("PostgreSQL", "copy out")?;
    tokio::pin!(rows);
    while let Some(part) = rows.next().await {
        part.while_doing("PostgreSQL", "copy out")?;
    }
    Ok(())
}

/// Writes as many rows from memory. Returns how long that took.
fn write_parquet(path: &Path) -> Result<Duration> {
    let doing = "write Parquet";
    let numbers = || 0..i32::try_from(ROWS).unwrap_or_default();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int32Array::from_iter_values(numbers()))),
        ("station", Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("station {}", n % 97))))),
        ("value", Arc::new(Int64Array::from_iter_values(numbers().map(|n| i64::from(n) * 7)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).while_doing("the bench", doing)?;
    let began = Instant::now();
    let file = std::fs::File::create(path).while_doing("the bench", doing)?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).while_doing("the bench", doing)?;
    writer.write(&batch).while_doing("the bench", doing)?;
    writer.close().while_doing("the bench", doing)?;
    Ok(began.elapsed())
}

fn print_rate(what: &str, took: Duration) {
    let rate = u128::from(ROWS as u64) * 1_000_000 / took.as_micros().max(1);
    println!("{what}: {ROWS} rows in {} ms, {rate} rows/s", took.as_millis());
}
