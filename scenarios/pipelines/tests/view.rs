//! The view of the last row of each key, which repairs what Iceberg's sink for Kafka Connect appends: Spark runs the SQL that the README
//! has, and finds the rows that the harness computes, and that the source has.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use changeproof::{
    capture::{Capture, Options, Subject},
    error::{Context, Error, Result},
    postgres::{self, Address, PUBLICATION, PostgreSql},
    runner::on_a_runtime,
    source::{Place, Storage as _},
    stack::{Endpoint, Lease, Service, Stack, docker, image_tag, run_guard_if_asked},
    value::{Row, Value},
};
use changeproof_iceberg::warehouse_in_bucket;
use changeproof_pipelines::{ConnectSink, Layout, Misfit, check, current_state};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value as Json;

const SQL: &str = include_str!("../../../images/spark/current_state.sql");
const README: &str = include_str!("../README.md");

/// How long the changes may take to the sink.
const WITHIN: Duration = Duration::from_secs(120);

/// Selects by the SQL, and prints a row as a line of JSON.
const SCRIPT: &str = "\
import sys
from changeproof_spark.session import session
spark = session(dict(pair.split('=', 1) for pair in sys.argv[3:]))
spark.sql(f'USE lake.`{sys.argv[1]}`')
print(*spark.sql(sys.argv[2]).drop('_cdc', 'place').toJSON().collect(), sep='\\n')";

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        Trial::test("view::the_readme_has_the_sql", readme_has_the_sql),
        Trial::test("connect_sink::view_of_the_last_row_of_each_key", || on_a_runtime(by_spark())),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn readme_has_the_sql() -> Result<(), Failed> {
    match README.contains(&format!("```sql\n{SQL}```")) {
        true => Ok(()),
        false => Err("scenarios/pipelines/README.md must have images/spark/current_state.sql as it is".into()),
    }
}

async fn by_spark() -> Result<()> {
    let stack = Stack::acquire(ConnectSink.services()).await?;
    let lease = Lease::take(stack.state(), "view")?;
    let database = lease.name().to_owned();
    drop(PostgreSql.create(&stack, &database, Place::Memory).await?);
    let endpoint = stack.endpoint(Service::Postgres)?;
    postgres::publish_all_tables(endpoint, &database).await?;
    let address = Address::of(endpoint, &database);
    let name = format!("{database}_sink");
    let subject = Subject { stack: &stack, database: &database, name: &name };
    let client = address.connect().await?;
    let run = async |sql: &str| client.batch_execute(sql).await.while_doing("PostgreSQL", "write rows");
    run("CREATE TABLE customers (id int PRIMARY KEY, name text)").await?;
    let sink = ConnectSink.start(subject, &Options::default()).await?;
    // Each commit of the sink has changes of the same keys as the one before.
    for sql in [
        "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 60) n",
        "UPDATE customers SET name = name || ', again' WHERE id % 2 = 0; DELETE FROM customers WHERE id % 5 = 0",
        "INSERT INTO customers SELECT n, NULL FROM generate_series(5, 60, 10) n; UPDATE customers SET id = -id WHERE id % 7 = 0",
    ] {
        run(sql).await?;
        wait_until_equal(&stack, &address, &name).await?;
    }

    let warehouse = warehouse_in_bucket(&stack, &name).await?;
    let idents = warehouse.tables().await?;
    let ident = idents.iter().find(|ident| ident.name() == "customers");
    let ident = ident.ok_or_else(|| Error::new("the sink", "find its table", format!("it has {idents:?}")))?;
    let (_, rows) = current_state(&warehouse.table(ident).await?).await?;
    let computed: BTreeSet<Customer> = rows.iter().map(of_row).collect();
    let selected = selected(&stack, &format!("{name}__public")).await?;
    println!("{} rows", selected.len());
    let expected: i64 = client
        .query_one("SELECT count(*) FROM customers", &[])
        .await
        .while_doing("PostgreSQL", "count the rows")?
        .get(0);
    if selected.len() != usize::try_from(expected).unwrap_or_default()
        || selected.iter().cloned().collect::<BTreeSet<_>>() != computed
    {
        let cause = format!("it selected {selected:?}, and not the {expected} rows {computed:?}");
        return Err(Error::new("the view", "have the last row of each key", cause));
    }
    drop(sink);
    ConnectSink.clean_up(subject).await?;
    drop(client);
    PostgreSql.remove(&stack, &database).await?;
    lease.release()
}

type Customer = (i128, Option<String>);

fn of_row(row: &Row) -> Customer {
    let id = match row.get("id") {
        Some(Value::Int(id)) => *id,
        _ => i128::MIN,
    };
    match row.get("name") {
        Some(Value::Text(name)) => (id, Some(name.clone())),
        _ => (id, None),
    }
}

/// What Spark selects by the SQL.
async fn selected(stack: &Stack, namespace: &str) -> Result<Vec<Customer>> {
    let (rest, minio) = (stack.endpoint(Service::IcebergRest)?, stack.endpoint(Service::Minio)?);
    // The container has this machine's network.
    let here = |endpoint: &Endpoint| format!("http://{}", endpoint.address());
    let options = rest.iceberg_client(minio).map(|(name, value)| match name {
        "uri" => format!("{name}={}", here(rest)),
        "s3.endpoint" => format!("{name}={}", here(minio)),
        _ => format!("{name}={value}"),
    });
    let mut command = vec!["python3", "-c", SCRIPT, namespace, SQL];
    command.extend(options.iter().map(String::as_str));
    let told = docker::run_beside(stack.state(), &image_tag("spark").await?, &[], &command).await?;
    let rows = told.lines().filter(|line| line.starts_with('{')).map(|line| {
        let row: Json = serde_json::from_str(line).while_doing("Spark", "read a row")?;
        Ok((row["id"].as_i64().map_or(i128::MIN, i128::from), row["name"].as_str().map(str::to_owned)))
    });
    rows.collect()
}

async fn wait_until_equal(stack: &Stack, address: &Address, name: &str) -> Result<()> {
    let warehouse = warehouse_in_bucket(stack, name).await?;
    let deadline = Instant::now() + WITHIN;
    loop {
        let checked = check(address, PUBLICATION, &warehouse, Layout::Changelog, Misfit::Refuse).await?;
        let customers = checked.iter().find(|table| table.table.name() == "customers");
        if customers.is_some_and(changeproof_pipelines::Checked::is_equal) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new("the test", "see the changes in the sink", format!("{checked:?}")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
