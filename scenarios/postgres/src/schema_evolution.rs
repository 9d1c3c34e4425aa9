//! Tables whose definition changes while they are captured. pgoutput tells of it only by the shape of the next row.

use crate::prelude::*;

/// A text becomes a number by an expression. Every row is rewritten, and none is delivered again: downstream the old
/// rows still hold texts.
#[scenario]
async fn change_text_to_int_by_using(s: &mut Scenario) -> Result<()> {
    let parts = s.create(table("parts").key("id", Int).column("code", Text)).await?;
    s.start_capture().await?;

    s.apply(parts.insert(row! { id: 1, code: "007" })).await?;
    s.apply(parts.insert(row! { id: 2, code: "42" })).await?;
    s.catch_up().await?;
    s.apply(parts.change_type_using("code", Int, "code::integer")).await?;
    s.apply(parts.update(1, row! { code: 8 })).await?;
    s.apply(parts.insert(row! { id: 3, code: 9 })).await?;

    s.judge_known_flaws(&[KnownFlaw::stops("spark", "the rows that are there can't follow")]).await
}

/// A definition that changes between the changes of one transaction: each row has the shape of its moment.
#[scenario]
async fn ddl_between_dml_in_one_transaction(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.transaction([
        customers.insert(row! { id: 1, name: "Ada" }),
        customers.add_column("email", Text),
        customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" }),
        customers.drop_column("name"),
        customers.update(1, row! { email: "ada@example.org" }),
    ])
    .await?;

    s.judge().await
}
