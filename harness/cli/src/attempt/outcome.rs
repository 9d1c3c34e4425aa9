//! What each method made of the file, and the verdict on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use changeproof::{
    Op, Value,
    capture::{Capture, Options},
    change::Change,
    guarantees::{Guarantees, Loss, SchemaChanges},
    judge::{Contents, Verdict, judge_fold},
};

use super::execute::{History, Ran};

/// A file that was tried.
pub(super) struct Attempt {
    pub(super) file: PathBuf,
    pub(super) version: String,
    pub(super) statements: Vec<Ran>,
    pub(super) contents: Contents,
    pub(super) methods: Vec<MethodOutcome>,
}

impl Attempt {
    /// The first statement that failed, as a message.
    pub(super) fn first_failure(&self) -> Option<String> {
        let failure = self.statements.iter().find_map(|ran| ran.failure.as_ref())?;
        let column = failure.column.map(|column| format!(":{column}")).unwrap_or_default();
        Some(format!("{}:{}{column}: {}", self.file.display(), failure.line, failure.message))
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
}

impl MethodOutcome {
    pub(super) fn new(
        method: &dyn Capture,
        options: &Options,
        stream: Vec<Change>,
        contents: &Contents,
        history: &History,
    ) -> Self {
        let guarantees = method.guarantees(options);
        let alterations = &history.alterations;
        let nothing = Contents::new();
        let (faults, losses) = judge_fold(&nothing, &stream, contents, alterations, &guarantees);
        let changes = attribute(stream, history);
        let counts = observe(&changes, history, &guarantees);
        let losses: BTreeSet<_> = losses.into_iter().chain(counts.keys().copied()).collect();
        Self { name: method.name(), summary: method.summary(), changes, verdict: Verdict::new(faults, losses), counts }
    }
}

fn attribute(stream: Vec<Change>, history: &History) -> Vec<Attributed> {
    let mut transaction = 0;
    let mut last_tx = None;
    stream
        .into_iter()
        .map(|change| {
            if change.tx.is_none() || change.tx != last_tx {
                transaction += 1;
                last_tx.clone_from(&change.tx);
            }
            let statement = history.cause(change.position);
            let ran = statement.and_then(|number| history.statements.get(number));
            let shape = ran.and_then(|ran| ran.shapes.get(&change.table));
            let image = shape.map(|shape| shape.identity.clone());
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
            Op::Update | Op::Delete if before.is_none() => count(Loss::NoBeforeImage, 1),
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
