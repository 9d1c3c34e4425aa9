//! Audit tables: a trigger writes each change of a row into a table, and a reader follows that.
//!
//! The reader must not skip an entry of a transaction that began earlier and is committed later than others that it has
//! read. Numbers can't tell it, since they are given before the commit; snapshots can (PostgreSQL manual, 9.27 "Transaction
//! ID and Snapshot Information Functions"): at each look it takes what its present snapshot sees and its last one didn't.

mod values;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::poll_fn};
use indexmap::IndexMap;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    change::{Change, Op, Position, TxId},
    error::{Context, Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Granularity, Guarantees, KeyChange, Order, RowImage, SchemaChanges, Truncate,
        UnchangedToast, Values,
    },
    looking::Looking,
    postgres::{self, HARNESS_SCHEMA, type_named},
    schema::{TableName, Type},
    source::Source,
    stack::{Endpoint, Service},
    value::{Row, Value},
};

const SERVICE: &str = "the audit table";

const SET_UP: &str = include_str!("set_up.sql");

/// The reader looks at least so often, in case a notification was lost with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const ENTRIES: &str = "\
    SELECT pg_current_snapshot()::text, (SELECT max(indexrelid) FROM pg_index WHERE indisprimary), id, txid::text, op::text, relation, schema_name, table_name, before::text, after::text \
    FROM changeproof_harness.audit \
    WHERE txid >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(txid, $1::text::pg_snapshot) \
    ORDER BY id";

/// Triggers that write an audit table, and its reader.
///
/// Settings, both `false` by default, as in the plain pattern: `truncate` (a trigger for TRUNCATE too) and
/// `schema_changes` (an event trigger that writes down each table's new shape).
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditTrigger;

fn is_set(options: &Options, setting: &str) -> bool {
    options.settings.get(setting).is_some_and(|value| value == "true")
}

#[async_trait]
impl Capture for AuditTrigger {
    fn name(&self) -> &'static str {
        "trigger"
    }

    fn summary(&self) -> &'static str {
        "trigger-based: an audit table of before and after as jsonb, LISTEN/NOTIFY, a reader by snapshots"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: false,
            snapshot_amid_changes: false,
            granularity: Granularity::EachChange,
            before_images: BeforeImages::Full,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: false,
            key_change: KeyChange::Update,
            keyless_update: KeyChange::Update,
            unchanged_updates: true,
            transactions: true,
            order: Order::CommitUnlessConcurrent,
            truncate: if is_set(options, "truncate") { Truncate::Told } else { Truncate::Missed },
            schema_changes: match is_set(options, "schema_changes") {
                true => SchemaChanges::AtOnce,
                false => SchemaChanges::NextRow,
            },
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::ExactlyOnce,
            tombstones: false,
            values: values::told(),
            read_values: Some(Values::AS_STORED),
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        let client = postgres::connect(subject.stack.endpoint(Service::Postgres)?, subject.database).await?;
        client.batch_execute(SET_UP).await.while_doing(SERVICE, "make it and its triggers")
    }

    /// The sequence of the entries counts on at once, whether or not their transaction is committed.
    async fn end_of_history(&self, source: &dyn Source) -> Result<Position> {
        let admin = source.as_a::<postgres::Source>()?.admin();
        let next = "SELECT last_value + is_called::int FROM changeproof_harness.audit_id_seq";
        let next = admin.query_one(next, &[]).await.while_doing(SERVICE, "ask for its next number")?;
        Ok(Position::Audit(next.get(0)))
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let endpoint = subject.stack.endpoint(Service::Postgres)?.clone();
        let (client, notified) = listen(&endpoint, subject.database).await?;
        let (truncate, schema_changes) = (is_set(options, "truncate"), is_set(options, "schema_changes"));
        let set = format!(
            "UPDATE changeproof_harness.audit_options SET truncate = {truncate}, schema_changes = {schema_changes};\
             SELECT changeproof_harness.audit_table(tgrelid) FROM pg_trigger WHERE tgname = '0_changeproof_audit' \
                AND tgparentid = 0 AND {truncate}"
        );
        client.batch_execute(&set).await.while_doing(SERVICE, "set its options")?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client.batch_execute(begin).await.while_doing(SERVICE, "take a snapshot")?;
        let seen = client.query_one("SELECT pg_current_snapshot()::text", &[]).await;
        let seen = seen.while_doing(SERVICE, "take a snapshot")?.get(0);
        let ready = match options.snapshot {
            SnapshotMode::Initial => postgres::read_all(&client).await?,
            SnapshotMode::NoData => VecDeque::new(),
        };
        let tables = tables(&client).await?;
        client.batch_execute("COMMIT").await.while_doing(SERVICE, "leave the snapshot")?;
        let database = subject.database.to_owned();
        let told = tables.iter().map(|(oid, table)| (*oid, table.types.clone())).collect();
        let newest_key = None;
        Ok(Box::new(AuditSubscription { endpoint, database, client, notified, seen, ready, tables, newest_key, told }))
    }

    /// All that it makes is in the database and goes with it.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

