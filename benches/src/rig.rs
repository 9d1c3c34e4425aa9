//! A method capturing a table that is made to be written to.

use std::{ops::Range, sync::Arc};

use changeproof::{
    capture::{Capture, Subscription},
    error::Result,
    script::{TableBuilder, create, raw},
    source::Place,
    stack::Stack,
    workspace::Workspace,
};

use crate::{
    Setup,
    server::{Connection, Target},
};

/// A database with the table `readings`, prepared for a method that doesn't capture it yet.
pub(crate) struct Database {
    pub(crate) stack: Stack,
    pub(crate) workspace: Workspace,
    /// The connection that writes bursts.
    pub(crate) writer: Arc<dyn Connection>,
    /// What further connections are made to.
    pub(crate) target: Target,
}

/// What was measured, for whoever reads the figures later.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The server's own word.
    pub(crate) server: String,
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
        let mut workspace = Workspace::open(&stack, method, Place::Disk).await?;
        let target = Target::new(method.storage(), &stack, workspace.database())?;
        // As a step of a script, so that the table is given what the method needs of it.
        let readings = create(&TableBuilder::new("readings"));
        workspace.source.apply(&raw(target.create_table(), [readings])).await?;
        let writer = target.connect().await?;
        Ok(Self { stack, workspace, writer, target })
    }

    /// Starts the capture.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) async fn capture(&self, setup: &Setup) -> Result<Box<dyn Subscription>> {
        self.workspace.start(&self.stack, &setup.options()).await
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
        Ok(Versions { server: self.workspace.source.version().await?, images })
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
