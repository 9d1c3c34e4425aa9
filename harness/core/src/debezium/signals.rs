//! Signals to a connector: rows that somebody writes to a table which it captures (Debezium's manual, "Sending signals to a Debezium
//! connector", source channel).

use mysql_async::{Conn, prelude::Queryable};
use serde_json::json;
use tokio_postgres::Client;

use crate::{
    capture::{Options, SnapshotMode},
    error::{Context, Error, Result},
    mysql, postgres,
    source::HARNESS_SCHEMA,
    stack::Endpoint,
};

/// The table that signals are written to.
const TABLE: &str = "debezium_signal";

/// The setting that says where signals come from.
const CHANNELS: &str = "signal.enabled.channels";

const SERVICE: &str = "Debezium's table of signals";

/// Whether the rows that exist are to be read when a signal asks for it, and not before the stream: by settings that name the table of
/// signals as a source of them.
pub(super) fn are_asked_for(options: &Options) -> bool {
    let names_source = |channels: &String| channels.split(',').any(|channel| channel.trim() == "source");
    options.snapshot == SnapshotMode::Initial && options.settings.get(CHANNELS).is_some_and(names_source)
}

/// The table of signals of a capture, and the way to write to it.
pub(super) enum Signals {
    PostgreSql(Client),
    MySql(Conn, String),
}

impl Signals {
    /// Makes the table in PostgreSQL.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub(super) async fn of_postgres(source: &Endpoint, database: &str) -> Result<Self> {
        let client = postgres::connect(source, database).await?;
        let create = definition(HARNESS_SCHEMA);
        client.batch_execute(&create).await.while_doing(SERVICE, "make it")?;
        Ok(Self::PostgreSql(client))
    }

    /// Makes the table in MySQL or MariaDB, and lets the connector's user write to it: it marks there where it reads in the log.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub(super) async fn of_mysql(source: &Endpoint, lease: &str) -> Result<Self> {
        let mut conn = mysql::connect(source, lease).await?;
        let database = mysql::database_of(lease, HARNESS_SCHEMA);
        let grant = format!("GRANT INSERT, DELETE ON {database}.{TABLE} TO {lease}@'%'");
        for statement in [definition(&database), grant] {
            conn.query_drop(statement).await.while_doing(SERVICE, "make it")?;
        }
        Ok(Self::MySql(conn, lease.to_owned()))
    }

    /// The table's name as the connector spells it.
    pub(super) fn table(&self) -> String {
        match self {
            Self::PostgreSql(_) => format!("{HARNESS_SCHEMA}.{TABLE}"),
            Self::MySql(_, lease) => format!("{}.{TABLE}", mysql::database_of(lease, HARNESS_SCHEMA)),
        }
    }

    /// Asks for all rows of all tables, to be read in chunks while the stream goes on.
    ///
    /// # Errors
    /// There are no tables, or the server refuses.
    pub(super) async fn ask_for_all_rows(&mut self) -> Result<()> {
        let doing = "ask for an incremental snapshot";
        let tables: Vec<String> = match self {
            Self::PostgreSql(client) => {
                let shapes = postgres::shapes(client).await?;
                shapes.into_keys().map(|table| format!("{}.{}", table.schema(), table.name())).collect()
            }
            Self::MySql(conn, lease) => {
                let shapes = mysql::shapes(conn, lease).await?;
                let name = |schema: &str| mysql::database_of(lease, schema);
                shapes.into_keys().map(|table| format!("{}.{}", name(table.schema()), table.name())).collect()
            }
        };
        if tables.is_empty() {
            return Err(Error::new(SERVICE, doing, "there is no table").help("create the tables before the capture"));
        }
        let data = json!({ "type": "INCREMENTAL", "data-collections": tables }).to_string();
        let insert =
            format!("INSERT INTO {} (id, type, data) VALUES ('changeproof', 'execute-snapshot', ", self.table());
        match self {
            Self::PostgreSql(client) => {
                let asked = client.execute(&format!("{insert}$1)"), &[&data]).await;
                asked.map(drop).while_doing(SERVICE, doing)
            }
            Self::MySql(conn, _) => {
                let asked = conn.query_drop(format!("{insert}{})", mysql::quote(&data))).await;
                asked.while_doing(SERVICE, doing)
            }
        }
    }
}

/// The table as the manual defines it.
fn definition(schema: &str) -> String {
    format!("CREATE TABLE {schema}.{TABLE} (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048))")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_a_signal_if_the_settings_name_its_table() {
        let options = |snapshot, channels: Option<&str>| {
            let settings = channels.map(|channels| (CHANNELS.to_owned(), channels.to_owned()));
            Options { snapshot, settings: settings.into_iter().collect(), ..Options::default() }
        };
        assert!(are_asked_for(&options(SnapshotMode::Initial, Some("source"))));
        assert!(are_asked_for(&options(SnapshotMode::Initial, Some("kafka, source"))));
        assert!(!are_asked_for(&options(SnapshotMode::Initial, Some("kafka"))));
        assert!(!are_asked_for(&options(SnapshotMode::Initial, None)));
        assert!(!are_asked_for(&options(SnapshotMode::NoData, Some("source"))));
    }
}
