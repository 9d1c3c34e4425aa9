//! Scripts: the mutations that every method is judged on, in words that belong to no database.

use crate::{
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    value::{Row, Value},
};

/// The connection that steps run on unless they say otherwise.
pub const FIRST_SESSION: &str = "a";

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The connection it runs on. Sessions exist from their first use.
    pub session: String,
    /// What it does.
    pub action: Action,
}

impl Step {
    /// The same step on another connection, for transactions that run side by side.
    #[must_use]
    pub fn on(mut self, session: &str) -> Self {
        session.clone_into(&mut self.session);
        self
    }
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { session: FIRST_SESSION.to_owned(), action }
    }
}

/// A mutation, free of any dialect but for [`Action::Raw`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates a table.
    CreateTable(Table),
    /// Inserts rows by one statement.
    Insert {
        /// Into this table.
        table: TableName,
        /// Rows of the same columns; columns left out get their default.
        rows: Vec<Row>,
    },
    /// Updates the rows that match.
    Update {
        /// In this table.
        table: TableName,
        /// Column values a row must have; usually its key.
        at: Row,
        /// Columns and their new values.
        set: Row,
    },
    /// Deletes the rows that match.
    Delete {
        /// From this table.
        table: TableName,
        /// Column values a row must have; usually its key.
        at: Row,
    },
    /// Empties tables by one statement.
    Truncate(Vec<TableName>),
    /// Opens a transaction.
    Begin,
    /// Opens a transaction that is to be prepared under this name.
    BeginTwoPhase(String),
    /// Commits the open transaction.
    Commit,
    /// Rolls the open transaction back.
    Rollback,
    /// Sets a savepoint.
    Savepoint(String),
    /// Rolls back to a savepoint, which stays.
    RollbackTo(String),
    /// Prepares the open transaction for a commit in two phases, under a name; the session is then free.
    Prepare(String),
    /// Commits a prepared transaction.
    CommitPrepared(String),
    /// Rolls a prepared transaction back.
    RollbackPrepared(String),
    /// Changes a table's definition.
    Alter {
        /// The table, by its name before the change.
        table: TableName,
        /// What changes.
        change: Alter,
    },
    /// SQL of the database's own. The Model can't read it, so the scenario states what it amounts to.
    Raw {
        /// One statement.
        sql: String,
        /// The typed actions of the same effect, in the order in which the database carries them out.
        means: Vec<Action>,
    },
}

/// A change of a table's definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Alter {
    /// Adds a column; existing rows get its default.
    AddColumn(Column),
    /// Drops a column.
    DropColumn(String),
    /// Renames a column.
    RenameColumn {
        /// Its old name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Changes a column's type and converts what it holds.
    ChangeType {
        /// The column.
        column: String,
        /// Its new type.
        ty: Type,
        /// How to convert where the database doesn't by itself: an expression of its dialect.
        using: Option<String>,
    },
    /// Renames the table within its schema.
    RenameTable(String),
    /// Changes what the log holds of old rows.
    Identity(ReplicaIdentity),
    /// Makes other columns the primary key.
    Key(Vec<String>),
}

/// Opens a transaction on the first session; `.on("b")` for another.
pub fn begin() -> Step {
    Action::Begin.into()
}

/// Commits.
pub fn commit() -> Step {
    Action::Commit.into()
}

/// Rolls back.
pub fn rollback() -> Step {
    Action::Rollback.into()
}

/// Sets a savepoint.
pub fn savepoint(name: &str) -> Step {
    Action::Savepoint(name.to_owned()).into()
}

/// Rolls back to a savepoint.
pub fn rollback_to(name: &str) -> Step {
    Action::RollbackTo(name.to_owned()).into()
}

/// Opens a transaction that is to be committed in two phases. MySQL wants its name now, PostgreSQL when it is prepared.
pub fn begin_two_phase(name: &str) -> Step {
    Action::BeginTwoPhase(name.to_owned()).into()
}

/// Prepares the open transaction for a commit in two phases. The name is the whole server's.
pub fn prepare(name: &str) -> Step {
    Action::Prepare(name.to_owned()).into()
}

/// Commits a prepared transaction.
pub fn commit_prepared(name: &str) -> Step {
    Action::CommitPrepared(name.to_owned()).into()
}

/// Rolls a prepared transaction back.
pub fn rollback_prepared(name: &str) -> Step {
    Action::RollbackPrepared(name.to_owned()).into()
}

/// Creates a table; for what [`raw`] SQL amounts to.
pub fn create(table: &TableBuilder) -> Step {
    Action::CreateTable(table.clone().build()).into()
}

