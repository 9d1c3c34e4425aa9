//! Events of the log, put together to transactions.

use std::{borrow::Cow, collections::HashMap, mem, sync::Arc};

use mysql_common::binlog::{
    consts::EventFlags,
    events::{Event, EventData, GtidEvent, RowsEventData, TableMapEvent},
};

use super::{
    SERVICE,
    charset::Collations,
    columns,
    ddl::{self, Effect},
    mariadb::{self, Rows},
    row::{Image, Reader},
    seen::Id,
    table::{self, Table},
};
use crate::{
    change::{Change, Gtid, Op, TxId},
    error::{Context, Error, Result},
    mysql::schema_of,
    schema::TableName,
    value::{Columns, Row},
};

/// MySQL's `HEARTBEAT_LOG_EVENT_V2`, which the library doesn't know: that nothing is to be told.
const HEARTBEAT: u8 = 41;

/// A transaction that was committed, with its changes of the lease's tables; there may be none.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: Id,
    pub(super) changes: Vec<Change>,
    /// Its name, if it was prepared in log that this decoder has not seen: its changes stand there.
    pub(super) prepared_before: Option<String>,
}

/// A transaction whose end hasn't come yet.
#[derive(Debug)]
struct Open {
    id: Id,
    tx: TxId,
    commit_time_us: Option<i64>,
    /// The name of a transaction in two phases.
    xid: Option<String>,
    changes: Vec<Change>,
    /// Whether statements don't end it, as one that changes a definition does otherwise.
    is_group: bool,
    /// Whether its statement only begins to change a definition, or gave up.
    is_without_effect: bool,
    prepared_before: Option<String>,
}

impl Open {
    fn new(id: Id, commit_time_us: Option<i64>) -> Self {
        let (xid, prepared_before) = (None, None);
        let (is_group, is_without_effect) = (false, false);
        let (tx, changes) = (TxId::new(id.to_string()), Vec::new());
        Self { id, tx, commit_time_us, xid, changes, is_group, is_without_effect, prepared_before }
    }

    fn push(&mut self, mut change: Change) {
        self.stamp(&mut change);
        self.changes.push(change);
    }

    /// Tells of a change that it belongs to this transaction.
    fn stamp(&self, change: &mut Change) {
        change.position = Some(self.id.position());
        change.tx = Some(self.tx.clone());
        change.commit_time_us = self.commit_time_us;
    }
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
    /// The table told of last, if no definition has changed since.
    latest: Option<Arc<Table>>,
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
    pub(super) fn event(&mut self, event: &Event) -> Result<Option<Transaction>> {
        let data = event.read_data().while_doing(SERVICE, "read an event of the log")?;
        match data {
            None => self.event_of_mariadb(event),
            Some(EventData::GtidEvent(event)) => self.begin(&event).map(|()| None),
            Some(EventData::AnonymousGtidEvent(_)) => {
                Err(Error::new(SERVICE, "follow the log", "its transactions have no identifiers")
                    .help("set gtid_mode=ON"))
            }
            Some(EventData::QueryEvent(event)) => self.query(&event.query(), &event.schema()),
            Some(EventData::TableMapEvent(map)) => self.table(&map).map(|()| None),
            Some(EventData::RowsEvent(event)) => self.rows(&event).map(|()| None),
            Some(EventData::XidEvent(_)) => Ok(self.end()),
            Some(EventData::XaPrepareLogEvent(event)) => Ok(self.prepare(&event)),
            Some(EventData::IncidentEvent(_)) => Err(Error::new(
                SERVICE,
                "follow the log",
                "the server says that changes are missing from it (an incident)",
            )
            .help("begin anew with an initial snapshot")),
            Some(_) => Ok(None),
        }
    }

