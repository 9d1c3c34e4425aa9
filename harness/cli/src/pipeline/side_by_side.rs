//! `cdc pipelines`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use changeproof::{
    Change, Op,
    capture::{Capture, Options, Subject, Subscription, collect_until_fence},
    error::{Context, Error, Result},
    postgres::{self, Address, PostgreSql},
    schema::TableName,
    source::{Dialect, HARNESS_SCHEMA, Place, Storage},
    stack::{Lease, Service, Stack, docker},
    text,
};
use changeproof_pipelines::{ConnectSink, Direct, Spark};
use futures_util::future::{join_all, try_join_all};

use super::PipelinesArguments;
use crate::{
    exit::{Failure, interrupted},
    sql_file,
};

/// The pipelines, the primary one first.
const PIPELINES: [&dyn Capture; 3] = [&Spark, &ConnectSink, &Direct];

/// All that any of them needs.
const SERVICES: [Service; 6] =
    [Service::Postgres, Service::Kafka, Service::Connect, Service::Minio, Service::IcebergRest, Service::Spark];

/// Where the kernel says how much memory a container has had at most, in the second and in the first version of control groups.
const PEAKS: &str =
    "cat /sys/fs/cgroup/memory.peak 2> /dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes";

/// Runs the command.
pub(super) async fn run(arguments: &PipelinesArguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let sql = std::fs::read_to_string(file).map_err(|error| Failure::input(format!("{}: {error}", file.display())))?;
    let statements = sql_file::split(&sql, Dialect::PostgreSql)
        .map_err(|error| Failure::input(format!("{}, {error}", file.display())))?;
    let began = Instant::now();
    anstream::eprintln!("starting {} …", SERVICES.map(Service::title).join(", "));
    tokio::select! {
        ran = on_services(arguments, &statements, began) => ran,
        () = interrupted() => Err(Failure::Interrupted),
    }
}

async fn on_services(
    arguments: &PipelinesArguments,
    statements: &[sql_file::Statement],
    began: Instant,
) -> Result<(), Failure> {
    let stack = Stack::acquire(&SERVICES).await?;
    anstream::eprintln!("{:5.1} s  all services are ready", began.elapsed().as_secs_f32());
    let lease = Lease::take(stack.state(), "pipelines")?;
    let name = lease.name().to_owned();
    let names = PIPELINES.map(|pipeline| format!("{name}_{}", pipeline.name()));
    let subject = |name| Subject { stack: &stack, database: lease.name(), name };
    let shown = show(arguments, statements, &stack, &names, began).await;
    for (pipeline, name) in PIPELINES.iter().zip(&names) {
        pipeline.clean_up(subject(name.as_str())).await?;
    }
    PostgreSql.remove(&stack, &name).await?;
    lease.release()?;
    shown
}

async fn show(
    arguments: &PipelinesArguments,
    statements: &[sql_file::Statement],
    stack: &Stack,
    names: &[String; 3],
    began: Instant,
) -> Result<(), Failure> {
    let database = names[0].strip_suffix("_spark").unwrap_or_default();
    let mut source = PostgreSql.create(stack, database, Place::Disk).await?;
    let endpoint = stack.endpoint(Service::Postgres)?;
    postgres::publish_all_tables(endpoint, database).await?;
    let options = Options::default();
    let starting = PIPELINES.iter().zip(names).map(|(pipeline, name)| {
        let subject = Subject { stack, database, name };
        pipeline.start(subject, &options)
    });
    let mut subscriptions = try_join_all(starting).await?;
    anstream::eprintln!("{:5.1} s  all pipelines follow the log", began.elapsed().as_secs_f32());

    let client = Address::of(endpoint, database).connect().await?;
    for statement in statements {
        let ran = client.batch_execute(&statement.sql).await;
        let line = format!("{}, line {}", arguments.file.display(), statement.line);
        ran.while_doing("PostgreSQL", format!("run {line}")).map_err(|error| Failure::input(error.to_string()))?;
    }
    let fence = source.write_fence().await?;
    let committed = Instant::now();
    let told = subscriptions.iter_mut().map(|it| contents(it.as_mut(), fence, committed));
    let told = join_all(told).await;
    for (pipeline, told) in PIPELINES.iter().zip(&told) {
        match told {
            Ok((_, after)) => {
                anstream::println!("{:13} queryable {} ms after the last commit", pipeline.name(), after.as_millis());
            }
            Err(error) => anstream::println!("{:13} {error}", pipeline.name()),
        }
    }
    print_tables(&told);
    print_memory(stack).await;
    drop(subscriptions);
    match told.into_iter().all(|told| told.is_ok()) {
        true => Ok(()),
        false => Err(Failure::BrokenPromise),
    }
}

type Tables = BTreeMap<TableName, Vec<Change>>;

/// What the tables hold once everything before a fence is in them, and how long that took since it was committed.
async fn contents(subscription: &mut dyn Subscription, fence: i64, committed: Instant) -> Result<(Tables, Duration)> {
    let changes = collect_until_fence(subscription, fence).await?;
    let mut tables = Tables::new();
    for change in changes.into_iter().filter(|change| change.table.schema() != HARNESS_SCHEMA) {
        match change.op {
            Op::Truncate => tables.entry(change.table).or_default().clear(),
            _ => tables.entry(change.table.clone()).or_default().push(change),
        }
    }
    Ok((tables, committed.elapsed()))
}

fn print_tables(told: &[Result<(Tables, Duration)>]) {
    let mut lines: BTreeMap<(TableName, String), Vec<&str>> = BTreeMap::new();
    for (pipeline, told) in PIPELINES.iter().zip(told) {
        for (table, rows) in told.iter().flat_map(|(tables, _)| tables) {
            for row in rows {
                let line = text::line(row, None).trim_start_matches(['+', '=', ' ']).to_owned();
                lines.entry((table.clone(), line)).or_default().push(pipeline.name());
            }
        }
    }
    anstream::println!("\nwhat the sinks' tables hold:");
    for ((_, line), holders) in lines {
        let of_all = holders.len() == told.iter().filter(|told| told.is_ok()).count();
        let whose = if of_all { String::new() } else { format!("    only in {}", holders.join(", ")) };
        anstream::println!("  {line}{whose}");
    }
}

/// Prints how much memory each service has had at most, its files in the kernel's cache included, beside its budget.
async fn print_memory(stack: &Stack) {
    anstream::println!("\nmemory at most, of the budget:");
    for service in SERVICES {
        let peak = async {
            let told = docker::run_in(&stack.endpoint(service)?.container, &["sh", "-c", PEAKS]).await?;
            let bytes: u64 = told.trim().parse().while_doing(service.title(), "read its memory")?;
            Ok::<_, Error>(bytes >> 20)
        };
        match peak.await {
            Ok(peak) => anstream::println!("  {:23} {peak:5} of {:5} MiB", service.title(), service.memory_mb()),
            Err(error) => anstream::println!("  {:23} {error}", service.title()),
        }
    }
}
