//! Tables as the log tells them, with what only the catalogue knows: the types' names, and a primary key that isn't the
//! replica identity.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::Client;

use super::pgoutput::{Column, Datum, Old, Relation, Tuple};
use crate::{
    change::{Change, Op},
    error::{Context, Result},
    postgres::{self, ColumnShape, Published, type_named},
    schema::{TableName, Type},
    value::{Row, Value},
};

const SERVICE: &str = "PostgreSQL";

/// A table by the log's last word on it.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: TableName,
    /// The columns that the log tells of it, in their order.
    pub columns: Vec<KnownColumn>,
    /// The columns of its key, in their order; none if it has no key.
    pub key: Vec<Arc<str>>,
    /// The number of the file that its rows were in when the catalogue was asked ([`postgres::file_of`]): another one once all of
    /// them have been rewritten.
    pub filenode: u32,
    row_key: Vec<Arc<str>>,
}

/// A column by the log's last word on it.
#[derive(Debug)]
pub struct KnownColumn {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Type,
    /// Its number in the catalogue, which a rename doesn't change and which is never used again; none if the catalogue had
    /// forgotten the name when it was asked.
    pub number: Option<i16>,
    /// Whether rows that were there before the column have a value in it that no change in the log has told
    /// (`pg_attribute.atthasmissing`).
    pub fills_old_rows: bool,
    /// Whether the log holds its value of before a change (the replica identity).
    pub is_identity: bool,
}

impl KnownColumn {
    fn of(shape: ColumnShape, is_identity: bool) -> Self {
        let (number, fills_old_rows) = (Some(shape.number), false);
        Self { name: shape.name.into(), ty: shape.ty, number, fills_old_rows, is_identity }
    }
}

const TYPES: &str = "\
    SELECT CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) \
        WHEN 'c' THEN 'composite' || E'\\x1f' || format_type(c.oid, NULL) ELSE format_type(c.oid, c.modifier) END \
    FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS c (oid, modifier, number) \
    LEFT JOIN pg_type t ON t.oid = c.oid ORDER BY c.number";

/// Rows of before a column are in the partitions, if the table has any.
fn numbers() -> String {
    format!(
        "SELECT attname::text, attnum, EXISTS ({} SELECT FROM part JOIN pg_attribute p ON p.attrelid = part.oid \
            WHERE p.attname = a.attname AND p.atthasmissing), {} \
        FROM pg_attribute a WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
        postgres::with_parts("a.attrelid"),
        postgres::file_of("a.attrelid")
    )
}

const KEY: &str = "\
    SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, number) \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    WHERE i.indrelid = $1 AND i.indisprimary ORDER BY k.number";

impl Known {
    /// A table of these columns.
    pub fn new(name: TableName, columns: Vec<KnownColumn>, key: Vec<Arc<str>>, filenode: u32) -> Self {
        let is_identity = |column: &KnownColumn| column.is_identity;
        let has_part = columns.iter().any(is_identity) && !columns.iter().all(is_identity);
        let is_part = |column: &&KnownColumn| if has_part { column.is_identity } else { key.contains(&column.name) };
        let row_key = columns.iter().filter(is_part).map(|column| Arc::clone(&column.name)).collect();
        Self { name, columns, key, filenode, row_key }
    }

    /// A table as the log tells it. Its types and its key are looked up as they are now: the log has only numbers for the
    /// ones, and the other only where it is the replica identity.
    pub(super) async fn look_up(client: &Client, relation: &Relation) -> Result<Self> {
        let doing = || format!("look up the types of {}", relation.name);
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        let modifiers: Vec<i32> = relation.columns.iter().map(|column| column.type_modifier).collect();
        let types = client.query(TYPES, &[&oids, &modifiers]).await.while_doing(SERVICE, doing())?;
        let types = types.iter().map(|row| type_named(row.get::<_, Option<&str>>(0).unwrap_or_default()));
        let numbers = client.query(&numbers(), &[&relation.oid]).await.while_doing(SERVICE, doing())?;
        let filenode = numbers.first().and_then(|row| row.get(3)).unwrap_or(0);
        let numbers: HashMap<String, (i16, bool)> =
            numbers.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let column = |(column, ty): (&Column, Type)| {
            let found = numbers.get(&column.name);
            let (number, fills_old_rows) = (found.map(|found| found.0), found.is_some_and(|found| found.1));
            let name = column.name.as_str().into();
            KnownColumn { name, ty, number, fills_old_rows, is_identity: column.is_identity }
        };
        let columns: Vec<_> = relation.columns.iter().zip(types).map(column).collect();
        let identity =
            || columns.iter().filter(|column| column.is_identity).map(|column| column.name.clone()).collect();
        let key = if relation.identity == b'd' {
            identity()
        } else {
            let key = client.query(KEY, &[&relation.oid]).await.while_doing(SERVICE, doing())?;
            let key: Vec<Arc<str>> = key.iter().map(|row| row.get::<_, &str>(0).into()).collect();
            let is_there = |name: &Arc<str>| columns.iter().any(|column| column.name == *name);
            match key.iter().all(is_there) {
                true if key.is_empty() && relation.identity == b'i' => identity(),
                true => key,
                false => Vec::new(),
            }
        };
        Ok(Self::new(TableName::new(&relation.schema, &relation.name), columns, key, filenode))
    }

