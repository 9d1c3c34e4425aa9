//! Servers of MySQL's family, connections to them, and what a lease leaves on them.

use std::time::Duration;

use async_trait::async_trait;
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use tokio::time::{Instant, sleep};

use super::{DAEMON, SERVICE, Source, ident, quote, schema_of};
use crate::{
    change::{DomainGtid, Gtid, Position},
    error::{Context, Error, Result},
    source::{self, Dialect, Place, Storage},
    stack::{Endpoint, Service, Stack, USER},
};

/// How long the server may take to see that a reader of its log has gone.
const FREE_WITHIN: Duration = Duration::from_secs(30);

/// A session waits this long for a table that another one is using.
const LOCK_WAIT_SECONDS: u32 = 30;

/// Whose server it is. They have most of their SQL in common, and the log's events; not its identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl Flavour {
    /// The name people know it by.
    pub fn title(self) -> &'static str {
        match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// The shared servers of it.
    pub fn server(self) -> &'static Server {
        match self {
            Self::MySql => &Server::MYSQL,
            Self::MariaDb => &Server::MARIADB,
        }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// The server doesn't answer, or its transactions have no identifiers.
    pub(crate) async fn end_of_log(self, conn: &mut Conn) -> Result<Position> {
        let doing = "ask for the end of its log";
        let question = match self {
            Self::MySql => "SELECT @@server_uuid, @@global.gtid_executed",
            Self::MariaDb => "SELECT @@gtid_domain_id, @@gtid_binlog_pos",
        };
        let told: Option<(String, String)> = conn.query_first(question).await.while_doing(self.title(), doing)?;
        let (origin, set) = told.unwrap_or_default();
        let last = match self {
            Self::MySql => Gtid::last_of(&origin, &set).map(Position::Gtid),
            Self::MariaDb => DomainGtid::last_of(&origin, &set).map(Position::DomainGtid),
        };
        last.ok_or_else(|| {
            Error::new(self.title(), doing, format!("there is nothing of {origin} in “{set}”"))
                .help("let it write a binary log with global transaction identifiers")
        })
    }
}

/// Servers of a flavour, as a storage: those that a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whose it is.
    pub flavour: Flavour,
    /// The service that runs it.
    pub service: Service,
}

impl Server {
    /// MySQL.
    pub const MYSQL: Self = Self { flavour: Flavour::MySql, service: Service::Mysql };
    /// MariaDB.
    pub const MARIADB: Self = Self { flavour: Flavour::MariaDb, service: Service::Mariadb };
}

#[async_trait]
impl Storage for Server {
    fn title(&self) -> &'static str {
        self.flavour.title()
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::MySql)
    }

    fn server(&self) -> Option<Service> {
        Some(self.service)
    }

    /// A database is a folder here, and quickly made on the disk too.
    async fn create(&self, stack: &Stack, name: &str, _place: Place) -> Result<Box<dyn source::Source>> {
        Ok(Box::new(Source::create(self.flavour, stack.endpoint(self.service)?, name).await?))
    }

    async fn remove(&self, stack: &Stack, name: &str) -> Result<()> {
        remove_databases(stack.endpoint(self.service)?, name).await
    }
}

fn options(endpoint: &Endpoint, user: &str, database: Option<&str>) -> Opts {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(endpoint.port)
        .user(Some(user))
        .pass(Some(&endpoint.password))
        .db_name(database)
        .prefer_socket(false)
        // A server sends events of the log that are larger than what it takes from a session.
        .max_allowed_packet(Some(1 << 30))
        .init(vec![format!("SET time_zone = '+00:00', lock_wait_timeout = {LOCK_WAIT_SECONDS}")])
        .into()
}

/// Opens a connection as a user, to a database if one is given.
pub(crate) async fn open(endpoint: &Endpoint, user: &str, database: Option<&str>) -> Result<Conn> {
    let connected = Conn::new(options(endpoint, user, database)).await;
    connected.while_doing(SERVICE, format!("connect as {user}"))
}

/// Opens a connection to a lease's database.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn connect(endpoint: &Endpoint, database: &str) -> Result<Conn> {
    open(endpoint, USER, Some(database)).await
}

/// Opens a connection of a capture: as the user that bears the lease's name, by which scenarios know what to break.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn connect_to_capture(endpoint: &Endpoint, database: &str) -> Result<Conn> {
    open(endpoint, database, Some(database)).await
}

