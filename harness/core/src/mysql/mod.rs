//! MySQL and MariaDB as sources: databases of the lease's own, sessions, fences, and what they hold.
//!
//! What is a schema elsewhere is a database here. The lease `cp_1` has the database `cp_1` for the schema `public`, and
//! `cp_1_sales` for a schema `sales`.

mod catalogue;
mod scenario;
mod server;
mod sql;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
pub use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::{
    sync::{Mutex, OnceCell},
    time::{Instant, sleep},
};

use self::sql::{Declared, Writer};
pub use self::{
    catalogue::{ColumnShape, TableShape, shapes, type_named},
    server::{Flavour, Server, connect, connect_to_capture, current_log, remove_databases},
    values::from_text,
};
pub(crate) use self::{
    server::{Connection, connections, give_rights, hang_up, open},
    sql::{ident, quote},
    values::{bare, bits, is_binary, is_of, short},
};
use crate::{
    change::{DomainGtid, Gtid, Position},
    error::{Context, Error, Result},
    judge::{Contents, StoredColumn, TableContents},
    schema::{DEFAULT_SCHEMA, TableName, Type},
    script::{Action, Step},
    source::{self, HARNESS_SCHEMA},
    stack::{Endpoint, USER, restarted},
    value::{Row, Value},
};

/// Whose errors those are of what both servers do in the same way.
const SERVICE: &str = "MySQL or MariaDB";

/// A column that the harness gives to tables for methods that need one; no method delivers it as the script's.
pub const HIDDEN_TIME: &str = "changeproof_updated_at";

/// The table of the harness's database that fences are written to.
pub(crate) const FENCE: &str = "fence";

/// The fence's table, as methods see it that look at tables.
pub(crate) fn fence() -> (TableName, TableShape) {
    let id = ColumnShape { name: "id".to_owned(), ty: Type::BigInt, is_generated: false };
    let key = vec![id.name.clone()];
    (TableName::new(HARNESS_SCHEMA, FENCE), TableShape { columns: vec![id], key })
}

/// The table of the harness's database that says what is to be done to new tables.
const NEW_TABLES: &str = "new_tables";

/// Has each table that the script will create altered in this way, unless it has the column by itself: for methods that need
/// more of a table than the script gives it.
///
/// # Errors
/// The server refuses.
pub async fn alter_new_tables(conn: &mut Conn, lease: &str, alteration: &str, unless: &str) -> Result<()> {
    let table = format!("{}.{NEW_TABLES}", database_of(lease, HARNESS_SCHEMA));
    let (alteration, unless) = (quote(alteration), quote(unless));
    let tell = format!("CREATE TABLE {table} SELECT {alteration} AS alteration, {unless} AS unless_there_is");
    conn.query_drop(tell).await.while_doing(SERVICE, "have new tables altered")
}

const PURGES_WITHIN: Duration = Duration::from_secs(30);

const CAPTURE_CONNECTS_WITHIN: Duration = Duration::from_secs(20);

/// The database of a lease that stands for a schema.
pub(crate) fn database_of(lease: &str, schema: &str) -> String {
    if schema == DEFAULT_SCHEMA { lease.to_owned() } else { format!("{lease}_{schema}") }
}

/// The schema that a database of the lease stands for; `None` for a database of somebody else's.
pub fn schema_of<'a>(lease: &str, database: &'a str) -> Option<&'a str> {
    match database.strip_prefix(lease)? {
        "" => Some(DEFAULT_SCHEMA),
        rest => rest.strip_prefix('_'),
    }
}

/// The user of a program that captures for whoever has a server to themselves, one after the other.
pub(crate) const DAEMON: &str = "daemon";

/// What a user may that captures: read tables and the log (MySQL manual, 8.2.2 "Privileges Provided by MySQL").
pub(crate) const RIGHTS: &str = "SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT, LOCK TABLES";

