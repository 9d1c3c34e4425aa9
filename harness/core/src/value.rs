//! Values and rows: what a column holds, independent of the database it came from.

use std::{fmt, str::FromStr, sync::Arc};

use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};
use serde::{Serialize, Serializer};

use crate::schema::Type;

/// A floating-point number that compares by its bits, so that NaN equals NaN and `-0` differs from `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Float(u64);

impl Float {
    /// Wraps a number; every NaN becomes the same NaN.
    pub fn new(number: f64) -> Self {
        Self(if number.is_nan() { f64::NAN } else { number }.to_bits())
    }

    /// The number itself.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// One value of a column.
///
/// Types that have no variant of their own (dates, times, JSON, UUID, enums, ranges…) are held in [`Value::Text`], in the
/// text form the database itself prints with the session time zone UTC and ISO date style. That form is the common
/// ground of every method, and it survives what a binary type would not: `infinity`, `24:00`, years before Christ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer up to 64 bits, signed or unsigned.
    Int(i128),
    /// A binary floating-point number.
    Float(Float),
    /// An exact decimal in plain notation; the scale is significant (`1.50` is not `1.5`).
    Decimal(String),
    /// Text, or any type in its database's text form.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// An array of any depth.
    Array(Vec<Value>),
    /// The method knows that the column has a value and did not deliver it: an unchanged TOAST column.
    Unavailable,
}

impl Value {
    /// Whether this is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Reads the text form that PostgreSQL prints for a value of the type.
    ///
    /// Falls back to [`Value::Text`] where the text isn't what the type promises, so that nothing is lost.
    pub fn from_text(text: &str, ty: &Type) -> Self {
        let parsed = match ty {
            Type::Bool => match text {
                "t" | "true" => Some(Self::Bool(true)),
                "f" | "false" => Some(Self::Bool(false)),
                _ => None,
            },
            Type::SmallInt | Type::Int | Type::BigInt => text.parse().ok().map(Self::Int),
            Type::Real => text.parse::<f32>().ok().map(|n| Self::Float(Float::new(widen(n)))),
            Type::Double => text.parse().ok().map(|n| Self::Float(Float::new(n))),
            Type::Numeric(_) => Some(Self::Decimal(text.to_owned())),
            Type::Bytes => text.strip_prefix("\\x").and_then(unhex).map(Self::Bytes),
            Type::Array(element) => parse_array(text, element),
            _ => None,
        };
        parsed.unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// What the database stores when this value is assigned to a column of the type.
    ///
    /// Covers the assignments a [`Step`](crate::script::Step) can make: integers to decimals, decimals to their scale
    /// (half away from zero, PostgreSQL manual 8.1.2), text to numbers. Anything else stays as it is.
    #[must_use]
    pub fn cast(&self, ty: &Type) -> Self {
        match (self, ty) {
            (Self::Int(n), Type::Numeric(scale)) => decimal(&n.to_string(), *scale),
            (Self::Int(n), Type::Real | Type::Double) => Self::Float(Float::new(n.to_f64().unwrap_or(f64::NAN))),
            (Self::Int(n), Type::Text | Type::Varchar(_)) => Self::Text(n.to_string()),
            (Self::Bool(truth), Type::Text | Type::Varchar(_)) => Self::Text(truth.to_string()),
            (Self::Float(n), Type::Numeric(scale)) => decimal(&n.get().to_string(), *scale),
            (Self::Float(n), Type::Real | Type::Text | Type::Varchar(_)) => Self::from_text(&n.get().to_string(), ty),
            (Self::Decimal(text) | Self::Text(text), Type::Numeric(scale)) => decimal(text, *scale),
            (Self::Decimal(text), Type::SmallInt | Type::Int | Type::BigInt) => match decimal(text, Some((0, 0))) {
                Self::Decimal(whole) => Self::from_text(&whole, ty),
                _ => self.clone(),
            },
            (Self::Decimal(text) | Self::Text(text), Type::Real | Type::Double) | (Self::Text(text), Type::Bool) => {
                Self::from_text(text.trim(), ty)
            }
            (Self::Text(text), Type::SmallInt | Type::Int | Type::BigInt) => {
                text.trim().parse().map_or_else(|_| self.clone(), Self::Int)
            }
            (Self::Decimal(text), Type::Text | Type::Varchar(_)) => Self::Text(text.clone()),
            (Self::Array(items), Type::Array(element)) => {
                Self::Array(items.iter().map(|item| item.cast(element)).collect())
            }
            _ => self.clone(),
        }
    }
}

/// Widens through the shortest decimal form, so that `0.1` as `real` compares as `0.1` and not as `0.10000000149`.
pub(crate) fn widen(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

fn decimal(text: &str, precision: Option<(u16, u16)>) -> Value {
    match (BigDecimal::from_str(text), precision) {
        (Ok(number), Some((_, scale))) => {
            Value::Decimal(number.with_scale_round(i64::from(scale), RoundingMode::HalfUp).to_plain_string())
        }
        _ => Value::Decimal(text.to_owned()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Parses PostgreSQL's array literal (manual 8.15.6), of one or more dimensions.
fn parse_array(text: &str, element: &Type) -> Option<Value> {
    let mut chars = text.chars().peekable();
    let array = parse_array_level(&mut chars, element)?;
    chars.next().is_none().then_some(array)
}

fn parse_array_level(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, element: &Type) -> Option<Value> {
    if chars.next()? != '{' {
        return None;
    }
    let mut items = Vec::new();
    if chars.next_if_eq(&'}').is_some() {
        return Some(Value::Array(items));
    }
    loop {
        items.push(match chars.peek()? {
            '{' => parse_array_level(chars, element)?,
            '"' => {
                chars.next();
                let mut item = String::new();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => item.push(chars.next()?),
                        other => item.push(other),
                    }
                }
                Value::from_text(&item, element)
            }
            _ => {
                let mut item = String::new();
                while let Some(char) = chars.next_if(|c| !matches!(c, ',' | '}')) {
                    item.push(char);
                }
                if item == "NULL" { Value::Null } else { Value::from_text(&item, element) }
            }
        });
        match chars.next()? {
            ',' => {}
            '}' => return Some(Value::Array(items)),
            _ => return None,
        }
    }
}

/// The form used in snapshots and on the terminal: one line, whatever the value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{:?}", number.get()),
            Self::Decimal(text) => f.write_str(text),
            Self::Text(text) => write_text(f, text),
            Self::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Self::Unavailable => f.write_str("(unchanged, not sent)"),
        }
    }
}

