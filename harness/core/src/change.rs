//! One captured event, and the positions that order events.

use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use crate::{schema::TableName, value::Row};

/// What happened to a row or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row was there when the capture began (initial snapshot).
    Read,
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows of the table went at once.
    Truncate,
    /// The row is there now, whether it came or changed: the method can't tell which.
    Upsert,
    /// Files of the table came or went. The after-image holds how many there are of each kind, and of rows in them.
    Files,
    /// The table's definition changed. Before- and after-image hold the columns' types as text, in the columns' order.
    Schema,
}

impl Op {
    /// The symbol in front of a change in a snapshot and on the terminal.
    pub fn symbol(self) -> char {
        match self {
            Self::Read => '=',
            Self::Insert => '+',
            Self::Update => '~',
            Self::Delete => '-',
            Self::Truncate => '!',
            Self::Upsert => '±',
            Self::Files => '#',
            Self::Schema => '*',
        }
    }
}

/// A log sequence number: a byte position in PostgreSQL's write-ahead log (manual, 8.20 "pg_lsn Type").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').unwrap_or(("0", text));
        Ok(Self(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A global transaction identifier: the server that committed a transaction, and its number there (MySQL manual, 19.1.3.1
/// "GTID Format and Storage"). Those of one server are ordered as it wrote them to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gtid {
    /// The server's UUID.
    pub server: u128,
    /// The transaction's number, from 1 on.
    pub number: u64,
}

impl Gtid {
    /// The last transaction of a server in a set of identifiers as MySQL prints it, such as `gtid_executed`.
    pub fn last_of(server: &str, set: &str) -> Option<Self> {
        let of_server = set.split(',').find_map(|part| part.trim().strip_prefix(server)?.strip_prefix(':'))?;
        let last = of_server.rsplit([':', '-']).next()?;
        format!("{server}:{last}").parse().ok()
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", uuid::Uuid::from_u128(self.server).hyphenated(), self.number)
    }
}

impl FromStr for Gtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no transaction identifier: SERVER:NUMBER");
        let (server, number) = text.split_once(':').ok_or_else(wrong)?;
        let server = uuid::Uuid::parse_str(server).map_err(|_| wrong())?.as_u128();
        Ok(Self { server, number: number.parse().map_err(|_| wrong())? })
    }
}

impl Serialize for Gtid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// MariaDB's global transaction identifier: the domain that a transaction was written to, its number there, and the server that
/// wrote it (MariaDB documentation, "Global Transaction ID"). Those of one domain are ordered as they stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainGtid {
    /// The replication domain.
    pub domain: u32,
    /// The transaction's number in the domain, from 1 on.
    pub number: u64,
    /// The server's number.
    pub server: u32,
}

impl DomainGtid {
    /// The last transaction of a domain in a position as MariaDB prints it, such as `gtid_binlog_pos`.
    pub fn last_of(domain: &str, position: &str) -> Option<Self> {
        let mut parts = position.split(',').map(str::trim);
        parts.find(|part| part.split_once('-').is_some_and(|(of, _)| of == domain))?.parse().ok()
    }
}

impl fmt::Display for DomainGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl FromStr for DomainGtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('-').collect();
        let read = || {
            let [domain, server, number] = parts[..] else { return None };
            Some(Self { domain: domain.parse().ok()?, server: server.parse().ok()?, number: number.parse().ok()? })
        };
        read().ok_or_else(|| format!("`{text}` is no transaction identifier: DOMAIN-SERVER-NUMBER"))
    }
}

impl Serialize for DomainGtid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place in a binary log: a file by its number, and a byte in it (MySQL manual, 7.4.4 "The Binary Log").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPlace {
    /// The number at the end of the file's name.
    pub file: u64,
    /// The byte in it.
    pub offset_bytes: u64,
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}:{}", self.file, self.offset_bytes)
    }
}

impl FromStr for LogPlace {
    type Err = String;

    /// Reads `FILE.NUMBER:BYTE`, as the server's tools write it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (file, offset) = text.rsplit_once(':')?;
            let number = file.rsplit('.').next()?;
            Some(Self { file: number.parse().ok()?, offset_bytes: offset.parse().ok()? })
        };
        read().ok_or_else(|| format!("`{text}` is no place in a binary log: FILE.NUMBER:BYTE"))
    }
}

impl Serialize for LogPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where in its source's history a change stands. Positions of one source are ordered as the source wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// In the write-ahead log of PostgreSQL.
    Lsn(Lsn),
    /// In the binary log of MySQL.
    Gtid(Gtid),
    /// In the binary log of MariaDB.
    DomainGtid(DomainGtid),
    /// In the binary log of MySQL or MariaDB, by file and byte.
    Log(LogPlace),
    /// In an audit table, by the number that its sequence gave the entry.
    Audit(i64),
    /// In a table's history of numbered versions (Delta Lake).
    Version(i64),
    /// In a table's history of snapshots (Iceberg), by the sequence number that the table gave it.
    Snapshot(i64),
    /// In no history: found by this look at the tables, of those that found anything.
    Look(u64),
}

