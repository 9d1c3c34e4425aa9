//! The messages of the output plugin pgoutput, in text mode (manual, 55.9 "Logical Replication Message Formats").

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::wire::EPOCH_US;
use crate::{
    change::Lsn,
    error::{Error, Result},
};

const DECODER: &str = "the decoder of pgoutput";

/// A table's shape as the log tells it before its first change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub(super) identity: u8,
    pub(super) columns: Vec<Column>,
}

/// A column as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Whether it belongs to the replica identity.
    pub(super) is_identity: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
}

/// A column's value in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datum {
    Null,
    /// A large value that the update left as it was, and that the log doesn't hold.
    Unchanged,
    Text(Bytes),
}

pub(super) type Tuple = Vec<Datum>;

/// What a before-image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// The columns of the replica identity; the others are NULL, which means nothing.
    Identity(Tuple),
    /// The whole row.
    Whole(Tuple),
}

/// A message of the plugin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Begin {
        xid: u32,
        commit: Lsn,
        commit_time_us: i64,
    },
    Commit {
        end: Lsn,
    },
    Relation(Arc<Relation>),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// A part of a large transaction that is still open begins, and ends.
    StreamStart {
        xid: u32,
    },
    StreamStop,
    StreamCommit {
        xid: u32,
        commit: Lsn,
        end: Lsn,
        commit_time_us: i64,
    },
    /// A streamed transaction, or a subtransaction of it, was rolled back.
    StreamAbort {
        xid: u32,
        subtransaction: u32,
    },
    /// What is no change of a table: types, origins, logical messages.
    Other,
}

/// A message, and within a streamed part the (sub)transaction that it belongs to.
pub(super) type Told = (Option<u32>, Message);

/// Reads one message. `is_streamed`: it stands within a part of a streamed transaction, where messages name theirs.
pub(super) fn decode(mut data: Bytes, is_streamed: bool) -> Result<Told> {
    let tag = *data.first().ok_or_else(|| cut_short(0))?;
    read(&mut data, is_streamed).ok_or_else(|| cut_short(tag))
}

fn cut_short(tag: u8) -> Error {
    Error::new(
        DECODER,
        "read a message",
        format!("the message {:?} is cut short or not as documented", char::from(tag)),
    )
}

fn read(data: &mut Bytes, is_streamed: bool) -> Option<Told> {
    let tag = data.try_get_u8().ok()?;
    let mut xid = None;
    if is_streamed && matches!(tag, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') {
        xid = Some(data.try_get_u32().ok()?);
    }
    let message = match tag {
        b'B' => {
            let (commit, commit_time_us) = (lsn(data)?, time(data)?);
            Message::Begin { xid: data.try_get_u32().ok()?, commit, commit_time_us }
        }
        b'C' => {
            data.try_get_u8().ok()?;
            lsn(data)?;
            Message::Commit { end: lsn(data)? }
        }
        b'R' => Message::Relation(Arc::new(relation(data)?)),
        b'I' => {
            let relation = data.try_get_u32().ok()?;
            data.try_get_u8().ok()?;
            Message::Insert { relation, new: tuple(data)? }
        }
        b'U' => {
            let relation = data.try_get_u32().ok()?;
            let old = match data.try_get_u8().ok()? {
                b'N' => None,
                kind => {
                    let old = old(kind, data)?;
                    data.try_get_u8().ok()?;
                    Some(old)
                }
            };
            Message::Update { relation, old, new: tuple(data)? }
        }
        b'D' => {
            let relation = data.try_get_u32().ok()?;
            let kind = data.try_get_u8().ok()?;
            Message::Delete { relation, old: old(kind, data)? }
        }
        b'T' => {
            let count = data.try_get_u32().ok()?;
            data.try_get_u8().ok()?;
            let relations = (0..count).map(|_| data.try_get_u32().ok()).collect::<Option<_>>()?;
            Message::Truncate { relations }
        }
        b'S' => Message::StreamStart { xid: data.try_get_u32().ok()? },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = data.try_get_u32().ok()?;
            data.try_get_u8().ok()?;
            let (commit, end, commit_time_us) = (lsn(data)?, lsn(data)?, time(data)?);
            Message::StreamCommit { xid, commit, end, commit_time_us }
        }
        b'A' => {
            let (xid, subtransaction) = (data.try_get_u32().ok()?, data.try_get_u32().ok()?);
            Message::StreamAbort { xid, subtransaction }
        }
        _ => Message::Other,
    };
    Some((xid, message))
}

