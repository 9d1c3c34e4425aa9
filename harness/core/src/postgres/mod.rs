//! PostgreSQL as a source: a database of the lease's own, sessions, fences, and what it holds.

mod address;
mod catalogue;
mod scenario;
mod sql;
mod standby;
pub(crate) mod tls;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
pub use tokio_postgres::Client;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage, SimpleQueryRow, error::SqlState};

use self::standby::Standby;
pub use self::{
    address::Address,
    catalogue::{ColumnShape, TableShape, file_of, shapes, type_named},
    sql::statement,
};
pub(crate) use self::{
    catalogue::{Published, published, with_parts},
    sql::{ident, literal, table},
};
pub use crate::source::HARNESS_SCHEMA;
use crate::{
    change::{Change, Lsn, Op, Position},
    error::{Context, Error, Result},
    judge::{Contents, StoredColumn, TableContents},
    schema::{TableName, Type},
    script::Step,
    source::{self, Dialect, Place, Storage},
    stack::{Endpoint, MEMORY_DIR, Service, Stack, USER, restarted},
    value::{Row, Value},
};

const SERVICE: &str = "PostgreSQL";

/// The publication of [`publish_all_tables`].
pub const PUBLICATION: &str = "changeproof";

/// The table that fences are written to.
pub(crate) fn fence() -> (TableName, TableShape) {
    let id = ColumnShape {
        number: 1,
        name: "id".to_owned(),
        type_name: "bigint".to_owned(),
        ty: Type::BigInt,
        is_generated: false,
    };
    let key = vec![id.name.clone()];
    let shape = TableShape { oid: 0, columns: vec![id], identity: key.clone(), key };
    (TableName::new(HARNESS_SCHEMA, "fence"), shape)
}

/// A column that the harness gives to tables for methods that need one; no method delivers it as the script's.
pub const HIDDEN_TIME: &str = "changeproof_updated_at";

/// Publishes all tables, those to come included, for the methods that read the log by pgoutput.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn publish_all_tables(endpoint: &Endpoint, database: &str) -> Result<()> {
    let client = connect(endpoint, database).await?;
    let publish = format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES");
    client.batch_execute(&publish).await.while_doing(SERVICE, "create the publication")
}

/// Lets slots of a database use an output plugin that isn't PostgreSQL's own. Its versions since 2026 ask for that
/// (`output_plugin_libraries`), and earlier ones don't.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn allow_output_plugin(endpoint: &Endpoint, database: &str, plugin: &str) -> Result<()> {
    let doing = || format!("allow the output plugin {plugin}");
    let client = connect(endpoint, database).await?;
    let allowed = "SELECT current_setting('output_plugin_libraries', true)";
    let allowed = client.query_one(allowed, &[]).await.while_doing(SERVICE, doing())?;
    let Some(allowed) = allowed.get::<_, Option<&str>>(0) else { return Ok(()) };
    let libraries = allowed.split(',').map(str::trim).filter(|library| !library.is_empty() && *library != plugin);
    let libraries: Vec<_> = libraries.chain([plugin]).map(ident).collect();
    let allow = format!("ALTER DATABASE {database} SET output_plugin_libraries = {}", libraries.join(", "));
    client.batch_execute(&allow).await.while_doing(SERVICE, doing())
}

/// What connections of scripts are called, and those of captures that are clients of this crate.
pub(crate) const SCRIPT: &str = "changeproof";
pub(crate) const CAPTURE: &str = "changeproof capture";

const CAPTURE_CONNECTS_WITHIN: Duration = Duration::from_secs(20);

/// How a capture connects to the database that it captures.
pub(crate) fn capture_config(endpoint: &Endpoint, database: &str) -> Config {
    let mut config = config(endpoint, database);
    config.application_name(CAPTURE);
    config
}

/// How to connect to a database.
pub(crate) fn config(endpoint: &Endpoint, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(endpoint.port)
        .user(USER)
        .password(&endpoint.password)
        .dbname(database)
        .application_name(SCRIPT)
        .connect_timeout(Duration::from_secs(10));
    config
}

/// Opens a connection; its task ends with the client.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn connect(endpoint: &Endpoint, database: &str) -> Result<Client> {
    open(&config(endpoint, database), database).await
}

/// Opens a connection of a capture, by whose name scenarios know what to break. Its task ends with the client.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn connect_to_capture(endpoint: &Endpoint, database: &str) -> Result<Client> {
    open(&capture_config(endpoint, database), database).await
}

async fn open(config: &Config, database: &str) -> Result<Client> {
    let connected = config.connect(NoTls).await;
    let (client, connection) = connected.while_doing(SERVICE, format!("connect to the database {database}"))?;
    tokio::spawn(connection);
    Ok(client)
}

