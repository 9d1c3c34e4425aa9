//! The Change Data Feed of a version (protocol, "Change Data Files").

use std::sync::Arc;

use arrow_array::{Array, cast::AsArray, types::TimestampMillisecondType};
use changeproof::{
    Change, Op, Row,
    change::{Position, TxId},
    error::{Context, Error, Result},
    schema::TableName,
};
use deltalake::datafusion::{physical_plan, prelude::SessionContext};

use crate::{
    SERVICE,
    tables::{Lake, columns_of, key_of},
    values,
};

/// The columns that the feed adds to the table's own.
const CHANGE_TYPE: &str = "_change_type";
const COMMIT_TIMESTAMP: &str = "_commit_timestamp";

/// What the feed says of one version: deletes, updates and inserts, by the table's columns at that version. The images of an
/// update are paired by the table's key; without one, or where the key itself changed, they are a delete and an insert.
///
/// # Errors
/// The feed was not enabled then, a file of it has been vacuumed, or the table can't be read by it.
pub async fn feed_of_version(lake: &Lake, name: &TableName, version: u64) -> Result<Vec<Change>> {
    let doing = || format!("read the change data feed of {name} at version {version}");
    // Of a table at a later version the feed has the later columns, with NULL in those that weren't there.
    let table = lake.at_version(name, version).await?;
    let (columns, key) = (columns_of(&table)?, key_of(&table)?);
    // delta-rs looks only at versions that change the table's metadata, and takes all other ones for a feed.
    let properties = table.snapshot().while_doing(SERVICE, doing())?.metadata().configuration();
    if properties.get("delta.enableChangeDataFeed").is_none_or(|enabled| !enabled.eq_ignore_ascii_case("true")) {
        return Err(Error::new(SERVICE, doing(), "the change data feed was not enabled for the table then")
            .help("set its property delta.enableChangeDataFeed, and read from the version on that follows"));
    }
    let session = SessionContext::new();
    let feed = table.scan_cdf().with_starting_version(version).with_ending_version(version);
    let plan = feed.build(&session.state(), None).await.while_doing(SERVICE, doing())?;
    let batches = physical_plan::collect(plan, session.task_ctx()).await.while_doing(SERVICE, doing())?;

    let (mut deletes, mut before, mut after, mut inserts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut commit_time_us = None;
    for batch in &batches {
        let column = |column: &str| {
            let missing = || Error::new(SERVICE, doing(), format!("the feed lacks its column {column}"));
            batch.column_by_name(column).ok_or_else(missing)
        };
        let own: Vec<usize> = columns.iter().filter_map(|(name, _)| batch.schema().index_of(name).ok()).collect();
        let rows = values::rows(&batch.project(&own).while_doing(SERVICE, doing())?)?;
        let (kinds, times) = (Arc::clone(column(CHANGE_TYPE)?), column(COMMIT_TIMESTAMP)?);
        if let Some(times) = times.as_primitive_opt::<TimestampMillisecondType>().filter(|times| !times.is_empty()) {
            commit_time_us = Some(times.value(0).saturating_mul(1000));
        }
        for (at, row) in rows.into_iter().enumerate() {
            match values::value(kinds.as_ref(), at)?.to_string().as_str() {
                "delete" => deletes.push(row),
                "insert" => inserts.push(row),
                "update_preimage" => before.push(row),
                "update_postimage" => after.push(row),
                other => return Err(Error::new(SERVICE, doing(), format!("it tells of an unknown change `{other}`"))),
            }
        }
    }

    let key_of = |row: &Row| row.project(key.iter().map(String::as_str));
    let change = |op, before: Option<Row>, after: Option<Row>| Change {
        key: after.as_ref().or(before.as_ref()).map(key_of).unwrap_or_default(),
        before,
        after,
        position: i64::try_from(version).ok().map(Position::Version),
        tx: Some(TxId(format!("{name}@{version}"))),
        commit_time_us,
        ..Change::new(op, name.clone())
    };
    let mut updates = Vec::new();
    for row in after {
        let same = |old: &Row| !key.is_empty() && key_of(old) == key_of(&row);
        match before.iter().position(same) {
            Some(at) => updates.push(change(Op::Update, Some(before.remove(at)), Some(row))),
            None => inserts.push(row),
        }
    }
    let deletes = deletes.into_iter().chain(before).map(|row| change(Op::Delete, Some(row), None));
    let inserts = inserts.into_iter().map(|row| change(Op::Insert, None, Some(row)));
    Ok(deletes.chain(updates).chain(inserts).collect())
}
