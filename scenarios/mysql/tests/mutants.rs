//! MySQL's methods, tampered with: the judge finds what is wrong, and calls it by its name.

#[path = "mutants/debezium.rs"]
mod debezium;

use std::process::ExitCode;

use changeproof::{
    Change,
    binlog::NativeBinlog,
    change::TxId,
    debezium::DebeziumMySql,
    judge::FaultKind::{Phantom, UnpromisedTransaction, WrongBeforeImage},
    mysql::Flavour::MySql,
    polling::MySqlTimestampPolling,
    row,
};
use scenarios_mysql::CATALOGUE;
use scenarios_relational::mutants::{
    self, CHANGE_REPEATED, CHANGES_DROPPED, CHANGES_SWAPPED, COMMON, LEFT_ALONE, Mutant, NULLS_AS_ZERO,
};

fn main() -> ExitCode {
    mutants::main_of_several(
        CATALOGUE,
        &[
            (&NativeBinlog(MySql), &[COMMON]),
            (&DebeziumMySql(MySql), &[debezium::MUTANTS]),
            (&MySqlTimestampPolling(MySql), &[POLLING]),
        ],
    )
}

/// What a reader of tables can do wrong, who promises states, and neither old rows nor transactions.
const POLLING: &[Mutant] = &[
    LEFT_ALONE,
    CHANGES_DROPPED,
    CHANGES_SWAPPED,
    CHANGE_REPEATED,
    NULLS_AS_ZERO,
    Mutant {
        name: "old_rows_told",
        tamper: || Box::new(|change: Change| vec![Change { before: change.after.clone(), ..change }]),
        scenario: "several_tables_in_a_transaction",
        kinds: &[WrongBeforeImage],
    },
    Mutant {
        name: "transactions_told",
        tamper: || Box::new(|change| vec![Change { tx: Some(TxId::new("1")), ..change }]),
        scenario: "several_tables_in_a_transaction",
        kinds: &[UnpromisedTransaction],
    },
    // The fold lets it pass: a row that was deleted is never told of.
    Mutant {
        name: "a_row_invented",
        tamper: || {
            Box::new(|change: Change| {
                let (key, after) = (row! { id: -1 }, Some(row! { id: -1, balance: 0 }));
                vec![Change { key, after, ..change.clone() }, change]
            })
        },
        scenario: "rollback_of_a_transaction",
        kinds: &[Phantom],
    },
];
