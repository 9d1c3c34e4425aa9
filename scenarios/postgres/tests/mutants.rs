//! Logical replication, tampered with: the judge finds what is wrong, and calls it by its name.

use std::{collections::BTreeMap, process::ExitCode};

use changeproof::{Change, Row, judge::FaultKind::WrongBeforeImage, logical::LogicalReplication, schema::TableName};
use scenarios_postgres::CATALOGUE;
use scenarios_relational::mutants::{self, Mutant, Tamper};

fn main() -> ExitCode {
    mutants::main(CATALOGUE, &LogicalReplication, MORE)
}

/// What only a log without whole old rows shows.
const MORE: &[Mutant] = &[Mutant {
    name: "more_delivered_than_promised",
    tamper: || Box::new(BeforeImagesFromMemory::default()),
    scenario: "insert_update_delete",
    kinds: &[WrongBeforeImage],
}];

/// Whole old rows, though the replica identity doesn't put them into the log: remembered from the stream itself.
#[derive(Default)]
struct BeforeImagesFromMemory(BTreeMap<(TableName, String), Row>);

impl Tamper for BeforeImagesFromMemory {
    fn change(&mut self, mut change: Change) -> Vec<Change> {
        let row = (change.table.clone(), change.key.to_string());
        let before = match &change.after {
            Some(after) => self.0.insert(row, after.clone()),
            None => self.0.remove(&row),
        };
        change.before = before.or(change.before);
        vec![change]
    }
}
