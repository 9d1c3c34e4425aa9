//! What MySQL's columns hold, as values: the text that the database prints, but for the types that every source has.
//!
//! [`Type::Timestamp`] and [`Type::TimestampTz`] have one form whatever the source: without zeros at the end of the
//! fraction, the moment with its zone. All others stay as MySQL prints them.

use crate::{
    schema::Type,
    value::{Float, Value, widen},
};

/// The value of a column whose type is known, from the bytes of MySQL's text protocol.
pub fn from_text(bytes: &[u8], ty: &Type) -> Value {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match ty {
        Type::Bytes => return Value::Bytes(bytes.to_vec()),
        Type::Other(name) if is_named_binary(name) => return Value::Bytes(bytes.to_vec()),
        Type::Other(name) if is_of(name, "bit") => return Value::Text(bits(bytes, length(name))),
        _ => {}
    }
    let text = text();
    let parsed = match ty {
        Type::Bool => truth(text.parse().ok()),
        Type::SmallInt | Type::Int | Type::BigInt => text.parse().ok().map(Value::Int),
        Type::Other(name) if is_integer(name) => text.parse().ok().map(Value::Int),
        Type::Real => single(text.parse().ok()),
        Type::Other(name) if is_of(name, "float") => single(text.parse().ok()),
        Type::Double => text.parse().ok().map(|number| Value::Float(Float::new(number))),
        Type::Other(name) if is_of(name, "double") => text.parse().ok().map(|number| Value::Float(Float::new(number))),
        Type::Numeric(_) => return Value::Decimal(text),
        Type::Other(name) if is_of(name, "decimal") => return Value::Decimal(text),
        Type::Timestamp => return Value::Text(short(&text).to_owned()),
        Type::TimestampTz => return Value::Text(format!("{}+00", short(&text))),
        _ => None,
    };
    parsed.unwrap_or(Value::Text(text))
}

/// A truth value, which MySQL keeps as a number; another number than 0 and 1 is told as what it is.
fn truth(number: Option<i128>) -> Option<Value> {
    Some(match number? {
        0 => Value::Bool(false),
        1 => Value::Bool(true),
        other => Value::Int(other),
    })
}

/// A number of 32 bits that was widened to 64.
#[expect(clippy::cast_possible_truncation, reason = "the sender widened a 32-bit number")]
fn single(number: Option<f64>) -> Option<Value> {
    number.map(|number| Value::Float(Float::new(widen(number as f32))))
}

/// Bits, the most significant first, as many as the column holds.
pub(crate) fn bits(bytes: &[u8], count: usize) -> String {
    let total = bytes.len() * 8;
    let digit = |at: usize| if bytes[at / 8] >> (7 - at % 8) & 1 == 1 { '1' } else { '0' };
    (total.saturating_sub(count)..total).map(digit).collect()
}

/// A time without the zeros at the end of its fraction.
pub(crate) fn short(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Whether a type is this one, whatever its length and its attributes.
pub(crate) fn is_of(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', ' ']))
}

/// A type without its length, precision and width. The members of an ENUM, and how fine a time is, stay.
pub(crate) fn bare(ty: &Type) -> Type {
    const KEPT: [&str; 5] = ["enum", "set", "datetime", "timestamp", "time"];
    let other = |name: &str| Type::Other(name.to_owned());
    match ty {
        Type::Bool => other("tinyint"),
        Type::Numeric(_) => other("decimal"),
        Type::Varchar(_) => other("varchar"),
        Type::Uuid => other("char"),
        // Only MySQL has it as a type.
        Type::Json => Type::Text,
        Type::Other(name) if !KEPT.iter().any(|kept| is_of(name, kept)) => {
            let name = name.strip_suffix(" zerofill").unwrap_or(name);
            match name.split_once('(').and_then(|(base, rest)| Some((base, rest.split_once(')')?.1))) {
                Some((base, rest)) => other(&format!("{base}{rest}")),
                None => other(name),
            }
        }
        ty => ty.clone(),
    }
}

/// The length that a type's name gives.
fn length(name: &str) -> usize {
    let length = name.split_once('(').and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    length.unwrap_or(1)
}

fn is_integer(name: &str) -> bool {
    ["tinyint", "smallint", "mediumint", "int", "bigint"].iter().any(|base| is_of(name, base))
}

/// Whether a type holds bytes, and no letters.
pub(crate) fn is_binary(ty: &Type) -> bool {
    *ty == Type::Bytes || matches!(ty, Type::Other(name) if is_named_binary(name))
}

fn is_named_binary(name: &str) -> bool {
    const BINARY: [&str; 15] = [
        "binary",
        "varbinary",
        "tinyblob",
        "blob",
        "mediumblob",
        "vector",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geomcollection",
        "geometrycollection",
    ];
    BINARY.iter().any(|base| is_of(name, base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(name: &str) -> Type {
        Type::Other(name.to_owned())
    }

    #[test]
    fn bare_types_have_no_length() {
        assert_eq!(bare(&Type::Numeric(Some((10, 2)))), other("decimal"));
        assert_eq!(bare(&other("int(10) unsigned zerofill")), other("int unsigned"));
        assert_eq!(bare(&other("binary(4)")), other("binary"));
        for kept in [other("enum('a','b')"), other("datetime(3)"), other("mediumint"), Type::Text, Type::Timestamp] {
            assert_eq!(bare(&kept), kept);
        }
    }

    #[test]
    fn texts_of_mysql_are_read_by_type() {
        assert_eq!(from_text(b"1", &Type::Bool), Value::Bool(true));
        assert_eq!(from_text(b"2", &Type::Bool), Value::Int(2), "a tinyint(1) may hold any small number");
        assert_eq!(from_text(b"18446744073709551615", &other("bigint unsigned")), Value::from(u64::MAX));
        assert_eq!(from_text(b"00042", &other("int(5) unsigned zerofill")), Value::Int(42));
        assert_eq!(from_text(b"0.10000000149011612", &Type::Real), Value::from(0.1));
        assert_eq!(from_text(b"1.50", &Type::Numeric(Some((6, 2)))), Value::Decimal("1.50".into()));
        assert_eq!(from_text(b"2024-02-29 12:00:00.120000", &Type::Timestamp), "2024-02-29 12:00:00.12".into());
        assert_eq!(from_text(b"2024-02-29 12:00:00.000000", &Type::TimestampTz), "2024-02-29 12:00:00+00".into());
        assert_eq!(from_text(b"2024-02-29 12:00:00.100", &other("datetime(3)")), "2024-02-29 12:00:00.100".into());
        assert_eq!(from_text(b"\x02\xaa", &other("bit(10)")), "1010101010".into());
        assert_eq!(from_text(&[0, 255], &other("varbinary(2)")), Value::Bytes(vec![0, 255]));
        assert_eq!(from_text(b"-838:59:59", &other("time")), "-838:59:59".into());
    }
}