const LONGEST_TEXT_SHOWN_CHARS: usize = 60;

/// Quotes only what could be mistaken for something else, and shortens what no one would read.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let count = text.chars().count();
    if count > LONGEST_TEXT_SHOWN_CHARS {
        let head: String = text.chars().take(24).collect();
        return write!(f, "{head:?}… ({count} characters)");
    }
    let plain = !text.is_empty()
        && text == text.trim()
        && !text.contains(|c: char| c.is_control() || "\"'→:".contains(c))
        && !text.contains("  ")
        && text != "NULL"
        && text.parse::<f64>().is_err()
        && text.parse::<bool>().is_err();
    if plain { f.write_str(text) } else { write!(f, "{text:?}") }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => serializer.serialize_i64(number),
                (_, Ok(number)) => serializer.serialize_u64(number),
                _ => serializer.serialize_str(&number.to_string()),
            },
            Self::Float(number) if number.get().is_finite() => serializer.serialize_f64(number.get()),
            Self::Array(items) => items.serialize(serializer),
            Self::Decimal(text) | Self::Text(text) => serializer.serialize_str(text),
            Self::Unavailable => serializer.collect_map([("unavailable", true)]),
            Self::Float(_) | Self::Bytes(_) => serializer.collect_str(self),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$it:ident| $value:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($it: $from) -> Self {
                $value
            }
        }
    )*};
}

