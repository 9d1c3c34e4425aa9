//! A folder of Delta tables: `NAMESPACE/TABLE/_delta_log`.

use std::path::{Path, PathBuf};

use changeproof::{
    error::{Context, Error, Result},
    schema::TableName,
    value::Row,
};
use deltalake::{DeltaTable, DeltaTableBuilder, operations::collect_sendable_stream};
use url::Url;

use crate::{SERVICE, types::from_delta, values};

/// The table property that names the columns of a table's key: Delta itself has none.
pub(crate) const KEY_PROPERTY: &str = "changeproof.key";

/// A folder of Delta tables.
#[derive(Clone, Debug)]
pub struct Lake {
    folder: PathBuf,
}

impl Lake {
    /// The tables of a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path) -> Result<Self> {
        let doing = || format!("open the folder {}", folder.display());
        std::fs::create_dir_all(folder).while_doing(SERVICE, doing())?;
        Ok(Self { folder: folder.canonicalize().while_doing(SERVICE, doing())? })
    }

    /// Where a table is, or would be.
    ///
    /// # Errors
    /// Its name can't be a folder's.
    pub(crate) fn url(&self, name: &TableName) -> Result<Url> {
        let folder = self.folder.join(&name.schema).join(&name.name);
        Url::from_directory_path(&folder)
            .map_err(|()| Error::new(SERVICE, format!("find the table {name}"), "its name can't be a folder's"))
    }

    /// The names of the tables in their order.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn names(&self) -> Result<Vec<TableName>> {
        let doing = || format!("list the tables of {}", self.folder.display());
        let mut names = Vec::new();
        for namespace in std::fs::read_dir(&self.folder).while_doing(SERVICE, doing())? {
            let namespace = namespace.while_doing(SERVICE, doing())?;
            for table in std::fs::read_dir(namespace.path()).while_doing(SERVICE, doing())? {
                let table = table.while_doing(SERVICE, doing())?;
                if table.path().join("_delta_log").is_dir() {
                    let part = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                    names.push(TableName::new(part(&namespace), part(&table)));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// A table as it is now.
    ///
    /// # Errors
    /// There is none, or its log can't be read.
    pub async fn table(&self, name: &TableName) -> Result<DeltaTable> {
        let builder =
            DeltaTableBuilder::from_url(self.url(name)?).while_doing(SERVICE, format!("find the table {name}"))?;
        builder.load().await.while_doing(SERVICE, format!("load the table {name}"))
    }

    /// A table as it was.
    ///
    /// # Errors
    /// There is no such version any more, or not yet.
    pub async fn at_version(&self, name: &TableName, version: u64) -> Result<DeltaTable> {
        let doing = || format!("load version {version} of the table {name}");
        let builder = DeltaTableBuilder::from_url(self.url(name)?).while_doing(SERVICE, doing())?;
        builder.with_version(version).load().await.while_doing(SERVICE, doing())
    }
}

/// The version of a table that was loaded.
pub(crate) fn version_of(table: &DeltaTable) -> u64 {
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
