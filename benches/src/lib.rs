//! How long it takes until a change is seen, how many are seen in a second, and what that costs the source.
//!
//! Three parts, each of which the command line can choose:
//! - *lag*: bursts and an open loop by every method, at the tiers of 1,000, 10,000 and 100,000 rows;
//! - *drain*: a backlog read by the native method, against the database's own program that reads its log;
//! - *price*: transactions per second of writers with each method on, against none.
//!
//! Both ends are clocked by this process. A change that is lost, repeated or unknown ends the bench with an error.

mod choice;
mod drain;
mod lag;
mod load;
mod price;
mod report;
mod rig;
mod rival;
mod server;
mod spread;

use std::process::ExitCode;

use changeproof::{
    capture::{Capture, Options, Profile},
    error::{Context, Result},
};
use mimalloc::MiMalloc;
use tokio::runtime::{Builder, Runtime};

use self::{
    choice::{Choice, Part},
    rival::Rival,
};

/// What is captured are many small values, which the system's allocator takes several times as long for; `cdc` has this one too.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How polling is measured. Rows whose transactions overlap are lost to it unless its looks do, too; writers here take far less than this.
pub const POLLING: &[(&str, &str)] = &[("interval.ms", "100"), ("overlap.ms", "250")];

/// A method as it is measured.
#[derive(Clone, Copy)]
pub struct Setup {
    /// The method.
    pub method: &'static dyn Capture,
    /// Its set of settings.
    pub profile: Profile,
    /// Settings over those of the profile.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Setup {
    /// The word for its profile in results.
    fn profile_name(&self) -> &'static str {
        match self.profile {
            Profile::Reference => "reference",
            Profile::LowLatency => "low_latency",
        }
    }

    fn options(&self) -> Options {
        let settings = self.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Options { profile: self.profile, settings: settings.collect(), ..Options::default() }
    }
}

/// Runs the parts, tiers and methods that the command line selects (`-- 1k logical`); everything without a selection. What a
/// capture costs is counted against a database that an `idle` method has prepared and doesn't capture.
pub fn main(storage: &'static str, idle: &'static dyn Capture, setups: &[Setup]) -> ExitCode {
    changeproof::stack::run_guard_if_asked();
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let choice = match Choice::read(&words, setups) {
        Ok(choice) => choice,
        Err(unknown) => {
            eprintln!("{unknown}");
            return ExitCode::from(2);
        }
    };
    match measure(storage, idle, &choice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the two ends run: each on threads of its own, so that neither waits for the other's.
struct Ends {
    /// Takes changes, and has a thread beside for a capture that reads ahead, as `cdc` has.
    reader: Runtime,
    /// Writes rows under load.
    writers: Runtime,
}

impl Ends {
    fn new() -> Result<Self> {
        let doing = "start its threads";
        let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self {
            reader: runtime().while_doing("the bench", doing)?,
            writers: runtime().while_doing("the bench", doing)?,
        })
    }
}

fn measure(storage: &'static str, idle: &'static dyn Capture, choice: &Choice) -> Result<()> {
    let ends = Ends::new()?;
    let writers = ends.writers.handle();
    for part in &choice.parts {
        match part {
            Part::Lag => lag::measure(&ends, storage, &choice.setups, &choice.tiers)?,
            Part::Drain => {
                for setup in &choice.setups {
                    if let Some(rival) = Rival::of(setup.method) {
                        ends.reader.block_on(drain::measure(storage, setup, rival))?;
                    }
                }
            }
            Part::Price => ends.reader.block_on(price::measure(writers, storage, idle, &choice.setups))?,
        }
    }
    Ok(())
}
