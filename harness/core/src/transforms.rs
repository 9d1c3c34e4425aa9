//! Transforms of single messages, which Kafka Connect runs between a connector and its topics: what they are told, and what a reader is shown of
//! what happens (Kafka's documentation, 8.2 "Transformations"; Debezium's manual, "Message Filtering" and on the connectors, "column.mask…").
//!
//! A [`View`] makes of the Model what it would be if the database itself held what the transforms make of it; both oracles then judge by that.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    change::Op,
    guarantees::Loss,
    judge::{Contents, StoredColumn},
    model::IdealChange,
    schema::{Table, Type},
    script::Alter,
    value::{Row, Value},
    view::View,
};

/// Transforms of flat records, in their order. Each changes all tables that have the column, and none by which rows are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transforms(Vec<Transform>);

#[derive(Clone, Debug, PartialEq)]
enum Transform {
    Rename { column: String, to: String },
    Drop(String),
    ToText(String),
    Mask { column: String, by: String },
    Hash { column: String, salt: String },
    Route(String),
    Filter { column: String, value: String },
}

/// Begins a list of transforms.
pub fn transforms() -> Transforms {
    Transforms::default()
}

impl Transforms {
    fn and(mut self, transform: Transform) -> Self {
        self.0.push(transform);
        self
    }

    /// Tells a column by another name (`ReplaceField`).
    #[must_use]
    pub fn rename(self, column: &str, to: &str) -> Self {
        self.and(Transform::Rename { column: column.to_owned(), to: to.to_owned() })
    }

    /// Leaves a column out (`ReplaceField`).
    #[must_use]
    pub fn drop(self, column: &str) -> Self {
        self.and(Transform::Drop(column.to_owned()))
    }

    /// Tells the numbers of a column as texts (`Cast`).
    #[must_use]
    pub fn to_text(self, column: &str) -> Self {
        self.and(Transform::ToText(column.to_owned()))
    }

    /// Tells the same text in place of all values of a column, but for NULL (`MaskField`). It fails at a tombstone, so there are none.
    #[must_use]
    pub fn mask(self, column: &str, by: &str) -> Self {
        self.and(Transform::Mask { column: column.to_owned(), by: by.to_owned() })
    }

    /// Tells in place of a text its SHA-256 with a salt before it, in hexadecimal digits (`column.mask.hash.v2`): who has two of them knows
    /// whether they are of the same text.
    #[must_use]
    pub fn hash(self, column: &str, salt: &str) -> Self {
        self.and(Transform::Hash { column: column.to_owned(), salt: salt.to_owned() })
    }

    /// Writes the rows of all tables to one topic of this name (`RegexRouter`).
    #[must_use]
    pub fn route(self, topic: &str) -> Self {
        self.and(Transform::Route(topic.to_owned()))
    }

    /// Leaves out the changes whose record doesn't have a text in a column, of all tables of the schema `public` (Debezium's `Filter`).
    ///
    /// Debezium counts the changes of a transaction before they are left out: who waits for a whole transaction waits for ever. They are told
    /// without it, through one topic of one partition; and without tombstones, which would stay.
    #[must_use]
    pub fn only_rows_with(self, column: &str, value: &str) -> Self {
        self.and(Transform::Filter { column: column.to_owned(), value: value.to_owned() }).route("all")
    }

    /// The connector's settings for it, where the prefix of its topics is this.
    pub(crate) fn settings(&self, prefix: &str) -> Vec<(String, String)> {
        let names: Vec<_> = (1..=self.0.len()).map(|number| format!("transform{number}")).collect();
        let mut settings = vec![("transforms".to_owned(), format!("flatten,{}", names.join(",")))];
        for (transform, name) in self.0.iter().zip(&names) {
            let of = |setting: &str, value: String| (format!("transforms.{name}.{setting}"), value);
            let kafka = |class: &str| of("type", format!("org.apache.kafka.connect.transforms.{class}"));
            let on_rows = of("predicate", "rows".to_owned());
            settings.extend(match transform {
                Transform::Rename { column, to } => {
                    vec![kafka("ReplaceField$Value"), of("renames", format!("{column}:{to}")), on_rows]
                }
                Transform::Drop(column) => vec![kafka("ReplaceField$Value"), of("exclude", column.clone()), on_rows],
                Transform::ToText(column) => vec![kafka("Cast$Value"), of("spec", format!("{column}:string")), on_rows],
                Transform::Mask { column, by } => {
                    let (fields, by) = (of("fields", column.clone()), of("replacement", by.clone()));
                    vec![kafka("MaskField$Value"), fields, by, on_rows, no_tombstones()]
                }
                Transform::Route(topic) => {
                    let (from, to) = (of("regex", ".*".to_owned()), of("replacement", format!("{prefix}.{topic}")));
                    vec![kafka("RegexRouter"), from, to, on_rows]
                }
                Transform::Filter { column, value } => vec![
                    of("type", "io.debezium.transforms.Filter".to_owned()),
                    of("language", "jsr223.groovy".to_owned()),
                    of("condition", format!("value.{column} == '{value}'")),
                    of("topic.regex", format!(r"{prefix}\.public\..*")),
                    ("provide.transaction.metadata".to_owned(), "false".to_owned()),
                    ("topic.creation.default.partitions".to_owned(), "1".to_owned()),
                    no_tombstones(),
                ],
                // What isn't a transform has a place in the list all the same.
                Transform::Hash { column, salt } => vec![
                    (format!("column.mask.hash.v2.SHA-256.with.salt.{salt}"), format!(r".*\.{column}")),
                    kafka("ReplaceField$Value"),
                ],
            });
        }
        settings
    }

