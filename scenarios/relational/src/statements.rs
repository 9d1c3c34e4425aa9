//! Statements that do more, or less, than they seem to.

use crate::prelude::*;

/// An update that sets a column to the value it has is a change all the same in PostgreSQL, which writes a new version of the
/// row. MySQL finds that there is nothing to do, and its log has nothing of it.
#[scenario]
async fn update_that_changes_nothing(s: &mut Scenario) -> Result<()> {
    let customers = table("customers").key("id", Int).column("name", Text).identity_full();
    let customers = s.create(customers).await?;
    s.start_capture().await?;

    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.catch_up().await?;
    s.apply(customers.update(1, row! { name: "Ada" })).await?;
    s.apply(customers.update(2, row! { name: "Nobody" })).await?;

    s.judge().await
}

/// A lock is no change.
#[scenario]
async fn select_for_update(s: &mut Scenario) -> Result<()> {
    let accounts = s.create(table("accounts").key("id", Int).column("balance", Int)).await?;
    s.start_capture().await?;

    s.apply(accounts.insert(row! { id: 1, balance: 100 })).await?;
    s.apply(begin()).await?;
    s.apply(raw("SELECT * FROM accounts WHERE id = 1 FOR UPDATE", [])).await?;
    s.apply(commit()).await?;

    s.judge().await
}

/// INSERT … ON CONFLICT, in MySQL ON DUPLICATE KEY UPDATE or IGNORE, is an insert, an update, or nothing at all.
#[scenario]
async fn insert_on_conflict(s: &mut Scenario) -> Result<()> {
    let stock = s.create(table("stock").key("sku", Text).column("pieces", Int)).await?;
    s.start_capture().await?;

    let on_conflict = s.say(Sql {
        postgres: "ON CONFLICT (sku) DO UPDATE SET pieces = stock.pieces + excluded.pieces",
        mysql: "ON DUPLICATE KEY UPDATE pieces = pieces + VALUES(pieces)",
    })?;
    let upsert = |pieces: i32| format!("INSERT INTO stock (sku, pieces) VALUES ('A-1', {pieces}) {on_conflict}");
    s.apply(raw(&upsert(5), [stock.insert(row! { sku: "A-1", pieces: 5 })])).await?;
    s.apply(raw(&upsert(2), [stock.update("A-1", row! { pieces: 7 })])).await?;
    let ignore = s.say(Sql {
        postgres: "INSERT INTO stock VALUES ('A-1', 0) ON CONFLICT DO NOTHING",
        mysql: "INSERT IGNORE INTO stock (sku, pieces) VALUES ('A-1', 0)",
    })?;
    s.apply(raw(ignore, [])).await?;

    s.judge().await
}

/// A foreign key that cascades: the rows it deletes and updates are changes like any other, in PostgreSQL after the one that
/// caused them, in MySQL before it. MariaDB's storage engine cascades by itself, as MySQL's once did, and its log has none of
/// them: who reads it never learns of them. A time that `ON UPDATE` keeps stays what it was in the rows that a cascade
/// updates, so polling of MySQL and MariaDB never sees them.
#[scenario]
async fn foreign_key_cascades(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    let lines = s.create(table("lines").key("id", Int).column("order_id", Int)).await?;
    let foreign_key =
        "ALTER TABLE \"lines\" ADD FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE ON UPDATE CASCADE";
    s.apply(raw(foreign_key, [])).await?;
    let dialect = s.dialect()?;
    let in_order = |parent: Step, child: Step| match dialect {
        PostgreSql => [parent, child],
        MySql => [child, parent],
    };
    s.start_capture().await?;

    s.apply(orders.insert_many([row! { id: 1 }, row! { id: 2 }])).await?;
    s.apply(lines.insert_many([row! { id: 10, order_id: 1 }, row! { id: 20, order_id: 2 }])).await?;
    s.catch_up().await?;
    let deletes = in_order(orders.delete(1), lines.delete(10));
    s.apply(raw("DELETE FROM orders WHERE id = 1", deletes)).await?;
    let updates = in_order(orders.update(2, row! { id: 3 }), lines.update(20, row! { order_id: 3 }));
    s.apply(raw("UPDATE orders SET id = 3 WHERE id = 2", updates)).await?;

    let (lost, state) = (FaultKind::Lost, FaultKind::WrongState);
    let one = [lost, state];
    let all = [lost, lost, state, state];
    let on_update = "https://dev.mysql.com/doc/refman/9.7/en/timestamp-initialization.html";
    let unlogged = "https://mariadb.com/kb/en/replication-and-foreign-keys/";
    s.judge_known_flaws(&[
        KnownFlaw::of("polling", on_update, &one).on("MySQL"),
        KnownFlaw::of("polling", on_update, &one).on("MariaDB"),
        KnownFlaw::of("debezium", unlogged, &all).on("MariaDB"),
        KnownFlaw::of("maxwell", unlogged, &all).on("MariaDB"),
        KnownFlaw::of("binlog", unlogged, &all).on("MariaDB"),
    ])
    .await
}

/// Triggers of the application: one changes the row before it is stored, another writes to a second table.
#[scenario]
async fn triggers_that_write(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let journal = s.create(table("journal").key("order_id", Int).column("what", Text)).await?;
    let in_postgres = [
        "CREATE FUNCTION round_up() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.total := (NEW.total + 9) / 10 * 10; RETURN NEW; END $$",
        "CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO journal VALUES (NEW.id, 'ordered'); RETURN NULL; END $$",
        "CREATE TRIGGER round_up BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION round_up()",
        "CREATE TRIGGER write_down AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION write_down()",
    ];
    let in_mysql = [
        "CREATE TRIGGER round_up BEFORE INSERT ON orders FOR EACH ROW SET NEW.total = (NEW.total + 9) DIV 10 * 10",
        "CREATE TRIGGER write_down AFTER INSERT ON orders FOR EACH ROW INSERT INTO journal (order_id, what) \
         VALUES (NEW.id, 'ordered')",
    ];
    let triggers = match s.dialect()? {
        PostgreSql => &in_postgres[..],
        MySql => &in_mysql[..],
    };
    for sql in triggers {
        s.apply(raw(sql, [])).await?;
    }
    s.start_capture().await?;

    let means = [orders.insert(row! { id: 1, total: 20 }), journal.insert(row! { order_id: 1, what: "ordered" })];
    s.apply(raw("INSERT INTO orders (id, total) VALUES (1, 11)", means)).await?;

    s.judge().await
}
