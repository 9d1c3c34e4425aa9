//! What is the format's own: OPTIMIZE, RESTORE, VACUUM, partitions, the feed switched on late.

use crate::prelude::*;

/// OPTIMIZE rewrites files and changes no row; its commit says so (`dataChange` is false), and nothing is told.
#[scenario]
async fn optimize(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    lake(s)?.compact(customers.name()).await?;
    s.catch_up().await?;
    s.apply(customers.update(2, row! { name: "Bob Marley" })).await?;

    s.judge().await
}

/// Rows of a partitioned table; one moves to another partition.
#[scenario]
async fn partitioned_table(s: &mut Scenario) -> Result<()> {
    lake(s)?.partition_by(&["country"]);
    let customers = table("customers").key("id", Int).column("country", Text).column("name", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([
        row! { id: 1, country: "de", name: "Ada" },
        row! { id: 2, country: "de", name: "Bob" },
        row! { id: 3, country: "fr", name: "Cyd" },
    ]))
    .await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { country: "fr" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(3, row! { name: "Cyd Charisse" })).await?;
    s.apply(customers.delete(row! { country: "de" })).await?;

    s.judge().await
}

/// The name of a partition is part of its files' paths, blanks and all.
#[scenario(only = "version_diff", why = "delta-rs can't read its feed: feed_of_a_partition_with_a_blank_in_its_name")]
async fn partition_with_a_blank_in_its_name(s: &mut Scenario) -> Result<()> {
    lake(s)?.partition_by(&["country"]);
    let customers = s.create(table("customers").key("id", Int).column("country", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, country: "New Zealand" }, row! { id: 2, country: "São Tomé" }]))
        .await?;
    s.catch_up().await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// delta-rs encodes the path of such a file once more when it reads the feed, and doesn't find it. It says so.
#[scenario(only = "change_data_feed", why = "a comparison reads it: partition_with_a_blank_in_its_name")]
async fn feed_of_a_partition_with_a_blank_in_its_name(s: &mut Scenario) -> Result<()> {
    lake(s)?.partition_by(&["country"]);
    let customers = s.create(table("customers").key("id", Int).column("country", Text)).await?;
    s.start_capture().await?;
    s.apply(customers.insert(row! { id: 1, country: "New Zealand" })).await?;

    s.must_refuse_to_resume(&[("change_data_feed", "not found")]).await
}

/// VACUUM removes the files that only older versions need, those of the feed among them. A feed that wasn't read in time is
/// gone, and so is the version to compare with.
#[scenario]
async fn vacuum_before_the_feed_was_read(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(customers.update(1, row! { name: "Eve" })).await?;
    s.apply(customers.delete(2)).await?;
    lake(s)?.vacuum(customers.name()).await?;

    let words = "not found";
    s.must_refuse_to_resume(&[("change_data_feed", words), ("version_diff", words)]).await
}

/// The feed switched on in mid-life: from then on it is there.
#[scenario]
async fn feed_enabled_in_mid_life(s: &mut Scenario) -> Result<()> {
    lake(s)?.feed(false);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    lake(s)?.enable_feed(customers.name()).await?;
    s.start_capture().await?;

    s.apply(customers.update(1, row! { name: "Eve" })).await?;
    s.catch_up().await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// RESTORE makes an older version the present one, by a commit of its own.
#[scenario]
async fn restore(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    lake(s)?.restore(customers.name(), 1).await?;
    s.happened([customers.delete(2)])?;
    s.catch_up().await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge().await
}

/// A table without the feed: there is nothing to read, and that is an error and not an empty feed. A comparison needs none.
#[scenario(only = "change_data_feed", why = "a comparison of versions needs no feed")]
async fn table_without_the_feed(s: &mut Scenario) -> Result<()> {
    lake(s)?.feed(false);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;
    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;

    s.must_refuse_to_resume(&[("change_data_feed", "the change data feed was not enabled")]).await
}

/// Deletion vectors are enabled for a table: a delete may then mark rows in a file instead of writing the file anew. delta-rs goes
/// on to write files anew, which readers of the feed can't tell. (That it reads the feed of vectors that Spark has
/// written is compared with Spark in `tests/parity.rs`.)
#[scenario]
async fn deletion_vectors_enabled(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    lake(s)?.set_property(customers.name(), "delta.enableDeletionVectors", "true").await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.apply(customers.update(1, row! { name: "Eve" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// Column mapping gives the columns other names in the files than in the table, so that they can be renamed and dropped. delta-rs
/// refuses to write a table that has it (delta-io/delta-rs#930), and to read its feed.
#[scenario]
async fn column_mapping_is_refused(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;
    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    let mapped = lake(s)?.set_property(customers.name(), "delta.columnMapping.mode", "name").await;
    must_be_refused(mapped, "olumn")?;

    s.judge().await
}

fn must_be_refused(done: Result<()>, words: &str) -> Result<()> {
    match done {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(Error::new("delta-rs", "refuse column mapping", "it does as it is told now")),
    }
}
