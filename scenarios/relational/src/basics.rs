//! Single rows: what every method must get right.

use changeproof::judge::FaultKind::{Lost, Phantom, WrongBeforeImage, WrongState, WrongValue};

use crate::prelude::*;

/// Insert, update and delete of one row, each a transaction of its own. What is told of the old row is what the log holds of
/// it: in PostgreSQL, by default, nothing for the update and the key for the delete; in MySQL the whole row.
#[scenario]
async fn insert_update_delete(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// NULL is a value, an empty text is another, and a column that a statement leaves out gets its default: the change
/// holds what was stored, not what was written.
#[scenario]
async fn nulls_and_defaults(s: &mut Scenario) -> Result<()> {
    let products = table("products")
        .key("id", Int)
        .column("name", Text)
        .column_default("stock", Int, 0)
        .column_default("price", Numeric(Some((8, 2))), 1)
        .column_default("active", Bool, true);
    let products = s.create(products.identity_full()).await?;
    s.start_capture().await?;

    s.apply(products.insert(row! { id: 1 })).await?;
    s.apply(products.insert(row! { id: 2, name: "", stock: None::<i32>, active: false })).await?;
    s.apply(products.update(1, row! { name: "NULL", price: None::<i32> })).await?;
    s.apply(products.update(2, row! { name: None::<&str>, stock: -5 })).await?;

    let reference = "Apicurio's converter writes a column's default in place of NULL (https://issues.apache.org/jira/browse/KAFKA-8713)";
    s.judge_known_flaw("avro", reference, &[WrongValue, WrongValue, WrongBeforeImage, WrongState]).await
}

/// Kafka Connect's JSON converter, left to its default, writes a column's default in place of its NULL: the one silent
/// falsification in a common setup. Both profiles here switch it off (`replace.null.with.default`); this is what happens if
/// nobody does.
#[scenario(only = "debezium", why = "the converter is Kafka Connect's")]
async fn nulls_replaced_by_the_converters_default(s: &mut Scenario) -> Result<()> {
    let products = table("products").key("id", Int).column_default("stock", Int, 10);
    let products = s.create(products).await?;
    s.configure("value.converter.replace.null.with.default", "true");
    s.start_capture().await?;

    s.apply(products.insert(row! { id: 1, stock: None::<i32> })).await?;
    s.apply(products.insert(row! { id: 2, stock: 5 })).await?;

    let reference = "https://issues.apache.org/jira/browse/KAFKA-8713";
    let kinds = &[WrongValue, WrongState];
    s.judge_known_flaws(&["debezium", "avro", "json_schema"].map(|method| KnownFlaw::of(method, reference, kinds)))
        .await
}

/// Names that need quotes: upper case, blanks, a quotation mark, a reserved word, letters outside ASCII. Debezium's topic
/// names can't hold all of them; the change still names the table as the catalogue does.
#[scenario]
async fn quoted_and_non_ascii_names(s: &mut Scenario) -> Result<()> {
    let streets = table("Straßen & Plätze").key("Nr.", Int).column("名前", Text);
    let streets = s.create(streets).await?;
    let order = s.create(table("order").key("select", Int).column("say \"hi\"", Text)).await?;
    s.start_capture().await?;

    s.apply(streets.insert(row! { "Nr.": 1, "名前": "東京" })).await?;
    s.apply(streets.update(1, row! { "名前": "大阪 🏯" })).await?;
    s.apply(order.insert(row! { "select": 1, "say \"hi\"": "it's" })).await?;
    s.apply(order.delete(1)).await?;

    let kinds = &[Phantom, Phantom, WrongValue, WrongBeforeImage, Lost, Lost, WrongState, WrongState];
    s.judge_known_flaw(
        "avro",
        "Debezium's manual, \"Avro naming\": what Avro allows in no name becomes an underscore",
        kinds,
    )
    .await
}
