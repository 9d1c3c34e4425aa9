//! Debezium's connector for PostgreSQL.

use async_trait::async_trait;
use serde_json::json;
use tokio_postgres::{Client, Statement};

use super::{
    record::Decoder,
    signals::{self, Signals},
    subscription::{self, Attached, Server, sends_tombstones},
    wire::Wire,
};
use crate::{
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    connect::Connector,
    error::{Context, Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    postgres::{self, PUBLICATION},
    stack::{Endpoint, Service, USER},
};

/// Debezium's connector for PostgreSQL with the plug-in pgoutput.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebeziumPostgres;

#[async_trait]
impl Capture for DebeziumPostgres {
    fn name(&self) -> &'static str {
        "debezium"
    }

    fn summary(&self) -> &'static str {
        "log-based: pgoutput → Debezium on Kafka Connect → Kafka"
    }

    fn services(&self) -> &'static [Service] {
        &[Service::Postgres, Service::Kafka, Service::Connect]
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: false,
            snapshot_amid_changes: signals::are_asked_for(options),
            granularity: Granularity::EachChange,
            before_images: BeforeImages::ReplicaIdentity,
            row_image: RowImage::Full,
            fills_before_images: true,
            keys_by_identity: true,
            key_change: KeyChange::DeleteAndInsert,
            keyless_update: KeyChange::Update,
            unchanged_updates: true,
            transactions: true,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: SchemaChanges::NextRow,
            unchanged_toast: UnchangedToast::Omitted,
            after_a_break: AfterABreak::AtLeastOnce,
            tombstones: sends_tombstones(options),
            values: values(),
            // Of a row that it reads, identifiers of PostgreSQL's own are there.
            read_values: Some(values().without(|rule| rule.ty == "name")),
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        postgres::publish_all_tables(subject.stack.endpoint(Service::Postgres)?, subject.database).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        start(subject, options, None).await
    }

    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        subscription::clean_up(subject).await
    }
}

/// Starts the connector; what its records refer to is put back by the wire.
pub(super) async fn start(
    subject: Subject<'_>,
    options: &Options,
    wire: Option<Wire>,
) -> Result<Box<dyn Subscription>> {
    let source = subject.stack.endpoint(Service::Postgres)?;
    let lease = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": source.container,
        "database.port": "5432",
        "database.user": USER,
        "database.password": source.password,
        "database.dbname": subject.database,
        "slot.name": subject.name,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",
    });
    let server = Slot { source: source.clone(), session: None, name: subject.name.to_owned() };
    let signals = match signals::are_asked_for(options) {
        true => Some(Signals::of_postgres(source, subject.database).await?),
        false => None,
    };
    subscription::start(subject, &lease, server, Decoder::default().through(wire), signals, options).await
}

/// Seen with `include.unknown.datatypes=false` and the other settings' defaults (Debezium's manual on the connector, "Data
/// type mappings"), but for what it doesn't say: `name` comes as NULL, and arrays in arrays do.
fn values() -> Values {
    const RULES: &[(&str, Form)] = &[
        ("interval", Form::Micros),
        ("time with time zone", Form::Utc),
        ("money", Form::Amount),
        ("bit", Form::Bits),
        ("bit varying", Form::Bits),
        ("hstore", Form::JsonObject),
        ("point", Form::Point),
        ("numeric", Form::ShortNumeric),
        ("numeric with scale", Form::NullUnlessFinite),
        ("name", Form::Null),
        ("composite", Form::Absent),
        ("tsquery", Form::Absent),
        ("box", Form::Absent),
        ("int4multirange", Form::Absent),
    ];
    let rules = RULES.iter().map(|(ty, form)| Rule { ty: (*ty).into(), form: *form });
    Values { rules: rules.collect(), generated_columns: false, nested_arrays: false, ..Values::AS_STORED }
}

/// The connector's slot, as the server sees it.
struct Slot {
    source: Endpoint,
    /// For questions; made anew when it broke.
    session: Option<(Client, Statement)>,
    name: String,
}

impl Slot {
    async fn session(&mut self) -> Result<&(Client, Statement)> {
        let session = match self.session.take() {
            Some((client, look)) if !client.is_closed() => (client, look),
            _ => {
                let client = postgres::connect(&self.source, USER).await?;
                let look = client.prepare(SLOT_STATE).await.while_doing("PostgreSQL", LOOKING)?;
                (client, look)
            }
        };
        Ok(self.session.insert(session))
    }
}

const SLOT_STATE: &str = "\
    SELECT COALESCE(r.state, 'inactive')::text, s.wal_status = 'lost' FROM pg_replication_slots s \
    LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1";

/// The state of a slot that nobody reads.
const INACTIVE: &str = "inactive";

const LOOKING: &str = "look at the replication slot";

#[async_trait]
impl Server for Slot {
    /// What is committed once the slot is there is in its stream.
    async fn look(&mut self) -> Result<Attached> {
        let name = self.name.clone();
        let (client, look) = self.session().await?;
        let slot = client.query_opt(look, &[&name]).await.while_doing("PostgreSQL", LOOKING)?;
        let is_lost = slot.as_ref().and_then(|slot| slot.get::<_, Option<bool>>(1)).unwrap_or_default();
        let state: Option<String> = slot.map(|slot| slot.get(0));
        let is_streaming = state.as_deref() == Some("streaming");
        let is_gone = state.as_deref() == Some(INACTIVE);
        Ok(Attached { state, is_streaming, is_promised: is_streaming || is_gone, is_gone, is_lost })
    }

    /// A connector whose slot has lost its log doesn't fail: it takes it for one that is being made, and asks again for half
    /// an hour (`PostgresConnection.fetchReplicationSlotInfo`: 900 times, every 2 s). Only its log tells.
    async fn tell_of_loss(&self, connector: &Connector) -> Result<()> {
        if !connector.has_logged(&format!("Cannot obtain valid replication slot '{}'", self.name)).await? {
            return Ok(());
        }
        let doing = format!("go on with the slot {}", self.name);
        let cause = "the server has removed log that it still needs (max_slot_wal_keep_size); the connector says that it is \
                     running, and asks for the slot again every 2 s for half an hour";
        Err(Error::new("Debezium", doing, cause)
            .help("what was committed since is lost to this connector: start a new one with an initial snapshot"))
    }
}
