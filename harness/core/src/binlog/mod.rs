//! The native binary log of MySQL and MariaDB, read as a replica reads it: row events to [`Change`](crate::change::Change)s.
//!
//! What a change needs stands in the log itself, as it was when the change was made: the table's columns, their types and
//! the key (`binlog_row_metadata=FULL`). So a capture that lags is not misled by what the catalogue says today.

mod charset;
mod columns;
mod ddl;
mod decode;
mod earlier;
mod gtids;
mod json;
mod mariadb;
mod numbers;
mod open;
mod reading;
mod row;
mod seen;
mod statements;
mod subscription;
mod table;
mod told;
mod words;

use std::borrow::Cow;

use async_trait::async_trait;

use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    error::Result,
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    mysql::Flavour,
    schema::TableName,
    source::Storage,
    stack::Service,
};

const SERVICE: &str = "the binary log";

/// The tables of a lease that a statement gives other names, one after the other. `database` is the one that names without a database
/// belong to.
pub(crate) fn renames(sql: &str, lease: &str, database: &str) -> Vec<(TableName, TableName)> {
    match ddl::effect(&words::words(sql), lease, database) {
        Some(ddl::Effect::Renames(renames)) => renames,
        Some(ddl::Effect::Alters { table, to: Some(to), .. }) => vec![(table, to)],
        _ => Vec::new(),
    }
}

/// The binary log by global transaction identifiers.
///
/// Setting: `binlog_row_image` (`FULL`, `NOBLOB` or `MINIMAL`), which says how the sessions write that make the changes. It
/// changes nothing here but what is promised.
#[derive(Clone, Copy, Debug)]
pub struct NativeBinlog(pub Flavour);

#[async_trait]
impl Capture for NativeBinlog {
    fn name(&self) -> &'static str {
        "binlog"
    }

    fn summary(&self) -> &'static str {
        "log-based: the binary log, read as a replica reads it"
    }

    fn storage(&self) -> &'static dyn Storage {
        self.0.server()
    }

    fn services(&self) -> &'static [Service] {
        match self.0 {
            Flavour::MySql => &[Service::Mysql],
            Flavour::MariaDb => &[Service::Mariadb],
        }
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        // The log has numbers; that a tinyint(1) is meant as a truth value stands in the catalogue only.
        const RULES: &[Rule] = &[Rule { ty: Cow::Borrowed("boolean"), form: Form::Number }];
        let row_image = match options.settings.get("binlog_row_image").map(String::as_str) {
            Some("MINIMAL") => RowImage::Minimal,
            Some("NOBLOB") => RowImage::NoBlob,
            _ => RowImage::Full,
        };
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: false,
            snapshot_amid_changes: false,
            granularity: Granularity::EachChange,
            before_images: BeforeImages::Full,
            row_image,
            fills_before_images: false,
            // The server takes a unique index without NULLs for the key, if there is no other.
            keys_by_identity: true,
            key_change: KeyChange::Update,
            keyless_update: KeyChange::Update,
            unchanged_updates: false,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: SchemaChanges::WithNextRow,
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::ExactlyOnce,
            tombstones: false,
            values: Values { rules: Cow::Borrowed(RULES), ..Values::AS_STORED },
            read_values: None,
        }
    }

    /// The server writes its log anyway.
    async fn prepare(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        let endpoint = subject.stack.endpoint(self.0.server().service)?.clone();
        let log = reading::Log { flavour: self.0, endpoint, lease: subject.database.to_owned() };
        Ok(Box::new(subscription::Binlog::start(log, options.snapshot).await?))
    }

    /// Nothing of it stays on the server.
    async fn clean_up(&self, _subject: Subject<'_>) -> Result<()> {
        Ok(())
    }
}
