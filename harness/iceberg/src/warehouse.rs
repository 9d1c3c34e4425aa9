//! A warehouse: tables, and the catalog that says which metadata file is each table's present one.

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use changeproof::error::{Context, Error, Result};
use iceberg::{
    Catalog, CatalogBuilder, ErrorKind, MetadataLocation, NamespaceIdent, TableCreation, TableIdent, TableRequirement,
    TableUpdate,
    io::LocalFsStorageFactory,
    spec::{TableMetadata, TableMetadataBuildResult},
    table::Table,
};
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalog, SqlCatalogBuilder};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

use crate::{
    SERVICE,
    rest::{RestCommits, RestSettings},
};

/// The catalog's own name within its database.
const CATALOG: &str = "changeproof";

/// The file of a folder that its catalog is in.
const DATABASE: &str = "catalog.db";

/// The table property by which metadata files are removed that the present one no longer names as earlier ones.
pub const REMOVES_OLD_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// The table property that says how many earlier ones it names.
pub const OLD_METADATA: &str = "write.metadata.previous-versions-max";

/// How often a commit is tried again whose base has been overtaken by another writer's.
const ATTEMPTS: u32 = 20;

/// Tables with their catalog: in a folder with SQLite, or behind a REST catalog.
///
/// In a catalog that others use too, the names of all its namespaces begin with a root. Namespaces of several levels would do as
/// well, but some servers refuse them: Jetty takes the character that separates the levels in an address for an attack.
#[derive(Clone, Debug)]
pub struct Warehouse {
    catalog: Arc<dyn Catalog>,
    commits: Commits,
    root: Option<String>,
}

/// How a commit is made: the catalog's own client can't make one that isn't one of its actions.
#[derive(Clone, Debug)]
enum Commits {
    Sqlite(SqlitePool),
    Rest(RestCommits),
}

/// What a commit asks of the table and does to it.
#[derive(Debug, Default)]
pub struct Commit {
    /// What must still hold.
    pub requirements: Vec<TableRequirement>,
    /// What changes.
    pub updates: Vec<TableUpdate>,
}

/// A change of a table, made for what the table is now.
#[async_trait]
pub trait TableChange: Send + Sync {
    /// What to commit to the table; nothing if it is as it should be.
    ///
    /// # Errors
    /// The change can't be made.
    async fn on(&self, table: &Table) -> Result<Option<Commit>>;
}

impl Warehouse {
    /// Opens the warehouse in a folder, and makes it if there is none.
    ///
    /// # Errors
    /// The folder or the catalog's database can't be made or read.
    pub async fn open(folder: &Path) -> Result<Self> {
        let doing = || format!("open the warehouse {}", folder.display());
        std::fs::create_dir_all(folder).while_doing(SERVICE, doing())?;
        let folder = folder.canonicalize().while_doing(SERVICE, doing())?;
        let database = folder.join(DATABASE);
        let options = SqliteConnectOptions::new()
            .filename(&database)
            .create_if_missing(true)
            .busy_timeout(std::time::Duration::from_secs(30))
            .synchronous(sqlx::sqlite::SqliteSynchronous::Off);
        let pool = SqlitePool::connect_with(options).await.while_doing(SERVICE, doing())?;
        let properties = HashMap::from([
            ("uri".to_owned(), format!("sqlite:{}", database.display())),
            ("warehouse".to_owned(), format!("file://{}", folder.display())),
            ("sql_bind_style".to_owned(), SqlBindStyle::QMark.to_string()),
            ("pool.max-connections".to_owned(), "2".to_owned()),
        ]);
        let catalog: SqlCatalog = SqlCatalogBuilder::default()
            .with_storage_factory(Arc::new(LocalFsStorageFactory))
            .load(CATALOG, properties)
            .await
            .while_doing(SERVICE, doing())?;
        Ok(Self { catalog: Arc::new(catalog), commits: Commits::Sqlite(pool), root: None })
    }

