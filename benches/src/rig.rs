//! A method capturing a table that is made to be written to.

use changeproof::{
    capture::{Capture, Options, Profile, Subscription},
    error::{Context, Result},
    postgres,
    stack::{Service, Stack},
    workspace::Workspace,
};
use tokio_postgres::Client;

/// Running services, a table, and a capture of it.
pub struct Rig {
    stack: Stack,
    workspace: Workspace,
    /// The captured stream.
    pub subscription: Box<dyn Subscription>,
    /// The connection that writes bursts.
    pub writer: Client,
    next_id: i64,
}

/// What was measured, for whoever reads the figures later.
#[derive(Debug)]
pub struct Versions {
    /// The server's own word.
    pub postgres: String,
    /// The images that ran.
    pub images: Vec<String>,
}

impl Rig {
    /// Starts what the method needs, by a profile.
    ///
    /// # Errors
    /// A service or the capture can't be started.
    pub async fn open(method: &'static dyn Capture, profile: Profile) -> Result<Self> {
        let stack = Stack::acquire(method.services()).await?;
        let workspace = Workspace::open(&stack, method).await?;
        let writer = postgres::connect(stack.endpoint(Service::Postgres)?, workspace.database()).await?;
        let table = "CREATE TABLE public.readings (\
            id bigint PRIMARY KEY, sensor text NOT NULL, celsius double precision, taken timestamptz DEFAULT now(), \
            note text)";
        writer.batch_execute(table).await.while_doing("PostgreSQL", "create the table")?;
        let subscription = workspace.start(&stack, &Options { profile, ..Options::default() }).await?;
        Ok(Self { stack, workspace, subscription, writer, next_id: 1 })
    }

    /// Reserves row identifiers.
    pub fn ids(&mut self, rows: u32) -> std::ops::Range<i64> {
        let first = self.next_id;
        self.next_id += i64::from(rows);
        first..self.next_id
    }

    /// A further connection to write by.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect(&self) -> Result<Client> {
        postgres::connect(self.stack.endpoint(Service::Postgres)?, self.workspace.database()).await
    }

    /// What runs.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn versions(&self) -> Result<Versions> {
        let mut images = Vec::new();
        for service in self.workspace.method().services() {
            images.push(self.stack.endpoint(*service)?.image.clone());
        }
        images.dedup();
        Ok(Versions { postgres: self.workspace.source.version().await?, images })
    }

    /// Removes all that it made.
    ///
    /// # Errors
    /// A service refuses.
    pub async fn close(self) -> Result<()> {
        drop(self.subscription);
        self.workspace.close(&self.stack).await
    }
}