    /// Takes an event that the library doesn't know.
    fn event_of_mariadb(&mut self, event: &Event) -> Result<Option<Transaction>> {
        let (header, data) = (event.header(), event.data());
        match header.event_type_raw() {
            mariadb::GTID => {
                let begin = mariadb::begin(data, header.server_id())?;
                self.open = Some(Open {
                    xid: begin.xid,
                    is_group: !begin.is_single,
                    is_without_effect: begin.is_without_effect,
                    ..Open::new(Id::MariaDb(begin.gtid), Some(i64::from(header.timestamp()) * 1_000_000))
                });
                Ok(None)
            }
            mariadb::QUERY_COMPRESSED => {
                let (sql, database) = mariadb::compressed_query(data)?;
                self.query(&sql, &database)
            }
            kind @ (mariadb::WRITE_ROWS_COMPRESSED
            | mariadb::UPDATE_ROWS_COMPRESSED
            | mariadb::DELETE_ROWS_COMPRESSED) => self.rows_of(&mariadb::compressed_rows(data, kind)?).map(|()| None),
            mariadb::ANNOTATE_ROWS
            | mariadb::BINLOG_CHECKPOINT
            | mariadb::GTID_LIST
            | mariadb::START_ENCRYPTION
            | HEARTBEAT => Ok(None),
            _ if header.flags().contains(EventFlags::LOG_EVENT_IGNORABLE_F) => Ok(None),
            unknown => Err(Error::new(
                SERVICE,
                "follow the log",
                format!("it has an event of type {unknown}, which isn't known here"),
            )),
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
        self.open = Some(Open::new(Id::MySql(gtid), commit_time_us));
        Ok(())
    }

    fn end(&mut self) -> Option<Transaction> {
        let Open { id, changes, prepared_before, .. } = self.open.take()?;
        Some(Transaction { id, changes, prepared_before })
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

    /// A statement; names in it without a database belong to this one.
    fn query(&mut self, sql: &str, database: &str) -> Result<Option<Transaction>> {
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
        let is_of_lease = schema_of(&self.lease, database).is_some();
        if is_of_lease && ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD"].iter().any(|words| begins_with(words)) {
            let cause = format!("a session has written a statement to it, and no rows: {statement}");
            return Err(
                Error::new(SERVICE, "follow the log", cause).help("let all sessions write by binlog_format=ROW")
            );
        }
        let is_without_effect = self.open.as_ref().is_some_and(|open| open.is_without_effect);
        if let Some(effect) = ddl::effect(statement, &self.lease, database).filter(|_| !is_without_effect) {
            self.define(effect);
        }
        // A table that is made with its rows comes as a transaction of which this is the first statement.
        let goes_on = statement.ends_with("START TRANSACTION") || self.open.as_ref().is_some_and(|open| open.is_group);
        Ok(if goes_on { None } else { self.end() })
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
                match self.prepared.remove(xid) {
                    Some(mut changes) => {
                        changes.iter_mut().for_each(|change| open.stamp(change));
                        open.changes = changes;
                    }
                    None => open.prepared_before = Some(xid.to_owned()),
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
        self.latest = None;
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
                let mut table = table::read(map, name, &self.collations)?;
                if let Some(known) = self.defined.get(&table.name) {
                    table.complete(known);
                }
                self.defined.insert(table.name.clone(), table.shape());
                Some(Arc::new(table))
            }
        };
        self.tables.insert(number, table);
        Ok(())
    }

    fn rows(&mut self, event: &RowsEventData<'_>) -> Result<()> {
        if let Some(Some(table)) = self.tables.get(&event.table_id())
            && matches!(event, RowsEventData::PartialUpdateRowsEvent(_))
        {
            let cause = format!("it holds parts of the documents of {} only", table.name);
            return Err(Error::new(SERVICE, "follow the log", cause).help("unset binlog_row_value_options"));
        }
        self.rows_of(&Rows {
            table: event.table_id(),
            before: event.columns_before_image().map(|columns| columns.iter().by_vals().collect()),
            after: event.columns_after_image().map(|columns| columns.iter().by_vals().collect()),
            bytes: Cow::Borrowed(event.rows_data()),
        })
    }

    fn rows_of(&mut self, Rows { table, before, after, bytes }: &Rows<'_>) -> Result<()> {
        let Some(Some(table)) = self.tables.get(table) else { return Ok(()) };
        let table = Arc::clone(table);
        if !self.latest.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, &table)) {
            self.tell_shape(Told { shape: table.shape(), name: table.name.clone() });
            self.latest = Some(Arc::clone(&table));
        }
        let Some(open) = &mut self.open else {
            let cause = format!("it has rows of {} that belong to no transaction with an identifier", table.name);
            return Err(Error::new(SERVICE, "follow the log", cause).help("begin anew with an initial snapshot"));
        };
        let op = match (before, after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        };
        let before = before.as_ref().map(|present| Image::new(&table, present));
        let after = after.as_ref().map(|present| Image::new(&table, present));
        let key = Key::new(&table, before.as_ref(), after.as_ref());
        let mut rows = Reader::new(bytes, &table);
        while rows.has_more() {
            let before = before.as_ref().map(|image| rows.image(image)).transpose()?;
            let after = after.as_ref().map(|image| rows.image(image)).transpose()?;
            let key = key.of(before.as_ref(), after.as_ref());
            if open.changes.len() == open.changes.capacity() {
                open.changes.reserve(1 + rows.length_bytes() / (bytes.len() - rows.length_bytes()));
            }
            open.push(Change { key, before, after, ..Change::new(op, table.name.clone()) });
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

    fn push(&mut self, change: Change) {
        if let Some(open) = &mut self.open {
            open.push(change);
        }
    }
}

/// Where the images of an event have the key as the change leaves it. One need not have all columns of the key that stayed the same.
struct Key {
    columns: Columns,
    before: Vec<Option<usize>>,
    after: Vec<Option<usize>>,
}

impl Key {
    fn new(table: &Table, before: Option<&Image>, after: Option<&Image>) -> Self {
        let find = |image: Option<&Image>, place| image.and_then(|image| image.find(place));
        let has = |place: &&usize| find(before, **place).or_else(|| find(after, **place)).is_some();
        let places: Vec<_> = table.key.iter().filter(has).copied().collect();
        Self {
            columns: table.names(&places),
            before: places.iter().map(|place| find(before, *place)).collect(),
            after: places.iter().map(|place| find(after, *place)).collect(),
        }
    }

    fn of(&self, before: Option<&Row>, after: Option<&Row>) -> Row {
        let at = |row: Option<&Row>, place: Option<usize>| row?.at(place?).cloned();
        let places = self.after.iter().zip(&self.before);
        Row::of(&self.columns, places.filter_map(|(new, old)| at(after, *new).or_else(|| at(before, *old))).collect())
    }
}
