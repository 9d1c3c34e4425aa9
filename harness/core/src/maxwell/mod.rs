//! Maxwell's Daemon: a program that reads the binary log of MariaDB as a replica and writes each change as JSON, to its standard output
//! or to Kafka.
//!
//! It keeps its position, and what the tables look like, in a database of its own on the same server.

mod daemon;
mod line;
mod subscription;

use std::borrow::Cow;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;

use self::subscription::MaxwellSubscription;
use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    change::{LogPlace, Position},
    error::{Context, Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    kafka,
    mysql::{self, Conn, Server},
    source::{Source, Storage},
    stack::{Service, USER, docker},
};

const SERVICE: &str = "Maxwell";

/// Maxwell's Daemon.
///
/// Settings: `producer`, which is `stdout` by default or `kafka`; all others are Maxwell's own (its documentation, "Reference").
#[derive(Clone, Copy, Debug, Default)]
pub struct Maxwell;

/// Its documentation, "Data Format", and what it was seen to write.
const RULES: &[Rule] = &[
    Rule { ty: Cow::Borrowed("boolean"), form: Form::Number },
    Rule { ty: Cow::Borrowed("bit"), form: Form::Number },
    Rule { ty: Cow::Borrowed("set"), form: Form::List },
    Rule { ty: Cow::Borrowed("binary"), form: Form::Unpadded },
];

const VALUES: Values = Values { rules: Cow::Borrowed(RULES), bare_types: true, ..Values::AS_STORED };

#[async_trait]
impl Capture for Maxwell {
    fn name(&self) -> &'static str {
        "maxwell"
    }

    fn summary(&self) -> &'static str {
        "log-based: Maxwell's Daemon, which writes the binary log's changes as JSON"
    }

    fn storage(&self) -> &'static dyn Storage {
        &Server::MARIADB
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Mariadb]
    }

    fn needs_own_server(&self) -> Option<&'static str> {
        Some("it parses the definitions of all databases on a server, and ends at one that it doesn't understand")
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: true,
            snapshot_amid_changes: false,
            granularity: Granularity::EachChange,
            before_images: BeforeImages::Changed,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: false,
            key_change: KeyChange::Update,
            keyless_update: KeyChange::Update,
            unchanged_updates: false,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Missed,
            schema_changes: SchemaChanges::AtOnceWithNames,
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::AtLeastOnce,
            tombstones: false,
            values: VALUES,
            // Bytes of a fixed number keep their zeros.
            read_values: Some(VALUES.without(|rule| rule.form == Form::Unpadded)),
        }
    }

    /// Its user may write to its database.
    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        let mut conn = mysql::connect(subject.stack.endpoint(Service::Mariadb)?, subject.database).await?;
        let grant = format!("GRANT ALL ON {}.* TO {}@'%'", own_database(subject), subject.database);
        conn.query_drop(grant).await.while_doing(SERVICE, "give it a database")
    }

    /// It tells places in the log.
    async fn end_of_history(&self, source: &dyn Source) -> Result<Position> {
        let mut admin = source.as_a::<mysql::Source>()?.admin().lock().await;
        end_of_log(&mut admin).await.map(Position::Log)
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(MaxwellSubscription::start(subject, options).await?))
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        docker::remove_container(&container(subject)).await?;
        let mut conn = mysql::open(subject.stack.endpoint(Service::Mariadb)?, USER, None).await?;
        let remove = format!("DROP DATABASE IF EXISTS {}", own_database(subject));
        conn.query_drop(remove).await.while_doing(SERVICE, "remove its database")?;
        match subject.stack.find(Service::Kafka).await? {
            Some(broker) => kafka::remove(&broker, subject.name).await,
            None => Ok(()),
        }
    }
}

/// The database that it keeps its state in.
fn own_database(subject: Subject<'_>) -> String {
    format!("maxwell_{}", subject.database)
}

fn container(subject: Subject<'_>) -> String {
    format!("{}-{}", docker::network_name(subject.stack.state()), subject.name.replace('_', "-"))
}

async fn end_of_log(conn: &mut Conn) -> Result<LogPlace> {
    let doing = "ask where the log ends";
    let status: Option<mysql_async::Row> = conn.query_first("SHOW BINLOG STATUS").await.while_doing(SERVICE, doing)?;
    let place = status.and_then(|status| Some((status.get::<String, _>(0)?, status.get::<u64, _>(1)?)));
    let (file, offset) = place.ok_or_else(|| Error::new(SERVICE, doing, "the server writes none"))?;
    format!("{file}:{offset}").parse().map_err(|cause| Error::new(SERVICE, doing, cause))
}