/// A table as the reader knows it: its columns' types, and its key.
#[derive(Clone, Debug, Default)]
struct Table {
    types: IndexMap<String, Type>,
    key: Vec<String>,
}

async fn tables(client: &Client) -> Result<HashMap<u32, Table>> {
    let shapes = postgres::shapes(client).await?;
    let tables = shapes.into_values().map(|shape| {
        let types = shape.columns.into_iter().map(|column| (column.name, column.ty)).collect();
        (shape.oid, Table { types, key: shape.key })
    });
    Ok(tables.collect())
}

struct AuditSubscription {
    endpoint: Endpoint,
    database: String,
    client: Client,
    notified: UnboundedReceiver<()>,
    /// The snapshot of the last look at which there was anything new.
    seen: String,
    ready: VecDeque<Change>,
    /// The tables by the catalogue's last word.
    tables: HashMap<u32, Table>,
    /// The newest primary key of the catalogue: with a newer one the tables are looked up again.
    newest_key: Option<u32>,
    /// The shapes that schema changes have told last.
    told: HashMap<u32, IndexMap<String, Type>>,
}

/// A connection that hears of new entries.
async fn listen(endpoint: &Endpoint, database: &str) -> Result<(Client, UnboundedReceiver<()>)> {
    let connected = postgres::capture_config(endpoint, database).connect(NoTls).await;
    let (client, mut connection) = connected.while_doing(SERVICE, "connect to its database")?;
    let (told, notified) = unbounded_channel();
    tokio::spawn(async move {
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) && told.send(()).is_err() {
                break;
            }
        }
    });
    client.batch_execute("LISTEN changeproof_audit").await.while_doing(SERVICE, "listen")?;
    Ok((client, notified))
}

/// An entry of the audit table.
struct Entry {
    id: i64,
    tx: String,
    op: String,
    relation: u32,
    table: TableName,
    before: Option<String>,
    after: Option<String>,
}

#[async_trait]
impl Looking for AuditSubscription {
    async fn connect(&mut self) -> Result<()> {
        (self.client, self.notified) = listen(&self.endpoint, &self.database).await?;
        Ok(())
    }

    /// Takes what has been committed since the last look.
    async fn look(&mut self) -> Result<()> {
        let rows = self.client.query(ENTRIES, &[&self.seen]).await.while_doing(SERVICE, "read new entries")?;
        let Some(first) = rows.first() else { return Ok(()) };
        let seen: String = first.get(0);
        let mut transactions: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let mut is_known = self.newest_key == first.get(1);
        for row in &rows {
            let entry = Entry {
                id: row.get(2),
                tx: row.get(3),
                op: row.get(4),
                relation: row.get(5),
                table: TableName::new(row.get::<_, &str>(6), row.get::<_, &str>(7)),
                before: row.get(8),
                after: row.get(9),
            };
            is_known &= self.tables.contains_key(&entry.relation) || entry.table.schema() == HARNESS_SCHEMA;
            transactions.entry(entry.tx.clone()).or_default().push(entry);
        }
        if !is_known {
            self.tables.extend(tables(&self.client).await?);
            self.newest_key = first.get(1);
        }
        // A transaction that changed a row after another's commit made its entry after all of the other's: whole
        // transactions by their last entries are in an order that keeps the changes of each row in theirs.
        let mut transactions: Vec<_> = transactions.into_values().collect();
        transactions.sort_by_key(|entries| entries.last().map(|entry| entry.id));
        let mut changes = Vec::with_capacity(rows.len());
        for entry in transactions.into_iter().flatten() {
            changes.extend(self.change(entry).await?);
        }
        self.seen = seen;
        self.ready.extend(changes);
        Ok(())
    }
}

