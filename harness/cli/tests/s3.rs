//! `cdc changes` on a table in object storage, as users run it.

use std::{
    error::Error,
    process::{Command, ExitCode},
};

use changeproof::{
    row,
    schema::Type,
    script::{Action, TableBuilder, TableRef},
    source::Source as _,
    stack::{Service, Stack, run_guard_if_asked},
};
use changeproof_iceberg::{RestSettings, S3Settings, Source, Warehouse, WriteMode};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    run_guard_if_asked();
    let trial = Trial::test("docker::a_table_in_s3_by_its_catalog_or_its_metadata_file", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(a_table_in_s3_by_its_catalog_or_its_metadata_file()).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// A table of somebody's in a bucket, by its catalog and by its metadata file alone.
async fn a_table_in_s3_by_its_catalog_or_its_metadata_file() -> Result<(), Box<dyn Error>> {
    let stack = Stack::acquire(&[Service::Minio, Service::IcebergRest]).await?;
    let (minio, rest) = (stack.endpoint(Service::Minio)?, stack.endpoint(Service::IcebergRest)?);
    let endpoint = format!("http://{}", minio.address());
    let uri = format!("http://{}", rest.address());
    let s3 = S3Settings {
        endpoint: Some(endpoint.clone()),
        access_key_id: Some(minio.user().to_owned()),
        secret_access_key: Some(minio.password.clone()),
        ..S3Settings::default()
    };
    let name = format!("changes_{}", uuid::Uuid::new_v4().simple());
    let warehouse =
        Warehouse::connect(&RestSettings { uri: uri.clone(), s3, ..RestSettings::default() }, Some(&name)).await?;
    let mut source = Source::in_warehouse(warehouse.clone()).await?;
    source.write_by(WriteMode::EqualityDeletes);
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
    let expected = [
        "+ customers 1  name: Ada",
        "+ customers 2  name: Bob",
        "~ customers 1  name: Ada → Ada Lovelace",
        "- customers 2  name: Bob",
    ];
    let ident = iceberg::TableIdent::from_strs(["public", "customers"])?;
    let metadata = warehouse.table(&ident).await?.metadata_location_result()?.to_owned();
    for arguments in [vec![format!("{name}__public.customers"), "--catalog".to_owned(), uri], vec![metadata]] {
        let output = Command::new(env!("CARGO_BIN_EXE_cdc"))
            .arg("changes")
            .args(&arguments)
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("AWS_ACCESS_KEY_ID", minio.user())
            .env("AWS_SECRET_ACCESS_KEY", &minio.password)
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all = String::from_utf8(output.stdout)?;
        let told: Vec<&str> = all.lines().filter(|line| !line.starts_with("snapshot ")).map(str::trim).collect();
        assert_eq!(told, expected, "{arguments:?}");
    }
    warehouse.remove().await?;
    Ok(())
}
