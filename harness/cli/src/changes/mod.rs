//! `cdc changes`: the changes of a table that is there already.

#[cfg(feature = "iceberg")]
mod iceberg;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, in a terminal
    Text,
    /// For programs: one change a line
    Json,
    /// A Parquet file: the rows with what happened to them in columns behind
    Parquet,
}

/// Prints the changes between two snapshots of a table of Apache Iceberg, with deletes by position, by value and by vector.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The table's folder, or a metadata file of it
    table: PathBuf,
    /// Only what was changed after this snapshot: its number, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "SNAPSHOT")]
    from: Option<String>,
    /// Only what was changed up to this snapshot and by it; the present one by default
    #[arg(long, value_name = "SNAPSHOT")]
    to: Option<String>,
    /// Tell the difference between the two ends alone, and not each commit
    #[arg(long)]
    net: bool,
    /// Tell which files came and went, from the metadata alone, and no rows
    #[arg(long, conflicts_with = "net")]
    files: bool,
    /// Go on with the commits to come, until Ctrl-C
    #[arg(long, conflicts_with_all = ["to", "net"])]
    tail: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Where to put the Parquet file
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    output: Option<PathBuf>,
}

/// Runs the command.
#[cfg(feature = "iceberg")]
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    iceberg::run(arguments).await
}

/// Says how to get the command.
#[cfg(not(feature = "iceberg"))]
#[expect(clippy::unused_async, reason = "the command itself is")]
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let table = arguments.table.display();
    Err(Failure::input(format!(
        "this `cdc` was built without Iceberg, so it can't read {table}\n  what to do: build it by `cargo build --package \
         changeproof-cli --features iceberg`"
    )))
}
