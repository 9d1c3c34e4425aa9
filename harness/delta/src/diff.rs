//! Two versions of a table compared: what went and what came, and nothing of what happened in between.

use std::collections::{BTreeMap, BTreeSet};

use changeproof::{
    Change, Op, Row, Value,
    change::Position,
    error::{Context, Error, Result},
    schema::TableName,
};
use deltalake::{DeltaTable, datafusion::prelude::SessionContext};
use futures_util::TryStreamExt;

use crate::{
    SERVICE,
    tables::{columns_of, key_of, rows_of, version_of},
    values,
};

/// How two versions of a table differ, by the later one's columns: deletes, updates if rows are known by the table's key, and
/// inserts. If no file is shared, this reads both versions whole.
///
/// # Errors
/// A file can't be read: it may have been vacuumed.
pub async fn rows_between(
    name: &TableName,
    before: Option<&DeltaTable>,
    after: &DeltaTable,
    keyed: bool,
) -> Result<Vec<Change>> {
    let key = if keyed { key_of(after)? } else { Vec::new() };
    let (old, new) = match before {
        Some(before) => own_rows(before, after).await?,
        None => (Vec::new(), rows_of(after).await?),
    };
    let columns: Vec<String> = columns_of(after)?.into_iter().map(|(column, _)| column).collect();
    let shaped = |row: Row| -> Row {
        let column = |column: &String| (column.clone(), row.get(column).cloned().unwrap_or(Value::Null));
        columns.iter().map(column).collect()
    };
    Ok(differ(name, &key_of(after)?, &key, old.into_iter().map(shaped), new.into_iter().map(shaped), version_of(after)))
}

/// The rows of the files that only one of two versions holds: a file that both hold is the same in both.
async fn own_rows(before: &DeltaTable, after: &DeltaTable) -> Result<(Vec<Row>, Vec<Row>)> {
    let files = async |table: &DeltaTable| -> Result<BTreeSet<(String, Option<String>)>> {
        let snapshot = table.snapshot().while_doing(SERVICE, "list the table's files")?;
        let log = table.log_store();
        let files = snapshot.snapshot().file_views(log.as_ref(), None).map_ok(|file| {
            // A file with another deletion vector is another to us.
            let vector = file.deletion_vector_descriptor().map(|vector| format!("{vector:?}"));
            (file.path().into_owned(), vector)
        });
        files.try_collect().await.while_doing(SERVICE, "list the table's files")
    };
    let (old, new) = (files(before).await?, files(after).await?);
    if old == new {
        return Ok((Vec::new(), Vec::new()));
    }
    let only = |these: &BTreeSet<(String, _)>, others: &BTreeSet<(String, _)>| -> BTreeSet<String> {
        these.difference(others).map(|(path, _)| path.clone()).collect()
    };
    Ok((rows_in(before, &only(&old, &new)).await?, rows_in(after, &only(&new, &old)).await?))
}

/// The rows of a table that are in some of its files.
async fn rows_in(table: &DeltaTable, files: &BTreeSet<String>) -> Result<Vec<Row>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let doing = "read some of the table's files";
    let session = SessionContext::new();
    table.update_datafusion_session(&session.state()).while_doing(SERVICE, doing)?;
    let urls = files.iter().map(|path| url_of(table, path)).collect::<Result<Vec<_>>>()?;
    let provider = table.table_provider().with_file_paths(urls).await.while_doing(SERVICE, doing)?;
    let rows = session.read_table(provider).while_doing(SERVICE, doing)?;
    let batches = rows.collect().await.while_doing(SERVICE, doing)?;
    Ok(batches.iter().map(values::rows).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A file's URL. Its path has the encoding that it bears on disk (`country=New%20Zealand`), which is not the URL's.
fn url_of(table: &DeltaTable, path: &str) -> Result<String> {
    let mut url = table.table_url().clone();
    let no_folder = || Error::new(SERVICE, "name a file of the table", format!("{} is no folder", table.table_url()));
    url.path_segments_mut().map_err(|()| no_folder())?.pop_if_empty().extend(path.split('/'));
    Ok(url.to_string())
}

fn differ(
    name: &TableName,
    full_key: &[String],
    key: &[String],
    old: impl Iterator<Item = Row>,
    new: impl Iterator<Item = Row>,
    version: u64,
) -> Vec<Change> {
    let content = |row: &Row| -> Vec<(String, Value)> {
        let known_by = if key.is_empty() { row.clone() } else { row.project(key.iter().map(String::as_str)) };
        known_by.canonical().into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect()
    };
    let mut gone: BTreeMap<Vec<(String, Value)>, Vec<Row>> = BTreeMap::new();
    for row in old {
        gone.entry(content(&row)).or_default().push(row);
    }
    let change = |op, before: Option<Row>, after: Option<Row>| Change {
        key: after
            .as_ref()
            .or(before.as_ref())
            .map(|row| row.project(full_key.iter().map(String::as_str)))
            .unwrap_or_default(),
        before,
        after,
        position: i64::try_from(version).ok().map(Position::Version),
        ..Change::new(op, name.clone())
    };
    let mut came = Vec::new();
    for row in new {
        match gone.get_mut(&content(&row)).and_then(Vec::pop) {
            Some(old) if old == row => {}
            Some(old) => came.push(change(Op::Update, Some(old), Some(row))),
            None => came.push(change(Op::Insert, None, Some(row))),
        }
    }
    let deletes = gone.into_values().flatten().map(|row| change(Op::Delete, Some(row), None));
    deletes.chain(came).collect()
}
