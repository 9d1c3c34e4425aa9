//! A program's lines, and the changes that they tell.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Known, Words};
use crate::{
    change::{Change, Op, Position, TxId},
    schema::{TableName, Type},
    value::{Float, Row, Value},
};

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    /// Whatever is committed from now on will be delivered.
    Ready,
    /// A change.
    Change(Box<Told>),
}

/// Columns and their values as they were written: numbers keep their digits.
type Columns = IndexMap<String, Box<RawValue>>;

/// A change as a line tells it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) line: String,
    pub(super) table: TableName,
    pub(super) tx: Option<TxId>,
    op: Op,
    key: Columns,
    before: Option<Columns>,
    after: Option<Columns>,
    types: BTreeMap<String, Type>,
    position: Option<Position>,
    commit_time_us: Option<i64>,
    tombstone: bool,
    renamed_from: Option<TableName>,
}

#[derive(Deserialize)]
struct Object {
    r#type: String,
    op: Option<Op>,
    table: Option<NamedTable>,
    #[serde(default)]
    key: Option<Columns>,
    #[serde(default)]
    before: Option<Columns>,
    #[serde(default)]
    after: Option<Columns>,
    #[serde(default)]
    types: BTreeMap<String, String>,
    position: Option<NamedPosition>,
    tx: Option<NamedTransaction>,
    commit_time_us: Option<i64>,
    #[serde(default)]
    tombstone: bool,
    renamed_from: Option<NamedTable>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a table is a text or { \"schema\", \"name\" }")]
enum NamedTable {
    Text(String),
    Parts { schema: String, name: String },
}

impl NamedTable {
    fn read(self, words: &Words) -> Result<TableName, String> {
        Ok(words.table(match self {
            Self::Text(text) => text.parse()?,
            Self::Parts { schema, name } => TableName::new(schema, name),
        }))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a position is a text like \"16/B374D848\", { \"lsn\": … } or { \"gtid\": … }")]
enum NamedPosition {
    Text(String),
    Lsn { lsn: String },
    Gtid { gtid: String },
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a tx is a text or a whole number")]
enum NamedTransaction {
    Text(String),
    Number(i64),
}

/// Reads a line; the error says in words what is wrong.
pub(super) fn read(line: &str, words: &Words) -> Result<Line, String> {
    let object: Object = serde_json::from_str(line).map_err(|error| format!("it is not as documented ({error})"))?;
    match object.r#type.as_str() {
        "ready" => Ok(Line::Ready),
        "change" => object.told(line, words).map(|told| Line::Change(Box::new(told))),
        other => Err(format!("there is no line of the type `{other}`")),
    }
}

impl Object {
    fn told(self, line: &str, words: &Words) -> Result<Told, String> {
        let op = self.op.ok_or("it has no `op`")?;
        let table = self.table.ok_or("it has no `table`")?.read(words)?;
        let position = self.position.map(|position| {
            let (NamedPosition::Text(text) | NamedPosition::Lsn { lsn: text } | NamedPosition::Gtid { gtid: text }) =
                position;
            words.position(&text).ok_or_else(|| format!("`{text}` is no position in a log"))
        });
        let told = Told {
            line: line.to_owned(),
            table,
            tx: self.tx.map(|tx| match tx {
                NamedTransaction::Text(text) => TxId::new(text),
                NamedTransaction::Number(number) => TxId::new(number.to_string()),
            }),
            op,
            key: self.key.unwrap_or_default(),
            before: self.before,
            after: self.after,
            types: self.types.into_iter().map(|(column, ty)| (column, words.type_named(&ty))).collect(),
            position: position.transpose()?,
            commit_time_us: self.commit_time_us,
            tombstone: self.tombstone,
            renamed_from: self.renamed_from.map(|table| table.read(words)).transpose()?,
        };
        let needs_new_row = !matches!(op, Op::Delete | Op::Truncate);
        match (needs_new_row, told.after.is_some()) {
            (true, false) => Err("it has no `after`".to_owned()),
            (false, true) => Err("there is no row after it, but it has an `after`".to_owned()),
            _ => Ok(told),
        }
    }
}

