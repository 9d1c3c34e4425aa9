//! The wait until sinks hold what the source holds.

use std::time::{Duration, Instant};

use changeproof::{
    connect::Connector,
    error::{Error, Result},
    postgres::{Address, PUBLICATION},
};
use changeproof_iceberg::Warehouse;
use changeproof_pipelines::{Layout, Misfit, check};

/// How long the sinks may take to hold what the source holds.
const EQUAL_WITHIN: Duration = Duration::from_secs(240);

/// Waits until all sinks hold what the source holds. Connectors whose tasks have failed are started again, as whoever runs them has to.
///
/// # Errors
/// They don't within four minutes: says in what they differ.
pub async fn wait_until_equal(
    address: &Address,
    sinks: &[(Layout, Warehouse)],
    connectors: &[Connector],
) -> Result<()> {
    let deadline = Instant::now() + EQUAL_WITHIN;
    let (mut waiting, mut were_equal): (Vec<_>, bool) = (sinks.iter().collect(), false);
    loop {
        let mut differences = Vec::new();
        for connector in connectors {
            match connector.restart_if_failed().await {
                Ok(true) => println!("{connector:?} had failed and is started again"),
                Ok(false) => {}
                Err(error) => differences.push(error.to_string()),
            }
        }
        let mut differing = Vec::new();
        for sink in waiting {
            let of_sink = differences_of(address, sink).await;
            if !of_sink.is_empty() {
                differing.push(sink);
            }
            differences.extend(of_sink);
        }
        // Each is compared until it is equal, which is dear, and all once more at the end: what comes late must not have changed any.
        if differences.is_empty() {
            if were_equal {
                return Ok(());
            }
            (waiting, were_equal) = (sinks.iter().collect(), true);
            continue;
        }
        (waiting, were_equal) = (differing, false);
        if Instant::now() > deadline {
            return Err(Error::new("the test", "see all sinks equal to the source", differences.join("\n")));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn differences_of(address: &Address, (layout, warehouse): &(Layout, Warehouse)) -> Vec<String> {
    match check(address, PUBLICATION, warehouse, *layout, Misfit::Refuse).await {
        Ok(checked) => {
            let differing = checked.iter().filter(|table| !table.is_equal());
            differing.map(|table| format!("{layout:?}: {table:?}")).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

/// How many rows all tables of a sink have, by the summaries of their snapshots.
///
/// # Errors
/// The catalog doesn't answer.
pub async fn rows(sink: &Warehouse) -> Result<u64> {
    let mut rows = 0;
    for ident in sink.tables().await? {
        rows += sink.table(&ident).await?.metadata().current_snapshot().map_or(0, |current| {
            let total = current.summary().additional_properties.get("total-records");
            total.and_then(|total| total.parse::<u64>().ok()).unwrap_or(0)
        });
    }
    Ok(rows)
}
