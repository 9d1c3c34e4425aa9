//! `cdc try` and `cdc changes` on tables of Iceberg and Delta Lake, as users run them. No container is needed.

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

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> TestResult<Self> {
        let folder = std::env::temp_dir().join(format!("changeproof-lakehouse-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cdc(folder: &Folder, arguments: &[&str]) -> TestResult<Output> {
    let mut cdc = Command::new(env!("CARGO_BIN_EXE_cdc"));
    // Where there is no engine, none can be needed.
    cdc.args(arguments).env("DOCKER_HOST", "unix:///nowhere").env("CHANGEPROOF_STATE_DIR", folder.0.join("state"));
    Ok(cdc.output()?)
}

fn tried(name: &str, sql: &str, arguments: &[&str]) -> TestResult<(Option<i32>, String, String)> {
    let folder = Folder::new(name)?;
    let file = folder.0.join("file.sql");
    std::fs::write(&file, sql)?;
    let file = file.to_string_lossy().into_owned();
    let output = cdc(&folder, &[&["try", &file][..], arguments].concat())?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

const BOTH: [&str; 4] = ["--on", "iceberg", "--on", "delta"];

#[test]
fn the_demo_shows_four_methods_side_by_side() -> TestResult {
    let demo =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/demo-lakehouse.sql"))?;
    let (code, told, errors) = tried("demo", &demo, &[&BOTH[..], &["--format", "json"]].concat())?;
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<serde_json::Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let verdicts: Vec<_> = lines.iter().filter(|line| line["type"] == "verdict").collect();
    let names: Vec<_> = verdicts.iter().filter_map(|verdict| verdict["method"].as_str()).collect();
    assert_eq!(names, ["changelog_scan", "manifest_diff", "change_data_feed", "version_diff"]);
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "as_guaranteed"), "{verdicts:?}");
    // What is here and gone again between two looks: the comparison of versions doesn't know of it, the others do.
    let told_of_dee = |method: &str| {
        let changes = lines.iter().filter(|line| line["type"] == "change" && line["method"] == method);
        changes.filter(|change| change["key"]["id"] == 4).map(|change| change["statement"].as_u64()).collect::<Vec<_>>()
    };
    for (method, statements) in [("changelog_scan", 2), ("change_data_feed", 2), ("version_diff", 0)] {
        assert_eq!(told_of_dee(method).len(), statements, "{method}");
    }
    assert_eq!(told_of_dee("changelog_scan"), [Some(5), Some(6)], "each under its own statement");
    Ok(())
}

#[test]
fn a_merge_meets_the_rows_that_are_there() -> TestResult {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, n numeric(6,2));\nINSERT INTO t VALUES (1, 1), (2, 2);\n-- poll\n\
        MERGE INTO t USING (VALUES (1, 1.5), (3, 3)) AS s (id, n) ON t.id = s.id\n\
        WHEN MATCHED THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n);\n-- poll\n\
        MERGE INTO t USING (VALUES (2)) AS s (id) ON s.id = t.id WHEN MATCHED THEN DELETE;";
    let (code, told, errors) = tried("merge", sql, &BOTH)?;
    assert_eq!(code, Some(0), "{errors}");
    for line in ["~ t 1  n: 1.00 → 1.50", "+ t 3  n: 3.00", "- t 2  n: 2.00"] {
        assert_eq!(told.matches(line).count(), 3, "{line} by three methods:\n{told}");
    }
    Ok(())
}

#[test]
fn what_a_script_can_not_express_is_said_with_its_line_before_anything_starts() -> TestResult {
    let create = "CREATE TABLE t (id int PRIMARY KEY, n int);\n\n";
    for (statement, problem) in [
        ("UPDATE t SET n = n + 1;", "`n + 1` is no literal value"),
        ("DELETE FROM t WHERE n > 3;", "not `n > 3`"),
        ("INSERT INTO t SELECT 1, 2;", "rows can only be given by VALUES"),
        ("INSERT INTO t VALUES (1, 2) ON CONFLICT DO NOTHING;", "only rows can be given here"),
        ("INSERT INTO t VALUES (1);", "there are 2 columns and 1 values"),
        ("INSERT INTO u VALUES (1);", "there is no table u"),
        ("UPDATE t SET m = 1;", "t has no column m"),
        ("CREATE TABLE u (id int REFERENCES t);", "can't be declared with"),
        ("CREATE TABLE u (id money);", "the type money is none of"),
        ("ALTER TABLE t ADD a int, ADD b int;", "one change at a time"),
        ("CREATE INDEX ON t (n);", "it is none of CREATE TABLE"),
        ("COMMIT;", "a transaction"),
        ("UPDATE;", "Expected"),
    ] {
        let (code, told, errors) = tried("refused", &format!("{create}{statement}"), &BOTH)?;
        assert_eq!(code, Some(2), "{statement}: {errors}");
        assert!(errors.contains("line 3: ") && errors.contains(problem), "{statement}: {errors}");
        assert_eq!(told, "", "{statement}");
    }
    Ok(())
}

