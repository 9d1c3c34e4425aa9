//! Records of Debezium's topics, as the JSON converter writes them with their schemas.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{definitions::Definitions, flat::Told, values::Schema, wire::Wire};
use crate::{
    change::{Change, Lsn, Op, Position, TxId},
    error::{Context, Error, Result},
    mysql,
    schema::TableName,
    source::Dialect,
    value::Row,
};

const DECODER: &str = "the decoder of Debezium's records";

/// A record of a table's topic.
#[derive(Debug)]
pub(crate) enum Event {
    /// A change, with its place within its transaction; reads have none.
    Change(Box<Change>, Option<Place>),
    /// A key without a value, after a delete.
    Tombstone(Row),
    /// What is none of the script's business, such as a message; with its transaction and its place within it.
    Other(Option<(String, Place)>),
}

/// Where a change stands in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// In the source's log, as far as a record tells: PostgreSQL's LSN, or the binary log's position and the row of the event.
    pub(crate) in_log: (u64, u64),
    /// Its number, from 1; a connector that starts again amid a transaction counts anew from where it goes on.
    pub(crate) number: u64,
}

/// A record of the transaction topic.
#[derive(Debug, Deserialize)]
pub(crate) struct Boundary {
    pub(crate) status: String,
    pub(crate) id: String,
    pub(crate) event_count: Option<u64>,
    pub(crate) data_collections: Option<Vec<Collection>>,
}

/// What a transaction did to one table.
#[derive(Debug, Deserialize)]
pub(crate) struct Collection {
    pub(crate) data_collection: String,
}

/// A record of the notification topic.
#[derive(Debug, Deserialize)]
pub(crate) struct Notification {
    pub(crate) aggregate_type: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) additional_data: HashMap<String, Option<String>>,
}

impl Notification {
    /// How many rows a scan has read, if it says so.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.additional_data.get("total_rows_scanned")?.as_ref()?.parse().ok()
    }
}

#[derive(Deserialize)]
struct WithSchema<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope {
    op: String,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
    source: Source,
    transaction: Option<Transaction>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    db: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    table: String,
    lsn: Option<u64>,
    gtid: Option<String>,
    pos: Option<u64>,
    row: Option<u64>,
    ts_us: Option<i64>,
}

#[derive(Deserialize)]
struct Transaction {
    id: String,
    total_order: u64,
}

/// Decodes records. Schemas repeat with every record, so each is parsed once.
#[derive(Default)]
pub(crate) struct Decoder {
    schemas: HashMap<Box<str>, Arc<Schema>>,
    origin: Origin,
    /// What puts the schemas back that records only refer to.
    pub(super) wire: Option<Wire>,
}

/// Where records come from.
#[derive(Default)]
enum Origin {
    #[default]
    PostgreSql,
    MySql {
        lease: String,
        /// The topic in which the connector keeps a history of definitions.
        history: String,
        /// The topic to which it writes changed definitions, and what that has told; none if it isn't asked to.
        definitions: Option<(String, Definitions)>,
    },
}

impl Source {
    fn table(&self, origin: &Origin) -> TableName {
        match origin {
            Origin::PostgreSql => TableName::new(&self.schema, &self.table),
            Origin::MySql { lease, .. } => {
                TableName::new(mysql::schema_of(lease, &self.db).unwrap_or(&self.db), &self.table)
            }
        }
    }

    fn position(&self) -> Option<Position> {
        let gtid = || Position::of_gtid(self.gtid.as_ref()?);
        self.lsn.map(|lsn| Position::Lsn(Lsn(lsn))).or_else(gtid)
    }

    fn place(&self, transaction: &Transaction) -> Place {
        let in_log = (self.lsn.or(self.pos).unwrap_or_default(), self.row.unwrap_or_default());
        Place { in_log, number: transaction.total_order }
    }
}

impl Decoder {
    /// A decoder of what the connector for MySQL writes.
    pub(crate) fn of_mysql(lease: &str, history: String, definitions: Option<String>) -> Self {
        let definitions = definitions.map(|topic| (topic, Definitions::default()));
        let origin = Origin::MySql { lease: lease.to_owned(), history, definitions };
        Self { schemas: HashMap::new(), origin, wire: None }
    }

    /// The same for records whose schemas stand in a registry.
    pub(super) fn through(self, wire: Option<Wire>) -> Self {
        Self { wire, ..self }
    }

    /// The topic of changed definitions, if the connector writes one.
    pub(crate) fn definitions_topic(&self) -> Option<&str> {
        match &self.origin {
            Origin::MySql { definitions: Some((topic, _)), .. } => Some(topic),
            _ => None,
        }
    }

