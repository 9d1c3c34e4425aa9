//! Events that only MariaDB writes (its documentation, "Replication Protocol"; `sql/log_event.h`).

use std::{borrow::Cow, io::Read};

use flate2::read::ZlibDecoder;

use super::SERVICE;
use crate::{
    change::DomainGtid,
    error::{Error, Result},
};

/// The statements of the rows that follow, for people (`binlog_annotate_row_events`).
pub(super) const ANNOTATE_ROWS: u8 = 160;
/// Which files a server that has crashed must look at.
pub(super) const BINLOG_CHECKPOINT: u8 = 161;
/// The beginning of a transaction, with its identifier.
pub(super) const GTID: u8 = 162;
/// What earlier files hold.
pub(super) const GTID_LIST: u8 = 163;
/// That what follows is encrypted in the file; it is sent as it was.
pub(super) const START_ENCRYPTION: u8 = 164;
/// A statement, compressed (`log_bin_compress`).
pub(super) const QUERY_COMPRESSED: u8 = 165;
/// Rows that were inserted, compressed.
pub(super) const WRITE_ROWS_COMPRESSED: u8 = 166;
/// Rows that were updated, compressed.
pub(super) const UPDATE_ROWS_COMPRESSED: u8 = 167;
/// Rows that were deleted, compressed.
pub(super) const DELETE_ROWS_COMPRESSED: u8 = 168;

/// No session may send more in one event (`max_allowed_packet`), so a length beyond it is no length.
const LONGEST_BYTES: u64 = 1 << 30;

/// An event's bytes, read from the first on.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| unreadable("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the least significant first.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn small<T: TryFrom<u64>>(&mut self, bytes: usize) -> Result<T> {
        T::try_from(self.number(bytes)?).map_err(|_| unreadable("a number is too large"))
    }

    /// A number that says itself how long it is (MySQL manual, "Protocol: Length-Encoded Integers").
    fn length(&mut self) -> Result<usize> {
        match self.small::<u8>(1)? {
            0xfc => self.small(2),
            0xfd => self.small(3),
            0xfe => self.small(8),
            length => Ok(usize::from(length)),
        }
    }

    /// A bit for each of so many columns.
    fn bits(&mut self, count: usize) -> Result<Vec<bool>> {
        let bytes = self.take(count.div_ceil(8))?;
        Ok((0..count).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect())
    }

    /// All that is left, decompressed: a byte that says how many bytes its length has, the length, the most significant byte first,
    /// and what zlib made of the rest.
    fn decompressed(self) -> Result<Vec<u8>> {
        let mut bytes = self;
        let header: u8 = bytes.small(1)?;
        if header & 0xf0 != 0x80 {
            return Err(unreadable("it is compressed by something else than zlib"));
        }
        let length = bytes.take(usize::from(header & 0x07))?;
        let length = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        if length > LONGEST_BYTES {
            return Err(unreadable("it says that it is longer than an event can be"));
        }
        let mut whole = Vec::new();
        let read = ZlibDecoder::new(bytes.0).take(length).read_to_end(&mut whole);
        match read {
            Ok(read) if read as u64 == length => Ok(whole),
            Ok(_) => Err(unreadable("it is shorter than it says")),
            Err(error) => Err(unreadable(&error.to_string())),
        }
    }
}

fn unreadable(cause: &str) -> Error {
    Error::new(SERVICE, "read an event of MariaDB's", cause)
}

/// How a transaction begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) gtid: DomainGtid,
    /// Whether it is the next event alone, and has no end of its own.
    pub(super) is_single: bool,
    /// Its name, if it has two phases, as statements in the log spell it.
    pub(super) xid: Option<String>,
    /// Whether the statement that it holds has only begun, or was given up (`binlog_alter_two_phase`).
    pub(super) is_without_effect: bool,
}

/// Reads [`GTID`] (`Gtid_log_event`); the server stands in the event's header.
///
/// # Errors
/// The event is cut short.
pub(super) fn begin(data: &[u8], server: u32) -> Result<Begin> {
    const IS_SINGLE: u8 = 1;
    const HAS_GROUP: u8 = 2;
    const IS_PREPARED: u8 = 64;
    const IS_COMPLETED: u8 = 128;
    const HAS_MORE_ENGINES: u8 = 1;
    const ALTER_STARTS: u8 = 2;
    const ALTER_IS_GIVEN_UP: u8 = 8;
    let mut bytes = Bytes(data);
    let (number, domain, flags) = (bytes.number(8)?, bytes.small(4)?, bytes.small::<u8>(1)?);
    if flags & HAS_GROUP != 0 {
        bytes.take(8)?;
    }
    let mut xid = None;
    if flags & (IS_PREPARED | IS_COMPLETED) != 0 {
        let (format, global, branch) = (bytes.small::<u32>(4)?, bytes.small(1)?, bytes.small(1)?);
        let (global, branch) = (hex(bytes.take(global)?), hex(bytes.take(branch)?));
        xid = Some(format!("X'{global}',X'{branch}',{format}"));
    }
    let more: u8 = if bytes.0.is_empty() { 0 } else { bytes.small(1)? };
    if more & HAS_MORE_ENGINES != 0 {
        bytes.take(1)?;
    }
    Ok(Begin {
        gtid: DomainGtid { domain, number, server },
        is_single: flags & IS_SINGLE != 0,
        xid,
        is_without_effect: more & (ALTER_STARTS | ALTER_IS_GIVEN_UP) != 0,
    })
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Rows of a table, of any kind of event.
pub(super) struct Rows<'a> {
    /// The number of the table in the log.
    pub(super) table: u64,
    /// Which columns the old rows have, if there are any.
    pub(super) before: Option<Vec<bool>>,
    /// Which columns the new rows have, if there are any.
    pub(super) after: Option<Vec<bool>>,
    /// The rows.
    pub(super) bytes: Cow<'a, [u8]>,
}