impl Told {
    fn columns(&self) -> impl Iterator<Item = &String> {
        self.before.iter().chain(&self.after).chain([&self.key]).flat_map(IndexMap::keys)
    }

    /// Whether the line itself gives each column's type, or none is needed.
    pub(super) fn has_all_types(&self) -> bool {
        let is_common = |ty: &Type| !matches!(ty, Type::Other(_));
        self.op == Op::Schema || self.columns().all(|column| self.types.get(column).is_some_and(is_common))
    }

    /// Whether the table has all these columns.
    pub(super) fn is_known(&self, known: &Known) -> bool {
        let columns = known.get(&self.table);
        columns.is_some_and(|columns| self.columns().all(|column| columns.contains_key(column)))
    }

    /// The change, its values read by the types that the line gives, or those that are known.
    pub(super) fn change(&self, known: &Known, words: &Words) -> Result<Change, String> {
        let known = known.get(&self.table);
        let row = |columns: &Columns| -> Result<Row, String> {
            let column = |name: &String, json: &RawValue| {
                // A type that is none of the common ones may be a domain, which only the catalogue can tell.
                let (told, known) = (self.types.get(name), known.and_then(|known| known.get(name)));
                let ty = told.filter(|ty| !matches!(ty, Type::Other(_))).or(known).or(told);
                let value = match self.op {
                    Op::Schema => type_of_column(json.get(), words),
                    _ => value(json.get(), ty, words),
                };
                value.map(|value| (name.clone(), value)).map_err(|cause| format!("`{name}`: {cause}"))
            };
            columns.iter().map(|(name, json)| column(name, json)).collect()
        };
        Ok(Change {
            op: self.op,
            table: self.table.clone(),
            key: row(&self.key)?,
            before: self.before.as_ref().map(row).transpose()?,
            after: self.after.as_ref().map(row).transpose()?,
            position: self.position,
            tx: self.tx.clone(),
            commit_time_us: self.commit_time_us,
            tombstone: self.tombstone,
            renamed_from: self.renamed_from.clone(),
        })
    }
}

/// A type in the harness's words, whichever of both spellings it came in.
fn type_of_column(json: &str, words: &Words) -> Result<Value, String> {
    let name: String = serde_json::from_str(json).map_err(|_| "a column's type is a text")?;
    Ok(Value::Text(words.type_named(&name).to_string()))
}

fn value(json: &str, ty: Option<&Type>, words: &Words) -> Result<Value, String> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(Value::Null),
        Some(b't' | b'f') => Ok(match ty {
            None | Some(Type::Bool) => Value::Bool(json.starts_with('t')),
            Some(ty) => words.value(json, ty),
        }),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            Ok(match ty {
                Some(ty) => words.value(&text, ty),
                None => Value::Text(text),
            })
        }
        Some(b'[') => array(json, ty, words),
        Some(b'{') => {
            let object: BTreeMap<String, bool> = serde_json::from_str(json).unwrap_or_default();
            if object.len() == 1 && object.get("unavailable") == Some(&true) {
                return Ok(Value::Unavailable);
            }
            Err("no value is an object; JSON is given as text, in the form in which the database prints it".to_owned())
        }
        _ => Ok(match ty {
            Some(ty) => words.value(json, ty),
            None => json.parse().map_or_else(|_| number(json), Value::Int),
        }),
    }
}

fn number(json: &str) -> Value {
    json.parse().map_or_else(|_| json.into(), |number| Value::Float(Float::new(number)))
}

