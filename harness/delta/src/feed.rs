//! The Change Data Feed, commit by commit (protocol, "Change Data Files").

use std::{sync::Arc, time::Duration};

use arrow_array::{RecordBatch, cast::AsArray, types::TimestampMillisecondType};
use changeproof::{
    Change, Op, Row,
    change::{Position, TxId},
    error::{Context, Error, Result},
    schema::TableName,
};
use deltalake::{
    DeltaTable,
    datafusion::{physical_plan, prelude::SessionContext},
};
use futures_util::stream::{BoxStream, StreamExt, try_unfold};
use url::Url;

use crate::{
    SERVICE,
    tables::{columns_of, key_of, load, version_of},
    values,
};

/// The columns that the feed adds to the table's own.
const CHANGE_TYPE: &str = "_change_type";
const COMMIT_TIMESTAMP: &str = "_commit_timestamp";

/// The feed of a table over a range of its versions, or without end as the table grows.
#[derive(Clone, Debug)]
pub struct ChangeFeed {
    url: Url,
    next: u64,
    last: Option<u64>,
    look_every: Option<Duration>,
}

impl ChangeFeed {
    /// Every version up to that which the table was loaded at.
    pub fn of(table: &DeltaTable) -> Self {
        Self { url: table.table_url().clone(), next: 0, last: Some(version_of(table)), look_every: None }
    }

    /// Only what was changed after this version.
    #[must_use]
    pub fn after(mut self, version: u64) -> Self {
        self.next = version + 1;
        self
    }

    /// Only what was changed up to this version and by it.
    #[must_use]
    pub fn up_to(mut self, version: u64) -> Self {
        self.last = Some(version);
        self
    }

    /// Goes on with the versions to come: the stream has no end, and looks for new ones so often.
    #[must_use]
    pub fn follow(mut self, look_every: Duration) -> Self {
        (self.last, self.look_every) = (None, Some(look_every));
        self
    }

    /// The commits in their order.
    ///
    /// # Errors
    /// In the stream: the feed was not enabled for a version, a file of it has been vacuumed, the log can't be read.
    pub fn stream(self) -> BoxStream<'static, Result<FeedCommit>> {
        try_unfold(self, |mut feed| async move {
            while feed.last.is_none_or(|last| feed.next <= last) {
                match feed.at_next().await? {
                    Some(table) => {
                        feed.next += 1;
                        return Ok(Some((FeedCommit::read(table).await?, feed)));
                    }
                    None => tokio::time::sleep(feed.look_every.unwrap_or_default()).await,
                }
            }
            Ok(None)
        })
        .boxed()
    }

    /// The table at the next version; none if the feed is followed and it isn't there yet.
    async fn at_next(&self) -> Result<Option<DeltaTable>> {
        let doing = || format!("load version {} of the table {}", self.next, self.url);
        if self.look_every.is_some() {
            let now = load(self.url.clone(), None, doing).await?;
            if version_of(&now) < self.next {
                return Ok(None);
            }
        }
        load(self.url.clone(), Some(self.next), doing).await.map(Some)
    }
}

/// What the feed says of one version.
#[derive(Debug)]
pub struct FeedCommit {
    table: DeltaTable,
    batches: Vec<RecordBatch>,
}

impl FeedCommit {
    /// Reads the feed of the version that a table was loaded at. Of a table at a later version it would have the later columns,
    /// with NULL in those that weren't there.
    ///
    /// # Errors
    /// The feed was not enabled then, a file of it has been vacuumed, or the table can't be read by it.
    pub async fn read(table: DeltaTable) -> Result<Self> {
        let version = version_of(&table);
        let doing = || format!("read the change data feed of {} at version {version}", table.table_url());
        // delta-rs looks only at versions that change the table's metadata, and takes all other ones for a feed.
        let properties = table.snapshot().while_doing(SERVICE, doing())?.metadata().configuration();
        if properties.get("delta.enableChangeDataFeed").is_none_or(|enabled| !enabled.eq_ignore_ascii_case("true")) {
            return Err(Error::new(SERVICE, doing(), "the change data feed was not enabled for the table then")
                .help("set its property delta.enableChangeDataFeed, and read from the version on that follows"));
        }
        let session = SessionContext::new();
        let feed = table.clone().scan_cdf().with_starting_version(version).with_ending_version(version);
        let plan = feed.build(&session.state(), None).await.while_doing(SERVICE, doing())?;
        let batches = physical_plan::collect(plan, session.task_ctx()).await.while_doing(SERVICE, doing())?;
        Ok(Self { table, batches })
    }

