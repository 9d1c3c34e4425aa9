//! The changes of a table of Delta Lake.

#[path = "parquet.rs"]
#[allow(clippy::duplicate_mod, reason = "each format of tables has a release of Arrow of its own")]
mod parquet_file;

use std::time::Duration;

use changeproof::{
    error::{Error, Result},
    schema::TableName,
    warehouse::S3Settings,
};
use changeproof_delta::{
    ChangeFeed, address_of, is_table, load_version, open_table, rows_between, use_s3, version_at, version_of,
};
use chrono::DateTime;
use deltalake::{DeltaTable, arrow::array::RecordBatch, parquet::arrow::ArrowWriter};
use futures_util::StreamExt;

use self::parquet_file::ParquetFile;
use super::{
    Arguments,
    output::{Output, moment_ms},
};

/// So long a tail waits before it looks for new versions again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether a folder in object storage is a table of Delta Lake.
pub(super) async fn is_in_bucket(address: &str) -> Result<bool> {
    use_s3(&S3Settings::from_environment());
    is_table(&address_of(address)?).await
}

/// Tells the changes that the arguments ask for.
pub(super) async fn tell(arguments: &Arguments) -> Result<()> {
    if arguments.files {
        return Err(Error::new("cdc", "tell the files that came and went", "it does so for Iceberg only")
            .help("leave --files out"));
    }
    let mut output = Output::new(arguments);
    use_s3(&S3Settings::from_environment());
    let table = open_table(address_of(&arguments.table)?).await?;
    let from = find(&table, arguments.from.as_deref()).await?;
    let to = find(&table, arguments.to.as_deref()).await?;
    let folder = table.table_url().path().trim_end_matches('/').rsplit('/').next().unwrap_or("table").to_owned();
    let name = TableName::from(folder.as_str());
    if arguments.net {
        return tell_net(arguments, &table, &name, from, to, &mut output).await;
    }
    let feed = from.into_iter().fold(ChangeFeed::of(&table), ChangeFeed::after);
    let feed = to.into_iter().fold(feed, ChangeFeed::up_to);
    let mut commits = if arguments.tail { feed.follow(LOOK_EVERY) } else { feed }.stream();
    let mut parquet = arguments.output.as_deref().map(ParquetFile::create).transpose()?;
    while let Some(commit) = commits.next().await {
        let commit = commit?;
        let version = commit.version();
        if let Some(parquet) = &mut parquet {
            for rows in commit.batches() {
                output.count(rows.num_rows());
                parquet.write(rows)?;
            }
            continue;
        }
        let heading = || {
            let time = commit.commit_time_us().and_then(DateTime::from_timestamp_micros);
            format!("version {version} · {}", time.map(|time| time.to_rfc3339()).unwrap_or_default())
        };
        for change in commit.changes(&name)? {
            output.change(i64::try_from(version).unwrap_or(i64::MAX), heading, &change)?;
        }
        output.flush()?;
    }
    parquet.map_or(Ok(()), ParquetFile::finish)
}

/// The difference of two versions, which needs no feed.
async fn tell_net(
    arguments: &Arguments,
    table: &DeltaTable,
    name: &TableName,
    from: Option<u64>,
    to: Option<u64>,
    output: &mut Output,
) -> Result<()> {
    if arguments.output.is_some() {
        return Err(Error::new(
            "cdc",
            "write the Parquet file",
            "--net tells changes of Delta Lake as text or JSON only",
        ));
    }
    let to = to.unwrap_or_else(|| version_of(table));
    let after = load_version(table, to).await?;
    let before = match from {
        Some(from) => Some(load_version(table, from).await?),
        None => None,
    };
    let since = from.map_or("its beginning".to_owned(), |from| format!("version {from}"));
    for change in rows_between(name, before.as_ref(), &after, true).await? {
        output.change(i64::try_from(to).unwrap_or(i64::MAX), || format!("version {to} since {since}"), &change)?;
    }
    output.flush()
}

/// A version by its number, or the present one of a moment.
async fn find(table: &DeltaTable, text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(version) => Ok(Some(version)),
        Err(_) => version_at(table, moment_ms(text, "version")?).await.map(Some),
    }
}
