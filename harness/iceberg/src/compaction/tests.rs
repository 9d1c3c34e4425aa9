use std::path::PathBuf;

use changeproof::{Op, Row, Value, row, schema::Type, script::TableBuilder, source::Source as _};
use iceberg::spec::{NestedField, PrimitiveType, Schema};
use proptest::prelude::*;

use super::*;
use crate::{
    ChangelogScan, Source, changes, ident, live_files, rows_of, values, with_schema, write_key_deletes, write_rows,
    writer::write_position_deletes,
};

/// Files of a few rows are smaller than this, in bytes, and those of `LARGE_ROWS` larger.
const SMALL_BELOW: u64 = 2500;
const LARGE_ROWS: i32 = 400;

/// The keys of rows that come and go.
pub(crate) const KEYS: std::ops::Range<i32> = 0..8;

/// Rows put in the place of those with their keys.
struct Upsert {
    gone: BTreeSet<i32>,
    come: BTreeMap<i32, i32>,
}

#[async_trait]
impl TableChange for Upsert {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let rows: Vec<Row> = self.come.iter().map(|(id, n)| row! { id: *id, n: *n }).collect();
        let keys: Vec<Row> = self.gone.iter().map(|id| row! { id: *id, n: 0 }).collect();
        let mut added = write_rows(table, &rows).await?;
        if !keys.is_empty() {
            added.push(write_key_deletes(table, &keys).await?);
        }
        commit_by(&Manifests::new(table), &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}

/// A table, and what it must hold.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) warehouse: Warehouse,
    pub(crate) ident: TableIdent,
    pub(crate) rows: BTreeMap<i32, i32>,
}

impl Bench {
    pub(crate) async fn open() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", Uuid::new_v4()));
        let mut source = Source::create(&folder).await?;
        let table = TableBuilder::new("t").key("id", Type::Int).column("n", Type::Int).build();
        let ident = ident(&table.name);
        source.apply(&changeproof::script::Action::CreateTable(table).into()).await?;
        Ok(Self { folder, warehouse: source.warehouse().clone(), ident, rows: BTreeMap::new() })
    }

    /// A row in each.
    async fn of_three_files() -> Result<Self> {
        let mut bench = Self::open().await?;
        for id in 0..3 {
            bench.write(&[], BTreeMap::from([(id, id)])).await?;
        }
        Ok(bench)
    }

    /// As an upsert that doesn't know whether there are rows of these keys.
    pub(crate) async fn write(&mut self, gone: &[i32], come: BTreeMap<i32, i32>) -> Result<()> {
        let gone = gone.iter().chain(come.keys()).copied().collect();
        self.put(gone, come).await
    }

    /// A file of new rows, but for those of the keys that are written all the time.
    async fn write_large(&mut self, number: i32) -> Result<()> {
        let new = (1 + number) * LARGE_ROWS..(2 + number) * LARGE_ROWS;
        let come = KEYS.chain(new).map(incompressible).map(|(id, n)| (id, n.wrapping_add(number)));
        self.put(KEYS.collect(), come.collect()).await
    }

    async fn put(&mut self, gone: BTreeSet<i32>, come: BTreeMap<i32, i32>) -> Result<()> {
        self.rows.retain(|id, _| !gone.contains(id));
        self.rows.extend(&come);
        self.commit(&Upsert { gone, come }).await
    }

    pub(crate) async fn commit(&self, change: &dyn TableChange) -> Result<()> {
        self.warehouse.commit(&self.ident, change).await.map(drop)
    }

    pub(crate) async fn table(&self) -> Result<Table> {
        self.warehouse.table(&self.ident).await
    }

    async fn files(&self) -> Result<FileCounts> {
        let files = live_files(&self.table().await?).await?;
        let data = files.iter().filter(|file| is_data(file)).count();
        Ok(FileCounts { data: count(data), deletes: count(files.len() - data) })
    }

    /// By the scan here, by that of the `iceberg` crate, and by all changes that the changelog tells.
    async fn must_hold(&self) -> Result<()> {
        let table = self.table().await?;
        assert_eq!(by_key(&rows_of(&table).await?), self.rows, "the rows");
        // One file at a time: of two that wait for the same equality deletes one may miss that they have been read, and wait for ever
        // (`notified` is asked for after the state was looked at).
        let scan = table.scan().with_concurrency_limit(1);
        let scan = scan.build().while_doing(SERVICE, "scan")?.to_arrow().await.while_doing(SERVICE, "scan")?;
        let (mut scan, mut theirs) = (scan, Vec::new());
        while let Some(batch) = scan.next().await {
            theirs.extend(values::rows(&batch.while_doing(SERVICE, "scan")?)?);
        }
        assert_eq!(by_key(&theirs), self.rows, "by the scan of the `iceberg` crate");
        let (mut told, mut batches) = (BTreeMap::new(), ChangelogScan::new(&table).stream());
        while let Some(batch) = batches.next().await {
            for change in changes(&batch?, &crate::name_of(&self.ident))? {
                let before = by_key(change.before.as_slice());
                for (id, n) in &before {
                    assert_eq!(told.remove(id), Some(*n), "a row that wasn't there went");
                }
                told.extend(by_key(change.after.as_slice()));
                assert_ne!(change.op, Op::Truncate);
            }
        }
        assert_eq!(told, self.rows, "by the changelog");
        Ok(())
    }

    pub(crate) fn close(self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).while_doing("test", "clean up")
    }
}

