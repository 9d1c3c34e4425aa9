//! Events of the log, put together to transactions.

use std::{borrow::Cow, collections::HashMap, mem, sync::Arc};

use mysql_common::binlog::{
    consts::EventFlags,
    events::{Event, EventData, GtidEvent, RowsEventData, TableMapEvent},
};

use super::{
    SERVICE,
    charset::Collations,
    ddl::Effect,
    mariadb::{self, Rows},
    open::Open,
    row::{Image, Reader},
    seen::Id,
    statements::Statement,
    table::{self, Table},
    told::{Tables, Told, schema_change},
};
use crate::{
    change::{Change, Gtid, Op},
    error::{Context, Error, Result},
    mysql::{Flavour, schema_of},
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

/// The number of a table in an event that says no more than that a statement has ended.
const NO_TABLE: u64 = 0xff_ffff;

/// A transaction in two phases after its first one.
#[derive(Debug)]
pub(super) struct Prepared {
    changes: Vec<Change>,
    /// The shapes that its rows have, as far as they had not been told before.
    shapes: Vec<Told>,
}

/// What is known of the log so far.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) lease: String,
    flavour: Flavour,
    collations: Collations,
    /// The tables of this file of the log by their numbers; none for those of other leases.
    numbered: HashMap<u64, Option<Arc<Table>>>,
    tables: Tables,
    /// The table told of last, if no definition has changed since.
    latest: Option<Arc<Table>>,
    pub(super) open: Option<Open>,
    /// By their names.
    pub(super) prepared: HashMap<String, Prepared>,
}

impl Decoder {
    /// A decoder of a lease's changes; the tables that there are have these shapes.
    pub(super) fn new(
        lease: &str,
        flavour: Flavour,
        collations: Collations,
        shapes: impl IntoIterator<Item = (TableName, Row)>,
    ) -> Self {
        Self {
            lease: lease.to_owned(),
            flavour,
            collations,
            numbered: HashMap::new(),
            tables: Tables::of(shapes),
            latest: None,
            open: None,
            prepared: HashMap::new(),
        }
    }

    /// Forgets what belongs to a connection or a file of the log: the tables' numbers, which a server that was started again counts anew; and a
    /// transaction without its end, which comes again from its beginning, or which the server has given up.
    pub(super) fn begins_anew(&mut self) {
        self.numbered.clear();
        self.drop_changes();
        self.open = None;
    }

    /// Drops what the open transaction has changed so far.
    pub(super) fn drop_changes(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.changes.clear();
        let told_before = mem::take(&mut open.told_before);
        self.take_back(told_before);
    }

    /// Forgets that shapes were told, for what told them was dropped.
    pub(super) fn take_back(&mut self, told_before: Vec<(TableName, Told)>) {
        self.tables.take_back(told_before);
        self.latest = None;
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
            Some(EventData::FormatDescriptionEvent(_)) => {
                self.begins_anew();
                Ok(None)
            }
            Some(EventData::QueryEvent(event)) => self.statement(&Statement::of_query(&event)),
            Some(EventData::ExecuteLoadQueryEvent(event)) => self.statement(&Statement::of_load(&event)),
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
                let commit_time_us = i64::from(header.timestamp()) * 1_000_000;
                let mut open = Open::new(Id::MariaDb(begin.gtid), Some(commit_time_us));
                open.xid = begin.xid;
                (open.is_group, open.is_without_effect) = (!begin.is_single, begin.is_without_effect);
                self.opens(open).map(|()| None)
            }
            mariadb::QUERY_COMPRESSED => {
                let (sql, database) = mariadb::compressed_query(data)?;
                self.statement(&Statement::new(&sql, &database))
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
        self.opens(Open::new(Id::MySql(gtid), commit_time_us))
    }

    fn opens(&mut self, new: Open) -> Result<()> {
        if let Some(open) = &self.open {
            let cause = format!("{} begins within {}, of which a part is missing", new.id, open.id);
            return Err(Error::new(SERVICE, "follow the log", cause).help("begin anew with an initial snapshot"));
        }
        self.open = Some(new);
        Ok(())
    }

    pub(super) fn end(&mut self) -> Option<Transaction> {
        let Open { id, changes, prepared_before, .. } = self.open.take()?;
        Some(Transaction { id, changes, prepared_before })
    }

    /// The first phase of a transaction in two; whether there is only one stands in the first byte.
    fn prepare(&mut self, event: &[u8]) -> Option<Transaction> {
        let open = self.open.as_mut()?;
        let is_whole = event.first().is_some_and(|one_phase| *one_phase != 0);
        if !is_whole && let Some(xid) = open.xid.take() {
            let shapes = open.told_before.iter().filter_map(|(table, _)| self.tables.told(table).cloned()).collect();
            let mut changes = mem::take(&mut open.changes);
            changes.retain(|change| change.op != Op::Schema);
            self.prepared.insert(xid, Prepared { changes, shapes });
            // Who commits first tells them.
            self.drop_changes();
        }
        self.end()
    }

