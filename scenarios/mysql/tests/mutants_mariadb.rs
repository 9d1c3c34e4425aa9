//! Maxwell, tampered with: the judge finds what is wrong, and calls it by its name.

use std::process::ExitCode;

use changeproof::{Change, Op, judge::FaultKind, maxwell::Maxwell};
use scenarios_mysql::MARIADB;
use scenarios_relational::mutants::{self, Mutant};

/// What is promised of it alone.
const MORE: &[Mutant] = &[
    Mutant {
        name: "old_rows_told_whole",
        tamper: || {
            Box::new(|change: Change| {
                let is_update = change.op == Op::Update;
                let whole = change.after.clone().filter(|_| is_update).or_else(|| change.before.clone());
                vec![Change { before: whole, ..change }]
            })
        },
        scenario: "composite_key",
        kinds: &[FaultKind::WrongBeforeImage, FaultKind::WrongState],
    },
    Mutant {
        name: "an_earlier_name_untold",
        tamper: || Box::new(|change| vec![Change { renamed_from: None, ..change }]),
        scenario: "rename_a_table",
        kinds: &[FaultKind::WrongValue],
    },
    Mutant {
        name: "changed_definitions_untold",
        tamper: || Box::new(|change: Change| if change.op == Op::Schema { vec![] } else { vec![change] }),
        scenario: "rename_a_table",
        kinds: &[FaultKind::Lost],
    },
];

fn main() -> ExitCode {
    mutants::main(MARIADB, &Maxwell, MORE)
}
