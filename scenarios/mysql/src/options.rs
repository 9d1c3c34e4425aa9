//! Options of single methods: what each adds.

use crate::prelude::*;

/// Debezium can write each changed definition to a topic of its own (`include.schema.changes`), with the table's new shape. It is in
/// no transaction that is counted, and in another topic than the rows: only its identifier says where among them it stands.
#[scenario(only = "debezium", why = "the topic of definitions is an option of Debezium's")]
async fn schema_changes_in_a_topic_of_their_own(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.configure("include.schema.changes", "true");
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.add_column("email", Text)).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" })).await?;
    s.apply(customers.drop_column("name")).await?;
    s.apply(customers.rename_column("email", "address")).await?;
    s.apply(customers.change_type("address", Varchar(80))).await?;
    s.apply(customers.insert(row! { id: 3, address: "cyd@example.org" })).await?;
    s.apply(customers.rename_to("clients")).await?;
    s.apply(customers.renamed("clients").delete(1)).await?;

    s.judge().await
}
