//! PostgreSQL → Debezium → Kafka → Spark Structured Streaming → Iceberg, as a capture.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use changeproof::{
    Change,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    debezium::DebeziumPostgres,
    error::{Context, Error, Result},
    guarantees::Guarantees,
    kafka::{Ends, ends},
    postgres::Address,
    stack::{Endpoint, Service},
};
use changeproof_iceberg::warehouse_in_bucket;
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, interval, sleep};

use crate::{
    contents::{Contents, Reading},
    layout::Layout,
    topics::{Topics, fence_after_existing, fences, guarantees},
};

const SERVICE: &str = "Spark";

/// How long Spark may take to answer: to stop a pipeline it waits for the batch that is under way.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// How long the pipeline may take to merge what is in the topics.
const MERGES_WITHIN: Duration = Duration::from_secs(120);

/// How often the pipeline is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The column of the sink's tables that is the pipeline's own.
pub(crate) const LSN: &str = "_lsn";

/// PostgreSQL → Debezium → Kafka → Spark Structured Streaming → Iceberg: the pipeline of `images/spark`.
///
/// Settings: those of Debezium's connector; and with `spark.` before them those of the pipeline, such as `spark.on_type_change`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spark;

/// Those that show what becomes of a table; each costs some micro-batches.
const PLAYS: &[&str] = &[
    "add_a_column_not_null_with_a_default",
    "add_a_nullable_column",
    "capture_stopped_in_mid_transaction",
    "change_text_to_int_by_using",
    "common_types",
    "composite_key",
    "drop_a_column",
    "initial_snapshot_of_existing_rows",
    "insert_update_delete",
    "no_primary_key",
    "quoted_and_non_ascii_names",
    "rename_a_column",
    "rollback_of_a_transaction",
    "several_tables_in_a_transaction",
    "table_created_while_capturing",
    "transaction_of_10_000_rows",
    "truncate_before_the_first_row",
    "truncate_of_one_table",
    "unchanged_toast_identity_default",
    "unchanged_toast_identity_full",
    "update_of_a_primary_key",
    "widen_an_int_to_bigint",
];

#[async_trait]
impl Capture for Spark {
    fn name(&self) -> &'static str {
        "spark"
    }

    fn summary(&self) -> &'static str {
        "what Iceberg tables hold that Spark Structured Streaming merges Debezium's topics into, a micro-batch at a time"
    }

    fn like(&self) -> Option<&'static str> {
        Some("debezium")
    }

    fn services(&self) -> &'static [Service] {
        use Service::{Connect, IcebergRest, Kafka, Minio, Postgres, Spark};
        &[Postgres, Kafka, Connect, Minio, IcebergRest, Spark]
    }

    fn plays(&self) -> Option<&'static [&'static str]> {
        Some(PLAYS)
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        guarantees(options)
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.prepare(subject).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Merging::start(subject, options).await?))
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        Pipeline::new(subject)?.remove().await?;
        DebeziumPostgres.clean_up(subject).await?;
        warehouse_in_bucket(subject.stack, subject.name).await?.remove().await
    }
}

/// What is the pipeline's own of the settings, and what is the connector's.
fn split(options: &Options) -> (BTreeMap<String, String>, Options) {
    let mut connector = options.clone();
    let own = |name: &String| name.strip_prefix("spark.").map(str::to_owned);
    let pipeline = options.settings.iter().filter_map(|(name, value)| Some((own(name)?, value.clone()))).collect();
    connector.settings.retain(|name, _| own(name).is_none());
    (pipeline, connector)
}

/// A pipeline of the running Spark.
struct Pipeline {
    client: Client,
    url: String,
    token: String,
    name: String,
}

/// What Spark says of a pipeline (`images/spark/changeproof_spark/server.py`).
#[derive(Debug, Deserialize)]
struct Status {
    state: String,
    /// By topic and partition the number of the next record to be merged.
    offsets: BTreeMap<String, BTreeMap<String, i64>>,
    error: Option<String>,
}

impl Status {
    fn has_merged(&self, ends: &Ends) -> bool {
        let merged = |topic: &str, partition: &i32| self.offsets.get(topic)?.get(&partition.to_string()).copied();
        ends.iter().all(|(topic, partition, end)| merged(topic, partition).unwrap_or_default() >= *end)
    }
}