/// A lease's databases, and the sessions that a script runs on.
pub struct Source {
    flavour: Flavour,
    endpoint: Endpoint,
    lease: String,
    admin: Mutex<Conn>,
    sessions: BTreeMap<String, Conn>,
    /// Sessions with an open transaction.
    open: BTreeSet<String>,
    declared: Declared,
    /// What is to be done to new tables, and the column of those that are left alone; asked for at the first.
    alteration: OnceCell<Option<(String, String)>>,
    fences: i64,
}

impl Source {
    /// Makes the lease's databases, with the fence's table, and the user that captures them.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn create(flavour: Flavour, endpoint: &Endpoint, lease: &str) -> Result<Self> {
        let mut admin = open(endpoint, USER, None).await?;
        let harness = database_of(lease, HARNESS_SCHEMA);
        // The Model compares texts as what they are, and not by the rules of a language.
        let collation = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let password = quote(&endpoint.password);
        for statement in [
            format!("CREATE DATABASE {lease} {collation}"),
            format!("CREATE DATABASE {harness} {collation}"),
            format!(
                "CREATE TABLE {harness}.{FENCE} (id bigint PRIMARY KEY, {HIDDEN_TIME} timestamp(6) NOT NULL \
                 DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))"
            ),
            format!("CREATE USER {lease}@'%' IDENTIFIED BY {password}"),
            format!("GRANT {RIGHTS} ON *.* TO {lease}@'%'"),
            format!("USE {lease}"),
        ] {
            let made = admin.query_drop(statement).await;
            made.while_doing(SERVICE, format!("set up the database {lease}"))?;
        }
        Ok(Self {
            flavour,
            endpoint: endpoint.clone(),
            lease: lease.to_owned(),
            admin: Mutex::new(admin),
            sessions: BTreeMap::new(),
            open: BTreeSet::new(),
            declared: Declared::default(),
            alteration: OnceCell::new(),
            fences: 0,
        })
    }

    /// The connection of a session, opened at its first use.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn session(&mut self, name: &str) -> Result<&mut Conn> {
        if !self.sessions.contains_key(name) {
            let mut conn = connect(&self.endpoint, &self.lease).await?;
            // What standard SQL quotes names by, MySQL takes for a string's quotes unless told otherwise.
            let quotes = conn.query_drop("SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')").await;
            quotes.while_doing(SERVICE, "set up a session")?;
            self.sessions.insert(name.to_owned(), conn);
        }
        self.sessions.get_mut(name).ok_or_else(|| Error::new(SERVICE, format!("use session {name}"), "it is not open"))
    }

    /// Whose server it is on.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Removes all of the server's log but the file that it is writing.
    ///
    /// # Errors
    /// The server refuses, or keeps more of it.
    pub async fn purge_log(&self) -> Result<()> {
        let doing = "purge the log";
        let deadline = Instant::now() + PURGES_WITHIN;
        let mut admin = self.admin.lock().await;
        loop {
            admin.query_drop("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await.while_doing(SERVICE, doing)?;
            let files: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await.while_doing(SERVICE, doing)?;
            if files.len() <= 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, doing, format!("{} files are left", files.len()))
                    .help("who is still being sent the log keeps it"));
            }
            // MariaDB keeps a file until its storage engine has written down all that is in it.
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The connection for questions about the server, apart from the script's sessions.
    pub fn admin(&self) -> &Mutex<Conn> {
        &self.admin
    }

    /// A definition that changes commits the transaction that is open (manual, 15.3.3 "Statements That Cause an Implicit
    /// Commit"), which the Model doesn't do.
    fn check_transaction(&self, step: &Step) -> Result<()> {
        let commits = matches!(step.action, Action::CreateTable(_) | Action::Alter { .. } | Action::Truncate(_));
        if commits && self.open.contains(&step.session) {
            let cause = "it commits the open transaction before it";
            return Err(Error::new(self.flavour.title(), "change a definition within a transaction", cause)
                .help("end the transaction before, or keep the scenario to PostgreSQL"));
        }
        Ok(())
    }

    /// Does to tables that have come since the last time what [`alter_new_tables`] asks for.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn alter_those_that_are_new(&self) -> Result<()> {
        let Some((alteration, unless)) = self.alteration.get_or_try_init(|| self.ask_for_alteration()).await? else {
            return Ok(());
        };
        let mut admin = self.admin.lock().await;
        for new in catalogue::tables_without(&mut admin, &self.lease, [HIDDEN_TIME, unless]).await? {
            let alter = format!("ALTER TABLE {} {alteration}", table(&self.lease, &new));
            admin.query_drop(&alter).await.while_doing(SERVICE, format!("run `{}`", shorten(&alter)))?;
        }
        Ok(())
    }

    async fn ask_for_alteration(&self) -> Result<Option<(String, String)>> {
        let harness = database_of(&self.lease, HARNESS_SCHEMA);
        let is_asked = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{harness}' AND TABLE_NAME = '{NEW_TABLES}'"
        );
        match ask::<String>(&self.admin, &is_asked).await? {
            Some(_) => {
                ask(&self.admin, &format!("SELECT alteration, unless_there_is FROM {harness}.{NEW_TABLES}")).await
            }
            None => Ok(None),
        }
    }

    fn follow(&mut self, step: &Step) {
        match step.action {
            Action::Begin | Action::BeginTwoPhase(_) => {
                self.open.insert(step.session.clone());
            }
            Action::Commit | Action::Rollback | Action::Prepare(_) => {
                self.open.remove(&step.session);
            }
            _ => self.declared.follow(&step.action),
        }
    }
}

