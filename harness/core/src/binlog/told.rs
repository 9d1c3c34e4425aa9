//! What has been told of tables, and what statements say of them.

use std::collections::HashMap;

use super::{columns, ddl::Effect, table::Table};
use crate::{
    change::{Change, Op},
    schema::TableName,
    value::Row,
};

/// What was told last of a table: its columns, and its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) shape: Row,
    pub(super) name: TableName,
}

/// A table's columns by statements, and by the descriptions of rows since.
#[derive(Clone, Debug, PartialEq)]
struct Defined {
    columns: Row,
    /// Whether all that statements say of it was understood.
    is_whole: bool,
}

/// The tables of a lease as they are at a place of the log.
#[derive(Debug, Default)]
pub(super) struct Tables {
    told: HashMap<TableName, Told>,
    defined: HashMap<TableName, Defined>,
}

impl Tables {
    /// Tables of these shapes, of which nobody need be told.
    pub(super) fn of(shapes: impl IntoIterator<Item = (TableName, Row)>) -> Self {
        let mut tables = Self::default();
        for (name, shape) in shapes {
            tables.told.insert(name.clone(), Told { shape: shape.clone(), name: name.clone() });
            tables.defined.insert(name, Defined { columns: shape, is_whole: true });
        }
        tables
    }

    /// Takes what the log describes before it tells of a table's rows, and completes it.
    pub(super) fn describe(&mut self, table: &mut Table) {
        if let Some(known) = self.defined.get(&table.name) {
            table.complete(&known.columns);
        }
        self.defined.insert(table.name.clone(), Defined { columns: table.shape(), is_whole: true });
    }

    /// The columns of a table, if they are known for sure.
    pub(super) fn shape(&self, table: &TableName) -> Option<Told> {
        let known = self.defined.get(table).filter(|known| known.is_whole)?;
        Some(Told { shape: known.columns.clone(), name: table.clone() })
    }

    /// What was told last of a table.
    pub(super) fn told(&self, table: &TableName) -> Option<&Told> {
        self.told.get(table)
    }

    /// Notes what is told of a table. Returns what was told of it before if that was something else.
    pub(super) fn tell(&mut self, now: &Told) -> Option<Told> {
        let last = self.told.insert(now.name.clone(), now.clone())?;
        (last != *now).then_some(last)
    }

    /// Forgets what was told since.
    pub(super) fn take_back(&mut self, told_before: Vec<(TableName, Told)>) {
        self.told.extend(told_before.into_iter().rev());
    }

    /// Takes what a statement does to definitions.
    pub(super) fn define(&mut self, effect: Effect) {
        match effect {
            Effect::Truncates(_) => {}
            Effect::Renames(renames) => renames.into_iter().for_each(|(from, to)| self.rename(&from, to)),
            Effect::Alters { table, to, changes } => {
                if let Some(Defined { columns, is_whole }) = self.defined.get_mut(&table) {
                    *is_whole &= columns::alter(columns, &changes);
                }
                if let Some(to) = to {
                    self.rename(&table, to);
                }
            }
            // The statement is logged too if there is such a table, and leaves that as it is.
            Effect::Creates { table, is_unless_there: true, .. } if self.is_known(&table) => {}
            Effect::Creates { table, like, definition, .. } => {
                self.forget(&table);
                let new = match like {
                    Some(like) => self.defined.get(&like).cloned(),
                    None => columns::created(&definition).map(|(columns, is_whole)| Defined { columns, is_whole }),
                };
                self.defined.extend(new.map(|new| (table, new)));
            }
            Effect::Drops(tables) => tables.iter().for_each(|table| self.forget(table)),
            Effect::DropsSchema(schema) => {
                self.told.retain(|table, _| table.schema() != schema);
                self.defined.retain(|table, _| table.schema() != schema);
            }
        }
    }

    fn is_known(&self, table: &TableName) -> bool {
        self.told.contains_key(table) || self.defined.contains_key(table)
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
}

/// The change of a definition from one shape to another.
pub(super) fn schema_change(last: Told, now: Told) -> Change {
    Change {
        before: Some(last.shape),
        after: Some(now.shape),
        renamed_from: Some(last.name).filter(|name| *name != now.name),
        ..Change::new(Op::Schema, now.name)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ddl, words::words},
        *,
    };
    use crate::row;

    fn define(tables: &mut Tables, sql: &str) {
        tables.define(ddl::effect(&words(sql), "cp_1", "cp_1").unwrap_or(Effect::Drops(Vec::new())));
    }

    fn told(shape: Row) -> Told {
        Told { shape, name: "t".into() }
    }

    #[test]
    fn what_was_told_amid_changes_that_are_dropped_is_told_again() {
        let mut tables = Tables::of([("t".into(), row! { id: "int" })]);
        let now = told(row! { id: "int", n: "int" });
        assert_eq!(tables.tell(&now), Some(told(row! { id: "int" })));
        assert_eq!(tables.tell(&now), None);
        tables.take_back(vec![("t".into(), told(row! { id: "int" })), ("t".into(), told(row! { id: "bigint" }))]);
        assert_eq!(tables.tell(&now), Some(told(row! { id: "int" })), "the oldest of several");
    }

    #[test]
    fn a_table_that_is_there_is_not_made_again() {
        let mut tables = Tables::of([("t".into(), row! { id: "int" })]);
        define(&mut tables, "ALTER TABLE t ADD n int");
        define(&mut tables, "CREATE TABLE IF NOT EXISTS t (id int)");
        assert_eq!(tables.shape(&"t".into()), Some(told(row! { id: "int", n: "int" })));
        define(&mut tables, "CREATE TABLE t (id int)");
        assert_eq!((tables.shape(&"t".into()), tables.told(&"t".into())), (Some(told(row! { id: "int" })), None));
    }

    #[test]
    fn what_is_not_understood_is_no_shape_and_the_rest_stays_known() {
        let mut tables = Tables::of([("t".into(), row! { id: "uuid" })]);
        define(&mut tables, "ALTER TABLE t ADD place point, ADD n int");
        assert_eq!(tables.shape(&"t".into()), None);
        define(&mut tables, "CREATE TABLE u LIKE t");
        assert_eq!(tables.defined[&"u".into()].columns, row! { id: "uuid", n: "int" });
    }
}
