//! A method capturing a table that is made to be written to.

use changeproof::{
    capture::{Capture, Options, Profile, Subject, Subscription},
    error::{Context, Result},
    postgres::{self, Source},
    stack::{Lease, Service, Stack},
};
use tokio_postgres::Client;

/// Running services, a table, and a capture of it.
pub struct Rig {
    method: &'static dyn Capture,
    stack: Stack,
    lease: Lease,
    source: Source,
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
        let lease = Lease::take(stack.state())?;
        let source = Source::create(stack.endpoint(Service::Postgres)?, lease.name()).await?;
        let writer = postgres::connect(stack.endpoint(Service::Postgres)?, lease.name()).await?;
        let table = "CREATE TABLE public.readings (\
            id bigint PRIMARY KEY, sensor text NOT NULL, celsius double precision, taken timestamptz DEFAULT now(), \
            note text)";
        writer.batch_execute(table).await.while_doing("PostgreSQL", "create the table")?;
        let name = lease.name_for(method.name());
        let subject = Subject { stack: &stack, database: lease.name(), name: &name };
        let options = Options { profile, ..Options::default() };
        let subscription = method.start(subject, &options).await?;
        Ok(Self { method, stack, lease, source, subscription, writer, next_id: 1 })
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
        postgres::connect(self.stack.endpoint(Service::Postgres)?, self.lease.name()).await
    }

    /// What runs.
    ///
    /// # Errors
    /// The server doesn't answer.
    pub async fn versions(&self) -> Result<Versions> {
        let mut images = Vec::new();
        for service in self.method.services() {
            images.push(self.stack.endpoint(*service)?.image.clone());
        }
        images.dedup();
        Ok(Versions { postgres: self.source.version().await?, images })
    }

    /// Removes all that it made.
    ///
    /// # Errors
    /// A service refuses.
    pub async fn close(self) -> Result<()> {
        drop(self.subscription);
        let (stack, lease) = (self.stack, self.lease);
        let name = lease.name_for(self.method.name());
        let subject = Subject { stack: &stack, database: lease.name(), name: &name };
        self.method.clean_up(subject).await?;
        self.source.close().await?;
        lease.release()
    }
}