/// Gives the user that every service knows all rights on a server that has just started.
///
/// # Errors
/// The server can't be reached yet, or refuses.
pub(crate) async fn give_rights(endpoint: &Endpoint) -> Result<()> {
    let mut root = open(endpoint, "root", None).await?;
    let grant = format!("GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION");
    root.query_drop(grant).await.while_doing(SERVICE, "give rights")?;
    root.disconnect().await.while_doing(SERVICE, "disconnect")
}

/// A connection to a server.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) user: String,
    database: Option<String>,
    /// What it does.
    pub(crate) command: String,
}

/// The connections to a server. (`information_schema.PROCESSLIST` is an error while a statement with letters of four bytes
/// runs.)
pub(crate) async fn connections(conn: &mut Conn) -> Result<Vec<Connection>> {
    let listed: Vec<mysql_async::Row> =
        conn.query("SHOW PROCESSLIST").await.while_doing(SERVICE, "list connections")?;
    let connection = |row: &mysql_async::Row| {
        Some(Connection {
            id: row.get("Id")?,
            user: row.get("User")?,
            database: row.get_opt("db").and_then(Result::ok),
            command: row.get("Command")?,
        })
    };
    Ok(listed.iter().filter_map(connection).collect())
}

/// The file of the binary log that is written to.
///
/// # Errors
/// The server can't be reached or writes none.
pub async fn current_log(endpoint: &Endpoint) -> Result<String> {
    let doing = "ask for its binary log";
    let mut server = open(endpoint, USER, None).await?;
    let status: Option<mysql_async::Row> =
        server.query_first("SHOW BINARY LOG STATUS").await.while_doing(SERVICE, doing)?;
    let file = status.and_then(|status| status.get("File"));
    file.ok_or_else(|| Error::new(SERVICE, doing, "it writes none"))
}

/// Waits until the server sends its log no more to a capture that has gone. It sees that when it next writes to it, and until then
/// keeps the log that it was about to send.
pub(crate) async fn hang_up(endpoint: &Endpoint, lease: &str) -> Result<()> {
    let mut conn = connect_to_capture(endpoint, lease).await?;
    let deadline = Instant::now() + FREE_WITHIN;
    loop {
        let connections = connections(&mut conn).await?.into_iter();
        let senders: Vec<_> =
            connections.filter(|it| it.user == lease && it.command.starts_with("Binlog Dump")).collect();
        if senders.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(SERVICE, "stop sending the log", "it goes on"));
        }
        for sender in senders {
            // One that has just ended can't be ended; the next look sees to it.
            let _ = conn.query_drop(format!("KILL {}", sender.id)).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Removes a lease's databases and its user; none is fine.
///
/// # Errors
/// The server can't be reached or refuses.
pub async fn remove_databases(endpoint: &Endpoint, lease: &str) -> Result<()> {
    let doing = || format!("remove the databases of {lease}");
    let mut server = open(endpoint, USER, None).await?;
    let is_theirs = |connection: &Connection| {
        let database = connection.database.as_deref().unwrap_or_default();
        // A daemon that goes on with the next lease keeps nothing open, and loses the thread that reads rows with its connection.
        connection.user == lease || connection.user != DAEMON && schema_of(lease, database).is_some()
    };
    for Connection { id, .. } in connections(&mut server).await?.into_iter().filter(is_theirs) {
        // An open transaction would keep its tables from being removed; one that has ended meanwhile is as good.
        let _ = server.query_drop(format!("KILL {id}")).await;
    }
    // So would a prepared one, which outlives its connection. Its name begins with that of the lease.
    let prepared: Vec<(i64, u32, u32, String)> =
        server.query("XA RECOVER").await.while_doing(SERVICE, "list prepared transactions")?;
    for (.., name) in prepared.iter().filter(|(.., name)| name.starts_with(lease)) {
        let ended = server.query_drop(format!("XA ROLLBACK {}", quote(name))).await;
        ended.while_doing(SERVICE, format!("roll the prepared transaction {name} back"))?;
    }
    let databases: Vec<String> = server.query("SHOW DATABASES").await.while_doing(SERVICE, doing())?;
    for database in databases.iter().filter(|database| schema_of(lease, database).is_some()) {
        let removed = server.query_drop(format!("DROP DATABASE IF EXISTS {}", ident(database))).await;
        removed.while_doing(SERVICE, doing())?;
    }
    server.query_drop(format!("DROP USER IF EXISTS {lease}@'%'")).await.while_doing(SERVICE, doing())?;
    server.disconnect().await.while_doing(SERVICE, "disconnect")
}
