//! A folder of Delta tables: `NAMESPACE/TABLE/_delta_log`.

use std::path::Path;

use changeproof::{
    error::{Context, Error, Result},
    schema::TableName,
    value::Row,
};
use chrono::DateTime;
use deltalake::{
    DeltaTable, DeltaTableBuilder,
    logstore::{ObjectStoreRef, store_for},
    operations::collect_sendable_stream,
};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use url::Url;

use crate::{SERVICE, types::from_delta, values};

/// The table property that names the columns of a table's key: Delta itself has none.
pub(crate) const KEY_PROPERTY: &str = "changeproof.key";

/// A folder of Delta tables, on this machine or in object storage.
#[derive(Clone, Debug)]
pub struct Lake {
    /// Ends in a slash.
    root: Url,
}

impl Lake {
    /// The tables of a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path) -> Result<Self> {
        let doing = || format!("open the folder {}", folder.display());
        std::fs::create_dir_all(folder).while_doing(SERVICE, doing())?;
        Ok(Self { root: folder_url(folder)? })
    }

    /// The tables below an address in object storage, `s3://BUCKET/…`, which [`use_s3`](crate::use_s3) has to have been told
    /// of.
    ///
    /// # Errors
    /// It is no address.
    pub fn in_bucket(address: &str) -> Result<Self> {
        Ok(Self { root: directory(address)? })
    }

    /// Where a table is, or would be.
    ///
    /// # Errors
    /// Its name can't be a folder's.
    pub(crate) fn url(&self, name: &TableName) -> Result<Url> {
        let doing = || format!("find the table {name}");
        let mut url = self.root.clone();
        let no_folder = |()| Error::new(SERVICE, doing(), "its name can't be a folder's");
        url.path_segments_mut().map_err(no_folder)?.pop_if_empty().extend([name.schema(), name.name(), ""]);
        Ok(url)
    }

    /// The names of the tables in their order.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn names(&self) -> Result<Vec<TableName>> {
        let doing = || format!("list the tables of {}", self.root);
        let store = store_of(&self.root)?;
        let below = async |folder: Option<&StorePath>| {
            let listed = store.list_with_delimiter(folder).await.while_doing(SERVICE, doing())?;
            Ok::<_, Error>(listed.common_prefixes)
        };
        let mut names = Vec::new();
        for namespace in below(None).await? {
            for table in below(Some(&namespace)).await? {
                if below(Some(&table)).await?.iter().any(|folder| folder.filename() == Some("_delta_log")) {
                    let part = |folder: &StorePath| folder.filename().unwrap_or_default().to_owned();
                    names.push(TableName::new(part(&namespace), part(&table)));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes all tables and whatever else there is.
    ///
    /// # Errors
    /// A file can't be removed.
    pub async fn remove(&self) -> Result<()> {
        let doing = || format!("remove the tables of {}", self.root);
        let store = store_of(&self.root)?;
        let files = store.list(None).map_ok(|file| file.location).boxed();
        let mut removed = store.delete_stream(files);
        while removed.try_next().await.while_doing(SERVICE, doing())?.is_some() {}
        Ok(())
    }

    /// A table as it is now.
    ///
    /// # Errors
    /// There is none, or its log can't be read.
    pub async fn table(&self, name: &TableName) -> Result<DeltaTable> {
        load(self.url(name)?, None, || format!("load the table {name}")).await
    }

    /// A table as it was.
    ///
    /// # Errors
    /// There is no such version any more, or not yet.
    pub async fn at_version(&self, name: &TableName, version: u64) -> Result<DeltaTable> {
        load(self.url(name)?, Some(version), || format!("load version {version} of the table {name}")).await
    }
}

/// Loads a table at a version, or as it is now.
pub(crate) async fn load(url: Url, version: Option<u64>, doing: impl Fn() -> String) -> Result<DeltaTable> {
    let builder = DeltaTableBuilder::from_url(url).while_doing(SERVICE, doing())?;
    let builder = version.into_iter().fold(builder, DeltaTableBuilder::with_version);
    builder.load().await.while_doing(SERVICE, doing())
}

/// Another version of a table.
///
/// # Errors
/// There is no such version any more, or not yet.
pub async fn load_version(table: &DeltaTable, version: u64) -> Result<DeltaTable> {
    let url = table.table_url().clone();
    load(url.clone(), Some(version), || format!("load version {version} of the table {url}")).await
}

/// Opens a table that somebody else has written, by its folder's address.
///
/// # Errors
/// There is none, or its log can't be read.
pub async fn open_table(url: Url) -> Result<DeltaTable> {
    let doing = format!("open the table {url}");
    load(url, None, || doing.clone()).await
}

/// The address of a table's folder: a path on this machine, or `s3://BUCKET/…`.
///
/// # Errors
/// There is no such folder on this machine, or it is no address.
pub fn address_of(place: &str) -> Result<Url> {
    if place.contains("://") { directory(place) } else { folder_url(Path::new(place)) }
}

fn directory(address: &str) -> Result<Url> {
    Url::parse(&format!("{}/", address.trim_end_matches('/')))
        .while_doing(SERVICE, format!("read the address {address}"))
}

fn folder_url(folder: &Path) -> Result<Url> {
    let doing = || format!("open the folder {}", folder.display());
    let folder = folder.canonicalize().while_doing(SERVICE, doing())?;
    Url::from_directory_path(&folder).map_err(|()| Error::new(SERVICE, doing(), "its name can't be a folder's"))
}

/// The storage of an address, below which all its paths are.
fn store_of(url: &Url) -> Result<ObjectStoreRef> {
    store_for(url, std::iter::empty::<(&str, &str)>()).while_doing(SERVICE, format!("reach {url}"))
}

/// Whether there is a table of Delta Lake at an address: it has a folder `_delta_log`.
///
/// # Errors
/// The storage can't be reached.
pub async fn is_table(url: &Url) -> Result<bool> {
    let doing = || format!("look for a table at {url}");
    let store = store_of(url)?;
    Ok(store.list(Some(&StorePath::from("_delta_log"))).try_next().await.while_doing(SERVICE, doing())?.is_some())
}

/// The last version of a table that was committed by a moment, in milliseconds since 1970 (UTC).
///
/// # Errors
/// The table had no version yet, or its log can't be read.
pub async fn version_at(table: &DeltaTable, time_ms: i64) -> Result<u64> {
    let doing = || format!("find the version of {}", table.table_url());
    let first = table.history(None).try_fold(i64::MAX, |first, commit| async move {
        Ok(commit.timestamp.map_or(first, |timestamp| first.min(timestamp)))
    });
    if time_ms < first.await.while_doing(SERVICE, doing())? {
        return Err(Error::new(SERVICE, doing(), "the table had no version yet"));
    }
    let time = DateTime::from_timestamp_millis(time_ms);
    let time = time.ok_or_else(|| Error::new(SERVICE, doing(), format!("{time_ms} is no moment")))?;
    let builder = DeltaTableBuilder::from_url(table.table_url().clone()).while_doing(SERVICE, doing())?;
    let then = builder.with_timestamp(time).load().await.while_doing(SERVICE, doing())?;
    Ok(version_of(&then))
}

/// The version of a table that was loaded.
pub fn version_of(table: &DeltaTable) -> u64 {
    table.version().unwrap_or(0)
}

/// A table's columns and their types.
///
/// # Errors
/// Its state was not loaded.
pub(crate) fn columns_of(table: &DeltaTable) -> Result<Vec<(String, changeproof::schema::Type)>> {
    let snapshot = table.snapshot().while_doing(SERVICE, "read the table's schema")?;
    let schema = snapshot.schema();
    Ok(schema.fields().map(|field| (field.name().clone(), from_delta(field.data_type()))).collect())
}

/// The columns of a table's key, as the property says.
///
/// # Errors
/// Its state was not loaded.
pub(crate) fn key_of(table: &DeltaTable) -> Result<Vec<String>> {
    let snapshot = table.snapshot().while_doing(SERVICE, "read the table's properties")?;
    let key = snapshot.metadata().configuration().get(KEY_PROPERTY).cloned();
    Ok(key.and_then(|key| serde_json::from_str(&key).ok()).unwrap_or_default())
}

/// All rows of a table.
///
/// # Errors
/// A file can't be read.
pub(crate) async fn rows_of(table: &DeltaTable) -> Result<Vec<Row>> {
    let doing = "read the table's rows";
    let (_, stream) = table.scan_table().await.while_doing(SERVICE, doing)?;
    let batches = collect_sendable_stream(stream).await.while_doing(SERVICE, doing)?;
    let rows = batches.iter().map(values::rows).collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().flatten().collect())
}
