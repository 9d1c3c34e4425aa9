//! All rows at once.

use crate::prelude::*;

/// Two tables truncated by one statement are two events of one transaction.
#[scenario]
async fn truncate_of_two_tables(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    let items = s.create(table("items").key("id", Int).column("sku", Text)).await?;
    s.start_capture().await?;

    s.apply(carts.insert(row! { id: 1, owner: "Ada" })).await?;
    s.apply(items.insert(row! { id: 1, sku: "A-1" })).await?;
    s.apply(changeproof::script::truncate(&[&carts, &items])).await?;
    s.apply(items.insert(row! { id: 2, sku: "B-2" })).await?;

    s.judge().await
}
