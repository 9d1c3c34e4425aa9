//! Publications of a part: some tables, columns and rows, or partitions under the name of their root (PostgreSQL manual,
//! 29.4 "Row Filters" and 29.5 "Column Lists"; `CREATE PUBLICATION`).
//!
//! For a method that reads a publication, what is published is what happens. A [`View`] makes of the Model what it would be if nothing
//! else existed, and both oracles then judge by that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    change::Op,
    guarantees::Loss,
    judge::Contents,
    model::IdealChange,
    postgres::{PUBLICATION, fence, ident, literal, table},
    schema::{Table, TableName},
    script::{Alter, TableRef},
    value::{Row, Value},
    view::View,
};

/// What is published instead of all there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publication {
    parts: BTreeMap<TableName, Part>,
    roots: BTreeMap<TableName, TableName>,
}

/// What is published of a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    columns: Option<Vec<String>>,
    filter: Option<(String, Value)>,
}

/// Begins a publication of nothing.
pub fn publication() -> Publication {
    Publication::default()
}

impl Publication {
    /// Publishes a whole table.
    #[must_use]
    pub fn table(mut self, table: &TableRef) -> Self {
        self.parts.entry(table.name().clone()).or_default();
        self
    }

    /// Publishes these columns of a table, which must include those of its replica identity.
    #[must_use]
    pub fn columns(mut self, table: &TableRef, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        self.parts.entry(table.name().clone()).or_default().columns = Some(columns);
        self
    }

    /// Publishes the rows of a table that have a value in a column of its replica identity.
    #[must_use]
    pub fn rows_where(mut self, table: &TableRef, column: &str, value: impl Into<Value>) -> Self {
        self.parts.entry(table.name().clone()).or_default().filter = Some((column.to_owned(), value.into()));
        self
    }

    /// Publishes partitions under the name of their partitioned table.
    #[must_use]
    pub fn root(mut self, root: &str, partitions: &[&TableRef]) -> Self {
        let root = TableName::from(root);
        self.roots.extend(partitions.iter().map(|partition| (partition.name().clone(), root.clone())));
        self.parts.entry(root).or_default();
        self
    }

    /// The statements that make it, with the fence's table.
    pub(crate) fn statements(&self) -> [String; 2] {
        let tables = self.parts.iter().map(|(name, part)| {
            let columns = part.columns.as_ref().map(|columns| {
                let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
                format!(" ({})", columns.join(", "))
            });
            let filter = part.filter.as_ref().map(|(column, value)| {
                let (column, value) = (ident(column), literal(value));
                format!(" WHERE ({column} = {value})")
            });
            format!("TABLE {}{}{}", table(name), columns.unwrap_or_default(), filter.unwrap_or_default())
        });
        let tables: Vec<_> = tables.chain([format!("TABLE {}", table(&fence().0))]).collect();
        let options = if self.roots.is_empty() { "" } else { " WITH (publish_via_partition_root)" };
        [
            format!("DROP PUBLICATION {PUBLICATION}"),
            format!("CREATE PUBLICATION {PUBLICATION} FOR {}{options}", tables.join(", ")),
        ]
    }

    fn name(&self, name: &TableName) -> TableName {
        self.roots.get(name).unwrap_or(name).clone()
    }
}

impl View for Publication {
    fn change(&self, change: &IdealChange, losses: &mut BTreeSet<Loss>) -> Option<IdealChange> {
        let (IdealChange::Created(table) | IdealChange::Altered { table, .. } | IdealChange::Row { table, .. }) =
            change;
        let name = self.name(&table.name);
        let is_row = matches!(change, IdealChange::Row { .. });
        let Some(part) = self.parts.get(&name) else {
            losses.extend(is_row.then_some(Loss::NotPublished));
            return None;
        };
        losses.extend((is_row && name != table.name).then_some(Loss::PartitionNotTold));
        losses.extend((is_row && part.columns.is_some()).then_some(Loss::ColumnNotPublished));
        let table = Arc::new(part.table(&Table { name, ..Table::clone(table) }));
        match change {
            IdealChange::Created(_) => Some(IdealChange::Created(table)),
            IdealChange::Altered { change, .. } => {
                part.shows(change).then(|| IdealChange::Altered { table, change: change.clone() })
            }
            IdealChange::Row { op: Op::Truncate, named, .. } => {
                let (before, after, named) = (None, None, Arc::clone(named));
                Some(IdealChange::Row { op: Op::Truncate, table, before, after, named })
            }
            IdealChange::Row { before, after, named, .. } => {
                let shown = |row: &Option<Row>| row.as_ref().filter(|row| part.has(row)).map(|row| part.row(row));
                let (seen_before, seen_after) = (shown(before), shown(after));
                let is_hidden = seen_before.is_some() != before.is_some() || seen_after.is_some() != after.is_some();
                losses.extend(is_hidden.then_some(Loss::NotPublished));
                // A row that comes into the filter is inserted for the reader, and one that leaves it is deleted.
                let op = match (&seen_before, &seen_after) {
                    (None, None) => return None,
                    (None, Some(_)) => Op::Insert,
                    (Some(_), None) => Op::Delete,
                    (Some(_), Some(_)) => Op::Update,
                };
                let named = Arc::clone(named);
                Some(IdealChange::Row { op, table, before: seen_before, after: seen_after, named })
            }
        }
    }

    fn contents(&self, contents: Contents) -> Contents {
        let mut shown = Contents::new();
        for (name, mut table) in contents {
            let name = self.name(&name);
            let Some(part) = self.parts.get(&name) else { continue };
            table.rows.retain(|row| part.has(row));
            if let Some(columns) = &part.columns {
                table.columns.retain(|column, _| columns.contains(column));
                table.rows = table.rows.iter().map(|row| part.row(row)).collect();
            }
            match shown.get_mut(&name) {
                Some(root) => root.rows.append(&mut table.rows),
                None => {
                    shown.insert(name, table);
                }
            }
        }
        shown
    }
}

