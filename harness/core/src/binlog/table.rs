//! Tables as the log describes them before it tells of their rows: a table map, with all of its metadata
//! (`binlog_row_metadata=FULL`).

use std::{collections::HashMap, io, sync::Arc};

use mysql_common::{
    binlog::events::{OptionalMetaExtractor, OptionalMetadataField, TableMapEvent},
    constants::ColumnType,
};

use super::charset::{Charset, Collations};
use crate::{
    error::{Error, Result},
    mysql::{Flavour, type_named},
    schema::{TableName, Type},
    value::{Columns, Row, Value},
};

/// A table at the moment at which its rows changed.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: TableName,
    /// Its columns in order.
    pub(super) columns: Vec<Column>,
    /// The primary key's columns, by their place.
    pub(super) key: Vec<usize>,
}

impl Table {
    /// Takes types that the log doesn't tell from what is known of the table otherwise.
    pub(super) fn complete(&mut self, known: &Row) {
        for column in &mut self.columns {
            let Some(Value::Text(name)) = known.get(&column.name) else { continue };
            let untold = UNTOLD.iter().find(|(untold, _)| untold == name);
            if let Some((name, encoding)) = untold.filter(|(_, encoding)| encoding.length() == column.encoding.length())
            {
                column.ty = type_named(name);
                column.encoding = encoding.clone();
            }
        }
    }

    /// The names of the columns at these places.
    pub(super) fn names(&self, places: &[usize]) -> Columns {
        Arc::new(places.iter().map(|place| Arc::clone(&self.columns[*place].name)).collect())
    }

    /// The columns with their types, as a change of the definition tells them.
    pub(super) fn shape(&self) -> Row {
        self.columns.iter().map(|column| (Arc::clone(&column.name), Value::Text(told_type(&column.ty)))).collect()
    }
}

/// MariaDB's types of which the log has the bytes, and doesn't say what they are.
const UNTOLD: [(&str, Encoding); 3] =
    [("uuid", Encoding::Uuid), ("inet4", Encoding::Address { length: 4 }), ("inet6", Encoding::Address { length: 16 })];