/// Reads rows that are compressed, of an event of this type.
///
/// # Errors
/// The event is damaged.
pub(super) fn compressed_rows(data: &[u8], event_type: u8) -> Result<Rows<'static>> {
    let mut bytes = Bytes(data);
    let table = bytes.number(6)?;
    let _flags = bytes.take(2)?;
    let columns = bytes.length()?;
    let first = bytes.bits(columns)?;
    let (before, after) = match event_type {
        WRITE_ROWS_COMPRESSED => (None, Some(first)),
        DELETE_ROWS_COMPRESSED => (Some(first), None),
        _ => (Some(first), Some(bytes.bits(columns)?)),
    };
    Ok(Rows { table, before, after, bytes: bytes.decompressed()?.into() })
}

/// Reads a statement that is compressed, and the database that names in it belong to.
///
/// # Errors
/// The event is damaged.
pub(super) fn compressed_query(data: &[u8]) -> Result<(String, String)> {
    let mut bytes = Bytes(data);
    // The thread, and how long the statement took.
    bytes.take(8)?;
    let database = bytes.small(1)?;
    let _error = bytes.take(2)?;
    let variables = bytes.small(2)?;
    bytes.take(variables)?;
    let database = String::from_utf8_lossy(bytes.take(database)?).into_owned();
    bytes.take(1)?;
    Ok((String::from_utf8_lossy(&bytes.decompressed()?).into_owned(), database))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;
    use crate::error::Context;

    /// As the server compresses, with the length in two bytes.
    fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut encoder = ZlibEncoder::new(vec![0x82, length[0], length[1]], Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).while_doing("test", "compress")
    }

    #[test]
    fn a_transaction_begins_with_its_identifier() -> Result<()> {
        let mut event = [42_u64.to_le_bytes().as_slice(), &7_u32.to_le_bytes(), &[1], &[0; 6]].concat();
        let gtid = DomainGtid { domain: 7, number: 42, server: 3 };
        let begun = Begin { gtid, is_single: true, xid: None, is_without_effect: false };
        assert_eq!(begin(&event, 3)?, begun);
        // In two phases, in a group with others.
        event.truncate(12);
        event.extend([64 | 2, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0, 2, 1, b'a', 0xff, b'b']);
        let xid = Some("X'61ff',X'62',1".to_owned());
        assert_eq!(begin(&event, 3)?, Begin { xid, is_single: false, ..begun });
        assert!(begin(&event[..event.len() - 1], 3).is_err());
        Ok(())
    }

    #[test]
    fn an_alteration_that_only_starts_has_no_effect() -> Result<()> {
        let event = |more: u8| [[0; 12].as_slice(), &[1, more, 1]].concat();
        for (more, is_without_effect) in [(0, false), (2, true), (3, true), (4, false), (8, true)] {
            assert_eq!(begin(&event(more), 1)?.is_without_effect, is_without_effect, "{more}");
        }
        Ok(())
    }

    #[test]
    fn compressed_rows_and_statements_are_read() -> Result<()> {
        let header = [5, 0, 0, 0, 0, 0, 0, 0, 2];
        let event = [header.as_slice(), &[0b11], &[0b01], &compressed(b"rows")?].concat();
        let rows = compressed_rows(&event, UPDATE_ROWS_COMPRESSED)?;
        assert_eq!((rows.table, rows.before, rows.after), (5, Some(vec![true, true]), Some(vec![true, false])));
        assert_eq!(*rows.bytes, *b"rows");
        let event = [header.as_slice(), &[0b10], &compressed(b"rows")?].concat();
        assert_eq!(compressed_rows(&event, DELETE_ROWS_COMPRESSED)?.before, Some(vec![false, true]));

        let header = [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 99, b'd', b'b', 0];
        let event = [header.as_slice(), &compressed(b"TRUNCATE t")?].concat();
        assert_eq!(compressed_query(&event)?, ("TRUNCATE t".to_owned(), "db".to_owned()));
        Ok(())
    }

    #[test]
    fn a_damaged_event_is_an_error() -> Result<()> {
        let header = [5, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let whole = [header.as_slice(), &compressed(b"rows")?].concat();
        let mut longer = whole.clone();
        longer[12] += 1;
        let mut other_algorithm = whole.clone();
        other_algorithm[10] |= 0x10;
        for damaged in [&whole[..whole.len() - 6], &longer, &other_algorithm, &whole[..9]] {
            assert!(compressed_rows(damaged, WRITE_ROWS_COMPRESSED).is_err());
        }
        Ok(())
    }
}
