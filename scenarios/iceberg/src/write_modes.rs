//! Merge-on-read: updates and deletes that leave data files as they are. Iceberg's own changelog scan refuses such tables.

use crate::prelude::*;

/// Position delete files name rows by file and place.
#[scenario]
async fn position_deletes(s: &mut Scenario) -> Result<()> {
    updates_and_deletes(s, WriteMode::PositionDeletes).await
}

/// Equality delete files name rows by their key, in whatever older file they are: what Flink writes. How many rows they
/// delete, or whether any, the metadata don't say.
#[scenario]
async fn equality_deletes(s: &mut Scenario) -> Result<()> {
    updates_and_deletes(s, WriteMode::EqualityDeletes).await
}

/// Format 3: one bitmap of deleted rows for each data file, in a Puffin file. A new bitmap takes the place of the old one, and
/// the rows that both hold went earlier.
#[scenario]
async fn deletion_vectors(s: &mut Scenario) -> Result<()> {
    updates_and_deletes(s, WriteMode::DeletionVectors).await
}

async fn updates_and_deletes(s: &mut Scenario, mode: WriteMode) -> Result<()> {
    lake(s)?.write_by(mode);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many((1..=6).map(|id| row! { id: id, name: "new" }))).await?;
    s.apply(customers.update(2, row! { name: "changed" })).await?;
    s.apply(customers.delete(3)).await?;
    s.apply(customers.update(2, row! { name: "changed again" })).await?;
    s.apply(customers.update(4, row! { id: 40 })).await?;
    s.apply(customers.delete(row! { name: "new" })).await?;
    s.apply(customers.truncate()).await?;

    s.judge().await
}

/// Equality deletes of a table without a key compare all columns: one of them deletes all rows that are the same.
#[scenario]
async fn equality_deletes_of_equal_rows(s: &mut Scenario) -> Result<()> {
    lake(s)?.write_by(WriteMode::EqualityDeletes);
    let clicks = s.create(table("clicks").column("page", Text).column("referrer", Text)).await?;
    s.start_capture().await?;

    s.apply(clicks.insert_many((0..3).map(|_| row! { page: "/" }))).await?;
    s.apply(clicks.insert_many([row! { page: "/", referrer: "a" }, row! { page: "/about" }])).await?;
    s.apply(clicks.delete(row! { page: "/", referrer: changeproof::Value::Null })).await?;
    s.apply(clicks.insert(row! { page: "/" })).await?;

    s.judge().await
}

/// An equality delete is for older files only: a row of the same key that comes later, or by the same commit, stays.
#[scenario]
async fn a_key_that_comes_back_after_an_equality_delete(s: &mut Scenario) -> Result<()> {
    lake(s)?.write_by(WriteMode::EqualityDeletes);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(one_commit([customers.delete(1), customers.insert(row! { id: 1, name: "Bob" })])).await?;
    s.apply(customers.delete(1)).await?;
    s.apply(customers.insert(row! { id: 1, name: "Cyd" })).await?;

    s.judge().await
}

/// A table that was written in all ways one after the other, as writers came and went.
#[scenario]
async fn all_ways_one_after_the_other(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many((1..=6).map(|id| row! { id: id, name: "new" }))).await?;
    lake(s)?.write_by(WriteMode::PositionDeletes);
    s.apply(customers.update(1, row! { name: "by position" })).await?;
    lake(s)?.write_by(WriteMode::EqualityDeletes);
    s.apply(customers.update(2, row! { name: "by equality" })).await?;
    s.apply(customers.delete(3)).await?;
    lake(s)?.write_by(WriteMode::CopyOnWrite);
    s.apply(customers.update(4, row! { name: "by copy" })).await?;
    lake(s)?.write_by(WriteMode::PositionDeletes);
    s.apply(customers.delete(1)).await?;
    lake(s)?.write_by(WriteMode::CopyOnWrite);
    s.apply(customers.delete(5)).await?;

    s.judge().await
}