    /// The version.
    pub fn version(&self) -> u64 {
        version_of(&self.table)
    }

    /// The rows with `_change_type` (`insert`, `delete`, `update_preimage`, `update_postimage`), `_commit_version` and
    /// `_commit_timestamp`.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// When it was committed, in microseconds since 1970 (UTC); nothing if the feed has no row of it.
    pub fn commit_time_us(&self) -> Option<i64> {
        let times = self.batches.iter().find(|batch| batch.num_rows() > 0)?.column_by_name(COMMIT_TIMESTAMP)?;
        Some(times.as_primitive_opt::<TimestampMillisecondType>()?.value(0).saturating_mul(1000))
    }

    /// Deletes, updates and inserts, by the table's columns at the version. The images of an update are paired by the table's
    /// key; without one, or where the key itself changed, they are a delete and an insert.
    ///
    /// # Errors
    /// A value is of a type that no script has.
    pub fn changes(&self, name: &TableName) -> Result<Vec<Change>> {
        let version = self.version();
        let doing = || format!("read the change data feed of {name} at version {version}");
        let (columns, key) = (columns_of(&self.table)?, key_of(&self.table)?);
        let (mut deletes, mut before, mut after, mut inserts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for batch in &self.batches {
            let column = |column: &str| {
                let missing = || Error::new(SERVICE, doing(), format!("the feed lacks its column {column}"));
                batch.column_by_name(column).ok_or_else(missing)
            };
            let own: Vec<usize> = columns.iter().filter_map(|(name, _)| batch.schema().index_of(name).ok()).collect();
            let rows = values::rows(&batch.project(&own).while_doing(SERVICE, doing())?)?;
            let kinds = Arc::clone(column(CHANGE_TYPE)?);
            for (at, row) in rows.into_iter().enumerate() {
                match values::value(kinds.as_ref(), at)?.to_string().as_str() {
                    "delete" => deletes.push(row),
                    "insert" => inserts.push(row),
                    "update_preimage" => before.push(row),
                    "update_postimage" => after.push(row),
                    other => {
                        return Err(Error::new(SERVICE, doing(), format!("it tells of an unknown change `{other}`")));
                    }
                }
            }
        }

        let key_of = |row: &Row| row.project(key.iter().map(String::as_str));
        let commit_time_us = self.commit_time_us();
        let change = |op, before: Option<Row>, after: Option<Row>| Change {
            key: after.as_ref().or(before.as_ref()).map(key_of).unwrap_or_default(),
            before,
            after,
            position: i64::try_from(version).ok().map(Position::Version),
            tx: Some(TxId::new(format!("{name}@{version}"))),
            commit_time_us,
            ..Change::new(op, name.clone())
        };
        let mut updates = Vec::new();
        for row in after {
            let same = |old: &Row| !key.is_empty() && key_of(old) == key_of(&row);
            match before.iter().position(same) {
                Some(at) => updates.push(change(Op::Update, Some(before.remove(at)), Some(row))),
                None => inserts.push(row),
            }
        }
        let deletes = deletes.into_iter().chain(before).map(|row| change(Op::Delete, Some(row), None));
        let inserts = inserts.into_iter().map(|row| change(Op::Insert, None, Some(row)));
        Ok(deletes.chain(updates).chain(inserts).collect())
    }
}
