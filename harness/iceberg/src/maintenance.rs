//! What operators do to tables: compaction, rollback, expiry, another partition spec.

use std::time::Duration;

use async_trait::async_trait;
use changeproof::{
    error::{Error, Result},
    schema::TableName,
};
use iceberg::{TableRequirement, TableUpdate, spec::Transform, table::Table};

use crate::{
    SERVICE,
    compaction::compact,
    expiry::{Retention, expire},
    snapshots::ancestors,
    source::{Source, ident, partition_spec},
    warehouse::{Commit, TableChange},
    writer::{is_current, to_main},
};

impl Source {
    /// Rewrites all data files of a table as one for each partition, and drops the delete files: what Spark's procedure
    /// `rewrite_data_files` does. See [`compact`].
    ///
    /// # Errors
    /// A file can't be read or written.
    pub async fn compact(&self, table: &TableName) -> Result<()> {
        compact(self.warehouse(), &ident(table)).await
    }

    /// Makes the snapshot so many commits before the present one the table's present one again.
    ///
    /// # Errors
    /// There were not as many.
    pub async fn roll_back(&self, table: &TableName, commits: usize) -> Result<()> {
        self.warehouse().commit(&ident(table), &Rollback { commits }).await.map(drop)
    }

    /// Drops all snapshots but the present one from the metadata. Their files stay.
    ///
    /// # Errors
    /// The catalog refuses.
    pub async fn expire(&self, table: &TableName) -> Result<()> {
        let all = Retention { max_age: Duration::ZERO, at_least: 1 };
        expire(self.warehouse(), &ident(table), all).await.map(drop)
    }

    /// Gives a table another partition spec, for files that are written from now on (specification, "Partition Evolution").
    ///
    /// # Errors
    /// The table has no such column.
    pub async fn repartition(&self, table: &TableName, column: &str, transform: Transform) -> Result<()> {
        let change = Repartition { column: column.to_owned(), transform };
        self.warehouse().commit(&ident(table), &change).await.map(drop)
    }
}

struct Rollback {
    commits: usize,
}

#[async_trait]
impl TableChange for Rollback {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let doing = || format!("roll the table {} back", table.identifier());
        let none = || Error::new(SERVICE, doing(), format!("it has no snapshot {} commits ago", self.commits));
        let current = table.metadata().current_snapshot().ok_or_else(none)?;
        let target = ancestors(table.metadata(), current).nth(self.commits).ok_or_else(none)?.snapshot_id();
        Ok(Some(Commit { requirements: vec![is_current(table)], updates: vec![to_main(target)] }))
    }
}

struct Repartition {
    column: String,
    transform: Transform,
}

#[async_trait]
impl TableChange for Repartition {
    async fn on(&self, table: &Table) -> Result<Option<Commit>> {
        let default_spec_id = table.metadata().default_partition_spec_id();
        let fields = [(self.column.clone(), self.transform)];
        let spec = partition_spec(table.metadata().current_schema(), default_spec_id + 1, &fields)?;
        let requirement = TableRequirement::DefaultSpecIdMatch { default_spec_id };
        let updates = vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }];
        Ok(Some(Commit { requirements: vec![requirement], updates }))
    }
}
