//! Exactly once, by proof: each component is killed in turn, amid a load, under all three pipelines at once. In the end each sink must
//! hold what the source holds.
//!
//! The services are this test's own, in a state of their own: others don't survive what happens here.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use changeproof::{
    capture::{Capture, Options, Subject},
    connect::Connector,
    error::{Context, Error, Result},
    postgres::{self, Address, PUBLICATION, PostgreSql},
    source::{Place, Storage as _},
    stack::{Lease, Service, Stack, State, docker, run_guard_if_asked},
    warehouse::WAREHOUSE,
};
use changeproof_iceberg::{Warehouse, warehouse_in_bucket};
use changeproof_pipelines::{Cadence, ConnectSink, Layout, Misfit, Settings, Spark, check, keep_replicating};
use libtest_mimic::{Arguments, Trial};
use tokio::sync::oneshot;

const STATE_DIR: &str = "CHANGEPROOF_STATE_DIR";

/// What ends the name of this test's own state.
const OWN: &str = "-kills";

/// How long the sinks may take to hold what the source holds, once nothing is killed any more.
const EQUAL_WITHIN: Duration = Duration::from_secs(240);

const SERVICES: [Service; 6] =
    [Service::Postgres, Service::Kafka, Service::Connect, Service::Minio, Service::IcebergRest, Service::Spark];

fn main() -> ExitCode {
    run_guard_if_asked();
    if let Some(status) = in_a_state_of_its_own() {
        return status;
    }
    let trial = Trial::test("kills::each_component_in_turn", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(each_component_in_turn()).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// Starts this process again in a state of its own, unless it is in it already. The environment of a process can't be changed safely
/// once it runs.
fn in_a_state_of_its_own() -> Option<ExitCode> {
    let (state, itself) = (State::open().ok()?, std::env::current_exe().ok()?);
    let dir = state.dir().to_string_lossy().into_owned();
    if dir.ends_with(OWN) {
        return None;
    }
    let mut again = Command::new(itself);
    again.args(std::env::args_os().skip(1)).env(STATE_DIR, format!("{dir}{OWN}")).env(WAREHOUSE, "s3");
    eprintln!("could not start again: {}", again.exec());
    Some(ExitCode::FAILURE)
}

/// A seeded choice: `CHANGEPROOF_SEED`, or always the same.
struct Chance(u64);

impl Chance {
    fn seeded() -> Self {
        Self(std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

async fn each_component_in_turn() -> Result<()> {
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
    let options = Options::default();
    let merging = Spark.start(spark, &options).await?;
    let appending = ConnectSink.start(sink, &options).await?;
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
    let sinks = [
        (Layout::Merged, warehouse_in_bucket(&stack, &names[0]).await?),
        (Layout::Changelog, warehouse_in_bucket(&stack, &names[1]).await?),
        (Layout::Rows, direct.clone()),
    ];
    let connectors = [
        Connector::new(&stack, &names[0], "Debezium")?,
        Connector::new(&stack, &names[1], "Debezium")?,
        Connector::new(&stack, &format!("{}-sink", names[1]), "Iceberg's sink")?,
    ];
    let killing = async {
        let killed = kill_each(&stack, Chance::seeded()).await;
        is_over.store(true, Ordering::Relaxed);
        killed?;
        wait_until_equal(&address, &sinks, &connectors).await?;
        let _ = stop.send(());
        Ok::<_, Error>(())
    };
    let (written, killed, replicated) = tokio::join!(load(&address, &is_over), killing, replicating);
    let (written, ()) = (written?, killed?);
    replicated?;
    println!("{written} transactions; the direct replication was started again {} times", retried.into_inner());

    drop((merging, appending, client, source));
    Spark.clean_up(spark).await?;
    ConnectSink.clean_up(sink).await?;
    direct.remove().await?;
    PostgreSql.remove(&stack, &name).await?;
    lease.release()
}

/// Writes transactions until it is over. Returns how many.
async fn load(address: &Address, is_over: &AtomicBool) -> Result<u32> {
    let mut client = address.connect().await?;
    let (mut chance, mut number) = (Chance(7), 0_i32);
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
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(number.unsigned_abs())
}

/// Kills each component and starts it again, in an order and after pauses of chance.
async fn kill_each(stack: &Stack, mut chance: Chance) -> Result<()> {
    let mut components = vec![Service::Connect, Service::Kafka, Service::Spark, Service::IcebergRest, Service::Minio];
    while !components.is_empty() {
        let at = usize::try_from(chance.below(components.len() as u64)).unwrap_or_default();
        let component = components.swap_remove(at);
        tokio::time::sleep(Duration::from_millis(2000 + chance.below(3000))).await;
        let container = &stack.endpoint(component)?.container;
        docker::kill(container).await?;
        let down = Duration::from_millis(chance.below(4000));
        println!("{} is killed, and down for {} ms", component.title(), down.as_millis());
        tokio::time::sleep(down).await;
        docker::start_again(container).await?;
    }
    Ok(())
}

/// Waits until all sinks hold what the source holds. Connectors whose tasks have failed are started again, as whoever runs them has to.
async fn wait_until_equal(address: &Address, sinks: &[(Layout, Warehouse)], connectors: &[Connector]) -> Result<()> {
    let deadline = Instant::now() + EQUAL_WITHIN;
    loop {
        let mut differences = Vec::new();
        for connector in connectors {
            if let Err(error) = restarted(connector).await {
                differences.push(error.to_string());
            }
        }
        for (layout, warehouse) in sinks {
            match check(address, PUBLICATION, warehouse, *layout, Misfit::Refuse).await {
                Ok(checked) => differences.extend(
                    checked.iter().filter(|table| !table.is_equal()).map(|table| format!("{layout:?}: {table:?}")),
                ),
                Err(error) => differences.push(error.to_string()),
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new("the test", "see all sinks equal to the source", differences.join("\n")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn restarted(connector: &Connector) -> Result<()> {
    if connector.restart_if_failed().await? {
        println!("{connector:?} had failed and is started again");
    }
    Ok(())
}
