//! In which form a method delivers values, as data: what isn't named comes as the database itself prints it.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Loss;
use crate::{
    mysql,
    schema::{Table, Type},
    value::{Row, Value},
};

/// The forms in which values are delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Values {
    /// The types that come in another form than the database prints.
    pub rules: Cow<'static, [Rule]>,
    /// Whether columns that the database makes by an expression are delivered.
    pub generated_columns: bool,
    /// Whether arrays of arrays are delivered; if not, NULL stands for each inner one.
    pub nested_arrays: bool,
    /// Whether a changed definition tells types without their lengths and precisions.
    pub bare_types: bool,
}

/// A type and the form that it comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The type's name as the database spells it, without length or precision; `composite` for all composite types.
    pub ty: Cow<'static, str>,
    /// The form.
    pub form: Form,
}

/// Another form than the one that the database prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The column isn't there.
    Absent,
    /// NULL.
    Null,
    /// NULL, unless it is a finite number.
    NullUnlessFinite,
    /// NULL, unless it is a day of a year with four digits after Christ.
    NullUnlessCommon,
    /// The same, and without the zeros at the end of its fraction.
    ShortNumeric,
    /// An interval as microseconds, with months of 30.4375 days.
    Micros,
    /// A time of day with its zone, turned to UTC.
    Utc,
    /// An amount of money as a plain decimal.
    Amount,
    /// A truth value, or bits, as the number that they are kept as.
    Number,
    /// The members of a set as a list.
    List,
    /// Bytes without the zeros at their end.
    Unpadded,
    /// A time without the zeros at the end of its fraction.
    ShortFraction,
    /// The same with its zone, which is UTC.
    Moment,
    /// JSON without a blank between its parts.
    DenseJson,
    /// Bits: one alone as a truth value, several as bytes, the least significant first and without zeros at the end.
    Bits,
    /// As [`Form::Bits`], with all bytes of the column.
    AllBits,
    /// A point as a JSON object that holds it a second time in well-known binary.
    Point,
    /// hstore as a JSON object without blanks.
    JsonObject,
    /// hstore as a JSON object with blanks after colons and commas.
    SpacedJsonObject,
    /// JSON as `jsonb` prints it: keys ordered and unique, blanks its own.
    BinaryJson,
}

/// What a reader of the log delivers: everything as it is stored, but for generated columns, which the log's messages don't
/// have up to PostgreSQL 17.
impl Default for Values {
    fn default() -> Self {
        Self { generated_columns: false, ..Self::AS_STORED }
    }
}

impl Values {
    /// Everything as the database stores and prints it.
    pub const AS_STORED: Self =
        Self { rules: Cow::Borrowed(&[]), generated_columns: true, nested_arrays: true, bare_types: false };

    /// The same without the rules that are picked: what they say of a type comes as it is stored.
    pub(crate) fn without(&self, is_picked: impl Fn(&Rule) -> bool) -> Self {
        let rules = self.rules.iter().filter(|rule| !is_picked(rule));
        Self { rules: rules.cloned().collect(), ..self.clone() }
    }

    /// A value as it is delivered; `None` if its column isn't.
    pub fn told(&self, ty: &Type, is_generated: bool, value: &Value, losses: &mut BTreeSet<Loss>) -> Option<Value> {
        if !self.tells_column(ty, is_generated) {
            losses.insert(Loss::ColumnMissing);
            return None;
        }
        Some(self.value(ty, value, losses))
    }

    fn value(&self, ty: &Type, value: &Value, losses: &mut BTreeSet<Loss>) -> Value {
        match (ty, value) {
            (_, Value::Null | Value::Unavailable) => value.clone(),
            (Type::Array(element), Value::Array(items)) => {
                let item = |item: &Value| match item {
                    Value::Array(_) if self.nested_arrays => self.value(ty, item, losses),
                    Value::Array(_) => {
                        losses.insert(Loss::ValueLost);
                        Value::Null
                    }
                    item => self.value(element, item, losses),
                };
                Value::Array(items.iter().map(item).collect())
            }
            _ => {
                let told = self.form(ty).map_or_else(|| value.clone(), |form| form.of(value));
                if told != *value {
                    losses.insert(if told.is_null() { Loss::ValueLost } else { Loss::ValueInOtherForm });
                }
                told
            }
        }
    }

    fn form(&self, ty: &Type) -> Option<Form> {
        let name = name_of(ty);
        self.rules.iter().find(|rule| rule.ty == name).map(|rule| rule.form)
    }

    /// A type's name as a change of the definition tells it.
    pub(super) fn type_name(&self, ty: &Type) -> String {
        match self.form(ty) {
            _ if self.bare_types => mysql::bare(ty).to_string(),
            Some(Form::Number) if *ty == Type::Bool => "tinyint".to_owned(),
            _ => ty.to_string(),
        }
    }

