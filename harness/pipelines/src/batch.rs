//! What several transactions did to a table, as one change: by key, what has to go and what has to come.

use std::collections::BTreeMap;

use changeproof::{
    Change, Op,
    error::{Error, Result},
    logical::Known,
    value::{Row, Value},
};

use crate::SERVICE;

/// The values of a key.
pub(crate) type Key = Vec<Value>;

/// The net change of a table since its last commit.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Whether all rows went before the rest happened.
    pub(crate) is_truncated: bool,
    rows: BTreeMap<Key, Net>,
    /// Rows that came to a table without a key, and those that went from it: these are known by all that they hold.
    came: Vec<Row>,
    went: Vec<Row>,
    /// How many changes it sums up.
    pub(crate) changes: usize,
    /// Columns that have another name since, as they came: the sink knows the first of a chain.
    renamed: Vec<(String, String)>,
}

/// What became of a key.
#[derive(Debug)]
struct Net {
    /// Whether the sink has a row of it.
    is_in_sink: bool,
    /// The row to come, if one is there in the end.
    row: Option<Row>,
    /// The key under which the sink has the values that the row lacks, for they were large and left as they were.
    filled_from: Option<Key>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Takes a change up.
    ///
    /// # Errors
    /// A row without a key was updated or deleted.
    pub(crate) fn take(&mut self, table: &Known, change: Change) -> Result<()> {
        self.changes += 1;
        let Change { op, before, after, .. } = change;
        match (op, before, after) {
            (Op::Truncate, ..) => {
                self.is_truncated = true;
                self.rows.clear();
                self.came.clear();
                self.went.clear();
            }
            (Op::Insert, _, Some(row)) if table.row_key().is_empty() => self.came.push(row),
            (Op::Insert, _, Some(row)) => self.insert(key_of(table, &row), row, None),
            (Op::Update, before, Some(row)) if !table.row_key().is_empty() => {
                let key = key_of(table, &row);
                let old = before.map(|before| key_of(table, &before)).filter(|old| old.iter().all(is_known));
                self.update(&old.unwrap_or_else(|| key.clone()), key, row);
            }
            (Op::Delete, Some(before), _) if !table.row_key().is_empty() => self.delete(&key_of(table, &before)),
            (Op::Update | Op::Delete, Some(before), after) if is_whole(table, &before) => {
                self.remove(before);
                self.came.extend(after);
            }
            (op, ..) => {
                let cause = format!("it has no primary key, so there is no telling which row the {op:?} is of");
                return Err(Error::new(SERVICE, format!("follow {}", table.name), cause)
                    .help("give the table a primary key, or leave it out of the publication"));
            }
        }
        Ok(())
    }

    /// Removes one of the rows without a key that are equal.
    fn remove(&mut self, row: Row) {
        match self.came.iter().position(|came| *came == row) {
            Some(at) => {
                self.came.swap_remove(at);
            }
            None => self.went.push(row),
        }
    }

    fn insert(&mut self, key: Key, row: Row, filled_from: Option<Key>) {
        let is_in_sink = self.rows.get(&key).is_some_and(|net| net.is_in_sink);
        self.rows.insert(key, Net { is_in_sink, row: Some(row), filled_from });
    }

    fn update(&mut self, old: &Key, key: Key, mut row: Row) {
        let lacks = row.iter().any(|(_, value)| *value == Value::Unavailable);
        let mut filled_from = None;
        match self.rows.get(old) {
            Some(Net { row: Some(before), filled_from: from, .. }) if lacks => {
                fill(&mut row, before);
                filled_from.clone_from(from);
            }
            _ if lacks => filled_from = Some(old.clone()),
            _ => {}
        }
        if *old == key {
            let is_in_sink = self.rows.get(&key).is_none_or(|net| net.is_in_sink) && !self.is_new(&key);
            self.rows.insert(key, Net { is_in_sink, row: Some(row), filled_from });
        } else {
            self.delete(old);
            self.insert(key, row, filled_from);
        }
    }

    /// Whether a key that nothing is known of can't be in the sink.
    fn is_new(&self, key: &Key) -> bool {
        self.is_truncated && !self.rows.contains_key(key)
    }

    fn delete(&mut self, key: &Key) {
        match self.rows.get_mut(key) {
            Some(net) if net.is_in_sink => (net.row, net.filled_from) = (None, None),
            Some(_) => {
                self.rows.remove(key);
            }
            None if self.is_truncated => {}
            None => {
                self.rows.insert(key.clone(), Net { is_in_sink: true, row: None, filled_from: None });
            }
        }
    }

