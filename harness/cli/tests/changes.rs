//! `cdc changes` as users run it, on a table that is there.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use changeproof::{
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
};
use changeproof_iceberg::{Source, WriteMode, open_table};

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

struct Table {
    folder: PathBuf,
    path: PathBuf,
    snapshots: Vec<i64>,
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn table() -> TestResult<Table> {
    let folder = std::env::temp_dir().join(format!("changeproof-changes-{}", std::process::id()));
    let folder = folder.join(format!("{:?}", std::thread::current().id()));
    let mut source = Source::create(&folder).await?;
    source.write_by(WriteMode::PositionDeletes);
    let customers = TableBuilder::new("customers").key("id", Type::Int).column("name", Type::Text).build();
    let t = TableRef::new(&customers);
    for step in [
        Action::CreateTable(customers).into(),
        t.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }]),
        t.update(1, row! { name: "Ada Lovelace" }),
        t.update(1, row! { name: "Countess of Lovelace" }),
        t.delete(2),
    ] {
        source.apply(&step).await?;
    }
    let path = folder.join("public/customers");
    let snapshots = open_table(&path).await?.metadata().history().iter().map(|entry| entry.snapshot_id).collect();
    Ok(Table { folder, path, snapshots })
}

fn cdc(table: &Path, arguments: &[&str]) -> TestResult<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_cdc")).arg("changes").arg(table).args(arguments).output()?)
}

fn lines(output: &Output) -> TestResult<Vec<String>> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout.clone())?.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_snapshot_or_the_difference_of_the_ends() -> TestResult {
    let table = table().await?;
    let all = lines(&cdc(&table.path, &[])?)?;
    let changes: Vec<&str> = all.iter().filter(|line| !line.starts_with("snapshot ")).map(|line| line.trim()).collect();
    let expected = [
        "+ customers 1  name: Ada",
        "+ customers 2  name: Bob",
        "~ customers 1  name: Ada → Ada Lovelace",
        "~ customers 1  name: Ada Lovelace → Countess of Lovelace",
        "- customers 2  name: Bob",
    ];
    assert_eq!(changes, expected);
    assert_eq!(all.len() - changes.len(), 4, "a heading for each snapshot");

    let first = table.snapshots[0].to_string();
    let net = lines(&cdc(&table.path, &["--from", &first, "--net"])?)?;
    let net: Vec<&str> = net.iter().skip(1).map(|line| line.trim()).collect();
    assert_eq!(net, ["- customers 2  name: Bob", "~ customers 1  name: Ada → Countess of Lovelace"]);

    let files = lines(&cdc(&table.path, &["--files"])?)?.join("\n");
    assert!(files.contains("rows: 0  added: 1 data file of 1, 1 position delete file of 1"), "{files}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_and_parquet_hold_the_same() -> TestResult {
    let table = table().await?;
    let json = lines(&cdc(&table.path, &["--format", "json"])?)?;
    let changes: Vec<serde_json::Value> =
        json.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    assert_eq!(changes.len(), 5);
    assert_eq!(changes[2]["op"], "update");
    assert_eq!(changes[2]["before"]["name"], "Ada");

    let file = table.folder.join("changes.parquet");
    let path = file.to_string_lossy().into_owned();
    lines(&cdc(&table.path, &["--format", "parquet", "--output", &path])?)?;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(std::fs::File::open(&file)?, 1024)?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let mut rows = 0;
    for batch in &batches {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 7, "an update is two rows");
    let names: Vec<String> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected = ["id", "name", "_change_type", "_change_ordinal", "_commit_snapshot_id", "_commit_timestamp"];
    assert_eq!(names, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_said_and_fails() -> TestResult {
    let table = table().await?;
    for (path, arguments, words) in [
        (Path::new("/nowhere"), &[][..], "name the folder that holds `metadata/`"),
        (&table.path, &["--from", "17"], "there is none; its history names"),
        (&table.path, &["--from", "yesterday"], "neither a snapshot's number nor a time"),
        (&table.path, &["--to", "2000-01-01T00:00:00Z"], "the table had no snapshot yet"),
        (&table.path, &["--format", "parquet"], "--output"),
    ] {
        let output = cdc(path, arguments)?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    Ok(())
}
