//! What is asked of the source beside its rows.

use std::time::Duration;

use changeproof::{
    error::{Context, Error, Result},
    postgres::{Address, file_of},
    schema::TableName,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

/// How long a slot may take to be made.
const MADE_WITHIN: Duration = Duration::from_secs(30);

/// Whether there is a slot. One that is still being made, for a process that was killed meanwhile, is waited for: it is made in the
/// end, or goes.
pub(crate) async fn has_slot(client: &Client, slot: &str) -> Result<bool> {
    let doing = "look for the slot";
    let query = "SELECT confirmed_flush_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = $1";
    let deadline = Instant::now() + MADE_WITHIN;
    loop {
        match client.query_opt(query, &[&slot]).await.while_doing("PostgreSQL", doing)?.map(|row| row.get(0)) {
            None => return Ok(false),
            Some(true) => return Ok(true),
            Some(false) if Instant::now() > deadline => {
                let cause = format!("{slot} is still being made: it waits for transactions that are open");
                return Err(Error::new("PostgreSQL", doing, cause).help("end them, and start again"));
            }
            Some(false) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Whether a publication is of all tables.
///
/// # Errors
/// There is no such publication.
pub(crate) async fn is_of_all_tables(client: &Client, publication: &str) -> Result<bool> {
    let row = client.query_opt("SELECT puballtables FROM pg_publication WHERE pubname = $1", &[&publication]).await;
    let row = row.while_doing("PostgreSQL", "look at the publication")?;
    row.map(|row| row.get(0)).ok_or_else(|| {
        Error::new("PostgreSQL", "look at the publication", format!("there is none of the name {publication}")).help(
            format!("make one: CREATE PUBLICATION {publication} FOR TABLE …, with the tables that are to be followed"),
        )
    })
}

/// What a database is known by wherever it is moved to: the identifier of its server, and its name.
pub(crate) async fn identity_of(client: &Client, address: &Address) -> Result<String> {
    let row = client.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await;
    let server: String = row.while_doing("PostgreSQL", "ask which server it is")?.get(0);
    Ok(format!("{server}/{}", address.database()))
}

/// The file that a table's rows are in as the connection sees them ([`file_of`]); none if there is no such table.
pub(crate) async fn file_seen(client: &Client, relation: u32) -> Result<Option<u32>> {
    let row = client.query_one(&format!("SELECT {}", file_of("$1")), &[&relation]).await;
    Ok(row.while_doing("PostgreSQL", "look a table up")?.get(0))
}

pub(crate) async fn present_name(client: &Client, relation: u32) -> Result<Option<TableName>> {
    let name = "SELECT nspname::text, relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = $1";
    let row = client.query_opt(name, &[&relation]).await.while_doing("PostgreSQL", "look a table up")?;
    Ok(row.map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))))
}