#[async_trait]
impl source::Source for Source {
    async fn apply(&mut self, step: &Step) -> Result<()> {
        self.check_transaction(step)?;
        let sql = Writer { lease: &self.lease, declared: &self.declared }.statement(&step.action)?;
        let session = self.session(&step.session).await?;
        if let Action::Prepare(name) = &step.action {
            // A transaction that may still change something can't be prepared.
            let end = format!("XA END {}", quote(name));
            session.query_drop(&end).await.while_doing(SERVICE, format!("run `{end}`"))?;
        }
        session.query_drop(&sql).await.while_doing(SERVICE, format!("run `{}`", shorten(&sql)))?;
        let makes_one = |action: &Action| matches!(action, Action::CreateTable(_));
        let is_raw = matches!(&step.action, Action::Raw { means, .. } if means.iter().any(makes_one));
        if makes_one(&step.action) || is_raw {
            self.alter_those_that_are_new().await?;
        }
        self.follow(step);
        Ok(())
    }

    async fn write_fence(&mut self) -> Result<i64> {
        self.fences += 1;
        let harness = database_of(&self.lease, HARNESS_SCHEMA);
        let sql = format!("INSERT INTO {harness}.{FENCE} (id) VALUES ({})", self.fences);
        self.admin.get_mut().query_drop(sql).await.while_doing(SERVICE, "write a fence")?;
        Ok(self.fences)
    }

    async fn contents(&self) -> Result<Contents> {
        let mut admin = self.admin.lock().await;
        let mut contents = Contents::new();
        for (name, shape) in shapes(&mut admin, &self.lease).await? {
            let rows = rows(&mut admin, &self.lease, &name, &shape).await?;
            let columns = shape.columns.into_iter();
            let columns =
                columns.map(|column| (column.name, StoredColumn { ty: column.ty, is_generated: column.is_generated }));
            contents.insert(name, TableContents { key: shape.key, columns: columns.collect(), rows });
        }
        Ok(contents)
    }

    async fn version(&self) -> Result<String> {
        let version: Option<String> = ask(&self.admin, "SELECT VERSION()").await?;
        let version = version.unwrap_or_default();
        Ok(version.split('-').next().unwrap_or_default().to_owned())
    }