    /// Puts what was prepared into the open transaction, which commits it.
    pub(super) fn put_in(&mut self, Prepared { changes, shapes }: Prepared) {
        shapes.into_iter().for_each(|shape| self.tell_shape(shape));
        changes.into_iter().for_each(|change| self.push(change));
    }

    /// Takes what a statement does to tables.
    pub(super) fn define(&mut self, effect: Effect) {
        self.latest = None;
        if let Effect::Truncates(table) = &effect {
            if let Some(shape) = self.tables.shape(table) {
                self.tell_shape(shape);
            }
            self.push(Change::new(Op::Truncate, table.clone()));
        }
        self.tables.define(effect);
    }

    fn table(&mut self, map: &TableMapEvent<'_>) -> Result<()> {
        let number = map.table_id();
        if self.numbered.contains_key(&number) {
            return Ok(());
        }
        let database = map.database_name();
        let table = match schema_of(&self.lease, &database) {
            None => None,
            Some(schema) => {
                let name = TableName::new(schema, map.table_name());
                let mut table = table::read(map, name, self.flavour, &self.collations)?;
                self.tables.describe(&mut table);
                Some(Arc::new(table))
            }
        };
        self.numbered.insert(number, table);
        Ok(())
    }

    fn rows(&mut self, event: &RowsEventData<'_>) -> Result<()> {
        if let Some(Some(table)) = self.numbered.get(&event.table_id())
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
        let table = match self.numbered.get(table) {
            Some(Some(table)) => Arc::clone(table),
            Some(None) => return Ok(()),
            None if *table == NO_TABLE => return Ok(()),
            None => {
                let cause = format!("it has rows of a table, number {table}, that it has not described");
                return Err(Error::new(SERVICE, "follow the log", cause).help("begin anew with an initial snapshot"));
            }
        };
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
        if bytes.is_empty() {
            let cause = format!("it has rows of {} without any column, so nobody knows how many", table.name);
            return Err(
                Error::new(SERVICE, "follow the log", cause).help("let sessions write by binlog_row_image=FULL")
            );
        }
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
        let Some(open) = &mut self.open else { return };
        if let Some(last) = self.tables.tell(&now) {
            open.told_before.push((now.name.clone(), last.clone()));
            open.push(schema_change(last, now));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::DomainGtid, row};

    fn open(number: u64) -> Open {
        Open::new(Id::MariaDb(DomainGtid { domain: 0, number, server: 1 }), None)
    }

    fn decoder() -> Decoder {
        Decoder::new("cp_1", Flavour::MySql, Collations::default(), [("t".into(), row! { id: "int" })])
    }

    fn tell_wider(decoder: &mut Decoder) {
        decoder.tell_shape(Told { shape: row! { id: "bigint" }, name: "t".into() });
        decoder.push(Change::new(Op::Insert, "t".into()));
    }

    fn ops(transaction: Option<Transaction>) -> Vec<Op> {
        transaction.into_iter().flat_map(|ended| ended.changes).map(|change| change.op).collect()
    }

    #[test]
    fn a_transaction_without_its_end_is_an_error() -> Result<()> {
        let mut decoder = decoder();
        decoder.opens(open(1))?;
        assert!(decoder.opens(open(2)).is_err());
        // A server that was started again has given it up.
        decoder.begins_anew();
        decoder.opens(open(3))
    }

    #[test]
    fn a_shape_told_amid_a_broken_connection_is_told_again() -> Result<()> {
        let mut decoder = decoder();
        decoder.opens(open(1))?;
        tell_wider(&mut decoder);
        decoder.begins_anew();
        decoder.opens(open(1))?;
        tell_wider(&mut decoder);
        assert_eq!(ops(decoder.end()), [Op::Schema, Op::Insert]);
        Ok(())
    }

    #[test]
    fn a_shape_is_told_by_who_commits_first() -> Result<()> {
        for is_overtaken in [false, true] {
            let mut decoder = decoder();
            let mut prepared = open(1);
            prepared.xid = Some("x".to_owned());
            decoder.opens(prepared)?;
            tell_wider(&mut decoder);
            assert_eq!(ops(decoder.prepare(&[0])), []);
            if is_overtaken {
                decoder.opens(open(2))?;
                tell_wider(&mut decoder);
                assert_eq!(ops(decoder.end()), [Op::Schema, Op::Insert]);
            }
            decoder.opens(open(3))?;
            let committed = decoder.statement(&Statement::new("XA COMMIT x", "cp_1"))?;
            let expected = if is_overtaken { vec![Op::Insert] } else { vec![Op::Schema, Op::Insert] };
            assert_eq!(ops(committed), expected);
        }
        Ok(())
    }
}
