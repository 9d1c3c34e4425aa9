//! MariaDB's methods, tampered with: the judge finds what is wrong, and calls it by its name.

#[path = "mutants/debezium.rs"]
mod debezium;

use std::process::ExitCode;

use changeproof::{
    Change, Op, binlog::NativeBinlog, debezium::DebeziumMySql, judge::FaultKind, maxwell::Maxwell,
    mysql::Flavour::MariaDb,
};
use scenarios_mysql::MARIADB;
use scenarios_relational::mutants::{self, COMMON, Mutant};

/// What is promised of Maxwell alone.
const MAXWELL: &[Mutant] = &[
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
    mutants::main_of_several(
        MARIADB,
        &[
            (&Maxwell, &[COMMON, MAXWELL]),
            (&NativeBinlog(MariaDb), &[COMMON]),
            (&DebeziumMySql(MariaDb), &[debezium::MUTANTS]),
        ],
    )
}
