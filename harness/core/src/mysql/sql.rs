//! Actions as SQL in MySQL's dialect.

use std::{collections::BTreeMap, sync::Arc};

use super::{SERVICE, database_of};
use crate::{
    error::{Error, Result},
    model,
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    script::{Action, Alter},
    value::{Row, Value},
};

/// The longest text, and byte string, that a column of a key may hold: an index takes no type without a limit (manual,
/// 15.1.18 "CREATE INDEX Statement").
const KEY_LENGTH: u32 = 255;

/// The tables that a script has declared. A literal depends on its column's type, and a changed column has to be declared
/// again as a whole.
#[derive(Debug, Default)]
pub(super) struct Declared(BTreeMap<TableName, Arc<Table>>);

impl Declared {
    /// Follows what a script does to its tables.
    pub(super) fn follow(&mut self, action: &Action) {
        match action {
            Action::CreateTable(table) => {
                self.0.insert(table.name.clone(), Arc::new(table.clone()));
            }
            Action::Alter { table, change } => {
                if let Some(table) = self.0.remove(table) {
                    let table = model::altered_table(&table, change);
                    self.0.insert(table.name.clone(), Arc::new(table));
                }
            }
            Action::Raw { means, .. } => means.iter().for_each(|action| self.follow(action)),
            _ => {}
        }
    }

    fn column(&self, table: &TableName, name: &str) -> Option<&Column> {
        self.0.get(table)?.column(name)
    }

    fn ty(&self, table: &TableName, column: &str) -> Option<&Type> {
        self.column(table, column).map(|column| &column.ty)
    }
}

/// Actions as SQL for the source of a lease.
pub(super) struct Writer<'a> {
    pub(super) lease: &'a str,
    pub(super) declared: &'a Declared,
}

