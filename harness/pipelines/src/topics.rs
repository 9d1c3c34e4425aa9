//! Debezium's topics before a sink: when they hold all that was committed before a fence.

use std::collections::BTreeMap;

use changeproof::{
    Change, Op, Value,
    capture::{Capture, Options, Profile, SnapshotMode, Subject, Subscription},
    debezium::DebeziumPostgres,
    error::{Context, Result},
    guarantees::{AfterABreak, Granularity, Guarantees, KeyChange, SchemaChanges, UnchangedToast},
    postgres::Address,
    schema::TableName,
    source::HARNESS_SCHEMA,
    stack::Service,
};

/// What a connector has its producer do by the reference profile: records that bear their schema are the same again and again, and
/// hundreds of them are sent together if they are there.
const PRODUCER: [(&str, &str); 2] =
    [("producer.override.compression.type", "lz4"), ("producer.override.batch.size", "131072")];

/// The topic of fences, without the prefix and its dot. The sinks needn't have them: what they have merged is known by offsets and counts.
pub(crate) fn fences() -> String {
    format!("{HARNESS_SCHEMA}.fence")
}

/// What a pipeline promises that keeps tables by these topics: that they hold what Debezium tells.
pub(crate) fn guarantees(options: &Options) -> Guarantees {
    Guarantees {
        granularity: Granularity::Contents,
        keyless_update: KeyChange::DeleteAndInsert,
        unchanged_updates: false,
        transactions: false,
        schema_changes: SchemaChanges::NextRow,
        unchanged_toast: UnchangedToast::Delivered,
        after_a_break: AfterABreak::ExactlyOnce,
        tombstones: false,
        ..DebeziumPostgres.guarantees(options)
    }
}

/// A connector, and what its topics are known to hold. They prove it by their numbers: see [`DebeziumPostgres`].
pub(crate) struct Topics {
    connector: Box<dyn Subscription>,
    /// By table the records that tell of its rows.
    pub(crate) records: BTreeMap<TableName, u64>,
}

impl Topics {
    /// Starts the connector. What is there already is copied in any case: a pipeline that keeps a table as another one is can't begin
    /// without.
    pub(crate) async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let mut options = Options { snapshot: SnapshotMode::Initial, ..options.clone() };
        for (name, value) in PRODUCER.iter().filter(|_| options.profile == Profile::Reference) {
            options.settings.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        Ok(Self { connector: DebeziumPostgres.start(subject, &options).await?, records: BTreeMap::new() })
    }

    /// Waits until a fence is in the topics that it is true of, and returns its number. Dropping the future loses nothing.
    pub(crate) async fn hold(&mut self, is_it: impl Fn(i128) -> bool) -> Result<i128> {
        loop {
            let change = self.connector.next().await?;
            match fence_of(&change) {
                Some(fence) if is_it(fence) => return Ok(fence),
                Some(_) => {}
                None if change.op == Op::Truncate => {}
                None => *self.records.entry(change.table.clone()).or_default() += 1,
            }
        }
    }

    pub(crate) fn waiting_for(&self) -> String {
        self.connector.waiting_for()
    }

    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.connector.stop().await
    }

    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.connector.resume().await
    }
}

/// Writes a fence if the database has tables that are to be copied. Returns its number.
pub(crate) async fn fence_after_existing(subject: Subject<'_>) -> Result<Option<i128>> {
    let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
    let client = address.connect().await?;
    let query =
        "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema', $1::text))";
    let found = client.query_one(query, &[&HARNESS_SCHEMA]).await.while_doing("PostgreSQL", "look for tables")?;
    if !found.get::<_, bool>(0) {
        return Ok(None);
    }
    // The harness counts its own fences up from 1.
    let insert = format!(
        "INSERT INTO {HARNESS_SCHEMA}.fence (id) SELECT least(min(id), 0) - 1 FROM {HARNESS_SCHEMA}.fence RETURNING id"
    );
    let fence = client.query_one(&insert, &[]).await.while_doing("PostgreSQL", "write a fence")?;
    Ok(Some(fence.get::<_, i64>(0).into()))
}

/// The number of a fence, if a change is one.
fn fence_of(change: &Change) -> Option<i128> {
    let is_fence = change.table.schema() == HARNESS_SCHEMA && change.table.name() == "fence";
    match change.after.as_ref().filter(|_| is_fence)?.get("id") {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}
