//! What the sink's tables hold, as a stream: whenever a fence has come by, all of each table that holds something else than before.

use std::{
    collections::{BTreeMap, VecDeque},
    iter::once,
};

use changeproof::{
    Change, Op, Row, Value,
    change::Position,
    error::Result,
    logical::Known,
    postgres::{Address, PUBLICATION},
    schema::{TableName, Type},
    source::HARNESS_SCHEMA,
    value::sort_by_key,
};
use changeproof_iceberg::{Warehouse, ident, key_columns, name_of};
use futures_util::TryStreamExt;
use iceberg::table::Table;

use crate::{changelog, layout::Layout, sink::shape_of, values::as_in_source};

/// What is taken for the rows of a source's table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// Those that the sink's table holds, in the layout of its pipeline.
    Of(Layout),
    /// All that was appended, as somebody sees it who doesn't know that it is a changelog.
    Appended,
}

impl Reading {
    /// The columns of the key, and the rows.
    async fn rows(self, table: &Table) -> Result<(Vec<String>, Vec<Row>)> {
        match self {
            Self::Of(Layout::Changelog) => changelog::current_state(table).await,
            Self::Of(layout) => {
                let rows: Vec<Vec<Row>> = layout.rows(table).try_collect().await?;
                Ok((key_columns(table), rows.into_iter().flatten().collect()))
            }
            Self::Appended => changelog::all_rows(table).await,
        }
    }
}

/// The tables of a sink, and what was told of them.
pub(crate) struct Contents {
    warehouse: Warehouse,
    reading: Reading,
    /// Where to ask for the types of columns, if the sink's tables don't tell those that the source has.
    source: Option<Address>,
    /// What was told of each table, by its UUID in the sink.
    told: BTreeMap<String, Told>,
    /// How often something has been told.
    looks: u64,
    fence: i128,
    ready: VecDeque<Change>,
}

#[derive(Clone, Debug, PartialEq)]
struct Told {
    name: TableName,
    key: Vec<String>,
    rows: Vec<Row>,
}

/// The types of a table's columns at the source.
type Types = BTreeMap<String, Type>;

async fn types_at(source: &Address) -> Result<BTreeMap<TableName, Types>> {
    let known = Known::all_published(&source.connect().await?, PUBLICATION).await?;
    let types =
        |known: &Known| known.columns.iter().map(|column| (column.name.to_string(), column.ty.clone())).collect();
    Ok(known.values().map(|known| (known.name.clone(), types(known))).collect())
}

impl Contents {
    /// Tables that tell the types that their columns have at the source.
    pub(crate) fn of(warehouse: Warehouse) -> Self {
        let reading = Reading::Of(Layout::Rows);
        Self { warehouse, reading, source: None, told: BTreeMap::new(), looks: 0, fence: 0, ready: VecDeque::new() }
    }

    /// Tables that somebody else makes of a source's, in a way of its own.
    pub(crate) fn made_of(source: Address, warehouse: Warehouse, reading: Reading) -> Self {
        Self { reading, source: Some(source), ..Self::of(warehouse) }
    }

    /// Takes what the tables hold now for what they held at the beginning, and tells it as reads if that is asked for.
    pub(crate) async fn begin(&mut self, tells: bool) -> Result<()> {
        self.told = self.now().await?;
        if tells {
            let reads = self.told.values().flat_map(|told| told.rows_as(Op::Read));
            self.ready.extend(reads);
        }
        Ok(())
    }

    /// The next change that is to be told, if there is one.
    pub(crate) fn pop(&mut self) -> Option<Change> {
        self.ready.pop_front()
    }

    /// The number of the last fence that has come by.
    pub(crate) fn fence(&self) -> i128 {
        self.fence
    }

    /// What the sink holds, without the harness's own tables.
    async fn now(&self) -> Result<BTreeMap<String, Told>> {
        let mut types = match &self.source {
            Some(source) => types_at(source).await?,
            None => BTreeMap::new(),
        };
        let mut contents = BTreeMap::new();
        for ident in self.warehouse.tables().await? {
            let name = name_of(&ident);
            if name.schema() != HARNESS_SCHEMA {
                let table = self.warehouse.table(&ident).await?;
                let types = match types.remove(&name) {
                    Some(types) => types,
                    None => shape_of(&table, &name)?,
                };
                let told = Told::of(name, &table, &types, self.reading).await?;
                contents.insert(table.metadata().uuid().to_string(), told);
            }
        }
        Ok(contents)
    }