    fn tells_column(&self, ty: &Type, is_generated: bool) -> bool {
        (self.generated_columns || !is_generated) && self.form(ty) != Some(Form::Absent)
    }

    /// A table with the columns that are delivered of it.
    pub(super) fn told_table(&self, table: &Arc<Table>) -> Arc<Table> {
        let is_told = |column: &crate::schema::Column| self.tells_column(&column.ty, column.generated.is_some());
        if table.columns.iter().all(is_told) {
            return Arc::clone(table);
        }
        let columns = table.columns.iter().filter(|column| is_told(column)).cloned().collect();
        Arc::new(Table { columns, ..Table::clone(table) })
    }

    /// A row of a table as it is delivered.
    pub(super) fn told_row(&self, table: &Table, row: &Row, losses: &mut BTreeSet<Loss>) -> Row {
        if self.rules.is_empty() && self.generated_columns && self.nested_arrays {
            return row.clone();
        }
        let told = row.iter().filter_map(|(name, value)| {
            let Some(column) = table.column(name) else { return Some((name.to_owned(), value.clone())) };
            Some((name.to_owned(), self.told(&column.ty, column.generated.is_some(), value, losses)?))
        });
        told.collect()
    }
}

/// A type's name as rules give it.
fn name_of(ty: &Type) -> String {
    match ty {
        Type::Numeric(None) => "numeric".to_owned(),
        Type::Numeric(Some(_)) => "numeric with scale".to_owned(),
        Type::Json => "jsonb".to_owned(),
        Type::Timestamp => "timestamp without time zone".to_owned(),
        Type::TimestampTz => "timestamp with time zone".to_owned(),
        Type::Composite { .. } => "composite".to_owned(),
        Type::Other(name) => match (name.find('('), name.find(')')) {
            (Some(open), Some(close)) if open < close => format!("{}{}", &name[..open], &name[close + 1..]),
            _ => name.clone(),
        },
        other => other.to_string(),
    }
}

impl Form {
    /// The value in this form; a value that is not of the form's type stays what it is.
    fn of(self, value: &Value) -> Value {
        if let (Self::NullUnlessFinite, Value::Float(number)) = (self, value) {
            return if number.get().is_finite() { value.clone() } else { Value::Null };
        }
        if let (Self::Unpadded, Value::Bytes(bytes)) = (self, value) {
            let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            return Value::Bytes(bytes[..length].to_vec());
        }
        if let (Self::Number, Value::Bool(truth)) = (self, value) {
            return Value::Int((*truth).into());
        }
        let text = match value {
            Value::Text(text) | Value::Decimal(text) => text.as_str(),
            _ => return value.clone(),
        };
        let told = match self {
            Self::Absent | Self::Null => Some(Value::Null),
            Self::NullUnlessFinite | Self::ShortNumeric if is_infinite(text) => Some(Value::Null),
            Self::NullUnlessCommon => (!is_in_common_era(text)).then_some(Value::Null),
            Self::ShortNumeric if text.contains('.') => {
                Some(Value::Decimal(text.trim_end_matches('0').trim_end_matches('.').to_owned()))
            }
            Self::NullUnlessFinite | Self::ShortNumeric | Self::Unpadded => None,
            Self::Number => i128::from_str_radix(text, 2).ok().map(Value::Int),
            Self::List => Some(Value::Array(text.split_terminator(',').map(Value::from).collect())),
            Self::Micros => micros(text).map(Value::Int),
            Self::Utc => utc(text).map(Value::Text),
            Self::Amount => Some(Value::Decimal(text.chars().filter(|c| !matches!(c, '$' | ',')).collect())),
            Self::Bits => Some(bits(text, true)),
            Self::AllBits => Some(bits(text, false)),
            Self::Point => point(text).map(Value::Text),
            Self::JsonObject => hstore(text, ":", ",").map(Value::Text),
            Self::SpacedJsonObject => hstore(text, ": ", ", ").map(Value::Text),
            Self::ShortFraction => Some(Value::Text(mysql::short(text).to_owned())),
            Self::Moment => Some(Value::Text(format!("{}+00", mysql::short(text)))),
            Self::DenseJson => Some(Value::Text(dense_json(text))),
            Self::BinaryJson => binary_json(text).map(Value::Text),
        };
        told.unwrap_or_else(|| value.clone())
    }
}

/// JSON without the blanks that stand between its parts and in no string.
fn dense_json(text: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let keep = |c: &char| {
        let is_kept = is_string || *c != ' ';
        is_string ^= *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_kept
    };
    text.chars().filter(keep).collect()
}

