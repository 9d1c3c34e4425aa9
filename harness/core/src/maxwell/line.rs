//! Maxwell's lines, and the changes that they tell.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bigdecimal::BigDecimal;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    change::{Change, LogPlace, Op, Position, TxId},
    mysql::{self, bare, from_text, is_binary, is_of, quote},
    schema::{TableName, Type},
    value::{Row, Value},
};

/// What a line tells.
#[derive(Debug)]
pub(super) enum Told {
    /// A change of a row, or of a table's definition.
    Change(Box<Change>),
    /// All rows of a table have been read that were asked for.
    Bootstrapped(TableName),
    /// Nothing of a table that is captured, or nothing that changes it.
    Nothing,
}

/// The types of a table's columns, as far as they are known.
type Types = BTreeMap<String, Type>;

/// Columns and their values as they were written: numbers keep their digits.
type Columns = IndexMap<String, Box<RawValue>>;

/// Reads lines by the types of the columns, which the catalogue gives at first, and then the lines themselves.
pub(super) struct Decoder {
    lease: String,
    types: BTreeMap<TableName, Types>,
    /// Where the log ended when the capture began.
    since: LogPlace,
}

#[derive(Deserialize)]
struct Object {
    r#type: String,
    database: String,
    #[serde(default)]
    table: String,
    /// In seconds; of a definition in milliseconds.
    ts: i64,
    xid: Option<u64>,
    position: Option<String>,
    #[serde(default)]
    primary_key_columns: Vec<String>,
    #[serde(default)]
    data: Columns,
    old: Option<Box<RawValue>>,
    def: Option<Definition>,
}

#[derive(Deserialize)]
struct Definition {
    database: String,
    table: String,
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    r#type: String,
    name: String,
    signed: Option<bool>,
    #[serde(rename = "column-length")]
    length: Option<u8>,
    #[serde(rename = "enum-values")]
    members: Option<Vec<String>>,
}

impl Decoder {
    /// A decoder of what comes after a place in the log, where the tables had these types.
    pub(super) fn new(lease: &str, since: LogPlace, shapes: &BTreeMap<TableName, mysql::TableShape>) -> Self {
        let mut decoder = Self { lease: lease.to_owned(), types: BTreeMap::new(), since };
        for (name, shape) in shapes.iter().map(|(name, shape)| (name.clone(), shape.clone())).chain([mysql::fence()]) {
            let types = shape.columns.into_iter().map(|column| (column.name, column.ty));
            decoder.types.insert(name, types.collect());
        }
        decoder
    }

    /// Reads a line; the error says in words what is wrong.
    pub(super) fn read(&mut self, line: &str) -> Result<Told, String> {
        if !line.starts_with('{') {
            return Ok(Told::Nothing);
        }
        let object: Object = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let Some(table) = self.table(&object.database, &object.table) else { return Ok(Told::Nothing) };
        if object.place()?.is_some_and(|place| place <= self.since) {
            return Ok(Told::Nothing);
        }
        let op = match object.r#type.as_str() {
            "insert" => Op::Insert,
            "update" => Op::Update,
            "delete" => Op::Delete,
            "bootstrap-insert" => Op::Read,
            "bootstrap-complete" => return Ok(Told::Bootstrapped(table)),
            "table-create" | "table-alter" => return self.definition(&object),
            // The start of a snapshot, and what is made or removed with all that it holds.
            _ => return Ok(Told::Nothing),
        };
        self.row(op, table, &object).map(|change| Told::Change(Box::new(change)))
    }

    fn table(&self, database: &str, table: &str) -> Option<TableName> {
        Some(TableName::new(mysql::schema_of(&self.lease, database)?, table))
    }

    fn row(&self, op: Op, table: TableName, object: &Object) -> Result<Change, String> {
        let unknown = Types::new();
        let types = self.types.get(&table).unwrap_or(&unknown);
        let row = |columns: &Columns| -> Result<Row, String> {
            let told = |name: &String, json: &RawValue| Ok((name.clone(), value(json.get(), types.get(name))?));
            columns.iter().map(|(name, json)| told(name, json)).collect()
        };
        let told = row(&object.data)?;
        let old: Option<Columns> = object.old.as_ref().map(|old| serde_json::from_str(old.get()).unwrap_or_default());
        let key = told.project(object.primary_key_columns.iter().map(String::as_str));
        let (before, after) = match op {
            Op::Delete => (Some(told), None),
            _ => (old.as_ref().map(row).transpose()?, Some(told)),
        };
        let is_read = op == Op::Read;
        Ok(Change {
            key,
            before,
            after,
            position: object.position()?.filter(|_| !is_read),
            tx: object.transaction().filter(|_| !is_read),
            commit_time_us: (!is_read).then_some(object.ts * 1_000_000),
            ..Change::new(op, table)
        })
    }

    /// Takes the types of a table that was made or changed, and tells the change unless nothing of it is told.
    fn definition(&mut self, object: &Object) -> Result<Told, String> {
        let Some(def) = &object.def else { return Err("it has no `def`".to_owned()) };
        let Some(table) = self.table(&def.database, &def.table) else { return Ok(Told::Nothing) };
        self.types.insert(table.clone(), def.columns.iter().map(|column| (column.name.clone(), column.ty())).collect());
        let old: Option<Definition> = object
            .old
            .as_ref()
            .map(|old| serde_json::from_str(old.get()))
            .transpose()
            .map_err(|error| error.to_string())?;
        let Some(old) = old else { return Ok(Told::Nothing) };
        let was = self.table(&old.database, &old.table).filter(|was| *was != table);
        let (before, after) = (old.shape(), def.shape());
        if before == after && was.is_none() {
            return Ok(Told::Nothing);
        }
        Ok(Told::Change(Box::new(Change {
            before: Some(before),
            after: Some(after),
            position: object.position()?,
            tx: object.transaction(),
            commit_time_us: Some(object.ts * 1000),
            renamed_from: was,
            ..Change::new(Op::Schema, table)
        })))
    }
}

