//! Changed definitions. Columns have numbers that stay, so that old files are read by new names and types. A schema is of the
//! metadata and not of a snapshot: it is seen with the next one.

use crate::prelude::*;

/// A column is added; rows of older files have no value for it, and are not written anew.
#[scenario]
async fn add_a_nullable_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.apply(customers.add_column("email", Text)).await?;
    s.apply(customers.update(1, row! { email: "ada@example.org" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd", email: "cyd@example.org" })).await?;

    s.judge().await
}

/// The column that is added is a list. Its field is none that the `iceberg` crate fills in for older files.
#[scenario]
async fn add_a_list_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }])).await?;
    s.apply(customers.add_column("tags", Array(Box::new(Text)))).await?;
    s.apply(customers.update(1, row! { tags: vec!["new", "paid"] })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// A column that doesn't take NULL needs a value for the rows that are there. Format 2 has no place for it.
#[scenario]
async fn add_a_not_null_column_in_format_2(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.refused(orders.add_column_not_null("status", Text, "open"), "needs a table of format 3").await?;
    s.apply(orders.insert(row! { id: 2 })).await?;

    s.judge().await
}

/// In format 3 the schema holds the value that rows of older files have.
#[scenario]
async fn add_a_not_null_column_in_format_3(s: &mut Scenario) -> Result<()> {
    lake(s)?.format(iceberg::spec::FormatVersion::V3);
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.apply(orders.add_column_not_null("status", Text, "open")).await?;
    s.apply(orders.update(1, row! { status: "paid" })).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;
    s.apply(orders.delete(2)).await?;

    s.judge().await
}

/// A column is dropped. It stays in older files, and nobody reads it there.
#[scenario]
async fn drop_a_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text).column("fax", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada", fax: "1" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", fax: "2" })).await?;
    s.apply(customers.drop_column("fax")).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// A renamed column keeps its number: rows of older files are told under the new name.
#[scenario]
async fn rename_a_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.apply(customers.rename_column("name", "full_name")).await?;
    s.apply(customers.update(1, row! { full_name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// A column is dropped and another of its name added: another number, so nothing of the old one is in it.
#[scenario]
async fn drop_and_add_again_with_another_type(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("score", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, score: "high" })).await?;
    s.apply(customers.insert(row! { id: 3, score: "low" })).await?;
    s.apply(customers.drop_column("score")).await?;
    s.apply(customers.add_column("score", Int)).await?;
    s.apply(customers.insert(row! { id: 2, score: 10 })).await?;
    s.apply(customers.update(1, row! { score: 20 })).await?;
    s.apply(customers.delete(3)).await?;

    s.judge().await
}

/// The promotions that the format has: int to bigint, real to double, more digits of a numeric.
#[scenario]
async fn widen_types(s: &mut Scenario) -> Result<()> {
    let readings = table("readings")
        .key("id", Int)
        .column("count", Int)
        .column("level", Real)
        .column("price", Numeric(Some((6, 2))));
    let readings = s.create(readings).await?;
    s.start_capture().await?;

    s.apply(readings.insert(row! { id: 1, count: 2_147_483_647, level: 0.5, price: "9999.99" })).await?;
    s.apply(readings.insert(row! { id: 2, count: 2, level: 1.5, price: "1.00" })).await?;
    s.apply(readings.change_type("count", BigInt)).await?;
    s.apply(readings.change_type("level", Double)).await?;
    s.apply(readings.change_type("price", Numeric(Some((12, 2))))).await?;
    s.apply(readings.update(1, row! { count: 2_147_483_648_i64, level: 1e300, price: "1234567890.12" })).await?;
    s.apply(readings.delete(2)).await?;

    s.judge().await
}

/// Other changes of a type are refused: a file is never read by a type that its values may not fit.
#[scenario]
async fn narrow_a_type(s: &mut Scenario) -> Result<()> {
    let readings = s.create(table("readings").key("id", Int).column("count", BigInt)).await?;
    s.start_capture().await?;

    s.apply(readings.insert(row! { id: 1, count: 1 })).await?;
    s.refused(readings.change_type("count", Int), "can't become").await?;
    s.refused(readings.change_type("count", Text), "can't become").await?;
    s.apply(readings.insert(row! { id: 2, count: 2 })).await?;

    s.judge().await
}

/// A table has another name in the catalog and is the same by its UUID.
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

/// Changed definitions under merge-on-read: an equality delete that was written by a column's old name and type still finds
/// its rows.
#[scenario]
async fn definitions_change_under_merge_on_read(s: &mut Scenario) -> Result<()> {
    lake(s)?.write_by(WriteMode::EqualityDeletes);
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert_many((1..=4).map(|id| row! { id: id, name: "new" }))).await?;
    s.apply(customers.delete(1)).await?;
    s.apply(customers.change_type("id", BigInt)).await?;
    s.apply(customers.rename_column("name", "full_name")).await?;
    s.apply(customers.delete(2)).await?;
    s.apply(customers.update(3, row! { full_name: "Cyd" })).await?;

    s.judge().await
}
