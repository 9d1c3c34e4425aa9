//! What identifies a row.

use crate::prelude::*;

/// A table without a primary key under the default replica identity can only be inserted into: PostgreSQL itself
/// refuses updates and deletes of a published table whose old rows it could not name.
#[scenario(only = "debezium, logical", why = "PostgreSQL refuses nothing where no publication is")]
async fn no_primary_key(s: &mut Scenario) -> Result<()> {
    let log = s.create(table("log").column("line", Text)).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { line: "same" })).await?;
    s.apply(log.insert(row! { line: "same" })).await?;
    let update = log.update(row! { line: "same" }, row! { line: "other" });
    s.refused(update, "does not have a replica identity and publishes updates").await?;
    let delete = log.delete(row! { line: "same" });
    s.refused(delete, "does not have a replica identity and publishes deletes").await?;

    s.judge_known_flaws(&[KnownFlaw::stops("spark", "public.log has no key")]).await
}
