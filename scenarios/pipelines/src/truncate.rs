//! Tables that a sink hears of by a TRUNCATE.

use scenarios_relational::prelude::*;

/// A table is emptied before it has ever had a row. The sink hears of it by a record without a key; the rows that come then have one.
#[scenario(only = "=spark, =direct", why = "the sink has no way to tell it, and its table comes with the first row")]
async fn truncate_before_the_first_row(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    s.start_capture().await?;
    s.apply(carts.truncate()).await?;
    s.catch_up().await?;
    s.apply(carts.insert(row! { id: 1, owner: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(carts.update(1, row! { owner: "Bob" })).await?;
    s.judge().await
}
