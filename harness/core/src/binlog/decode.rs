//! Events of the log, put together to transactions.

use std::{collections::HashMap, mem, sync::Arc};

use mysql_common::binlog::events::{EventData, GtidEvent, QueryEvent, RowsEventData, TableMapEvent};

use super::{
    SERVICE,
    charset::Collations,
    columns,
    ddl::{self, Effect},
    row::Reader,
    table::{self, Table},
};
use crate::{
    change::{Change, Gtid, Op, Position, TxId},
    error::{Error, Result},
    mysql::schema_of,
    schema::TableName,
    value::Row,
};

/// A transaction that was committed, with its changes of the lease's tables; there may be none.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) gtid: Gtid,
    pub(super) changes: Vec<Change>,
}

/// A transaction whose end hasn't come yet.
#[derive(Debug)]
struct Open {
    gtid: Gtid,
    commit_time_us: Option<i64>,
    /// The name of a transaction in two phases.
    xid: Option<String>,
    changes: Vec<Change>,
}

/// What was told last of a table: its columns, and its name.
#[derive(Clone, Debug)]
struct Told {
    shape: Row,
    name: TableName,
}

/// What is known of the log so far.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    lease: String,
    collations: Collations,
    /// The tables of this connection by their numbers; none for those of other leases.
    tables: HashMap<u64, Option<Arc<Table>>>,
    told: HashMap<TableName, Told>,
    /// What statements, and the descriptions of rows since, say of tables: their columns.
    defined: HashMap<TableName, Row>,
    open: Option<Open>,
    /// Transactions in two phases after their first one.
    prepared: HashMap<String, Vec<Change>>,
}

impl Decoder {
    /// A decoder of a lease's changes; the tables that there are have these shapes.
    pub(super) fn new(lease: &str, collations: Collations, shapes: impl IntoIterator<Item = (TableName, Row)>) -> Self {
        let defined: HashMap<_, _> = shapes.into_iter().collect();
        let told =
            |(name, shape): (&TableName, &Row)| (name.clone(), Told { shape: shape.clone(), name: name.clone() });
        let told = defined.iter().map(told).collect();
        Self { lease: lease.to_owned(), collations, told, defined, ..Self::default() }
    }

    /// Forgets what belongs to a connection: its tables' numbers, and a transaction that will come again from its beginning.
    pub(super) fn reconnected(&mut self) {
        self.tables.clear();
        self.open = None;
    }

    /// Takes an event. Returns the transaction that it ends.
    pub(super) fn event(&mut self, event: &EventData<'_>) -> Result<Option<Transaction>> {
        match event {
            EventData::GtidEvent(event) => self.begin(event).map(|()| None),
            EventData::AnonymousGtidEvent(_) => {
                Err(Error::new(SERVICE, "follow the log", "its transactions have no identifiers")
                    .help("set gtid_mode=ON"))
            }
            EventData::QueryEvent(event) => self.query(event),
            EventData::TableMapEvent(map) => self.table(map).map(|()| None),
            EventData::RowsEvent(event) => self.rows(event).map(|()| None),
            EventData::XidEvent(_) => Ok(self.end()),
            EventData::XaPrepareLogEvent(event) => Ok(self.prepare(event)),
            EventData::IncidentEvent(_) => Err(Error::new(
                SERVICE,
                "follow the log",
                "the server says that changes are missing from it (an incident)",
            )
            .help("begin anew with an initial snapshot")),
            _ => Ok(None),
        }
    }

    fn begin(&mut self, event: &GtidEvent) -> Result<()> {
        if event.tag().is_some() {
            return Err(Error::new(
                SERVICE,
                "follow the log",
                "a transaction's identifier has a tag, which isn't known here",
            ));
        }
        let gtid = Gtid { server: u128::from_be_bytes(event.sid()), number: event.gno() };
        let commit_time_us = i64::try_from(event.original_commit_timestamp()).ok().filter(|time| *time > 0);
        self.open = Some(Open { gtid, commit_time_us, xid: None, changes: Vec::new() });
        Ok(())
    }

    fn end(&mut self) -> Option<Transaction> {
        self.open.take().map(|open| Transaction { gtid: open.gtid, changes: open.changes })
    }

    /// The first phase of a transaction in two; whether there is only one stands in the first byte.
    fn prepare(&mut self, event: &[u8]) -> Option<Transaction> {
        let open = self.open.as_mut()?;
        let is_whole = event.first().is_some_and(|one_phase| *one_phase != 0);
        if !is_whole && let Some(xid) = open.xid.take() {
            self.prepared.insert(xid, mem::take(&mut open.changes));
        }
        self.end()
    }

