//! JSON as the log holds it (MySQL's `sql-common/json_binary.h`), as the text that MySQL prints (`Json_wrapper::to_string`).

use std::{fmt::Write, io};

use base64::{Engine, prelude::BASE64_STANDARD};
use mysql_common::{
    binlog::jsonb::{OpaqueValue, Value},
    constants::ColumnType,
};

use super::numbers;

/// Writes a document.
///
/// # Errors
/// The bytes are none.
pub(super) fn write(value: &Value<'_>, text: &mut String) -> io::Result<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::I16(number) => push(text, number),
        Value::U16(number) => push(text, number),
        Value::I32(number) => push(text, number),
        Value::U32(number) => push(text, number),
        Value::I64(number) => push(text, number),
        Value::U64(number) => push(text, number),
        Value::F64(number) => text.push_str(&float(*number)),
        Value::String(string) => write_string(&string.str(), text),
        Value::SmallArray(items) => write_array(items.iter(), text)?,
        Value::LargeArray(items) => write_array(items.iter(), text)?,
        Value::SmallObject(fields) => {
            write_object(fields.iter().map(|f| f.map(|(k, v)| (k.value().into_owned(), v))), text)?;
        }
        Value::LargeObject(fields) => {
            write_object(fields.iter().map(|f| f.map(|(k, v)| (k.value().into_owned(), v))), text)?;
        }
        Value::Opaque(opaque) => write_opaque(opaque, text),
    }
    Ok(())
}

fn push(text: &mut String, number: impl std::fmt::Display) {
    let _ = write!(text, "{number}");
}

fn write_array<'a>(items: impl Iterator<Item = io::Result<Value<'a>>>, text: &mut String) -> io::Result<()> {
    text.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        write(&item?, text)?;
    }
    text.push(']');
    Ok(())
}

fn write_object<'a>(
    fields: impl Iterator<Item = io::Result<(String, Value<'a>)>>,
    text: &mut String,
) -> io::Result<()> {
    text.push('{');
    for (at, field) in fields.enumerate() {
        let (name, value) = field?;
        if at > 0 {
            text.push_str(", ");
        }
        write_string(&name, text);
        text.push_str(": ");
        write(&value, text)?;
    }
    text.push('}');
    Ok(())
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// A value of a type that JSON itself doesn't have.
fn write_opaque(opaque: &OpaqueValue<'_>, text: &mut String) {
    let bytes = opaque.data_raw();
    match (opaque.value_type(), bytes) {
        (ColumnType::MYSQL_TYPE_NEWDECIMAL, [precision, scale, digits @ ..]) => {
            text.push_str(&numbers::decimal(digits, usize::from(*precision), usize::from(*scale)));
        }
        (
            ty @ (ColumnType::MYSQL_TYPE_DATE
            | ColumnType::MYSQL_TYPE_TIME
            | ColumnType::MYSQL_TYPE_DATETIME
            | ColumnType::MYSQL_TYPE_TIMESTAMP),
            packed,
        ) if packed.len() == 8 => {
            let packed = packed.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
            let _ = write!(text, "\"{}\"", moment(ty, packed));
        }
        (ty, bytes) => {
            let _ = write!(text, "\"base64:type{}:{}\"", ty as u8, BASE64_STANDARD.encode(bytes));
        }
    }
}

/// A date or time in the packed form that is the same for all of them: the fraction in the lower 24 bits.
fn moment(ty: ColumnType, packed: i64) -> String {
    let (sign, magnitude) = if packed < 0 { ("-", packed.unsigned_abs()) } else { ("", packed.unsigned_abs()) };
    let (whole, micros) = (magnitude >> 24, magnitude & 0xff_ffff);
    let (minute, second) = (whole >> 6 & 63, whole & 63);
    if ty == ColumnType::MYSQL_TYPE_TIME {
        return format!("{sign}{:02}:{minute:02}:{second:02}.{micros:06}", whole >> 12 & 0x3ff);
    }
    let (months, day, hour) = (whole >> 22, whole >> 17 & 31, whole >> 12 & 31);
    let date = format!("{:04}-{:02}-{day:02}", months / 13, months % 13);
    match ty {
        ColumnType::MYSQL_TYPE_DATE => date,
        _ => format!("{date} {hour:02}:{minute:02}:{second:02}.{micros:06}"),
    }
}

/// Where the point may stand before or behind the digits of a number that is printed without an exponent, unless it stands amid them
/// (`my_gcvt`: `MAX_DECPT_FOR_F_FORMAT`).
const PLAIN: i32 = 15;

/// A floating-point number; a whole one shows that it isn't an integer.
fn float(number: f64) -> String {
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = digits.chars().filter(char::is_ascii_digit).count();
    let has_fraction = i32::try_from(count).is_ok_and(|count| point > 0 && count > point);
    if (1 - PLAIN..=PLAIN).contains(&point) || has_fraction || number == 0.0 {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    format!("{digits}e{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_mysql_prints_them() {
        for (number, text) in [
            (2.5, "2.5"),
            (2.0, "2.0"),
            (-0.0, "-0.0"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1_234_567_890_123_456.8, "1234567890123456.8"),
            (1.5e300, "1.5e300"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut text = String::new();
        write_string("a\"\\\n\u{1}/ä", &mut text);
        assert_eq!(text, r#""a\"\\\n\u0001/ä""#);
    }

    #[test]
    fn times_within_documents_keep_six_digits() {
        let clock = |hour: i64, minute: i64, second: i64| (hour << 12) + (minute << 6) + second;
        assert_eq!(moment(ColumnType::MYSQL_TYPE_TIME, -((clock(838, 59, 59) << 24) + 1)), "-838:59:59.000001");
        let date = ((2024 * 13 + 2) << 22) + (29 << 17);
        assert_eq!(moment(ColumnType::MYSQL_TYPE_DATE, date << 24), "2024-02-29");
        let noon = (date + clock(12, 0, 0)) << 24;
        assert_eq!(moment(ColumnType::MYSQL_TYPE_DATETIME, noon), "2024-02-29 12:00:00.000000");
    }
}
