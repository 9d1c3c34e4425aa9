//! Tables that our own source doesn't write, and others do.

use async_trait::async_trait;
use changeproof::{
    Row,
    error::{Context, Result},
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
};
use futures_util::StreamExt;
use iceberg::{
    expr::{Predicate, Reference},
    spec::{Datum, Struct, Transform},
    table::Table,
};

use crate::{
    ChangelogScan, Commit, FilesDelta, Kind, LiveFile, Source, TableChange, WriteMode, ancestors, changes, commit_of,
    diff_files,
    files::Manifests,
    ident,
    reading::columns_of,
    write_rows,
    writer::{Partition, write_equality_deletes, write_position_deletes},
};

/// Adds rows and deletes one of them by position, all by one commit, as Flink does with a key that comes twice between two
/// checkpoints.
struct AddedAndDeleted;

#[async_trait]
impl TableChange for AddedAndDeleted {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let mut added = write_rows(table, &[row! { id: 1, name: "first" }, row! { id: 1, name: "second" }]).await?;
        let (file, spec_id) = added[0].clone();
        let data = LiveFile { file, sequence_number: 0, file_sequence_number: None, snapshot_id: 0, spec_id };
        added.push(write_position_deletes(table, &data, &[0].into_iter().collect()).await?);
        commit_of(table, &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_its_own_commit_deletes_never_came() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
    let mut source = Source::create(&folder).await?;
    let table = TableBuilder::new("t").key("id", Type::Int).column("name", Type::Text).build();
    let name = table.name.clone();
    source.apply(&Action::CreateTable(table).into()).await?;
    let table = source.warehouse().commit(&ident(&name), &AddedAndDeleted).await?;
    let mut told = Vec::new();
    let mut batches = ChangelogScan::new(&table).stream();
    while let Some(batch) = batches.next().await {
        told.extend(changes(&batch?, &name)?.into_iter().map(|change| (change.op, change.after)));
    }
    assert_eq!(told, [(changeproof::Op::Insert, Some(row! { id: 1, name: "second" }))]);
    std::fs::remove_dir_all(&folder).while_doing("test", "clean up")
}

/// Two writers race: each commits on what the other has left, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_race_lose_nothing() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
    let mut source = Source::create(&folder).await?;
    let table = TableBuilder::new("t").key("id", Type::Int).column("writer", Type::Int).build();
    let t = TableRef::new(&table);
    source.apply(&Action::CreateTable(table).into()).await?;
    let writer = |number: i32| {
        let (folder, t) = (folder.clone(), t.clone());
        async move {
            let mut source = Source::attach(&folder).await?;
            for id in 0..4 {
                source.apply(&t.insert(row! { id: number * 100 + id, writer: number })).await?;
                source.apply(&t.update(number * 100 + id, row! { writer: -number })).await?;
            }
            Ok::<(), changeproof::error::Error>(())
        }
    };
    let (first, second) = tokio::join!(tokio::spawn(writer(1)), tokio::spawn(writer(2)));
    first.while_doing("test", "write")??;
    second.while_doing("test", "write")??;
    let contents = source.contents().await?;
    let rows = contents.get(t.name()).map(|contents| contents.rows.clone()).unwrap_or_default();
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|row| matches!(row.get("writer"), Some(changeproof::Value::Int(-2 | -1)))), "{rows:?}");
    let table = source.warehouse().table(&ident(t.name())).await?;
    assert_eq!(table.metadata().snapshots().len(), 16, "each statement is a snapshot");
    std::fs::remove_dir_all(&folder).while_doing("test", "clean up")
}

/// How many changes a scan tells, of a predicate or of all.
async fn count(table: &Table, filter: Option<Predicate>) -> Result<usize> {
    let scan = filter.into_iter().fold(ChangelogScan::new(table), ChangelogScan::filter);
    let mut batches = scan.stream();
    let mut count = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        count += batch.after.or(batch.before).map_or(0, |rows| rows.num_rows());
    }
    Ok(count)
}

/// A file is taken for mostly the same as the one that took its place, and holds nothing of it: there isn't memory for that at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_all_changed_are_told_with_little_memory() -> Result<()> {
    const ROWS: i32 = 2000;
    let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
    let mut source = Source::create(&folder).await?;
    source.write_by(WriteMode::CopyOnWrite);
    let table = TableBuilder::new("t").key("id", Type::Int).column("n", Type::Int).build();
    let t = TableRef::new(&table);
    source.apply(&Action::CreateTable(table).into()).await?;
    source.apply(&t.insert_many((0..ROWS).map(|id| row! { id: id, n: 1 }))).await?;
    source.apply(&t.update(row! { n: 1 }, row! { n: 2 })).await?;
    let table = source.warehouse().table(&ident(t.name())).await?;
    let first = table.metadata().current_snapshot().and_then(|current| current.parent_snapshot_id());
    let mut batches = ChangelogScan::new(&table).after(first.unwrap_or_default()).memory_limit(20_000).stream();
    let (mut count, mut parts) = (0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        assert_eq!(batch.kind, Kind::Update);
        count += batch.after.map_or(0, |rows| rows.num_rows());
        parts += 1;
    }
    assert_eq!(i32::try_from(count), Ok(ROWS));
    assert!(parts > 1, "all were in memory at once");
    std::fs::remove_dir_all(&folder).while_doing("test", "clean up")
}