value_from! {
    bool => |it| Self::Bool(it);
    i32 => |it| Self::Int(it.into());
    i64 => |it| Self::Int(it.into());
    u64 => |it| Self::Int(it.into());
    f64 => |it| Self::Float(Float::new(it));
    &str => |it| Self::Text(it.to_owned());
    String => |it| Self::Text(it);
    &[u8] => |it| Self::Bytes(it.to_vec());
    BigDecimal => |it| Self::Decimal(it.to_plain_string());
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// Columns and their values, in the order in which the database or the method gave them. Equality ignores the order.
///
/// A row may be partial: a before-image often holds the key only. A column that isn't there is something else than NULL.
///
/// Rows are narrow and come by the hundred thousand, so these are lists, and that of the names is shared by the rows of a table.
#[derive(Clone, Default, Eq)]
pub struct Row {
    columns: Columns,
    values: Vec<Value>,
}

/// The names of a row's columns, which many rows can share.
pub(crate) type Columns = Arc<Vec<Arc<str>>>;

impl Row {
    /// A row of these columns, which have different names; it has a value for each of them.
    pub(crate) fn of(columns: &Columns, values: Vec<Value>) -> Self {
        debug_assert_eq!(columns.len(), values.len(), "a value for each of {columns:?}");
        Self { columns: Arc::clone(columns), values }
    }

    fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| **name == *column)
    }

    /// The value of a column, if the row has that column.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.values.get(self.place(column)?)
    }

    /// The value of the column at this place.
    pub(crate) fn at(&self, place: usize) -> Option<&Value> {
        self.values.get(place)
    }

    /// Sets a column, keeping its place if it was there already.
    pub fn set(&mut self, column: impl AsRef<str>, value: impl Into<Value>) {
        let column = column.as_ref();
        match self.place(column) {
            Some(at) => self.values[at] = value.into(),
            None => self.push(column.into(), value.into()),
        }
    }

    fn push(&mut self, column: Arc<str>, value: Value) {
        Arc::make_mut(&mut self.columns).push(column);
        self.values.push(value);
    }

    /// Removes a column; the others keep their order.
    pub fn remove(&mut self, column: &str) -> Option<Value> {
        let at = self.place(column)?;
        Arc::make_mut(&mut self.columns).remove(at);
        Some(self.values.remove(at))
    }

    /// Columns and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.columns().zip(&self.values)
    }

    /// The column names in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| &**column)
    }

    /// How many columns the row has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the row has no column at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The part of the row that the columns name, in their order; columns it doesn't have are left out.
    #[must_use]
    pub fn project<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        let places = columns.into_iter().filter_map(|column| self.place(column));
        places.map(|at| (Arc::clone(&self.columns[at]), self.values[at].clone())).collect()
    }

    /// Whether every column of `part` has the same value here.
    pub fn contains(&self, part: &Self) -> bool {
        part.iter().all(|(column, value)| self.get(column) == Some(value))
    }

    /// The columns in alphabetical order: equal rows give equal lists, whatever their own order.
    pub fn canonical(&self) -> Vec<(&str, &Value)> {
        let mut columns: Vec<_> = self.iter().collect();
        columns.sort_unstable();
        columns
    }
}

/// Brings rows into the order of their keys, and those without one, or of the same, into that of all they hold.
pub fn sort_by_key(rows: &mut [Row], key: &[String]) {
    let of = |row: &Row| row.project(key.iter().map(String::as_str));
    rows.sort_by(|a, b| of(a).canonical().cmp(&of(b).canonical()).then_with(|| a.canonical().cmp(&b.canonical())));
}

impl<C: Into<Arc<str>>, V: Into<Value>> FromIterator<(C, V)> for Row {
    fn from_iter<I: IntoIterator<Item = (C, V)>>(columns: I) -> Self {
        let columns = columns.into_iter();
        let room = columns.size_hint().0;
        let mut row = Self { columns: Arc::new(Vec::with_capacity(room)), values: Vec::with_capacity(room) };
        for (column, value) in columns {
            let column = column.into();
            match row.place(&column) {
                Some(at) => row.values[at] = value.into(),
                None => row.push(column, value.into()),
            }
        }
        row
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let is_alike = Arc::ptr_eq(&self.columns, &other.columns) || self.columns == other.columns;
        if is_alike { self.values == other.values } else { self.len() == other.len() && self.contains(other) }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (column, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str("  ")?;
            }
            write!(f, "{column}: {value}")?;
        }
        Ok(())
    }
}

