//! Transactions' identifiers, and which have been seen: MySQL's by server, MariaDB's by domain.

use std::{collections::BTreeMap, fmt};

use mysql_async::{BinlogStreamRequest, Conn, prelude::Queryable};

use super::{SERVICE, gtids::GtidSet};
use crate::{
    change::{DomainGtid, Gtid, Position},
    error::{Context, Error, Result},
    mysql::Flavour,
};

/// How long a transaction that has been sent may take until the server counts it as committed, in seconds.
const COMMITTED_WITHIN_S: u32 = 2;

/// The identifier of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    MySql(Gtid),
    MariaDb(DomainGtid),
}

impl Id {
    pub(super) fn position(self) -> Position {
        match self {
            Self::MySql(gtid) => Position::Gtid(gtid),
            Self::MariaDb(gtid) => Position::DomainGtid(gtid),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(gtid) => gtid.fmt(f),
            Self::MariaDb(gtid) => gtid.fmt(f),
        }
    }
}

/// Which transactions have been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A set: a server's transactions may come in any order.
    MySql(GtidSet),
    /// Of each domain the last one: they come in order (MariaDB documentation, "Global Transaction ID").
    MariaDb(BTreeMap<u32, DomainGtid>),
}

impl Seen {
    /// All that the server has in its log now.
    ///
    /// # Errors
    /// The server refuses to say it, or says it in a way that isn't known.
    pub(super) async fn executed(flavour: Flavour, conn: &mut Conn) -> Result<Self> {
        let doing = "ask what has been committed";
        let question = match flavour {
            Flavour::MySql => "SELECT @@global.gtid_executed",
            Flavour::MariaDb => "SELECT @@global.gtid_binlog_pos",
        };
        let told: Option<String> = conn.query_first(question).await.while_doing(flavour.title(), doing)?;
        let seen = Self::parse(flavour, &told.unwrap_or_default());
        seen.map_err(|error| Error::new(flavour.title(), doing, error))
    }

    /// Reads what the server prints.
    fn parse(flavour: Flavour, text: &str) -> Result<Self, String> {
        Ok(match flavour {
            Flavour::MySql => Self::MySql(GtidSet::parse(text)?),
            Flavour::MariaDb => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let of_domain = |part: &str| part.parse().map(|gtid: DomainGtid| (gtid.domain, gtid));
                Self::MariaDb(parts.map(of_domain).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Adds a transaction.
    pub(super) fn insert(&mut self, id: Id) {
        match (self, id) {
            (Self::MySql(set), Id::MySql(gtid)) => set.insert(gtid),
            (Self::MariaDb(last), Id::MariaDb(gtid)) => {
                last.insert(gtid.domain, gtid);
            }
            // A server has identifiers of its own kind only.
            (Self::MySql(_), Id::MariaDb(_)) | (Self::MariaDb(_), Id::MySql(_)) => {}
        }
    }

    /// What has been seen that the server doesn't have in its history. One that was restored from a backup, or a replica that has taken over
    /// before it had received everything, lacks some; MySQL sends what it has instead, and only of its own transactions says that they are
    /// missing. (MariaDB always says it.)
    ///
    /// # Errors
    /// The server doesn't answer.
    pub(super) async fn missing(&self, conn: &mut Conn) -> Result<Option<String>> {
        let Self::MySql(set) = self else { return Ok(None) };
        let doing = "compare its history with what has been delivered";
        // A transaction may be sent just before it counts as committed.
        let question = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {COMMITTED_WITHIN_S})");
        let is_late: Option<bool> = conn.query_first(question).await.while_doing(Flavour::MySql.title(), doing)?;
        if is_late == Some(false) {
            return Ok(None);
        }
        let question = format!("SELECT GTID_SUBTRACT('{set}', @@global.gtid_executed)");
        let missing: Option<String> = conn.query_first(question).await.while_doing(Flavour::MySql.title(), doing)?;
        Ok(missing.map(|missing| missing.replace('\n', "")).filter(|missing| !missing.is_empty()))
    }

    /// What to ask the server for, to be sent all others; MariaDB is told by variables of the session (its documentation,
    /// "Replication Protocol: COM_BINLOG_DUMP").
    ///
    /// # Errors
    /// The server refuses.
    pub(super) async fn request_others(&self, conn: &mut Conn, server_id: u32) -> Result<BinlogStreamRequest<'static>> {
        let request = BinlogStreamRequest::new(server_id);
        match self {
            Self::MySql(set) => Ok(request.with_gtid().with_gtid_set(set.sids())),
            Self::MariaDb(_) => {
                // Strict: a transaction that was seen, and is not in the log, is no place to go on from.
                let after = format!("SET @slave_connect_state = '{self}', @slave_gtid_strict_mode = 1");
                conn.query_drop(after).await.while_doing(SERVICE, "say what has been seen")?;
                Ok(request)
            }
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(last) => {
                let last: Vec<_> = last.values().map(DomainGtid::to_string).collect();
                f.write_str(&last.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_domain_the_last_transaction_is_kept() -> Result<(), String> {
        let mut seen = Seen::parse(Flavour::MariaDb, "10-1-7,0-1-41")?;
        for gtid in ["0-1-42", "10-2-8"] {
            seen.insert(Id::MariaDb(gtid.parse()?));
        }
        assert_eq!(seen.to_string(), "0-1-42,10-2-8");
        assert_eq!(Seen::parse(Flavour::MariaDb, "")?.to_string(), "", "nothing has been written yet");
        assert!(Seen::parse(Flavour::MariaDb, "0-1").is_err());
        Ok(())
    }
}