/// Two snapshots, of rows of a country each: files that can't match a filter need not even be there.
async fn pruned(is_partitioned: bool) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
    let mut source = Source::create(&folder).await?;
    if is_partitioned {
        source.partition_by(&[("country", Transform::Identity)]);
    }
    let table = TableBuilder::new("t").key("id", Type::Int).column("country", Type::Text).build();
    let t = TableRef::new(&table);
    source.apply(&Action::CreateTable(table).into()).await?;
    source.apply(&t.insert_many([row! { id: 1, country: "CH" }, row! { id: 2, country: "CH" }])).await?;
    source.apply(&t.insert(row! { id: 3, country: "SE" })).await?;
    source.apply(&t.insert_many([row! { id: 4, country: "CH" }, row! { id: 5, country: "CH" }])).await?;
    let table = source.warehouse().table(&ident(t.name())).await?;

    let current = table.metadata().current_snapshot().cloned();
    let snapshots: Vec<_> = current.iter().flat_map(|current| ancestors(table.metadata(), current)).collect();
    let sweden = diff_files(&table, Some(&snapshots[2]), &snapshots[1]).await?.added.remove(0);
    let path = |url: &str| url.trim_start_matches("file://").to_owned();
    std::fs::remove_file(path(sweden.file.file_path())).while_doing("test", "remove a data file")?;
    let by = |country: &str| Some(Reference::new("country").equal_to(Datum::string(country)));
    assert_eq!(count(&table, by("CH")).await?, 4);
    assert_eq!(count(&table, by("IT")).await?, 0);
    assert!(count(&table, by("SE")).await.is_err() && count(&table, None).await.is_err());

    // Partitions are told of manifests too.
    let manifests = Manifests::new(&table).list(&snapshots[0]).await?;
    let of_sweden = manifests.iter().find(|manifest| manifest.added_snapshot_id == snapshots[1].snapshot_id());
    let of_sweden = path(&of_sweden.map(|manifest| manifest.manifest_path.clone()).unwrap_or_default());
    std::fs::remove_file(of_sweden).while_doing("test", "remove a manifest")?;
    assert_eq!(count(&table, by("CH")).await.ok(), is_partitioned.then_some(4));

    let unknown = count(&table, Some(Reference::new("town").is_null())).await;
    assert!(unknown.is_err_and(|error| error.to_string().contains("town")));
    std::fs::remove_dir_all(&folder).while_doing("test", "clean up")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_match_a_filter_is_not_read() -> Result<()> {
    pruned(true).await?;
    pruned(false).await
}

/// Deletes the rows of the identifier 1 by value: in the partition of the first data file, or by the table's first spec.
struct DeletedByValue {
    is_global: bool,
}

#[async_trait]
impl TableChange for DeletedByValue {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let Some(current) = table.metadata().current_snapshot() else { return Ok(None) };
        let data = diff_files(table, None, current).await?.added;
        let partition =
            if self.is_global { Partition { values: Struct::empty(), spec_id: 0 } } else { Partition::of(&data[0]) };
        let schema = table.metadata().current_schema();
        let columns = columns_of(schema, &[schema.field_id_by_name("id").unwrap_or_default()])?;
        let added = vec![write_equality_deletes(table, &columns, &[row! { id: 1 }], &partition).await?];
        commit_of(table, &FilesDelta { added, ..FilesDelta::default() }).await.map(Some)
    }
}

/// The rows that an equality delete deletes of a table of two partitions that both hold the identifier.
async fn deleted_by_value(is_global: bool) -> Result<Vec<Option<Row>>> {
    let folder = std::env::temp_dir().join(format!("changeproof-iceberg-{}", uuid::Uuid::new_v4()));
    let mut source = Source::create(&folder).await?;
    let table = TableBuilder::new("t").key("id", Type::Int).column("country", Type::Text).build();
    let t = TableRef::new(&table);
    source.apply(&Action::CreateTable(table).into()).await?;
    source.repartition(t.name(), "country", Transform::Identity).await?;
    source.apply(&t.insert_many([row! { id: 1, country: "CH" }, row! { id: 1, country: "SE" }])).await?;
    let before = source.warehouse().table(&ident(t.name())).await?.metadata().current_snapshot_id();
    let table = source.warehouse().commit(&ident(t.name()), &DeletedByValue { is_global }).await?;
    let mut deleted = Vec::new();
    let mut batches = ChangelogScan::new(&table).after(before.unwrap_or_default()).stream();
    while let Some(batch) = batches.next().await {
        for change in changes(&batch?, t.name())? {
            assert_eq!(change.op, changeproof::Op::Delete);
            deleted.push(change.before);
        }
    }
    let contents = source.contents().await?;
    assert_eq!(contents.get(t.name()).map_or(0, |contents| contents.rows.len()), 2 - deleted.len());
    std::fs::remove_dir_all(&folder).while_doing("test", "clean up")?;
    Ok(deleted)
}

/// An equality delete file of a partition deletes there alone; one of an unpartitioned spec, everywhere (specification, "Scan
/// Planning").
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_equality_delete_is_of_its_partition() -> Result<()> {
    let of_one = deleted_by_value(false).await?;
    assert_eq!(of_one.len(), 1, "{of_one:?}");
    assert_eq!(deleted_by_value(true).await?.len(), 2);
    Ok(())
}
