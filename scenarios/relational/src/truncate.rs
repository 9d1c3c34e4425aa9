//! All rows at once.

use crate::prelude::*;

/// TRUNCATE is one event for the table, not one for each row. Debezium leaves it out unless `skipped.operations` is
/// set to `none`.
#[scenario]
async fn truncate_of_one_table(s: &mut Scenario) -> Result<()> {
    let carts = s.create(table("carts").key("id", Int).column("owner", Text)).await?;
    s.start_capture().await?;

    s.apply(carts.insert_many((1..=3).map(|id| row! { id: id, owner: "Ada" }))).await?;
    s.apply(carts.truncate()).await?;
    s.apply(carts.insert(row! { id: 1, owner: "Bob" })).await?;

    let kinds = [FaultKind::Phantom, FaultKind::Phantom, FaultKind::WrongState, FaultKind::WrongState];
    s.judge_known_flaw("connect_sink", "scenarios/pipelines/README.md#what-each-loses", &kinds).await
}
