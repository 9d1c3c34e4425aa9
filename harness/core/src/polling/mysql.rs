//! Polling of MySQL and MariaDB.

use async_trait::async_trait;
use mysql_async::prelude::Queryable;

use super::{Database, Found, Identity, Micros, SERVICE, SUMMARY, Watched, guarantees, is_touched, overlaps, start};
use crate::{
    capture::{Capture, Options, Subject, Subscription},
    error::{Context, Error, Result},
    guarantees::{Guarantees, Mark, TIME_COLUMN, TimeOf},
    mysql::{self, Conn, Flavour, HIDDEN_TIME, TableShape, ident, table},
    schema::TableName,
    source::Storage,
    stack::{Endpoint, Service},
    time,
};

/// Polling by a table's column `updated_at`, or where it has none, by one that the set-up has given it, which `SELECT *`
/// doesn't show. The server sets it by itself (manual, 13.2.5 "Automatic Initialization and Updating for TIMESTAMP and DATETIME").
///
/// Settings: as [`TimestampPolling`](super::TimestampPolling)'s, with `ON UPDATE` in the place of the trigger.
#[derive(Clone, Copy, Debug)]
pub struct MySqlTimestampPolling(pub Flavour);

/// What each new table is given. It is the statement's time, with six digits.
fn time_column(is_touched: bool) -> String {
    let touch = if is_touched { " ON UPDATE CURRENT_TIMESTAMP(6)" } else { "" };
    format!("{} timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6){touch} INVISIBLE", ident(HIDDEN_TIME))
}

fn give_time(is_touched: bool) -> String {
    format!("ADD COLUMN {}, ADD INDEX ({})", time_column(is_touched), ident(HIDDEN_TIME))
}

#[async_trait]
impl Capture for MySqlTimestampPolling {
    fn name(&self) -> &'static str {
        "polling"
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn storage(&self) -> &'static dyn Storage {
        self.0.server()
    }

    fn services(&self) -> &'static [Service] {
        match self.0 {
            Flavour::MySql => &[Service::Mysql],
            Flavour::MariaDb => &[Service::Mariadb],
        }
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        let (touched_by_updates, overlap) = (is_touched(options), overlaps(options));
        // A table is known by its name: one that gets another name is a new one, and all its rows are.
        let mark = Mark { touched_by_updates, overlap, time_of: TimeOf::Statement, follows_renames: false };
        guarantees(options, mark, false)
    }

    /// MySQL has no trigger for definitions, so whoever makes a table has to give it its time: here, the source.
    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        let mut conn = mysql::connect(subject.stack.endpoint(self.0.server().service)?, subject.database).await?;
        mysql::alter_new_tables(&mut conn, subject.database, &give_time(true), TIME_COLUMN).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let endpoint = subject.stack.endpoint(self.0.server().service)?.clone();
        let lease = subject.database.to_owned();
        if !is_touched(options) {
            leave_untouched(&endpoint, &lease).await?;
        }
        let conn = mysql::connect_to_capture(&endpoint, &lease).await?;
        start(Server { endpoint, lease, conn }, options).await
    }

    /// All that it makes is in the lease's databases and goes with them.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}

/// Takes `ON UPDATE` from the tables that there are.
async fn leave_untouched(endpoint: &Endpoint, lease: &str) -> Result<()> {
    let mut conn = mysql::connect(endpoint, lease).await?;
    for (name, shape) in mysql::shapes(&mut conn, lease).await? {
        if !has_own_time(&shape) {
            let alter = format!("ALTER TABLE {} MODIFY COLUMN {}", table(lease, &name), time_column(false));
            conn.query_drop(alter).await.while_doing(SERVICE, "leave updated rows as they are")?;
        }
    }
    Ok(())
}

fn has_own_time(shape: &TableShape) -> bool {
    shape.columns.iter().any(|column| column.name == TIME_COLUMN)
}

struct Server {
    endpoint: Endpoint,
    lease: String,
    conn: Conn,
}

#[async_trait]
impl Database for Server {
    type Shape = TableShape;

    /// Beginning a transaction ends one that was left open.
    async fn begin(&mut self) -> Result<()> {
        for begin in
            ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]
        {
            self.conn.query_drop(begin).await.while_doing(SERVICE, "begin a look")?;
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<Vec<Watched<TableShape>>> {
        let tables = mysql::shapes(&mut self.conn, &self.lease).await?;
        let watched = |(name, shape)| Watched { identity: Identity::Name(TableName::clone(&name)), name, shape };
        Ok(tables.into_iter().chain([mysql::fence()]).map(watched).collect())
    }

    async fn find(&mut self, watched: &Watched<TableShape>, mark: Option<Micros>) -> Result<Vec<Found>> {
        let Watched { name, shape, .. } = watched;
        let time = ident(if has_own_time(shape) { TIME_COLUMN } else { HIDDEN_TIME });
        // The column itself is compared, so that an index on it serves.
        let after = match mark {
            Some(mark) => format!("{time} > '{}'", time::timestamp(mark.into())),
            // A zero date is no time either.
            None => format!("{time} + 0 > 0"),
        };
        let micros = format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {time})");
        let columns = mysql::selected(shape);
        let query = format!("SELECT {micros}, {columns} FROM {} WHERE {after}", table(&self.lease, name));
        let doing = || format!("look at the table {name}");
        let rows: Vec<mysql_async::Row> = self.conn.query(query).await.while_doing(SERVICE, doing())?;
        let found = rows.iter().map(|found| {
            let time = found.get_opt(0).and_then(Result::ok);
            let time = time.ok_or_else(|| Error::new(SERVICE, doing(), "a row has no time that can be read"))?;
            let row = mysql::row(found, 1, shape);
            let key = row.project(shape.key.iter().map(String::as_str));
            Ok(Found { time, key, row })
        });
        found.collect()
    }

    async fn end(&mut self) -> Result<()> {
        self.conn.query_drop("COMMIT").await.while_doing(SERVICE, "end a look")
    }

    async fn reconnect(&mut self) -> Result<()> {
        self.conn = mysql::connect_to_capture(&self.endpoint, &self.lease).await?;
        Ok(())
    }
}
