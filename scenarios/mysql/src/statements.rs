//! Statements of MySQL's own that do more, or less, than they seem to.

use crate::prelude::*;

/// REPLACE deletes the row that is in the way and inserts the new one; the log has an update where it can be one.
#[scenario]
async fn replace(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("id", Int).column("pieces", Int)).await?;
    s.start_capture().await?;

    s.apply(raw("REPLACE INTO stock (id, pieces) VALUES (1, 5)", [stock.insert(row! { id: 1, pieces: 5 })])).await?;
    s.catch_up().await?;
    s.apply(raw("REPLACE INTO stock (id, pieces) VALUES (1, 7)", [stock.update(1, row! { pieces: 7 })])).await?;

    s.judge().await
}

/// A table with another unique index behind its key: REPLACE of a row with the same key is a delete and an insert there. A row that two
/// others are in the way of deletes the one, and takes the place of the other.
#[scenario]
async fn replace_with_two_unique_indexes(s: &mut Scenario) -> Result<()> {
    let stock = table("stock").key("id", Int).column_not_null("sku", Varchar(8)).column("pieces", Int);
    let sql = "CREATE TABLE stock (id int PRIMARY KEY, sku varchar(8) NOT NULL UNIQUE, pieces int)";
    s.apply(raw(sql, [create(&stock)])).await?;
    let stock = stock.handle();
    s.start_capture().await?;

    s.apply(stock.insert_many([row! { id: 1, sku: "A-1", pieces: 5 }, row! { id: 2, sku: "B-2", pieces: 6 }])).await?;
    s.catch_up().await?;
    let means = [stock.delete(1), stock.insert(row! { id: 1, sku: "A-1", pieces: 7 })];
    s.apply(raw("REPLACE INTO stock (id, sku, pieces) VALUES (1, 'A-1', 7)", means)).await?;
    s.catch_up().await?;
    let means = [stock.delete(1), stock.update(2, row! { id: 1, pieces: 9 })];
    s.apply(raw("REPLACE INTO stock (id, sku, pieces) VALUES (1, 'B-2', 9)", means)).await?;

    s.judge().await
}

/// REPLACE of a row that others refer to deletes it, and by a cascade those, before it inserts the new one. MariaDB's log has
/// no cascades: who reads it keeps the rows that referred to it. (MySQL 9 updates the row, and nothing refers to one that has gone.)
#[scenario(on = "MariaDB")]
async fn replace_that_cascades(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let lines = s.create(table("lines").key("id", Int).column("order_id", Int)).await?;
    let foreign_key = "ALTER TABLE \"lines\" ADD FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE";
    s.apply(raw(foreign_key, [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.apply(lines.insert(row! { id: 10, order_id: 1 })).await?;
    s.catch_up().await?;
    let means = [lines.delete(10), orders.delete(1), orders.insert(row! { id: 1, total: 20 })];
    s.apply(raw("REPLACE INTO orders (id, total) VALUES (1, 20)", means)).await?;

    let unlogged = "https://mariadb.com/kb/en/replication-and-foreign-keys/";
    let lost = [FaultKind::Lost, FaultKind::WrongState];
    let of = |method| KnownFlaw::of(method, unlogged, &lost);
    s.judge_known_flaws(&[of("debezium"), of("binlog"), of("maxwell")]).await
}

/// One statement that updates, or deletes from, two tables: in the order in which it joins them, which is up to the server unless
/// the statement says it.
#[scenario]
async fn update_and_delete_of_two_tables(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let lines = s.create(table("lines").key("id", Int).column("order_id", Int).column("price", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.apply(lines.insert(row! { id: 10, order_id: 1, price: 10 })).await?;
    s.catch_up().await?;
    let updates = [lines.update(10, row! { price: 5 }), orders.update(1, row! { total: 5 })];
    let both = "UPDATE `lines` l STRAIGHT_JOIN orders o ON l.order_id = o.id SET o.total = 5, l.price = 5";
    s.apply(raw(both, updates)).await?;
    s.catch_up().await?;
    let deletes = [lines.delete(10), orders.delete(1)];
    s.apply(raw("DELETE o, l FROM `lines` l STRAIGHT_JOIN orders o ON l.order_id = o.id", deletes)).await?;

    s.judge().await
}

/// A table that is created from a query, with its rows: one transaction of DDL and rows.
#[scenario]
async fn create_table_as_select(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.catch_up().await?;
    let copies = table("copies").key("id", Int).column("total", Int);
    let copy = copies.handle();
    let sql = "CREATE TABLE copies (PRIMARY KEY (id)) SELECT id, total FROM orders";
    s.apply(raw(sql, [create(&copies), copy.insert(row! { id: 1, total: 10 })])).await?;
    s.apply(copy.insert(row! { id: 2, total: 20 })).await?;

    s.judge().await
}

/// Temporary tables are in no log.
#[scenario]
async fn temporary_tables(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(raw("CREATE TEMPORARY TABLE scratch (id int PRIMARY KEY)", [])).await?;
    s.apply(raw("INSERT INTO scratch VALUES (1)", [])).await?;
    s.apply(orders.insert(row! { id: 1 })).await?;
    s.apply(raw("DROP TEMPORARY TABLE scratch", [])).await?;

    s.judge().await
}

/// A gap in the numbers that AUTO_INCREMENT gives: an INSERT IGNORE that inserts nothing takes one all the same.
#[scenario]
async fn auto_increment_gaps(s: &mut Scenario) -> Result<()> {
    let users = table("users").key("id", Int).column_not_null("name", Varchar(20));
    let sql = "CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL UNIQUE)";
    s.apply(raw(sql, [create(&users)])).await?;
    let users = users.handle();
    s.start_capture().await?;

    s.apply(raw("INSERT INTO users (name) VALUES ('ada')", [users.insert(row! { id: 1, name: "ada" })])).await?;
    s.apply(raw("INSERT IGNORE INTO users (name) VALUES ('ada')", [])).await?;
    s.apply(raw("INSERT INTO users (name) VALUES ('bob')", [users.insert(row! { id: 3, name: "bob" })])).await?;

    s.judge().await
}

/// Rows from a file. The log has them as it has those of an INSERT.
#[scenario]
async fn load_data(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Varchar(8)).column("pieces", Int)).await?;
    s.start_capture().await?;

    s.have_file("A-1\t5\nB-2\t\\N\nÄ-3\t7\n").await?;
    let rows = [row! { sku: "A-1", pieces: 5 }, row! { sku: "B-2" }, row! { sku: "Ä-3", pieces: 7 }];
    let load = "LOAD DATA LOCAL INFILE 'stock.tsv' INTO TABLE stock CHARACTER SET utf8mb4 (sku, pieces)";
    s.apply(raw(load, [stock.insert_many(rows)])).await?;
    s.catch_up().await?;
    s.have_file("A-1\t6\n").await?;
    let load = "LOAD DATA LOCAL INFILE 'stock.tsv' REPLACE INTO TABLE stock (sku, pieces)";
    s.apply(raw(load, [stock.update("A-1", row! { pieces: 6 })])).await?;

    s.judge().await
}