pub(crate) fn by_key(rows: &[Row]) -> BTreeMap<i32, i32> {
    let int = |row: &Row, column| match row.get(column) {
        Some(Value::Int(number)) => i32::try_from(*number).ok(),
        _ => None,
    };
    let found: BTreeMap<i32, i32> = rows.iter().filter_map(|row| Some((int(row, "id")?, int(row, "n")?))).collect();
    assert_eq!(found.len(), rows.len(), "a key is there twice, or a row lacks a value");
    found
}

fn incompressible(id: i32) -> (i32, i32) {
    (id, id.wrapping_mul(-1_640_531_527))
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<i32>, Vec<(i32, i32)>),
    WriteLarge,
    Begin,
    Commit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || prop::collection::vec(KEYS, 1..4);
    let rows = prop::collection::vec((KEYS, any::<i32>()), 1..6);
    let step = prop_oneof![
        4 => (keys(), rows).prop_map(|(gone, come)| Step::Write(gone, come)),
        4 => keys().prop_map(|gone| Step::Write(gone, Vec::new())),
        2 => Just(Step::WriteLarge),
        3 => Just(Step::Begin),
        3 => Just(Step::Commit),
    ];
    prop::collection::vec(step, 1..30)
}

async fn run(steps: Vec<Step>) -> Result<()> {
    let mut bench = Bench::open().await?;
    let (mut begun, mut large) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Write(gone, come) => bench.write(&gone, come.into_iter().collect()).await?,
            Step::WriteLarge => {
                bench.write_large(large).await?;
                large += 1;
            }
            Step::Begin => begun.push(rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?),
            // Of several the oldest, so that later ones are overtaken.
            Step::Commit if !begun.is_empty() => {
                bench.commit(&begun.remove(0)).await?;
                bench.must_hold().await?;
            }
            Step::Commit => {}
        }
    }
    bench.must_hold().await?;
    let rewritten = rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?;
    bench.commit(&rewritten).await?;
    assert_eq!(bench.files().await?, rewritten.left);
    bench.must_hold().await?;
    bench.close()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn no_row_changes_whatever_is_written_meanwhile(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let ran = runtime.while_doing("test", "make a runtime").and_then(|runtime| runtime.block_on(run(steps)));
        ran.map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_stay_until_most_of_their_rows_are_deleted() -> Result<()> {
    let mut bench = Bench::open().await?;
    bench.write(&[], (0..LARGE_ROWS).map(incompressible).collect()).await?;
    let first = live_files(&bench.table().await?).await?;
    let is_there = async |bench: &Bench| {
        let now = live_files(&bench.table().await?).await?;
        let is_it = |file: &&LiveFile| is_data(file) && first.iter().any(|first| first.identity() == file.identity());
        Ok::<_, Error>(now.iter().any(|file| is_it(&file)))
    };
    for round in 0..5 {
        bench.write(&[2 * round], BTreeMap::from([(2 * round + 1, 7), (9, round)])).await?;
    }
    bench.commit(&rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?).await?;
    assert_eq!(bench.files().await?, FileCounts { data: 2, deletes: 1 });
    assert!(is_there(&bench).await?, "the large file was rewritten for a few deletes");
    bench.must_hold().await?;

    bench.write(&(0..LARGE_ROWS / 2).collect::<Vec<_>>(), BTreeMap::new()).await?;
    bench.commit(&rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?).await?;
    assert_eq!(bench.files().await?, FileCounts { data: 1, deletes: 0 });
    assert!(!is_there(&bench).await?, "half of a large file is deleted, and it stays");
    bench.must_hold().await?;
    bench.close()
}

/// Deletes the first row of a data file by its position.
struct FirstRow;

#[async_trait]
impl TableChange for FirstRow {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let files = live_files(table).await?;
        let Some(data) = files.iter().find(|file| is_data(file)) else { return Ok(None) };
        let added = vec![write_position_deletes(table, data, &[0].into_iter().collect()).await?];
        commit_by(&Manifests::new(table), &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_deleted_meanwhile_stay_deleted() -> Result<()> {
    let bench = Bench::of_three_files().await?;
    let rewritten = rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?;
    bench.commit(&FirstRow).await?;
    let (rows, files) = (rows_of(&bench.table().await?).await?, bench.files().await?);
    assert_eq!(rows.len(), 2);
    bench.commit(&rewritten).await?;
    assert_eq!((rows_of(&bench.table().await?).await?, bench.files().await?), (rows, files));
    bench.close()
}

/// Gives the table a column more.
struct AnotherColumn;

#[async_trait]
impl TableChange for AnotherColumn {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let metadata = table.metadata();
        let (schema, id) = (metadata.current_schema(), metadata.last_column_id() + 1);
        let new = NestedField::optional(id, "tags", PrimitiveType::String.into());
        let fields = schema.as_struct().fields().iter().cloned().chain([new.into()]);
        let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(schema.identifier_field_ids());
        with_schema(table, schema.build().while_doing(SERVICE, "make a schema")?).map(|(_, commit)| Some(commit))
    }
}

/// A reader takes a file for one that has the columns of the snapshot that it came with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_another_schema_are_not_put_in() -> Result<()> {
    let bench = Bench::of_three_files().await?;
    let rewritten = rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?;
    bench.commit(&AnotherColumn).await?;
    let files = bench.files().await?;
    bench.commit(&rewritten).await?;
    assert_eq!(bench.files().await?, files);
    bench.commit(&rewrite(&bench.table().await?, Extent::Below(SMALL_BELOW)).await?).await?;
    assert_eq!(bench.files().await?.data, 1);
    bench.close()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_there_is_not_removed_silently() -> Result<()> {
    let mut bench = Bench::open().await?;
    bench.write(&[], BTreeMap::from([(1, 1)])).await?;
    let table = bench.table().await?;
    let mut removed = live_files(&table).await?;
    removed.retain(is_data);
    let delta = FilesDelta { removed, ..FilesDelta::default() };
    bench.commit(&rewrite(&table, Extent::All).await?).await?;
    let told = commit_by(&Manifests::new(&bench.table().await?), &delta).await.map(drop);
    assert!(told.is_err_and(|error| error.to_string().contains("it is not in the table")));
    bench.close()
}
