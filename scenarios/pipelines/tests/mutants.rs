//! A sink, tampered with: the judge finds what is wrong with its tables.

use std::process::ExitCode;

use changeproof::{
    Change, Op, Value,
    judge::FaultKind::{Duplicated, Lost, Phantom, WrongState, WrongValue},
};
use changeproof_pipelines::Direct;
use scenarios_pipelines::CATALOGUE;
use scenarios_relational::mutants::{self, LEFT_ALONE, Mutant};

fn main() -> ExitCode {
    mutants::main_of(CATALOGUE, &Direct, MUTANTS)
}

const MUTANTS: &[Mutant] = &[
    LEFT_ALONE,
    Mutant {
        name: "a_row_is_missing",
        tamper: || Box::new(|change: Change| if is_row(&change, 1) { vec![] } else { vec![change] }),
        scenario: "several_tables_in_a_transaction",
        kinds: &[Lost, WrongState],
    },
    Mutant {
        name: "a_row_is_there_twice",
        tamper: || {
            Box::new(|change: Change| if is_row(&change, 1) { vec![change.clone(), change] } else { vec![change] })
        },
        scenario: "several_tables_in_a_transaction",
        kinds: &[Duplicated],
    },
    Mutant {
        name: "a_row_holds_something_else",
        tamper: || {
            Box::new(|mut change: Change| {
                if let Some(row) = change.after.as_mut().filter(|row| row.get("id") == Some(&Value::Int(1))) {
                    let column = row.columns().last().map(str::to_owned).unwrap_or_default();
                    row.set(column, Value::Null);
                }
                vec![change]
            })
        },
        scenario: "several_tables_in_a_transaction",
        kinds: &[WrongValue, WrongState],
    },
    Mutant {
        name: "rows_that_went_are_still_there",
        tamper: || Box::new(|change: Change| if change.op == Op::Truncate { vec![] } else { vec![change] }),
        scenario: "delete_between_two_looks",
        kinds: &[Lost, Duplicated, WrongState],
    },
    Mutant {
        name: "a_table_is_told_that_nobody_has_changed",
        tamper: || Box::new(|change: Change| vec![Change::new(Op::Truncate, "elsewhere".into()), change]),
        scenario: "several_tables_in_a_transaction",
        kinds: &[Phantom],
    },
];

fn is_row(change: &Change, id: i128) -> bool {
    change.after.as_ref().is_some_and(|row| row.get("id") == Some(&Value::Int(id)))
}