    /// Whether there is one in a folder.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(DATABASE).is_file()
    }

    /// Opens a warehouse behind a REST catalog; the names of its namespaces begin with `root`, if that is given.
    ///
    /// # Errors
    /// The catalog doesn't answer.
    pub async fn connect(settings: &RestSettings, root: Option<&str>) -> Result<Self> {
        let catalog: Arc<dyn Catalog> = Arc::new(settings.catalog().await?);
        let commits = Commits::Rest(RestCommits::connect(settings).await?);
        Ok(Self { catalog, commits, root: root.map(|root| format!("{root}__")) })
    }

    /// The namespace as the catalog knows it.
    fn inner(&self, namespace: &NamespaceIdent) -> Result<NamespaceIdent> {
        let mut levels = namespace.clone().inner();
        if let (Some(root), Some(first)) = (&self.root, levels.first_mut()) {
            first.insert_str(0, root);
        }
        NamespaceIdent::from_vec(levels).while_doing(SERVICE, "name a namespace")
    }

    /// The namespace as this warehouse knows it, if it is one of its own.
    fn outer(&self, namespace: &NamespaceIdent) -> Option<NamespaceIdent> {
        let mut levels = namespace.clone().inner();
        if let (Some(root), Some(first)) = (&self.root, levels.first_mut()) {
            *first = first.strip_prefix(root.as_str())?.to_owned();
        }
        NamespaceIdent::from_vec(levels).ok()
    }

    /// The table's name as the catalog knows it.
    fn inner_ident(&self, ident: &TableIdent) -> Result<TableIdent> {
        Ok(TableIdent::new(self.inner(ident.namespace())?, ident.name().to_owned()))
    }

    async fn make_namespace(&self, namespace: &NamespaceIdent, doing: &str) -> Result<()> {
        if self.catalog.namespace_exists(namespace).await.while_doing(SERVICE, doing)? {
            return Ok(());
        }
        match self.catalog.create_namespace(namespace, HashMap::new()).await {
            // Another process was as quick.
            Err(error) if error.kind() == ErrorKind::NamespaceAlreadyExists => Ok(()),
            created => created.map(drop).while_doing(SERVICE, doing),
        }
    }

    /// Its namespaces, each as this warehouse and as the catalog knows it.
    async fn namespaces(&self, doing: &str) -> Result<Vec<(NamespaceIdent, NamespaceIdent)>> {
        let all = self.catalog.list_namespaces(None).await.while_doing(SERVICE, doing)?;
        Ok(all.into_iter().filter_map(|inner| Some((self.outer(&inner)?, inner))).collect())
    }

    /// The tables of all namespaces in the order of their names.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub async fn tables(&self) -> Result<Vec<TableIdent>> {
        let mut tables = Vec::new();
        let doing = "list the tables";
        for (outer, inner) in self.namespaces(doing).await? {
            let found = self.catalog.list_tables(&inner).await.while_doing(SERVICE, doing)?;
            tables.extend(found.into_iter().map(|ident| TableIdent::new(outer.clone(), ident.name().to_owned())));
        }
        tables.sort();
        Ok(tables)
    }

    /// A table as it is now.
    ///
    /// # Errors
    /// There is none, or its metadata can't be read: with the file's name.
    pub async fn table(&self, ident: &TableIdent) -> Result<Table> {
        let doing = || format!("load the table {ident}");
        let table = self.catalog.load_table(&self.inner_ident(ident)?).await.while_doing(SERVICE, doing())?;
        self.as_known(table, ident)
    }

    /// The table under the name that it has in this warehouse.
    fn as_known(&self, table: Table, ident: &TableIdent) -> Result<Table> {
        if self.root.is_none() {
            return Ok(table);
        }
        let location = table.metadata_location_result().while_doing(SERVICE, "load a table")?.to_owned();
        rebuilt(&table, ident, table.metadata().clone(), location)
    }

    /// Removes all tables and namespaces from a catalog that others use too, with their files.
    ///
    /// # Errors
    /// The catalog or the storage refuses.
    pub async fn remove(&self) -> Result<()> {
        let doing = "remove the warehouse";
        for ident in self.tables().await? {
            let table = self.table(&ident).await?;
            self.catalog.drop_table(&self.inner_ident(&ident)?).await.while_doing(SERVICE, doing)?;
            let folder = format!("{}/", table.metadata().location());
            table.file_io().delete_prefix(folder).await.while_doing(SERVICE, doing)?;
        }
        for (_, inner) in self.namespaces(doing).await? {
            self.catalog.drop_namespace(&inner).await.while_doing(SERVICE, doing)?;
        }
        Ok(())
    }

    /// Creates a table, and its namespace if need be.
    ///
    /// # Errors
    /// There is one of the name, or the catalog refuses.
    pub async fn create(&self, namespace: &str, mut creation: TableCreation) -> Result<Table> {
        let doing = format!("create the table {}", creation.name);
        let outer = NamespaceIdent::new(namespace.to_owned());
        let ident = TableIdent::new(outer.clone(), creation.name.clone());
        let namespace = self.inner(&outer)?;
        self.make_namespace(&namespace, &doing).await?;
        if let Commits::Rest(_) = &self.commits {
            // The request has no field for it: the server takes it from the properties, and doesn't keep it among them.
            let version = (creation.format_version as u8).to_string();
            creation.properties.insert("format-version".to_owned(), version);
        }
        let table = self.catalog.create_table(&namespace, creation).await.while_doing(SERVICE, doing)?;
        self.as_known(table, &ident)
    }

    /// Makes a commit on the table as it is, and again on what it has become if another writer was first.
    ///
    /// # Errors
    /// The change can't be made, or other writers were first too often.
    pub async fn commit(&self, ident: &TableIdent, change: &dyn TableChange) -> Result<Table> {
        for _ in 0..ATTEMPTS {
            let table = self.table(ident).await?;
            let Some(commit) = change.on(&table).await? else { return Ok(table) };
            if let Some(table) = self.swap(&table, commit).await? {
                return Ok(table);
            }
        }
        Err(Error::new(
            SERVICE,
            format!("commit to the table {ident}"),
            format!("other writers were first {ATTEMPTS} times"),
        )
        .help("write with fewer writers at a time"))
    }

    /// Makes the commit, if the table is still what it was made for (specification, "Optimistic Concurrency").
    async fn swap(&self, table: &Table, commit: Commit) -> Result<Option<Table>> {
        match &self.commits {
            Commits::Sqlite(pool) => swap_in_sqlite(pool, table, commit).await,
            Commits::Rest(commits) => {
                let inner = self.inner_ident(table.identifier())?;
                let Some((location, metadata)) = commits.commit(&inner, commit).await? else { return Ok(None) };
                rebuilt(table, table.identifier(), metadata, location).map(Some)
            }
        }
    }

    /// Gives a table another name.
    ///
    /// # Errors
    /// There is none of the old name, or one of the new.
    pub async fn rename(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        let renamed = self.catalog.rename_table(&self.inner_ident(from)?, &self.inner_ident(to)?).await;
        renamed.while_doing(SERVICE, format!("rename the table {from} to {to}"))
    }
}