impl Object {
    fn place(&self) -> Result<Option<LogPlace>, String> {
        self.position.as_ref().map(|place| place.parse()).transpose()
    }

    fn position(&self) -> Result<Option<Position>, String> {
        Ok(self.place()?.map(Position::Log))
    }

    /// A statement that changes a definition is a transaction of its own, known by its place in the log.
    fn transaction(&self) -> Option<TxId> {
        self.xid.map(|xid| xid.to_string()).or_else(|| self.position.clone()).map(TxId::new)
    }
}

impl Definition {
    fn shape(&self) -> Row {
        let told = |column: &Column| (column.name.clone(), Value::Text(bare(&column.ty()).to_string()));
        self.columns.iter().map(told).collect()
    }
}

impl Column {
    /// The type in the harness's words, as far as it is told.
    fn ty(&self) -> Type {
        let base = &self.r#type;
        mysql::type_named(&match (&self.members, self.length, self.signed) {
            (Some(members), ..) => {
                let members: Vec<_> = members.iter().map(|member| quote(member)).collect();
                format!("{base}({})", members.join(","))
            }
            (_, Some(length), _) if length > 0 => format!("{base}({length})"),
            (_, _, Some(false)) => format!("{base} unsigned"),
            _ => base.clone(),
        })
    }
}

fn value(json: &str, ty: Option<&Type>) -> Result<Value, String> {
    // The harness's own column of the fence is in no catalogue that a capture is shown.
    let ty = ty.map_or(Type::Text, number_of_truth);
    match json.as_bytes().first() {
        Some(b'n') => Ok(Value::Null),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            match is_binary(&ty) {
                true => BASE64_STANDARD.decode(text).map(Value::Bytes).map_err(|error| error.to_string()),
                false => Ok(from_text(text.as_bytes(), &ty)),
            }
        }
        Some(b'[') => {
            let members: Vec<String> = serde_json::from_str(json).map_err(|error| error.to_string())?;
            Ok(Value::Array(members.into_iter().map(Value::Text).collect()))
        }
        // Bits come as the number that they are.
        _ if matches!(&ty, Type::Other(name) if is_of(name, "bit")) => {
            json.parse().map(Value::Int).map_err(|_| format!("{json} is no number"))
        }
        // A small one is written with an exponent.
        _ if json.contains(['E', 'e']) && matches!(bare(&ty), Type::Other(name) if name == "decimal") => {
            let number: BigDecimal = json.parse().map_err(|_| format!("{json} is no number"))?;
            Ok(Value::Decimal(number.to_plain_string()))
        }
        _ => Ok(from_text(json.as_bytes(), &ty)),
    }
}

