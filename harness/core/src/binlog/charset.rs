//! Texts in the character sets of their columns.

use std::collections::HashMap;

use mysql_async::{Conn, prelude::Queryable};

use crate::{
    error::{Context, Result},
    mysql::Flavour,
};

/// How the bytes of a text are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// No text but bytes.
    Binary,
    /// utf8mb4, utf8mb3 and ascii.
    Utf8,
    /// `latin1`, which is Windows' code page 1252 (MySQL manual, 12.10.2 "West European Character Sets").
    Latin1,
    /// Big-endian UTF-16, and `ucs2`.
    Utf16,
    /// Little-endian UTF-16.
    Utf16Le,
    /// Big-endian UTF-32.
    Utf32,
    /// Any other: it isn't known here.
    Unknown,
}

/// What code page 1252 has where ISO 8859-1 has control characters; five of its places are control characters all the same.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

impl Charset {
    fn named(name: &str) -> Self {
        match name {
            "binary" => Self::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Self::Utf8,
            "latin1" => Self::Latin1,
            "ucs2" | "utf16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf32" => Self::Utf32,
            _ => Self::Unknown,
        }
    }

    /// The text of bytes; `None` if they are none, or the character set isn't known.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<String> {
        let utf16 = |unit: fn([u8; 2]) -> u16| {
            let units: Vec<_> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        };
        match self {
            Self::Binary | Self::Unknown => None,
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Latin1 => {
                let letter = |byte: &u8| match byte {
                    0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
                    byte => char::from(*byte),
                };
                Some(bytes.iter().map(letter).collect())
            }
            Self::Utf16 => utf16(u16::from_be_bytes),
            Self::Utf16Le => utf16(u16::from_le_bytes),
            Self::Utf32 => {
                let letter = |four: &[u8]| char::from_u32(u32::from_be_bytes(four.try_into().ok()?));
                bytes.chunks(4).map(letter).collect()
            }
        }
    }
}

/// A server's collations: of each number the character set, and how many bytes a character of it takes at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Collations(HashMap<u16, (Charset, u32)>);

impl Collations {
    /// Asks the server.
    pub(super) async fn of(flavour: Flavour, conn: &mut Conn) -> Result<Self> {
        // MariaDB has collations of one name for several character sets, of which only this table has the numbers.
        let table = match flavour {
            Flavour::MySql => "COLLATIONS",
            Flavour::MariaDb => "COLLATION_CHARACTER_SET_APPLICABILITY",
        };
        let question = format!(
            "SELECT c.ID, c.CHARACTER_SET_NAME, s.MAXLEN FROM information_schema.{table} c \
             JOIN information_schema.CHARACTER_SETS s USING (CHARACTER_SET_NAME) WHERE c.ID IS NOT NULL"
        );
        let known: Vec<(u16, String, u32)> =
            conn.query(question).await.while_doing("MySQL or MariaDB", "list its collations")?;
        Ok(Self(known.into_iter().map(|(id, name, longest)| (id, (Charset::named(&name), longest))).collect()))
    }

    /// The character set of a collation, and the bytes of its longest character.
    pub(super) fn get(&self, id: u16) -> (Charset, u32) {
        self.0.get(&id).copied().unwrap_or((Charset::Unknown, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_in_their_character_set() {
        let text = |charset: &str, bytes: &[u8]| Charset::named(charset).decode(bytes);
        assert_eq!(text("latin1", b"K\xf6ln \x80 \x81"), Some("Köln € \u{81}".to_owned()));
        assert_eq!(text("utf8mb4", "🏯".as_bytes()), Some("🏯".to_owned()));
        assert_eq!(text("utf8mb4", b"\xff"), None);
        assert_eq!(text("utf16", &[0xd8, 0x3c, 0xdf, 0xef]), Some("🏯".to_owned()));
        assert_eq!(text("utf16le", &[0xe4, 0]), Some("ä".to_owned()));
        assert_eq!(text("utf32", &[0, 1, 0xf3, 0xef]), Some("🏯".to_owned()));
        assert_eq!(text("big5", b"a"), None);
    }
}
