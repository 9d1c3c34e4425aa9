//! Tables of MySQL's own kinds, and what it does to their definitions.

use crate::prelude::*;

/// A column that is given another place. The log holds values by their place, so who takes the order of yesterday for that of
/// today exchanges columns without a word.
#[scenario]
async fn columns_that_move(s: &mut Scenario) -> Result<()> {
    let customers = s.create(table("customers").key("id", Int).column("name", Text).column("email", Text)).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada", email: "ada@example.org" })).await?;
    s.apply(raw("ALTER TABLE customers MODIFY email longtext AFTER id", [])).await?;
    s.apply(customers.insert(row! { id: 2, name: "Bob", email: "bob@example.org" })).await?;
    s.apply(customers.update(1, row! { name: "Ada Lovelace" })).await?;

    s.judge().await
}

/// An invisible column is in the log as any other, and in no `SELECT *`. A row that an INSERT without a list of columns makes
/// gets a zero in MySQL for such a column that has the current time as its default: polling by it never sees the row. MariaDB
/// gives it the time.
#[scenario]
async fn invisible_columns(s: &mut Scenario) -> Result<()> {
    let users = table("users").key("id", Int).column("name", Text).column("secret", Int);
    let sql = "CREATE TABLE users (id int PRIMARY KEY, name longtext, secret int INVISIBLE)";
    s.apply(raw(sql, [create(&users)])).await?;
    let users = users.handle();
    s.start_capture().await?;

    s.apply(users.insert(row! { id: 1, name: "Ada", secret: 7 })).await?;
    s.apply(raw("INSERT INTO users VALUES (2, 'Bob')", [users.insert(row! { id: 2, name: "Bob" })])).await?;

    let reference = "https://dev.mysql.com/doc/refman/9.7/en/invisible-columns.html";
    let lost = [FaultKind::Lost, FaultKind::WrongState];
    s.judge_known_flaws(&[KnownFlaw::of("polling", reference, &lost).on("MySQL")]).await
}

/// A column that is computed whenever it is read, and stored nowhere. The log has its value all the same. (MariaDB's has that of no
/// generated column.)
#[scenario(on = "MySQL")]
async fn virtual_columns(s: &mut Scenario) -> Result<()> {
    let lines = table("lines").key("id", Int).column("price", Int).column_generated("with_tax", Int, "price * 2");
    let sql = "CREATE TABLE \"lines\" (id int PRIMARY KEY, price int, with_tax int AS (price * 2) VIRTUAL)";
    s.apply(raw(sql, [create(&lines)])).await?;
    let lines = lines.handle();
    s.start_capture().await?;

    let insert = "INSERT INTO \"lines\" (id, price) VALUES (1, 10)";
    s.apply(raw(insert, [lines.insert(row! { id: 1, price: 10, with_tax: 20 })])).await?;
    s.catch_up().await?;
    let update = "UPDATE \"lines\" SET price = 15 WHERE id = 1";
    s.apply(raw(update, [lines.update(1, row! { price: 15, with_tax: 30 })])).await?;
    s.apply(lines.delete(1)).await?;

    s.judge().await
}

/// CREATE TABLE IF NOT EXISTS of a table that is there, as applications say it when they start. The log has the statement all the same,
/// with the columns that the table once had; it keeps those that it has.
#[scenario]
async fn table_that_is_there_already(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.catch_up().await?;
    s.apply(orders.add_column("currency", Text)).await?;
    s.apply(raw("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, total int)", [])).await?;
    s.apply(orders.truncate()).await?;
    s.apply(orders.insert(row! { id: 2, total: 20, currency: "EUR" })).await?;
    s.apply(raw("CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, total int)", [])).await?;
    s.apply(orders.update(2, row! { currency: "SEK" })).await?;

    s.judge().await
}
