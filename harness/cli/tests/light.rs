//! What a first `make demo` compiles stays light: Delta, Iceberg and datafusion are for those who ask for them.

use std::{error::Error, process::Command};

/// The crates that a package needs, as cargo says.
fn tree(package: &str, features: &[&str]) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", package]);
    command.args(features).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let output = command.output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

#[test]
fn neither_the_harness_nor_cdc_nor_postgres_needs_a_table_format() -> Result<(), Box<dyn Error>> {
    for package in ["changeproof", "changeproof-cli", "scenarios-postgres"] {
        let tree = tree(package, &[])?;
        assert!(tree.contains("tokio-postgres"), "{package} is light, but is it there?\n{tree}");
        for heavy in ["datafusion", "deltalake", "iceberg ", "parquet", "arrow-array"] {
            assert!(!tree.lines().any(|line| line.starts_with(heavy)), "{package} needs {heavy}");
        }
    }
    Ok(())
}

#[test]
fn iceberg_needs_no_datafusion() -> Result<(), Box<dyn Error>> {
    let tree = tree("changeproof-cli", &["--features", "iceberg"])?;
    assert!(tree.lines().any(|line| line.starts_with("iceberg ")));
    assert!(!tree.contains("datafusion"), "{tree}");
    Ok(())
}
