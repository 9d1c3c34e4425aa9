//! A method capturing a table that is made to be written to.

use std::ops::Range;

use changeproof::{
    capture::{Capture, Subscription},
    error::{Context, Result},
    postgres,
    source::Place,
    stack::{Endpoint, Service, Stack},
    workspace::Workspace,
};
use tokio_postgres::Client;

use crate::Setup;

/// The columns that every load writes, and values of them for the row `i`.
pub(crate) const COLUMNS: &str = "id, sensor, celsius, note";
pub(crate) const VALUES: &str = "i, 'sensor-' || (i % 100), i % 40, repeat('x', 60)";

/// A database with the table `readings`, prepared for a method that doesn't capture it yet.
pub(crate) struct Database {
    pub(crate) stack: Stack,
    pub(crate) workspace: Workspace,
    /// The connection that writes bursts.
    pub(crate) writer: Client,
}

/// What was measured, for whoever reads the figures later.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The server's own word.
    pub(crate) postgres: String,
    /// The images that ran.
    pub(crate) images: Vec<String>,
}

impl Database {
    /// Starts what the method needs and prepares its database.
    ///
    /// # Errors
    /// A service can't be started.
    pub(crate) async fn open(method: &'static dyn Capture) -> Result<Self> {
        let stack = Stack::acquire(method.services()).await?;
        let workspace = Workspace::open(&stack, method, Place::Disk).await?;
        let writer = postgres::connect(stack.endpoint(Service::Postgres)?, workspace.database()).await?;
        let table = "CREATE TABLE public.readings (\
            id bigint PRIMARY KEY, sensor text NOT NULL, celsius double precision, taken timestamptz DEFAULT now(), \
            note text, version bigint NOT NULL DEFAULT 0)";
        writer.batch_execute(table).await.while_doing("PostgreSQL", "create the table")?;
        Ok(Self { stack, workspace, writer })
    }

    /// Starts the capture.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) async fn capture(&self, setup: &Setup) -> Result<Box<dyn Subscription>> {
        self.workspace.start(&self.stack, &setup.options()).await
    }

    /// How to reach the server.
    pub(crate) fn endpoint(&self) -> Result<&Endpoint> {
        self.stack.endpoint(Service::Postgres)
    }

    /// What further connections are made to.
    pub(crate) fn target(&self) -> Result<Target> {
        Ok(Target { endpoint: self.endpoint()?.clone(), database: self.workspace.database().to_owned() })
    }

    /// Writes rows, in one statement.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn insert(&self, ids: &Range<i64>) -> Result<()> {
        let (first, last) = (ids.start, ids.end - 1);
        let insert = format!(
            "INSERT INTO public.readings ({COLUMNS}) SELECT {VALUES} FROM generate_series({first}::bigint, {last}) i"
        );
        self.writer.batch_execute(&insert).await.while_doing("PostgreSQL", "write rows")
    }

    /// What runs.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub(crate) async fn versions(&self) -> Result<Versions> {
        let mut images = Vec::new();
        for service in self.workspace.method().services() {
            images.push(self.stack.endpoint(*service)?.image.clone());
        }
        Ok(Versions { postgres: self.workspace.source.version().await?, images })
    }

    /// Removes all that it made.
    ///
    /// # Errors
    /// A service refuses.
    pub(crate) async fn close(self) -> Result<()> {
        drop(self.writer);
        self.workspace.close(&self.stack).await
    }
}

/// A database to connect to.
#[derive(Clone)]
pub(crate) struct Target {
    endpoint: Endpoint,
    database: String,
}

impl Target {
    /// A further connection to write by.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) async fn connect(&self) -> Result<Client> {
        postgres::connect(&self.endpoint, &self.database).await
    }
}

/// A database and its capture under way.
pub(crate) struct Rig {
    pub(crate) database: Database,
    /// The captured stream.
    pub(crate) subscription: Box<dyn Subscription>,
    next_id: i64,
}

impl Rig {
    /// Starts a method and what it needs.
    ///
    /// # Errors
    /// A service or the capture can't be started.
    pub(crate) async fn open(setup: &Setup) -> Result<Self> {
        let database = Database::open(setup.method).await?;
        let subscription = database.capture(setup).await?;
        Ok(Self { database, subscription, next_id: 1 })
    }

    /// Reserves row identifiers.
    pub(crate) fn ids(&mut self, rows: u32) -> Range<i64> {
        let first = self.next_id;
        self.next_id += i64::from(rows);
        first..self.next_id
    }

    /// Removes all that it made.
    ///
    /// # Errors
    /// A service refuses.
    pub(crate) async fn close(self) -> Result<()> {
        drop(self.subscription);
        self.database.close().await
    }
}
