//! Pages on record: the snapshot that documents what a method made of a scenario, and the other one that it may have on
//! another version of the source.

use std::path::{Path, PathBuf};

use crate::{
    capture::Capture,
    error::{Context, Error, Result},
    runner::Catalogue,
    scenario::{Definition, Outcome},
};

/// Says which pages there are to compare with: `skip` for none, so that the judge alone decides; or another version of the
/// source, whose pages are on record where they differ.
const PAGES: &str = "CHANGEPROOF_PAGES";

/// insta's own variable: `always` takes what it is given for right.
const UPDATE: &str = "INSTA_UPDATE";

/// Whether what comes is to be taken for right.
pub(crate) fn is_accepting() -> bool {
    std::env::var_os(UPDATE).is_some_and(|update| update == "always")
}

/// The page that documents a scenario by a method, on the source's usual version or another one.
pub(crate) fn path(catalogue: &Catalogue, version: Option<&str>, method: &str, scenario: &str) -> Option<PathBuf> {
    Some(folder(catalogue, version, method)?.join(format!("{scenario}.snap")))
}

/// The folder of a method's pages.
pub(crate) fn folder(catalogue: &Catalogue, version: Option<&str>, method: &str) -> Option<PathBuf> {
    let usual = Path::new(catalogue.snapshots?);
    let usual = usual.canonicalize().unwrap_or_else(|_| usual.to_owned());
    let folder = match (version, usual.file_name()) {
        (Some(version), Some(name)) => usual.with_file_name(format!("{}@{version}", name.display())),
        _ => usual,
    };
    Some(folder.join(method))
}

/// What a snapshot's file holds behind its own head.
pub(crate) fn body(file: &str) -> Option<&str> {
    Some(file.strip_prefix("---\n")?.split_once("\n---\n")?.1)
}

/// The judge has decided; the snapshot documents. It panics if the page isn't the one on record.
///
/// # Errors
/// The variable names a version of which the catalogue knows nothing, or a page can't be read.
pub(crate) fn document(
    catalogue: &Catalogue,
    definition: &Definition,
    method: &dyn Capture,
    outcome: &Outcome,
) -> Result<()> {
    let version = std::env::var(PAGES).ok().filter(|pages| !pages.is_empty());
    let (method, name) = (method.name(), definition.name);
    match version.as_deref() {
        Some("skip") => Ok(()),
        None => {
            compare(folder(catalogue, None, method), definition, outcome);
            Ok(())
        }
        Some(version) if catalogue.versions.contains(&version) => {
            let usual = path(catalogue, None, method, name).map(std::fs::read_to_string);
            let is_usual = matches!(&usual, Some(Ok(file)) if body(file).is_some_and(|body| same(body, &outcome.page)));
            if !is_usual {
                compare(folder(catalogue, Some(version), method), definition, outcome);
                return Ok(());
            }
            match path(catalogue, Some(version), method, name).filter(|page| page.exists()) {
                Some(page) => no_longer_different(&page),
                None => Ok(()),
            }
        }
        Some(version) => {
            let known = catalogue.versions.join(", ");
            Err(Error::new("the pages", format!("compare with those of {version}"), "there is no such version")
                .help(format!("set {PAGES} to `skip`, or to one of {known}")))
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end() == b.trim_end()
}

fn no_longer_different(page: &Path) -> Result<()> {
    let doing = || format!("keep {}", page.display());
    if is_accepting() {
        return std::fs::remove_file(page).while_doing("the pages", doing());
    }
    Err(Error::new("the pages", doing(), "the page is that of the usual version").help("remove the file"))
}

fn compare(folder: Option<PathBuf>, definition: &Definition, outcome: &Outcome) {
    let Some(folder) = folder else { return };
    compare_page(&folder, definition.name, definition.file, Some(definition.doc), &outcome.page);
}

/// Compares a page, written by a test in a file, with the one on record in a folder. It panics if it is another.
pub fn compare_page(folder: &Path, name: &str, file: &str, description: Option<&str>, page: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(file);
    if let Some(description) = description {
        settings.set_description(description);
    }
    settings.bind(|| insta::assert_snapshot!(name, page));
}
