//! Two loads at each tier:
//! - *burst*: all rows in one transaction; from sending COMMIT until the last change is visible (criterion);
//! - *open loop*: a row at a time at a fixed offered rate, whatever the capture does; the lag of each change counts from
//!   the moment its row was due, so that a writer that is held up doesn't hide it (no coordinated omission).

use std::time::Duration;

use changeproof::error::Result;
use criterion::{Criterion, SamplingMode, Throughput};
use serde::Serialize;

use crate::{
    Ends, Setup,
    choice::Tier,
    load::{OpenLoop, burst, open_loop},
    report::Report,
    rig::Rig,
    spread::Spread,
};

/// Bursts at each tier; criterion takes no fewer.
const SAMPLES: usize = 10;

/// The figures of one method by one profile at one tier.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip)]
    method: &'static str,
    profile: &'static str,
    tier: &'static str,
    rows: u32,
    burst_ms: Spread,
    burst_changes_per_s: f64,
    offered_per_s: u32,
    achieved_per_s: f64,
    lag_p50_ms: f64,
    lag_p95_ms: f64,
    lag_p99_ms: f64,
    lag_max_ms: f64,
}

impl Row {
    /// Sums the measurements up. There is no figure for lost changes: one would have ended the bench with an error.
    fn new(setup: &Setup, tier: Tier, bursts: &[Duration], lags: &OpenLoop) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let quantile_ms = |quantile: f64| ms(Duration::from_micros(lags.lags_us.value_at_quantile(quantile)));
        let burst_ms = Spread::of(bursts.iter().map(|took| ms(*took)));
        Self {
            method: setup.method.name(),
            profile: setup.profile_name(),
            tier: tier.name,
            rows: tier.rows,
            burst_ms,
            burst_changes_per_s: f64::from(tier.rows) * 1e3 / burst_ms.median,
            offered_per_s: tier.offered_per_s,
            achieved_per_s: f64::from(tier.rows) / lags.took.as_secs_f64(),
            lag_p50_ms: quantile_ms(0.50),
            lag_p95_ms: quantile_ms(0.95),
            lag_p99_ms: quantile_ms(0.99),
            lag_max_ms: ms(Duration::from_micros(lags.lags_us.max())),
        }
    }

    const HEADS: &str = "\
        | method, profile | rows | burst | changes/s | offered | lag p50 | p95 | p99 | max |\n\
        |---|---:|---:|---:|---:|---:|---:|---:|---:|";

    fn line(&self) -> String {
        format!(
            "| {}, {} | {} | {:.0} ms | {:.0} | {}/s | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms |",
            self.method,
            self.profile,
            self.rows,
            self.burst_ms.median,
            self.burst_changes_per_s,
            self.offered_per_s,
            self.lag_p50_ms,
            self.lag_p95_ms,
            self.lag_p99_ms,
            self.lag_max_ms
        )
    }
}

/// Measures each setup at each tier, and writes a report of each method.
///
/// # Errors
/// A change is lost, repeated or unknown, or a service fails.
pub(crate) fn measure(ends: &Ends, storage: &'static str, setups: &[Setup], tiers: &[Tier]) -> Result<()> {
    let mut criterion = Criterion::default().without_plots();
    let mut lines = Vec::new();
    for of_method in setups.chunk_by(|one, next| one.method.name() == next.method.name()) {
        let Some(first) = of_method.first() else { continue };
        let mut report = Report::new(storage, first.method.name(), of_method);
        for setup in of_method {
            let mut rig = ends.reader.block_on(Rig::open(setup))?;
            report.describe(&ends.reader.block_on(rig.database.versions())?);
            let measured = tiers.iter().try_for_each(|tier| {
                let row = measure_tier(ends, &mut criterion, &mut rig, setup, *tier, storage)?;
                println!("{}\n{}\n", Row::HEADS, row.line());
                lines.push(row.line());
                report.rows.push(row);
                Ok(())
            });
            ends.reader.block_on(rig.close())?;
            measured?;
        }
        report.write()?;
    }
    criterion.final_summary();
    println!("\n{}\n{}\n", Row::HEADS, lines.join("\n"));
    Ok(())
}

fn measure_tier(
    ends: &Ends,
    criterion: &mut Criterion,
    rig: &mut Rig,
    setup: &Setup,
    tier: Tier,
    storage: &str,
) -> Result<Row> {
    let mut bursts = Vec::new();
    let mut failed = Ok(());
    let name = format!("{storage}/{}/{}/burst", setup.method.name(), setup.profile_name());
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(SAMPLES)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(1))
        .throughput(Throughput::Elements(u64::from(tier.rows)));
    group.bench_function(tier.name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                match ends.reader.block_on(burst(rig, tier.rows)) {
                    Ok(took) => {
                        bursts.push(took);
                        total += took;
                    }
                    // Criterion knows no errors; a time that stands out ends in the error below.
                    Err(error) => {
                        failed = Err(error);
                        total += Duration::from_secs(1);
                    }
                }
            }
            total
        });
    });
    group.finish();
    failed?;
    let lags = ends.reader.block_on(open_loop(ends.writers.handle(), rig, tier))?;
    // Criterion warms up by a burst of its own, which comes first.
    let counted = bursts.split_off(bursts.len().saturating_sub(SAMPLES));
    Ok(Row::new(setup, tier, &counted, &lags))
}
