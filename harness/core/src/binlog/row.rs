//! Rows as the log holds them: which columns are there, which of them are NULL, and the values of the others.

use std::net::{Ipv4Addr, Ipv6Addr};

use mysql_common::{binlog::jsonb, io::ParseBuf};
use uuid::Uuid;

use super::{
    charset::Charset,
    json,
    numbers::{self, Second},
    table::{Column, Encoding, Table},
};
use crate::{
    error::{Error, Result},
    mysql,
    schema::{TableName, Type},
    value::{Columns, Float, Row, Value, widen},
};

/// Which of a table's columns the images of an event have.
pub(super) struct Image {
    places: Vec<usize>,
    columns: Columns,
}

impl Image {
    /// The columns that are present, of those that the table has.
    pub(super) fn new(table: &Table, present: &[bool]) -> Self {
        let places = present.iter().enumerate().filter(|(_, is_present)| **is_present).map(|(place, _)| place);
        let places: Vec<_> = places.filter(|place| *place < table.columns.len()).collect();
        Self { columns: table.names(&places), places }
    }

    /// Where a column of the table stands in them.
    pub(super) fn find(&self, place: usize) -> Option<usize> {
        self.places.iter().position(|present| *present == place)
    }
}

/// The rows' part of an event, being read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    table: &'a Table,
    latest: Second,
}