/// Empties several tables by one statement.
pub fn truncate(tables: &[&TableRef]) -> Step {
    Action::Truncate(tables.iter().map(|table| table.name().clone()).collect()).into()
}

/// SQL that the Model can't read, with the steps that it amounts to.
pub fn raw(sql: &str, means: impl IntoIterator<Item = Step>) -> Step {
    let means = means.into_iter().map(|step| step.action).collect();
    Action::Raw { sql: sql.to_owned(), means }.into()
}

/// Picks rows: by the key's value, by the values of a composite key as a tuple, or by a [`Row`] of any columns.
#[derive(Clone, Debug)]
pub enum Selector {
    /// Values of the key's columns in order.
    Key(Vec<Value>),
    /// Any columns.
    Columns(Row),
}

macro_rules! selector_from {
    ($($scalar:ty),*) => {$(
        impl From<$scalar> for Selector {
            fn from(key: $scalar) -> Self {
                Self::Key(vec![key.into()])
            }
        }
    )*};
}
selector_from!(i32, i64, &str);

impl<A: Into<Value>, B: Into<Value>> From<(A, B)> for Selector {
    fn from((a, b): (A, B)) -> Self {
        Self::Key(vec![a.into(), b.into()])
    }
}

impl From<Row> for Selector {
    fn from(columns: Row) -> Self {
        Self::Columns(columns)
    }
}

/// A table of a script: makes the steps that mutate it.
#[derive(Clone, Debug)]
pub struct TableRef {
    name: TableName,
    key: Vec<String>,
}

impl TableRef {
    /// A handle on a table of the definition.
    pub fn new(table: &Table) -> Self {
        Self { name: table.name.clone(), key: table.key.clone() }
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The handle to use after [`TableRef::rename_to`].
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self { name: TableName::new(self.name.schema(), name), key: self.key.clone() }
    }

    /// Inserts a row.
    pub fn insert(&self, row: Row) -> Step {
        self.insert_many([row])
    }

    /// Inserts rows by one statement.
    pub fn insert_many(&self, rows: impl IntoIterator<Item = Row>) -> Step {
        Action::Insert { table: self.name.clone(), rows: rows.into_iter().collect() }.into()
    }

    /// Updates the rows picked.
    pub fn update(&self, at: impl Into<Selector>, set: Row) -> Step {
        Action::Update { table: self.name.clone(), at: self.select(at.into()), set }.into()
    }

    /// Deletes the rows picked.
    pub fn delete(&self, at: impl Into<Selector>) -> Step {
        Action::Delete { table: self.name.clone(), at: self.select(at.into()) }.into()
    }

    /// Empties the table.
    pub fn truncate(&self) -> Step {
        Action::Truncate(vec![self.name.clone()]).into()
    }

    /// Adds a column that takes NULL.
    pub fn add_column(&self, name: &str, ty: Type) -> Step {
        self.alter(Alter::AddColumn(column(name, ty, true, None)))
    }

    /// Adds a column that doesn't take NULL, with the default that existing rows get.
    pub fn add_column_not_null(&self, name: &str, ty: Type, default: impl Into<Value>) -> Step {
        self.alter(Alter::AddColumn(column(name, ty, false, Some(default.into()))))
    }

    /// Drops a column.
    pub fn drop_column(&self, name: &str) -> Step {
        self.alter(Alter::DropColumn(name.to_owned()))
    }

    /// Renames a column.
    pub fn rename_column(&self, from: &str, to: &str) -> Step {
        self.alter(Alter::RenameColumn { from: from.to_owned(), to: to.to_owned() })
    }

    /// Changes a column's type where the database converts by itself.
    pub fn change_type(&self, column: &str, ty: Type) -> Step {
        self.alter(Alter::ChangeType { column: column.to_owned(), ty, using: None })
    }

    /// Changes a column's type by an expression of the database's dialect.
    pub fn change_type_using(&self, column: &str, ty: Type, using: &str) -> Step {
        let using = Some(using.to_owned());
        self.alter(Alter::ChangeType { column: column.to_owned(), ty, using })
    }

    /// Makes other columns the primary key.
    pub fn change_key(&self, columns: &[&str]) -> Step {
        self.alter(Alter::Key(columns.iter().map(|column| (*column).to_owned()).collect()))
    }

    /// The handle to use after [`TableRef::change_key`].
    #[must_use]
    pub fn keyed(&self, columns: &[&str]) -> Self {
        Self { name: self.name.clone(), key: columns.iter().map(|column| (*column).to_owned()).collect() }
    }