    fn row(&self, row: &Row) -> Row {
        let columns = row.iter().filter_map(|(name, value)| self.column(name.to_owned(), value.clone()));
        columns.collect()
    }

    fn column(&self, mut name: String, mut value: Value) -> Option<(String, Value)> {
        for transform in &self.0 {
            match transform {
                Transform::Rename { column, to } if *column == name => name.clone_from(to),
                Transform::Drop(column) if *column == name => return None,
                Transform::ToText(column) if *column == name => value = value.cast(&Type::Text),
                Transform::Mask { column, by } if *column == name && !value.is_null() => {
                    value = Value::from(by.as_str());
                }
                Transform::Hash { column, salt } if *column == name => value = hashed(value, salt),
                _ => {}
            }
        }
        Some((name, value))
    }

    /// The name and type that a column is told by, if it is.
    fn told(&self, name: &str, ty: &Type) -> Option<(String, Type)> {
        let (told, _) = self.column(name.to_owned(), Value::Null)?;
        let is_text = self.0.iter().any(|transform| matches!(transform, Transform::ToText(column) if column == name));
        Some((told, if is_text { Type::Text } else { ty.clone() }))
    }

    fn has(&self, row: &Row) -> bool {
        self.0.iter().all(|transform| match transform {
            Transform::Filter { column, value } => {
                row.get(column).is_none_or(|found| *found == Value::from(value.as_str()))
            }
            _ => true,
        })
    }

    fn table(&self, table: &Table) -> Arc<Table> {
        let columns = table.columns.iter().filter_map(|column| {
            let (name, ty) = self.told(&column.name, &column.ty)?;
            let mut column = column.clone();
            (column.name, column.ty) = (name, ty);
            Some(column)
        });
        Arc::new(Table { columns: columns.collect(), ..table.clone() })
    }

    fn alter(&self, change: &Alter) -> Option<Alter> {
        let name = |column: &str| self.told(column, &Type::Text).map(|(name, _)| name);
        Some(match change {
            Alter::AddColumn(column) => {
                let mut column = column.clone();
                (column.name, column.ty) = self.told(&column.name, &column.ty)?;
                Alter::AddColumn(column)
            }
            Alter::DropColumn(column) => Alter::DropColumn(name(column)?),
            Alter::RenameColumn { from, to } => Alter::RenameColumn { from: name(from)?, to: name(to)? },
            Alter::ChangeType { column, ty, using } => {
                let (column, ty) = self.told(column, ty)?;
                Alter::ChangeType { column, ty, using: using.clone() }
            }
            other => other.clone(),
        })
    }
}

impl View for Transforms {
    fn change(&self, change: &IdealChange, losses: &mut BTreeSet<Loss>) -> Option<IdealChange> {
        match change {
            IdealChange::Created(table) => Some(IdealChange::Created(self.table(table))),
            IdealChange::Altered { table, change } => {
                Some(IdealChange::Altered { table: self.table(table), change: self.alter(change)? })
            }
            IdealChange::Row { op: Op::Truncate, table, named, .. } => {
                let (table, before, after, named) = (self.table(table), None, None, Arc::clone(named));
                Some(IdealChange::Row { op: Op::Truncate, table, before, after, named })
            }
            IdealChange::Row { op, table, before, after, named } => {
                let shown = |row: &Option<Row>| row.as_ref().filter(|row| self.has(row)).map(|row| self.row(row));
                let (seen_before, seen_after) = (shown(before), shown(after));
                losses.extend((seen_before != *before || seen_after != *after).then_some(Loss::Transformed));
                // What is left out is the record of a change, and not the row: nothing tells that it has gone out of sight.
                let is_told = if *op == Op::Delete { seen_before.is_some() } else { seen_after.is_some() };
                is_told.then(|| IdealChange::Row {
                    op: *op,
                    table: self.table(table),
                    before: seen_before,
                    after: seen_after,
                    named: Arc::clone(named),
                })
            }
        }
    }