impl Encoding {
    /// Of bytes of a fixed number: how many.
    fn length(&self) -> Option<usize> {
        match self {
            Self::Binary { length, .. } | Self::Address { length } => Some(*length),
            Self::Uuid => Some(16),
            _ => None,
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    /// Its type in the harness's words, as far as the log says it.
    pub(super) ty: Type,
    /// How its values are written.
    pub(super) encoding: Encoding,
}

/// How the log writes the values of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Encoding {
    Integer {
        bytes: usize,
        is_unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: usize,
        scale: usize,
    },
    Year,
    Date,
    Time {
        digits: u8,
    },
    DateTime {
        digits: u8,
    },
    Timestamp {
        digits: u8,
    },
    /// A text or bytes, behind its length in so many bytes.
    String {
        length_bytes: usize,
        charset: Charset,
    },
    /// Bytes of a fixed number, of which zeros at the end are left out.
    Binary {
        length_bytes: usize,
        length: usize,
    },
    Enum {
        bytes: usize,
        members: Arc<[String]>,
    },
    Set {
        bytes: usize,
        members: Arc<[String]>,
    },
    Bit {
        bits: usize,
    },
    /// The bytes of an identifier that is printed as a text (MariaDB's `uuid`).
    Uuid,
    /// The bytes of an address (MariaDB's `inet4` and `inet6`).
    Address {
        length: usize,
    },
    Json,
}

/// A type as this method tells it: the log doesn't say how wide numbers are printed, and so not which are truth values.
pub(super) fn told_type(ty: &Type) -> String {
    // Of these a width may be told by the catalogue: in MySQL of numbers that are padded with zeros, in MariaDB of all.
    const PRINTED: [&str; 8] = ["tinyint", "smallint", "mediumint", "int", "bigint", "float", "double", "year"];
    match ty {
        Type::Bool => "tinyint".to_owned(),
        Type::Other(name) => {
            let name = name.strip_suffix(" zerofill").unwrap_or(name);
            match name.split_once('(').and_then(|(base, rest)| Some((base, rest.split_once(')')?.1))) {
                Some((base, rest)) if PRINTED.contains(&base) => format!("{base}{rest}"),
                _ => name.to_owned(),
            }
        }
        ty => ty.to_string(),
    }
}

/// What the optional metadata says, column by column where it does so.
struct Metadata {
    names: Vec<String>,
    key: Vec<usize>,
    unsigned: Vec<bool>,
    charsets: Vec<u16>,
    member_charsets: Vec<u16>,
    enums: Vec<Vec<Vec<u8>>>,
    sets: Vec<Vec<Vec<u8>>>,
    geometries: Vec<u64>,
    dimensions: Vec<u64>,
}

impl Metadata {
    fn read(map: &TableMapEvent<'_>) -> io::Result<Self> {
        let count = usize::try_from(map.columns_count()).unwrap_or(usize::MAX);
        let whole = OptionalMetaExtractor::new(map.iter_optional_meta())?;
        let names: io::Result<Vec<_>> = whole.iter_column_name().map(|n| n.map(|n| n.name().into_owned())).collect();
        let key: io::Result<Vec<_>> = whole.iter_primary_key().collect();
        let mut metadata = Self {
            names: names?,
            key: key?.into_iter().filter_map(|at| usize::try_from(at).ok()).collect(),
            unsigned: whole.iter_signedness().collect(),
            // A default charset makes this list endless.
            charsets: whole.iter_charset().take(count).collect::<io::Result<_>>()?,
            member_charsets: whole.iter_enum_and_set_charset().take(count).collect::<io::Result<_>>()?,
            enums: Vec::new(),
            sets: Vec::new(),
            geometries: Vec::new(),
            dimensions: Vec::new(),
        };
        for field in map.iter_optional_meta() {
            match field? {
                OptionalMetadataField::EnumStrValue(all) => {
                    for members in all.iter_values() {
                        metadata.enums.push(members?.values().iter().map(|m| m.value_raw().to_vec()).collect());
                    }
                }
                OptionalMetadataField::SetStrValue(all) => {
                    for members in all.iter_values() {
                        metadata.sets.push(members?.values().iter().map(|m| m.value_raw().to_vec()).collect());
                    }
                }
                OptionalMetadataField::GeometryType(all) => {
                    metadata.geometries =
                        all.iter_geometry_types().map(|t| t.map(|kind| kind as u64)).collect::<io::Result<_>>()?;
                }
                OptionalMetadataField::Dimensionality(all) => {
                    metadata.dimensions = all.iter_dimensionalities().collect::<io::Result<_>>()?;
                }
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// Reads a table map.
///
/// # Errors
/// It lacks metadata, or describes something that isn't known.
pub(super) fn read(
    map: &TableMapEvent<'_>,
    name: TableName,
    flavour: Flavour,
    collations: &Collations,
) -> Result<Table> {
    let doing = || format!("read the log's description of the table {name}");
    let metadata = Metadata::read(map).map_err(|error| Error::new(super::SERVICE, doing(), error))?;
    let count = usize::try_from(map.columns_count()).unwrap_or(usize::MAX);
    if metadata.names.len() != count {
        return Err(Error::new(super::SERVICE, doing(), "it doesn't name the columns")
            .help("set binlog_row_metadata=FULL on the server"));
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut next = |kind: &'static str| {
        let at = seen.entry(kind).or_default();
        *at += 1;
        *at - 1
    };
    let mut columns = Vec::with_capacity(count);
    for (at, column) in metadata.names.iter().enumerate() {
        let unknown = |what: &str| Error::new(super::SERVICE, doing(), format!("its column {column} is {what}"));
        let ty = map.get_column_type(at).map_err(|error| unknown(&error.to_string()))?;
        let ty = ty.ok_or_else(|| unknown("not described"))?;
        let meta = map.get_column_metadata(at).unwrap_or_default();
        let is_unsigned = ty.is_numeric_type() && metadata.unsigned.get(next("number")).copied().unwrap_or_default();
        // MariaDB names the character set of geometries among those of texts.
        let is_text = ty.is_character_type() || (flavour == Flavour::MariaDb && ty == ColumnType::MYSQL_TYPE_GEOMETRY);
        let collation = is_text.then(|| metadata.charsets.get(next("text")).copied()).flatten();
        let charset = collation.map_or((Charset::Binary, 1), |id| collations.get(id));
        let (name, encoding) = match ty {
            ColumnType::MYSQL_TYPE_ENUM | ColumnType::MYSQL_TYPE_SET => {
                let (charset, _) =
                    metadata.member_charsets.get(next("members")).map_or((Charset::Utf8, 4), |id| collations.get(*id));
                let is_enum = ty == ColumnType::MYSQL_TYPE_ENUM;
                let members = if is_enum { metadata.enums.get(next("enum")) } else { metadata.sets.get(next("set")) };
                // They are texts whatever the column's character set.
                let charset = if charset == Charset::Binary { Charset::Utf8 } else { charset };
                let members = members.into_iter().flatten().map(|member| charset.decode(member));
                let members = members
                    .collect::<Option<Arc<[String]>>>()
                    .ok_or_else(|| unknown("in a character set that isn't known"))?;
                let listed: Vec<_> = members.iter().map(|member| format!("'{}'", member.replace('\'', "''"))).collect();
                let bytes = meta.get(1).copied().unwrap_or(1).into();
                match is_enum {
                    true => (format!("enum({})", listed.join(",")), Encoding::Enum { bytes, members }),
                    false => (format!("set({})", listed.join(",")), Encoding::Set { bytes, members }),
                }
            }
            ColumnType::MYSQL_TYPE_GEOMETRY => {
                let kind = metadata.geometries.get(next("geometry")).copied().unwrap_or_default();
                (geometry(kind, flavour).to_owned(), string(meta, 1, Charset::Binary))
            }
            ColumnType::MYSQL_TYPE_VECTOR => {
                let dimensions = metadata.dimensions.get(next("vector")).copied().unwrap_or_default();
                (format!("vector({dimensions})"), string(meta, 1, Charset::Binary))
            }
            ty => described(ty, meta, is_unsigned, charset)
                .ok_or_else(|| unknown(&format!("of the type {ty:?}, which isn't known here")))?,
        };
        columns.push(Column { name: column.as_str().into(), ty: type_named(&name), encoding });
    }
    Ok(Table { name, columns, key: metadata.key })
}

fn geometry(kind: u64, flavour: Flavour) -> &'static str {
    let kinds = [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        if flavour == Flavour::MariaDb { "geometrycollection" } else { "geomcollection" },
    ];
    usize::try_from(kind).ok().and_then(|kind| kinds.get(kind)).copied().unwrap_or("geometry")
}

fn string(meta: &[u8], default: usize, charset: Charset) -> Encoding {
    Encoding::String { length_bytes: meta.first().map_or(default, |bytes| usize::from(*bytes)), charset }
}

/// A column's type as `information_schema` spells it, as far as the log says, and how its values are written.
fn described(ty: ColumnType, meta: &[u8], is_unsigned: bool, charset: (Charset, u32)) -> Option<(String, Encoding)> {
    use ColumnType as T;
    let unsigned = if is_unsigned { " unsigned" } else { "" };
    let digits = meta.first().copied().unwrap_or_default();
    let with_digits = |name: &str| if digits == 0 { name.to_owned() } else { format!("{name}({digits})") };
    let integer = |name: &str, bytes| (format!("{name}{unsigned}"), Encoding::Integer { bytes, is_unsigned });
    let (charset, longest) = charset;
    let characters = |bytes: usize| bytes / usize::try_from(longest.max(1)).unwrap_or(1);
    let length_bytes = |length: usize| if length < 256 { 1 } else { 2 };
    Some(match ty {
        T::MYSQL_TYPE_TINY => integer("tinyint", 1),
        T::MYSQL_TYPE_SHORT => integer("smallint", 2),
        T::MYSQL_TYPE_INT24 => integer("mediumint", 3),
        T::MYSQL_TYPE_LONG => integer("int", 4),
        T::MYSQL_TYPE_LONGLONG => integer("bigint", 8),
        T::MYSQL_TYPE_FLOAT => (format!("float{unsigned}"), Encoding::Float),
        T::MYSQL_TYPE_DOUBLE => (format!("double{unsigned}"), Encoding::Double),
        T::MYSQL_TYPE_NEWDECIMAL => {
            let [precision, scale] = *meta else { return None };
            let (precision, scale) = (usize::from(precision), usize::from(scale));
            (format!("decimal({precision},{scale}){unsigned}"), Encoding::Decimal { precision, scale })
        }
        T::MYSQL_TYPE_YEAR => ("year".to_owned(), Encoding::Year),
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => ("date".to_owned(), Encoding::Date),
        T::MYSQL_TYPE_TIME2 => (with_digits("time"), Encoding::Time { digits }),
        T::MYSQL_TYPE_DATETIME2 => (with_digits("datetime"), Encoding::DateTime { digits }),
        T::MYSQL_TYPE_TIMESTAMP2 => (with_digits("timestamp"), Encoding::Timestamp { digits }),
        T::MYSQL_TYPE_BIT => {
            let [odd, whole] = *meta else { return None };
            let bits = usize::from(whole) * 8 + usize::from(odd);
            (format!("bit({bits})"), Encoding::Bit { bits })
        }
        T::MYSQL_TYPE_JSON => ("json".to_owned(), Encoding::Json),
        T::MYSQL_TYPE_BLOB => {
            let size = match digits {
                1 => "tiny",
                2 => "",
                3 => "medium",
                _ => "long",
            };
            let kind = if charset == Charset::Binary { "blob" } else { "text" };
            (format!("{size}{kind}"), string(meta, 2, charset))
        }
        T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => {
            let [low, high] = *meta else { return None };
            let length = usize::from(u16::from_le_bytes([low, high]));
            let encoding = Encoding::String { length_bytes: length_bytes(length), charset };
            match charset {
                Charset::Binary => (format!("varbinary({length})"), encoding),
                _ => (format!("varchar({})", characters(length)), encoding),
            }
        }
        T::MYSQL_TYPE_STRING => {
            // The two upper bits of a length beyond 255 stand, inverted, in the byte of the type.
            let [kind, low] = *meta else { return None };
            let length = usize::from(low) | usize::from(kind & 0x30 ^ 0x30) << 4;
            let length_bytes = length_bytes(length);
            match charset {
                Charset::Binary => (format!("binary({length})"), Encoding::Binary { length_bytes, length }),
                _ => (format!("char({})", characters(length)), Encoding::String { length_bytes, charset }),
            }
        }
        _ => return None,
    })
}
