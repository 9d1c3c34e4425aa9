//! Sources: what scripts are applied to. A storage is the kind of a source; each lease gets a source of its own in it.

use std::any::Any;

use async_trait::async_trait;

use crate::{
    change::Position,
    error::{Error, Result},
    judge::Contents,
    script::Step,
    stack::{Service, Stack},
};

/// The schema of what the harness itself needs in a source; no capture delivers it as a change of the script's. It must not
/// bear the user's name: PostgreSQL's search path begins with that.
pub const HARNESS_SCHEMA: &str = "changeproof_harness";

/// Where a source keeps its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the storage keeps them in real life.
    Disk,
    /// In memory where the storage offers that: of a server's container, [`MEMORY_MB`](crate::stack::MEMORY_MB) for all
    /// databases together. A database is some three hundred files, which a disk takes ten times as long to make and to remove.
    Memory,
}

/// A family of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL's.
    PostgreSql,
    /// MySQL's and MariaDB's.
    MySql,
}

/// What a scenario says to a database, or expects to hear from it, in the words of each dialect.
#[derive(Clone, Copy, Debug)]
pub struct Sql<'a> {
    /// In PostgreSQL's.
    pub postgres: &'a str,
    /// In MySQL's and MariaDB's.
    pub mysql: &'a str,
}

impl<'a> Sql<'a> {
    /// The words of a dialect.
    pub fn in_dialect(self, dialect: Dialect) -> &'a str {
        match dialect {
            Dialect::PostgreSql => self.postgres,
            Dialect::MySql => self.mysql,
        }
    }
}

/// A kind of source: PostgreSQL, Iceberg…
#[async_trait]
pub trait Storage: Send + Sync {
    /// Its name in messages.
    fn title(&self) -> &'static str;

    /// The SQL that it understands, if it is a relational database.
    fn dialect(&self) -> Option<Dialect> {
        None
    }

    /// The service that holds the sources, if one does and not a folder.
    fn server(&self) -> Option<Service>;

    /// Makes a source of the name: letters, digits and underscores.
    ///
    /// # Errors
    /// It can't be made.
    async fn create(&self, stack: &Stack, name: &str, place: Place) -> Result<Box<dyn Source>>;

    /// Removes the source of the name with all that is in it; none is fine.
    ///
    /// # Errors
    /// It can't be removed.
    async fn remove(&self, stack: &Stack, name: &str) -> Result<()>;
}

/// A real database, or a folder of tables, that a script is applied to.
#[async_trait]
pub trait Source: Any + Send + Sync {
    /// Carries a step out on its session.
    ///
    /// # Errors
    /// The source refuses it.
    async fn apply(&mut self, step: &Step) -> Result<()>;

    /// Writes the next fence and returns its number. A capture that has seen it has seen everything before it.
    ///
    /// # Errors
    /// The source refuses it.
    async fn write_fence(&mut self) -> Result<i64>;

    /// Everything that the source holds, without the harness's own tables.
    ///
    /// # Errors
    /// A table can't be read.
    async fn contents(&self) -> Result<Contents>;

    /// The version of the software that holds it, as it says it itself.
    ///
    /// # Errors
    /// It doesn't answer.
    async fn version(&self) -> Result<String>;

    /// Where its history ends now: what is written later stands there or after it.
    ///
    /// # Errors
    /// It doesn't answer, or its tables have a history each and it has none of its own.
    async fn end_of_history(&self) -> Result<Position>;

    /// Ends all connections to the source that are not the script's own, as soon as there is one: a capture that is ready may
    /// still be about to connect for what comes.
    ///
    /// # Errors
    /// There comes none, the source refuses, or nobody connects to it.
    async fn end_captures(&self) -> Result<()> {
        Err(Error::new("the source", "end the capture's connections", "nobody connects to a source of this storage"))
    }

    /// Shuts the server down in order and starts it again; all sessions end. It must be the scenario's own.
    ///
    /// # Errors
    /// It doesn't end or doesn't get ready again, or the storage has no server.
    async fn restart_server(&mut self) -> Result<()> {
        Err(Error::new("the source", "start its server again", "this storage has none"))
    }
}

impl dyn Source {
    /// The source as what it is, for what only that can do.
    ///
    /// # Errors
    /// It is another.
    pub fn as_a<S: Source>(&self) -> Result<&S> {
        let any: &dyn Any = self;
        any.downcast_ref().ok_or_else(another)
    }

    /// The source as what it is, to change it.
    ///
    /// # Errors
    /// It is another.
    pub fn as_a_mut<S: Source>(&mut self) -> Result<&mut S> {
        let any: &mut dyn Any = self;
        any.downcast_mut().ok_or_else(another)
    }
}

fn another() -> Error {
    Error::new("the source", "do what only another storage can do", "it is not of that storage")
        .help("say by `only` for which methods the scenario is")
}
