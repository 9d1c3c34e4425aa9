//! Capturing: a source in, a stream of changes out.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    change::{Change, Op, Position},
    error::{Error, Result},
    guarantees::Guarantees,
    postgres::{HARNESS_SCHEMA, PostgreSql},
    source::{Source, Storage},
    stack::{Service, Stack},
};

/// What happens to rows that exist before a capture begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// They are not delivered; changes are, from the start of the capture on.
    #[default]
    NoData,
    /// They are delivered as reads, and then the changes since.
    Initial,
}

/// A set of settings of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The settings of the reference setup: what people usually run.
    #[default]
    Reference,
    /// The settings that bring a change to its subscriber soonest.
    LowLatency,
}

/// How to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens to rows that exist before.
    pub snapshot: SnapshotMode,
    /// The set of settings.
    pub profile: Profile,
    /// Settings over those of the profile, by the method's own names.
    pub settings: BTreeMap<String, String>,
}

impl Options {
    /// The same with settings of a method's own, where nothing else is asked for.
    pub(crate) fn with_defaults(&self, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut options = self.clone();
        for (name, value) in settings {
            options.settings.entry(name).or_insert(value);
        }
        options
    }
}

/// What a capture works on: a source, and a name for whatever it makes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The running services.
    pub stack: &'a Stack,
    /// The source to capture: the name of a database, or of a folder of tables.
    pub database: &'a str,
    /// What slots, topics and connectors are called: letters, digits and underscores, at most 40 bytes.
    pub name: &'a str,
}

impl Subject<'_> {
    /// How to connect to a database of PostgreSQL: `postgres://USER:PASSWORD@127.0.0.1:PORT/DATABASE`. The user may replicate.
    ///
    /// # Errors
    /// The method's services are without PostgreSQL.
    pub fn url(&self) -> Result<String> {
        Ok(self.stack.endpoint(Service::Postgres)?.url(self.database))
    }
}

