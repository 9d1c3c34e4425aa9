//! Types: each value comes back as it was written.

use changeproof::{Value, value::Float};

use crate::prelude::*;

/// One column of each type, at its edges.
#[scenario]
async fn values_of_all_types(s: &mut Scenario) -> Result<()> {
    let samples = table("samples")
        .key("id", BigInt)
        .column("truth", Bool)
        .column("small", Int)
        .column("large", BigInt)
        .column("single", Real)
        .column("twofold", Double)
        .column("exact", Numeric(Some((38, 10))))
        .column("words", Text)
        .column("raw", Bytes)
        .column("day", Date)
        .column("local", Timestamp)
        .column("moment", TimestampTz)
        .column("token", Uuid)
        .column("list", Array(Box::new(Int)));
    let samples = s.create(samples).await?;
    s.start_capture().await?;

    s.apply(samples.insert(row! {
        id: i64::MIN,
        truth: true,
        small: i32::MIN,
        large: i64::MAX,
        single: Value::Float(Float::new(0.1)),
        twofold: f64::MIN_POSITIVE,
        exact: "-1234567890123456789012345678.0123456789",
        words: "naïve 🦀 \u{0}",
        raw: &b"\x00\xff"[..],
        day: "0001-01-01",
        local: "1969-12-31 23:59:59.999999",
        moment: "2024-02-29 12:00:00.5+00",
        token: "67e55044-10b1-426f-9247-bb680e5fe0c8",
        list: Value::Array(vec![1.into(), Value::Null, 3.into()]),
    }))
    .await?;
    s.apply(
        samples
            .insert(row! { id: 2, twofold: f64::NAN, single: f64::NEG_INFINITY, words: "", list: Vec::<i32>::new() }),
    )
    .await?;
    s.apply(samples.update(2, row! { twofold: -0.0, day: "9999-12-31" })).await?;
    s.apply(samples.insert(row! { id: 3 })).await?;
    s.apply(samples.delete(i64::MIN)).await?;

    s.judge().await
}
