//! Row images: which columns of a row sessions write to the log.

use crate::prelude::*;

/// Where Maxwell says what it needs.
const WHOLE_ROWS_ASSUMED: &str = "https://maxwells-daemon.io/quickstart/#row-based-replication";

/// Has the first session write images of a kind. The native capture's promises depend on it.
async fn write_images(s: &mut Scenario, kind: &str) -> Result<()> {
    s.configure("binlog_row_image", kind);
    write_images_untold(s, kind).await
}

/// The same, of which the method is told nothing.
async fn write_images_untold(s: &mut Scenario, kind: &str) -> Result<()> {
    s.apply(raw(&format!("SET SESSION binlog_row_image = '{kind}'"), [])).await
}

/// A table with a text and a column that has a default.
async fn docs(s: &mut Scenario) -> Result<TableRef> {
    let docs = table("docs").key("id", Int).column("title", Varchar(20));
    s.create(docs.column_default("state", Varchar(10), "draft").column("body", Text)).await
}

/// A session that writes as little as it can: of an old row the key, of a new one what the statement gives a value, be it the one that was
/// there before. What an INSERT doesn't name is not in the log, defaults neither. Who reads the log has to keep the rest.
#[scenario(only = "binlog", why = "others know nothing of it, which is a scenario of its own")]
async fn row_image_minimal(s: &mut Scenario) -> Result<()> {
    let docs = docs(s).await?;
    write_images(s, "MINIMAL").await?;
    s.start_capture().await?;

    write_minimally(s, &docs).await?;

    s.judge().await
}

/// Debezium and Maxwell when a session writes so: they look at the server's setting only, and any session can have another one.
#[scenario(only = "debezium, maxwell", why = "the native binary log can be told which columns there are")]
async fn row_image_minimal_of_one_session(s: &mut Scenario) -> Result<()> {
    let docs = docs(s).await?;
    write_images_untold(s, "MINIMAL").await?;
    s.start_capture().await?;

    write_minimally(s, &docs).await?;

    s.judge_known_flaws(&[
        KnownFlaw::stops("debezium", "internal schema size 4, but row size"),
        KnownFlaw::of(
            "maxwell",
            WHOLE_ROWS_ASSUMED,
            &[
                FaultKind::WrongValue,
                FaultKind::WrongValue,
                FaultKind::WrongValue,
                FaultKind::WrongValue,
                FaultKind::WrongValue,
                FaultKind::WrongBeforeImage,
                FaultKind::WrongState,
            ],
        ),
    ])
    .await
}

async fn write_minimally(s: &mut Scenario, docs: &TableRef) -> Result<()> {
    s.apply(docs.insert(row! { id: 1, title: "draft", state: "new", body: "long" })).await?;
    s.apply(docs.insert(row! { id: 5, title: "untold" })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { title: "final", state: "done" })).await?;
    s.apply(docs.update(1, row! { id: 2, body: "longer" })).await?;
    s.apply(docs.update(5, row! { state: "done" })).await?;
    s.apply(docs.delete(2)).await
}

/// A session that leaves out texts and bytes without a limit where nothing needs them: of an old row, and of a new one if the statement
/// doesn't name them.
#[scenario(only = "binlog", why = "others know nothing of it, which is a scenario of its own")]
async fn row_image_noblob(s: &mut Scenario) -> Result<()> {
    let docs = docs(s).await?;
    write_images(s, "NOBLOB").await?;
    s.start_capture().await?;

    write_without_texts(s, &docs).await?;

    s.judge().await
}

