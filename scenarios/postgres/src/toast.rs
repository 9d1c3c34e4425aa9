//! Values too large for a page, which PostgreSQL stores out of line (TOAST).

use crate::prelude::*;

/// Larger than what fits into a row of a page.
fn large(letter: &str) -> String {
    letter.repeat(20_000)
}

/// An update that leaves a large value alone doesn't write it to the log again. Debezium marks it as unavailable: a
/// consumer must keep the value it has, and one that takes the mark for the value destroys it. With another key the row comes as
/// a new one, of which nobody has the value.
#[scenario]
async fn unchanged_toast_identity_default(s: &mut Scenario) -> Result<()> {
    let docs = table("docs").key("id", Int).column("title", Text).column_external("body", Text);
    let docs = s.create(docs).await?;
    s.start_capture().await?;

    s.apply(docs.insert(row! { id: 1, title: "draft", body: large("x") })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { body: large("y") })).await?;
    s.apply(docs.update(1, row! { id: 2 })).await?;

    let (mark, kinds) =
        ("scenarios/pipelines/README.md#what-each-loses", [FaultKind::WrongValue, FaultKind::WrongState]);
    let flaws =
        [KnownFlaw::stops("spark", "it lacks the value of a column"), KnownFlaw::of("connect_sink", mark, &kinds)];
    s.judge_known_flaws(&flaws).await
}

/// Under REPLICA IDENTITY FULL the old row is logged with its large values, and Debezium takes the unchanged one from there.
#[scenario]
async fn unchanged_toast_identity_full(s: &mut Scenario) -> Result<()> {
    let docs = table("docs").key("id", Int).column("title", Text).column_external("body", Text);
    let docs = s.create(docs.identity_full()).await?;
    s.start_capture().await?;

    s.apply(docs.insert(row! { id: 1, title: "draft", body: large("x") })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { body: large("y") })).await?;
    s.apply(docs.delete(1)).await?;

    s.judge().await
}