    /// Decodes a record of the topic of changed definitions.
    pub(crate) fn definitions(&mut self, record: &[u8]) -> Result<Vec<Change>> {
        match &mut self.origin {
            Origin::MySql { lease, definitions: Some((_, definitions)), .. } => definitions.take(lease, record),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the connector sends changes that no transaction counts: those for MySQL and MariaDB send TRUNCATE so.
    pub(crate) fn has_uncounted(&self) -> bool {
        matches!(self.origin, Origin::MySql { .. })
    }

    /// Whether a topic is the connector's own, and holds no changes.
    pub(crate) fn is_history(&self, topic: &str) -> bool {
        matches!(&self.origin, Origin::MySql { history, .. } if history == topic)
    }

    fn dialect(&self) -> Dialect {
        match self.origin {
            Origin::PostgreSql => Dialect::PostgreSql,
            Origin::MySql { .. } => Dialect::MySql,
        }
    }

    /// Decodes a record of a table's topic.
    pub(crate) fn event(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Event> {
        let key = key.map(|key| self.key(key)).transpose()?.unwrap_or_default();
        let Some(value) = value else { return Ok(Event::Tombstone(key)) };
        let parts = parts(value)?;
        let payload = parts.payload.map_or("null", RawValue::get);
        let schema = parts.schema.map(|schema| self.known(schema.get())).transpose()?;
        if let Some(schema) = schema.as_ref().filter(|schema| schema.field("__op").is_some()) {
            return self.flat(key, payload, schema);
        }
        let Some(envelope) = serde_json::from_str::<Option<Envelope>>(payload)
            .while_doing(DECODER, format!("read {}", shorten(payload)))?
        else {
            return Ok(Event::Tombstone(key));
        };
        let Some(op) = op(&envelope.op) else {
            let place = |tx: &Transaction| (transaction_id(&tx.id).to_owned(), envelope.source.place(tx));
            return Ok(Event::Other(envelope.transaction.as_ref().map(place)));
        };
        let schema = schema.ok_or_else(no_schema)?;
        let dialect = self.dialect();
        let row = |image: &Option<serde_json::Value>, field: &str| {
            image.as_ref().and_then(|image| schema.field(field)?.row(image, dialect))
        };
        let Envelope { source, transaction, .. } = &envelope;
        // MariaDB's connector numbers a truncate, and never ends the transaction that it says it belongs to.
        let is_counted = op != Op::Truncate || !self.has_uncounted();
        let place = transaction.as_ref().map(|tx| source.place(tx)).filter(|_| is_counted);
        // What MySQL's connector doesn't count as part of a transaction still bears its identifier.
        let alone = source.gtid.as_deref().filter(|_| op != Op::Read);
        let tx = transaction.as_ref().map(|tx| transaction_id(&tx.id)).or(alone);
        let change = Change {
            key,
            before: row(&envelope.before, "before"),
            after: row(&envelope.after, "after"),
            position: source.position().filter(|_| op != Op::Read),
            tx: tx.map(TxId::new),
            commit_time_us: source.ts_us,
            ..Change::new(op, source.table(&self.origin))
        };
        Ok(Event::Change(Box::new(change), place))
    }

    /// Decodes a record that has been flattened.
    fn flat(&self, key: Row, payload: &str, schema: &Schema) -> Result<Event> {
        let doing = || format!("read {}", shorten(payload));
        let columns = serde_json::from_str(payload).while_doing(DECODER, doing())?;
        let told: Told = serde_json::from_str(payload).while_doing(DECODER, doing())?;
        let (Some(op), Some(row)) = (op(&told.op), schema.row(&columns, self.dialect())) else {
            return Err(Error::new(DECODER, doing(), "it is no change of a row"));
        };
        let place = told.total_order.map(|number| Place { in_log: (0, 0), number });
        Ok(Event::Change(Box::new(told.change(op, key, &row)), place))
    }

    fn key(&mut self, key: &[u8]) -> Result<Row> {
        let parts = parts(key)?;
        let payload = parts.payload.map_or("null", RawValue::get);
        let payload = serde_json::from_str(payload).while_doing(DECODER, "read a key")?;
        let schema = self.known(parts.schema.ok_or_else(no_schema)?.get())?;
        Ok(schema.row(&payload, self.dialect()).unwrap_or_default())
    }

    fn known(&mut self, schema: &str) -> Result<Arc<Schema>> {
        if let Some(known) = self.schemas.get(schema) {
            return Ok(Arc::clone(known));
        }
        let parsed: Option<Schema> =
            serde_json::from_str(schema).while_doing(DECODER, format!("read the schema {}", shorten(schema)))?;
        let parsed = Arc::new(parsed.unwrap_or_default());
        self.schemas.insert(schema.into(), Arc::clone(&parsed));
        Ok(parsed)
    }
}

fn no_schema() -> Error {
    Error::new(DECODER, "read a record", "it carries no schema")
        .help("set value.converter.schemas.enable and key.converter.schemas.enable to true")
}

/// Decodes a record of a topic of Debezium's own, whose payload is enough.
pub(crate) fn control<T: for<'a> Deserialize<'a>>(value: &[u8]) -> Result<T> {
    let payload = parts(value)?.payload.map_or("null", RawValue::get);
    serde_json::from_str(payload).while_doing(DECODER, format!("read {}", shorten(payload)))
}

/// The transaction's own part of Debezium's `xid:lsn`, whose second half differs between BEGIN, changes and END. MySQL's
/// `server:number` is its own as a whole.
pub(crate) fn transaction_id(id: &str) -> &str {
    match id.split_once(':') {
        Some((xid, _)) if xid.bytes().all(|byte| byte.is_ascii_digit()) => xid,
        _ => id,
    }
}

fn parts(record: &[u8]) -> Result<WithSchema<'_>> {
    serde_json::from_slice(record).while_doing(DECODER, "read a record")
}

fn op(code: &str) -> Option<Op> {
    Some(match code {
        "r" => Op::Read,
        "c" => Op::Insert,
        "u" => Op::Update,
        "d" => Op::Delete,
        "t" => Op::Truncate,
        _ => return None,
    })
}

fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}
