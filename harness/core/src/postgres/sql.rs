//! Actions as SQL in PostgreSQL's dialect.

use crate::{
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    script::{Action, Alter},
    value::{Row, Value},
};

/// The SQL of an action. Several statements only where one action needs them.
pub fn statement(action: &Action) -> String {
    match action {
        Action::CreateTable(definition) => create_table(definition),
        Action::Insert { table: name, rows } => insert(name, rows),
        Action::Update { table: name, at, set } => {
            let set: Vec<_> =
                set.iter().map(|(column, value)| format!("{} = {}", ident(column), literal(value))).collect();
            format!("UPDATE {} SET {} WHERE {}", table(name), set.join(", "), matching(at))
        }
        Action::Delete { table: name, at } => {
            format!("DELETE FROM {} WHERE {}", table(name), matching(at))
        }
        Action::Truncate(names) => {
            let names: Vec<_> = names.iter().map(table).collect();
            format!("TRUNCATE {}", names.join(", "))
        }
        Action::Begin | Action::BeginTwoPhase(_) => "BEGIN".to_owned(),
        Action::Commit => "COMMIT".to_owned(),
        Action::Rollback => "ROLLBACK".to_owned(),
        Action::Savepoint(name) => format!("SAVEPOINT {}", ident(name)),
        Action::Prepare(name) => format!("PREPARE TRANSACTION {}", quote(name)),
        Action::CommitPrepared(name) => format!("COMMIT PREPARED {}", quote(name)),
        Action::RollbackPrepared(name) => format!("ROLLBACK PREPARED {}", quote(name)),
        Action::RollbackTo(name) => format!("ROLLBACK TO SAVEPOINT {}", ident(name)),
        Action::Alter { table: name, change } => {
            format!("ALTER TABLE {} {}", table(name), alter(name, change))
        }
        Action::Raw { sql, .. } => sql.clone(),
    }
}

/// An identifier, quoted (manual, 4.1.1).
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's full name, quoted.
pub(crate) fn table(name: &TableName) -> String {
    format!("{}.{}", ident(name.schema()), ident(name.name()))
}

fn create_table(definition: &Table) -> String {
    let name = table(&definition.name);
    let mut parts: Vec<_> = definition.columns.iter().map(column).collect();
    if !definition.key.is_empty() {
        let key: Vec<_> = definition.key.iter().map(|column| ident(column)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let mut sql = format!("CREATE TABLE {name} ({})", parts.join(", "));
    for external in definition.columns.iter().filter(|column| column.external) {
        let column = ident(&external.name);
        sql += &format!("; ALTER TABLE {name} ALTER {column} SET STORAGE EXTERNAL");
    }
    if let ReplicaIdentity::Index(columns) = &definition.identity {
        let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
        sql +=
            &format!("; CREATE UNIQUE INDEX {} ON {name} ({})", identity_index(&definition.name), columns.join(", "));
    }
    if definition.identity != ReplicaIdentity::Default {
        sql += &format!("; ALTER TABLE {name} REPLICA IDENTITY {}", identity(&definition.name, &definition.identity));
    }
    sql
}

fn column(column: &Column) -> String {
    let mut sql = format!("{} {}", ident(&column.name), type_name(&column.ty));
    if !column.nullable {
        sql += " NOT NULL";
    }
    if let Some(expression) = &column.generated {
        sql += &format!(" GENERATED ALWAYS AS ({expression}) STORED");
    }
    if let Some(default) = &column.default {
        sql += &format!(" DEFAULT {}", literal(default));
    }
    sql
}

fn alter(name: &TableName, change: &Alter) -> String {
    match change {
        Alter::AddColumn(added) => format!("ADD COLUMN {}", column(added)),
        Alter::DropColumn(name) => format!("DROP COLUMN {}", ident(name)),
        Alter::RenameColumn { from, to } => {
            format!("RENAME COLUMN {} TO {}", ident(from), ident(to))
        }
        Alter::ChangeType { column, ty, using } => {
            let using = using.as_ref().map(|using| format!(" USING {using}")).unwrap_or_default();
            format!("ALTER COLUMN {} TYPE {}{using}", ident(column), type_name(ty))
        }
        Alter::RenameTable(name) => format!("RENAME TO {}", ident(name)),
        Alter::Identity(to) => format!("REPLICA IDENTITY {}", identity(name, to)),
        Alter::Key(columns) => {
            let columns: Vec<_> = columns.iter().map(|column| ident(column)).collect();
            let old = ident(&format!("{}_pkey", name.name()));
            format!("DROP CONSTRAINT {old}, ADD CONSTRAINT {old} PRIMARY KEY ({})", columns.join(", "))
        }
    }
}

fn identity(table: &TableName, identity: &ReplicaIdentity) -> String {
    match identity {
        ReplicaIdentity::Default => "DEFAULT".to_owned(),
        ReplicaIdentity::Full => "FULL".to_owned(),
        ReplicaIdentity::Nothing => "NOTHING".to_owned(),
        ReplicaIdentity::Index(_) => format!("USING INDEX {}", identity_index(table)),
    }
}

fn identity_index(table: &TableName) -> String {
    ident(&format!("{}_identity", table.name()))
}

fn insert(name: &TableName, rows: &[Row]) -> String {
    let columns: Vec<_> = rows.first().iter().flat_map(|row| row.columns().map(ident).collect::<Vec<_>>()).collect();
    if columns.is_empty() {
        return format!("INSERT INTO {} DEFAULT VALUES", table(name));
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let values: Vec<_> = row.iter().map(|(_, value)| literal(value)).collect();
            format!("({})", values.join(", "))
        })
        .collect();
    format!("INSERT INTO {} ({}) VALUES {}", table(name), columns.join(", "), rows.join(", "))
}

fn matching(at: &Row) -> String {
    let conditions: Vec<_> = at
        .iter()
        .map(|(column, value)| match value {
            Value::Null => format!("{} IS NULL", ident(column)),
            value => format!("{} = {}", ident(column), literal(value)),
        })
        .collect();
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "boolean".to_owned(),
        Type::SmallInt => "smallint".to_owned(),
        Type::Int => "integer".to_owned(),
        Type::BigInt => "bigint".to_owned(),
        Type::Real => "real".to_owned(),
        Type::Double => "double precision".to_owned(),
        Type::Numeric(None) => "numeric".to_owned(),
        Type::Numeric(Some((precision, scale))) => format!("numeric({precision}, {scale})"),
        Type::Text => "text".to_owned(),
        Type::Varchar(length) => format!("varchar({length})"),
        Type::Bytes => "bytea".to_owned(),
        Type::Date => "date".to_owned(),
        Type::Timestamp => "timestamp".to_owned(),
        Type::TimestampTz => "timestamptz".to_owned(),
        Type::Uuid => "uuid".to_owned(),
        Type::Json => "jsonb".to_owned(),
        Type::Array(element) => format!("{}[]", type_name(element)),
        Type::Composite { name, .. } | Type::Other(name) => name.clone(),
    }
}

