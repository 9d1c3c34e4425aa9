//! The figures as a file for programs, with what is needed to compare them later.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use changeproof::{
    capture::Profile,
    error::{Context, Result},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Setup, rig::Versions};

#[derive(Debug, Default, Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    memory_mb: u64,
    kernel: String,
    /// What else ran: processes that were ready to run, on the average of the minute before.
    load_before: f64,
}

impl Machine {
    fn this() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let field = |file: &str, name: &str| {
            let text = read(file);
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory_kb = field("/proc/meminfo", "MemTotal");
        let memory_kb = memory_kb.split(' ').next().and_then(|kb| kb.parse::<u64>().ok());
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field("/proc/cpuinfo", "model name"),
            memory_mb: memory_kb.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            load_before: load.unwrap_or_default(),
        }
    }
}

/// All figures of one subject.
#[derive(Debug, Serialize)]
pub(crate) struct Report<R> {
    storage: &'static str,
    subject: &'static str,
    unix_time_s: u64,
    machine: Machine,
    versions: Value,
    #[serde(skip)]
    images: BTreeSet<String>,
    settings: Value,
    /// The figures.
    pub(crate) rows: Vec<R>,
}

impl<R: Serialize> Report<R> {
    /// A report without figures yet. Its file is called `STORAGE_SUBJECT.json`.
    pub(crate) fn new(storage: &'static str, subject: &'static str, setups: &[Setup]) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            storage,
            subject,
            unix_time_s: now.as_secs(),
            machine: Machine::this(),
            versions: Value::Null,
            images: BTreeSet::new(),
            settings: setups.iter().map(setting).collect::<Map<_, _>>().into(),
            rows: Vec::new(),
        }
    }

    /// Says what ran, beside what was said before.
    pub(crate) fn describe(&mut self, versions: &Versions) {
        let pinned: Map<String, Value> = include_str!("../../images/versions.env")
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| !name.starts_with('#'))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        self.images.extend(versions.images.iter().cloned());
        self.versions = json!({ self.storage: versions.server, "images": self.images, "pinned": pinned });
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn write(&self) -> Result<()> {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/lag");
        let doing = || format!("write {}", target.display());
        fs::create_dir_all(&target).while_doing("the bench", doing())?;
        let name = format!("{}_{}.json", self.storage, self.subject);
        let json = serde_json::to_string_pretty(self).while_doing("the bench", doing())?;
        fs::write(target.join(&name), json).while_doing("the bench", doing())?;
        println!("written: target/lag/{name}\n");
        Ok(())
    }
}

/// The settings of a method by a profile, beyond its defaults.
fn setting(setup: &Setup) -> (String, Value) {
    let profile = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let mut settings = Map::new();
    if setup.method.name() == "debezium" {
        settings.extend(profile(include_str!("../../fixtures/debezium/reference.json")));
        if setup.profile == Profile::LowLatency {
            settings.extend(profile(include_str!("../../fixtures/debezium/low_latency.json")));
        }
    }
    settings.extend(setup.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    (format!("{} {}", setup.method.name(), setup.profile_name()), settings.into())
}