    /// Follows a change of the columns.
    pub(crate) fn reshape(&mut self, renamed: &[(String, String)], dropped: &[String]) {
        for row in self.rows.values_mut().filter_map(|net| net.row.as_mut()).chain(&mut self.came) {
            *row = reshaped(row, renamed, dropped);
        }
        self.renamed.extend(renamed.iter().cloned());
    }

    /// The keys of the rows that the sink has to forget; of rows without a key all that they hold.
    pub(crate) fn gone(&self, table: &Known) -> Vec<Row> {
        let columns = table.row_key();
        let gone = self.rows.iter().filter(|(_, net)| net.is_in_sink);
        let gone = gone.map(|(key, _)| columns.iter().cloned().zip(key.iter().cloned()).collect());
        gone.chain(self.went.iter().cloned()).collect()
    }

    /// The keys of the sink's rows that values have to be taken from.
    pub(crate) fn to_look_up(&self) -> Vec<Key> {
        self.rows.values().filter_map(|net| net.filled_from.clone()).collect()
    }

    /// Takes values that rows lack from rows of the sink, which are by the columns' names before the batch.
    ///
    /// # Errors
    /// The sink lacks such a row.
    pub(crate) fn fill(&mut self, table: &Known, found: &BTreeMap<Key, Row>) -> Result<()> {
        for net in self.rows.values_mut() {
            let (Some(row), Some(from)) = (&mut net.row, net.filled_from.take()) else { continue };
            let Some(before) = found.get(&from) else {
                let cause = format!("a large value of the row {from:?} was left as it was, and the sink lacks the row");
                return Err(Error::new(SERVICE, format!("write {}", table.name), cause)
                    .help("somebody else has changed the sink's table: remove it, so that it is copied anew"));
            };
            fill(row, &reshaped(before, &self.renamed, &[]));
        }
        Ok(())
    }

    /// The rows that have to come.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().filter_map(|net| net.row.as_ref()).chain(&self.came)
    }
}

/// Whether an old row holds all columns of a table without a key (`REPLICA IDENTITY FULL`).
fn is_whole(table: &Known, before: &Row) -> bool {
    table.row_key().is_empty() && table.columns.iter().all(|column| before.get(&column.name).is_some())
}

fn is_known(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Unavailable)
}

/// The values of a row's key, in the order of the table's columns; NULL for what the row lacks.
pub(crate) fn key_of(table: &Known, row: &Row) -> Key {
    table.row_key().iter().map(|column| row.get(column).cloned().unwrap_or(Value::Null)).collect()
}

fn fill(row: &mut Row, before: &Row) {
    let lacking: Vec<String> =
        row.iter().filter(|(_, value)| **value == Value::Unavailable).map(|(column, _)| column.to_owned()).collect();
    for column in lacking {
        row.set(&column, before.get(&column).cloned().unwrap_or(Value::Null));
    }
}

