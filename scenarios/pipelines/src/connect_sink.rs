//! What is Iceberg's sink for Kafka Connect alone.

use scenarios_relational::prelude::*;

/// The sink's table as it is, taken for the source's: an insert, an update and a delete are three rows, for the sink only appends.
/// Options that promise upserts are ignored (apache/iceberg#17542). What repairs it is to look at the last row of each key, which all
/// other scenarios do.
#[scenario(only = "=connect_sink", why = "the others change rows")]
async fn append_only(s: &mut Scenario) -> Result<()> {
    let users = s.create(table("users").key("id", Int).column("name", Text)).await?;
    s.configure("view", "none");
    s.start_capture().await?;

    s.apply(users.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(users.insert(row! { id: 2, name: "Bob" })).await?;
    s.apply(users.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(users.delete(2)).await?;

    let (phantom, duplicated) = (FaultKind::Phantom, FaultKind::Duplicated);
    let kinds = [phantom, phantom, phantom, duplicated, duplicated, FaultKind::WrongState];
    s.judge_known_flaw("connect_sink", "https://github.com/apache/iceberg/issues/17542", &kinds).await
}
