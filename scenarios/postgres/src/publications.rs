//! Publications of a part of the database: what methods that read the log by pgoutput can be kept from seeing.

use crate::{prelude::*, tables::orders_by_year};

/// A publication with a row filter. A row that comes into it arrives as an insert, whatever it was; one that leaves it
/// arrives as a delete, although it is still there.
#[scenario(only = "=debezium, =logical", why = "only they read a publication")]
async fn publication_with_a_row_filter(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("region", Text).column("name", Text).identity_full();
    let customers = s.create(customers).await?;
    s.publish(publication().rows_where(&customers, "region", "EU")).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, region: "EU", name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, region: "US", name: "Bob" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.update(2, row! { name: "Bobby" })).await?;
    s.apply(customers.update(2, row! { region: "EU" })).await?;
    s.apply(customers.update(1, row! { region: "US" })).await?;
    s.apply(customers.delete(1)).await?;
    s.apply(customers.delete(2)).await?;

    s.judge().await
}

/// A publication with a column list. What isn't listed never leaves the database, and a column that is added later isn't.
#[scenario(only = "=debezium, =logical", why = "only they read a publication")]
async fn publication_with_a_column_list(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("name", Text).column("card_number", Text);
    let customers = s.create(customers).await?;
    s.publish(publication().columns(&customers, &["id", "name"])).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada", card_number: "4000 1234" })).await?;
    s.apply(customers.update(1, row! { card_number: "4000 5678" })).await?;
    s.apply(customers.add_column("phone", Text)).await?;
    s.apply(customers.update(1, row! { phone: "555", name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// A publication of some tables. A table that isn't in it, or is created later, is not captured, and nothing says so.
#[scenario(only = "=debezium, =logical", why = "only they read a publication")]
async fn publication_of_some_tables(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    let carts = s.create(table("carts").key("id", Int)).await?;
    s.publish(publication().table(&orders)).await?;
    s.start_capture().await?;

    s.transaction([orders.insert(row! { id: 1 }), carts.insert(row! { id: 1 })]).await?;
    let refunds = s.create(table("refunds").key("id", Int)).await?;
    s.apply(refunds.insert(row! { id: 1 })).await?;
    s.apply(orders.delete(1)).await?;

    s.judge().await
}

/// A publication by the root: changes bear the name of the partitioned table, so that who reads them need not know of
/// partitions. A row that moves to another one is still deleted and inserted.
#[scenario(only = "=debezium, =logical", why = "only they read a publication")]
async fn partitions_published_by_their_root(s: &mut Scenario) -> Result<()> {
    let (old, new) = orders_by_year(s).await?;
    s.publish(publication().root("orders", &[&old, &new])).await?;
    s.start_capture().await?;

    let first = old.insert(row! { id: 1, year: 2023, total: 10 });
    s.apply(raw("INSERT INTO orders VALUES (1, 2023, 10)", [first])).await?;
    let second = new.insert(row! { id: 2, year: 2024, total: 20 });
    s.apply(raw("INSERT INTO orders VALUES (2, 2024, 20)", [second])).await?;
    let moved = [old.delete((1, 2023)), new.insert(row! { id: 1, year: 2024, total: 10 })];
    s.apply(raw("UPDATE orders SET year = 2024 WHERE id = 1", moved)).await?;

    s.judge().await
}
