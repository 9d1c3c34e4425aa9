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

/// A partitioned table is one table for the log. A row that moves to another partition is updated.
#[scenario]
async fn partitioned_table(s: &mut Scenario) -> Result<()> {
    let orders = table("orders").key("id", Int).key("year", Int).column("total", Int);
    let sql = "CREATE TABLE orders (id int, year int, total int, PRIMARY KEY (id, year)) PARTITION BY LIST (year) \
               (PARTITION old VALUES IN (2023), PARTITION new VALUES IN (2024))";
    s.apply(raw(sql, [create(&orders)])).await?;
    let orders = orders.handle();
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, year: 2023, total: 10 })).await?;
    s.apply(orders.insert(row! { id: 2, year: 2024, total: 20 })).await?;
    s.catch_up().await?;
    s.apply(orders.update((1, 2023), row! { year: 2024 })).await?;

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
