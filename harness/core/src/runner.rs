//! The test binary of a storage's scenarios: one test for each scenario and method.

use std::{
    fmt::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
    sync::LazyLock,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::{Builder, Runtime};

pub use crate::pages::compare_page;
use crate::{
    capture::Capture,
    error::Result,
    matrix::{self, Matrix},
    pages,
    scenario::{Definition, Scenario},
    stack,
    warehouse::WAREHOUSE,
};

/// The scenarios of one storage and the methods that capture it.
#[derive(Clone, Copy)]
pub struct Catalogue {
    /// The storage's name.
    pub storage: &'static str,
    /// The crates that its scenarios stand in.
    pub packages: &'static [&'static str],
    /// The methods, the primary one first.
    pub methods: &'static [&'static dyn Capture],
    /// The folder of the snapshots, with a folder in it for each method. Without one no page is compared: the judge alone
    /// decides.
    pub snapshots: Option<&'static str>,
    /// Other versions of the source. A page that differs there stands in the snapshots' folder with `@VERSION` at its end.
    pub versions: &'static [&'static str],
    /// The document that the fidelity matrix stands in, if it has to be kept up to date.
    pub readme: Option<&'static str>,
}

impl Catalogue {
    /// The storage's name in prose.
    pub fn title(&self) -> &'static str {
        self.methods.first().map_or(self.storage, |method| method.storage().title())
    }

    /// Whether a server runs statements of SQL as they are written.
    pub fn knows_sql(&self) -> bool {
        self.methods.iter().any(|method| method.storage().server().is_some())
    }

    /// The scenarios in the order of their names, without those that only other storages can play.
    pub fn scenarios(&self) -> Vec<&'static Definition> {
        let mut scenarios = Definition::of_packages(self.packages);
        scenarios.retain(|definition| definition.is_on(self.title()));
        scenarios
    }
}

/// Runs the tests `METHOD::SCENARIO` that the command line selects. To be called first thing in `main`.
pub fn main(catalogue: Catalogue) -> ExitCode {
    stack::run_guard_if_asked();
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    if catalogue.snapshots.is_some() {
        let check = move || each_snapshot_has_its_scenario(&catalogue);
        trials.push(Trial::test("snapshots::each_has_its_scenario", check));
    }
    if let Some(readme) = catalogue.readme {
        let check = move || readme_is_up_to_date(&catalogue, readme);
        trials.push(Trial::test("matrix::the_readme_is_up_to_date", check));
    }
    for definition in catalogue.scenarios() {
        trials.extend(trials_of(catalogue, definition, ""));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The tests of a scenario, by each method that it has a meaning for; their names begin with the prefix.
pub fn trials_of(catalogue: Catalogue, definition: &'static Definition, prefix: &str) -> Vec<Trial> {
    let methods = catalogue.methods.iter().filter(|method| definition.applies_to(**method));
    let trial = |method: &&'static dyn Capture| {
        let (name, method) = (format!("{prefix}{}::{}", method.name(), definition.name), *method);
        Trial::test(name, move || run(&catalogue, definition, method))
    };
    methods.map(trial).collect()
}

/// Runs some scenarios of a lakehouse as tests `s3::METHOD::SCENARIO` with their tables in object storage, against the pages of
/// tables in a folder. To be called first thing in `main`.
pub fn main_in_a_bucket(catalogue: Catalogue, names: &[&str]) -> ExitCode {
    stack::run_guard_if_asked();
    if std::env::var(WAREHOUSE).as_deref() != Ok("s3") {
        // The environment of a process can't be changed safely once it runs.
        let Ok(itself) = std::env::current_exe() else { return ExitCode::FAILURE };
        let error = Command::new(itself).args(std::env::args_os().skip(1)).env(WAREHOUSE, "s3").exec();
        eprintln!("could not start again with {WAREHOUSE}=s3: {error}");
        return ExitCode::FAILURE;
    }
    let scenarios = catalogue.scenarios();
    let mut trials = Vec::new();
    for name in names {
        let Some(scenario) = scenarios.iter().find(|scenario| scenario.name == *name) else {
            eprintln!("there is no scenario {name}");
            return ExitCode::FAILURE;
        };
        trials.extend(trials_of(catalogue, scenario, "s3::"));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One runtime for all tests of the process: the engine's client keeps connections that don't outlive theirs.
static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// Runs a test to its end on the runtime of the process.
///
/// # Errors
/// What the test fails with.
pub fn on_a_runtime<T>(test: impl Future<Output = Result<T>>) -> Result<T, Failed> {
    let runtime = RUNTIME.as_ref().map_err(ToString::to_string)?;
    Ok(runtime.block_on(test)?)
}

fn run(catalogue: &Catalogue, definition: &'static Definition, method: &'static dyn Capture) -> Result<(), Failed> {
    let outcome = on_a_runtime(Scenario::run(definition, method))?;
    Ok(pages::document(catalogue, definition, method, &outcome)?)
}

fn readme_is_up_to_date(catalogue: &Catalogue, readme: &str) -> Result<(), Failed> {
    match matrix::write_into(Path::new(readme), &Matrix::read(catalogue)?, !pages::is_accepting())? {
        false => Ok(()),
        true if pages::is_accepting() => Ok(()),
        true => {
            Err("README.md is behind the pages: `cdc matrix --write` (or `make accept`) puts their matrix into it"
                .into())
        }
    }
}

fn each_snapshot_has_its_scenario(catalogue: &Catalogue) -> Result<(), Failed> {
    let mut orphans = String::new();
    let versions = [None].into_iter().chain(catalogue.versions.iter().map(|version| Some(*version)));
    for (version, method) in versions.flat_map(|version| catalogue.methods.iter().map(move |method| (version, method)))
    {
        let Some(Ok(files)) = pages::folder(catalogue, version, method.name()).map(std::fs::read_dir) else {
            continue;
        };
        for file in files {
            let path = file?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_it = |definition: &&Definition| definition.name == name && definition.applies_to(*method);
            let is_known = catalogue.scenarios().iter().any(is_it);
            if path.extension().is_some_and(|extension| extension == "snap") && !is_known {
                let _ = write!(orphans, "\n  {}", path.display());
            }
        }
    }
    if orphans.is_empty() {
        Ok(())
    } else {
        Err(format!("these snapshots belong to no scenario; remove them:{orphans}").into())
    }
}
