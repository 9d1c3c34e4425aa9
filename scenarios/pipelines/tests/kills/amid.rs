//! A source that is written to all the while, and three pipelines that follow it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use changeproof::{
    capture::{Capture, Options, Subject},
    connect::Connector,
    error::{Context, Result},
    postgres::{self, Address, PUBLICATION, PostgreSql},
    source::{Place, Storage as _},
    stack::{Lease, Service, Stack},
};
use changeproof_iceberg::{Warehouse, warehouse_in_bucket};
use changeproof_pipelines::{Cadence, ConnectSink, Layout, Settings, Spark, keep_replicating};
use scenarios_pipelines::sinks::wait_until_equal;
use scenarios_relational::load::Chance;
use tokio::sync::oneshot;

const SERVICES: [Service; 6] =
    [Service::Postgres, Service::Kafka, Service::Connect, Service::Minio, Service::IcebergRest, Service::Spark];

/// Consumers of a worker that was killed are waited for, by default for 45 s, before others may take their partitions.
const FORGETS_THE_DEAD: [(&str, &str); 4] = [
    ("sink.consumer.override.session.timeout.ms", "6000"),
    ("sink.consumer.override.heartbeat.interval.ms", "2000"),
    ("sink.iceberg.kafka.session.timeout.ms", "6000"),
    ("sink.iceberg.kafka.heartbeat.interval.ms", "2000"),
];

/// The pipelines under way.
pub(crate) struct Pipelines<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) address: &'a Address,
    /// Of each the name, which is also its slot's: of `spark`, of `connect_sink`, of `direct`.
    pub(crate) names: &'a [String; 3],
    pub(crate) sinks: [(Layout, Warehouse); 3],
    connectors: [Connector; 3],
    is_over: &'a AtomicBool,
}

impl Pipelines<'_> {
    /// Has nothing more written.
    pub(crate) fn end_the_load(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until all sinks hold what the source holds.
    pub(crate) async fn wait_until_equal(&self) -> Result<()> {
        wait_until_equal(self.address, &self.sinks, &self.connectors).await
    }
}

/// Does something amid a load; it has to end the load.
pub(crate) async fn a_load<T>(does: impl AsyncFnOnce(&Pipelines<'_>) -> Result<T>) -> Result<T> {
    let stack = Stack::acquire(&SERVICES).await?;
    let lease = Lease::take(stack.state(), "kills")?;
    let name = lease.name().to_owned();
    let source = PostgreSql.create(&stack, &name, Place::Memory).await?;
    let endpoint = stack.endpoint(Service::Postgres)?;
    postgres::publish_all_tables(endpoint, &name).await?;
    let address = Address::of(endpoint, &name);
    let client = address.connect().await?;
    let tables = "CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL); \
                  CREATE TABLE transfers (id int PRIMARY KEY, sender int, receiver int, amount bigint); \
                  INSERT INTO accounts SELECT n, 'owner ' || n, 1000 FROM generate_series(1, 100) n";
    client.batch_execute(tables).await.while_doing("PostgreSQL", "make the tables")?;

    let names = ["spark", "sink", "direct"].map(|pipeline| format!("{name}_{pipeline}"));
    let database = name.as_str();
    let spark = Subject { stack: &stack, database, name: &names[0] };
    let sink = Subject { stack: &stack, database, name: &names[1] };
    let merging = Spark.start(spark, &Options::default()).await?;
    let settings = FORGETS_THE_DEAD.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let appending = ConnectSink.start(sink, &Options { settings: settings.into(), ..Options::default() }).await?;
    let direct = warehouse_in_bucket(&stack, &names[2]).await?;
    let settings = Settings {
        slot: names[2].clone(),
        publication: PUBLICATION.to_owned(),
        cadence: Cadence { every: Duration::from_millis(200), ..Cadence::default() },
        ..Settings::default()
    };

    let (stop, stopped) = oneshot::channel::<()>();
    let is_over = AtomicBool::new(false);
    let retried = AtomicU64::new(0);
    let replicating = keep_replicating(
        &address,
        &direct,
        &settings,
        Duration::from_secs(120),
        async { drop(stopped.await) },
        |_| {},
        |error, pause| {
            retried.fetch_add(1, Ordering::Relaxed);
            println!("direct: {error}; again in {} ms", pause.as_millis());
        },
    );
    let pipelines = Pipelines {
        stack: &stack,
        address: &address,
        names: &names,
        sinks: [
            (Layout::Merged, warehouse_in_bucket(&stack, &names[0]).await?),
            (Layout::Changelog, warehouse_in_bucket(&stack, &names[1]).await?),
            (Layout::Rows, direct.clone()),
        ],
        connectors: [
            Connector::new(&stack, &names[0], "Debezium")?,
            Connector::new(&stack, &names[1], "Debezium")?,
            Connector::new(&stack, &format!("{}-sink", names[1]), "Iceberg's sink")?,
        ],
        is_over: &is_over,
    };
    let doing = async {
        let done = does(&pipelines).await;
        pipelines.end_the_load();
        let _ = stop.send(());
        done
    };
    let (written, done, ()) = tokio::try_join!(load(&address, &is_over), doing, replicating)?;
    println!("{written} transactions; the direct replication was started again {} times", retried.into_inner());

    drop((merging, appending, client, source, pipelines));
    Spark.clean_up(spark).await?;
    ConnectSink.clean_up(sink).await?;
    direct.remove().await?;
    PostgreSql.remove(&stack, &name).await?;
    lease.release()?;
    Ok(done)
}

/// Writes transactions until it is over. Returns how many.
async fn load(address: &Address, is_over: &AtomicBool) -> Result<u32> {
    let mut client = address.connect().await?;
    let (mut chance, mut number) = (Chance::of(7), 0_i32);
    let doing = "write the load";
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        let mut account = || i32::try_from(chance.below(120)).unwrap_or_default();
        let (sender, receiver) = (account(), account());
        let transaction = client.transaction().await.while_doing("PostgreSQL", doing)?;
        for sql in [
            format!("INSERT INTO transfers VALUES ({number}, {sender}, {receiver}, {number})"),
            format!("UPDATE accounts SET balance = balance - {number} WHERE id = {sender}"),
            format!("UPDATE accounts SET balance = balance + {number} WHERE id = {receiver}"),
            match number % 7 {
                0 => format!("DELETE FROM accounts WHERE id = {sender}"),
                1 => format!("INSERT INTO accounts VALUES ({sender}, 'again {number}', 0) ON CONFLICT DO NOTHING"),
                2 => format!("DELETE FROM transfers WHERE id = {}", number / 2),
                _ => "SELECT".to_owned(),
            },
        ] {
            transaction.batch_execute(&sql).await.while_doing("PostgreSQL", doing)?;
        }
        transaction.commit().await.while_doing("PostgreSQL", doing)?;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    Ok(number.unsigned_abs())
}