    /// Renames the table.
    pub fn rename_to(&self, name: &str) -> Step {
        self.alter(Alter::RenameTable(name.to_owned()))
    }

    fn alter(&self, change: Alter) -> Step {
        Action::Alter { table: self.name.clone(), change }.into()
    }

    fn select(&self, at: Selector) -> Row {
        match at {
            Selector::Key(values) => self.key.iter().map(String::as_str).zip(values).collect(),
            Selector::Columns(columns) => columns,
        }
    }
}

fn column(name: &str, ty: Type, nullable: bool, default: Option<Value>) -> Column {
    let default = default.map(|value| value.cast(&ty));
    Column { name: name.to_owned(), ty, nullable, default, external: false, generated: None }
}

/// Declares a table, column by column.
#[derive(Clone, Debug)]
pub struct TableBuilder {
    table: Table,
}

impl TableBuilder {
    /// A table without columns yet.
    pub fn new(name: impl Into<TableName>) -> Self {
        let identity = ReplicaIdentity::Default;
        Self { table: Table { name: name.into(), columns: Vec::new(), key: Vec::new(), identity } }
    }

    /// A column of the primary key; several make a composite key.
    #[must_use]
    pub fn key(mut self, name: &str, ty: Type) -> Self {
        self.table.columns.push(column(name, ty, false, None));
        self.table.key.push(name.to_owned());
        self
    }

    /// A column that takes NULL.
    #[must_use]
    pub fn column(mut self, name: &str, ty: Type) -> Self {
        self.table.columns.push(column(name, ty, true, None));
        self
    }

    /// A column that doesn't take NULL.
    #[must_use]
    pub fn column_not_null(mut self, name: &str, ty: Type) -> Self {
        self.table.columns.push(column(name, ty, false, None));
        self
    }

    /// A column that doesn't take NULL, with a default.
    #[must_use]
    pub fn column_not_null_default(mut self, name: &str, ty: Type, default: impl Into<Value>) -> Self {
        self.table.columns.push(column(name, ty, false, Some(default.into())));
        self
    }

    /// A column with a default.
    #[must_use]
    pub fn column_default(mut self, name: &str, ty: Type, default: impl Into<Value>) -> Self {
        self.table.columns.push(column(name, ty, true, Some(default.into())));
        self
    }

    /// A text column whose large values are stored out of line, uncompressed.
    #[must_use]
    pub fn column_external(mut self, name: &str, ty: Type) -> Self {
        self.table.columns.push(Column { external: true, ..column(name, ty, true, None) });
        self
    }

    /// A column that the database makes by an expression and stores. The Model can't, so inserts and updates that change it
    /// say by [`raw`] what they amount to.
    #[must_use]
    pub fn column_generated(mut self, name: &str, ty: Type, expression: &str) -> Self {
        let generated = Some(expression.to_owned());
        self.table.columns.push(Column { generated, ..column(name, ty, true, None) });
        self
    }

    /// Writes whole old rows to the log (`REPLICA IDENTITY FULL`).
    #[must_use]
    pub fn identity_full(mut self) -> Self {
        self.table.identity = ReplicaIdentity::Full;
        self
    }

    /// Writes nothing of old rows to the log (`REPLICA IDENTITY NOTHING`).
    #[must_use]
    pub fn identity_nothing(mut self) -> Self {
        self.table.identity = ReplicaIdentity::Nothing;
        self
    }

    /// Writes the columns of a unique index to the log (`REPLICA IDENTITY USING INDEX`); they must not take NULL.
    #[must_use]
    pub fn identity_index(mut self, columns: &[&str]) -> Self {
        self.table.identity = ReplicaIdentity::Index(columns.iter().map(|column| (*column).to_owned()).collect());
        self
    }

    /// A handle on the table, where [`raw`] SQL creates it.
    pub fn handle(&self) -> TableRef {
        TableRef::new(&self.table)
    }

    /// The finished definition.
    pub fn build(self) -> Table {
        self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    #[test]
    fn selectors_name_the_columns_of_the_key() {
        let lines = TableBuilder::new("lines").key("order_id", Type::Int).key("sku", Type::Text).build();
        let lines = TableRef::new(&lines);
        assert_eq!(
            lines.delete((7, "A-1")).action,
            Action::Delete { table: "lines".into(), at: row! { order_id: 7, sku: "A-1" } }
        );
        assert_eq!(
            lines.delete(row! { sku: "B" }).on("b"),
            Step { session: "b".into(), action: Action::Delete { table: "lines".into(), at: row! { sku: "B" } } }
        );
    }
}
