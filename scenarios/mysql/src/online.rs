//! Definitions that change while their table is in use, in the ways that MySQL and the tools around it have for that.

use crate::{beside::beside, prelude::*};

/// `ALGORITHM=INSTANT` changes the catalogue alone. Rows stay as they were written, and each row that the log tells has all
/// columns of its moment.
#[scenario]
async fn columns_added_and_dropped_instantly(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text).column("fax", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada", fax: "1" })).await?;
    s.catch_up().await?;
    let add = customers.add_column("email", Text);
    s.apply(raw("ALTER TABLE customers ADD COLUMN email longtext, ALGORITHM=INSTANT", [add])).await?;
    let drop = customers.drop_column("fax");
    s.apply(raw("ALTER TABLE customers DROP COLUMN fax, ALGORITHM=INSTANT", [drop])).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" })).await?;

    s.judge().await
}

/// A table that takes a moment to rebuild. Its rows are there before the capture begins.
async fn large_table(s: &mut Scenario) -> Result<TableRef> {
    let docs = table("docs").key("id", Int).column("title", Varchar(20)).column("body", Text);
    let docs = s.create(docs).await?;
    for hundred in 0..20 {
        let ids = hundred * 100..(hundred + 1) * 100;
        s.apply(docs.insert_many(ids.map(|id| row! { id: id, title: "old", body: "x".repeat(4000) }))).await?;
    }
    Ok(docs)
}

/// Changes a table's definition while another session writes to it.
async fn alter_amid_writes(s: &mut Scenario, docs: &TableRef, alter: &str) -> Result<()> {
    let writes = (0..24).map(|n| match n % 3 {
        0 => docs.insert(row! { id: 2000 + n, title: "new" }),
        1 => docs.update(n, row! { title: "changed" }),
        _ => docs.delete(n),
    });
    beside(s, alter, writes).await
}

/// `ALGORITHM=INPLACE, LOCK=NONE` builds an index while others write. No row changes, and the log has nothing but the
/// statement, and what the others write.
#[scenario]
async fn index_built_in_place(s: &mut Scenario) -> Result<()> {
    let docs = large_table(s).await?;
    s.start_capture().await?;

    alter_amid_writes(s, &docs, "ALTER TABLE docs ADD INDEX (title), ALGORITHM=INPLACE, LOCK=NONE").await?;
    s.apply(docs.update(100, row! { title: "changed" })).await?;

    s.judge().await
}

/// A table that is built anew in its place while others write: all rows are written once more, the changes meanwhile are put in at the
/// end, and the log has neither.
#[scenario]
async fn table_rebuilt_in_place(s: &mut Scenario) -> Result<()> {
    let docs = large_table(s).await?;
    s.start_capture().await?;

    alter_amid_writes(s, &docs, "ALTER TABLE docs FORCE, ALGORITHM=INPLACE, LOCK=NONE").await?;
    s.apply(docs.update(100, row! { title: "changed" })).await?;

    s.judge().await
}

/// A table that is copied while others want to write: they wait until it has taken the place of the old one.
#[scenario]
async fn table_rebuilt_by_copying(s: &mut Scenario) -> Result<()> {
    let docs = large_table(s).await?;
    s.start_capture().await?;

    alter_amid_writes(s, &docs, "ALTER TABLE docs FORCE, ALGORITHM=COPY, LOCK=SHARED").await?;
    s.apply(docs.update(100, row! { title: "changed" })).await?;

    s.judge().await
}

/// MariaDB copies a table while others write, too (`ALGORITHM=COPY, LOCK=NONE`): it keeps what they write, and does it once more to the
/// copy. The log has it once.
#[scenario(on = "MariaDB")]
async fn table_copied_amid_writes(s: &mut Scenario) -> Result<()> {
    let docs = large_table(s).await?;
    s.start_capture().await?;

    alter_amid_writes(s, &docs, "ALTER TABLE docs FORCE, ALGORITHM=COPY, LOCK=NONE").await?;
    s.apply(docs.update(100, row! { title: "changed" })).await?;

    s.judge().await
}

