//! A method at work: a source of its own, and a private name for whatever it makes in the services.

use std::time::Duration;

use crate::{
    capture::{Capture, Options, Subject, Subscription},
    error::{Error, Result},
    source::{Place, Source},
    stack::{Lease, Stack, stale_leases},
};

const REMOVED_WITHIN: Duration = Duration::from_secs(90);

/// A lease's source, prepared for a method.
pub struct Workspace {
    method: &'static dyn Capture,
    lease: Lease,
    name: String,
    /// The source.
    pub source: Box<dyn Source>,
}

impl Workspace {
    /// Removes what killed processes have left of this method, and makes a source of its own for it.
    ///
    /// # Errors
    /// A service refuses or can't be reached.
    pub async fn open(stack: &Stack, method: &'static dyn Capture, place: Place) -> Result<Self> {
        // What a killed process has left is on the shared servers.
        if !stack.is_apart() {
            Self::remove_stale(stack, method).await?;
        }
        let lease = Lease::take(stack.state(), &holder(method))?;
        let source = method.storage().create(stack, lease.name(), place).await?;
        let name = lease.name_for(method.name());
        let workspace = Self { method, lease, name, source };
        method.prepare(workspace.subject(stack)).await?;
        Ok(workspace)
    }

    /// Does something in a workspace on running services, which is closed whatever has come of it.
    ///
    /// # Errors
    /// As what is done; or a service refuses or can't be reached.
    pub async fn within<T>(
        method: &'static dyn Capture,
        place: Place,
        does: impl AsyncFnOnce(&Stack, &mut Self) -> Result<T>,
    ) -> Result<T> {
        let stack = Stack::acquire(method.services()).await?;
        let mut workspace = Self::open(&stack, method, place).await?;
        let done = does(&stack, &mut workspace).await;
        let closed = workspace.close(&stack).await;
        let done = done?;
        closed.map(|()| done)
    }

    /// Removes what workspaces of the method have left that were dropped without being closed, or whose process died.
    ///
    /// # Errors
    /// A service refuses or can't be reached.
    pub async fn remove_stale(stack: &Stack, method: &dyn Capture) -> Result<()> {
        for lease in stale_leases(stack.state(), &holder(method))? {
            remove(stack, method, lease).await?;
        }
        Ok(())
    }

    /// The method.
    pub fn method(&self) -> &'static dyn Capture {
        self.method
    }

    /// The source's name.
    pub fn database(&self) -> &str {
        self.lease.name()
    }

    /// What the method captures.
    pub fn subject<'a>(&'a self, stack: &'a Stack) -> Subject<'a> {
        Subject { stack, database: self.lease.name(), name: &self.name }
    }

    /// What the method captures, and the source to go on writing to meanwhile.
    pub fn split<'a>(&'a mut self, stack: &'a Stack) -> (Subject<'a>, &'a mut dyn Source) {
        (Subject { stack, database: self.lease.name(), name: &self.name }, self.source.as_mut())
    }

    /// Starts the capture.
    ///
    /// # Errors
    /// The method can't be started: with the end of its service's log.
    pub async fn start(&self, stack: &Stack, options: &Options) -> Result<Box<dyn Subscription>> {
        match self.method.start(self.subject(stack), options).await {
            Ok(subscription) => Ok(subscription),
            Err(error) => Err(stack.explain(self.method.services(), error).await),
        }
    }

    /// Removes all that the method and the script made, and gives the name up.
    ///
    /// # Errors
    /// A service refuses or can't be reached. The next workspace of the method tries again.
    pub async fn close(self, stack: &Stack) -> Result<()> {
        drop(self.source);
        remove(stack, self.method, self.lease).await
    }
}

async fn remove(stack: &Stack, method: &dyn Capture, lease: Lease) -> Result<()> {
    let name = lease.name_for(method.name());
    let subject = Subject { stack, database: lease.name(), name: &name };
    in_time(REMOVED_WITHIN, &format!("remove what {name} has made"), method.clean_up(subject)).await?;
    in_time(REMOVED_WITHIN, &format!("remove the source of {name}"), method.storage().remove(stack, lease.name()))
        .await?;
    lease.release()
}

/// Waits for something no longer than this: a service that doesn't answer would be waited for without end, and without a word.
///
/// # Errors
/// It fails, or takes longer.
pub async fn in_time<T>(limit: Duration, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Ok(done) = tokio::time::timeout(limit, work).await else {
        return Err(Error::new("the harness", doing, format!("it takes more than {} s", limit.as_secs())));
    };
    done
}

/// Whose leases those of a method are: what it left on one server, it must not look for on another.
fn holder(method: &dyn Capture) -> String {
    let storage = method.storage();
    let storage = storage.server().map_or_else(|| storage.title().replace(' ', "-"), |server| server.name().to_owned());
    format!("{storage}.{}", method.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{binlog::NativeBinlog, mysql::Flavour};

    #[test]
    fn a_method_has_leases_of_its_own_on_each_storage() {
        assert_eq!(holder(&NativeBinlog(Flavour::MySql)), "mysql.binlog");
        assert_eq!(holder(&NativeBinlog(Flavour::MariaDb)), "mariadb.binlog");
    }
}