/// Writes the next metadata file and makes it the table's, if its present one is still that which the commit was made for.
async fn swap_in_sqlite(pool: &SqlitePool, table: &Table, commit: Commit) -> Result<Option<Table>> {
    let ident = table.identifier();
    let doing = || format!("commit to the table {ident}");
    let base = table.metadata_location_result().while_doing(SERVICE, doing())?;
    for requirement in &commit.requirements {
        requirement.check(Some(table.metadata())).while_doing(SERVICE, doing())?;
    }
    let mut builder = table.metadata().clone().into_builder(Some(base.to_owned()));
    for update in commit.updates {
        builder = update.apply(builder).while_doing(SERVICE, doing())?;
    }
    let TableMetadataBuildResult { metadata, expired_metadata_logs, .. } =
        builder.build().while_doing(SERVICE, doing())?;
    let location: MetadataLocation = base.parse().while_doing(SERVICE, doing())?;
    let location = location.with_next_version().with_new_metadata(&metadata);
    metadata.write_to(table.file_io(), &location).await.while_doing(SERVICE, doing())?;
    let swap = "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
                WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ?";
    let swapped = sqlx::query(swap)
        .bind(location.to_string())
        .bind(base)
        .bind(CATALOG)
        .bind(ident.namespace().to_string())
        .bind(ident.name())
        .bind(base)
        .execute(pool)
        .await
        .while_doing(SERVICE, doing())?;
    if swapped.rows_affected() == 0 {
        return Ok(None);
    }
    if metadata.properties().get(REMOVES_OLD_METADATA).is_some_and(|is_set| is_set == "true") {
        for old in expired_metadata_logs {
            // The commit is made, and a file too many harms nobody.
            let _ = table.file_io().delete(&old.metadata_file).await;
        }
    }
    rebuilt(table, ident, metadata, location.to_string()).map(Some)
}

pub(crate) fn rebuilt(table: &Table, ident: &TableIdent, metadata: TableMetadata, location: String) -> Result<Table> {
    let rebuilt = Table::builder()
        .identifier(ident.clone())
        .file_io(table.file_io().clone())
        .metadata(metadata)
        .metadata_location(location)
        .runtime(iceberg::Runtime::try_current().while_doing(SERVICE, "use the runtime")?)
        .build();
    rebuilt.while_doing(SERVICE, "take up the new metadata")
}
