//! What scenarios do on a server beside their script: statements that run while it goes on, and looks at the log.

use changeproof::{
    error::{Context, Error},
    mysql::{Conn, Source},
};
use mysql_async::prelude::Queryable;

use crate::prelude::*;

const SERVER: &str = "the server";

/// Runs a statement on a connection of its own while the script's steps go on. It changes no row, and nothing of what is told of a table:
/// nobody knows between which steps it ends.
pub(crate) async fn beside(s: &mut Scenario, sql: &str, steps: impl IntoIterator<Item = Step>) -> Result<()> {
    let doing = || format!("run `{sql}` beside the script");
    let options = s.source::<Source>()?.session(FIRST_SESSION).await?.opts().clone();
    let mut other = Conn::new(options).await.while_doing(SERVER, doing())?;
    let (ran, written) = tokio::join!(other.query_drop(sql), s.apply_all(steps));
    written?;
    ran.while_doing(SERVER, doing())?;
    other.disconnect().await.while_doing(SERVER, doing())
}

/// A file of the log, and a place in it.
pub(crate) type Place = (String, u64);

/// Where MySQL's log ends now.
pub(crate) async fn end_of_log(s: &mut Scenario) -> Result<Place> {
    files(s).await?.pop().ok_or_else(|| Error::new(SERVER, "list the files of its log", "it has none"))
}

/// The log must have compressed transactions since that place.
pub(crate) async fn must_be_compressed(s: &mut Scenario, (first, place): &Place) -> Result<()> {
    let doing = "look for compressed transactions in its log";
    let files = files(s).await?;
    let mut admin = s.source::<Source>()?.admin().lock().await;
    for (file, _) in files.iter().filter(|(file, _)| file >= first) {
        let from = if file == first { format!(" FROM {place}") } else { String::new() };
        let events: Vec<(String, u64, String, u64, u64, String)> =
            admin.query(format!("SHOW BINLOG EVENTS IN '{file}'{from}")).await.while_doing(SERVER, doing)?;
        if events.iter().any(|(_, _, kind, ..)| kind == "Transaction_payload") {
            return Ok(());
        }
    }
    Err(Error::new(SERVER, doing, "there are none"))
}

/// The files of MySQL's log in order, and how large they are.
async fn files(s: &mut Scenario) -> Result<Vec<Place>> {
    let mut admin = s.source::<Source>()?.admin().lock().await;
    let files: Vec<(String, u64, String)> =
        admin.query("SHOW BINARY LOGS").await.while_doing(SERVER, "list the files of its log")?;
    Ok(files.into_iter().map(|(file, size, _)| (file, size)).collect())
}
