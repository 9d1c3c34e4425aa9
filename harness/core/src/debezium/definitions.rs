//! Definitions of tables, as the connector for MySQL writes them to a topic of their own (`include.schema.changes`; Debezium's manual
//! on the connector, "Schema change topic").

use std::collections::HashMap;

use serde::Deserialize;

use super::record::control;
use crate::{
    binlog::renames,
    change::{Change, Op, Position, TxId},
    error::Result,
    mysql::{schema_of, type_named},
    schema::TableName,
    source::HARNESS_SCHEMA,
    value::{Row, Value},
};

#[derive(Deserialize)]
struct Statement {
    source: Source,
    #[serde(rename = "databaseName")]
    database: Option<String>,
    ddl: Option<String>,
    #[serde(default, rename = "tableChanges")]
    tables: Vec<TableChange>,
}

#[derive(Deserialize)]
struct Source {
    gtid: Option<String>,
}

#[derive(Deserialize)]
struct TableChange {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    table: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    columns: Vec<Column>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    name: String,
    type_name: String,
    length: Option<u32>,
    scale: Option<u32>,
    #[serde(default)]
    enum_values: Option<Vec<String>>,
}

impl Column {
    /// The type as MySQL's catalogue spells it.
    fn spelled(&self) -> String {
        let (base, attributes) = self.type_name.split_once(' ').unwrap_or((&self.type_name, ""));
        let arguments = match (&self.enum_values, self.length, self.scale) {
            (Some(members), ..) if !members.is_empty() => format!("({})", members.join(",")),
            (_, Some(length), Some(scale)) => format!("({length},{scale})"),
            (_, Some(length), None) if !base.ends_with("INT") && base != "INTEGER" => format!("({length})"),
            _ => String::new(),
        };
        let attributes = if attributes.is_empty() { String::new() } else { format!(" {attributes}") };
        format!("{}{arguments}{}", base.to_lowercase(), attributes.to_lowercase())
    }
}

/// What the topic has told of tables so far.
#[derive(Default)]
pub(super) struct Definitions(HashMap<TableName, Row>);

impl Definitions {
    /// The changes of definitions that a record tells of a lease's tables. One that is created has no change yet.
    pub(super) fn take(&mut self, lease: &str, record: &[u8]) -> Result<Vec<Change>> {
        let statement: Statement = control(record)?;
        let gtid = statement.source.gtid;
        // What a table was called before stands in the statement alone.
        let (sql, database) = (statement.ddl.unwrap_or_default(), statement.database.unwrap_or_default());
        for (from, to) in renames(&sql, lease, &database) {
            let moved = self.0.remove(&from);
            self.0.extend(moved.map(|shape| (to, shape)));
        }
        let changes = statement.tables.into_iter().filter_map(|change| {
            let name = table_of(lease, &change.id)?;
            let last = self.0.remove(&name);
            let columns = change.table.filter(|_| change.kind != "DROP")?.columns;
            let told = |column: &Column| (column.name.clone(), Value::Text(type_named(&column.spelled()).to_string()));
            let shape: Row = columns.iter().map(told).collect();
            self.0.insert(name.clone(), shape.clone());
            (change.kind == "ALTER").then(|| Change {
                before: last,
                after: Some(shape),
                position: gtid.as_ref().and_then(|gtid| Position::of_gtid(gtid)),
                tx: gtid.clone().map(TxId::new),
                ..Change::new(Op::Schema, name)
            })
        });
        Ok(changes.collect())
    }
}

/// The script's table of an identifier such as `"cp_1"."t"`.
fn table_of(lease: &str, id: &str) -> Option<TableName> {
    let id: TableName = id.parse().ok()?;
    let schema = schema_of(lease, id.schema()).filter(|schema| *schema != HARNESS_SCHEMA)?;
    Some(TableName::new(schema, id.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    fn record(kind: &str, columns: &str) -> Vec<u8> {
        record_of("…", kind, columns)
    }

    fn record_of(sql: &str, kind: &str, columns: &str) -> Vec<u8> {
        format!(
            r#"{{"schema":null,"payload":{{"source":{{"gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:5"}},"databaseName":"cp_1","ddl":"{sql}","tableChanges":
            [{{"type":"{kind}","id":"\"cp_1\".\"t\"","table":{{"columns":[{columns}]}}}}]}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_changed_definition_is_told_with_the_one_before_it() -> Result<()> {
        let id = r#"{"name":"id","typeName":"INT","length":null,"scale":null}"#;
        let more = r#"{"name":"a","typeName":"VARCHAR","length":5},{"name":"b","typeName":"BIGINT UNSIGNED"},
            {"name":"c","typeName":"ENUM","length":1,"enumValues":["'x'","'y'"]},{"name":"d","typeName":"DECIMAL","length":8,"scale":2}"#;
        let mut definitions = Definitions::default();
        assert_eq!(definitions.take("cp_1", &record("CREATE", id))?, []);
        let told = definitions.take("cp_1", &record("ALTER", &format!("{id},{more}")))?;
        let after = row! { id: "int", a: "varchar(5)", b: "bigint unsigned", c: "enum('x','y')", d: "numeric(8,2)" };
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0].before, &told[0].after), (&Some(row! { id: "int" }), &Some(after)));
        assert!(told[0].tx.is_some() && told[0].position.is_some());
        assert_eq!(definitions.take("cp_2", &record("ALTER", id))?, [], "another lease's");
        let mut renamed = Definitions(HashMap::from([("old".into(), row! { id: "int" })]));
        let told = renamed.take("cp_1", &record_of("ALTER TABLE old RENAME TO t", "ALTER", id))?;
        assert_eq!(told[0].before, Some(row! { id: "int" }));
        Ok(())
    }
}
