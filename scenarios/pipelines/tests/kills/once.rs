//! What the sink that appends promises: each of Kafka's records once, whatever is killed. What Debezium tells again after it was killed is a
//! record of its own.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use changeproof::{
    error::{Error, Result},
    kafka::ends,
    postgres::HARNESS_SCHEMA,
    stack::Service,
};
use changeproof_iceberg::{Warehouse, flat_rows_of};
use scenarios_pipelines::sinks::rows;

use crate::amid::Pipelines;

/// How long records may take to become rows that Debezium told again, and that have changed nothing.
const APPENDS_WITHIN: Duration = Duration::from_secs(120);

/// Waits until the changelog has as many rows as the topics have records. No record must be among them twice.
pub(crate) async fn must_have_each_change_once(pipelines: &Pipelines<'_>) -> Result<()> {
    let (prefix, (_, sink)) = (&pipelines.names[1], &pipelines.sinks[1]);
    let fences = format!("{HARNESS_SCHEMA}.fence");
    let control = ["transaction", "notification", &fences].map(|name| format!("{prefix}.{name}"));
    let control: Vec<&str> = control.iter().map(String::as_str).collect();
    let deadline = Instant::now() + APPENDS_WITHIN;
    loop {
        // In this order: rows of records that come meanwhile are not counted.
        let rows = rows(sink).await?;
        let ends = ends(pipelines.stack.endpoint(Service::Kafka)?, prefix, &control).await?;
        let records: i64 = ends.iter().map(|(.., end)| *end).sum();
        let records = u64::try_from(records).unwrap_or_default();
        if rows == records {
            println!("{records} records, {rows} rows");
            return must_have_none_twice(sink).await;
        }
        if rows > records || Instant::now() > deadline {
            let cause = format!("{rows} rows of {records} records");
            return Err(Error::new("connect_sink", "append each record once", cause));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A table has the records of a topic, and all of a key are in one partition: there each has another offset.
async fn must_have_none_twice(sink: &Warehouse) -> Result<()> {
    for ident in sink.tables().await? {
        let rows = flat_rows_of(&sink.table(&ident).await?).await?;
        let mut records = BTreeSet::new();
        for row in &rows {
            let is_record = |name: &str| name == "_cdc.offset" || name.starts_with("_cdc.key.");
            let record: Vec<_> = row.iter().filter(|(name, _)| is_record(name)).map(|(_, value)| value).collect();
            if !records.insert(record) {
                let cause = format!("{ident} has twice: {row:?}");
                return Err(Error::new("connect_sink", "append each record once", cause));
            }
        }
    }
    Ok(())
}
