//! A connector that polls a slot of test_decoding, the output plugin that every PostgreSQL has, by SQL alone.

mod text;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changeproof::{
    Change, Op, Value,
    capture::{Capture, Options, Subject, Subscription},
    change::{Position, TxId},
    error::{Context, Error, Result},
    guarantees::{Guarantees, SchemaChanges, Values},
    postgres::{self, TableShape},
    schema::TableName,
    stack::{Endpoint, Service},
};

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVICE: &str = "slot polling";

/// The method.
pub struct SlotPolling;

#[async_trait]
impl Capture for SlotPolling {
    fn name(&self) -> &'static str {
        "slot_polling"
    }

    fn summary(&self) -> &'static str {
        "log-based: pg_logical_slot_peek_changes of test_decoding, then pg_replication_slot_advance"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres]
    }

    fn guarantees(&self, _options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: false,
            schema_changes: SchemaChanges::NextRow,
            values: Values::AS_STORED,
            ..Guarantees::default()
        }
    }

    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, _options: &Options) -> Result<Box<dyn Subscription>> {
        let (endpoint, database) = (subject.stack.endpoint(Service::Postgres)?.clone(), subject.database.to_owned());
        let client = postgres::connect_to_capture(&endpoint, &database).await?;
        let create = "SELECT pg_create_logical_replication_slot($1, 'test_decoding')";
        client.execute(create, &[&subject.name]).await.while_doing(SERVICE, "create the slot")?;
        let tables = postgres::shapes(&client).await?.into_iter().collect();
        let (slot, ready) = (subject.name.to_owned(), VecDeque::new());
        Ok(Box::new(Polling { endpoint, database, client, slot, tables, ready, read_to: None }))
    }

    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(()) // The slot goes with its database.
    }
}

struct Polling {
    endpoint: Endpoint,
    database: String,
    client: postgres::Client,
    slot: String,
    /// What the text doesn't tell: keys, and which old values the log holds. By every name that a table has had.
    tables: HashMap<TableName, TableShape>,
    ready: VecDeque<Change>,
    /// The end of the last transaction that is in `ready`, as the server prints it.
    read_to: Option<String>,
}

impl Polling {
    async fn look(&mut self) -> Result<()> {
        if let Some(read_to) = &self.read_to {
            let advance = "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)";
            self.client.execute(advance, &[&self.slot, read_to]).await.while_doing(SERVICE, "confirm what it read")?;
            self.read_to = None;
        }
        let peek = "SELECT lsn::text, xid::text, data FROM pg_logical_slot_peek_changes($1, NULL, NULL)";
        let rows = self.client.query(peek, &[&self.slot]).await.while_doing(SERVICE, "look at the slot")?;
        self.tables.extend(postgres::shapes(&self.client).await?);
        for row in rows {
            let (lsn, xid, data): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let position = Position::Lsn(lsn.parse().while_doing(SERVICE, "read a position")?);
            let changes = match data.strip_prefix("table ") {
                Some(text) => text::changes(text).ok_or_else(|| Error::new(SERVICE, "read a line", &data))?,
                None => Vec::new(),
            };
            for change in changes {
                let (position, tx) = (Some(position), Some(TxId::new(xid.as_str())));
                self.ready.push_back(Change { position, tx, ..self.complete(change) });
            }
            self.read_to = data.starts_with("COMMIT").then_some(lsn).or(self.read_to.take());
        }
        Ok(())
    }

    /// Looks on a new connection, after one broke: a server that is started again takes a while. A look that fails has taken nothing.
    async fn look_again(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let looked = match postgres::connect_to_capture(&self.endpoint, &self.database).await {
                Ok(client) => {
                    self.client = client;
                    self.look().await
                }
                Err(error) => Err(error),
            };
            if looked.is_ok() || Instant::now() >= until {
                return looked;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Gives a change its key, and old rows the columns that test_decoding leaves out because they are NULL.
    fn complete(&self, mut change: Change) -> Change {
        let Some(table) = self.tables.get(&change.table) else { return change };
        for row in [&mut change.before, &mut change.after].into_iter().flatten() {
            // The text has domains by their own names.
            for column in &table.columns {
                if let Some(Value::Text(text)) = row.get(&column.name) {
                    let value = Value::from_text(text, &column.ty);
                    row.set(&column.name, value);
                }
            }
        }
        if let Some(before) = &mut change.before {
            let missing: Vec<_> = table.identity.iter().filter(|column| before.get(column).is_none()).collect();
            missing.into_iter().for_each(|column| before.set(column, Value::Null));
        }
        let row = change.after.as_ref().or(change.before.as_ref()).filter(|_| change.op != Op::Truncate);
        let is_by_index = table.key.is_empty() && table.identity.len() < table.columns.len();
        let key = if is_by_index { &table.identity } else { &table.key };
        change.key = row.map(|row| row.project(key.iter().map(String::as_str))).unwrap_or_default();
        change
    }
}

#[async_trait]
impl Subscription for Polling {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if self.look().await.is_err() {
                self.look_again().await?;
            }
            if self.ready.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn waiting_for(&self) -> String {
        format!("it polls the slot {}", self.slot)
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(()) // Nothing runs between two looks.
    }

    async fn resume(&mut self) -> Result<()> {
        Ok(())
    }
}