    /// Looks whether a fence has come by; then everything that was committed before it is in the sink. Returns whether one has.
    pub(crate) async fn look(&mut self) -> Result<bool> {
        let fence = ident(&TableName::new(HARNESS_SCHEMA, "fence"));
        if !self.warehouse.tables().await?.contains(&fence) {
            return Ok(false);
        }
        let (_, fences) = self.reading.rows(&self.warehouse.table(&fence).await?).await?;
        let number = |row: &Row| match row.get("id") {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        match fences.iter().filter_map(number).max().filter(|number| *number > self.fence) {
            Some(last) => self.tell(last).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Tells what has changed in the sink, which is known to hold all that was committed before a fence.
    pub(crate) async fn tell(&mut self, fence: i128) -> Result<()> {
        let now = self.now().await?;
        let news = news(&self.told, &now);
        self.looks += 1;
        let position = Some(Position::Look(self.looks));
        self.ready.extend(news.into_iter().map(|change| Change { position, ..change }));
        let key: Row = [("id", Value::Int(fence))].into_iter().collect();
        self.ready.push_back(Change {
            key: key.clone(),
            after: Some(key),
            ..Change::new(Op::Insert, TableName::new(HARNESS_SCHEMA, "fence"))
        });
        (self.told, self.fence) = (now, fence);
        Ok(())
    }
}

/// What is to be told after what was told, both by the UUIDs of tables: that none of the rows are left that were in a table which is gone,
/// and all of each table that holds something else.
fn news(told: &BTreeMap<String, Told>, now: &BTreeMap<String, Told>) -> Vec<Change> {
    let is_gone = |(uuid, told): &(&String, &Told)| !told.rows.is_empty() && !now.contains_key(*uuid);
    let is_changed =
        |(uuid, now): &(&String, &Told)| told.get(*uuid).map_or(!now.rows.is_empty(), |told| told.rows != now.rows);
    let mut gone: Vec<&Told> = told.iter().filter(is_gone).map(|(_, told)| told).collect();
    let mut changed: Vec<&Told> = now.iter().filter(is_changed).map(|(_, now)| now).collect();
    gone.sort_by(|a, b| a.name.cmp(&b.name));
    changed.sort_by(|a, b| a.name.cmp(&b.name));
    let emptied = |table: &Told| Change::new(Op::Truncate, table.name.clone());
    let refilled = changed.into_iter().flat_map(|table| once(emptied(table)).chain(table.rows_as(Op::Insert)));
    gone.into_iter().map(emptied).chain(refilled).collect()
}

impl Told {
    async fn of(name: TableName, table: &Table, types: &Types, reading: Reading) -> Result<Self> {
        let ty = |column: &str| types.get(column).map_or(Type::Text, Clone::clone);
        let (key, rows) = reading.rows(table).await?;
        let as_in_source = |row: Row| {
            row.iter().map(|(column, value)| (column.to_owned(), as_in_source(value.clone(), &ty(column)))).collect()
        };
        let mut rows: Vec<Row> = rows.into_iter().map(as_in_source).collect();
        sort_by_key(&mut rows, &key);
        Ok(Self { name, key, rows })
    }

    fn rows_as(&self, op: Op) -> impl Iterator<Item = Change> + '_ {
        self.rows.iter().map(move |row| Change {
            key: row.project(self.key.iter().map(String::as_str)),
            after: Some(row.clone()),
            ..Change::new(op, self.name.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use changeproof::row;

    use super::*;

    fn told(uuid: &str, name: &str, rows: Vec<Row>) -> (String, Told) {
        (uuid.to_owned(), Told { name: name.into(), key: vec!["id".to_owned()], rows })
    }

    #[test]
    fn the_rows_of_a_table_that_is_gone_are_told_to_be_gone() {
        let before = [
            told("1", "orders", vec![row! { id: 1 }]),
            told("2", "carts", Vec::new()),
            told("3", "visits", vec![row! { id: 3 }]),
        ];
        // Another table has the name by now.
        let now = [told("4", "visits", vec![row! { id: 4 }])];
        let news = news(&before.into(), &now.into());
        let news: Vec<_> = news.iter().map(|change| (change.op, change.table.name(), change.after.clone())).collect();
        let expected = [
            (Op::Truncate, "orders", None),
            (Op::Truncate, "visits", None),
            (Op::Truncate, "visits", None),
            (Op::Insert, "visits", Some(row! { id: 4 })),
        ];
        assert_eq!(news, expected);
    }

    #[test]
    fn what_holds_the_same_is_no_news() {
        let before = [told("1", "orders", vec![row! { id: 1 }])];
        // Under another name only.
        let now = [told("1", "purchases", vec![row! { id: 1 }]), told("2", "carts", Vec::new())];
        assert!(news(&before.into(), &now.into()).is_empty());
    }
}
