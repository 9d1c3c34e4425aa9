//! Transactions in two phases that were prepared in log from before the capture began, and committed since.

use futures_util::StreamExt;
use mysql_async::{BinlogStreamRequest, prelude::Queryable};

use super::{
    SERVICE,
    charset::Collations,
    decode::Decoder,
    reading::Log,
    seen::Id,
    subscription::{connect_as_replica, server_id},
};
use crate::{
    change::{Change, Op},
    error::{Context, Error, Result},
};

/// What the transaction changed that was prepared under this name and committed as `id`.
///
/// The log says of a commit no more than the name. Names are used again, so nothing less than all of the log up to the commit
/// tells which transaction it was.
///
/// # Errors
/// The server has purged the log in which it was prepared, or doesn't send it.
pub(super) async fn prepared(log: &Log, name: &str, id: Id) -> Result<Vec<Change>> {
    let doing = || format!("find what the transaction {name} changed before it was prepared");
    let mut conn = connect_as_replica(log).await?;
    let collations = Collations::of(log.flavour, &mut conn).await?;
    let first: Option<mysql_async::Row> = conn.query_first("SHOW BINARY LOGS").await.while_doing(SERVICE, doing())?;
    let first: String = first.and_then(|first| first.get(0)).unwrap_or_default();
    let request = BinlogStreamRequest::new(server_id()).with_filename(first.as_bytes()).with_non_blocking();
    let mut stream = conn.get_binlog_stream(request).await.while_doing(SERVICE, doing())?;
    let mut decoder = Decoder::new(&log.lease, log.flavour, collations, []);
    while let Some(event) = stream.next().await {
        let event = event.while_doing(SERVICE, doing())?;
        match decoder.event(&event)? {
            Some(found) if found.id == id && found.prepared_before.is_none() => {
                // How tables looked then, the capture knows better.
                return Ok(found.changes.into_iter().filter(|change| change.op != Op::Schema).collect());
            }
            Some(found) if found.id == id => break,
            _ => {}
        }
    }
    Err(Error::new(SERVICE, doing(), "the server has purged that part of its log")
        .help("begin anew with an initial snapshot"))
}