impl Part {
    fn has(&self, row: &Row) -> bool {
        self.filter.as_ref().is_none_or(|(column, value)| row.get(column) == Some(value))
    }

    fn row(&self, row: &Row) -> Row {
        self.columns.as_ref().map_or_else(|| row.clone(), |columns| row.project(columns.iter().map(String::as_str)))
    }

    fn is_shown(&self, column: &String) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.contains(column))
    }

    fn shows(&self, change: &Alter) -> bool {
        match change {
            Alter::AddColumn(column) => self.is_shown(&column.name),
            Alter::DropColumn(column) | Alter::ChangeType { column, .. } => self.is_shown(column),
            Alter::RenameColumn { from, .. } => self.is_shown(from),
            Alter::RenameTable(_) | Alter::Identity(_) | Alter::Key(_) => true,
        }
    }

    fn table(&self, table: &Table) -> Table {
        let columns = table.columns.iter().filter(|column| self.is_shown(&column.name)).cloned().collect();
        Table { columns, ..table.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Model, row, schema::Type, script::TableBuilder};

    fn run(
        publication: &Publication,
        table: &TableBuilder,
        steps: &[crate::script::Step],
    ) -> (Vec<IdealChange>, BTreeSet<Loss>) {
        let mut model = Model::default();
        let create = crate::script::create(table);
        for step in [&create].into_iter().chain(steps) {
            assert_eq!(model.apply(step), Ok(()));
        }
        let (view, losses) = publication.of(&model);
        let changes = view.committed().iter().flat_map(|transaction| &transaction.changes);
        (changes.filter(|change| matches!(change, IdealChange::Row { .. })).cloned().collect(), losses)
    }

    fn ops(changes: &[IdealChange]) -> Vec<Op> {
        let ops = changes.iter().filter_map(|change| match change {
            IdealChange::Row { op, .. } => Some(*op),
            _ => None,
        });
        ops.collect()
    }

    #[test]
    fn a_row_that_comes_into_the_filter_is_inserted_and_one_that_leaves_it_is_deleted() {
        let table = TableBuilder::new("t").key("id", Type::Int).column("zone", Type::Text);
        let t = table.handle();
        let publication = publication().rows_where(&t, "zone", "EU");
        let (changes, losses) = run(
            &publication,
            &table,
            &[
                t.insert(row! { id: 1, zone: "US" }),
                t.insert(row! { id: 2, zone: "EU" }),
                t.update(1, row! { zone: "EU" }),
                t.update(1, row! { id: 3 }),
                t.update(2, row! { zone: "US" }),
                t.update(2, row! { id: 4 }),
                t.delete(4),
                t.truncate(),
            ],
        );
        assert_eq!(ops(&changes), [Op::Insert, Op::Insert, Op::Update, Op::Delete, Op::Truncate]);
        assert_eq!(losses, BTreeSet::from([Loss::NotPublished]));
    }

    #[test]
    fn columns_and_tables_that_are_not_listed_are_not_there() {
        let table = TableBuilder::new("t").key("id", Type::Int).column("secret", Type::Text);
        let t = table.handle();
        let steps = [t.insert(row! { id: 1, secret: "x" })];
        let (changes, losses) = run(&publication().columns(&t, &["id"]), &table, &steps);
        assert!(matches!(&changes[..], [IdealChange::Row { after: Some(after), .. }] if *after == row! { id: 1 }));
        assert_eq!(losses, BTreeSet::from([Loss::ColumnNotPublished]));
        let (changes, losses) = run(&publication(), &table, &steps);
        assert!(changes.is_empty());
        assert_eq!(losses, BTreeSet::from([Loss::NotPublished]));
    }

    #[test]
    fn partitions_bear_the_name_of_their_root_which_is_created_once() {
        let (first, second) =
            (TableBuilder::new("p1").key("id", Type::Int), TableBuilder::new("p2").key("id", Type::Int));
        let mut model = Model::default();
        for step in [
            crate::script::create(&first),
            first.handle().insert(row! { id: 1 }),
            crate::script::create(&second),
            second.handle().insert(row! { id: 2 }),
        ] {
            assert_eq!(model.apply(&step), Ok(()));
        }
        let publication = publication().root("p", &[&first.handle(), &second.handle()]);
        let (view, losses) = publication.of(&model);
        let tables = &view.tables().0;
        assert_eq!(tables.keys().collect::<Vec<_>>(), [&TableName::from("p")]);
        assert_eq!(tables[&TableName::from("p")].rows, [row! { id: 1 }, row! { id: 2 }]);
        assert_eq!(losses, BTreeSet::from([Loss::PartitionNotTold]));
    }

    #[test]
    fn the_statements_name_columns_rows_roots_and_the_fence() {
        let t = TableBuilder::new("t").key("id", Type::Int).handle();
        let [_, create] = publication().columns(&t, &["id", "Zone"]).rows_where(&t, "Zone", "E'U").statements();
        assert_eq!(
            create,
            "CREATE PUBLICATION changeproof FOR TABLE \"public\".\"t\" (\"id\", \"Zone\") WHERE (\"Zone\" = 'E''U'), \
             TABLE \"changeproof_harness\".\"fence\""
        );
        let [_, create] = publication().root("p", &[&t]).statements();
        assert!(create.ends_with(" WITH (publish_via_partition_root)"), "{create}");
    }
}
