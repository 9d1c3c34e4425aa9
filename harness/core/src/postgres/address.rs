//! Where a database is, and as whom to speak to it.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::{Client, Config, NoTls, config::Host};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    CAPTURE, SERVICE,
    tls::{SslMode, Tls},
};
use crate::{
    error::{Context, Error, Result},
    stack::{Endpoint, USER},
};

/// A database of PostgreSQL and the user to be there.
#[derive(Clone, Debug)]
pub struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// A Unix socket that leads to the same server.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) tls: Tls,
}

impl Address {
    /// A database of a service, by its Unix socket where the engine shares its files with this machine.
    pub fn of(endpoint: &Endpoint, database: &str) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: endpoint.port,
            user: USER.to_owned(),
            password: endpoint.password.clone(),
            database: database.to_owned(),
            socket: endpoint.unix_socket(),
            tls: Tls::default(),
        }
    }

    /// The same without the Unix socket.
    #[must_use]
    pub fn by_tcp(self) -> Self {
        Self { socket: None, ..self }
    }

    /// By a connection string, `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (manual, 32.1.1 "Connection Strings"), with `sslmode`
    /// and `sslrootcert` as PostgreSQL's programs know them.
    ///
    /// # Errors
    /// It is none, or names several hosts.
    pub fn from_url(url: &str) -> Result<Self> {
        let doing = "read the connection string";
        let wrong = |cause: &str| {
            Error::new(SERVICE, doing, cause).help("give it as postgres://USER:PASSWORD@HOST:PORT/DATABASE")
        };
        let (url, tls) = Tls::taken_from(url)?;
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| wrong(&error.to_string()))?;
        let (host, socket) = match config.get_hosts() {
            [Host::Tcp(host)] => (host.clone(), None),
            [Host::Unix(folder)] => {
                let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
                ("localhost".to_owned(), Some(folder.join(format!(".s.PGSQL.{port}"))))
            }
            [] => return Err(wrong("it names no host")),
            _ => return Err(wrong("it names several hosts")),
        };
        let user = config.get_user().ok_or_else(|| wrong("it names no user"))?;
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(DEFAULT_PORT),
            user: user.to_owned(),
            password: String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned(),
            database: config.get_dbname().unwrap_or(user).to_owned(),
            // As for PostgreSQL's programs: what stays on a machine is not encrypted.
            tls: if socket.is_some() { Tls::default() } else { tls },
            socket,
        })
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    fn config(&self, application: &str) -> Config {
        let mut config = Config::new();
        match self.socket.as_ref().and_then(|socket| socket.parent()) {
            // A socket's name ends in the port that the server itself knows, and not in the one that is published.
            Some(folder) => config.host_path(folder).port(self.socket_port()),
            None => config.host(&self.host).port(self.port),
        };
        config
            .user(&self.user)
            .password(&self.password)
            .dbname(&self.database)
            .application_name(application)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    fn socket_port(&self) -> u16 {
        let ending = self.socket.as_ref().and_then(|socket| socket.extension()).and_then(|port| port.to_str());
        ending.and_then(|port| port.parse().ok()).unwrap_or(self.port)
    }

    /// Opens a connection of a capture, by whose name scenarios know what to break. Its task ends with the client.
    ///
    /// # Errors
    /// The server can't be reached or refuses.
    pub async fn connect(&self) -> Result<Client> {
        let doing = || format!("connect to the database {} at {}:{}", self.database, self.host, self.port);
        let mut config = self.config(CAPTURE);
        if self.tls.mode == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.while_doing(SERVICE, doing())?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let is_optional = self.tls.mode == SslMode::Prefer;
        let (prefer, require) = (tokio_postgres::config::SslMode::Prefer, tokio_postgres::config::SslMode::Require);
        config.ssl_mode(if is_optional { prefer } else { require });
        let connected = config.connect(MakeRustlsConnect::new(self.tls.client()?)).await;
        let (client, connection) = connected.while_doing(SERVICE, doing())?;
        tokio::spawn(connection);
        Ok(client)
    }
}

const DEFAULT_PORT: u16 = 5432;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_read_and_a_wrong_one_explained() -> Result<()> {
        let address = Address::from_url("postgres://me:s%40fe@db.example:6543/shop")?;
        assert_eq!((address.host.as_str(), address.port), ("db.example", 6543));
        assert_eq!((address.user.as_str(), address.password.as_str()), ("me", "s@fe"));
        assert_eq!(address.database(), "shop");
        let address = Address::from_url("host=/run/postgresql user=me dbname=shop")?;
        assert_eq!(address.socket, Some("/run/postgresql/.s.PGSQL.5432".into()));
        assert_eq!(address.socket_port(), 5432);
        for (wrong, told) in [
            ("mysql://me@host/shop", "postgres://USER"),
            ("postgres://me@a,b/shop", "several hosts"),
            ("postgres://me@a/shop?sslmode=yes", "verify-full"),
            ("user=me", "no host"),
        ] {
            let error = Address::from_url(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        Ok(())
    }
}