#[test]
fn what_one_storage_refuses_is_told_and_the_rest_is_judged() -> TestResult {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, n int);\nINSERT INTO t VALUES (1, 2);\nALTER TABLE t RENAME COLUMN n TO m;";
    let (code, told, errors) = tried("rename", sql, &BOTH)?;
    assert_eq!(code, Some(2));
    assert!(
        errors.contains(":3: ")
            && errors.contains("only on the database that is captured by change_data_feed, version_diff"),
        "{errors}"
    );
    assert!(told.contains("changelog_scan  as guaranteed"), "{told}");
    Ok(())
}

/// A table of Delta Lake with an update, a delete and a column that came in between.
async fn delta_table(folder: &Folder) -> TestResult<String> {
    let lake = folder.0.join("lake");
    let mut source = changeproof_delta::Source::create(&lake).await?;
    let customers = TableBuilder::new("customers").key("id", Type::Int).column("name", Type::Text).build();
    let t = TableRef::new(&customers);
    for step in [
        Action::CreateTable(customers).into(),
        t.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }]),
        t.update(1, row! { name: "Ada Lovelace" }),
        t.add_column("email", Type::Text),
        t.update(1, row! { name: "Countess of Lovelace" }),
        t.delete(2),
    ] {
        source.apply(&step).await?;
    }
    Ok(lake.join("public/customers").to_string_lossy().into_owned())
}

fn changes(folder: &Folder, table: &str, arguments: &[&str]) -> TestResult<Vec<String>> {
    let output = cdc(folder, &[&["changes", table][..], arguments].concat())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_table_of_delta_lake() -> TestResult {
    let folder = Folder::new("changes")?;
    let table = delta_table(&folder).await?;
    let all = changes(&folder, &table, &[])?;
    let expected = [
        "+ customers 1  name: Ada",
        "+ customers 2  name: Bob",
        "~ customers 1  name: Ada → Ada Lovelace",
        "~ customers 1  name: Ada Lovelace → Countess of Lovelace  email: NULL",
        "- customers 2  name: Bob  email: NULL",
    ];
    assert_eq!(all, expected);
    assert_eq!(changes(&folder, &table, &["--from", "1", "--to", "2"])?, expected[2..3]);
    let net = changes(&folder, &table, &["--from", "1", "--net"])?;
    let expected =
        ["- customers 2  name: Bob  email: NULL", "~ customers 1  name: Ada → Countess of Lovelace  email: NULL"];
    assert_eq!(net, expected);
    assert_eq!(changes(&folder, &table, &["--to", "2099-01-01T00:00:00Z"])?.len(), 5, "all that was committed by then");

    let parquet = folder.0.join("changes.parquet").to_string_lossy().into_owned();
    changes(&folder, &table, &["--from", "3", "--format", "parquet", "--output", &parquet])?;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(std::fs::File::open(&parquet)?, 1024)?;
    let rows: usize = reader.map(|batch| batch.map(|batch| batch.num_rows())).sum::<Result<_, _>>()?;
    assert_eq!(rows, 3, "an update is two rows");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_of_a_table_of_delta_lake_is_said() -> TestResult {
    let folder = Folder::new("missing")?;
    let table = delta_table(&folder).await?;
    for (arguments, words) in [
        (&["--from", "yesterday"][..], "neither a version's number nor a time"),
        (&["--to", "2000-01-01T00:00:00Z"], "the table had no version yet"),
        (&["--to", "99"], "version"),
        (&["--files"], "Iceberg only"),
    ] {
        let output = cdc(&folder, &[&["changes", &table][..], arguments].concat())?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{arguments:?}: {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_follows_a_table_of_delta_lake() -> TestResult {
    use std::io::{BufRead, BufReader};

    let folder = Folder::new("tail")?;
    let table = delta_table(&folder).await?;
    let mut tail = Command::new(env!("CARGO_BIN_EXE_cdc"));
    tail.args(["changes", &table, "--from", "4", "--tail"]).stdout(std::process::Stdio::piped());
    let mut tail = tail.spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().ok_or("no output")?).lines();
    let mut next = || -> TestResult<String> {
        loop {
            let line = lines.next().ok_or("the tail ended")??;
            if line.starts_with("  ") {
                return Ok(line.trim().to_owned());
            }
        }
    };
    let first = next();
    let mut source = changeproof_delta::Source::attach(&folder.0.join("lake"))?;
    let customers = TableBuilder::new("customers").key("id", Type::Int).column("name", Type::Text).build();
    source.apply(&TableRef::new(&customers).insert(row! { id: 3, name: "Cyd", email: "c@example.org" })).await?;
    let second = next();
    tail.kill()?;
    tail.wait()?;
    assert_eq!(first?, "- customers 2  name: Bob  email: NULL");
    assert_eq!(second?, "+ customers 3  name: Cyd  email: c@example.org");
    Ok(())
}
