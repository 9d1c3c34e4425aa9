//! What loads say to a server, in words that are the same for all; what one understands stands in a file of its own.

mod mysql;
mod postgres;

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use changeproof::{
    error::{Error, Result},
    source::{Dialect, Storage},
    stack::{Endpoint, Stack},
};

/// A connection that rows are written by. Statements that are sent at once are carried out one after the other.
#[async_trait]
pub(crate) trait Connection: Send + Sync {
    /// Runs a statement.
    async fn run(&self, sql: &str) -> Result<()>;

    /// Inserts rows by one statement.
    async fn insert(&self, ids: &Range<i64>) -> Result<()>;

    /// Inserts a row by a prepared statement.
    async fn insert_one(&self, id: i64) -> Result<()>;

    /// Gives a row its next version by a prepared statement.
    async fn update_one(&self, id: i64, version: i64) -> Result<()>;
}

/// A database to connect to.
#[derive(Clone)]
pub(crate) struct Target {
    dialect: Dialect,
    /// How to reach the server.
    pub(crate) endpoint: Endpoint,
    /// The database's name.
    pub(crate) database: String,
}

impl Target {
    /// The database of a storage's server.
    ///
    /// # Errors
    /// The storage has no server that knows SQL.
    pub(crate) fn new(storage: &dyn Storage, stack: &Stack, database: &str) -> Result<Self> {
        let (Some(service), Some(dialect)) = (storage.server(), storage.dialect()) else {
            return Err(Error::new("the bench", "write rows", format!("{} knows no SQL", storage.title())));
        };
        Ok(Self { dialect, endpoint: stack.endpoint(service)?.clone(), database: database.to_owned() })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn Connection>> {
        Ok(match self.dialect {
            Dialect::PostgreSql => Arc::new(postgres::Connection::open(&self.endpoint, &self.database).await?),
            Dialect::MySql => Arc::new(mysql::Connection::open(&self.endpoint, &self.database).await?),
        })
    }

    /// The statement that makes the table `readings`.
    pub(crate) fn create_table(&self) -> &'static str {
        match self.dialect {
            Dialect::PostgreSql => postgres::CREATE_TABLE,
            Dialect::MySql => mysql::CREATE_TABLE,
        }
    }

    /// The statement that tells the server what the table holds.
    pub(crate) fn analyze(&self) -> &'static str {
        match self.dialect {
            Dialect::PostgreSql => "ANALYZE public.readings",
            Dialect::MySql => "ANALYZE TABLE readings",
        }
    }
}