fn is_set(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], table: &'a Table) -> Self {
        Self { bytes, table, latest: Second::default() }
    }

    /// Whether there are more rows.
    pub(super) fn has_more(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// How many bytes of rows there are still to read.
    pub(super) fn length_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes.split_at_checked(count);
        let (taken, rest) = taken.ok_or_else(|| unreadable(&self.table.name, "it ends within a row"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        let length = little_endian(self.take(bytes)?);
        usize::try_from(length).map_err(|error| unreadable(&self.table.name, &error.to_string()))
    }

    /// The next image of a row.
    pub(super) fn image(&mut self, image: &Image) -> Result<Row> {
        let table = self.table;
        let nulls = self.take(image.places.len().div_ceil(8))?;
        let mut values = Vec::with_capacity(image.places.len());
        for (at, place) in image.places.iter().enumerate() {
            values.push(if is_set(nulls, at) { Value::Null } else { self.value(&table.columns[*place])? });
        }
        Ok(Row::of(&image.columns, values))
    }

    fn value(&mut self, column: &Column) -> Result<Value> {
        Ok(match &column.encoding {
            Encoding::Integer { bytes, is_unsigned } => integer(self.take(*bytes)?, *is_unsigned),
            Encoding::Float => {
                let number = f32::from_le_bytes(self.array()?);
                Value::Float(Float::new(widen(number)))
            }
            Encoding::Double => Value::Float(Float::new(f64::from_le_bytes(self.array()?))),
            Encoding::Decimal { precision, scale } => {
                let bytes = self.take(numbers::decimal_length(*precision, *scale))?;
                Value::Decimal(numbers::decimal(bytes, *precision, *scale))
            }
            Encoding::Year => {
                let year = little_endian(self.take(1)?);
                Value::Text(if year == 0 { "0000".to_owned() } else { (1900 + year).to_string() })
            }
            Encoding::Date => Value::Text(numbers::date(self.take(3)?)),
            Encoding::Time { digits } => {
                Value::Text(numbers::time_of_day(self.take(3 + numbers::fraction_length(*digits))?, *digits))
            }
            Encoding::DateTime { digits } => {
                moment(numbers::datetime(self.take(5 + numbers::fraction_length(*digits))?, *digits), &column.ty)
            }
            Encoding::Timestamp { digits } => {
                let bytes = self.take(4 + numbers::fraction_length(*digits))?;
                moment(numbers::timestamp(bytes, *digits, &mut self.latest), &column.ty)
            }
            Encoding::String { length_bytes, charset } => {
                let length = self.length(*length_bytes)?;
                let bytes = self.take(length)?;
                match charset {
                    Charset::Binary => Value::Bytes(bytes.to_vec()),
                    charset => Value::Text(charset.decode(bytes).ok_or_else(|| self.not_decoded(column))?),
                }
            }
            Encoding::Binary { length_bytes, length } => {
                let count = self.length(*length_bytes)?;
                let mut bytes = self.take(count)?.to_vec();
                bytes.resize(*length, 0);
                Value::Bytes(bytes)
            }
            Encoding::Enum { bytes, members } => {
                // Nought stands for a text that is no member, which a lenient session turns into an empty one.
                let number = self.length(*bytes)?;
                Value::Text(number.checked_sub(1).and_then(|at| members.get(at)).cloned().unwrap_or_default())
            }
            Encoding::Set { bytes, members } => {
                let chosen = self.take(*bytes)?;
                let chosen = members.iter().enumerate().filter(|(at, _)| is_set(chosen, *at));
                Value::Text(chosen.map(|(_, member)| member.as_str()).collect::<Vec<_>>().join(","))
            }
            Encoding::Bit { bits } => Value::Text(mysql::bits(self.take(bits.div_ceil(8))?, *bits)),
            // Their zeros at the end are left out, as those of other bytes of a fixed number.
            Encoding::Uuid => Value::Text(Uuid::from_bytes(self.padded()?).hyphenated().to_string()),
            Encoding::Address { length: 4 } => Value::Text(Ipv4Addr::from(self.padded::<4>()?).to_string()),
            Encoding::Address { .. } => Value::Text(Ipv6Addr::from(self.padded::<16>()?).to_string()),
            Encoding::Json => {
                let length = self.length(4)?;
                self.document(length)?
            }
        })
    }

    /// Bytes of a fixed number behind their length, of which zeros at the end may be left out.
    fn padded<const N: usize>(&mut self) -> Result<[u8; N]> {
        let count = self.length(1)?;
        let mut bytes = self.take(count)?.to_vec();
        bytes.resize(N, 0);
        bytes.try_into().map_err(|_| unreadable(&self.table.name, "a value of a fixed length is longer"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| unreadable(&self.table.name, "it ends within a number"))
    }

    fn document(&mut self, length: usize) -> Result<Value> {
        let bytes = self.take(length)?;
        // An empty document is what a lenient session makes of NULL.
        if bytes.is_empty() {
            return Ok(Value::Text("null".to_owned()));
        }
        let document: jsonb::Value<'_> =
            ParseBuf(bytes).parse(()).map_err(|error| unreadable(&self.table.name, &error.to_string()))?;
        let mut text = String::new();
        json::write(&document, &mut text).map_err(|error| unreadable(&self.table.name, &error.to_string()))?;
        Ok(Value::Text(text))
    }

    fn not_decoded(&self, column: &Column) -> Error {
        let cause = format!("the column {} is in a character set that isn't known here", column.name);
        unreadable(&self.table.name, &cause).help("convert the column to utf8mb4")
    }
}

fn unreadable(table: &TableName, cause: &str) -> Error {
    Error::new(super::SERVICE, format!("read a row of {table}"), cause)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn integer(bytes: &[u8], is_unsigned: bool) -> Value {
    let number = i128::from(little_endian(bytes));
    let is_negative = !is_unsigned && bytes.last().is_some_and(|last| last & 0x80 != 0);
    Value::Int(if is_negative { number - (1 << (bytes.len() * 8)) } else { number })
}

/// A time in the form that every source gives to it, if its type is one that every source has.
fn moment(mut text: String, ty: &Type) -> Value {
    if matches!(ty, Type::Timestamp | Type::TimestampTz) {
        text.truncate(mysql::short(&text).len());
    }
    if *ty == Type::TimestampTz {
        text += "+00";
    }
    Value::Text(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    fn table(encodings: Vec<Encoding>) -> Table {
        let column =
            |(at, encoding)| Column { name: format!("c{at}").into(), ty: Type::Other(String::new()), encoding };
        Table { name: "t".into(), columns: encodings.into_iter().enumerate().map(column).collect(), key: vec![] }
    }

    #[test]
    fn an_image_has_the_columns_that_it_says() -> Result<()> {
        let table = table(vec![
            Encoding::Integer { bytes: 3, is_unsigned: false },
            Encoding::Double,
            Encoding::Bit { bits: 10 },
            Encoding::Set { bytes: 1, members: ["a".to_owned(), "b".to_owned()].into() },
        ]);
        // The second column is absent, the third is NULL.
        let mut rows = Reader::new(&[0b010, 0xff, 0xff, 0xff, 0b11], &table);
        let image = Image::new(&table, &[true, false, true, true]);
        assert_eq!(rows.image(&image)?, row! { c0: -1, c2: None::<i64>, c3: "a,b" });
        assert!(!rows.has_more());
        Ok(())
    }

    #[test]
    fn a_row_that_is_cut_short_is_an_error() {
        let table = table(vec![Encoding::Integer { bytes: 4, is_unsigned: true }]);
        assert!(Reader::new(&[0, 1, 2], &table).image(&Image::new(&table, &[true])).is_err());
    }

    #[test]
    fn integers_have_their_sign() {
        assert_eq!(integer(&[0xff; 8], true), Value::from(u64::MAX));
        assert_eq!(integer(&[0xff; 8], false), Value::Int(-1));
        assert_eq!(integer(&[0, 0x80], false), Value::Int(-32_768));
    }
}
