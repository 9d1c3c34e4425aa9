//! Tables that are damaged: each time an error that names the file, never a panic, and never a feed that is only shorter.
//!
//! `CHANGEPROOF_FUZZ_SECONDS=600` damages metadata and manifests at random for so long; two seconds by default.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use changeproof::{
    error::{Context, Error, Result},
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
};
use changeproof_iceberg::{ChangelogScan, Source, WriteMode, changes, diff_files, open_table, snapshot};
use futures_util::StreamExt;

/// A folder with a table in it, removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A table with data files, position deletes and an equality delete.
async fn table() -> Result<(Folder, PathBuf)> {
    let folder = Folder(std::env::temp_dir().join(format!("changeproof-damaged-{}", uuid::Uuid::new_v4())));
    let mut source = Source::create(&folder.0).await?;
    let table = TableBuilder::new("t").key("id", Type::Int).column("name", Type::Text).build();
    let t = TableRef::new(&table);
    source.write_by(WriteMode::PositionDeletes);
    source.apply(&Action::CreateTable(table).into()).await?;
    source.apply(&t.insert_many((1..=100).map(|id| row! { id: id, name: format!("n{id}") }))).await?;
    source.apply(&t.update(7, row! { name: "changed" })).await?;
    source.write_by(WriteMode::EqualityDeletes);
    source.apply(&t.delete(8)).await?;
    let path = folder.0.join("public/t");
    Ok((folder, path))
}

async fn count(table: &Path) -> Result<usize> {
    let table = open_table(table).await?;
    let mut batches = ChangelogScan::new(&table).stream();
    let mut told = 0;
    while let Some(batch) = batches.next().await {
        told += changes(&batch?, &"t".into())?.len();
    }
    Ok(told)
}

/// Files of the table whose names end so, the oldest first.
fn files(table: &Path, folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let doing = "list the files";
    let mut files = Vec::new();
    for file in std::fs::read_dir(table.join(folder)).while_doing("test", doing)? {
        let file = file.while_doing("test", doing)?;
        if file.file_name().to_string_lossy().ends_with(ending) {
            files.push((file.metadata().and_then(|m| m.modified()).while_doing("test", doing)?, file.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn snapshots(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap-"))
}

/// Whether the scan fails and names the file.
async fn must_name(table: &Path, file: &Path, damage: &str) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match count(table).await {
        Ok(told) => Err(Error::new("the scan", format!("notice {damage} {name}"), format!("it told {told} changes"))),
        Err(error) if error.to_string().contains(&name) => Ok(()),
        Err(error) => Err(Error::new("the scan", format!("name {name}"), format!("it says of {damage}: {error}"))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_truncated_file_is_named() -> Result<()> {
    let (_folder, table) = table().await?;
    assert_eq!(count(&table).await?, 102);
    let lists = files(&table, "metadata", ".avro")?;
    for file in lists.iter().chain(&files(&table, "data", ".parquet")?) {
        let content = std::fs::read(file).while_doing("test", "read")?;
        std::fs::remove_file(file).while_doing("test", "remove")?;
        must_name(&table, file, "the lack of").await?;
        for part in [content.len() / 2, content.len() - 5, 1] {
            std::fs::write(file, &content[..part]).while_doing("test", "cut")?;
            must_name(&table, file, "a truncated").await?;
        }
        std::fs::write(file, &content).while_doing("test", "mend")?;
    }
    assert_eq!(count(&table).await?, 102, "all is mended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_is_no_json_or_of_a_newer_format_is_named() -> Result<()> {
    let (_folder, table) = table().await?;
    let file = files(&table, "metadata", ".metadata.json")?.pop().unwrap_or_default();
    let content = std::fs::read_to_string(&file).while_doing("test", "read")?;
    let newer = content.replace("\"format-version\":2", "\"format-version\":4");
    assert_ne!(newer, content);
    for (damage, wrong) in
        [("no JSON in", "no JSON".to_owned()), ("a newer format of", newer), ("emptiness of", String::new())]
    {
        std::fs::write(&file, wrong).while_doing("test", "write")?;
        must_name(&table, &file, damage).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_there_is_named_with_those_that_are() -> Result<()> {
    let (_folder, path) = table().await?;
    let table = open_table(&path).await?;
    let known = table.metadata().current_snapshot_id().unwrap_or_default().to_string();
    for scan in [ChangelogScan::new(&table).after(1), ChangelogScan::new(&table).up_to(1)] {
        let told = scan.stream().next().await;
        assert!(matches!(&told, Some(Err(error)) if error.to_string().contains(&known)), "{told:?}");
    }
    assert!(snapshot(&table, 1).is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_damage_is_an_error_or_does_no_harm() -> Result<()> {
    let seconds = std::env::var("CHANGEPROOF_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (_folder, table) = table().await?;
    let mut victims = files(&table, "metadata", ".avro")?;
    victims.extend(files(&table, "metadata", ".metadata.json")?.pop());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut seed: u64 = std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap_or(0) % below.max(1)
    };
    let (mut damaged, mut refused) = (0, 0);
    while Instant::now() < deadline {
        let file = &victims[next(victims.len())];
        let content = std::fs::read(file).while_doing("test", "read")?;
        let mut wrong = content.clone();
        for _ in 0..=next(4) {
            let at = next(wrong.len());
            wrong[at] = u8::try_from(next(256)).unwrap_or(0);
        }
        std::fs::write(file, &wrong).while_doing("test", "damage")?;
        // A changed number may well give another feed; what must not be is a panic, which ends the test.
        let read = count(&table).await;
        let diffed = match open_table(&table).await {
            Ok(table) => match table.metadata().current_snapshot() {
                Some(current) => diff_files(&table, None, current).await.map(drop),
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        std::fs::write(file, &content).while_doing("test", "mend")?;
        damaged += 1;
        refused += usize::from(read.is_err() || diffed.is_err());
    }
    println!(
        "{damaged} damages, {refused} of them refused; {} manifest lists",
        victims.iter().filter(|path| snapshots(path)).count()
    );
    assert!(refused * 4 > damaged, "damage is noticed: {refused} of {damaged}");
    Ok(())
}