/// The tablespace of [`Place::Memory`].
const MEMORY: &str = "changeproof_memory";

async fn create_database(server: &Client, database: &str, place: Place) -> Result<()> {
    let doing = || format!("create the database {database}");
    // By files: the other strategy writes seven megabytes to the log, which all slots on the server have to read.
    let create = format!("CREATE DATABASE {database} TEMPLATE template0 STRATEGY file_copy");
    let created = match place {
        Place::Disk => server.batch_execute(&create).await,
        Place::Memory => {
            let create = format!("{create} TABLESPACE {MEMORY}");
            match server.batch_execute(&create).await {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {
                    create_tablespace(server).await?;
                    server.batch_execute(&create).await
                }
                created => created,
            }
        }
    };
    created.while_doing(SERVICE, doing())
}

/// The server insists that the folder is its own, so it makes it itself.
async fn create_tablespace(server: &Client) -> Result<()> {
    let location = format!("{MEMORY_DIR}/tablespace");
    // Of no row nothing is written, which a program that has ended could no longer read.
    let make = format!("COPY (SELECT WHERE false) TO PROGRAM 'mkdir -p {location}'");
    server.batch_execute(&make).await.while_doing(SERVICE, "make a folder in its memory")?;
    match server.batch_execute(&format!("CREATE TABLESPACE {MEMORY} LOCATION '{location}'")).await {
        // Another process was as quick.
        Err(error) if error.code().is_some_and(|code| TABLESPACE_IS_THERE.contains(code)) => Ok(()),
        created => created.while_doing(SERVICE, "create a tablespace in its memory"),
    }
}

/// The name is known already; or another session is just making it known; or the folder has been given to it.
const TABLESPACE_IS_THERE: [SqlState; 3] =
    [SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION, SqlState::OBJECT_IN_USE];

/// A database of a lease, and the sessions that a script runs on.
pub struct Source {
    endpoint: Endpoint,
    database: String,
    admin: Client,
    sessions: BTreeMap<String, Client>,
    fences: i64,
    standby: Option<Standby>,
}

impl Source {
    /// Makes the lease's database, with the fence table.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn create(endpoint: &Endpoint, database: &str, place: Place) -> Result<Self> {
        let server = connect(endpoint, USER).await?;
        create_database(&server, database, place).await?;
        let settings = format!(
            "ALTER DATABASE {database} SET timezone = 'UTC';\
             ALTER DATABASE {database} SET datestyle = 'ISO, YMD';\
             ALTER DATABASE {database} SET intervalstyle = 'postgres';\
             ALTER DATABASE {database} SET bytea_output = 'hex'"
        );
        let set = server.batch_execute(&settings).await;
        set.while_doing(SERVICE, format!("set up the database {database}"))?;
        let admin = connect(endpoint, database).await?;
        let prepare = format!(
            "CREATE SCHEMA {HARNESS_SCHEMA};\
             CREATE TABLE {HARNESS_SCHEMA}.fence (id bigint PRIMARY KEY, {HIDDEN_TIME} timestamptz DEFAULT now())"
        );
        admin.batch_execute(&prepare).await.while_doing(SERVICE, "prepare the database")?;
        Ok(Self {
            endpoint: endpoint.clone(),
            database: database.to_owned(),
            admin,
            sessions: BTreeMap::new(),
            fences: 0,
            standby: None,
        })
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

    /// The tables and their columns as the catalogue has them now, without the harness's own.
    ///
    /// # Errors
    /// The catalogue can't be read.
    pub async fn shapes(&self) -> Result<BTreeMap<TableName, TableShape>> {
        shapes(&self.admin).await
    }

    /// The connection for questions about the server, apart from the script's sessions.
    pub fn admin(&self) -> &Client {
        &self.admin
    }
}

/// PostgreSQL as a storage.
#[derive(Clone, Copy, Debug)]
pub struct PostgreSql;

#[async_trait]
impl Storage for PostgreSql {
    fn title(&self) -> &'static str {
        SERVICE
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::PostgreSql)
    }

    fn server(&self) -> Option<Service> {
        Some(Service::Postgres)
    }

    async fn create(&self, stack: &Stack, name: &str, place: Place) -> Result<Box<dyn source::Source>> {
        Ok(Box::new(Source::create(stack.endpoint(Service::Postgres)?, name, place).await?))
    }

    async fn remove(&self, stack: &Stack, name: &str) -> Result<()> {
        remove_database(stack.endpoint(Service::Postgres)?, name).await
    }
}

