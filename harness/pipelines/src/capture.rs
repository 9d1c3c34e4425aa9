//! The replication as a capture: what is judged is what the sink's tables hold.

use std::{collections::BTreeMap, collections::VecDeque, time::Duration};

use async_trait::async_trait;
use changeproof::{
    Change, Op, Row,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    error::{Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    postgres::{self, Address, PUBLICATION},
    schema::{TableName, Type},
    source::{HARNESS_SCHEMA, Storage as _},
    stack::Service,
    warehouse::is_in_a_bucket,
};
use changeproof_iceberg::{Iceberg, Warehouse, key_columns, rows_of, warehouse_of};
use iceberg::table::Table;
use tokio::{sync::oneshot, task::JoinHandle, time::interval};

use crate::{
    SERVICE,
    check::check,
    replication::{Cadence, Replication, Settings},
    sink::{ident_of, name_of, shape_of},
    values::{Misfit, as_in_source},
};

/// So often the sink is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// So long a commit waits for more: a scenario waits for each of them.
const COMMIT_EVERY: Duration = Duration::from_millis(30);

/// PostgreSQL to Iceberg without anything between them: [`Replication`] in a task of this process.
///
/// Setting: `misfit` (`null` by default: values that the sink has no place for become NULL; `refuse`: they stop it).
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

fn services() -> &'static [Service] {
    match is_in_a_bucket() {
        Ok(true) => &[Service::Postgres, Service::Minio, Service::IcebergRest],
        _ => &[Service::Postgres],
    }
}

/// NULL for what Iceberg has no place for.
const RULES: [Rule; 4] = [
    Rule { ty: std::borrow::Cow::Borrowed("numeric with scale"), form: Form::NullUnlessFinite },
    Rule { ty: std::borrow::Cow::Borrowed("date"), form: Form::NullUnlessCommon },
    Rule { ty: std::borrow::Cow::Borrowed("timestamp without time zone"), form: Form::NullUnlessCommon },
    Rule { ty: std::borrow::Cow::Borrowed("timestamp with time zone"), form: Form::NullUnlessCommon },
];

#[async_trait]
impl Capture for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn summary(&self) -> &'static str {
        "what Iceberg tables hold that follow the log of PostgreSQL: deletes by key and rows, exactly once, by one process"
    }

    fn services(&self) -> &'static [Service] {
        services()
    }

    fn guarantees(&self, options: &Options) -> Guarantees {
        Guarantees {
            initial_snapshot: options.snapshot == SnapshotMode::Initial,
            snapshot_overlaps: false,
            granularity: Granularity::Contents,
            before_images: BeforeImages::None,
            row_image: RowImage::Full,
            fills_before_images: false,
            keys_by_identity: true,
            key_change: KeyChange::DeleteAndInsert,
            keyless_update: KeyChange::DeleteAndInsert,
            unchanged_updates: false,
            transactions: false,
            order: Order::Commit,
            truncate: Truncate::Told,
            schema_changes: SchemaChanges::NextRow,
            unchanged_toast: UnchangedToast::Delivered,
            after_a_break: AfterABreak::ExactlyOnce,
            tombstones: false,
            values: Values {
                rules: RULES.to_vec().into(),
                generated_columns: false,
                nested_arrays: false,
                bare_types: false,
            },
        }
    }

    async fn prepare(&self, subject: Subject<'_>) -> Result<()> {
        postgres::publish_all_tables(subject.stack.endpoint(Service::Postgres)?, subject.database).await
    }

    async fn start(&self, subject: Subject<'_>, options: &Options) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Sinking::start(subject, options).await?))
    }

    /// The slot belongs to the database and goes with it.
    async fn clean_up(&self, subject: Subject<'_>) -> Result<()> {
        Iceberg.remove(subject.stack, subject.database).await
    }
}

struct Sinking {
    address: Address,
    warehouse: Warehouse,
    settings: Settings,
    running: Option<(JoinHandle<Result<()>>, oneshot::Sender<()>)>,
    /// What was told of each table, by its UUID in the sink.
    told: BTreeMap<String, Told>,
    fence: i128,
    ready: VecDeque<Change>,
}

#[derive(Clone, Debug, PartialEq)]
struct Told {
    name: TableName,
    key: Vec<String>,
    rows: Vec<Row>,
}