    fn query(&mut self, event: &QueryEvent<'_>) -> Result<Option<Transaction>> {
        let (sql, database) = (event.query(), event.schema());
        let statement = sql.trim();
        let begins_with =
            |words: &str| statement.get(..words.len()).is_some_and(|head| head.eq_ignore_ascii_case(words));
        if begins_with("XA ") {
            return Ok(self.two_phases(statement));
        }
        if statement.eq_ignore_ascii_case("COMMIT") {
            return Ok(self.end());
        }
        if statement.eq_ignore_ascii_case("ROLLBACK") {
            if let Some(open) = &mut self.open {
                open.changes.clear();
            }
            return Ok(self.end());
        }
        if ["BEGIN", "SAVEPOINT ", "ROLLBACK TO "].iter().any(|words| begins_with(words)) {
            return Ok(None);
        }
        let is_of_lease = schema_of(&self.lease, &database).is_some();
        if is_of_lease && ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD"].iter().any(|words| begins_with(words)) {
            let cause = format!("a session has written a statement to it, and no rows: {statement}");
            return Err(
                Error::new(SERVICE, "follow the log", cause).help("let all sessions write by binlog_format=ROW")
            );
        }
        if let Some(effect) = ddl::effect(statement, &self.lease, &database) {
            self.define(effect);
        }
        // A table that is made with its rows comes as a transaction of which this is the first statement.
        Ok(if statement.ends_with("START TRANSACTION") { None } else { self.end() })
    }

    /// `XA START`, `XA END`, `XA COMMIT` and `XA ROLLBACK`, each with the transaction's name.
    fn two_phases(&mut self, statement: &str) -> Option<Transaction> {
        let (verb, xid) = statement[3..].split_once(' ')?;
        let open = self.open.as_mut()?;
        match verb {
            "START" => {
                open.xid = Some(xid.to_owned());
                None
            }
            "COMMIT" => {
                open.changes = self.prepared.remove(xid).unwrap_or_default();
                let (gtid, time) = (open.gtid, open.commit_time_us);
                for change in &mut open.changes {
                    stamp(change, gtid, time);
                }
                self.end()
            }
            "ROLLBACK" => {
                self.prepared.remove(xid);
                self.end()
            }
            _ => None,
        }
    }

    fn define(&mut self, effect: Effect) {
        match effect {
            Effect::Truncates(table) => {
                if let Some(shape) = self.defined.get(&table) {
                    self.tell_shape(Told { shape: shape.clone(), name: table.clone() });
                }
                self.push(Change::new(Op::Truncate, table));
            }
            Effect::Renames(renames) => renames.into_iter().for_each(|(from, to)| self.rename(&from, to)),
            Effect::Alters { table, to, changes } => {
                let columns = self.defined.remove(&table).and_then(|columns| columns::altered(&columns, &changes));
                self.defined.extend(columns.map(|columns| (table.clone(), columns)));
                if let Some(to) = to {
                    self.rename(&table, to);
                }
            }
            Effect::Creates { table, definition } => {
                self.forget(&table);
                self.defined.extend(columns::created(&definition).map(|columns| (table, columns)));
            }
            Effect::Drops(tables) => tables.iter().for_each(|table| self.forget(table)),
        }
    }

    fn rename(&mut self, from: &TableName, to: TableName) {
        if let Some(columns) = self.defined.remove(from) {
            self.defined.insert(to.clone(), columns);
        }
        if let Some(told) = self.told.remove(from) {
            self.told.insert(to, told);
        }
    }

    fn forget(&mut self, table: &TableName) {
        self.told.remove(table);
        self.defined.remove(table);
    }

    fn table(&mut self, map: &TableMapEvent<'_>) -> Result<()> {
        let number = map.table_id();
        if self.tables.contains_key(&number) {
            return Ok(());
        }
        let database = map.database_name();
        let table = match schema_of(&self.lease, &database) {
            None => None,
            Some(schema) => {
                let name = TableName::new(schema, map.table_name());
                let table = table::read(map, name, &self.collations)?;
                self.defined.insert(table.name.clone(), table.shape());
                Some(Arc::new(table))
            }
        };
        self.tables.insert(number, table);
        Ok(())
    }

    fn rows(&mut self, event: &RowsEventData<'_>) -> Result<()> {
        let Some(Some(table)) = self.tables.get(&event.table_id()) else { return Ok(()) };
        let table = Arc::clone(table);
        if matches!(event, RowsEventData::PartialUpdateRowsEvent(_)) {
            let cause = format!("it holds parts of the documents of {} only", table.name);
            return Err(Error::new(SERVICE, "follow the log", cause).help("unset binlog_row_value_options"));
        }
        self.tell_shape(Told { shape: table.shape(), name: table.name.clone() });
        let before = event.columns_before_image().map(|columns| columns.iter().by_vals().collect::<Vec<_>>());
        let after = event.columns_after_image().map(|columns| columns.iter().by_vals().collect::<Vec<_>>());
        let op = match (&before, &after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        };
        let mut rows = Reader::new(event.rows_data(), &table);
        while rows.has_more() {
            let before = before.as_ref().map(|present| rows.image(present)).transpose()?;
            let after = after.as_ref().map(|present| rows.image(present)).transpose()?;
            let key = key_of(&table, before.as_ref(), after.as_ref());
            self.push(Change { key, before, after, ..Change::new(op, table.name.clone()) });
        }
        Ok(())
    }

    /// Tells that a table has another shape than it had when it was told of last.
    fn tell_shape(&mut self, now: Told) {
        let Some(last) = self.told.insert(now.name.clone(), now.clone()) else { return };
        if last.shape != now.shape || last.name != now.name {
            self.push(Change {
                before: Some(last.shape),
                after: Some(now.shape),
                renamed_from: Some(last.name).filter(|name| *name != now.name),
                ..Change::new(Op::Schema, now.name)
            });
        }
    }

    fn push(&mut self, mut change: Change) {
        if let Some(open) = &mut self.open {
            stamp(&mut change, open.gtid, open.commit_time_us);
            open.changes.push(change);
        }
    }
}

fn stamp(change: &mut Change, gtid: Gtid, commit_time_us: Option<i64>) {
    change.position = Some(Position::Gtid(gtid));
    change.tx = Some(TxId(gtid.to_string()));
    change.commit_time_us = commit_time_us;
}

/// The key as the change leaves it. An image need not have all columns of the key that stayed the same.
fn key_of(table: &Table, before: Option<&Row>, after: Option<&Row>) -> Row {
    let value = |at: &usize| {
        let column = &table.columns.get(*at)?.name;
        let value = after.and_then(|row| row.get(column)).or_else(|| before?.get(column))?;
        Some((Arc::clone(column), value.clone()))
    };
    table.key.iter().filter_map(value).collect()
}