impl Writer<'_> {
    /// The SQL of an action: one statement.
    pub(super) fn statement(&self, action: &Action) -> Result<String> {
        Ok(match action {
            Action::CreateTable(definition) => self.create_table(definition)?,
            Action::Insert { table, rows } => self.insert(table, rows)?,
            Action::Update { table, at, set } => {
                let set = set
                    .iter()
                    .map(|(column, value)| Ok(format!("{} = {}", ident(column), self.literal(table, column, value)?)));
                let set = set.collect::<Result<Vec<_>>>()?;
                format!("UPDATE {} SET {} WHERE {}", self.table(table), set.join(", "), self.matching(table, at)?)
            }
            Action::Delete { table, at } => {
                format!("DELETE FROM {} WHERE {}", self.table(table), self.matching(table, at)?)
            }
            Action::Truncate(tables) => match &tables[..] {
                [table] => format!("TRUNCATE TABLE {}", self.table(table)),
                _ => return Err(refused("truncate several tables by one statement")),
            },
            Action::Begin => "BEGIN".to_owned(),
            Action::Commit => "COMMIT".to_owned(),
            Action::Rollback => "ROLLBACK".to_owned(),
            Action::Savepoint(name) => format!("SAVEPOINT {}", ident(name)),
            Action::RollbackTo(name) => format!("ROLLBACK TO SAVEPOINT {}", ident(name)),
            // A transaction of two phases has its name from its first statement on (manual, 15.3.8 "XA Transactions").
            Action::BeginTwoPhase(name) => format!("XA START {}", quote(name)),
            Action::Prepare(name) => format!("XA PREPARE {}", quote(name)),
            Action::CommitPrepared(name) => format!("XA COMMIT {}", quote(name)),
            Action::RollbackPrepared(name) => format!("XA ROLLBACK {}", quote(name)),
            Action::Alter { table, change } => {
                format!("ALTER TABLE {} {}", self.table(table), self.alter(table, change)?)
            }
            Action::Raw { sql, .. } => sql.clone(),
        })
    }

    /// A table's full name, quoted.
    fn table(&self, name: &TableName) -> String {
        format!("{}.{}", ident(&database_of(self.lease, name.schema())), ident(name.name()))
    }

    fn create_table(&self, definition: &Table) -> Result<String> {
        let column = |column: &Column| column_definition(column, definition.key.contains(&column.name));
        let mut parts = definition.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        if !definition.key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", idents(&definition.key)));
        }
        // What the log holds of old rows is a setting of the session, whatever the table says.
        if let ReplicaIdentity::Index(columns) = &definition.identity {
            parts.push(format!("UNIQUE KEY ({})", idents(columns)));
        }
        Ok(format!("CREATE TABLE {} ({})", self.table(&definition.name), parts.join(", ")))
    }

    fn alter(&self, table: &TableName, change: &Alter) -> Result<String> {
        Ok(match change {
            Alter::AddColumn(added) => format!("ADD COLUMN {}", column_definition(added, false)?),
            Alter::DropColumn(name) => format!("DROP COLUMN {}", ident(name)),
            Alter::RenameColumn { from, to } => format!("RENAME COLUMN {} TO {}", ident(from), ident(to)),
            Alter::ChangeType { using: Some(_), .. } => return Err(refused("convert a column by an expression")),
            Alter::ChangeType { column, ty, using: None } => {
                let declared = self.declared.column(table, column).cloned();
                let declared = declared.ok_or_else(|| refused("change a column that the script has not declared"))?;
                format!("MODIFY COLUMN {}", column_definition(&Column { ty: ty.clone(), ..declared }, false)?)
            }
            Alter::RenameTable(name) => format!("RENAME TO {}", self.table(&TableName::new(table.schema(), name))),
            Alter::Identity(_) => return Err(refused("change a table's replica identity")),
            Alter::Key(columns) => format!("DROP PRIMARY KEY, ADD PRIMARY KEY ({})", idents(columns)),
        })
    }

    fn insert(&self, table: &TableName, rows: &[Row]) -> Result<String> {
        let columns = rows.first().map(|row| row.columns().map(ident).collect::<Vec<_>>().join(", "));
        let rows = rows.iter().map(|row| {
            let values = row.iter().map(|(column, value)| self.literal(table, column, value));
            Ok(format!("({})", values.collect::<Result<Vec<_>>>()?.join(", ")))
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        Ok(format!("INSERT INTO {} ({}) VALUES {}", self.table(table), columns.unwrap_or_default(), rows.join(", ")))
    }

    fn matching(&self, table: &TableName, at: &Row) -> Result<String> {
        let conditions = at.iter().map(|(column, value)| match value {
            Value::Null => Ok(format!("{} IS NULL", ident(column))),
            value => Ok(format!("{} = {}", ident(column), self.literal(table, column, value)?)),
        });
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        Ok(if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") })
    }

    fn literal(&self, table: &TableName, column: &str, value: &Value) -> Result<String> {
        literal(value, self.declared.ty(table, column))
    }
}

/// What MySQL has no word for.
fn refused(what: &str) -> Error {
    Error::new(SERVICE, what, "it has no such statement")
        .help("say it by `raw` SQL, or keep the scenario to PostgreSQL")
}

/// An identifier, quoted (manual, 11.2 "Schema Object Names").
pub(crate) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn idents(names: &[String]) -> String {
    names.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

fn column_definition(column: &Column, is_key: bool) -> Result<String> {
    let mut sql = format!("{} {}", ident(&column.name), type_name(&column.ty, is_key)?);
    if let Some(expression) = &column.generated {
        sql += &format!(" GENERATED ALWAYS AS ({expression}) STORED");
    }
    // Said aloud, for a TIMESTAMP of older servers takes no NULL unless told to. Of a generated column MariaDB won't hear of it.
    sql += match (column.nullable, &column.generated) {
        (true, Some(_)) => "",
        (true, None) => " NULL",
        (false, _) => " NOT NULL",
    };
    if let Some(default) = &column.default {
        let default = literal(default, Some(&column.ty))?;
        // A default in parentheses is an expression, which is the only one that a text without limit takes.
        sql += &match &column.ty {
            Type::Text | Type::Bytes | Type::Json => format!(" DEFAULT ({default})"),
            _ => format!(" DEFAULT {default}"),
        };
    }
    Ok(sql)
}

fn type_name(ty: &Type, is_key: bool) -> Result<String> {
    Ok(match ty {
        Type::Bool => "tinyint(1)".to_owned(),
        Type::SmallInt => "smallint".to_owned(),
        Type::Int => "int".to_owned(),
        Type::BigInt => "bigint".to_owned(),
        Type::Real => "float".to_owned(),
        Type::Double => "double".to_owned(),
        Type::Numeric(Some((precision, scale))) => format!("decimal({precision},{scale})"),
        Type::Text if is_key => format!("varchar({KEY_LENGTH})"),
        Type::Text => "longtext".to_owned(),
        Type::Varchar(length) => format!("varchar({length})"),
        Type::Bytes if is_key => format!("varbinary({KEY_LENGTH})"),
        Type::Bytes => "longblob".to_owned(),
        Type::Date => "date".to_owned(),
        Type::Timestamp => "datetime(6)".to_owned(),
        Type::TimestampTz => "timestamp(6)".to_owned(),
        Type::Uuid => "char(36)".to_owned(),
        Type::Json => "json".to_owned(),
        Type::Other(name) => name.clone(),
        Type::Numeric(None) | Type::Array(_) | Type::Composite { .. } => {
            return Err(refused(&format!("hold a column of the type {ty}")));
        }
    })
}

/// A value as a literal of its column's type.
fn literal(value: &Value, ty: Option<&Type>) -> Result<String> {
    Ok(match value {
        Value::Null | Value::Unavailable => "NULL".to_owned(),
        Value::Bool(truth) => truth.to_string().to_uppercase(),
        Value::Int(number) => number.to_string(),
        // The exponent makes it a floating-point number, and no decimal.
        Value::Float(number) => format!("{:e}", number.get()),
        Value::Decimal(text) if text.ends_with(|c: char| c.is_ascii_digit()) => text.clone(),
        Value::Decimal(text) | Value::Text(text) => match ty {
            // Sessions run in UTC, and before MySQL 8.0.19 a literal has no offset.
            Some(Type::TimestampTz) => quote(text.strip_suffix("+00").unwrap_or(text)),
            Some(Type::Other(name)) if name.starts_with("bit") => format!("b'{text}'"),
            _ => quote(text),
        },
        Value::Bytes(bytes) => {
            let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{}'", digits.concat())
        }
        Value::Array(_) => return Err(refused("hold an array")),
    })
}

/// A string literal (manual, 11.1.1 "String Literals").
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "\\0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        row,
        script::{TableBuilder, TableRef},
    };

    fn written(declared: &Declared, action: &Action) -> Result<String> {
        Writer { lease: "cp_1", declared }.statement(action)
    }

    #[test]
    fn names_and_values_cannot_break_out_of_their_quotes() -> Result<()> {
        let table = TableBuilder::new("O`Hara").key("id", Type::Int).build();
        let step = TableRef::new(&table).update(1, row! { name: "it's \\ \"fine\"" });
        assert_eq!(
            written(&Declared::default(), &step.action)?,
            "UPDATE `cp_1`.`O``Hara` SET `name` = 'it''s \\\\ \"fine\"' WHERE `id` = 1"
        );
        Ok(())
    }

    #[test]
    fn a_changed_column_keeps_what_was_declared_of_it() -> Result<()> {
        let table = TableBuilder::new("t").key("id", Type::Int).column_not_null_default("n", Type::Int, 7);
        let mut declared = Declared::default();
        let create = Action::CreateTable(table.clone().build());
        assert_eq!(
            written(&declared, &create)?,
            "CREATE TABLE `cp_1`.`t` (`id` int NOT NULL, `n` int NOT NULL DEFAULT 7, PRIMARY KEY (`id`))"
        );
        declared.follow(&create);
        let t = table.handle();
        assert_eq!(
            written(&declared, &t.change_type("n", Type::BigInt).action)?,
            "ALTER TABLE `cp_1`.`t` MODIFY COLUMN `n` bigint NOT NULL DEFAULT 7"
        );
        let rename = t.rename_to("u").action;
        assert_eq!(written(&declared, &rename)?, "ALTER TABLE `cp_1`.`t` RENAME TO `cp_1`.`u`");
        declared.follow(&rename);
        assert!(written(&declared, &t.renamed("u").change_type("n", Type::Text).action)?.contains("`n` longtext"));
        Ok(())
    }

    #[test]
    fn literals_follow_the_type_of_their_column() -> Result<()> {
        let moment = Value::from("2024-05-01 12:00:00+00");
        assert_eq!(literal(&moment, Some(&Type::TimestampTz))?, "'2024-05-01 12:00:00'");
        assert_eq!(literal(&moment, Some(&Type::Text))?, "'2024-05-01 12:00:00+00'");
        assert_eq!(literal(&Value::from("101"), Some(&Type::Other("bit(3)".into())))?, "b'101'");
        assert_eq!(literal(&Value::from(0.1), Some(&Type::Double))?, "1e-1");
        assert_eq!(literal(&Value::Bytes(vec![0, 255]), None)?, "x'00ff'");
        assert!(literal(&Value::Array(vec![]), None).is_err());
        Ok(())
    }

    #[test]
    fn what_mysql_has_no_word_for_is_refused() {
        let declared = Declared::default();
        let t = TableBuilder::new("t").handle();
        for action in [
            crate::script::truncate(&[&t, &t]).action,
            t.change_type_using("c", Type::Int, "c::int").action,
            Action::CreateTable(TableBuilder::new("t").column("n", Type::Numeric(None)).build()),
        ] {
            assert!(written(&declared, &action).is_err(), "{action:?}");
        }
    }
}