impl AuditSubscription {
    /// The change of an entry; a table's first shape is none.
    async fn change(&mut self, entry: Entry) -> Result<Option<Change>> {
        let op = match entry.op.as_str() {
            "I" => Op::Insert,
            "U" => Op::Update,
            "D" => Op::Delete,
            "T" => Op::Truncate,
            "S" | "s" => Op::Schema,
            other => return Err(Error::new(SERVICE, "read an entry", format!("unknown operation {other}"))),
        };
        let mut change = Change {
            position: Some(Position::Audit(entry.id)),
            tx: Some(TxId::new(entry.tx.as_str())),
            ..Change::new(op, entry.table.clone())
        };
        if op == Op::Schema {
            self.new_shape(entry.relation, entry.after.as_deref(), &mut change)?;
            return Ok((entry.op == "S").then_some(change));
        }
        (change.before, change.after) = self.rows(&entry)?;
        if !self.knows(entry.relation, change.after.as_ref().or(change.before.as_ref())) {
            self.tables.extend(tables(&self.client).await?);
            (change.before, change.after) = self.rows(&entry)?;
        }
        let table = self.tables.entry(entry.relation).or_default();
        let whole = change.after.as_ref().or(change.before.as_ref());
        let key = whole.map(|row| row.project(table.key.iter().map(String::as_str)));
        change.key = key.filter(|key| key.len() == table.key.len()).unwrap_or_default();
        Ok(Some(change))
    }

    /// The old and the new row of an entry, by the types that the table is known to have.
    fn rows(&self, entry: &Entry) -> Result<(Option<Row>, Option<Row>)> {
        let unknown = IndexMap::new();
        let types = self.tables.get(&entry.relation).map_or(&unknown, |table| &table.types);
        let row = |json: &Option<String>| json.as_ref().map(|json| values::row(json, types)).transpose();
        Ok((row(&entry.before)?, row(&entry.after)?))
    }

    /// Whether a row has just the columns that the table is known to have.
    fn knows(&self, relation: u32, row: Option<&Row>) -> bool {
        let (Some(table), Some(row)) = (self.tables.get(&relation), row) else { return true };
        row.len() == table.types.len() && row.columns().all(|column| table.types.contains_key(column))
    }

    /// A schema change tells the new shape; the old one is what was known until then.
    fn new_shape(&mut self, relation: u32, shape: Option<&str>, change: &mut Change) -> Result<()> {
        let doing = "read the new shape of a table";
        let shape: IndexMap<String, String> =
            serde_json::from_str(shape.unwrap_or("{}")).while_doing(SERVICE, doing)?;
        let types: IndexMap<String, Type> = shape.into_iter().map(|(name, ty)| (name, type_named(&ty))).collect();
        let told = |types: &IndexMap<String, Type>| -> Row {
            types.iter().map(|(name, ty)| (name.clone(), Value::Text(ty.to_string()))).collect()
        };
        change.after = Some(told(&types));
        change.before = self.told.insert(relation, types).as_ref().map(told);
        Ok(())
    }
}

#[async_trait]
impl Subscription for AuditSubscription {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            while self.notified.try_recv().is_ok() {}
            self.look_with_patience().await?;
            if self.ready.is_empty() {
                // Whichever comes first, there is then a reason to look again.
                let _ = tokio::time::timeout(LOOK_EVERY, self.notified.recv()).await;
            }
        }
    }

    fn waiting_for(&self) -> String {
        format!("it waits for entries of transactions that the snapshot {} does not see", self.seen)
    }

    /// The reader stops; the triggers, which are the database's own, go on.
    async fn stop(&mut self) -> Result<()> {
        self.notified.close();
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.connect().await
    }
}
