//! Debezium with flat records: what `ExtractNewRecordState` makes of its envelopes (Debezium's manual, "New Record State Extraction").

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    postgres::{self, DebeziumPostgres},
    record::transaction_id,
    subscription::tells_transactions,
};
use crate::{
    capture::{Capture, Options, Subject, Subscription},
    change::{Change, Lsn, Op, Position, TxId},
    error::Result,
    guarantees::{BeforeImages, Guarantees, Truncate},
    schema::TableName,
    stack::Service,
    value::Row,
};

/// What the names of fields begin with that tell of the change and are no columns.
const TOLD: &str = "__";

/// Those of transforms, and some in which it can make a difference that the envelope is gone.
const PLAYS: &[&str] = &[
    "add_a_column_not_null_with_a_default",
    "add_a_nullable_column",
    "column_cast_by_a_transform",
    "column_dropped_by_a_transform",
    "column_hashed_by_the_connector",
    "column_masked_by_a_transform",
    "column_renamed_by_a_transform",
    "common_types",
    "deletes_filtered_by_a_transform",
    "drop_a_column",
    "initial_snapshot_of_existing_rows",
    "insert_update_delete",
    "insert_update_delete_identity_full",
    "interleaved_transactions",
    "row_that_leaves_a_transforms_filter",
    "rows_filtered_by_a_transform",
    "several_transforms_and_a_new_column",
    "tables_routed_to_one_topic",
    "truncate_of_one_table",
    "unchanged_toast_identity_default",
    "update_of_a_primary_key",
];

/// Debezium's connector for PostgreSQL, whose records are the rows as they are after a change, with fields beside the columns that say what
/// happened: the form that most sinks want, and the one that other transforms of single messages work on.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebeziumFlat;

/// What a flat record says of its change.
#[derive(Deserialize)]
pub(super) struct Told {
    #[serde(rename = "__op")]
    pub(super) op: String,
    #[serde(rename = "__source_schema")]
    schema: String,
    #[serde(rename = "__source_table")]
    table: String,
    #[serde(rename = "__source_lsn")]
    lsn: Option<u64>,
    #[serde(rename = "__source_ts_us")]
    commit_time_us: Option<i64>,
    #[serde(rename = "__transaction_id")]
    pub(super) transaction: Option<String>,
    #[serde(rename = "__transaction_total_order")]
    pub(super) total_order: Option<u64>,
}

impl Told {
    /// The change of a row that a record holds. Of one that was deleted the record has what the envelope had before, which is NULL for all
    /// that isn't logged: only the key tells.
    pub(super) fn change(&self, op: Op, key: Row, row: &Row) -> Change {
        let columns: Row = row.iter().filter(|(name, _)| !name.starts_with(TOLD)).map(owned).collect();
        Change {
            key,
            after: (op != Op::Delete).then_some(columns),
            position: self.lsn.map(|lsn| Position::Lsn(Lsn(lsn))).filter(|_| op != Op::Read),
            tx: self.transaction.as_deref().map(|id| TxId::new(transaction_id(id))),
            commit_time_us: self.commit_time_us,
            ..Change::new(op, TableName::new(&self.schema, &self.table))
        }
    }
}

fn owned((name, value): (&str, &crate::Value)) -> (String, crate::Value) {
    (name.to_owned(), value.clone())
}

#[async_trait]
impl Capture for DebeziumFlat {
    fn name(&self) -> &'static str {
        "flat"
    }

    fn summary(&self) -> &'static str {
        "log-based: pgoutput → Debezium on Kafka Connect, its records flattened and transformed → Kafka"
    }

    fn like(&self) -> Option<&'static str> {
        Some(DebeziumPostgres.name())
    }

    fn services(&self) -> &'static [Service] {
        DebeziumPostgres.services()
    }

    fn plays(&self) -> Option<&'static [&'static str]> {
        Some(PLAYS)
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            before_images: BeforeImages::None,
            truncate: Truncate::Missed,
            transactions: tells_transactions(options),
            ..DebeziumPostgres.guarantees(options)
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.prepare(subject).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.replace("PREFIX", subject.name)));
        postgres::start(subject, &options.with_defaults(settings), None).await
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        DebeziumPostgres.clean_up(subject).await
    }
}

/// The predicate `rows` is for transforms that must leave the connector's other topics alone.
const SETTINGS: [(&str, &str); 9] = [
    // The transform drops them, and who counts the changes of a transaction would wait for them.
    ("skipped.operations", "t"),
    ("transforms", "flatten"),
    ("transforms.flatten.type", "io.debezium.transforms.ExtractNewRecordState"),
    ("transforms.flatten.predicate", "rows"),
    ("transforms.flatten.delete.tombstone.handling.mode", "rewrite-with-tombstone"),
    (
        "transforms.flatten.add.fields",
        "op,source.schema,source.table,source.lsn,source.ts_us,transaction.id,transaction.total_order",
    ),
    ("predicates", "rows"),
    ("predicates.rows.type", "org.apache.kafka.connect.transforms.predicates.TopicNameMatches"),
    ("predicates.rows.pattern", r"PREFIX\.[^.]+\..+"),
];