/// `2024-02-29` or `2024-02-29 12:00:00+00`, but not `infinity`, `0044-03-15 BC` or `12024-02-29`.
fn is_in_common_era(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && !text.ends_with("BC")
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// `1 year 2 mons -3 days 02:03:04.5`, as PostgreSQL prints intervals by default (manual, 8.5.5).
fn micros(text: &str) -> Option<i128> {
    const DAY: f64 = 86_400e6;
    const MONTH: f64 = 30.4375 * DAY;
    let (mut whole, mut time) = (0.0, 0);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            time = time_micros(word)?;
            continue;
        }
        let number: f64 = word.parse().ok()?;
        whole += number
            * match words.next()?.trim_end_matches('s') {
                "year" => 12.0 * MONTH,
                "mon" => MONTH,
                "day" => DAY,
                _ => return None,
            };
    }
    #[expect(clippy::cast_possible_truncation, reason = "Debezium's own arithmetic is that of double, cut to long")]
    Some(whole as i128 + i128::from(time))
}

fn time_micros(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.trim_start_matches('+')),
    };
    let mut parts = digits.split(':');
    let (hours, minutes): (i64, i64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, fraction) = parts.next()?.split_once('.').unwrap_or((digits.rsplit(':').next()?, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(sign * (((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction))
}

/// `12:00:00+05:30` as `06:30:00Z`.
fn utc(text: &str) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    let at = text.rfind(['+', '-'])?;
    let (time, zone) = text.split_at(at);
    let zone = match zone.matches(':').count() {
        0 => format!("{zone}:00:00"),
        1 => format!("{zone}:00"),
        _ => zone.to_owned(),
    };
    let micros = (time_micros(time)? - time_micros(&zone)?).rem_euclid(DAY);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let fraction = format!(".{fraction:06}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    Some(format!("{:02}:{:02}:{:02}{fraction}Z", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

fn bits(text: &str, is_short: bool) -> Value {
    if text.len() == 1 {
        return Value::Bool(text == "1");
    }
    let digits: Vec<u8> = text.bytes().rev().map(|digit| digit - b'0').collect();
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
    let mut bytes: Vec<u8> = digits.chunks(8).map(byte).collect();
    if is_short {
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    }
    Value::Bytes(bytes)
}

/// `(1,2)` with its well-known binary (OGC 06-103r4, 8.2): byte order, type, coordinates.
fn point(text: &str) -> Option<String> {
    let (x, y) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let (x, y): (f64, f64) = (x.parse().ok()?, y.parse().ok()?);
    let binary = [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat();
    let binary = BASE64_STANDARD.encode(binary);
    Some(format!(r#"{{"x":{x:?},"y":{y:?},"wkb":"{binary}","srid":null}}"#))
}

/// `"a"=>"1", "b"=>NULL` as a JSON object.
fn hstore(text: &str, colon: &str, comma: &str) -> Option<String> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let after = after.strip_prefix("=>")?;
        let (value, after) = match after.strip_prefix("NULL") {
            Some(after) => ("null".to_owned(), after),
            None => quoted(after)?,
        };
        pairs.push(format!("{key}{colon}{value}"));
        rest = after.strip_prefix(", ").unwrap_or(after);
    }
    Some(format!("{{{}}}", pairs.join(comma)))
}

/// A quoted string at the beginning, as JSON, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut chars = text.strip_prefix('"')?.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((serde_json::Value::String(plain).to_string(), &text[at + 2..])),
            '\\' => plain.push(chars.next()?.1),
            other => plain.push(other),
        }
    }
    None
}

/// JSON as `jsonb` stores and prints it (manual, 8.14): the last of equal keys, shorter keys first, numbers as written.
fn binary_json(text: &str) -> Option<String> {
    let text = text.trim();
    Some(match text.as_bytes().first()? {
        b'{' => {
            let fields: IndexMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            let field = |(name, value): (String, Box<RawValue>)| {
                Some(format!("{}: {}", serde_json::Value::String(name), binary_json(value.get())?))
            };
            format!("{{{}}}", fields.into_iter().map(field).collect::<Option<Vec<_>>>()?.join(", "))
        }
        b'[' => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
            let items = items.iter().map(|item| binary_json(item.get())).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        b'"' => serde_json::from_str::<serde_json::Value>(text).ok()?.to_string(),
        _ => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_those_that_the_methods_were_seen_to_use() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (form, stored, told) in [
            (Form::Micros, "1 day 02:03:04.5", Value::Int(93_784_500_000)),
            (Form::Micros, "1 year 2 mons -3 days", Value::Int(36_558_000_000_000)),
            (Form::Micros, "-00:00:00.000001", Value::Int(-1)),
            (Form::Utc, "12:00:00+05:30", text("06:30:00Z")),
            (Form::Utc, "01:00:00.5+02", text("23:00:00.5Z")),
            (Form::Amount, "-$1,234.50", Value::Decimal("-1234.50".into())),
            (Form::Bits, "1", Value::Bool(true)),
            (Form::Bits, "10101010", Value::Bytes(vec![0xAA])),
            (Form::Bits, "101", Value::Bytes(vec![5])),
            (Form::Bits, "00000000001", Value::Bytes(vec![1])),
            (Form::Bits, "00", Value::Bytes(vec![])),
            (Form::Bits, "1000000001", Value::Bytes(vec![1, 2])),
            (Form::AllBits, "0000000001", Value::Bytes(vec![1, 0])),
            (Form::AllBits, "0", Value::Bool(false)),
            (Form::Point, "(1,2)", text(r#"{"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}"#)),
            (Form::JsonObject, r#""a"=>"1", "b"=>NULL"#, text(r#"{"a":"1","b":null}"#)),
            (Form::SpacedJsonObject, r#""a\"b"=>"1""#, text(r#"{"a\"b": "1"}"#)),
            (Form::BinaryJson, r#"{"bb": 1,  "a": [2.50,null]}"#, text(r#"{"a": [2.50, null], "bb": 1}"#)),
            (Form::NullUnlessFinite, "NaN", Value::Null),
            (Form::NullUnlessCommon, "infinity", Value::Null),
            (Form::NullUnlessCommon, "0044-03-15 BC", Value::Null),
            (Form::NullUnlessCommon, "2024-02-29", text("2024-02-29")),
            (Form::ShortNumeric, "-Infinity", Value::Null),
            (Form::ShortNumeric, "0.00", Value::Decimal("0".into())),
            (Form::ShortNumeric, "1.250", Value::Decimal("1.25".into())),
            (Form::ShortNumeric, "100", text("100")),
            (Form::ShortFraction, "838:59:59.120", text("838:59:59.12")),
            (Form::ShortFraction, "2024-02-29 12:00:00", text("2024-02-29 12:00:00")),
            (Form::Moment, "2024-02-29 12:00:00.000", text("2024-02-29 12:00:00+00")),
            (Form::DenseJson, r#"{"a": [1, "b: \", c"]}"#, text(r#"{"a":[1,"b: \", c"]}"#)),
            (Form::Null, "x", Value::Null),
            (Form::Number, "1000000001", Value::Int(513)),
            (Form::List, "a,c", Value::Array(vec!["a".into(), "c".into()])),
            (Form::List, "", Value::Array(vec![])),
        ] {
            assert_eq!(form.of(&text(stored)), told, "{form:?} of {stored}");
        }
        assert_eq!(Form::NullUnlessFinite.of(&Value::Decimal("1.50".into())), Value::Decimal("1.50".into()));
        assert_eq!(Form::Number.of(&Value::Bool(true)), Value::Int(1));
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        assert_eq!(Form::Unpadded.of(&bytes(b"a\0b\0\0")), bytes(b"a\0b"));
        assert_eq!(Form::Unpadded.of(&bytes(b"\0")), bytes(b""));
    }

    #[test]
    fn a_value_a_column_and_a_form_that_are_lost_are_named() {
        let rules = [("name", Form::Null), ("tsquery", Form::Absent), ("bit", Form::Bits)];
        let rules = rules.map(|(ty, form)| Rule { ty: ty.into(), form });
        let values = Values {
            rules: rules.to_vec().into(),
            generated_columns: false,
            nested_arrays: false,
            ..Values::AS_STORED
        };
        let told = |ty: &str, is_generated: bool| {
            let mut losses = BTreeSet::new();
            let told = values.told(&Type::Other(ty.into()), is_generated, &Value::from("101"), &mut losses);
            (told, losses.into_iter().next())
        };
        assert_eq!(told("name", false), (Some(Value::Null), Some(Loss::ValueLost)));
        assert_eq!(told("tsquery", false), (None, Some(Loss::ColumnMissing)));
        assert_eq!(told("bit(3)", false), (Some(Value::Bytes(vec![5])), Some(Loss::ValueInOtherForm)));
        assert_eq!(told("xml", false), (Some("101".into()), None));
        assert_eq!(told("xml", true), (None, Some(Loss::ColumnMissing)));
        let matrix = Value::Array(vec![Value::Array(vec![1.into()])]);
        let mut losses = BTreeSet::new();
        let ints = Type::Array(Box::new(Type::Int));
        assert_eq!(values.told(&ints, false, &matrix, &mut losses), Some(Value::Array(vec![Value::Null])));
        assert_eq!(losses, BTreeSet::from([Loss::ValueLost]));
    }
}