/// A method of capturing changes.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Its name in test names, snapshots and commands.
    fn name(&self) -> &'static str;

    /// One sentence on how it works.
    fn summary(&self) -> &'static str;

    /// The method of this catalogue that it works like, such as `logical`, if any: scenarios that have a meaning for some
    /// methods only then have it for this one too.
    fn like(&self) -> Option<&'static str> {
        None
    }

    /// The storage that it captures.
    fn storage(&self) -> &'static dyn Storage {
        &PostgreSql
    }

    /// The services that must run for it, the source included.
    fn services(&self) -> &'static [Service];

    /// Why it must not share a server with others, if it mustn't.
    fn needs_own_server(&self) -> Option<&'static str> {
        None
    }

    /// The scenarios that it plays, if not all that have a meaning for it: of a method whose every look costs seconds.
    fn plays(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// What it promises under the options.
    fn guarantees(&self, options: &Options) -> Guarantees;

    /// Makes ready the source that it will capture, before the script's first step: what people who use the method set
    /// up with their database, such as a publication or triggers.
    ///
    /// # Errors
    /// The database refuses or can't be reached.
    async fn prepare(&self, subject: Subject<'_>) -> Result<()>;

    /// Where the source's history ends now, in the positions that this method gives to changes: what is written later
    /// stands there or after it.
    ///
    /// # Errors
    /// As [`Source::end_of_history`].
    async fn end_of_history(&self, source: &dyn Source) -> Result<Position> {
        source.end_of_history().await
    }

    /// Begins to capture. When this returns, whatever is committed from now on will be delivered.
    ///
    /// # Errors
    /// The method can't be started: says why in its own words.
    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>>;

    /// Removes what a capture of this name may have left in the services.
    ///
    /// # Errors
    /// A service refuses or can't be reached.
    async fn clean_up(&self, subject: Subject<'_>) -> Result<()>;
}

/// A capture that is under way.
#[async_trait]
pub trait Subscription: Send {
    /// The next change, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The capture has failed: says why in the method's own words.
    async fn next(&mut self) -> Result<Change>;

    /// The next change if it is there already. Where changes come by the hundred thousand, a future for each, which
    /// [`next`](Self::next) is, costs as much as decoding it; who asks here first is spared that.
    fn next_ready(&mut self) -> Option<Change> {
        None
    }

    /// What the capture is waiting for, for the message of a deadline.
    fn waiting_for(&self) -> String;

    /// Stops the method where it stands, as an operator would, and returns once it has stopped.
    ///
    /// # Errors
    /// The method can't be stopped.
    async fn stop(&mut self) -> Result<()>;

    /// Starts the method again, to go on where it stopped.
    ///
    /// # Errors
    /// The method can't be started.
    async fn resume(&mut self) -> Result<()>;
}

/// Whose error it is if a capture falls silent: see [`Error::service`].
pub const CAPTURE: &str = "the capture";

/// A capture that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// The next change, or none if nothing comes for a minute.
pub async fn next_unless_silent(subscription: &mut dyn Subscription) -> Option<Result<Change>> {
    if let Some(change) = subscription.next_ready() {
        return Some(Ok(change));
    }
    tokio::time::timeout(SILENCE, subscription.next()).await.ok()
}

/// Collects changes until the fence of the number has come by; then everything committed before it has.
///
/// # Errors
/// The capture fails, or nothing comes for a minute.
pub async fn collect_until_fence(subscription: &mut dyn Subscription, fence: i64) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    collect_into(&mut changes, subscription, fence).await?;
    Ok(changes)
}

/// As [`collect_until_fence`]; what comes before an error is kept.
///
/// # Errors
/// As [`collect_until_fence`].
pub async fn collect_into(changes: &mut Vec<Change>, subscription: &mut dyn Subscription, fence: i64) -> Result<()> {
    loop {
        let Some(next) = next_unless_silent(subscription).await else {
            let doing = format!("wait for fence {fence}");
            let seen = format!(
                "nothing came for {} s after {} changes; {}",
                SILENCE.as_secs(),
                changes.len(),
                subscription.waiting_for()
            );
            return Err(Error::new(CAPTURE, doing, seen));
        };
        let change = next?;
        match fence_number(&change) {
            Some(number) if number >= i128::from(fence) => return Ok(()),
            Some(_) => {}
            // A fence that a snapshot read says nothing of the changes before it; nor does anything else of the harness's own.
            None if change.table.schema() == HARNESS_SCHEMA => {}
            None => changes.push(change),
        }
    }
}

/// The number of the fence that a change writes, if it does.
pub fn fence_number(change: &Change) -> Option<i128> {
    if change.table.schema() != HARNESS_SCHEMA || !matches!(change.op, Op::Insert | Op::Upsert) {
        return None;
    }
    match change.after.as_ref()?.get("id")? {
        crate::Value::Int(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{row, schema::TableName};

    struct Told(VecDeque<Change>);

    #[async_trait]
    impl Subscription for Told {
        async fn next(&mut self) -> Result<Change> {
            self.0.pop_front().ok_or_else(|| Error::new("the test", "go on", "nothing is left"))
        }

        fn waiting_for(&self) -> String {
            String::new()
        }

        async fn stop(&mut self) -> Result<()> {
            Ok(())
        }

        async fn resume(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn change(op: Op, schema: &str, id: i32) -> Change {
        Change {
            key: row! { id: id },
            after: Some(row! { id: id }),
            ..Change::new(op, TableName::new(schema, "fence"))
        }
    }

    #[tokio::test]
    async fn only_a_fence_that_was_written_ends_the_stream() -> Result<()> {
        let mut told = Told(VecDeque::from([
            change(Op::Insert, HARNESS_SCHEMA, 1),
            change(Op::Read, HARNESS_SCHEMA, 2),
            change(Op::Insert, "public", 7),
            change(Op::Insert, HARNESS_SCHEMA, 2),
            change(Op::Insert, "public", 8),
        ]));
        let changes = collect_until_fence(&mut told, 2).await?;
        assert_eq!(changes, [change(Op::Insert, "public", 7)]);
        Ok(())
    }
}
