//! `cdc changes`: the changes of a table that is there already.

#[cfg(feature = "delta")]
mod delta;
#[cfg(feature = "iceberg")]
mod iceberg;
#[cfg(any(feature = "iceberg", feature = "delta"))]
mod output;

use std::path::{Path, PathBuf};

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

/// Prints the changes of a table of Apache Iceberg between two snapshots, with deletes by position, by value and by vector; or
/// those of a table of Delta Lake between two versions, as its Change Data Feed tells them.
#[derive(Args, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The table: its folder, or a metadata file of Iceberg's, on this machine or as s3://BUCKET/…; or its name in a catalog
    table: String,
    /// The REST catalog of Iceberg that knows the table as NAMESPACE.TABLE
    #[arg(long, value_name = "URI")]
    catalog: Option<String>,
    /// Which of the catalog's warehouses
    #[arg(long, value_name = "NAME", requires = "catalog")]
    warehouse: Option<String>,
    /// Only what was changed after this snapshot or version: its number, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "SNAPSHOT")]
    from: Option<String>,
    /// Only what was changed up to this snapshot or version and by it; the present one by default
    #[arg(long, value_name = "SNAPSHOT")]
    to: Option<String>,
    /// Tell the difference between the two ends alone, and not each commit
    #[arg(long)]
    net: bool,
    /// Tell which files came and went, from the metadata alone, and no rows; of Iceberg only
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

const AFTER_HELP: &str = "\
Access to S3 is taken from the variables that Amazon's own tools read: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, \
AWS_REGION, AWS_ENDPOINT_URL. A catalog's token is taken from ICEBERG_REST_TOKEN.";

/// A format of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Iceberg,
    Delta,
}

impl Arguments {
    /// What the table is: of Delta Lake if it has a folder `_delta_log`.
    async fn kind(&self) -> changeproof::error::Result<Kind> {
        let is_delta = match (&self.catalog, self.table.starts_with("s3://")) {
            (Some(_), _) => false,
            (None, true) => in_bucket_is_delta(&self.table).await?,
            (None, false) => Path::new(&self.table).join("_delta_log").is_dir(),
        };
        Ok(if is_delta { Kind::Delta } else { Kind::Iceberg })
    }
}

#[cfg(feature = "delta")]
async fn in_bucket_is_delta(address: &str) -> changeproof::error::Result<bool> {
    delta::is_in_bucket(address).await
}

/// Without the crate of Delta Lake nobody can look.
#[cfg(not(feature = "delta"))]
#[expect(clippy::unused_async, reason = "with the feature it is")]
async fn in_bucket_is_delta(_address: &str) -> changeproof::error::Result<bool> {
    Ok(false)
}

/// Runs the command.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.tail && arguments.format == Format::Parquet {
        return Err(Failure::input("a Parquet file has an end, and a tail has none: choose another format"));
    }
    let told = tokio::select! {
        told = tell(arguments) => told,
        // A tail has no other end, and what it has told is complete.
        () = crate::exit::interrupted() => return if arguments.tail { Ok(()) } else { Err(Failure::Interrupted) },
    };
    match told {
        Ok(told) => Ok(told.map_err(Failure::from)?),
        Err(feature) => Err(Failure::built_without(feature, &format!(", so it can't read {}", arguments.table))),
    }
}

/// Tells the changes, or the feature that it takes to do so.
async fn tell(arguments: &Arguments) -> Result<changeproof::error::Result<()>, &'static str> {
    let kind = match arguments.kind().await {
        Ok(kind) => kind,
        Err(error) => return Ok(Err(error)),
    };
    match kind {
        #[cfg(feature = "iceberg")]
        Kind::Iceberg => Ok(iceberg::tell(arguments).await),
        #[cfg(not(feature = "iceberg"))]
        Kind::Iceberg => Err("iceberg"),
        #[cfg(feature = "delta")]
        Kind::Delta => Ok(delta::tell(arguments).await),
        #[cfg(not(feature = "delta"))]
        Kind::Delta => Err("delta"),
    }
}
