//! A load, and the wait until sinks hold what the source holds.

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

/// A seeded choice.
pub struct Chance(u64);

impl Chance {
    /// By a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// By `CHANGEPROOF_SEED`, or always the same.
    pub fn seeded() -> Self {
        Self(std::env::var("CHANGEPROOF_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229))
    }

    /// A number below another.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

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
    loop {
        let mut differences = Vec::new();
        for connector in connectors {
            match connector.restart_if_failed().await {
                Ok(true) => println!("{connector:?} had failed and is started again"),
                Ok(false) => {}
                Err(error) => differences.push(error.to_string()),
            }
        }
        for (layout, warehouse) in sinks {
            match check(address, PUBLICATION, warehouse, *layout, Misfit::Refuse).await {
                Ok(checked) => differences.extend(
                    checked.iter().filter(|table| !table.is_equal()).map(|table| format!("{layout:?}: {table:?}")),
                ),
                Err(error) => differences.push(error.to_string()),
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new("the test", "see all sinks equal to the source", differences.join("\n")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
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
