//! Pipelines move: their state is written to a file, Kafka and Connect are destroyed with all they have, and fresh ones get it from the file.
//! Meanwhile the sources go on being written to, and one of their tables gets a column. No change is lost, and none is there twice.

use std::{
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use changeproof::{
    capture::{Capture, Options, Subject, collect_until_fence},
    connect::Connect,
    debezium::{DebeziumMySql, DebeziumPostgres},
    error::{Context, Error, Result},
    kafka::Brokers,
    mysql::{self, Flavour},
    pipeline_state::{Given, Imported, Sources, Target, export, import},
    postgres::{self, Address},
    schema::Type,
    script::{Step, raw},
    source::{Place, Source, Storage as _},
    stack::{Lease, Service, Stack, docker, running},
    workspace::in_time,
};
use changeproof_iceberg::{Warehouse, warehouse_in_bucket};
use changeproof_pipelines::{ConnectSink, Layout, Spark};
use scenarios_pipelines::{
    apart,
    sinks::{rows, wait_until_equal},
};
use scenarios_relational::load::{Chance, Load, Signs};

const SERVICES: [Service; 7] = [
    Service::Postgres,
    Service::Mysql,
    Service::Kafka,
    Service::Connect,
    Service::Minio,
    Service::IcebergRest,
    Service::Spark,
];

/// How long a stage may take, of which none takes a minute.
const STAGE: Duration = Duration::from_secs(120);

/// So many transactions each source has before the next thing happens.
const SOME: u32 = 40;

/// Between two transactions of a source.
const PAUSE: Duration = Duration::from_millis(20);

const MYSQL: DebeziumMySql = DebeziumMySql(Flavour::MySql);

fn main() -> ExitCode {
    apart::main("-moves", &[("state::moves_to_another_kafka_and_another_connect", || Box::pin(moves()))])
}

/// A source that is written to.
struct Written {
    source: Box<dyn Source>,
    load: Load,
}

impl Written {
    async fn begin(mut source: Box<dyn Source>, seed: u64) -> Result<Self> {
        let load = Load::begin(source.as_mut(), Chance::of(seed)).await?;
        Ok(Self { source, load })
    }

    async fn apply(&mut self, step: Step) -> Result<()> {
        self.load.apply(self.source.as_mut(), step).await
    }
}

/// What happens meanwhile.
#[derive(Default)]
struct Meanwhile {
    signs: Signs,
    alters: AtomicBool,
}

impl Meanwhile {
    /// Writes until it is over.
    async fn write(&self, written: &mut Written) -> Result<()> {
        let mut is_altered = false;
        while !self.signs.is_over() {
            if self.alters.load(Ordering::Relaxed) && !is_altered {
                written.apply(written.load.accounts.add_column("note", Type::Text)).await?;
                is_altered = true;
            }
            written.load.transaction(written.source.as_mut(), 1).await?;
            self.signs.committed();
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until the sources have some more transactions.
    async fn some_more(&self) -> Result<()> {
        self.signs.some_more(2 * SOME).await
    }
}

/// The pipelines by their names.
struct Names {
    database: String,
    postgres: String,
    mysql: String,
    spark: String,
    sink: String,
}

impl Names {
    fn subject<'a>(&'a self, stack: &'a Stack, name: &'a str) -> Subject<'a> {
        Subject { stack, database: &self.database, name }
    }
}

async fn moves() -> Result<()> {
    let old = Stack::acquire(&SERVICES).await?;
    let lease = Lease::take(old.state(), "state")?;
    let database = lease.name().to_owned();
    let named = |pipeline| format!("{database}_{pipeline}");
    let names = Names {
        postgres: named("postgres"),
        mysql: named("mysql"),
        spark: named("spark"),
        sink: named("sink"),
        database: database.clone(),
    };
    let source = postgres::PostgreSql.create(&old, &database, Place::Memory).await?;
    postgres::publish_all_tables(old.endpoint(Service::Postgres)?, &database).await?;
    let mut in_postgres = Written::begin(source, 1).await?;
    let source = mysql::Server::MYSQL.create(&old, &database, Place::Disk).await?;
    let mut in_mysql = Written::begin(source, 2).await?;

    let options = Options::default();
    let of_postgres = DebeziumPostgres.start(names.subject(&old, &names.postgres), &options).await?;
    let of_mysql = MYSQL.start(names.subject(&old, &names.mysql), &options).await?;
    let merging = Spark.start(names.subject(&old, &names.spark), &options).await?;
    let appending = ConnectSink.start(names.subject(&old, &names.sink), &options).await?;

    let file = old.state().dir().join(format!("{database}.state"));
    let meanwhile = Meanwhile::default();
    let moving = async {
        meanwhile.some_more().await?;
        until_sinks_have_rows(&old, &names).await?;
        drop((of_postgres, of_mysql, merging, appending));
        move_all(&old, &names, &file, &meanwhile).await
    };
    let ends = &meanwhile.signs;
    let (fresh, written, as_well) = tokio::join!(
        ends.until_the_end_of(moving),
        ends.until_the_end_of(meanwhile.write(&mut in_postgres)),
        ends.until_the_end_of(meanwhile.write(&mut in_mysql)),
    );
    written.and(as_well)?;
    let fresh = fresh?;

    judged(names.subject(&fresh, &names.postgres), &DebeziumPostgres, &mut in_postgres).await?;
    judged(names.subject(&fresh, &names.mysql), &MYSQL, &mut in_mysql).await?;
    let merging = Spark.start(names.subject(&fresh, &names.spark), &options).await?;
    let address = Address::of(fresh.endpoint(Service::Postgres)?, &database);
    let sinks = [
        (Layout::Merged, warehouse_in_bucket(&fresh, &names.spark).await?),
        (Layout::Changelog, warehouse_in_bucket(&fresh, &names.sink).await?),
    ];
    wait_until_equal(&address, &sinks, &[]).await?;
    must_have_each_change_once(&sinks[1].1, &in_postgres).await?;
    drop(merging);

    what_cannot_be_made_is_refused(&fresh, &names, &file, &mut in_mysql).await?;
    let _ = std::fs::remove_file(&file);
    drop((in_postgres, in_mysql));
    postgres::PostgreSql.remove(&fresh, &database).await?;
    mysql::Server::MYSQL.remove(&fresh, &database).await?;
    lease.release()
}

/// Writes the state to a file, destroys Kafka and Connect, and makes the pipelines again in fresh ones.
async fn move_all(old: &Stack, names: &Names, file: &Path, meanwhile: &Meanwhile) -> Result<Stack> {
    let brokers = Brokers::of(old.endpoint(Service::Kafka)?);
    let connectors = [&names.postgres, &names.mysql, &names.spark, &names.sink].map(Clone::clone);
    let connectors: Vec<String> = connectors.into_iter().chain([format!("{}-sink", names.sink)]).collect();
    let connect = Connect::of(old)?;
    let exported = in_time(STAGE, "write the state", export(file, &connect, &brokers, &connectors, &[])).await?;
    println!("{exported:?}");
    let text = std::fs::read_to_string(file).while_doing("the test", "read the file")?;
    for service in SERVICES {
        let password = &old.endpoint(service)?.password;
        if text.contains(password.as_str()) {
            let cause = format!("it holds the password of {}", service.title());
            return Err(Error::new("the test", "see no password in the file", cause));
        }
    }
    let of_the_sink = format!("connect-{}-sink", names.sink);
    if !exported.groups.contains(&of_the_sink) {
        return Err(Error::new("the test", format!("see the group {of_the_sink} written"), format!("{exported:?}")));
    }
    for service in [Service::Connect, Service::Kafka] {
        docker::remove_container(&old.endpoint(service)?.container).await?;
    }
    meanwhile.some_more().await?;
    meanwhile.alters.store(true, Ordering::Relaxed);
    meanwhile.some_more().await?;
    let fresh = Stack::acquire(&SERVICES).await?;
    let told = imported(&fresh, names, file, &Given::default()).await;
    must_be_refused(told, "secrets were left out")?;
    let given = Given::default().with_those_of(&running().await?);
    let imported = in_time(STAGE, "make it again", imported(&fresh, names, file, &given)).await?;
    println!("{imported:?}");
    if imported.records != exported.records || imported.connectors.len() != connectors.len() {
        return Err(Error::new("the test", "see all of it made", format!("{imported:?} of {exported:?}")));
    }
    meanwhile.some_more().await?;
    Ok(fresh)
}

async fn imported(stack: &Stack, names: &Names, file: &Path, given: &Given) -> Result<Imported> {
    let (connect, brokers) = (Connect::of(stack)?, Brokers::of(stack.endpoint(Service::Kafka)?));
    let of_postgres = stack.endpoint(Service::Postgres)?.url(&names.database);
    let of_mysql = stack.endpoint(Service::Mysql)?.describe(Service::Mysql);
    let postgres = [&names.postgres, &names.spark, &names.sink].map(|name| (name.clone(), of_postgres.clone()));
    let at = postgres.into_iter().chain([(names.mysql.clone(), of_mysql)]).collect();
    let sources = Sources { at, are_not_asked: false };
    let target = Target { connect: &connect, brokers: &brokers, given, sources: &sources, starts: true };
    import(file, target).await
}

/// The stream from its beginning on, as the new Kafka tells it, must be just what happened.
async fn judged(subject: Subject<'_>, method: &dyn Capture, written: &mut Written) -> Result<()> {
    let options = Options::default();
    let fence = written.source.write_fence().await?;
    let mut subscription = method.start(subject, &options).await?;
    let stream = collect_until_fence(subscription.as_mut(), fence).await?;
    written.load.judge(written.source.as_mut(), (method, &options), &stream, 0).await
}

/// Each change is a row of the sink's changelog: two of each transaction.
async fn must_have_each_change_once(sink: &Warehouse, written: &Written) -> Result<()> {
    let (rows, happened) = (rows(sink).await?, u64::from(written.load.transfers()) * 2);
    match rows == happened {
        true => Ok(()),
        false => {
            Err(Error::new("Iceberg's sink", "append each change once", format!("{rows} rows of {happened} changes")))
        }
    }
}

/// Waits until sinks have committed, so that they have offsets of their own that must still be true after the move.
async fn until_sinks_have_rows(stack: &Stack, names: &Names) -> Result<()> {
    let deadline = Instant::now() + STAGE;
    for name in [&names.sink, &names.spark] {
        let sink = warehouse_in_bucket(stack, name).await?;
        while rows(&sink).await? == 0 {
            if Instant::now() > deadline {
                let doing = format!("see rows in the tables of {name}");
                return Err(Error::new("the test", doing, format!("there are none after {} s", STAGE.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// What is there already is left alone; and a source whose log has gone on doesn't pass for one that has all.
async fn what_cannot_be_made_is_refused(
    stack: &Stack,
    names: &Names,
    file: &Path,
    in_mysql: &mut Written,
) -> Result<()> {
    let given = Given::default().with_those_of(&running().await?);
    must_be_refused(imported(stack, names, file, &given).await, "already")?;
    Spark.clean_up(names.subject(stack, &names.spark)).await?;
    ConnectSink.clean_up(names.subject(stack, &names.sink)).await?;
    DebeziumPostgres.clean_up(names.subject(stack, &names.postgres)).await?;
    MYSQL.clean_up(names.subject(stack, &names.mysql)).await?;
    must_be_refused(imported(stack, names, file, &given).await, "has come to")?;

    // Those of PostgreSQL are looked at first, so that only MySQL's is left to be in the way.
    let text = std::fs::read_to_string(file).while_doing("the test", "read the file")?;
    let of_mysql = |line: &&str| !line.contains(r#""kind":"connector""#) || line.contains("MySqlConnector");
    let lines: Vec<&str> = text.lines().filter(of_mysql).collect();
    let part = file.with_extension("mysql");
    std::fs::write(&part, lines.join("\n")).while_doing("the test", "write a part of the file")?;
    in_mysql.apply(raw("FLUSH BINARY LOGS", [])).await?;
    in_mysql.source.as_a_mut::<mysql::Source>()?.purge_log().await?;
    let told = imported(stack, names, &part, &given).await;
    let _ = std::fs::remove_file(&part);
    must_be_refused(told, "the server has removed")
}

fn must_be_refused(told: Result<Imported>, words: &str) -> Result<()> {
    match told {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(error),
        Ok(imported) => {
            let cause = format!("{imported:?} was made");
            Err(Error::new("the test", format!("see it refused with “{words}”"), cause))
        }
    }
}
