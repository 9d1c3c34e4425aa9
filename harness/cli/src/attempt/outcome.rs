//! What each method made of the file, and the verdict on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use changeproof::{
    Op, Row, Value,
    capture::Capture,
    change::{Change, Position},
    guarantees::{BeforeImages, Granularity, Guarantees, Loss, SchemaChanges, Truncate},
    judge::{Contents, Verdict, judge_fold},
    runner::Catalogue,
};

use super::execute::{History, Ran, StatementFailure};

/// A file that was tried.
pub(super) struct Attempt {
    pub(super) file: PathBuf,
    /// The storages that it ran on, and their versions.
    pub(super) storages: Vec<(&'static Catalogue, String)>,
    pub(super) methods: Vec<MethodOutcome>,
}

impl Attempt {
    /// The statements as they ran on the first method's database.
    pub(super) fn statements(&self) -> &[Ran] {
        self.methods.first().map_or(&[], |method| &method.statements)
    }

    /// The first statement that failed, as a message, with the methods on whose databases it did if it wasn't all.
    pub(super) fn first_failure(&self) -> Option<String> {
        let failures = |method: &MethodOutcome| -> Option<(usize, StatementFailure)> {
            let failed = method.statements.iter().enumerate();
            failed.into_iter().find_map(|(at, ran)| Some((at, ran.failure.clone()?)))
        };
        let failed: Vec<_> = self.methods.iter().filter_map(|method| Some((method.name, failures(method)?))).collect();
        let (_, (_, failure)) = failed.iter().min_by_key(|(_, (at, _))| *at)?;
        let column = failure.column.map(|column| format!(":{column}")).unwrap_or_default();
        let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
        let only = match names.len() == self.methods.len() {
            true => String::new(),
            false => format!(" (only on the database that is captured by {})", names.join(", ")),
        };
        Some(format!("{}:{}{column}: {}{only}", self.file.display(), failure.line, failure.message))
    }
}

/// A change, the statement that caused it, and what its before-image really holds.
pub(super) struct Attributed {
    pub(super) change: Change,
    /// The number of the transaction among those of its stream, from 1.
    pub(super) transaction: usize,
    /// The statement's place in the file, if it can be told.
    pub(super) statement: Option<usize>,
    /// The columns of the table's replica identity.
    pub(super) image: Option<Vec<String>>,
}

/// What a method made of the file.
pub(super) struct MethodOutcome {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) changes: Vec<Attributed>,
    pub(super) verdict: Verdict,
    /// How many changes show each loss; none where it can't be counted.
    pub(super) counts: BTreeMap<Loss, usize>,
    guarantees: Guarantees,
    /// The statements as they ran on its database.
    pub(super) statements: Vec<Ran>,
    /// What its database held in the end.
    pub(super) contents: Contents,
    is_judged_by_model: bool,
}

impl MethodOutcome {
    /// What speaks for the verdict if no promise was broken.
    pub(super) fn proof(&self) -> String {
        let rows: usize = self.contents.values().map(|contents| contents.rows.len()).sum();
        let held = format!("({} tables, {rows} rows)", self.contents.len());
        if self.guarantees.granularity == Granularity::Files {
            format!("the counts of rows are those of what the statements did {held}")
        } else if self.is_judged_by_model {
            format!("the changes are what the statements did, and folded they give what the tables hold {held}")
        } else {
            format!("the stream, folded, gives what the database holds {held}")
        }
    }

    /// Judges a stream by what the database holds in the end.
    pub(super) fn by_contents(
        method: &dyn Capture,
        guarantees: &Guarantees,
        stream: Vec<Change>,
        contents: Contents,
        history: History,
    ) -> Self {
        let nothing = Contents::new();
        let (faults, losses) = judge_fold(&nothing, &stream, &contents, &history.alterations, guarantees);
        let judged = Self::new(method, guarantees, stream, contents, history, Verdict::Exact);
        let losses: BTreeSet<_> = losses.into_iter().chain(judged.counts.keys().copied()).collect();
        Self { verdict: Verdict::new(faults, losses), ..judged }
    }

    /// Takes the Model's verdict, which knows what each statement did.
    #[cfg(any(feature = "iceberg", feature = "delta"))]
    pub(super) fn by_model(
        method: &dyn Capture,
        guarantees: &Guarantees,
        stream: Vec<Change>,
        contents: Contents,
        history: History,
        verdict: Verdict,
    ) -> Self {
        let judged = Self::new(method, guarantees, stream, contents, history, verdict);
        Self { is_judged_by_model: true, ..judged }
    }

    fn new(
        method: &dyn Capture,
        guarantees: &Guarantees,
        stream: Vec<Change>,
        contents: Contents,
        history: History,
        verdict: Verdict,
    ) -> Self {
        let changes = attribute(stream, &history, guarantees);
        let counts = observe(&changes, &history, guarantees);
        Self {
            name: method.name(),
            summary: method.summary(),
            changes,
            verdict,
            counts,
            guarantees: guarantees.clone(),
            statements: history.statements,
            contents,
            is_judged_by_model: false,
        }
    }
}

/// What happened, as a method that delivers every change has told it.
#[derive(Clone, Copy, Default)]
struct Told {
    versions: usize,
    deletes: usize,
    truncates: usize,
    key_changes: usize,
}