/// `ALGORITHM=COPY` writes every row anew into a table that takes the place of the old one. The log has the statement, and
/// none of the rows.
#[scenario]
async fn type_changed_by_copying(s: &mut Scenario) -> Result<()> {
    let meters = s.create(table("meters").key("id", Int).column("count", Int)).await?;
    s.start_capture().await?;

    s.apply(meters.insert_many([row! { id: 1, count: 7 }, row! { id: 2, count: 8 }])).await?;
    s.catch_up().await?;
    let widen = meters.change_type("count", Varchar(12));
    s.apply(raw("ALTER TABLE meters MODIFY count varchar(12), ALGORITHM=COPY", [widen])).await?;
    s.apply(meters.update(1, row! { count: "seven" })).await?;

    s.judge().await
}

/// Texts that get another character set. What they say stays what it was, but a `text` grows to a `mediumtext`, so that as many
/// letters fit; Maxwell, which reads the statement, doesn't know that.
#[scenario]
async fn charset_conversion(s: &mut Scenario) -> Result<()> {
    let notes = table("notes").key("id", Int).column("title", Varchar(20)).column("body", other("text"));
    let sql =
        "CREATE TABLE notes (id int PRIMARY KEY, title varchar(20), body text) CHARACTER SET latin1 COLLATE latin1_bin";
    s.apply(raw(sql, [create(&notes)])).await?;
    let notes = notes.handle();
    s.start_capture().await?;

    s.apply(notes.insert(row! { id: 1, title: "Köln", body: "5 €" })).await?;
    s.catch_up().await?;
    let convert = "ALTER TABLE notes CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    s.apply(raw(convert, [notes.change_type("body", other("mediumtext"))])).await?;
    s.apply(notes.insert(row! { id: 2, title: "東京", body: "🏯" })).await?;
    s.apply(notes.update(1, row! { title: "Köln am Rhein" })).await?;

    let reference = "https://maxwells-daemon.io/dataformat/";
    s.judge_known_flaw("maxwell", reference, &[FaultKind::Lost]).await
}

/// A member that comes before others moves their numbers, by which rows are stored. The rows are rewritten, no change tells it,
/// and who kept the old members would read another word from the log.
#[scenario]
async fn enum_members_that_move(s: &mut Scenario) -> Result<()> {
    let shirts = s.create(table("shirts").key("id", Int).column("size", other("enum('small','large')"))).await?;
    s.start_capture().await?;

    s.apply(shirts.insert(row! { id: 1, size: "large" })).await?;
    s.catch_up().await?;
    s.apply(shirts.change_type("size", other("enum('small','medium','large')"))).await?;
    s.apply(shirts.insert(row! { id: 2, size: "medium" })).await?;
    s.apply(shirts.insert(row! { id: 3, size: "large" })).await?;
    s.apply(shirts.delete(1)).await?;

    s.judge().await
}

/// A new shape as gh-ost gives it: a table beside the old one is filled with its rows, while what is written to the old one is
/// carried over too, and then takes its name in one statement. Downstream everything is there twice for a while, and the name
/// goes on with another table behind it.
#[scenario]
async fn tables_swapped_by_their_names(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1, total: 10 }, row! { id: 2, total: 20 }])).await?;
    let columns = table("_orders_gho").key("id", Int).column("total", Int).column("currency", Text);
    let ghost = s.create(columns).await?;
    let copied = ghost.insert_many([row! { id: 1, total: 10 }, row! { id: 2, total: 20 }]);
    s.apply(raw("INSERT INTO _orders_gho (id, total) SELECT id, total FROM orders", [copied])).await?;
    s.apply(orders.update(2, row! { total: 25 })).await?;
    s.apply(ghost.update(2, row! { total: 25 })).await?;
    s.catch_up().await?;
    let swap = "RENAME TABLE orders TO _orders_del, _orders_gho TO orders";
    s.apply(raw(swap, [orders.rename_to("_orders_del"), ghost.rename_to("orders")])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30, currency: "EUR" })).await?;
    s.apply(orders.update(1, row! { currency: "SEK" })).await?;

    s.judge().await
}