    async fn end_of_history(&self) -> Result<Position> {
        // A transaction stands at its own identifier, so what is written later stands at the next one.
        Ok(match self.flavour.end_of_log(&mut *self.admin.lock().await).await? {
            Position::Gtid(last) => Position::Gtid(Gtid { number: last.number + 1, ..last }),
            Position::DomainGtid(last) => Position::DomainGtid(DomainGtid { number: last.number + 1, ..last }),
            position => position,
        })
    }

    async fn end_captures(&self) -> Result<()> {
        let doing = "end the capture's connections";
        let deadline = Instant::now() + CAPTURE_CONNECTS_WITHIN;
        let mut admin = self.admin.lock().await;
        loop {
            let mut theirs = connections(&mut admin).await?;
            theirs.retain(|connection| connection.user == self.lease || connection.user == DAEMON);
            for Connection { id, .. } in &theirs {
                // One that has ended by itself meanwhile is as good.
                let _ = admin.query_drop(format!("KILL {id}")).await;
            }
            if !theirs.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, doing, "the database has none but the script's")
                    .help("a capture connects as the user that bears the lease's name: mysql::connect_to_capture"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn restart_server(&mut self) -> Result<()> {
        self.sessions.clear();
        self.open.clear();
        let (endpoint, lease) = (&self.endpoint, &self.lease);
        *self.admin.get_mut() = restarted(&endpoint.container, || connect(endpoint, lease)).await?;
        Ok(())
    }
}

async fn ask<T: mysql_async::prelude::FromRow + Send + 'static>(
    admin: &Mutex<Conn>,
    question: &str,
) -> Result<Option<T>> {
    admin.lock().await.query_first(question).await.while_doing(SERVICE, format!("ask `{question}`"))
}

/// A table's rows as the connection sees them.
///
/// # Errors
/// The table can't be read.
pub async fn rows(conn: &mut Conn, lease: &str, name: &TableName, shape: &TableShape) -> Result<Vec<Row>> {
    let query = format!("SELECT {} FROM {}", selected(shape), table(lease, name));
    let found: Vec<mysql_async::Row> =
        conn.query(query).await.while_doing(SERVICE, format!("read the table {name}"))?;
    Ok(found.iter().map(|found| row(found, 0, shape)).collect())
}

/// A table's full name, quoted.
pub(crate) fn table(lease: &str, name: &TableName) -> String {
    format!("{}.{}", ident(&database_of(lease, name.schema())), ident(name.name()))
}

/// The columns of a table as they are asked for. A number of 32 bits would be printed with six digits; as one of 64 bits
/// all of it is told.
pub(crate) fn selected(shape: &TableShape) -> String {
    let columns = shape.columns.iter().map(|column| {
        let name = ident(&column.name);
        match &column.ty {
            Type::Real => format!("{name} * 1e0"),
            Type::Other(ty) if is_of(ty, "float") => format!("{name} * 1e0"),
            _ => name,
        }
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// A row of an answer, whose columns from `first` on are those of the table.
pub(crate) fn row(found: &mysql_async::Row, first: usize, shape: &TableShape) -> Row {
    let columns = shape.columns.iter().zip(first..);
    let value = |column: &ColumnShape, at| match found.as_ref(at) {
        Some(mysql_async::Value::Bytes(bytes)) => from_text(bytes, &column.ty),
        _ => Value::Null,
    };
    columns.map(|(column, at)| (column.name.as_str(), value(column, at))).collect()
}

fn shorten(sql: &str) -> String {
    const LONGEST: usize = 200;
    match sql.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &sql[..at]),
        None => sql.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leases_databases_are_its_schemas() {
        for schema in ["public", "sales", HARNESS_SCHEMA] {
            assert_eq!(schema_of("cp_1", &database_of("cp_1", schema)), Some(schema));
        }
        assert_eq!(schema_of("cp_1", "cp_10"), None);
        assert_eq!(schema_of("cp_1", "mysql"), None);
    }
}
