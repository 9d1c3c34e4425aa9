//! PostgreSQL as a source: a database of the lease's own, sessions, fences, and what it holds.

mod catalogue;
mod sql;

use std::{collections::BTreeMap, time::Duration};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

pub use self::{
    catalogue::{ColumnShape, TableShape, shapes},
    sql::statement,
};
use crate::{
    change::Lsn,
    error::{Context, Error, Result},
    judge::{Contents, TableContents},
    schema::TableName,
    script::Step,
    stack::{Endpoint, USER},
    value::{Row, Value},
};

const SERVICE: &str = "PostgreSQL";

/// The schema of what the harness itself needs in a database; no capture delivers it as a change of the script's. It
/// must not bear the user's name: the search path begins with that.
pub const HARNESS_SCHEMA: &str = "changeproof_harness";

/// The publication that every logical method reads, of all tables, those to come included.
pub const PUBLICATION: &str = "changeproof";

/// Opens a connection; its task ends with the client.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn connect(endpoint: &Endpoint, database: &str) -> Result<Client> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(endpoint.port)
        .user(USER)
        .password(&endpoint.password)
        .dbname(database)
        .application_name("changeproof")
        .connect_timeout(Duration::from_secs(10));
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.while_doing(SERVICE, format!("connect to the database {database}"))?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database of a lease, and the sessions that a script runs on.
pub struct Source {
    endpoint: Endpoint,
    database: String,
    admin: Client,
    sessions: BTreeMap<String, Client>,
    fences: i64,
}

impl Source {
    /// Makes the lease's database, with the fence table and the publication.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn create(endpoint: &Endpoint, database: &str) -> Result<Self> {
        let server = connect(endpoint, USER).await?;
        let create = format!(
            "CREATE DATABASE {database} TEMPLATE template0;\
             ALTER DATABASE {database} SET timezone = 'UTC';\
             ALTER DATABASE {database} SET datestyle = 'ISO, YMD';\
             ALTER DATABASE {database} SET intervalstyle = 'postgres';\
             ALTER DATABASE {database} SET bytea_output = 'hex'"
        );
        for statement in create.split(';') {
            let done = server.batch_execute(statement).await;
            done.while_doing(SERVICE, format!("create the database {database}"))?;
        }
        let admin = connect(endpoint, database).await?;
        let prepare = format!(
            "CREATE SCHEMA {HARNESS_SCHEMA};\
             CREATE TABLE {HARNESS_SCHEMA}.fence (id bigint PRIMARY KEY);\
             CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES"
        );
        admin.batch_execute(&prepare).await.while_doing(SERVICE, "prepare the database")?;
        Ok(Self {
            endpoint: endpoint.clone(),
            database: database.to_owned(),
            admin,
            sessions: BTreeMap::new(),
            fences: 0,
        })
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The connection of a session, opened at its first use.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn session(&mut self, name: &str) -> Result<&Client> {
        if !self.sessions.contains_key(name) {
            let client = connect(&self.endpoint, &self.database).await?;
            self.sessions.insert(name.to_owned(), client);
        }
        self.sessions.get(name).ok_or_else(|| Error::new(SERVICE, format!("use session {name}"), "it is not open"))
    }

    /// Runs a step as SQL of PostgreSQL on its session.
    ///
    /// # Errors
    /// The database refuses it.
    pub async fn apply(&mut self, step: &Step) -> Result<()> {
        let sql = statement(&step.action);
        let session = self.session(&step.session).await?;
        let done = session.batch_execute(&sql).await;
        done.while_doing(SERVICE, format!("run `{}`", shorten(&sql)))
    }

    /// Writes the next fence and returns its number. A capture that has seen it has seen everything before it.
    ///
    /// # Errors
    /// The database refuses it.
    pub async fn write_fence(&mut self) -> Result<i64> {
        self.fences += 1;
        let sql = format!("INSERT INTO {HARNESS_SCHEMA}.fence VALUES ($1)");
        let written = self.admin.execute(&sql, &[&self.fences]).await;
        written.while_doing(SERVICE, "write a fence")?;
        Ok(self.fences)
    }

    /// The tables and their columns as the catalogue has them now, without the harness's own.
    ///
    /// # Errors
    /// The catalogue can't be read.
    pub async fn shapes(&self) -> Result<BTreeMap<TableName, TableShape>> {
        shapes(&self.admin).await
    }

    /// Everything the database holds, without the harness's own tables.
    ///
    /// # Errors
    /// A table can't be read.
    pub async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::new();
        for (name, shape) in self.shapes().await? {
            let rows = self.rows(&name, &shape).await?;
            contents.insert(name, TableContents { key: shape.key, rows });
        }
        Ok(contents)
    }

    async fn rows(&self, name: &TableName, shape: &TableShape) -> Result<Vec<Row>> {
        let columns: Vec<_> = shape.columns.iter().map(|column| sql::ident(&column.name)).collect();
        let query = format!("SELECT {} FROM {}", columns.join(", "), sql::table(name));
        let messages = self.admin.simple_query(&query).await;
        let messages = messages.while_doing(SERVICE, format!("read the table {name}"))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .map(|row| {
                let values = shape.columns.iter().enumerate().map(|(i, column)| {
                    let value = row.get(i).map_or(Value::Null, |t| Value::from_text(t, &column.ty));
                    (column.name.clone(), value)
                });
                values.collect()
            })
            .collect())
    }

    /// Where the write-ahead log ends now.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn lsn(&self) -> Result<Lsn> {
        let row = self.admin.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await;
        let row = row.while_doing(SERVICE, "ask for the end of its log")?;
        let text: String = row.get(0);
        text.parse().while_doing(SERVICE, format!("read the position {text}"))
    }

    /// The server's version as it says it itself, such as `17.6`.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn version(&self) -> Result<String> {
        let row = self.admin.query_one("SHOW server_version", &[]).await;
        let text: String = row.while_doing(SERVICE, "ask for its version")?.get(0);
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }

    /// The connection for questions about the server, apart from the script's sessions.
    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Closes the sessions and removes the database with its slots.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn close(self) -> Result<()> {
        let Self { endpoint, database, admin, sessions, .. } = self;
        drop((admin, sessions));
        remove_database(&endpoint, &database).await
    }
}

/// Removes a lease's database with whatever slots it has; none is fine.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn remove_database(endpoint: &Endpoint, database: &str) -> Result<()> {
    let doing = || format!("remove the database {database}");
    let server = connect(endpoint, USER).await?;
    let slots = "SELECT slot_name::text, active_pid FROM pg_replication_slots WHERE database = $1";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let slots = server.query(slots, &[&database]).await.while_doing(SERVICE, doing())?;
        if slots.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            let names: Vec<String> = slots.iter().map(|slot| slot.get(0)).collect();
            let cause = format!("the slots {} stay in use", names.join(", "));
            return Err(Error::new(SERVICE, doing(), cause));
        }
        for slot in slots {
            let (name, active_pid): (String, Option<i32>) = (slot.get(0), slot.get(1));
            if let Some(pid) = active_pid {
                let ended = server.execute("SELECT pg_terminate_backend($1, 1000)", &[&pid]).await;
                ended.while_doing(SERVICE, doing())?;
            }
            // A slot that came into use again meanwhile refuses; the next round sees to it.
            let _ = server.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await;
        }
    }
    let remove = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
    server.batch_execute(&remove).await.while_doing(SERVICE, doing())
}

fn shorten(sql: &str) -> String {
    const LONGEST: usize = 200;
    match sql.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &sql[..at]),
        None => sql.to_owned(),
    }
}