impl Position {
    /// That of a global transaction identifier, as MySQL or MariaDB prints it.
    pub(crate) fn of_gtid(text: &str) -> Option<Self> {
        text.parse().map(Self::Gtid).or_else(|_| text.parse().map(Self::DomainGtid)).ok()
    }

    /// Whether this stands before another in the source's log. Of transactions of two servers, or of two domains, their identifiers don't tell.
    pub(crate) fn stands_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::Gtid(one), Self::Gtid(other)) if one.server != other.server => false,
            (Self::DomainGtid(one), Self::DomainGtid(other)) if one.domain != other.domain => false,
            _ => self < other,
        }
    }

    /// The short name of the kind, which numbers are put behind in a snapshot: `lsn#1`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Lsn(_) => "lsn",
            Self::Gtid(_) | Self::DomainGtid(_) => "gtid",
            Self::Log(_) => "log",
            Self::Audit(_) => "audit",
            Self::Version(_) => "version",
            Self::Snapshot(_) => "snapshot",
            Self::Look(_) => "look",
        }
    }
}

/// The source's own name of a transaction. Only equality has a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TxId(Arc<str>);

impl TxId {
    /// A transaction of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for TxId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One change as a method captured it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// The table it happened to.
    pub table: TableName,
    /// The key the method gave the change; empty if it gave none.
    pub key: Row,
    /// The row before the change, as far as the method delivered it.
    pub before: Option<Row>,
    /// The row after the change, as far as the method delivered it.
    pub after: Option<Row>,
    /// Where the change stands in the source's history, if the method says so.
    pub position: Option<Position>,
    /// The transaction it belongs to, if the method says so.
    pub tx: Option<TxId>,
    /// When the transaction was committed, in microseconds since 1970-01-01 00:00 UTC, by the source's clock.
    pub commit_time_us: Option<i64>,
    /// Whether a tombstone (a record with this key and no value, which lets a compacted topic forget the key) followed.
    pub tombstone: bool,
    /// What the table was called before, if this tells that it was renamed.
    pub renamed_from: Option<TableName>,
}

impl Change {
    /// A change of which nothing is known but what happened to which table.
    pub fn new(op: Op, table: TableName) -> Self {
        Self {
            op,
            table,
            key: Row::default(),
            before: None,
            after: None,
            position: None,
            tx: None,
            commit_time_us: None,
            tombstone: false,
            renamed_from: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsns_print_as_postgres_prints_them_and_compare_as_numbers() -> Result<(), ParseIntError> {
        let lsn: Lsn = "16/B374D848".parse()?;
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert!("9/FFFFFFFF".parse::<Lsn>()? < "10/0".parse::<Lsn>()?);
        assert!("x/1".parse::<Lsn>().is_err());
        Ok(())
    }

    #[test]
    fn the_last_transaction_of_a_server_is_found_in_a_set() -> Result<(), String> {
        let (a, b) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562");
        let set = format!("{a}:1-3:11:47-49,\n{b}:7");
        assert_eq!(Gtid::last_of(a, &set), Some(format!("{a}:49").parse()?));
        assert_eq!(Gtid::last_of(b, &set).map(|gtid| gtid.to_string()), Some(format!("{b}:7")));
        assert_eq!(Gtid::last_of("5e11fa47-71ca-11e1-9e33-c80aa9429562", &set), None);
        assert!("x:1".parse::<Gtid>().is_err());
        Ok(())
    }

    #[test]
    fn the_last_transaction_of_a_domain_is_found_in_a_position() -> Result<(), String> {
        let last = DomainGtid::last_of("1", "10-1-7,1-2-42");
        assert_eq!(last, Some(DomainGtid { domain: 1, number: 42, server: 2 }));
        assert_eq!(last.map(|gtid| gtid.to_string()), Some("1-2-42".to_owned()));
        assert_eq!(DomainGtid::last_of("0", "10-1-7"), None);
        assert!("0-1-9".parse::<DomainGtid>()? < "0-1-10".parse()?);
        assert!("0-1".parse::<DomainGtid>().is_err());
        Ok(())
    }

    #[test]
    fn places_in_a_log_are_ordered_by_file_and_byte() -> Result<(), String> {
        let place: LogPlace = "binlog.000012:4096".parse()?;
        assert_eq!(place, LogPlace { file: 12, offset_bytes: 4096 });
        assert_eq!(place.to_string(), "000012:4096");
        assert!("binlog.000009:900".parse::<LogPlace>()? < "binlog.000010:4".parse()?);
        assert!("binlog:4".parse::<LogPlace>().is_err());
        Ok(())
    }
}
