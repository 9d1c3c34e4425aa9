//! Traps of polling by timestamp that are MySQL's own.

use changeproof::mysql::{Flavour, Source};

use crate::prelude::*;

/// `DATETIME` without more has whole seconds. MySQL rounds to the nearest one, MariaDB cuts. A row of the second that was seen
/// last lies on the mark and is never seen; one that was rounded up puts the mark into the future.
#[scenario]
async fn time_of_whole_seconds(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("updated_at", other("datetime"))).await?;
    s.start_capture().await?;

    let stored = |id: i32, time: &str| [orders.insert(row! { id: id, updated_at: time })];
    let first = stored(1, "2024-05-01 12:00:00");
    s.apply(raw("INSERT INTO orders VALUES (1, '2024-05-01 12:00:00.1')", first)).await?;
    s.catch_up().await?;
    let within_the_second = stored(2, "2024-05-01 12:00:00");
    s.apply(raw("INSERT INTO orders VALUES (2, '2024-05-01 12:00:00.4')", within_the_second)).await?;
    s.catch_up().await?;
    let rounded = match s.source::<Source>()?.flavour() {
        Flavour::MySql => stored(3, "2024-05-01 12:00:01"),
        Flavour::MariaDb => stored(3, "2024-05-01 12:00:00"),
    };
    s.apply(raw("INSERT INTO orders VALUES (3, '2024-05-01 12:00:00.6')", rounded)).await?;
    s.catch_up().await?;
    let truly_later = stored(4, "2024-05-01 12:00:01");
    s.apply(raw("INSERT INTO orders VALUES (4, '2024-05-01 12:00:01.2')", truly_later)).await?;

    s.judge().await
}

/// The cure: `DATETIME(6)`, which tells the same rows apart.
#[scenario]
async fn time_of_microseconds(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int).column("updated_at", Timestamp)).await?;
    s.start_capture().await?;

    for (id, time) in [(1, "12:00:00.1"), (2, "12:00:00.4"), (3, "12:00:00.6"), (4, "12:00:01.2")] {
        s.apply(orders.insert(row! { id: id, updated_at: format!("2024-05-01 {time}") })).await?;
        s.catch_up().await?;
    }

    s.judge().await
}
