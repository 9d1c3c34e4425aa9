//! The replication as a capture: what is judged is what the sink's tables hold.

use std::time::Duration;

use async_trait::async_trait;
use changeproof::{
    Change,
    capture::{Capture, Options, SnapshotMode, Subject, Subscription},
    error::{Error, Result},
    guarantees::{
        AfterABreak, BeforeImages, Form, Granularity, Guarantees, KeyChange, Order, RowImage, Rule, SchemaChanges,
        Truncate, UnchangedToast, Values,
    },
    logical::Known,
    postgres::{self, Address, PUBLICATION},
    source::Storage as _,
    stack::Service,
    warehouse::is_in_a_bucket,
};
use changeproof_iceberg::{Iceberg, Warehouse, ident, warehouse_of};
use tokio::{sync::oneshot, task::JoinHandle, time::interval};

use crate::{
    SERVICE,
    catalogue::identity_of,
    check::{Checked, Difference, check},
    contents::Contents,
    layout::Layout,
    replication::Replication,
    settings::{Cadence, Settings},
    shape::{Evolution, Shape},
    sink::{Sink, Target},
    values::Misfit,
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
            snapshot_amid_changes: false,
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
            read_values: None,
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
    contents: Contents,
}

impl Sinking {
    async fn start(subject: Subject<'_>, options: &Options) -> Result<Self> {
        let address = Address::of(subject.stack.endpoint(Service::Postgres)?, subject.database);
        let warehouse = warehouse_of(subject.stack, subject.database).await?;
        let is = |name: &str, value: &str| options.settings.get(name).is_some_and(|setting| setting == value);
        let settings = Settings {
            slot: subject.name.to_owned(),
            failover: is("failover", "true"),
            publication: PUBLICATION.to_owned(),
            cadence: Cadence { every: COMMIT_EVERY, ..Cadence::default() },
            misfit: if is("misfit", "refuse") { Misfit::Refuse } else { Misfit::Null },
            ..Settings::default()
        };
        let contents = Contents::of(warehouse.clone());
        let mut sinking = Self { address, warehouse, settings, running: None, contents };
        let replication = sinking.replicate().await?;
        sinking.contents.begin(options.snapshot == SnapshotMode::Initial).await?;
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

    /// The check that users have must say the same as the judge, and sees what that doesn't: the columns' types.
    async fn must_be_equal(&self) -> Result<()> {
        let Settings { publication, misfit, .. } = &self.settings;
        let mut checked = check(&self.address, publication, &self.warehouse, Layout::Rows, *misfit).await?;
        checked.retain(|checked| !checked.differences.is_empty());
        if checked.is_empty() {
            return Ok(());
        }
        let client = self.address.connect().await?;
        let source = identity_of(&client, &self.address).await?;
        let targets = Sink::new(self.warehouse.clone(), source, *misfit).targets().await?;
        for (relation, known) in Known::all_published(&client, publication).await? {
            let Some(checked) = checked.iter().find(|checked| checked.table == known.name) else { continue };
            if let Some(wrong) = wrong(checked, &known, targets.get(&relation)) {
                let cause = format!("{}: {wrong}", checked.table);
                return Err(Error::new(SERVICE, "keep the sink as the source is", cause));
            }
        }
        Ok(())
    }
}

/// A difference that doesn't go with the table's next row, with which the log tells another name or definition. The sink's table has those
/// that were told last.
fn wrong<'a>(checked: &'a Checked, known: &Known, target: Option<&Target>) -> Option<&'a Difference> {
    let is_up_to_date = |target: &Target| {
        let shapes = target.shape.as_ref().zip(Shape::of(known));
        let is_same = shapes.is_some_and(|(told, now)| told.evolution(&now, known) == Evolution::None);
        is_same && target.ident == ident(&known.name)
    };
    checked.differences.iter().find(|difference| match difference {
        Difference::Row { .. } => true,
        Difference::NoTable => target.is_none() && checked.source_rows > 0,
        Difference::Column { .. } => target.is_some_and(is_up_to_date),
    })
}

#[async_trait]
impl Subscription for Sinking {
    async fn next(&mut self) -> Result<Change> {
        let mut looks = interval(LOOK_EVERY);
        loop {
            if let Some(change) = self.contents.pop() {
                return Ok(change);
            }
            if let Some((task, _)) = self.running.as_mut().filter(|(task, _)| task.is_finished()) {
                let ended = task.await.map_err(|error| Error::new(SERVICE, "go on", error))?;
                self.running = None;
                ended?;
            }
            looks.tick().await;
            if self.contents.look().await? {
                self.must_be_equal().await?;
            }
        }
    }

    fn waiting_for(&self) -> String {
        format!("it waits for the sink to hold a fence after {}", self.contents.fence())
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

#[cfg(test)]
mod tests {
    use changeproof::{
        logical::KnownColumn,
        schema::{TableName, Type},
    };

    use super::*;

    fn orders(second: &str) -> Known {
        let column = |number, name: &str| KnownColumn {
            name: name.into(),
            ty: Type::Int,
            number: Some(number),
            fills_old_rows: false,
            is_identity: number == 1,
        };
        Known::new(TableName::from("orders"), vec![column(1, "id"), column(2, second)], vec!["id".into()], 1)
    }

    fn target(name: &str, known: &Known) -> Target {
        Target { ident: ident(&TableName::from(name)), position: None, shape: Shape::of(known) }
    }

    fn is_wrong(difference: Difference, source_rows: u64, target: Option<&Target>) -> bool {
        let table = TableName::from("orders");
        let checked = Checked { table, source_rows, sink_rows: 0, differences: vec![difference] };
        wrong(&checked, &orders("total"), target).is_some()
    }

    #[test]
    fn a_table_that_is_missing_is_wrong_if_it_has_rows_and_no_other_name() {
        assert!(is_wrong(Difference::NoTable, 1, None));
        assert!(!is_wrong(Difference::NoTable, 0, None), "it comes with its first row");
        let before = target("purchases", &orders("total"));
        assert!(!is_wrong(Difference::NoTable, 1, Some(&before)), "it gets its name with its next row");
    }

    #[test]
    fn a_column_is_wrong_unless_the_definition_has_changed_since_it_was_told() {
        let column = || Difference::Column { column: "total".to_owned(), expected: None, found: None };
        assert!(is_wrong(column(), 1, Some(&target("orders", &orders("total")))));
        assert!(!is_wrong(column(), 1, Some(&target("orders", &orders("sum")))), "renamed since");
        assert!(!is_wrong(column(), 1, None), "another table that had the name");
    }
}
