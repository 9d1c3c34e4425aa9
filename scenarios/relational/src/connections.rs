//! Connections that break.

use crate::prelude::*;

/// The server ends the capture's connections while changes are on their way. The capture connects again and goes on where it
/// was. Debezium promises each change at least once here, and sends some of a broken-off transaction again.
#[scenario]
async fn connection_ended_by_the_server(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many((0..500).map(|id| row! { id: id, total: id }))).await?;
    s.break_connections().await?;
    s.apply(orders.update(1, row! { total: 7 })).await?;
    s.catch_up().await?;
    s.break_connections().await?;
    s.apply(orders.delete(2)).await?;

    s.judge().await
}

/// The server is shut down and started again while changes are on their way, as for another setting or a minor version. The capture waits
/// for it and goes on where it was.
#[scenario(own_server)]
async fn server_started_again(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("total", Int)).await?;
    let customers = s.create(table("customers").key("id", Int).column("name", Text)).await?;
    s.start_capture().await?;

    s.apply(orders.insert_many((0..500).map(|id| row! { id: id, total: id }))).await?;
    s.restart_server().await?;
    s.apply(customers.insert(row! { id: 1, name: "Ada" })).await?;
    s.apply(orders.update(1, row! { total: 7 })).await?;
    s.catch_up().await?;
    s.restart_server().await?;
    s.transaction([orders.delete(2), customers.insert(row! { id: 2, name: "Bob" })]).await?;

    s.judge().await
}