    fn contents(&self, contents: Contents) -> Contents {
        let shown = contents.into_iter().map(|(name, mut table)| {
            table.rows.retain(|row| self.has(row));
            table.rows = table.rows.iter().map(|row| self.row(row)).collect();
            let columns = table.columns.into_iter().filter_map(|(name, column)| {
                let (told, ty) = self.told(&name, &column.ty)?;
                Some((told, StoredColumn { ty, ..column }))
            });
            table.columns = columns.collect();
            (name, table)
        });
        shown.collect()
    }
}

fn no_tombstones() -> (String, String) {
    ("tombstones.on.delete".to_owned(), "false".to_owned())
}

fn hashed(value: Value, salt: &str) -> Value {
    let Value::Text(text) = value else { return value };
    let mut digits = String::new();
    for byte in Sha256::digest(format!("{salt}{text}")) {
        let _ = write!(digits, "{byte:02x}");
    }
    Value::Text(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Model,
        row,
        script::{Step, TableBuilder, create},
    };

    fn shown(transforms: &Transforms, steps: &[Step]) -> (Vec<(Op, Option<Row>)>, BTreeSet<Loss>) {
        let mut model = Model::default();
        for step in steps {
            assert_eq!(model.apply(step), Ok(()));
        }
        let (view, losses) = transforms.of(&model);
        let changes = view.committed().iter().flat_map(|transaction| &transaction.changes);
        let rows = changes.filter_map(|change| match change {
            IdealChange::Row { op, after, .. } => Some((*op, after.clone())),
            _ => None,
        });
        (rows.collect(), losses)
    }

    fn people() -> TableBuilder {
        TableBuilder::new("people").key("id", Type::Int).column("mail", Type::Text).column("age", Type::Int)
    }

    #[test]
    fn columns_are_told_as_each_transform_makes_them() {
        let t = people().handle();
        let steps = [create(&people()), t.insert(row! { id: 1, mail: "a", age: 7 })];
        let after = |transforms: &Transforms| shown(transforms, &steps).0[0].1.clone();
        assert_eq!(after(&transforms().rename("mail", "address")), Some(row! { id: 1, address: "a", age: 7 }));
        assert_eq!(after(&transforms().drop("mail")), Some(row! { id: 1, age: 7 }));
        assert_eq!(after(&transforms().to_text("age")), Some(row! { id: 1, mail: "a", age: "7" }));
        assert_eq!(after(&transforms().mask("mail", "***")), Some(row! { id: 1, mail: "***", age: 7 }));
        // echo -n sa | sha256sum
        let hash = "4cf6829aa93728e8f3c97df913fb1bfa95fe5810e2933a05943f8312a98d9cf2";
        assert_eq!(after(&transforms().hash("mail", "s")), Some(row! { id: 1, mail: hash, age: 7 }));
        assert_eq!(shown(&transforms().mask("mail", "***"), &steps).1, BTreeSet::from([Loss::Transformed]));
        assert_eq!(shown(&transforms().route("all"), &steps).1, BTreeSet::new());
    }

    #[test]
    fn a_filter_leaves_records_out_and_does_not_tell_that_a_row_has_gone_out_of_sight() {
        let t = people().handle();
        let steps = [
            create(&people()),
            t.insert(row! { id: 1, mail: "in" }),
            t.insert(row! { id: 2, mail: "out" }),
            t.update(1, row! { mail: "out" }),
            t.update(2, row! { mail: "in" }),
            t.delete(2),
            t.delete(1),
        ];
        let (changes, losses) = shown(&transforms().only_rows_with("mail", "in"), &steps);
        let ops: Vec<_> = changes.iter().map(|(op, _)| *op).collect();
        assert_eq!(ops, [Op::Insert, Op::Update, Op::Delete]);
        assert_eq!(losses, BTreeSet::from([Loss::Transformed]));
    }

    #[test]
    fn each_transform_has_its_settings() {
        let settings = transforms().rename("a", "b").only_rows_with("zone", "EU").settings("cp_1");
        let setting = |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        assert_eq!(setting("transforms"), Some("flatten,transform1,transform2,transform3"));
        assert_eq!(setting("transforms.transform1.renames"), Some("a:b"));
        assert_eq!(setting("transforms.transform2.condition"), Some("value.zone == 'EU'"));
        assert_eq!(setting("transforms.transform3.replacement"), Some("cp_1.all"));
    }
}
