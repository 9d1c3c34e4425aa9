//! How long it takes until a change is seen, and how many are seen in a second.
//!
//! Two loads, each at the tiers of 1,000, 10,000 and 100,000 rows:
//! - *burst*: all rows in one transaction; from sending COMMIT until the last change is visible (criterion);
//! - *open loop*: a row at a time at a fixed offered rate, whatever the capture does; the lag of each change counts from
//!   the moment its row was due, so that a writer that is held up doesn't hide it (no coordinated omission).
//!
//! Both ends are clocked by this process. A change that is lost, repeated or unknown ends the bench with an error.

mod load;
mod report;
mod rig;

use std::{process::ExitCode, time::Duration};

use changeproof::{capture::Capture, capture::Profile, error::Result};
use criterion::{Criterion, SamplingMode, Throughput};

pub use self::{
    load::{OpenLoop, burst, open_loop},
    report::{Report, Row},
    rig::Rig,
};

/// A number of rows, and the rate at which they are offered in the open loop.
#[derive(Clone, Copy, Debug)]
pub struct Tier {
    /// The name on the command line and in the results.
    pub name: &'static str,
    /// How many rows.
    pub rows: u32,
    /// How many rows a second the open loop offers.
    pub offered_per_s: u32,
}

/// The tiers.
pub const TIERS: [Tier; 3] = [
    Tier { name: "1k", rows: 1_000, offered_per_s: 1_000 },
    Tier { name: "10k", rows: 10_000, offered_per_s: 1_000 },
    Tier { name: "100k", rows: 100_000, offered_per_s: 2_000 },
];

const PROFILES: [Profile; 2] = [Profile::Reference, Profile::LowLatency];

/// The word for a profile in results.
pub fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Reference => "reference",
        Profile::LowLatency => "low_latency",
    }
}

/// Runs the loads that the command line selects (`-- 1k` for one tier) by every profile of a method.
pub fn main(storage: &'static str, method: &'static dyn Capture) -> ExitCode {
    changeproof::stack::run_guard_if_asked();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |tier: &Tier| wanted.is_empty() || wanted.iter().any(|name| name == tier.name);
    let tiers: Vec<_> = TIERS.into_iter().filter(is_wanted).collect();
    if tiers.is_empty() {
        let known: Vec<_> = TIERS.iter().map(|tier| tier.name).collect();
        eprintln!("no such tier: {}; there are: {}", wanted.join(", "), known.join(", "));
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match measure(&runtime, storage, method, &tiers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    storage: &'static str,
    method: &'static dyn Capture,
    tiers: &[Tier],
) -> Result<()> {
    let mut report = Report::new(storage, method.name());
    let mut criterion = Criterion::default().without_plots();
    for profile in PROFILES {
        let mut rig = runtime.block_on(Rig::open(method, profile))?;
        let measured = measure_profile(runtime, &mut criterion, &mut rig, profile, tiers, &mut report);
        report.describe(&runtime.block_on(rig.versions())?);
        runtime.block_on(rig.close())?;
        measured?;
    }
    criterion.final_summary();
    report.finish()
}

fn measure_profile(
    runtime: &tokio::runtime::Runtime,
    criterion: &mut Criterion,
    rig: &mut Rig,
    profile: Profile,
    tiers: &[Tier],
    report: &mut Report,
) -> Result<()> {
    for tier in tiers {
        let mut bursts = Vec::new();
        let mut failed = Ok(());
        let name = format!("{}/{}/burst", report.subject(), profile_name(profile));
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(1))
            .throughput(Throughput::Elements(u64::from(tier.rows)));
        group.bench_function(tier.name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    match runtime.block_on(burst(rig, tier.rows)) {
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
        let lags = runtime.block_on(open_loop(rig, *tier))?;
        report.add(Row::new(profile, *tier, &mut bursts, &lags));
    }
    Ok(())
}
