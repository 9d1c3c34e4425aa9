//! Tables whose definition changes while they are captured. Many a method tells of it only by the shape of the next row.

use crate::prelude::*;

/// A new column that takes NULL appears with the next row; rows that are not touched keep their old shape downstream.
#[scenario]
async fn add_a_nullable_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.add_column("email", Text)).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge().await
}

/// A new column with a default fills existing rows in the catalogue, without a change of any row: they are stale
/// downstream until something else changes them.
/// Maxwell doesn't understand a default in parentheses, and ends.
#[scenario]
async fn add_a_column_not_null_with_a_default(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    s.apply(customers.add_column_not_null("tier", Text, "basic")).await?;
    s.apply(customers.update(2, row! { name: "Bobby" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd" })).await?;

    s.judge_known_flaws(&[KnownFlaw::stops("maxwell", "Error parsing SQL")]).await
}

/// A dropped column is gone from the next row on; nothing says that it was dropped.
#[scenario]
async fn drop_a_column(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("name", Text).column("fax", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada", fax: "1" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", fax: "2" })).await?;
    s.catch_up().await?;
    s.apply(customers.drop_column("fax")).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;

    let (kept, value) = ("scenarios/pipelines/README.md#what-each-loses", FaultKind::WrongValue);
    s.judge_known_flaw("connect_sink", kept, &[value, value]).await
}

/// A wider integer: the rows are rewritten, their values are not changed, and larger ones fit from then on.
#[scenario]
async fn widen_an_int_to_bigint(s: &mut Scenario) -> Result<()> {
    let meters = s.create(table("meters").key("id", Int).column("count", Int)).await?;
    s.start_capture().await?;

    s.apply(meters.insert(row! { id: 1, count: i32::MAX })).await?;
    s.catch_up().await?;
    s.apply(meters.change_type("count", BigInt)).await?;
    s.apply(meters.update(1, row! { count: i64::from(i32::MAX) + 1 })).await?;
    s.apply(meters.insert(row! { id: 2, count: i64::MAX })).await?;

    s.judge().await
}

/// A text without the limit it had. Its values stay what they were.
#[scenario]
async fn widen_a_varchar_to_text(s: &mut Scenario) -> Result<()> {
    let products = s.create(table("products").key("id", Int).column("name", Varchar(5))).await?;
    let too_long = s.say(Sql { postgres: "value too long", mysql: "Data too long" })?;
    s.start_capture().await?;

    s.apply(products.insert(row! { id: 1, name: "short" })).await?;
    s.refused(products.insert(row! { id: 2, name: "longer" }), too_long).await?;
    s.catch_up().await?;
    s.apply(products.change_type("name", Text)).await?;
    s.apply(products.insert(row! { id: 2, name: "longer than five" })).await?;

    s.judge().await
}

/// More digits behind the point. Existing values are rewritten with the new scale, which no change tells.
#[scenario]
async fn change_the_scale_of_a_numeric(s: &mut Scenario) -> Result<()> {
    let prices = table("prices").key("id", Int).column("amount", Numeric(Some((8, 2))));
    let prices = s.create(prices).await?;
    s.start_capture().await?;

    s.apply(prices.insert(row! { id: 1, amount: "9.99" })).await?;
    s.catch_up().await?;
    s.apply(prices.change_type("amount", Numeric(Some((12, 4))))).await?;
    s.apply(prices.insert(row! { id: 2, amount: "9.9999" })).await?;

    s.judge().await
}

/// A renamed column looks like a dropped one and a new one: to a pipeline by names, the rows that are not told again have lost its
/// value.
#[scenario]
async fn rename_a_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    s.apply(customers.rename_column("name", "full_name")).await?;
    s.apply(customers.update(1, row! { full_name: "Ada Lovelace" })).await?;

    let (lost, value) = ("scenarios/pipelines/README.md#what-each-loses", FaultKind::WrongValue);
    s.judge_known_flaws(&[KnownFlaw::of("spark", lost, &[value]), KnownFlaw::of("connect_sink", lost, &[value, value])])
        .await
}

/// A renamed table goes on under another name, and in Kafka in another topic; nothing says that it is the same table.
#[scenario]
async fn rename_a_table(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    s.apply(customers.rename_to("clients")).await?;
    let clients = customers.renamed("clients");
    s.apply(clients.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(clients.delete(2)).await?;

    s.judge().await
}

/// A table is renamed before its rows have been decoded. Debezium for PostgreSQL asks the catalogue of today for the key of
/// the table of yesterday, finds no such table, and sends its rows without a key. Its manual warns of this side channel for
/// changed keys. Debezium for MySQL keeps a history of definitions, and MySQL's log names the key itself.
#[scenario]
async fn rename_a_table_while_the_capture_lags(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;
    s.stop_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.rename_to("clients")).await?;
    s.apply(customers.renamed("clients").update(1, row! { name: "Ada Lovelace" })).await?;
    s.resume_capture().await?;

    let reference = "https://debezium.io/documentation/reference/3.5/connectors/postgresql.html";
    let kinds = [FaultKind::WrongKey, FaultKind::WrongState, FaultKind::WrongState];
    s.judge_known_flaws(&[KnownFlaw::of("debezium", reference, &kinds).on("PostgreSQL")]).await
}

/// What Debezium for PostgreSQL fills into a before-image for want of the value is what the catalogue says of the column
/// *now*: of a column that was dropped meanwhile it makes NULL, though it never took NULL.
#[scenario]
async fn drop_a_column_while_the_capture_lags(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).column_not_null_default("state", Text, "open");
    let orders = s.create(orders).await?;
    s.start_capture().await?;
    s.stop_capture().await?;

    s.apply(orders.insert(row! { id: 1, state: "paid" })).await?;
    s.apply(orders.delete(1)).await?;
    s.apply(orders.drop_column("state")).await?;
    s.resume_capture().await?;

    let reference = "https://debezium.io/documentation/reference/3.5/connectors/postgresql.html";
    let kinds = [FaultKind::WrongBeforeImage];
    s.judge_known_flaws(&[KnownFlaw::of("debezium", reference, &kinds).on("PostgreSQL")]).await
}

/// A column is dropped and another of its name but of another type is added: same name, nothing else in common.
#[scenario]
async fn drop_and_add_again_with_another_type(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("score", Text);
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, score: "high" })).await?;
    s.catch_up().await?;
    s.apply(customers.drop_column("score")).await?;
    s.apply(customers.add_column("score", Int)).await?;
    s.apply(customers.insert(row! { id: 2, score: 10 })).await?;
    s.apply(customers.update(1, row! { score: 20 })).await?;

    s.judge().await
}

/// All rows go after a column has come, and none is written in between.
#[scenario]
async fn add_a_column_and_truncate(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    s.start_capture().await?;

    s.apply(carts.insert(row! { id: 1, owner: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(carts.add_column("items", Int)).await?;
    s.apply(carts.truncate()).await?;
    s.apply(carts.insert(row! { id: 1, owner: "Bob", items: 3 })).await?;

    s.judge().await
}