impl Pipeline {
    fn new(subject: Subject<'_>) -> Result<Self> {
        let spark = subject.stack.endpoint(Service::Spark)?;
        Ok(Self {
            client: subject.stack.http(),
            url: format!("http://{}/pipelines/{}", spark.address(), subject.name),
            token: spark.password.clone(),
            name: subject.name.to_owned(),
        })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Json>, doing: &str) -> Result<Option<Json>> {
        let doing = format!("{doing} {}", self.name);
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        request = request.timeout(ANSWERS_WITHIN);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.while_doing(SERVICE, &doing)?;
        let status = response.status();
        let told: Json = response.json().await.while_doing(SERVICE, &doing)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(told)),
            status => Err(Error::new(SERVICE, doing, format!("{status}: {}", told["error"].as_str().unwrap_or("")))),
        }
    }

    /// Makes the pipeline and starts it.
    async fn make(&self, settings: &Json) -> Result<()> {
        self.call(Method::PUT, "", Some(settings), "make the pipeline").await.map(drop)
    }

    async fn act(&self, action: &str) -> Result<()> {
        let done = self.call(Method::POST, &format!("/{action}"), None, action).await?;
        done.map(drop)
            .ok_or_else(|| Error::new(SERVICE, format!("{action} {}", self.name), "there is no such pipeline"))
    }

    async fn remove(&self) -> Result<()> {
        self.call(Method::DELETE, "", None, "remove the pipeline").await.map(drop)
    }

    /// How it stands.
    ///
    /// # Errors
    /// It has failed: in its own words.
    async fn status(&self) -> Result<Status> {
        let doing = "ask for the state of";
        let told = self.call(Method::GET, "", None, doing).await?;
        let told =
            told.ok_or_else(|| Error::new(SERVICE, format!("{doing} {}", self.name), "there is no such pipeline"))?;
        let status: Status = serde_json::from_value(told).while_doing(SERVICE, doing)?;
        match status.state.as_str() {
            "failed" => {
                Err(Error::new(SERVICE, format!("run the pipeline {}", self.name), status.error.unwrap_or_default()))
            }
            _ => Ok(status),
        }
    }
}

struct Merging {
    topics: Topics,
    pipeline: Pipeline,
    kafka: Endpoint,
    prefix: String,
    contents: Contents,
}

impl Merging {
    async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let (own, connector) = split(options);
        let kafka = subject.stack.endpoint(Service::Kafka)?.clone();
        let client: BTreeMap<_, _> = kafka.kafka_client().into();
        let mut settings = json!({
            "topics": subject.name,
            "kafka": client,
            "namespace": format!("{}__{{schema}}", subject.name),
            "trigger": "0 seconds",
            "without": fences().replace('.', r"\."),
        });
        for (name, value) in own {
            settings[name] = Json::String(value);
        }
        let warehouse = warehouse_in_bucket(subject.stack, subject.name).await?;
        let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
        let topics = Topics::start(subject, &connector).await?;
        let pipeline = Pipeline::new(subject)?;
        pipeline.make(&settings).await?;
        let contents = Contents::made_of(address, warehouse, Reading::Of(Layout::Merged));
        let mut merging = Self { topics, pipeline, kafka, prefix: subject.name.to_owned(), contents };
        if let Some(own) = fence_after_existing(subject).await? {
            merging.merge_until(|fence| fence == own).await?;
        }
        merging.contents.begin(options.snapshot == SnapshotMode::Initial).await?;
        Ok(merging)
    }

    /// Waits until a fence is in the topics, and then until Spark has merged them.
    /// Returns its number.
    async fn merge_until(&mut self, is_it: impl Fn(i128) -> bool) -> Result<i128> {
        let mut asks = interval(Duration::from_secs(1));
        let fence = loop {
            tokio::select! {
                held = self.topics.hold(&is_it) => break held?,
                _ = asks.tick() => {
                    self.pipeline.status().await?;
                }
            }
        };
        let control = ["transaction", "notification", &fences()].map(|name| format!("{}.{name}", self.prefix));
        let control: Vec<&str> = control.iter().map(String::as_str).collect();
        let ends = ends(&self.kafka, &self.prefix, &control).await?;
        let deadline = Instant::now() + MERGES_WITHIN;
        loop {
            let status = self.pipeline.status().await?;
            if status.has_merged(&ends) {
                return Ok(fence);
            }
            if Instant::now() > deadline {
                let doing = format!("wait until {} has merged the topics up to {ends:?}", self.prefix);
                return Err(Error::new(SERVICE, doing, format!("it is at {status:?}")));
            }
            sleep(ASK_EVERY).await;
        }
    }
}

#[async_trait]
impl Subscription for Merging {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.contents.pop() {
                return Ok(change);
            }
            let last = self.contents.fence();
            let fence = self.merge_until(|fence| fence > last).await?;
            self.contents.tell(fence).await?;
        }
    }

    fn waiting_for(&self) -> String {
        self.topics.waiting_for()
    }

    async fn stop(&mut self) -> Result<()> {
        self.topics.stop().await?;
        self.pipeline.act("stop").await
    }

    async fn resume(&mut self) -> Result<()> {
        self.pipeline.act("start").await?;
        self.topics.resume().await
    }
}
