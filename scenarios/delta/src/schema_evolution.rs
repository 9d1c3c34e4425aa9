//! Changed definitions. The feed tells none: rows have the columns of their version.

use crate::prelude::*;

/// A column is added; rows of older files have no value for it.
#[scenario]
async fn add_a_nullable_column(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;
    s.catch_up().await?;
    s.apply(customers.add_column("email", Text)).await?;
    s.apply(customers.update(1, row! { email: "ada@example.org" })).await?;
    s.apply(customers.insert(row! { id: 3, name: "Cyd", email: "cyd@example.org" })).await?;

    s.judge().await
}

/// What delta-rs refuses: without column mapping a column is known by its name in each file, so it can be neither dropped nor
/// renamed; types are not widened; a new column must take NULL.
#[scenario]
async fn definitions_that_are_refused(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text).column("n", Int)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.refused(customers.drop_column("name"), "can't drop or rename").await?;
    s.refused(customers.rename_column("name", "full_name"), "can't drop or rename").await?;
    s.refused(customers.change_type("n", BigInt), "can't change a column's type").await?;
    s.refused(customers.add_column_not_null("status", Text, "open"), "it must take NULL").await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob" })).await?;

    s.judge().await
}
