//! A server whose history isn't the one that was read before.

use changeproof::mysql::{Flavour, Source};

use crate::prelude::*;

/// What each says of a server whose log isn't the one that it has read.
const IS_ANOTHER: &[(&str, &str)] = &[
    ("debezium", "but this is no longer available on the server"),
    ("binlog", "the server has never committed"),
    ("maxwell", "impossible position"),
];

/// Failover to a replica that had not yet received all, or a server restored from a backup: the row that was delivered last has never been
/// there, and the log goes on without its transaction. What was captured is a copy of nothing, and whoever wants to go on is told.
#[scenario(own_server, only = "debezium, binlog, maxwell", why = "it doesn't read the log")]
async fn server_that_lacks_a_delivered_transaction(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    let flavour = s.source::<Source>()?.flavour();
    say(s, written_by_the_former_server(flavour)).await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    say(s, as_if_it_had_never_been(flavour)).await?;
    // MariaDB counts on, so one of these has the number of what was delivered last.
    s.apply_all((3..8).map(|id| orders.insert(row! { id: id }))).await?;

    s.must_refuse_to_resume(IS_ANOTHER).await
}

/// The log begins anew, with the numbers that it began with before.
#[scenario(own_server, only = "debezium, binlog, maxwell", why = "it doesn't read the log")]
async fn log_reset_while_stopped(s: &mut Scenario) -> Result<()> {
    let orders = s.create(table("orders").key("id", Int)).await?;
    s.start_capture().await?;

    s.apply(orders.insert(row! { id: 1 })).await?;
    s.catch_up().await?;
    s.stop_capture().await?;
    s.apply(orders.insert(row! { id: 2 })).await?;
    let flavour = s.source::<Source>()?.flavour();
    say(s, &[reset_of_the_log(flavour)]).await?;
    s.apply(orders.insert(row! { id: 3 })).await?;

    s.must_refuse_to_resume(IS_ANOTHER).await
}

async fn say(s: &mut Scenario, statements: &[&str]) -> Result<()> {
    for statement in statements {
        s.apply(raw(statement, [])).await?;
    }
    Ok(())
}

fn reset_of_the_log(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MySql => "RESET BINARY LOGS AND GTIDS",
        Flavour::MariaDb => "RESET MASTER",
    }
}

/// The next transaction bears the identifier of another server: the one that was the primary until then.
fn written_by_the_former_server(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MySql => &["SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:1'"],
        Flavour::MariaDb => &["SET @before = @@global.gtid_binlog_state", "SET SESSION server_id = 2"],
    }
}

/// The server is now one that has never received that transaction.
fn as_if_it_had_never_been(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MySql => &[
            "SET gtid_next = 'AUTOMATIC'",
            "SET sql_log_bin = OFF",
            "DELETE FROM orders WHERE id = 2",
            "SET sql_log_bin = ON",
            "SET @others = GTID_SUBTRACT(@@global.gtid_executed, '3e11fa47-71ca-11e1-9e33-c80aa9429562:1')",
            "RESET BINARY LOGS AND GTIDS",
            "SET GLOBAL gtid_purged = @others",
        ],
        Flavour::MariaDb => &[
            "SET sql_log_bin = OFF",
            "DELETE FROM orders WHERE id = 2",
            "SET sql_log_bin = ON",
            "RESET MASTER",
            "SET GLOBAL gtid_binlog_state = @before",
            "SET SESSION server_id = 3",
        ],
    }
}
