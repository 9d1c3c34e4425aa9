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