/// A value as a literal; strings are of unknown type, so that they take the column's.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Unavailable => "NULL".to_owned(),
        Value::Bool(truth) => truth.to_string().to_uppercase(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(text) if text.ends_with(|c: char| c.is_ascii_digit()) => text.clone(),
        Value::Float(number) => quote(&number.get().to_string()),
        Value::Decimal(text) | Value::Text(text) => quote(text),
        Value::Bytes(_) => quote(&value.to_string()),
        Value::Array(_) => quote(&array_literal(value)),
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn array_literal(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(array_literal).collect();
            format!("{{{}}}", items.join(","))
        }
        Value::Null => "NULL".to_owned(),
        Value::Int(_) | Value::Bool(_) | Value::Decimal(_) => value.to_string(),
        Value::Text(text) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        other => format!("\"{}\"", other.to_string().replace('\\', "\\\\")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        row,
        script::{TableBuilder, TableRef},
    };

    #[test]
    fn names_and_values_cannot_break_out_of_their_quotes() {
        let table = TableBuilder::new("O\"Hara").key("id", Type::Int).build();
        let step = TableRef::new(&table).update(1, row! { name: "it's \\ \"fine\"" });
        assert_eq!(
            statement(&step.action),
            "UPDATE \"public\".\"O\"\"Hara\" SET \"name\" = 'it''s \\ \"fine\"' WHERE \"id\" = 1"
        );
    }

    #[test]
    fn a_table_is_created_with_all_that_was_declared() {
        let table = TableBuilder::new("docs")
            .key("id", Type::Int)
            .column_default("n", Type::Numeric(Some((6, 2))), 1)
            .column_external("body", Type::Text)
            .identity_full()
            .build();
        assert_eq!(
            statement(&Action::CreateTable(table)),
            "CREATE TABLE \"public\".\"docs\" (\"id\" integer NOT NULL, \"n\" numeric(6, 2) DEFAULT 1.00, \
             \"body\" text, PRIMARY KEY (\"id\")); ALTER TABLE \"public\".\"docs\" ALTER \"body\" SET STORAGE \
             EXTERNAL; ALTER TABLE \"public\".\"docs\" REPLICA IDENTITY FULL"
        );
    }

    #[test]
    fn array_literals_are_read_back_as_they_were_written() {
        let array = Value::Array(vec!["a,\"b\"\\".into(), Value::Null, "NULL".into()]);
        let ty = Type::Array(Box::new(Type::Text));
        assert_eq!(Value::from_text(&array_literal(&array), &ty), array);
    }
}
