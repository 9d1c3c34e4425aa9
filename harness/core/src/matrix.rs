//! The fidelity matrix: what each method makes of each scenario, as the pages on record say.

use std::{fmt::Write, path::Path};

use serde::Serialize;

use crate::{
    capture::Capture,
    error::{Context, Error, Result},
    guarantees::Loss,
    pages,
    runner::Catalogue,
    scenario::Definition,
};

/// What a method made of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Cell {
    /// The stream told all that happened.
    Exact,
    /// It left these out, as the method promises.
    AsGuaranteed {
        /// The losses in the words of the verdict.
        losses: Vec<String>,
    },
    /// It showed a known flaw of the method.
    KnownFlaw {
        /// The flaw's faults and its reference, as the verdict says.
        flaw: String,
    },
    /// The capture could not go on without a gap, and said so.
    Refused {
        /// What its message says.
        told: String,
    },
    /// The scenario has no meaning for the method.
    NotApplicable {
        /// Why.
        why: &'static str,
    },
}

/// A scenario and what each method made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What it shows, in a sentence.
    pub shows: String,
    /// In the order of the methods.
    pub cells: Vec<Cell>,
}

/// The scenarios of a storage by its methods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// The storage.
    pub storage: &'static str,
    /// The methods' names.
    pub methods: Vec<&'static str>,
    /// A line for each scenario, in the order of their names.
    pub lines: Vec<Line>,
    /// The other versions of the storage on which the scenarios run.
    pub versions: Vec<&'static str>,
    /// What is different there.
    pub differences: Vec<Difference>,
}

/// A scenario by a method that has another page on another version of the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The version.
    pub version: &'static str,
    /// The scenario's name.
    pub scenario: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// The verdict there.
    pub cell: Cell,
    /// Whether it is the same as on the usual version, and only the stream differs.
    pub same_verdict: bool,
}

impl Matrix {
    /// Reads the matrix from the snapshots.
    ///
    /// # Errors
    /// A page is missing, or has no verdict that may be on record.
    pub fn read(catalogue: &Catalogue) -> Result<Self> {
        let lines = catalogue.scenarios().into_iter().map(|definition| {
            let cells = catalogue.methods.iter().map(|method| cell(catalogue, definition, *method));
            let cells = cells.collect::<Result<_>>()?;
            Ok(Line { scenario: definition.name, shows: definition.summary(), cells })
        });
        let mut lines: Vec<Line> = lines.collect::<Result<_>>()?;
        lines.retain(|line| line.cells.iter().any(|cell| !matches!(cell, Cell::NotApplicable { .. })));
        let methods: Vec<_> = catalogue.methods.iter().map(|method| method.name()).collect();
        let mut differences = Vec::new();
        for line in &lines {
            for (method, usual) in methods.iter().zip(&line.cells) {
                for version in catalogue.versions {
                    let page = pages::path(catalogue, Some(version), method, line.scenario);
                    let Some(page) = page.filter(|page| page.exists()) else { continue };
                    let cell = read(&page)?;
                    let same_verdict = cell == *usual;
                    differences.push(Difference { version, scenario: line.scenario, method, cell, same_verdict });
                }
            }
        }
        Ok(Self { storage: catalogue.storage, methods, lines, versions: catalogue.versions.to_vec(), differences })
    }

    /// As a table for a terminal.
    pub fn text(&self) -> String {
        let width = self.lines.iter().map(|line| line.scenario.len()).max().unwrap_or(0);
        let mut text = String::new();
        for line in &self.lines {
            for (at, (method, cell)) in self.methods.iter().zip(&line.cells).enumerate() {
                let name = if at == 0 { line.scenario } else { "" };
                let _ = writeln!(text, "{name:width$}  {method:9}  {}", cell.told());
                let here = self.differences.iter().filter(|it| it.scenario == line.scenario && it.method == *method);
                for other in here {
                    let told = if other.same_verdict { "another page".to_owned() } else { other.cell.told() };
                    let _ = writeln!(text, "{:width$}  {:9}    on {}: {told}", "", "", other.version);
                }
            }
        }
        text
    }

