//! What `cdc try` asks of a database beside running the statements of a file; what is said to one stands in a file of its own.

mod mysql;
mod postgres;

use std::collections::BTreeMap;

use async_trait::async_trait;
use changeproof::{
    error::{Error, Result},
    schema::TableName,
    source::{Dialect, Source},
    stack::Stack,
    workspace::Workspace,
};

/// Tables as they are defined.
pub(crate) type Shapes = BTreeMap<TableName, Shape>;

/// A table as it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The table's own number, which a rename doesn't change; none if the database has none for it.
    pub(crate) number: Option<u64>,
    /// The columns by what a rename doesn't change of them, or by their names.
    pub(crate) columns: BTreeMap<String, Column>,
    /// The columns whose old values the log holds of a row that goes.
    pub(crate) identity: Vec<String>,
}

/// A column as it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_name: String,
}

/// What a database said against a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    /// The character of the statement that it points at, from 0, if it points at one.
    pub(crate) at: Option<usize>,
}

/// A connection that statements run on.
#[async_trait]
pub(crate) trait Session: Send {
    /// The server's number for it.
    fn number(&self) -> u64;

    /// Runs a statement; tells why the server refuses it, if it does.
    async fn run(&mut self, sql: &str) -> Result<(), Refusal>;
}

/// A server, asked about one database.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// Its name in messages.
    fn title(&self) -> &'static str;

    /// Opens a connection.
    async fn open(&self) -> Result<Box<dyn Session>>;

    /// Whether a session waits for a lock of another one.
    async fn is_blocked(&mut self, session: u64) -> Result<bool>;

    /// The tables that there are; those that have come are given what the method needs of them.
    async fn shapes(&mut self, source: &dyn Source) -> Result<Shapes>;
}

/// The database of a workspace.
///
/// # Errors
/// It can't be reached, or is none that knows SQL.
pub(super) async fn of(stack: &Stack, workspace: &Workspace) -> Result<Box<dyn Database>> {
    let storage = workspace.method().storage();
    let (Some(service), Some(dialect)) = (storage.server(), storage.dialect()) else {
        return Err(Error::new(storage.title(), "run statements", "it knows no SQL"));
    };
    let (endpoint, name) = (stack.endpoint(service)?.clone(), workspace.database().to_owned());
    Ok(match dialect {
        Dialect::PostgreSql => Box::new(postgres::Postgres::connect(endpoint, name).await?),
        Dialect::MySql => {
            let flavour = workspace.source.as_a::<changeproof::mysql::Source>()?.flavour();
            Box::new(mysql::MySql::connect(flavour, endpoint, name).await?)
        }
    })
}