/// That a `tinyint(1)` is meant as a truth value is not told.
fn number_of_truth(ty: &Type) -> Type {
    if *ty == Type::Bool { bare(ty) } else { ty.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{change::LogPlace, row};

    fn change(decoder: &mut Decoder, line: &str) -> Result<Change, String> {
        match decoder.read(line)? {
            Told::Change(change) => Ok(*change),
            other => Err(format!("{other:?}")),
        }
    }

    const START: LogPlace = LogPlace { file: 1, offset_bytes: 0 };

    const MADE: &str = r#"{"type":"table-create","database":"cp_1","table":"t","def":{"database":"cp_1","charset":"utf8mb4","table":"t","columns":[{"type":"int","name":"id","signed":true},{"type":"decimal","name":"price"},{"type":"bit","name":"bits"},{"type":"longblob","name":"raw","charset":"binary"},{"type":"datetime","name":"at","column-length":6}],"primary-key":["id"]},"ts":1700000000000,"sql":"CREATE TABLE t (…)","position":"binlog.000001:90"}"#;

    #[test]
    fn rows_are_read_by_the_types_that_definitions_tell() -> Result<(), String> {
        let mut decoder = Decoder::new("cp_1", START, &BTreeMap::new());
        assert!(matches!(decoder.read("Using kafka version: 1.0.0")?, Told::Nothing));
        assert!(matches!(decoder.read(MADE)?, Told::Nothing), "who makes a table changes none");
        let line = r#"{"database":"cp_1","table":"t","type":"update","ts":1700000000,"xid":7,"commit":true,"position":"binlog.000001:120","primary_key_columns":["id"],"data":{"id":1,"price":12.50,"bits":513,"raw":"AAFh","at":"2024-02-29 12:00:00.120000"},"old":{"price":null}}"#;
        let update = change(&mut decoder, line)?;
        assert_eq!(update.op, Op::Update);
        assert_eq!(update.key, row! { id: 1 });
        assert_eq!(update.before, Some(row! { price: Value::Null }));
        let raw = Value::Bytes(vec![0, 1, b'a']);
        let after =
            row! { id: 1, price: Value::Decimal("12.50".into()), bits: 513, raw: raw, at: "2024-02-29 12:00:00.12" };
        assert_eq!(update.after, Some(after));
        assert_eq!(update.tx, Some(TxId::new("7")));
        assert_eq!(update.position, Some(Position::Log(LogPlace { file: 1, offset_bytes: 120 })));
        assert_eq!(update.commit_time_us, Some(1_700_000_000_000_000));
        Ok(())
    }

    #[test]
    fn a_definition_that_changes_nothing_that_is_told_is_no_change() -> Result<(), String> {
        let mut decoder = Decoder::new("cp_1", START, &BTreeMap::new());
        let def = |table: &str, columns: &str| {
            format!(
                r#"{{"database":"cp_1","charset":"utf8mb4","table":"{table}","columns":[{columns}],"primary-key":[]}}"#
            )
        };
        let alter = |old: String, def: String| {
            format!(
                r#"{{"type":"table-alter","database":"cp_1","table":"t","old":{old},"def":{def},"ts":1,"position":"b.1:9"}}"#
            )
        };
        let (id, name) =
            (r#"{"type":"int","name":"id","signed":false}"#, r#"{"type":"enum","name":"e","enum-values":["a"]}"#);
        assert!(matches!(decoder.read(&alter(def("t", id), def("t", id)))?, Told::Nothing));
        let added = change(&mut decoder, &alter(def("t", id), def("t", &format!("{id},{name}"))))?;
        assert_eq!(added.before, Some(row! { id: "int unsigned" }));
        assert_eq!(added.after, Some(row! { id: "int unsigned", e: "enum('a')" }));
        let renamed = change(&mut decoder, &alter(def("t", id), def("u", id)))?;
        assert_eq!((renamed.table, renamed.renamed_from), ("u".into(), Some("t".into())));
        Ok(())
    }

    #[test]
    fn what_is_not_captured_tells_nothing_and_what_is_read_has_no_place() -> Result<(), String> {
        let mut decoder = Decoder::new("cp_1", START, &BTreeMap::new());
        decoder.read(MADE)?;
        let other = r#"{"database":"maxwell","table":"bootstrap","type":"insert","ts":1,"data":{"id":1}}"#;
        assert!(matches!(decoder.read(other)?, Told::Nothing));
        let read = r#"{"database":"cp_1","table":"t","type":"bootstrap-insert","ts":1,"primary_key_columns":["id"],"data":{"id":-2}}"#;
        let read = change(&mut decoder, read)?;
        assert_eq!((read.op, read.key, read.tx, read.position), (Op::Read, row! { id: -2 }, None, None));
        let done =
            r#"{"database":"cp_1","table":"t","type":"bootstrap-complete","ts":1,"primary_key_columns":[],"data":{}}"#;
        assert!(matches!(decoder.read(done)?, Told::Bootstrapped(table) if table == "t".into()));
        Ok(())
    }

    #[test]
    fn what_came_before_the_capture_is_not_told() -> Result<(), String> {
        let mut decoder = Decoder::new("cp_1", LogPlace { file: 2, offset_bytes: 120 }, &BTreeMap::new());
        let at = |place: &str| {
            format!(
                r#"{{"database":"cp_1","table":"t","type":"insert","ts":1,"position":"b.{place}","data":{{"id":1}}}}"#
            )
        };
        for (place, is_told) in [("000001:900", false), ("000002:120", false), ("000002:121", true), ("000003:4", true)]
        {
            assert_eq!(matches!(decoder.read(&at(place))?, Told::Change(_)), is_told, "{place}");
        }
        Ok(())
    }
}
