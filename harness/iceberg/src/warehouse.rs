//! A warehouse: tables in a folder, and the SQLite catalog that says which metadata file is each table's present one.

use std::{collections::HashMap, path::Path, sync::Arc};

use async_trait::async_trait;
use changeproof::error::{Context, Error, Result};
use iceberg::{
    Catalog, CatalogBuilder, ErrorKind, MetadataLocation, NamespaceIdent, TableCreation, TableIdent, TableRequirement,
    TableUpdate, io::LocalFsStorageFactory, spec::TableMetadata, table::Table,
};
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalog, SqlCatalogBuilder};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

use crate::SERVICE;

/// The catalog's own name within its database.
const CATALOG: &str = "changeproof";

/// How often a commit is tried again whose base has been overtaken by another writer's.
const ATTEMPTS: u32 = 20;

/// A folder of Iceberg tables with its catalog.
#[derive(Clone, Debug)]
pub struct Warehouse {
    catalog: Arc<SqlCatalog>,
    pool: SqlitePool,
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
        let database = folder.join("catalog.db");
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
        let catalog = SqlCatalogBuilder::default()
            .with_storage_factory(Arc::new(LocalFsStorageFactory))
            .load(CATALOG, properties)
            .await
            .while_doing(SERVICE, doing())?;
        Ok(Self { catalog: Arc::new(catalog), pool })
    }

    /// The catalog.
    pub fn catalog(&self) -> &dyn Catalog {
        self.catalog.as_ref()
    }

    /// The tables of all namespaces in the order of their names.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub async fn tables(&self) -> Result<Vec<TableIdent>> {
        let mut tables = Vec::new();
        let doing = "list the tables";
        for namespace in self.catalog.list_namespaces(None).await.while_doing(SERVICE, doing)? {
            tables.extend(self.catalog.list_tables(&namespace).await.while_doing(SERVICE, doing)?);
        }
        tables.sort();
        Ok(tables)
    }

    /// A table as it is now.
    ///
    /// # Errors
    /// There is none, or its metadata can't be read: with the file's name.
    pub async fn table(&self, ident: &TableIdent) -> Result<Table> {
        self.catalog.load_table(ident).await.while_doing(SERVICE, format!("load the table {ident}"))
    }

    /// Creates a table, and its namespace if need be.
    ///
    /// # Errors
    /// There is one of the name, or the catalog refuses.
    pub async fn create(&self, namespace: &str, creation: TableCreation) -> Result<Table> {
        let doing = format!("create the table {}", creation.name);
        let namespace = NamespaceIdent::new(namespace.to_owned());
        if !self.catalog.namespace_exists(&namespace).await.while_doing(SERVICE, &doing)? {
            let created = self.catalog.create_namespace(&namespace, HashMap::new()).await;
            match created {
                // Another process was as quick.
                Err(error) if error.kind() == ErrorKind::NamespaceAlreadyExists => {}
                created => created.map(drop).while_doing(SERVICE, &doing)?,
            }
        }
        self.catalog.create_table(&namespace, creation).await.while_doing(SERVICE, doing)
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

    /// Writes the next metadata file and makes it the table's, if its present one is still that which the commit was made for
    /// (specification, "Optimistic Concurrency").
    async fn swap(&self, table: &Table, commit: Commit) -> Result<Option<Table>> {
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
        let metadata = builder.build().while_doing(SERVICE, doing())?.metadata;
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
            .execute(&self.pool)
            .await
            .while_doing(SERVICE, doing())?;
        if swapped.rows_affected() == 0 {
            return Ok(None);
        }
        rebuilt(table, metadata, location.to_string()).map(Some)
    }

    /// Gives a table another name.
    ///
    /// # Errors
    /// There is none of the old name, or one of the new.
    pub async fn rename(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        self.catalog.rename_table(from, to).await.while_doing(SERVICE, format!("rename the table {from} to {to}"))
    }
}

fn rebuilt(table: &Table, metadata: TableMetadata, location: String) -> Result<Table> {
    let rebuilt = Table::builder()
        .identifier(table.identifier().clone())
        .file_io(table.file_io().clone())
        .metadata(metadata)
        .metadata_location(location)
        .runtime(iceberg::Runtime::try_current().while_doing(SERVICE, "use the runtime")?)
        .build();
    rebuilt.while_doing(SERVICE, "take up the new metadata")
}
