//! Single rows: what every method must get right.

use changeproof::Value;

use crate::prelude::*;

/// Insert, update and delete of one row, each a transaction of its own. Under the default replica identity the log
/// holds no old row for the update and only the key for the delete.
#[scenario]
async fn insert_update_delete(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// The same under REPLICA IDENTITY FULL: the log holds whole old rows, so nothing is lost.
#[scenario]
async fn insert_update_delete_identity_full(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("name", Text).identity_full();
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.delete(1)).await?;

    s.judge().await
}

/// Debezium's before-image of a deleted row holds the key only, under the default replica identity; the other columns it
/// fills: with NULL, or, where the column doesn't take NULL, with a made-up zero or empty text that looks like a value.
#[scenario]
async fn delete_with_not_null_columns(s: &mut Scenario) -> Result<()> {
    let orders = table("orders")
        .key("id", Int)
        .column("note", Text)
        .column_not_null("customer", Text)
        .column_not_null("lines", Int)
        .column_not_null("total", Numeric(Some((8, 2))))
        .column_not_null("weight", Double)
        .column_not_null("paid", Bool)
        .column_not_null("placed", Date)
        .column_not_null("due", TimestampTz)
        .column_not_null("token", Uuid)
        .column_not_null("tags", Array(Box::new(Text)))
        .column_not_null_default("status", Text, "open");
    let orders = s.create(orders).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! {
        id: 1,
        note: "by courier",
        customer: "Ada",
        lines: 3,
        total: "9.99",
        weight: 1.5,
        paid: true,
        placed: "2024-02-29",
        due: "2024-03-31 12:00:00+00",
        token: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        tags: vec!["gift"],
        status: "shipped",
    }))
    .await?;
    s.apply(orders.delete(1)).await?;

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

    s.judge().await
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
    s.judge_known_flaw("debezium", reference, &[FaultKind::WrongValue, FaultKind::WrongState]).await
}

/// One column of each common type, delivered as the database itself prints it.
#[scenario]
async fn common_types(s: &mut Scenario) -> Result<()> {
    let samples = table("samples")
        .key("id", BigInt)
        .column("small", SmallInt)
        .column("real", Real)
        .column("double", Double)
        .column("exact", Numeric(Some((12, 4))))
        .column("limitless", Numeric(None))
        .column("code", Varchar(8))
        .column("raw", Bytes)
        .column("day", Date)
        .column("local", Timestamp)
        .column("moment", TimestampTz)
        .column("uuid", Uuid)
        .column("json", Json)
        .column("tags", Array(Box::new(Text)));
    let samples = s.create(samples).await?;
    s.start_capture().await?;

    s.apply(samples.insert(row! {
        id: 9_007_199_254_740_993_i64,
        small: -32_768,
        real: 0.1,
        double: 1e-300,
        exact: "12345678.9",
        limitless: "0.000000000000000000000000000001",
        code: "Köln",
        raw: &[0_u8, 255, 16][..],
        day: "1969-12-31",
        local: "2024-02-29 23:59:59.999999",
        moment: "2024-07-01 12:00:00+00",
        uuid: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        json: r#"{"a": [1, 2.50, null]}"#,
        tags: vec!["a,b", "\"c\"", ""],
    }))
    .await?;
    s.apply(samples.insert(row! { id: 2, tags: Value::Array(vec![Value::Null]) })).await?;

    s.judge().await
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

    s.judge().await
}
