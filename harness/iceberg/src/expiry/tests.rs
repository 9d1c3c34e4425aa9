use std::path::{Path, PathBuf};

use iceberg::spec::ManifestContentType;
use proptest::prelude::*;

use super::*;
use crate::{
    compact,
    compaction::tests::{Bench, KEYS, by_key},
    source::read_rows,
    writer::to_main,
};

/// What a table must hold at each of its snapshots.
type Known = BTreeMap<i64, BTreeMap<i32, i32>>;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<i32>, Vec<(i32, i32)>),
    Compact,
    RollBack(usize),
    /// Names the present snapshot by one of a few tags, which may have been another's.
    Tag(u8),
    Branch(Option<i32>),
    /// Keeps at least so many.
    Expire(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = prop::collection::vec(KEYS, 0..3);
    let rows = prop::collection::vec((KEYS, any::<i32>()), 0..4);
    let step = prop_oneof![
        6 => (keys, rows).prop_map(|(gone, come)| Step::Write(gone, come)),
        2 => Just(Step::Compact),
        2 => (1..4_usize).prop_map(Step::RollBack),
        1 => (0..2_u8).prop_map(Step::Tag),
        1 => prop::option::of(1..3).prop_map(Step::Branch),
        2 => (1..4_usize).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 1..30)
}

struct Named(String, SnapshotRetention);

#[async_trait]
impl TableChange for Named {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let Some(snapshot_id) = table.metadata().current_snapshot_id() else { return Ok(None) };
        let reference = SnapshotReference::new(snapshot_id, self.1.clone());
        let updates = vec![TableUpdate::SetSnapshotRef { ref_name: self.0.clone(), reference }];
        Ok(Some(Commit { requirements: Vec::new(), updates }))
    }
}

struct BackTo(i64);

#[async_trait]
impl TableChange for BackTo {
    async fn on(&self, _: &Table) -> Result<Option<Commit>> {
        Ok(Some(Commit { requirements: Vec::new(), updates: vec![to_main(self.0)] }))
    }
}

async fn run(steps: Vec<Step>) -> Result<()> {
    let (mut bench, mut known) = (Bench::open().await?, Known::new());
    for step in steps {
        match step {
            Step::Write(gone, come) if gone.is_empty() && come.is_empty() => {}
            Step::Write(gone, come) => bench.write(&gone, come.into_iter().collect()).await?,
            Step::Compact => compact(&bench.warehouse, &bench.ident).await?,
            Step::RollBack(commits) => {
                let table = bench.table().await?;
                let current = table.metadata().current_snapshot();
                let mut line = current.into_iter().flat_map(|current| ancestors(table.metadata(), current));
                let Some(target) = line.nth(commits) else { continue };
                bench.commit(&BackTo(target.snapshot_id())).await?;
                bench.rows = known[&target.snapshot_id()].clone();
            }
            Step::Tag(number) => {
                let tag = Named(format!("tag-{number}"), SnapshotRetention::Tag { max_ref_age_ms: None });
                bench.commit(&tag).await?;
            }
            Step::Branch(at_least) => {
                bench.commit(&Named("branch".into(), SnapshotRetention::branch(at_least, None, None))).await?;
            }
            Step::Expire(at_least) => {
                let retention = Retention { max_age: Duration::ZERO, at_least };
                let expired = expire(&bench.warehouse, &bench.ident, retention).await?;
                let removed = expired.remove_files().await?;
                assert_eq!(removed.left, 0);
                must_be_whole(&bench, &known).await?;
            }
        }
        if let Some(current) = bench.table().await?.metadata().current_snapshot_id() {
            known.insert(current, bench.rows.clone());
        }
    }
    must_be_whole(&bench, &known).await?;
    bench.close()
}