fn array(json: &str, ty: Option<&Type>, words: &Words) -> Result<Value, String> {
    let element = match ty {
        Some(Type::Array(element)) => Some(&**element),
        Some(ty) => return Err(format!("an array, but the column's type is {ty}")),
        None => None,
    };
    let items: Vec<Box<RawValue>> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    // The type of an array says nothing of its dimensions.
    let of = |item: &RawValue| if item.get().starts_with('[') { ty } else { element };
    items.iter().map(|item| value(item.get(), of(item), words)).collect::<Result<_, _>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{Gtid, Lsn},
        row,
    };

    const PG: &Words = &Words::PostgreSql;

    fn change(line: &str, known: &Known) -> Result<Change, String> {
        match read(line, PG)? {
            Line::Change(told) => told.change(known, PG),
            Line::Ready => Err("ready".to_owned()),
        }
    }

    fn known(columns: &[(&str, Type)]) -> Known {
        let columns = columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone()));
        Known::from([("t".into(), columns.collect())])
    }

    #[test]
    fn a_change_has_the_fields_that_cdc_try_prints() -> Result<(), String> {
        let line = r#"{"type":"change","op":"update","table":"t","key":{"id":20},"before":{"id":2},
            "after":{"id":20,"n":"1.50","big":{"unavailable":true}},"position":{"lsn":"16/B374D848"},"tx":"2119",
            "commit_time_us":1795459466286300,"tombstone":false,"method":"x","statement":5,"transaction":3}"#;
        let known = known(&[("id", Type::Int), ("n", Type::Numeric(None)), ("big", Type::Text)]);
        let expected = Change {
            key: row! { id: 20 },
            before: Some(row! { id: 2 }),
            after: Some(row! { id: 20, n: Value::Decimal("1.50".into()), big: Value::Unavailable }),
            position: Some(Position::Lsn(Lsn(0x16_B374_D848))),
            tx: Some(TxId::new("2119")),
            commit_time_us: Some(1_795_459_466_286_300),
            ..Change::new(Op::Update, "t".into())
        };
        assert_eq!(change(line, &known)?, expected);
        let short = r#"{"type":"change","op":"update","table":{"schema":"public","name":"t"},"key":{"id":"20"},
            "before":{"id":"2"},"after":{"id":"20","n":1.50,"big":{"unavailable":true}},"position":"16/B374D848",
            "tx":2119,"commit_time_us":1795459466286300}"#;
        assert_eq!(change(short, &known)?, expected, "the same in other words");
        Ok(())
    }

    #[test]
    fn values_are_read_by_the_type_of_their_column() -> Result<(), String> {
        let array = |of: Type| Type::Array(Box::new(of));
        for (json, ty, expected) in [
            ("null", Type::Int, Value::Null),
            ("7", Type::Int, 7.into()),
            ("\"7\"", Type::BigInt, 7.into()),
            ("7", Type::Numeric(Some((8, 2))), Value::Decimal("7".into())),
            ("7.50", Type::Numeric(None), Value::Decimal("7.50".into())),
            ("0.1", Type::Real, 0.1.into()),
            ("7", Type::Double, 7.0.into()),
            ("\"NaN\"", Type::Double, f64::NAN.into()),
            ("true", Type::Bool, true.into()),
            ("\"f\"", Type::Bool, false.into()),
            ("7", Type::Text, "7".into()),
            (r#""\\x00ff""#, Type::Bytes, Value::Bytes(vec![0, 255])),
            (r#""{\"a\": 1.50}""#, Type::Json, r#"{"a": 1.50}"#.into()),
            ("\"{1,NULL}\"", array(Type::Int), Value::Array(vec![1.into(), Value::Null])),
            ("[[1, 2], [null, 4]]", array(Type::Int), {
                let inner = |a: Value| Value::Array(vec![a, 4.into()]);
                Value::Array(vec![Value::from(vec![1, 2]), inner(Value::Null)])
            }),
        ] {
            assert_eq!(value(json, Some(&ty), PG)?, expected, "{json} as {ty}");
        }
        assert_eq!(value("9007199254740993", None, PG)?, 9_007_199_254_740_993_i64.into());
        assert_eq!(value("1.5", None, PG)?, 1.5.into());
        assert!(value(r#"{"a": 1}"#, Some(&Type::Json), PG).is_err());
        assert!(value("[1]", Some(&Type::Int), PG).is_err());
        Ok(())
    }

    #[test]
    fn a_line_may_tell_types_that_the_catalogue_no_longer_has() -> Result<(), String> {
        let line = r#"{"type":"change","op":"insert","table":"s.t","key":{"id":1},"after":{"id":1,"n":"2"},
            "types":{"id":"integer","n":"text"}}"#;
        let Line::Change(told) = read(line, PG)? else { return Err("no change".into()) };
        assert!(told.has_all_types());
        assert!(!told.is_known(&Known::new()));
        let read = told.change(&known(&[("n", Type::Int)]), PG)?;
        assert_eq!((read.table, read.after), (TableName::new("s", "t"), Some(row! { id: 1, n: "2" })));
        Ok(())
    }

    #[test]
    fn a_schema_change_tells_types_in_either_spelling() -> Result<(), String> {
        let line = r#"{"type":"change","op":"schema","table":"t","renamed_from":"u","before":{"id":"integer"},
            "after":{"id":"int","name":"character varying(5)"}}"#;
        let read = change(line, &Known::new())?;
        assert_eq!(read.before, Some(row! { id: "int" }));
        assert_eq!(read.after, Some(row! { id: "int", name: "varchar(5)" }));
        assert_eq!(read.renamed_from, Some("u".into()));
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_in_words() {
        for (line, told) in [
            ("hello", "not as documented"),
            ("{}", "missing field `type`"),
            (r#"{"type":"commit"}"#, "no line of the type `commit`"),
            (r#"{"type":"change","table":"t"}"#, "no `op`"),
            (r#"{"type":"change","op":"upset","table":"t"}"#, "upset"),
            (r#"{"type":"change","op":"insert"}"#, "no `table`"),
            (r#"{"type":"change","op":"insert","table":"t"}"#, "no `after`"),
            (r#"{"type":"change","op":"delete","table":"t","after":{}}"#, "has an `after`"),
            (r#"{"type":"change","op":"insert","table":"t","after":{},"position":"x"}"#, "no position"),
            (r#"{"type":"change","op":"insert","table":7,"after":{}}"#, "a table is"),
            (r#"{"type":"change","op":"insert","table":"a.b.c","after":{}}"#, "a.b.c"),
            (r#"{"type":"change","op":"insert","table":"t","after":{"a":{"b":1}}}"#, "`a`: no value is an object"),
        ] {
            let error = change(line, &Known::new()).err().unwrap_or_default();
            assert!(error.contains(told), "{line}: {error}");
        }
        assert!(matches!(read(r#"{"type":"ready"}"#, PG), Ok(Line::Ready)));
    }

    #[test]
    fn what_a_program_says_of_mysql_is_read_in_mysqls_words() -> Result<(), String> {
        let words = Words::MySql("cp_1".to_owned());
        let line = r#"{"type":"change","op":"insert","table":"cp_1.t","after":{"id":1,"flag":"101","raw":"\\x00ff","at":"2024-05-01 12:00:00.500000"},
            "types":{"id":"int","flag":"bit(3)","raw":"binary(2)","at":"datetime(6)"},
            "position":{"gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23"}}"#;
        let Line::Change(told) = read(line, &words)? else { return Err("no change".into()) };
        let read = told.change(&Known::new(), &words)?;
        assert_eq!(read.table, "t".into());
        let bytes = Value::Bytes(vec![0, 255]);
        assert_eq!(read.after, Some(row! { id: 1, flag: "101", raw: bytes, at: "2024-05-01 12:00:00.5" }));
        let gtid: Gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23".parse()?;
        assert_eq!(read.position, Some(Position::Gtid(gtid)));
        Ok(())
    }
}