fn reshaped(row: &Row, renamed: &[(String, String)], dropped: &[String]) -> Row {
    let columns = row.iter().filter(|(column, _)| !dropped.iter().any(|name| name == column));
    let name = |column: &str| renamed.iter().find(|(from, _)| from == column).map_or(column, |(_, to)| to).to_owned();
    columns.map(|(column, value)| (name(column), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use changeproof::{
        logical::KnownColumn,
        row,
        schema::{TableName, Type},
    };

    use super::*;

    fn table() -> Known {
        let column = |number, name: &str, ty, is_identity| KnownColumn {
            name: name.into(),
            ty,
            number: Some(number),
            fills_old_rows: false,
            is_identity,
        };
        let columns = vec![column(1, "id", Type::Int, true), column(2, "v", Type::Text, false)];
        Known::new(TableName::from("t"), columns, vec!["id".into()], 1)
    }

    fn change(op: Op, before: Option<Row>, after: Option<Row>) -> Change {
        Change { before, after, ..Change::new(op, TableName::from("t")) }
    }

    fn insert(id: i32, v: &str) -> Change {
        change(Op::Insert, None, Some(row! { id: id, v: v }))
    }

    fn update(id: i32, v: &str) -> Change {
        change(Op::Update, None, Some(row! { id: id, v: v }))
    }

    fn key_update(from: i32, id: i32, v: &str) -> Change {
        change(Op::Update, Some(row! { id: from }), Some(row! { id: id, v: v }))
    }

    fn delete(id: i32) -> Change {
        change(Op::Delete, Some(row! { id: id }), None)
    }

    /// The keys that go and the rows that come.
    fn net(changes: Vec<Change>) -> Result<(Vec<i32>, Vec<Row>)> {
        let mut batch = Batch::default();
        for change in changes {
            batch.take(&table(), change)?;
        }
        let gone = batch.gone(&table()).iter().filter_map(|key| key.get("id")?.to_string().parse().ok()).collect();
        Ok((gone, batch.rows().cloned().collect()))
    }

    #[test]
    fn changes_of_a_key_become_one() -> Result<()> {
        let row = |id: i32, v: &str| row! { id: id, v: v };
        let truncate = || change(Op::Truncate, None, None);
        for (changes, gone, came) in [
            (vec![insert(1, "a")], vec![], vec![row(1, "a")]),
            (vec![insert(1, "a"), update(1, "b")], vec![], vec![row(1, "b")]),
            (vec![insert(1, "a"), delete(1)], vec![], vec![]),
            (vec![update(1, "b"), update(1, "c")], vec![1], vec![row(1, "c")]),
            (vec![update(1, "b"), delete(1)], vec![1], vec![]),
            (vec![delete(1), insert(1, "z")], vec![1], vec![row(1, "z")]),
            (vec![delete(1), insert(1, "z"), delete(1)], vec![1], vec![]),
            (vec![key_update(1, 2, "a")], vec![1], vec![row(2, "a")]),
            (vec![key_update(1, 2, "a"), key_update(2, 3, "a")], vec![1], vec![row(3, "a")]),
            (vec![key_update(1, 2, "a"), insert(1, "n")], vec![1], vec![row(1, "n"), row(2, "a")]),
            (vec![update(1, "b"), truncate(), insert(2, "n")], vec![], vec![row(2, "n")]),
            (vec![truncate(), insert(1, "n"), update(1, "m"), delete(1)], vec![], vec![]),
        ] {
            let told = format!("{changes:?}");
            assert_eq!(net(changes)?, (gone, came), "{told}");
        }
        Ok(())
    }

    #[test]
    fn a_large_value_left_alone_is_taken_from_where_it_is() -> Result<()> {
        let left = |from: Option<i32>, id: i32| {
            let after = [("id", Value::from(id)), ("v", Value::Unavailable)];
            let after: Row = after.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            change(Op::Update, from.map(|from| row! { id: from }), Some(after))
        };
        // Within the batch.
        assert_eq!(net(vec![insert(1, "large"), left(None, 1)])?.1, [row! { id: 1, v: "large" }]);
        assert_eq!(net(vec![insert(1, "large"), left(Some(1), 2)])?.1, [row! { id: 2, v: "large" }]);
        // In the sink, under the key that the row had there.
        let mut batch = Batch::default();
        batch.take(&table(), left(Some(1), 2))?;
        batch.take(&table(), left(None, 2))?;
        assert_eq!(batch.to_look_up(), [vec![Value::from(1)]]);
        let found = BTreeMap::from([(vec![Value::from(1)], row! { id: 1, v: "large" })]);
        batch.fill(&table(), &found)?;
        assert_eq!(batch.rows().cloned().collect::<Vec<_>>(), [row! { id: 2, v: "large" }]);
        batch.take(&table(), left(Some(7), 8))?;
        assert!(batch.fill(&table(), &found).is_err(), "the sink lacks the row 7");
        Ok(())
    }

    #[test]
    fn columns_that_got_another_name_are_followed_in_what_waits() -> Result<()> {
        let mut batch = Batch::default();
        batch.take(&table(), insert(1, "a"))?;
        batch.reshape(&[("v".to_owned(), "w".to_owned())], &[]);
        assert_eq!(batch.rows().cloned().collect::<Vec<_>>(), [row! { id: 1, w: "a" }]);
        batch.reshape(&[], &["w".to_owned()]);
        assert_eq!(batch.rows().cloned().collect::<Vec<_>>(), [row! { id: 1 }]);
        Ok(())
    }

    #[test]
    fn without_a_key_rows_are_followed_by_all_that_they_hold() {
        let columns = table().columns.into_iter().map(|column| KnownColumn { is_identity: false, ..column }).collect();
        let keyless = Known::new(TableName::from("t"), columns, Vec::new(), 1);
        let mut batch = Batch::default();
        assert!(batch.take(&keyless, insert(1, "a")).is_ok());
        let refused = batch.take(&keyless, delete(1)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("no primary key"), "{refused}");
        let whole = change(Op::Delete, Some(row! { id: 1, v: "a" }), None);
        assert!(batch.take(&keyless, whole.clone()).is_ok());
        assert!(batch.rows().next().is_none() && batch.gone(&keyless).is_empty(), "it came and went");
        assert!(batch.take(&keyless, whole).is_ok());
        assert_eq!(batch.gone(&keyless), [row! { id: 1, v: "a" }]);
    }
}
