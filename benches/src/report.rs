//! The figures as a table for people and as a file for programs, with what is needed to compare them later.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use changeproof::{
    capture::Profile,
    error::{Context, Result},
};
use serde::Serialize;

use crate::{OpenLoop, Tier, profile_name, rig::Versions};

/// The figures of one profile at one tier.
#[derive(Debug, Serialize)]
pub struct Row {
    profile: &'static str,
    tier: &'static str,
    rows: u32,
    burst_median_ms: f64,
    burst_min_ms: f64,
    burst_max_ms: f64,
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
    pub fn new(profile: Profile, tier: Tier, bursts: &mut [Duration], lags: &OpenLoop) -> Self {
        bursts.sort_unstable();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let median = bursts.get(bursts.len() / 2).copied().unwrap_or_default();
        let quantile_ms = |quantile: f64| ms(Duration::from_micros(lags.lags_us.value_at_quantile(quantile)));
        Self {
            profile: profile_name(profile),
            tier: tier.name,
            rows: tier.rows,
            burst_median_ms: ms(median),
            burst_min_ms: ms(bursts.first().copied().unwrap_or_default()),
            burst_max_ms: ms(bursts.last().copied().unwrap_or_default()),
            burst_changes_per_s: f64::from(tier.rows) / median.as_secs_f64(),
            offered_per_s: tier.offered_per_s,
            achieved_per_s: f64::from(tier.rows) / lags.took.as_secs_f64(),
            lag_p50_ms: quantile_ms(0.50),
            lag_p95_ms: quantile_ms(0.95),
            lag_p99_ms: quantile_ms(0.99),
            lag_max_ms: ms(Duration::from_micros(lags.lags_us.max())),
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    memory_mb: u64,
    kernel: String,
}

impl Machine {
    fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory_kb = field("/proc/meminfo", "MemTotal");
        let memory_kb = memory_kb.split(' ').next().and_then(|kb| kb.parse::<u64>().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field("/proc/cpuinfo", "model name"),
            memory_mb: memory_kb.unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
        }
    }
}

/// All figures of one method.
#[derive(Debug, Serialize)]
pub struct Report {
    storage: &'static str,
    method: &'static str,
    unix_time_s: u64,
    machine: Machine,
    versions: serde_json::Value,
    settings: serde_json::Value,
    rows: Vec<Row>,
}

impl Report {
    /// A report without figures yet.
    pub fn new(storage: &'static str, method: &'static str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            storage,
            method,
            unix_time_s: now.as_secs(),
            machine: Machine::this(),
            versions: serde_json::Value::Null,
            settings: serde_json::json!({
                "reference": setting(include_str!("../../fixtures/debezium/reference.json")),
                "low_latency": setting(include_str!("../../fixtures/debezium/low_latency.json")),
            }),
            rows: Vec::new(),
        }
    }

    /// What is measured, `STORAGE/METHOD`.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.storage, self.method)
    }

    pub(crate) fn describe(&mut self, versions: &Versions) {
        let pinned: serde_json::Map<String, serde_json::Value> = include_str!("../../images/versions.env")
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| !name.starts_with('#'))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        self.versions = serde_json::json!({
            "postgres": versions.postgres,
            "images": versions.images,
            "pinned": pinned,
        });
    }

    /// Adds figures and tells them.
    pub fn add(&mut self, row: Row) {
        println!(
            "{} {} {:>4}: burst {:.0} ms ({:.0} changes/s); open loop at {}/s: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.subject(),
            row.profile,
            row.tier,
            row.burst_median_ms,
            row.burst_changes_per_s,
            row.offered_per_s,
            row.lag_p50_ms,
            row.lag_p95_ms,
            row.lag_p99_ms,
            row.lag_max_ms
        );
        self.rows.push(row);
    }

    /// Prints the table and writes the file.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(&self) -> Result<()> {
        println!("\n| profile | rows | burst | changes/s | offered | p50 | p95 | p99 | max |");
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        for row in &self.rows {
            println!(
                "| {} | {} | {:.0} ms | {:.0} | {}/s | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms |",
                row.profile,
                row.rows,
                row.burst_median_ms,
                row.burst_changes_per_s,
                row.offered_per_s,
                row.lag_p50_ms,
                row.lag_p95_ms,
                row.lag_p99_ms,
                row.lag_max_ms
            );
        }
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/lag");
        let doing = || format!("write {}", target.display());
        fs::create_dir_all(&target).while_doing("the bench", doing())?;
        let file = target.join(format!("{}_{}.json", self.storage, self.method));
        let json = serde_json::to_string_pretty(self).while_doing("the bench", doing())?;
        fs::write(&file, json).while_doing("the bench", doing())?;
        println!("\nwritten: target/lag/{}_{}.json", self.storage, self.method);
        Ok(())
    }
}

fn setting(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_default()
}