fn lsn(data: &mut Bytes) -> Option<Lsn> {
    data.try_get_u64().ok().map(Lsn)
}

fn time(data: &mut Bytes) -> Option<i64> {
    data.try_get_i64().ok()?.checked_add(EPOCH_US)
}

fn text(data: &mut Bytes) -> Option<String> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let text = data.split_to(end);
    data.advance(1);
    String::from_utf8(text.to_vec()).ok()
}

fn relation(data: &mut Bytes) -> Option<Relation> {
    let (oid, schema, name) = (data.try_get_u32().ok()?, text(data)?, text(data)?);
    let identity = data.try_get_u8().ok()?;
    let count = data.try_get_u16().ok()?;
    let column = |data: &mut Bytes| {
        Some(Column {
            is_identity: data.try_get_u8().ok()? & 1 == 1,
            name: text(data)?,
            type_oid: data.try_get_u32().ok()?,
            type_modifier: data.try_get_i32().ok()?,
        })
    };
    let columns = (0..count).map(|_| column(data)).collect::<Option<_>>()?;
    Some(Relation { oid, schema, name, identity, columns })
}

fn old(kind: u8, data: &mut Bytes) -> Option<Old> {
    match kind {
        b'K' => tuple(data).map(Old::Identity),
        b'O' => tuple(data).map(Old::Whole),
        _ => None,
    }
}

fn tuple(data: &mut Bytes) -> Option<Tuple> {
    let count = data.try_get_u16().ok()?;
    let datum = |data: &mut Bytes| match data.try_get_u8().ok()? {
        b'n' => Some(Datum::Null),
        b'u' => Some(Datum::Unchanged),
        b't' => {
            let length = usize::try_from(data.try_get_u32().ok()?).ok()?;
            (length <= data.len()).then(|| Datum::Text(data.split_to(length)))
        }
        _ => None,
    };
    (0..count).map(|_| datum(data)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as a server sent it: `R` of a table `t (id int primary key, v text)`.
    const RELATION: &[u8] =
        b"R\0\0\x40\x01public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff";
    /// `U` of a row whose key changed, with a large value left as it was.
    const UPDATE: &[u8] = b"U\0\0\x40\x01K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u";

    fn decoded(data: &'static [u8], is_streamed: bool) -> Option<Told> {
        decode(Bytes::from_static(data), is_streamed).ok()
    }

    #[test]
    fn a_relation_tells_columns_types_and_identity() {
        let Some((None, Message::Relation(relation))) = decoded(RELATION, false) else { unreachable!("no relation") };
        assert_eq!((relation.oid, relation.name.as_str(), relation.identity), (0x4001, "t", b'd'));
        let columns: Vec<_> = relation.columns.iter().map(|c| (c.name.as_str(), c.type_oid, c.is_identity)).collect();
        assert_eq!(columns, [("id", 23, true), ("v", 25, false)]);
    }

    #[test]
    fn an_update_tells_its_old_key_and_what_it_left_alone() {
        let text = |text: &'static [u8]| Datum::Text(Bytes::from_static(text));
        let expected = Message::Update {
            relation: 0x4001,
            old: Some(Old::Identity(vec![text(b"1"), Datum::Null])),
            new: vec![text(b"2"), Datum::Unchanged],
        };
        assert_eq!(decoded(UPDATE, false), Some((None, expected)));
    }

    #[test]
    fn within_a_streamed_part_messages_name_their_transaction() {
        let insert = b"I\0\0\x02\xf1\0\0\x40\x01N\0\x01n";
        let expected = Message::Insert { relation: 0x4001, new: vec![Datum::Null] };
        assert_eq!(decoded(insert, true), Some((Some(753), expected)));
    }

    #[test]
    fn a_message_cut_short_anywhere_is_an_error_and_never_a_panic() {
        for message in [RELATION, UPDATE] {
            for length in 0..message.len() {
                assert!(decode(Bytes::from_static(&message[..length]), false).is_err(), "{length}");
            }
        }
    }
}