    /// As Markdown: how often each method leaves out what, and a table whose cells link to the pages.
    pub fn markdown(&self) -> String {
        let mut text = self.legend();
        let _ = write!(text, "\n<details><summary>All {} scenarios</summary>\n\n", self.lines.len());
        let methods = self.methods.join(" | ");
        let _ = write!(text, "| scenario | {methods} |\n|---|{}\n", "---|".repeat(self.methods.len()));
        for line in &self.lines {
            let cells = self.methods.iter().zip(&line.cells).map(|(method, cell)| match cell {
                Cell::NotApplicable { .. } => cell.short(),
                _ => format!("[{}](snapshots/{}/{method}/{}.snap)", cell.short(), self.storage, line.scenario),
            });
            let _ = writeln!(text, "| {} | {} |", line.scenario, cells.collect::<Vec<_>>().join(" | "));
        }
        text.push_str("\n</details>\n");
        self.versions_markdown(&mut text);
        text
    }

    fn versions_markdown(&self, text: &mut String) {
        if self.versions.is_empty() {
            return;
        }
        let versions = self.versions.join(" and ");
        let different = match self.differences.len() {
            0 => "every page is the same.".to_owned(),
            _ => "every page is the same but for these:\n\n| scenario | method | version | there |\n|---|---|---|---|"
                .to_owned(),
        };
        let _ = writeln!(text, "\nOn the versions {versions} {different}");
        for Difference { version, scenario, method, cell, same_verdict } in &self.differences {
            let page = format!("snapshots/{}@{version}/{method}/{scenario}.snap", self.storage);
            let there = if *same_verdict { "the same verdict for another stream".to_owned() } else { cell.short() };
            let _ = writeln!(text, "| {scenario} | {method} | {version} | [{there}]({page}) |");
        }
    }

    fn legend(&self) -> String {
        let methods = self.methods.join(" | ");
        let mut text =
            format!("| short | what is left out | {methods} |\n|---|---|{}\n", "---:|".repeat(self.methods.len()));
        for loss in Loss::ALL {
            let told = loss.to_string();
            let count = |at: usize| {
                let has =
                    |line: &&Line| matches!(&line.cells[at], Cell::AsGuaranteed { losses } if losses.contains(&told));
                self.lines.iter().filter(has).count()
            };
            let counts: Vec<_> = (0..self.methods.len()).map(count).collect();
            if counts.iter().any(|count| *count > 0) {
                let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "| {} | {told} | {} |", loss.short(), counts.join(" | "));
            }
        }
        let kinds: [(&str, IsKind); 4] = [
            ("exact", |cell| *cell == Cell::Exact),
            ("known flaw", |cell| matches!(cell, Cell::KnownFlaw { .. })),
            ("says why it stops", |cell| matches!(cell, Cell::Refused { .. })),
            ("– not applicable", |cell| matches!(cell, Cell::NotApplicable { .. })),
        ];
        for (name, is_it) in kinds {
            let count = |at: usize| self.lines.iter().filter(|line| is_it(&line.cells[at])).count().to_string();
            let counts: Vec<_> = (0..self.methods.len()).map(count).collect();
            let _ = writeln!(text, "| {name} | | {} |", counts.join(" | "));
        }
        text
    }
}

/// Tells cells of a kind.
type IsKind = fn(&Cell) -> bool;

impl Cell {
    /// In a few words, for tables.
    fn short(&self) -> String {
        match self {
            Self::NotApplicable { .. } => "–".to_owned(),
            Self::Exact => "exact".to_owned(),
            Self::KnownFlaw { .. } => "**known flaw**".to_owned(),
            Self::Refused { .. } => "says why it stops".to_owned(),
            Self::AsGuaranteed { losses } => losses.iter().map(|loss| short(loss)).collect::<Vec<_>>().join(", "),
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::AsGuaranteed { losses } => format!("as guaranteed: {}", losses.join("; ")),
            Self::KnownFlaw { flaw } => format!("known flaw: {flaw}"),
            Self::Refused { told } => format!("refuses to go on: {told}"),
            Self::NotApplicable { why } => format!("not applicable: {why}"),
        }
    }
}

fn short(told: &str) -> &str {
    Loss::ALL.iter().find(|loss| loss.to_string() == told).map_or(told, |loss| loss.short())
}

fn cell(catalogue: &Catalogue, definition: &'static Definition, method: &dyn Capture) -> Result<Cell> {
    if !definition.applies_to(method) {
        return Ok(Cell::NotApplicable { why: definition.why });
    }
    let path = pages::path(catalogue, None, method.name(), definition.name).ok_or_else(|| {
        Error::new("the matrix", format!("read the pages of {}", method.name()), "the catalogue has none")
    })?;
    read(&path)
}

fn read(path: &Path) -> Result<Cell> {
    let page = std::fs::read_to_string(path).while_doing("the matrix", format!("read {}", path.display()))?;
    verdict(&page).ok_or_else(|| {
        Error::new(
            "the matrix",
            format!("read the verdict of {}", path.display()),
            "there is none that may be on record",
        )
        .help("run the scenario, and accept its page by `make accept`")
    })
}

