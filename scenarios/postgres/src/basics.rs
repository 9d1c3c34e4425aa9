//! Single rows: what every method must get right.

use changeproof::Value;

use crate::prelude::*;

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
