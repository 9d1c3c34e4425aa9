//! Transforms of single messages between Debezium and its topics.

use changeproof::transforms::transforms;
use scenarios_relational::prelude::*;

/// People with an e-mail address and an age, in a region that doesn't change.
fn people() -> TableBuilder {
    table("people").key("id", Int).column("email", Text).column("age", Int).column("region", Text)
}

/// Some are inserted, one is updated and one deleted.
async fn live(s: &mut Scenario, people: &TableRef) -> Result<()> {
    s.apply(people.insert(row! { id: 1, email: "ada@example.org", age: 36, region: "EU" })).await?;
    s.apply(people.insert(row! { id: 2, email: "bob@example.org", age: 44, region: "US" })).await?;
    s.apply(people.insert(row! { id: 3, email: None::<&str>, age: None::<i32>, region: "EU" })).await?;
    s.apply(people.update(1, row! { age: 37 })).await?;
    s.apply(people.update(2, row! { age: 45 })).await?;
    s.apply(people.delete(2)).await
}

/// A column is told by another name, by `ReplaceField`.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn column_renamed_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().rename("email", "address"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.judge().await
}

/// A column is left out, by `ReplaceField`.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn column_dropped_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().drop("email"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.judge().await
}

/// Numbers are told as texts, by `Cast`.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn column_cast_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().to_text("age"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.judge().await
}

/// An e-mail address is masked, by `MaskField`: it never reaches Kafka.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn column_masked_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().mask("email", "***"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.judge().await
}

/// An e-mail address is hashed with a salt, by the connector itself: the same address has the same hash, so that rows can still be joined by it.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn column_hashed_by_the_connector(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().hash("email", "CzQMA0cB5K"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.apply(people.insert(row! { id: 4, email: "ada@example.org", age: 1, region: "EU" })).await?;
    s.judge().await
}

/// The rows of several tables go to one topic, by `RegexRouter`; each still says which table it is of.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn tables_routed_to_one_topic(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    let orders = s.create(table("orders").key("id", Int).column("of", Int)).await?;
    s.transform(transforms().route("all"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.transaction([orders.insert(row! { id: 1, of: 1 }), people.update(3, row! { age: 1 })]).await?;
    s.apply(orders.delete(1)).await?;
    s.judge().await
}

/// Several transforms, one after the other, and a column that comes later.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn several_transforms_and_a_new_column(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().rename("email", "address").to_text("age").drop("region"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.apply(people.add_column("phone", Text)).await?;
    s.apply(people.update(1, row! { phone: "555", age: 38 })).await?;
    s.judge().await
}

/// Records are filtered by what they hold, by Debezium's `Filter`. With REPLICA IDENTITY FULL a delete holds it too.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn rows_filtered_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people().identity_full()).await?;
    s.transform(transforms().only_rows_with("region", "EU"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.apply(people.delete(1)).await?;
    s.judge().await
}

/// Without it a delete holds the key alone, so that a filter leaves out all deletes: the rows stay wherever they have gone.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn deletes_filtered_by_a_transform(s: &mut Scenario) -> Result<()> {
    let people = s.create(people()).await?;
    s.transform(transforms().only_rows_with("region", "EU"));
    s.start_capture().await?;
    live(s, &people).await?;
    s.apply(people.delete(1)).await?;
    let reference = "Debezium's manual, \"Message Filtering\": a filter sees the record and not the row";
    s.judge_known_flaw("flat", reference, &[FaultKind::Lost, FaultKind::WrongState]).await
}

/// A row that goes out of what a filter lets through: that isn't told, and its last version stays.
#[scenario(only = "=flat", why = "only its records are transformed")]
async fn row_that_leaves_a_transforms_filter(s: &mut Scenario) -> Result<()> {
    let people = s.create(people().identity_full()).await?;
    s.transform(transforms().only_rows_with("region", "EU"));
    s.start_capture().await?;
    s.apply(people.insert(row! { id: 1, email: "ada@example.org", age: 36, region: "EU" })).await?;
    s.apply(people.update(1, row! { region: "US" })).await?;
    s.apply(people.insert(row! { id: 2, email: "bob@example.org", age: 44, region: "EU" })).await?;
    let reference = "Debezium's manual, \"Message Filtering\": a filter sees the record and not the row";
    s.judge_known_flaw("flat", reference, &[FaultKind::WrongState]).await
}