/// The verdict in the first line of a page, behind the snapshot's own head.
fn verdict(page: &str) -> Option<Cell> {
    let verdict = pages::body(page)?.lines().next()?.splitn(3, " · ").nth(2)?;
    if verdict == "exact" {
        return Some(Cell::Exact);
    }
    if let Some(losses) = verdict.strip_prefix("as guaranteed: ") {
        return Some(Cell::AsGuaranteed { losses: losses.split("; ").map(str::to_owned).collect() });
    }
    if let Some(told) = verdict.strip_prefix("refuses to go on: ") {
        return Some(Cell::Refused { told: told.to_owned() });
    }
    let flaw = verdict.strip_prefix("known flaw: ")?;
    Some(Cell::KnownFlaw { flaw: flaw.to_owned() })
}

/// Where a document holds the matrix of a storage: between these two marks.
fn marks(storage: &str) -> (String, String) {
    (format!("<!-- matrix of {storage}: made by `cdc matrix --write` -->\n"), "<!-- end of the matrix -->".to_owned())
}

/// Puts the matrix into a document, between its marks. Returns whether anything was different.
///
/// # Errors
/// The document can't be read or written, or has no marks.
pub fn write_into(document: &Path, matrix: &Matrix, only_compare: bool) -> Result<bool> {
    let doing = || format!("put the matrix into {}", document.display());
    let text = std::fs::read_to_string(document).while_doing("the matrix", doing())?;
    let (begin, end) = marks(matrix.storage);
    let between = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let Some((before, (old, after))) = between else {
        return Err(Error::new("the matrix", doing(), format!("the lines {begin}{end} are not in it")));
    };
    let new = format!("\n{}\n", matrix.markdown());
    let is_different = old != new;
    if is_different && !only_compare {
        let text = format!("{before}{begin}{new}{end}{after}");
        std::fs::write(document, text).while_doing("the matrix", doing())?;
    }
    Ok(is_different)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_pages_and_broken_ones_are_none() {
        let page = |verdict: &str| format!("---\nsource: x\n---\npolling · a_name · {verdict}\n(no change)\n");
        assert_eq!(verdict(&page("exact")), Some(Cell::Exact));
        let losses = vec!["missed delete".to_owned(), "no before-image".to_owned()];
        assert_eq!(
            verdict(&page("as guaranteed: missed delete; no before-image")),
            Some(Cell::AsGuaranteed { losses })
        );
        let flaw = "wrong value (https://example.org · a)".to_owned();
        assert_eq!(verdict(&page(&format!("known flaw: {flaw}"))), Some(Cell::KnownFlaw { flaw }));
        assert_eq!(verdict(&page("broken: lost: + t 1")), None);
        assert_eq!(verdict("no page"), None);
    }

    #[test]
    fn the_matrix_is_put_between_its_marks_and_a_document_that_is_behind_is_noticed() -> Result<()> {
        let cells = vec![Cell::Exact, Cell::AsGuaranteed { losses: vec!["missed delete".into()] }];
        let line = Line { scenario: "a", shows: String::new(), cells };
        let matrix = Matrix {
            storage: "s",
            methods: vec!["m", "n"],
            lines: vec![line],
            versions: vec!["1", "2"],
            differences: vec![Difference {
                version: "2",
                scenario: "a",
                method: "m",
                cell: Cell::Exact,
                same_verdict: false,
            }],
        };
        let path = std::env::temp_dir().join(format!("changeproof-matrix-{}.md", uuid::Uuid::new_v4()));
        let (begin, end) = marks("s");
        std::fs::write(&path, format!("before\n{begin}old\n{end}\nafter\n")).while_doing("test", "write")?;
        assert!(write_into(&path, &matrix, true)?, "it is behind");
        assert!(write_into(&path, &matrix, false)?);
        assert!(!write_into(&path, &matrix, true)?, "it is not any more");
        let text = std::fs::read_to_string(&path).while_doing("test", "read")?;
        assert!(text.starts_with("before\n") && text.ends_with("after\n"));
        assert!(text.contains("| a | [exact](snapshots/s/m/a.snap) | [no delete](snapshots/s/n/a.snap) |"), "{text}");
        assert!(text.contains("On the versions 1 and 2 every page is the same but for these:"), "{text}");
        assert!(text.contains("| a | m | 2 | [exact](snapshots/s@2/m/a.snap) |"), "{text}");
        std::fs::remove_file(&path).while_doing("test", "clean up")
    }
}