impl Sinking {
    async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
        let warehouse = warehouse_of(subject.stack, subject.database).await?;
        let refuses = options.settings.get("misfit").is_some_and(|misfit| misfit == "refuse");
        let settings = Settings {
            slot: subject.name.to_owned(),
            publication: PUBLICATION.to_owned(),
            cadence: Cadence { every: COMMIT_EVERY, ..Cadence::default() },
            misfit: if refuses { Misfit::Refuse } else { Misfit::Null },
            ..Settings::default()
        };
        let mut sinking = Self {
            address,
            warehouse,
            settings,
            running: None,
            told: BTreeMap::new(),
            fence: 0,
            ready: VecDeque::new(),
        };
        let replication = sinking.replicate().await?;
        sinking.told = sinking.contents().await?;
        if options.snapshot == SnapshotMode::Initial {
            let reads = sinking.told.values().flat_map(|told| told.rows_as(Op::Read));
            sinking.ready.extend(reads);
        }
        sinking.run(replication);
        Ok(sinking)
    }

    async fn replicate(&self) -> Result<Replication> {
        Replication::start(&self.address, self.warehouse.clone(), self.settings.clone(), |_| {}).await
    }

    fn run(&mut self, mut replication: Replication) {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async {
                // Nobody stops it whose sender is gone: it ends with the task.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            replication.run(stopped, |_| {}).await
        });
        self.running = Some((task, stop));
    }

    /// What the sink holds, without the harness's own tables.
    async fn contents(&self) -> Result<BTreeMap<String, Told>> {
        let mut contents = BTreeMap::new();
        for ident in self.warehouse.tables().await? {
            let name = name_of(&ident);
            if name.schema != HARNESS_SCHEMA {
                let table = self.warehouse.table(&ident).await?;
                contents.insert(table.metadata().uuid().to_string(), Told::of(name, &table).await?);
            }
        }
        Ok(contents)
    }

    /// Looks whether a fence has come by; then everything that was committed before it is in the sink.
    async fn look(&mut self) -> Result<()> {
        let fence = ident_of(&TableName::new(HARNESS_SCHEMA, "fence"));
        if !self.warehouse.tables().await?.contains(&fence) {
            return Ok(());
        }
        let fences = rows_of(&self.warehouse.table(&fence).await?).await?;
        let last = fences.into_iter().filter_map(|row| match row.get("id") {
            Some(changeproof::Value::Int(number)) => Some((*number, row)),
            _ => None,
        });
        let Some((number, row)) = last.max_by_key(|(number, _)| *number).filter(|(number, _)| *number > self.fence)
        else {
            return Ok(());
        };
        let now = self.contents().await?;
        let mut changed: Vec<(&Told, bool)> = now.iter().map(|(uuid, now)| (now, self.is_news(uuid, now))).collect();
        changed.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        for (told, _) in changed.into_iter().filter(|(_, is_news)| *is_news) {
            self.ready.push_back(Change::new(Op::Truncate, told.name.clone()));
            self.ready.extend(told.rows_as(Op::Insert));
        }
        let key = row.project(["id"]);
        self.ready.push_back(Change {
            key,
            after: Some(row),
            ..Change::new(Op::Insert, TableName::new(HARNESS_SCHEMA, "fence"))
        });
        (self.told, self.fence) = (now, number);
        self.must_be_equal().await
    }

    fn is_news(&self, uuid: &str, now: &Told) -> bool {
        self.told.get(uuid).map_or(!now.rows.is_empty(), |told| told.rows != now.rows)
    }

    /// The check that users have must say the same as the judge, and sees what that doesn't: the columns' types.
    async fn must_be_equal(&self) -> Result<()> {
        let checked = check(&self.address, &self.settings.publication, &self.warehouse, self.settings.misfit).await?;
        // A table whose definition has changed is followed with its next row.
        let is_wrong = |difference: &&crate::Difference| matches!(difference, crate::Difference::Row { .. });
        for checked in &checked {
            if let Some(wrong) = checked.differences.iter().find(is_wrong) {
                let cause = format!("{}: {wrong}", checked.table);
                return Err(Error::new(SERVICE, "keep the sink as the source is", cause));
            }
        }
        Ok(())
    }
}

impl Told {
    async fn of(name: TableName, table: &Table) -> Result<Self> {
        let types = shape_of(table, &name)?;
        let ty = |column: &str| types.get(column).map_or(Type::Text, Clone::clone);
        let mut rows = Vec::new();
        for row in rows_of(table).await? {
            let columns =
                row.iter().map(|(column, value)| (column.to_owned(), as_in_source(value.clone(), &ty(column))));
            rows.push(columns.collect::<Row>());
        }
        rows.sort_by(|a, b| a.canonical().cmp(&b.canonical()));
        Ok(Self { name, key: key_columns(table), rows })
    }

    fn rows_as(&self, op: Op) -> impl Iterator<Item = Change> + '_ {
        self.rows.iter().map(move |row| Change {
            key: row.project(self.key.iter().map(String::as_str)),
            after: Some(row.clone()),
            ..Change::new(op, self.name.clone())
        })
    }
}

#[async_trait]
impl Subscription for Sinking {
    async fn next(&mut self) -> Result<Change> {
        let mut looks = interval(LOOK_EVERY);
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if let Some((task, _)) = self.running.as_mut().filter(|(task, _)| task.is_finished()) {
                let ended = task.await.map_err(|error| Error::new(SERVICE, "go on", error))?;
                self.running = None;
                ended?;
            }
            looks.tick().await;
            self.look().await?;
        }
    }

    fn waiting_for(&self) -> String {
        format!("it waits for the sink to hold a fence after {}", self.fence)
    }

    /// Ends the task wherever it is, as a crash would.
    async fn stop(&mut self) -> Result<()> {
        if let Some((task, _)) = self.running.take() {
            task.abort();
            let _ = task.await;
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        let replication = self.replicate().await?;
        self.run(replication);
        Ok(())
    }
}

impl Drop for Sinking {
    fn drop(&mut self) {
        if let Some((task, _)) = self.running.take() {
            task.abort();
        }
    }
}
