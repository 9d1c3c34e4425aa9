//! Sinks whose catalog, and whose storage, is down for a while amid a load.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    postgres::Client,
    runner::compare_page,
    stack::{Service, docker},
};

use crate::{
    amid::{self, Pipelines},
    once::must_have_each_change_once,
};

/// How long each is down.
const DOWN: Duration = Duration::from_secs(20);

/// How long a slot may take to let the log go, once its pipeline can write again.
const LETS_GO_WITHIN: Duration = Duration::from_secs(120);

/// A pipeline reads its slot up to where its sink, or Kafka, has what it read. So the slot of the direct one keeps back all the log since its
/// sink went down, and lets it go when that is back; those of Debezium's connectors go on, for Kafka keeps the records. Nothing is lost, and
/// nothing is there twice.
pub(crate) async fn sinks_that_are_down_for_20_s() -> Result<()> {
    let failing = amid::a_load(async |pipelines| {
        let client = pipelines.address.connect().await?;
        until_all_have_slots(&client, pipelines.names).await?;
        let mut page = String::new();
        for service in [Service::IcebergRest, Service::Minio] {
            page.push_str(&down(pipelines, &client, service).await?);
        }
        pipelines.end_the_load();
        pipelines.wait_until_equal().await?;
        must_have_each_change_once(pipelines).await?;
        page.push_str(
            "in the end each sink holds what the source holds, and the changelog has each of Kafka's records once\n",
        );
        Ok(page)
    });
    let page = Box::pin(failing).await?;
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../snapshots/pipelines"));
    compare_page(folder, "sinks_that_are_down_for_20_s", file!(), None, &page);
    Ok(())
}

/// Waits until each pipeline reads the log: the direct one begins when it has found its tables, which it can't while its sink is down.
async fn until_all_have_slots(client: &Client, slots: &[String; 3]) -> Result<()> {
    let deadline = Instant::now() + LETS_GO_WITHIN;
    let doing = "wait until each pipeline has its slot";
    loop {
        let query = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY($1)";
        let found: i64 = client.query_one(query, &[&slots.as_slice()]).await.while_doing("PostgreSQL", doing)?.get(0);
        if usize::try_from(found).is_ok_and(|found| found == slots.len()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new("PostgreSQL", doing, format!("there are {found}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a slot keeps back, beside what was written while a service was down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Less,
    AllOfIt,
}

impl Kept {
    fn told(self) -> &'static str {
        match self {
            Self::Less => "less than that",
            Self::AllOfIt => "all of it",
        }
    }
}

/// Takes a service down. Returns what its page says of the slots.
async fn down(pipelines: &Pipelines<'_>, client: &Client, service: Service) -> Result<String> {
    let container = &pipelines.stack.endpoint(service)?.container;
    docker::kill(container).await?;
    let (began, since) = (Instant::now(), end_of_log(client).await?);
    while began.elapsed() < DOWN {
        log_what_runs(client).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (written, at_its_end) = (end_of_log(client).await? - since, retained(client, pipelines.names).await?);
    docker::start_again(container).await?;
    let deadline = Instant::now() + LETS_GO_WITHIN;
    let after = loop {
        log_what_runs(client).await?;
        let now = retained(client, pipelines.names).await?;
        if now.iter().all(|kept| *kept < written) {
            break now;
        }
        if Instant::now() > deadline {
            let cause = format!("of {written} bytes they still keep {now:?} back");
            return Err(Error::new("the slots", format!("let the log go after {} was back", service.title()), cause));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!(
        "{}: {written} bytes written meanwhile; kept back at its end {at_its_end:?}, and {after:?} then; {:.1} s in all",
        service.title(),
        began.elapsed().as_secs_f32()
    );
    let kept = |bytes: i64| if bytes < written { Kept::Less } else { Kept::AllOfIt };
    let mut page =
        format!("{} is down for {} s; of the log that is written meanwhile\n", service.title(), DOWN.as_secs());
    for ((pipeline, at_its_end), after) in ["spark", "connect_sink", "direct"].iter().zip(at_its_end).zip(after) {
        let expected = if *pipeline == "direct" { Kept::AllOfIt } else { Kept::Less };
        if kept(at_its_end) != expected {
            let doing = format!("keep back {} of what is written while {} is down", expected.told(), service.title());
            return Err(Error::new(*pipeline, doing, format!("of {written} bytes it keeps {at_its_end}")));
        }
        page.push_str(&format!(
            "  the slot of {pipeline:12} keeps back {}, and {} once it is back\n",
            kept(at_its_end).told(),
            kept(after).told()
        ));
    }
    Ok(page)
}

/// Where the log ends, in bytes.
async fn end_of_log(client: &Client) -> Result<i64> {
    let query = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    Ok(client.query_one(query, &[]).await.while_doing("PostgreSQL", "ask for the end of its log")?.get(0))
}

/// The bytes of the log that slots keep back.
async fn retained(client: &Client, slots: &[String; 3]) -> Result<[i64; 3]> {
    let query =
        "SELECT (pg_current_wal_insert_lsn() - restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1";
    let mut retained = [0; 3];
    for (slot, retained) in slots.iter().zip(&mut retained) {
        *retained = client.query_one(query, &[slot]).await.while_doing("PostgreSQL", "look at a slot")?.get(0);
    }
    Ok(retained)
}

/// A slot lets the log go up to a point at which the server has noted which transactions run: by itself every 15 s.
async fn log_what_runs(client: &Client) -> Result<()> {
    client.batch_execute("SELECT pg_log_standby_snapshot()").await.while_doing("PostgreSQL", "note what runs")
}