/// Each snapshot that is there has its rows, and each file is one of theirs.
async fn must_be_whole(bench: &Bench, known: &Known) -> Result<()> {
    let table = bench.table().await?;
    let manifests = Manifests::new(&table);
    let mut reachable = BTreeSet::new();
    for snapshot in table.metadata().snapshots() {
        assert_eq!(by_key(&read_rows(&table, snapshot).await?), known[&snapshot.snapshot_id()]);
        reachable.insert(snapshot.manifest_list().to_owned());
        reachable.extend(manifests.list(snapshot).await?.into_iter().map(|manifest| manifest.manifest_path));
        for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
            let files = manifests.all(snapshot, content).await?;
            reachable.extend(files.into_iter().map(|file| file.file.file_path().to_owned()));
        }
    }
    let location = table.metadata().location().trim_start_matches("file://").to_owned();
    let mut there = BTreeSet::new();
    for folder in ["data", "metadata"] {
        there.extend(files_in(&Path::new(&location).join(folder))?);
    }
    there.retain(|path| !path.to_string_lossy().ends_with(".metadata.json"));
    let reachable: BTreeSet<PathBuf> =
        reachable.iter().map(|path| PathBuf::from(path.trim_start_matches("file://"))).collect();
    assert_eq!(there, reachable);
    Ok(())
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let doing = "list the files";
    let entries = std::fs::read_dir(folder).while_doing("test", doing)?;
    entries.map(|entry| Ok(entry.while_doing("test", doing)?.path())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_whole_and_no_file_is_left(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let ran = runtime.while_doing("test", "make a runtime").and_then(|runtime| runtime.block_on(run(steps)));
        ran.map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

/// The branch's snapshot and the one that expires last have a file in common, and nothing tells any more how they are related.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_branch_stays_when_what_led_there_has_expired() -> Result<()> {
    let write = |id| Step::Write(vec![], vec![(id, id)]);
    let (branch, expire) = (Step::Branch(Some(2)), Step::Expire(1));
    run(vec![write(0), write(1), branch, write(2), write(3), expire.clone(), Step::Compact, expire]).await
}

/// A table of five snapshots, and their numbers.
async fn of_five_snapshots() -> Result<(Bench, Vec<i64>)> {
    let (mut bench, mut ids) = (Bench::open().await?, Vec::new());
    for id in 0..5 {
        bench.write(&[], BTreeMap::from([(id, id)])).await?;
        ids.extend(bench.table().await?.metadata().current_snapshot_id());
    }
    Ok((bench, ids))
}

async fn left(bench: &Bench, retention: Retention) -> Result<BTreeSet<i64>> {
    let expired = expire(&bench.warehouse, &bench.ident, retention).await?;
    Ok(expired.table().metadata().snapshots().map(|snapshot| snapshot.snapshot_id()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn young_snapshots_and_tags_and_the_least_stay() -> Result<()> {
    let (bench, ids) = of_five_snapshots().await?;
    let all: BTreeSet<i64> = ids.iter().copied().collect();
    let an_hour = Retention { max_age: Duration::from_secs(3600), at_least: 1 };
    assert_eq!(left(&bench, an_hour).await?, all);
    bench.commit(&BackTo(ids[1])).await?;
    bench.commit(&Named("kept".into(), SnapshotRetention::Tag { max_ref_age_ms: None })).await?;
    bench.commit(&BackTo(ids[4])).await?;
    let at_once = |at_least| Retention { max_age: Duration::ZERO, at_least };
    assert_eq!(left(&bench, at_once(2)).await?, [ids[1], ids[3], ids[4]].into());
    assert_eq!(left(&bench, at_once(0)).await?, [ids[1], ids[4]].into());
    bench.close()
}

struct Properties(&'static [(&'static str, &'static str)]);

#[async_trait]
impl TableChange for Properties {
    async fn on(&self, _: &Table) -> Result<Option<Commit>> {
        let updates = self.0.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(Some(Commit { requirements: Vec::new(), updates: vec![TableUpdate::SetProperties { updates }] }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tables_own_properties_have_precedence() -> Result<()> {
    let (bench, ids) = of_five_snapshots().await?;
    let all: BTreeSet<i64> = ids.iter().copied().collect();
    let at_once = Retention { max_age: Duration::ZERO, at_least: 1 };
    bench.commit(&Properties(&[("history.expire.max-snapshot-age-ms", "3600000")])).await?;
    assert_eq!(left(&bench, at_once).await?, all);
    bench.commit(&Properties(&[("history.expire.max-snapshot-age-ms", "0"), ("gc.enabled", "false")])).await?;
    assert_eq!((left(&bench, at_once).await?, at_once.old(&bench.table().await?)), (all, 0));
    bench.commit(&Properties(&[("gc.enabled", "true"), ("history.expire.min-snapshots-to-keep", "3")])).await?;
    assert_eq!(left(&bench, at_once).await?, ids[2..].iter().copied().collect());
    bench.close()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_metadata_files_go_with_the_commits() -> Result<()> {
    let (bench, _) = of_five_snapshots().await?;
    let count = |table: &Table| {
        let folder = table.metadata().location().trim_start_matches("file://").to_owned() + "/metadata";
        let files = files_in(Path::new(&folder))?;
        Ok::<_, changeproof::error::Error>(
            files.iter().filter(|file| file.to_string_lossy().ends_with(".metadata.json")).count(),
        )
    };
    let before = count(&bench.table().await?)?;
    bench.commit(&Properties(&[(crate::REMOVES_OLD_METADATA, "true"), (crate::OLD_METADATA, "2")])).await?;
    // The present one and two others.
    assert_eq!((before, count(&bench.table().await?)?), (6, 3));
    bench.close()
}
