//! What is the format's own: compaction, rollback, expiry, partitions.

use iceberg::spec::Transform;

use crate::prelude::*;

/// Compaction rewrites files and changes no row. Its snapshot says so (`replace`), and nothing is told.
#[scenario]
async fn compaction(s: &mut Scenario) -> Result<()> {
    lake(s)?.write_by(WriteMode::PositionDeletes);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.apply(customers.delete(1)).await?;
    lake(s)?.compact(customers.name()).await?;
    s.apply(customers.update(2, row! { name: "Bob Marley" })).await?;

    s.judge().await
}

/// A rollback makes an older snapshot the present one; no snapshot says that anything changed. The ancestry does: what the
/// rollback took back is told as one change of the table.
#[scenario]
async fn rollback_of_a_table(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    lake(s)?.roll_back(customers.name(), 2).await?;
    s.happened([customers.update(1, row! { name: "Ada" }), customers.delete(2)])?;
    s.catch_up().await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge().await
}

/// Snapshots that a stopped capture has not read yet expire. It must say so: what they changed can't be told any more.
#[scenario]
async fn snapshots_that_expired_meanwhile(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(customers.update(1, row! { name: "Eve" })).await?;
    s.apply(customers.delete(1)).await?;
    lake(s)?.expire(customers.name()).await?;

    let words = "it may have expired";
    s.must_refuse_to_resume(&[("changelog_scan", words), ("manifest_diff", words)]).await
}

/// Rows of a partitioned table; one moves to another partition, as a delete there and an insert here.
#[scenario]
async fn partitioned_table(s: &mut Scenario) -> Result<()> {
    lake(s)?.partition_by(&[("country", Transform::Identity)]);
    let customers = table("customers").key("id", Int).column("country", Text).column("name", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([
        row! { id: 1, country: "de", name: "Ada" },
        row! { id: 2, country: "de", name: "Bob" },
        row! { id: 3, country: "fr", name: "Cyd" },
    ]))
    .await?;
    s.apply(customers.update(1, row! { country: "fr" })).await?;
    s.apply(customers.update(3, row! { name: "Cyd Charisse" })).await?;
    s.apply(customers.delete(row! { country: "de" })).await?;

    s.judge().await
}

/// The same by equality deletes, which are of a partition: a key that moves is deleted in the old one.
#[scenario]
async fn partitioned_table_by_equality_deletes(s: &mut Scenario) -> Result<()> {
    lake(s)?.write_by(WriteMode::EqualityDeletes);
    lake(s)?.partition_by(&[("country", Transform::Identity)]);
    let customers = table("customers").key("id", Int).column("country", Text).column("name", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([
        row! { id: 1, country: "de", name: "Ada" },
        row! { id: 2, country: "de", name: "Bob" },
        row! { id: 3, country: "fr", name: "Cyd" },
    ]))
    .await?;
    s.apply(customers.update(1, row! { country: "fr" })).await?;
    s.apply(customers.update(3, row! { name: "Cyd Charisse" })).await?;
    s.apply(customers.delete(row! { country: "de" })).await?;

    s.judge().await
}

/// The partition spec changes: older files keep theirs, and deletes find rows in both.
#[scenario]
async fn partition_evolution(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("country", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, country: "de" }, row! { id: 2, country: "fr" }])).await?;
    lake(s)?.repartition(customers.name(), "country", Transform::Identity).await?;
    s.apply(customers.insert_many([row! { id: 3, country: "de" }, row! { id: 4, country: "fr" }])).await?;
    s.apply(customers.delete(row! { country: "de" })).await?;
    lake(s)?.repartition(customers.name(), "id", Transform::Bucket(4)).await?;
    s.apply(customers.update(2, row! { country: "it" })).await?;
    s.apply(customers.update(4, row! { country: "it" })).await?;

    s.judge().await
}