/// Writes a [`Row`]: `row! { id: 1, name: "Ada", "Straße": None::<i64> }`.
#[macro_export]
macro_rules! row {
    ($($column:tt : $value:expr),* $(,)?) => {
        <$crate::Row as ::std::iter::FromIterator<(::std::string::String, $crate::Value)>>::from_iter([
            $(($crate::row!(@name $column), $crate::Value::from($value))),*
        ])
    };
    (@name $column:ident) => { ::std::string::String::from(stringify!($column)) };
    (@name $column:literal) => { ::std::string::String::from($column) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_equal_whatever_the_order_of_their_columns() {
        assert_eq!(row! { a: 1, b: "x" }, row! { b: "x", a: 1 });
        assert_ne!(row! { a: 1 }, row! { a: 1, b: None::<i64> });
        assert_ne!(row! { a: 1, b: 2 }, row! { a: 1, c: 2 });
    }

    #[test]
    fn a_column_that_is_set_again_keeps_its_place() {
        let mut row: Row = [("a", 1), ("b", 2), ("a", 3)].into_iter().collect();
        row.set("b", 4);
        assert_eq!(row.iter().collect::<Vec<_>>(), [("a", &Value::Int(3)), ("b", &Value::Int(4))]);
        assert_eq!((row.remove("a"), row.remove("a")), (Some(Value::Int(3)), None));
    }

    #[test]
    fn a_row_that_changes_leaves_alone_those_that_share_its_columns() {
        let first = row! { a: 1, b: 2 };
        let mut second = first.clone();
        second.set("c", 3);
        second.remove("a");
        assert_eq!((first, second), (row! { a: 1, b: 2 }, row! { b: 2, c: 3 }));
    }

    #[test]
    fn text_forms_of_postgres_are_read_by_type() {
        assert_eq!(Value::from_text("t", &Type::Bool), Value::Bool(true));
        assert_eq!(Value::from_text("-7", &Type::Int), Value::Int(-7));
        assert_eq!(Value::from_text("0.1", &Type::Real), Value::from(0.1));
        assert_eq!(Value::from_text("NaN", &Type::Double), Value::from(f64::NAN));
        assert_eq!(Value::from_text("1.50", &Type::Numeric(None)), Value::Decimal("1.50".into()));
        assert_eq!(Value::from_text("\\x00ff", &Type::Bytes), Value::Bytes(vec![0, 255]));
        assert_eq!(Value::from_text("2024-02-29", &Type::Date), Value::from("2024-02-29"));
    }

    #[test]
    fn array_literals_keep_nulls_quotes_and_dimensions() {
        let text = Type::Array(Box::new(Type::Text));
        assert_eq!(
            Value::from_text(r#"{a,NULL,"NULL","b,\"c\""}"#, &text),
            Value::Array(vec!["a".into(), Value::Null, "NULL".into(), "b,\"c\"".into()])
        );
        let ints = Type::Array(Box::new(Type::Int));
        assert_eq!(
            Value::from_text("{{1,2},{3,4}}", &ints),
            Value::Array(vec![Value::from(vec![1, 2]), Value::from(vec![3, 4])])
        );
        assert_eq!(Value::from_text("{}", &ints), Value::Array(vec![]));
        assert_eq!(Value::from_text("{1", &ints), Value::from("{1"), "broken input is kept as text");
    }

    #[test]
    fn casts_follow_assignment_in_postgres() {
        let money = Type::Numeric(Some((10, 2)));
        assert_eq!(Value::from(5).cast(&money), Value::Decimal("5.00".into()));
        assert_eq!(Value::from("2.345").cast(&money), Value::Decimal("2.35".into()));
        assert_eq!(Value::from("-2.345").cast(&money), Value::Decimal("-2.35".into()));
        assert_eq!(Value::from("42").cast(&Type::Int), Value::Int(42));
        assert_eq!(Value::Null.cast(&money), Value::Null);
        assert_eq!(Value::from(9.99).cast(&money), Value::Decimal("9.99".into()));
        assert_eq!(Value::Decimal("2.5".into()).cast(&Type::Int), Value::Int(3));
        assert_eq!(Value::Decimal("1.50".into()).cast(&Type::Double), Value::from(1.5));
        assert_eq!(Value::from(0.123_456_789).cast(&Type::Real), Value::from(0.123_456_79));
        assert_eq!(Value::from(true).cast(&Type::Text), Value::from("true"));
        assert_eq!(Value::from("t").cast(&Type::Bool), Value::from(true));
    }

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        assert_eq!(Value::from("Ada Lovelace").to_string(), "Ada Lovelace");
        assert_eq!(Value::from("1").to_string(), "\"1\"");
        assert_eq!(Value::from("NULL").to_string(), "\"NULL\"");
        assert_eq!(Value::from("").to_string(), "\"\"");
        assert_eq!(Value::from("two\nlines").to_string(), "\"two\\nlines\"");
        assert!(Value::from("x".repeat(4000)).to_string().ends_with("… (4000 characters)"));
    }
}