/// Debezium and Maxwell when a session writes so.
#[scenario(only = "debezium, maxwell", why = "the native binary log can be told which columns there are")]
async fn row_image_noblob_of_one_session(s: &mut Scenario) -> Result<()> {
    let docs = docs(s).await?;
    write_images_untold(s, "NOBLOB").await?;
    s.start_capture().await?;

    write_without_texts(s, &docs).await?;

    s.judge_known_flaws(&[
        KnownFlaw::stops("debezium", "internal schema size 4, but row size"),
        KnownFlaw::of(
            "maxwell",
            WHOLE_ROWS_ASSUMED,
            &[
                FaultKind::WrongValue,
                FaultKind::WrongValue,
                FaultKind::WrongBeforeImage,
                FaultKind::WrongBeforeImage,
                FaultKind::WrongState,
            ],
        ),
    ])
    .await
}

async fn write_without_texts(s: &mut Scenario, docs: &TableRef) -> Result<()> {
    s.apply(docs.insert(row! { id: 1, title: "draft", body: "long" })).await?;
    s.apply(docs.insert(row! { id: 5, title: "untold" })).await?;
    s.apply(docs.update(1, row! { title: "final" })).await?;
    s.apply(docs.update(1, row! { title: "last", body: "long" })).await?;
    s.apply(docs.update(1, row! { body: "longer" })).await?;
    s.apply(docs.delete(1)).await
}

/// A session that writes as little as it can, and a table without a key: its old rows are whole, for nothing less names them.
/// (MariaDB's new ones are whole too.)
#[scenario(on = "MySQL", only = "binlog", why = "others know nothing of it, as tables with a key show")]
async fn row_image_minimal_without_a_key(s: &mut Scenario) -> Result<()> {
    images_without_a_key(s, "MINIMAL").await
}

/// A session that leaves out texts, and a table without a key.
#[scenario(on = "MySQL", only = "binlog", why = "others know nothing of it, as tables with a key show")]
async fn row_image_noblob_without_a_key(s: &mut Scenario) -> Result<()> {
    images_without_a_key(s, "NOBLOB").await
}

async fn images_without_a_key(s: &mut Scenario, kind: &str) -> Result<()> {
    let log = s.create(table("log").column("line", Varchar(20)).column("level", Int).column("note", Text)).await?;
    write_images(s, kind).await?;
    s.start_capture().await?;

    s.apply(log.insert(row! { line: "first", level: 1, note: "long" })).await?;
    s.apply(log.insert(row! { line: "untold" })).await?;
    s.apply(log.update(row! { line: "first" }, row! { level: 2 })).await?;
    s.apply(log.update(row! { line: "first" }, row! { level: 3, note: "long" })).await?;
    s.apply(log.delete(row! { line: "first" })).await?;

    s.judge().await
}

/// A session that writes as little as it can, and a table with a unique index in the place of a primary key, none of whose columns takes
/// NULL: the server takes it for the key.
#[scenario(only = "binlog", why = "others know nothing of it, as tables with a key show")]
async fn row_image_minimal_by_a_unique_index(s: &mut Scenario) -> Result<()> {
    images_by_a_unique_index(s, "MINIMAL").await
}

/// A session that leaves out texts, and such a table.
#[scenario(only = "binlog", why = "others know nothing of it, as tables with a key show")]
async fn row_image_noblob_by_a_unique_index(s: &mut Scenario) -> Result<()> {
    images_by_a_unique_index(s, "NOBLOB").await
}

async fn images_by_a_unique_index(s: &mut Scenario, kind: &str) -> Result<()> {
    let users = table("users").column_not_null("email", Varchar(40)).column("name", Varchar(20)).column("note", Text);
    let users = s.create(users.identity_index(&["email"])).await?;
    let (ada, augusta) = (row! { email: "ada@example.org" }, row! { email: "augusta@example.org" });
    write_images(s, kind).await?;
    s.start_capture().await?;

    s.apply(users.insert(row! { email: "ada@example.org", name: "Ada", note: "long" })).await?;
    s.apply(users.update(ada.clone(), row! { name: "Ada Lovelace" })).await?;
    s.apply(users.update(ada, row! { email: "augusta@example.org" })).await?;
    s.apply(users.delete(augusta)).await?;

    s.judge().await
}