impl Told {
    fn by(method: &MethodOutcome) -> Self {
        let mut told = Self::default();
        let splits = method.counts.get(&Loss::KeyChangeSplit).copied().unwrap_or(0);
        for Attributed { change, .. } in &method.changes {
            let old_key = change.before.as_ref().map(|before| before.project(change.key.columns()));
            let is_moved = change.op == Op::Update && old_key.is_some_and(|old| !old.is_empty() && old != change.key);
            told.key_changes += usize::from(is_moved);
            match change.op {
                Op::Insert | Op::Update => told.versions += 1,
                Op::Delete => told.deletes += 1,
                Op::Truncate => told.truncates += 1,
                Op::Read | Op::Upsert | Op::Schema | Op::Files => {}
            }
        }
        Self { deletes: told.deletes - splits, key_changes: told.key_changes + splits, ..told }
    }
}

/// Counts what methods have left out that others have delivered.
pub(super) fn compare(methods: &mut [MethodOutcome]) {
    let tells_all = |method: &&MethodOutcome| {
        method.guarantees.granularity == Granularity::EachChange
            && method.guarantees.truncate == Truncate::Told
            && !method.verdict.is_broken()
    };
    let Some(told) = methods.iter().find(tells_all).map(Told::by) else { return };
    for method in methods.iter_mut().filter(|method| !method.verdict.is_broken()) {
        let mut missed = BTreeMap::new();
        if method.guarantees.truncate == Truncate::Missed {
            missed.insert(Loss::TruncateMissed, told.truncates);
        }
        if method.guarantees.granularity != Granularity::EachChange {
            let upserts = method.changes.iter().filter(|change| change.change.op == Op::Upsert).count();
            missed.insert(Loss::DeleteMissed, told.deletes);
            missed.insert(Loss::OldKeyMissed, told.key_changes);
            missed.insert(Loss::VersionsCollapsed, told.versions.saturating_sub(upserts));
        }
        missed.retain(|_, count| *count > 0);
        let losses = match std::mem::replace(&mut method.verdict, Verdict::Exact) {
            Verdict::AsGuaranteed { losses } => losses,
            _ => BTreeSet::new(),
        };
        let losses = losses.into_iter().chain(missed.keys().copied()).collect();
        method.counts.extend(missed);
        method.verdict = Verdict::new(vec![], losses);
    }
}

fn attribute(stream: Vec<Change>, history: &History, guarantees: &Guarantees) -> Vec<Attributed> {
    let by_identity = guarantees.before_images == BeforeImages::ReplicaIdentity;
    let mut transaction = 0;
    let mut last = None;
    stream
        .into_iter()
        .enumerate()
        .map(|(place, change)| {
            let together = match change.position {
                Some(look @ Position::Look(_)) => Some(format!("{look:?}")),
                _ => change.tx.as_ref().map(|tx| tx.as_str().to_owned()),
            };
            if together.is_none() || together != last {
                transaction += 1;
                last = together;
            }
            let statement = history.causes.of(place, change.position);
            let ran = statement.and_then(|number| history.statements.get(number));
            let shape = ran.and_then(|ran| ran.shapes.get(&change.table));
            let image = shape.filter(|_| by_identity).map(|shape| shape.identity.clone());
            Attributed { change, transaction, statement, image }
        })
        .collect()
}

/// Counts what the stream itself shows that it leaves out.
fn observe(changes: &[Attributed], history: &History, guarantees: &Guarantees) -> BTreeMap<Loss, usize> {
    let mut counts = BTreeMap::new();
    let mut count = |loss, number| {
        if number > 0 {
            *counts.entry(loss).or_insert(0) += number;
        }
    };
    for Attributed { change, image, .. } in changes {
        let before = change.before.as_ref();
        match change.op {
            Op::Upsert => count(Loss::InsertOrUpdate, 1),
            Op::Schema if guarantees.schema_changes == SchemaChanges::WithNextRow => count(Loss::SchemaChangeLate, 1),
            Op::Update | Op::Delete if before.is_none() => count(Loss::NoBeforeImage, 1),
            Op::Update if guarantees.before_images == BeforeImages::Changed => {
                let is_partial = before.map(Row::len) < change.after.as_ref().map(Row::len);
                count(Loss::OldValuesOfChangesOnly, usize::from(is_partial));
            }
            Op::Delete => {
                let is_known =
                    |column: &str| image.as_ref().is_none_or(|image| image.iter().any(|known| known == column));
                let columns = before.iter().flat_map(|before| before.iter());
                let unknown: Vec<_> = columns.filter(|(column, _)| !is_known(column)).collect();
                let is_filled = unknown.iter().any(|(_, value)| !value.is_null());
                count(Loss::BeforeImageKeyOnly, usize::from(!unknown.is_empty()));
                count(Loss::BeforeImageFilled, usize::from(is_filled));
            }
            _ => {}
        }
        let after = change.after.as_ref();
        let is_omitted = after.is_some_and(|row| row.iter().any(|(_, v)| *v == Value::Unavailable));
        count(Loss::UnchangedToastOmitted, usize::from(is_omitted));
    }
    count(Loss::KeyChangeSplit, changes.windows(2).filter(|pair| is_split(pair, history)).count());
    if guarantees.schema_changes == SchemaChanges::NextRow {
        count(Loss::SchemaChangeSilent, history.alterations_count);
    }
    counts
}

/// Whether a delete and an insert are the two halves of an update: the same statement caused both, and it is an UPDATE.
fn is_split(pair: &[Attributed], history: &History) -> bool {
    let [delete, insert] = pair else { return false };
    let statement = delete.statement.and_then(|number| history.statements.get(number));
    let is_update = statement.is_some_and(|ran| {
        let word = ran.statement.sql.split_whitespace().next().unwrap_or_default();
        word.eq_ignore_ascii_case("update")
    });
    is_update
        && delete.statement == insert.statement
        && delete.change.table == insert.change.table
        && (delete.change.op, insert.change.op) == (Op::Delete, Op::Insert)
}
