//! `cdc changes` on a table in object storage, as users run it.

use std::{
    error::Error,
    pin::Pin,
    process::{Command, ExitCode},
};

use changeproof::{
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    stack::{BUCKET, Endpoint, Service, Stack, run_guard_if_asked},
    warehouse::S3Settings,
};
use changeproof_delta::{Lake, use_s3};
use changeproof_iceberg::{RestSettings, Source, Warehouse, WriteMode};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    run_guard_if_asked();
    let trials = vec![
        trial("a_table_of_iceberg_by_its_catalog_or_its_metadata_file", || {
            Box::pin(a_table_of_iceberg_by_its_catalog_or_its_metadata_file())
        }),
        trial("a_table_of_delta_lake_by_its_folder", || Box::pin(a_table_of_delta_lake_by_its_folder())),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

type Answer<T> = Result<T, Box<dyn Error>>;

type Run = fn() -> Pin<Box<dyn Future<Output = Answer<()>>>>;

fn trial(name: &str, run: Run) -> Trial {
    Trial::test(format!("docker::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run()).map_err(|error| error.to_string().into())
    })
}

/// Some customers, and what happened to them.
async fn write(source: &mut dyn changeproof::source::Source) -> Answer<()> {
    let customers = TableBuilder::new("customers").key("id", Type::Int).column("name", Type::Text).build();
    let t = TableRef::new(&customers);
    for step in [
        Action::CreateTable(customers).into(),
        t.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }]),
        t.update(1, row! { name: "Ada Lovelace" }),
        t.delete(2),
    ] {
        source.apply(&step).await?;
    }
    Ok(())
}

const TOLD: [&str; 4] = [
    "+ customers 1  name: Ada",
    "+ customers 2  name: Bob",
    "~ customers 1  name: Ada → Ada Lovelace",
    "- customers 2  name: Bob",
];

/// What `cdc changes` prints, without its headings, with access to the bucket.
fn changes(arguments: &[String], minio: &Endpoint) -> Answer<Vec<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_cdc"))
        .arg("changes")
        .args(arguments)
        .env("AWS_ENDPOINT_URL", format!("http://{}", minio.address()))
        .env("AWS_ACCESS_KEY_ID", minio.user())
        .env("AWS_SECRET_ACCESS_KEY", &minio.password)
        .output()?;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let all = String::from_utf8(output.stdout)?;
    let is_heading = |line: &&str| line.starts_with("snapshot ") || line.starts_with("version ");
    Ok(all.lines().filter(|line| !is_heading(line)).map(|line| line.trim().to_owned()).collect())
}

/// A table of somebody's in a bucket, by its catalog and by its metadata file alone.
async fn a_table_of_iceberg_by_its_catalog_or_its_metadata_file() -> Answer<()> {
    let stack = Stack::acquire(&[Service::Minio, Service::IcebergRest]).await?;
    let (minio, rest) = (stack.endpoint(Service::Minio)?, stack.endpoint(Service::IcebergRest)?);
    let (uri, s3) = (format!("http://{}", rest.address()), S3Settings::of(minio));
    let name = format!("changes_{}", uuid::Uuid::new_v4().simple());
    let settings = RestSettings { uri: uri.clone(), s3, ..RestSettings::default() };
    let warehouse = Warehouse::connect(&settings, Some(&name)).await?;
    let mut source = Source::in_warehouse(warehouse.clone()).await?;
    source.write_by(WriteMode::EqualityDeletes);
    write(&mut source).await?;
    let ident = iceberg::TableIdent::from_strs(["public", "customers"])?;
    let metadata = warehouse.table(&ident).await?.metadata_location_result()?.to_owned();
    for arguments in [vec![format!("{name}__public.customers"), "--catalog".to_owned(), uri], vec![metadata]] {
        assert_eq!(changes(&arguments, minio)?, TOLD, "{arguments:?}");
    }
    warehouse.remove().await?;
    Ok(())
}

/// A table of somebody's in a bucket, by its folder.
async fn a_table_of_delta_lake_by_its_folder() -> Answer<()> {
    let stack = Stack::acquire(&[Service::Minio]).await?;
    let minio = stack.endpoint(Service::Minio)?;
    use_s3(&S3Settings::of(minio));
    let place = format!("s3://{BUCKET}/changes-{}", uuid::Uuid::new_v4().simple());
    let lake = Lake::in_bucket(&place)?;
    let mut source = changeproof_delta::Source::in_lake(lake.clone()).await?;
    write(&mut source).await?;
    assert_eq!(changes(&[format!("{place}/public/customers")], minio)?, TOLD);
    assert_eq!(
        changes(&[format!("{place}/public/customers"), "--net".to_owned()], minio)?,
        ["+ customers 1  name: Ada Lovelace"]
    );
    lake.remove().await?;
    Ok(())
}
