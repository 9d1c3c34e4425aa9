//! Whether a source still has of its log what a connector hasn't read.

use std::collections::BTreeMap;

use mysql_async::{Conn, Opts, prelude::Queryable};
use serde_json::{Map, Value as Json};

use super::file::Connector;
use crate::{
    change::Lsn,
    error::{Context, Error, Result},
    postgres::Address,
};

/// Where sources are asked.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// By connector its database, `postgres://…` or `mysql://…`; the others are where their connectors' settings say.
    pub at: BTreeMap<String, String>,
    /// Whether none is asked: what it has of its log no more is then lost without a word.
    pub are_not_asked: bool,
}

enum Log {
    Postgres { slot: String, read: Lsn },
    MySql { file: String, gtids: Option<String> },
}

impl Sources {
    /// Asks the source of a connector, if it is one that reads a log, with its settings filled in.
    ///
    /// # Errors
    /// What the connector needs is gone; or the source can't be reached.
    pub(super) async fn check(&self, connector: &Connector, configuration: &Map<String, Json>) -> Result<()> {
        let Some(log) = log_of(connector, configuration)?.filter(|_| !self.are_not_asked) else { return Ok(()) };
        let url = match self.at.get(&connector.name) {
            Some(url) => url.clone(),
            None => address_of(configuration, &log),
        };
        let asked = match log {
            Log::Postgres { slot, read } => check_slot(&url, &slot, read).await,
            Log::MySql { file, gtids } => check_binlog(&url, &file, gtids.as_deref()).await,
        };
        let doing = || format!("go on with the connector {}", connector.name);
        match asked? {
            None => Ok(()),
            Some(gone) => Err(Error::new("the source", doing(), gone).help(
                "what was committed since is lost to this connector: start a new one with an initial snapshot, and new tables in the sink",
            )),
        }
    }
}

fn log_of(connector: &Connector, configuration: &Map<String, Json>) -> Result<Option<Log>> {
    let setting = |name: &str| configuration.get(name).and_then(Json::as_str);
    let Some(offset) = connector.offsets.first().map(|offset| &offset["offset"]) else { return Ok(None) };
    match setting("connector.class") {
        Some("io.debezium.connector.postgresql.PostgresConnector") => {
            let slot = setting("slot.name").unwrap_or("debezium").to_owned();
            let read = ["lsn_commit", "lsn_proc", "lsn"].iter().find_map(|name| offset[*name].as_u64());
            let read = read.ok_or_else(|| {
                let doing = format!("read the offset of {}", connector.name);
                Error::new("the source", doing, format!("{offset} has no position"))
            })?;
            Ok(Some(Log::Postgres { slot, read: Lsn(read) }))
        }
        Some("io.debezium.connector.mysql.MySqlConnector" | "io.debezium.connector.mariadb.MariaDbConnector") => {
            let text = |name: &str| offset[name].as_str().map(str::to_owned);
            // MariaDB's positions are no sets, and its server answers by the file.
            let gtids = text("gtids").filter(|gtids| gtids.contains(':'));
            Ok(Some(Log::MySql { file: text("file").unwrap_or_default(), gtids }))
        }
        _ => Ok(None),
    }
}

/// The connection string that a connector's settings amount to.
fn address_of(configuration: &Map<String, Json>, log: &Log) -> String {
    let setting = |name: &str| configuration.get(name).and_then(Json::as_str).unwrap_or_default();
    let (scheme, database) = match log {
        Log::Postgres { .. } => ("postgres", setting("database.dbname")),
        Log::MySql { .. } => ("mysql", ""),
    };
    let mut url = reqwest::Url::parse(&format!("{scheme}://{}", setting("database.hostname"))).ok();
    if let Some(url) = &mut url {
        let _ = url.set_port(setting("database.port").parse().ok());
        let _ = url.set_username(setting("database.user"));
        let _ = url.set_password(Some(setting("database.password")));
        url.set_path(database);
    }
    url.map(String::from).unwrap_or_default()
}

const UNREACHED: &str =
    "say where this machine reaches it with --source CONNECTOR=URL, or go without this check by --unchecked";

/// What is gone of a slot, if anything is.
async fn check_slot(url: &str, slot: &str, read: Lsn) -> Result<Option<String>> {
    let client = Address::from_url(url)?.connect().await.map_err(|error| error.help(UNREACHED))?;
    let query =
        "SELECT confirmed_flush_lsn::text, COALESCE(wal_status, '') FROM pg_replication_slots WHERE slot_name = $1";
    let found = client.query_opt(query, &[&slot]).await.while_doing("PostgreSQL", "look at the replication slot")?;
    let Some(found) = found else { return Ok(Some(format!("its slot {slot} is gone, and the log since with it"))) };
    if found.get::<_, &str>(1) == "lost" {
        let cause = "the server has removed log that it still needs (max_slot_wal_keep_size)";
        return Ok(Some(format!("its slot {slot} is lost: {cause}")));
    }
    let confirmed = found.get::<_, Option<&str>>(0).unwrap_or("0/0");
    let confirmed: Lsn = confirmed.parse().while_doing("PostgreSQL", format!("read the position {confirmed}"))?;
    let is_past = confirmed > read;
    Ok(is_past
        .then(|| format!("its slot {slot} has come to {confirmed}, and the connector has read up to {read} only")))
}

/// What is gone of a binary log, if anything is.
async fn check_binlog(url: &str, file: &str, gtids: Option<&str>) -> Result<Option<String>> {
    let doing = "look at the binary log";
    let options = Opts::from_url(url).while_doing("MySQL", "read the connection string")?;
    let connected = Conn::new(options).await.while_doing("MySQL", "connect");
    let mut conn = connected.map_err(|error| error.help(UNREACHED))?;
    let (gone, cause) = if let Some(gtids) = gtids {
        let query = "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, ?)";
        let purged: Option<String> = conn.exec_first(query, (gtids,)).await.while_doing("MySQL", doing)?;
        let purged = purged.unwrap_or_default();
        (!purged.is_empty(), format!("the server has removed the transactions {purged} that it hasn't read"))
    } else {
        let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.while_doing("MySQL", doing)?;
        let is_it = |row: &mysql_async::Row| row.get::<String, _>(0).is_some_and(|name| name == file);
        let cause = format!("the server has removed the file {file} of its log, which it hasn't read to its end");
        (!files.iter().any(is_it), cause)
    };
    conn.disconnect().await.while_doing("MySQL", doing)?;
    Ok(gone.then_some(cause))
}
