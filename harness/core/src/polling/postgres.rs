//! Polling of PostgreSQL.

use async_trait::async_trait;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Database, Found, Identity, Micros, SERVICE, SUMMARY, Watched, guarantees, is_touched, overlaps, start};
use crate::{
    capture::{Capture, Options, Subject, Subscription},
    error::{Context, Result},
    guarantees::{Guarantees, Mark, TIME_COLUMN, TimeOf},
    postgres::{self, HIDDEN_TIME, TableShape, ident, table},
    stack::{Endpoint, Service},
};

const SET_UP: &str = include_str!("postgres.sql");

/// Polling by a table's column `updated_at`, or where it has none, by one that the set-up has given it.
///
/// Settings: `interval.ms` (100 by default) between two looks; `overlap.ms` (0) by which a look reaches back behind the
/// mark; `touch` (`true`), whether a trigger sets the time of updated rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampPolling;

#[async_trait]
impl Capture for TimestampPolling {
    fn name(&self) -> &'static str {
        "polling"
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        let (touched_by_updates, overlap) = (is_touched(options), overlaps(options));
        let mark = Mark { touched_by_updates, overlap, time_of: TimeOf::Transaction, follows_renames: true };
        guarantees(options, mark, true)
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        let client = postgres::connect(subject.stack.endpoint(Service::Postgres)?, subject.database).await?;
        client.batch_execute(SET_UP).await.while_doing(SERVICE, "give each table a time")
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let (endpoint, database) = (subject.stack.endpoint(Service::Postgres)?.clone(), subject.database.to_owned());
        let client = postgres::connect_to_capture(&endpoint, &database).await?;
        if !is_touched(options) {
            let untouched = "DROP FUNCTION changeproof_harness.touch CASCADE";
            client.batch_execute(untouched).await.while_doing(SERVICE, "leave updated rows as they are")?;
        }
        start(PostgreSql { endpoint, database, client, is_looking: false }, options).await
    }

    /// All that it makes is in the database and goes with it.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

struct PostgreSql {
    endpoint: Endpoint,
    database: String,
    client: Client,
    /// Whether a look has begun that has not ended: its future was dropped.
    is_looking: bool,
}

#[async_trait]
impl Database for PostgreSql {
    type Shape = TableShape;

    async fn begin(&mut self) -> Result<()> {
        let rollback = if self.is_looking { "ROLLBACK; " } else { "" };
        self.is_looking = true;
        let begin = format!("{rollback}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        self.client.batch_execute(&begin).await.while_doing(SERVICE, "begin a look")
    }

    async fn tables(&mut self) -> Result<Vec<Watched<TableShape>>> {
        let tables = postgres::shapes(&self.client).await?;
        let watched = |(name, shape): (_, TableShape)| Watched { identity: Identity::Number(shape.oid), name, shape };
        Ok(tables.into_iter().chain([postgres::fence()]).map(watched).collect())
    }

    /// A row with an infinite time isn't found either.
    async fn find(&mut self, watched: &Watched<TableShape>, mark: Option<Micros>) -> Result<Vec<Found>> {
        let Watched { name, shape, .. } = watched;
        let has_own = shape.columns.iter().any(|column| column.name == TIME_COLUMN);
        let time = ident(if has_own { TIME_COLUMN } else { HIDDEN_TIME });
        let columns: Vec<_> = shape.columns.iter().map(|column| ident(&column.name)).collect();
        let micros = format!("(extract(epoch FROM {time}) * 1000000)::bigint");
        let columns = std::iter::once(micros).chain(columns).collect::<Vec<_>>().join(", ");
        // The column itself is compared, so that an index on it serves.
        let after = mark.map(|mark| format!(" AND {time} > timestamptz 'epoch' + interval '{mark} microseconds'"));
        let after = after.unwrap_or_default();
        let query = format!("SELECT {columns} FROM {} WHERE isfinite({time}){after}", table(name));
        let doing = || format!("look at the table {name}");
        let messages = self.client.simple_query(&query).await.while_doing(SERVICE, doing())?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|found| {
            let time = found.get(0).unwrap_or_default().parse().while_doing(SERVICE, doing())?;
            let row = postgres::row(found, 1, shape);
            let key = row.project(shape.key.iter().map(String::as_str));
            Ok(Found { time, key, row })
        })
        .collect()
    }

    async fn end(&mut self) -> Result<()> {
        self.client.batch_execute("COMMIT").await.while_doing(SERVICE, "end a look")?;
        self.is_looking = false;
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.client = postgres::connect_to_capture(&self.endpoint, &self.database).await?;
        self.is_looking = false;
        Ok(())
    }
}