#[async_trait]
impl source::Source for Source {
    async fn apply(&mut self, step: &Step) -> Result<()> {
        let sql = statement(&step.action);
        let session = self.session(&step.session).await?;
        let done = session.batch_execute(&sql).await;
        done.while_doing(SERVICE, format!("run `{}`", shorten(&sql)))
    }

    async fn write_fence(&mut self) -> Result<i64> {
        self.fences += 1;
        let sql = format!("INSERT INTO {HARNESS_SCHEMA}.fence VALUES ($1)");
        let written = self.admin.execute(&sql, &[&self.fences]).await;
        written.while_doing(SERVICE, "write a fence")?;
        Ok(self.fences)
    }

    async fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::new();
        for (name, shape) in self.shapes().await? {
            let rows = rows(&self.admin, &name, &shape).await?;
            let columns = shape.columns.into_iter();
            let columns =
                columns.map(|column| (column.name, StoredColumn { ty: column.ty, is_generated: column.is_generated }));
            contents.insert(name, TableContents { key: shape.key, columns: columns.collect(), rows });
        }
        Ok(contents)
    }

    async fn version(&self) -> Result<String> {
        let row = self.admin.query_one("SHOW server_version", &[]).await;
        let text: String = row.while_doing(SERVICE, "ask for its version")?.get(0);
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }

    async fn end_of_history(&self) -> Result<Position> {
        end_of_log(&self.admin).await.map(Position::Lsn)
    }

    async fn end_captures(&self) -> Result<()> {
        let doing = "end the capture's connections";
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name <> $1";
        let deadline = Instant::now() + CAPTURE_CONNECTS_WITHIN;
        while self.admin.execute(end, &[&SCRIPT]).await.while_doing(SERVICE, doing)? == 0 {
            if Instant::now() > deadline {
                return Err(Error::new(SERVICE, doing, "the database has none but the script's").help(
                    "a capture in Rust connects by postgres::connect_to_capture, others under any name of their own",
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn restart_server(&mut self) -> Result<()> {
        self.sessions.clear();
        let (endpoint, database) = (&self.endpoint, &self.database);
        self.admin = restarted(&endpoint.container, || connect(endpoint, database)).await?;
        Ok(())
    }
}

/// Where the write-ahead log ends now.
///
/// # Errors
/// The server doesn't answer.
pub async fn end_of_log(client: &Client) -> Result<Lsn> {
    let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await;
    let text: String = row.while_doing(SERVICE, "ask for the end of its log")?.get(0);
    text.parse().while_doing(SERVICE, format!("read the position {text}"))
}

/// A table's rows as the connection sees them.
///
/// # Errors
/// The table can't be read.
pub async fn rows(client: &Client, name: &TableName, shape: &TableShape) -> Result<Vec<Row>> {
    let columns: Vec<_> = shape.columns.iter().map(|column| sql::ident(&column.name)).collect();
    let query = format!("SELECT {} FROM {}", columns.join(", "), sql::table(name));
    let messages = client.simple_query(&query).await;
    let messages = messages.while_doing(SERVICE, format!("read the table {name}"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.map(|found| row(found, 0, shape)).collect())
}

/// A row of an answer, whose columns from `first` on are those of the table.
pub(crate) fn row(found: &SimpleQueryRow, first: usize, shape: &TableShape) -> Row {
    let columns = shape.columns.iter().zip(first..);
    let value = |column: &ColumnShape, at| found.get(at).map_or(Value::Null, |text| Value::from_text(text, &column.ty));
    columns.map(|(column, at)| (column.name.as_str(), value(column, at))).collect()
}

/// All rows that the connection sees, as an initial snapshot reads them.
///
/// # Errors
/// A table can't be read.
pub async fn read_all(client: &Client) -> Result<VecDeque<Change>> {
    let mut reads = VecDeque::new();
    for (name, shape) in shapes(client).await? {
        for row in rows(client, &name, &shape).await? {
            let key = row.project(shape.key.iter().map(String::as_str));
            reads.push_back(Change { key, after: Some(row), ..Change::new(Op::Read, name.clone()) });
        }
    }
    Ok(reads)
}

/// Removes a lease's database with whatever slots it has; none is fine.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn remove_database(endpoint: &Endpoint, database: &str) -> Result<()> {
    let doing = || format!("remove the database {database}");
    let server = connect(endpoint, USER).await?;
    let slots = "SELECT slot_name::text, active_pid FROM pg_replication_slots WHERE database = $1";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let slots = server.query(slots, &[&database]).await.while_doing(SERVICE, doing())?;
        if slots.is_empty() {
            break;
        }
        if Instant::now() > deadline {
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
