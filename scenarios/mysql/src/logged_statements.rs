//! Sessions that write statements to the log, and no rows. What they did to which rows can't be read there.

use crate::prelude::*;

/// What is wrong with a stream of which one statement's row is missing.
const PASSED_OVER: &[FaultKind] = &[FaultKind::Lost, FaultKind::WrongState];

/// What becomes of a statement that is logged as one: the native capture stops at it, the others pass it over.
fn stopped_at_or_passed_over() -> [KnownFlaw<'static>; 3] {
    let debezium = "https://debezium.io/documentation/reference/3.5/connectors/mariadb.html";
    [
        KnownFlaw::stops("binlog", "has written a statement to it, and no rows"),
        KnownFlaw::of("debezium", debezium, PASSED_OVER),
        KnownFlaw::of("maxwell", "https://github.com/zendesk/maxwell/issues/345", PASSED_OVER),
    ]
}

/// A session that writes statements to the log, and no rows. What they did to which rows can't be read there. The native capture
/// stops at them; Debezium and Maxwell warn of them in their own logs, and pass them over.
#[scenario]
async fn statements_among_rows(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    as_a_statement(s, orders.insert(row! { id: 2 })).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// Runs a step on its session and has the log hold its statement.
async fn as_a_statement(s: &mut Scenario, step: Step) -> Result<()> {
    let session = step.session.clone();
    s.apply(raw("SET SESSION binlog_format = 'STATEMENT'", []).on(&session)).await?;
    s.apply(step).await?;
    s.apply(raw("SET SESSION binlog_format = 'ROW'", []).on(&session)).await
}

/// A table of orders, of which one is captured.
async fn captured_orders(s: &mut Scenario) -> Result<TableRef> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;
    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.catch_up().await?;
    Ok(orders)
}

/// A statement that is logged as one, with a comment before it, as frameworks and proxies write them.
#[scenario]
async fn logged_statement_behind_a_comment(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    let insert = "/* app: shop */ INSERT INTO orders (id, total) VALUES (2, 20)";
    as_a_statement(s, raw(insert, [orders.insert(row! { id: 2, total: 20 })])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// An UPDATE that is logged as a statement, and begins with a common table expression.
#[scenario(on = "MySQL")]
async fn logged_update_behind_with(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    let update = "WITH late AS (SELECT 1 AS id) UPDATE orders SET total = 15 WHERE id IN (SELECT id FROM late)";
    as_a_statement(s, raw(update, [orders.update(1, row! { total: 15 })])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// A DELETE that is logged as a statement, and begins with a common table expression.
#[scenario(on = "MySQL")]
async fn logged_delete_behind_with(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    let delete = "WITH late AS (SELECT 1 AS id) DELETE FROM orders WHERE id IN (SELECT id FROM late)";
    as_a_statement(s, raw(delete, [orders.delete(1)])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// A statement that is logged as one by a session that uses another database: only the name of the table says where it writes to.
#[scenario]
async fn logged_statement_of_another_database(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    s.apply(raw("USE mysql", []).on("b")).await?;
    as_a_statement(s, orders.insert(row! { id: 2, total: 20 }).on("b")).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// Rows from a file, of which the log has the statement and the file. They are events of their own kind, which a reader of statements
/// doesn't see.
#[scenario]
async fn logged_load_data(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    s.have_file("2\t20\n").await?;
    let load = "LOAD DATA LOCAL INFILE 'orders.tsv' INTO TABLE orders (id, total)";
    as_a_statement(s, raw(load, [orders.insert(row! { id: 2, total: 20 })])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// A query that calls a function that writes. Where statements are logged, the log has the call.
#[scenario]
async fn logged_call_of_a_function(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let function = "CREATE FUNCTION take_order(number int) RETURNS int DETERMINISTIC MODIFIES SQL DATA \
                    BEGIN INSERT INTO orders (id, total) VALUES (number, 20); RETURN number; END";
    s.apply(raw(function, [])).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1, total: 10 })).await?;
    s.catch_up().await?;
    as_a_statement(s, raw("SELECT take_order(2)", [orders.insert(row! { id: 2, total: 20 })])).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&stopped_at_or_passed_over()).await
}

/// A table that is created from a query, of which the log has the statement: the rows that it made are nowhere. Debezium and
/// Maxwell don't understand it, and end, whichever database of the server it is in.
#[scenario(own_server)]
async fn logged_create_table_as_select(s: &mut Scenario) -> Result<()> {
    let orders = captured_orders(s).await?;

    let copies = table("copies").key("id", Int).column("total", Int);
    let means = [create(&copies), copies.handle().insert(row! { id: 1, total: 10 })];
    let query = "CREATE TABLE copies (PRIMARY KEY (id)) SELECT id, total FROM orders";
    as_a_statement(s, raw(query, means)).await?;
    s.apply(orders.insert(row! { id: 3, total: 30 })).await?;

    s.judge_known_flaws(&[
        KnownFlaw::stops("binlog", "has written a statement to it, and no rows"),
        KnownFlaw::stops("debezium", "a matching column is not defined in table"),
        KnownFlaw::stops("maxwell", "Error parsing SQL: 'CREATE TABLE copies"),
    ])
    .await
}
