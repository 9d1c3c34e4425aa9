//! The test binary of a storage's scenarios: one test for each scenario and method.

use std::{fmt::Write, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    capture::Capture,
    matrix::{self, Matrix},
    scenario::{Definition, Outcome, Scenario, snapshot_folder, workspace},
    stack,
};

/// The scenarios of one storage and the methods that capture it.
#[derive(Clone, Copy)]
pub struct Catalogue {
    /// The storage's name: the folder of its snapshots.
    pub storage: &'static str,
    /// The crate that its scenarios stand in.
    pub package: &'static str,
    /// The methods, the primary one first.
    pub methods: &'static [&'static dyn Capture],
}

impl Catalogue {
    /// The scenarios in the order of their names.
    pub fn scenarios(&self) -> Vec<&'static Definition> {
        Definition::of_package(self.package)
    }
}

/// Runs the tests `METHOD::SCENARIO` that the command line selects. To be called first thing in `main`.
pub fn main(catalogue: Catalogue) -> ExitCode {
    stack::run_guard_if_asked();
    let arguments = Arguments::from_args();
    let mut trials =
        vec![Trial::test("snapshots::each_has_its_scenario", move || each_snapshot_has_its_scenario(&catalogue))];
    trials.push(Trial::test("matrix::the_readme_is_up_to_date", move || readme_is_up_to_date(&catalogue)));
    for definition in catalogue.scenarios() {
        for method in catalogue.methods.iter().filter(|method| definition.applies_to(method.name())) {
            let name = format!("{}::{}", method.name(), definition.name);
            trials.push(Trial::test(name, move || run(&catalogue, definition, *method)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(catalogue: &Catalogue, definition: &'static Definition, method: &'static dyn Capture) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime?.block_on(Scenario::run(definition, method))?;
    document(catalogue, definition, method, &outcome);
    Ok(())
}

/// The judge has decided; the snapshot documents. It panics if the page isn't the one on record.
fn document(catalogue: &Catalogue, definition: &Definition, method: &dyn Capture, outcome: &Outcome) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(snapshot_folder(catalogue.storage, method.name()));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(definition.doc);
    settings.set_input_file(definition.file);
    settings.bind(|| insta::assert_snapshot!(definition.name, outcome.page));
}

fn readme_is_up_to_date(catalogue: &Catalogue) -> Result<(), Failed> {
    let readme = workspace().join("README.md");
    match matrix::write_into(&readme, &Matrix::read(catalogue)?, true)? {
        false => Ok(()),
        true => {
            Err("README.md is behind the pages: `cdc matrix --write` (or `make accept`) puts their matrix into it"
                .into())
        }
    }
}

fn each_snapshot_has_its_scenario(catalogue: &Catalogue) -> Result<(), Failed> {
    let mut orphans = String::new();
    for method in catalogue.methods {
        let Ok(files) = std::fs::read_dir(snapshot_folder(catalogue.storage, method.name())) else {
            continue;
        };
        for file in files {
            let path = file?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_it = |definition: &&Definition| definition.name == name && definition.applies_to(method.name());
            let is_known = catalogue.scenarios().iter().any(is_it);
            if path.extension().is_some_and(|extension| extension == "snap") && !is_known {
                let shown = path.strip_prefix(workspace()).unwrap_or(&path).display();
                let _ = write!(orphans, "\n  {shown}");
            }
        }
    }
    if orphans.is_empty() {
        Ok(())
    } else {
        Err(format!("these snapshots belong to no scenario; remove them:{orphans}").into())
    }
}