    /// The tables as they are published now, by their object identifiers: against these the first changes are told.
    ///
    /// # Errors
    /// The catalogue can't be read, or has no shape of one of them.
    pub async fn all_published(client: &Client, publication: &str) -> Result<HashMap<u32, Arc<Self>>> {
        let published = postgres::published(client, publication).await?.into_iter();
        let known = published.map(|Published { name, shape, filenode }| {
            let is_identity = |column: &ColumnShape| shape.identity.contains(&column.name);
            let columns = shape.columns.into_iter().map(|column| (is_identity(&column), column));
            let columns = columns.map(|(is_identity, column)| KnownColumn::of(column, is_identity)).collect();
            let key = shape.key.into_iter().map(Into::into).collect();
            (shape.oid, Arc::new(Self::new(name, columns, key, filenode)))
        });
        Ok(known.collect())
    }

    /// The columns by which the log names a row before a change of it, in the table's order: those of the replica identity, or of the
    /// key if the identity is the whole row.
    pub fn row_key(&self) -> &[Arc<str>] {
        &self.row_key
    }

    /// The change of the table's definition since it looked like `before`, if there is any that can be seen in the log.
    pub(super) fn change_since(&self, before: &Self) -> Option<Change> {
        let types = |known: &Self| -> Row {
            known.columns.iter().map(|column| (column.name.clone(), Value::Text(column.ty.to_string()))).collect()
        };
        let (was, is) = (types(before), types(self));
        let renamed_from = Some(&before.name).filter(|name| **name != self.name).cloned();
        (was != is || renamed_from.is_some()).then(|| Change {
            before: Some(was),
            after: Some(is),
            renamed_from,
            ..Change::new(Op::Schema, self.name.clone())
        })
    }

    pub(super) fn insert(&self, new: Tuple) -> Change {
        let after = self.row(new, None);
        Change { key: self.key_of(&after), after: Some(after), ..Change::new(Op::Insert, self.name.clone()) }
    }

    pub(super) fn update(&self, old: Option<Old>, new: Tuple) -> Change {
        let whole = match &old {
            Some(Old::Whole(tuple)) => Some(tuple.clone()),
            _ => None,
        };
        let after = self.row(new, whole.as_ref());
        Change {
            key: self.key_of(&after),
            before: old.map(|old| self.old_row(old)),
            after: Some(after),
            ..Change::new(Op::Update, self.name.clone())
        }
    }

    pub(super) fn delete(&self, old: Old) -> Change {
        let before = self.old_row(old);
        Change { key: self.key_of(&before), before: Some(before), ..Change::new(Op::Delete, self.name.clone()) }
    }

    fn key_of(&self, row: &Row) -> Row {
        row.project(self.key.iter().map(|name| &**name))
    }

    fn old_row(&self, old: Old) -> Row {
        match old {
            Old::Whole(tuple) => self.row(tuple, None),
            Old::Identity(tuple) => {
                let columns = self.columns.iter().zip(tuple).filter(|(column, _)| column.is_identity);
                columns.map(|(column, datum)| (column.name.clone(), value(column, &datum, None))).collect()
            }
        }
    }

    /// A row; values that the log leaves out are taken from the old row where that is there.
    fn row(&self, tuple: Tuple, old: Option<&Tuple>) -> Row {
        let columns = self.columns.iter().zip(tuple).enumerate();
        columns
            .map(|(at, (column, datum))| (column.name.clone(), value(column, &datum, old.and_then(|old| old.get(at)))))
            .collect()
    }
}

fn value(column: &KnownColumn, datum: &Datum, old: Option<&Datum>) -> Value {
    match (datum, old) {
        (Datum::Null, _) => Value::Null,
        (Datum::Unchanged, Some(old)) => value(column, old, None),
        (Datum::Unchanged, None) => Value::Unavailable,
        (Datum::Text(text), _) => Value::from_text(&String::from_utf8_lossy(text), &column.ty),
    }
}
