//! What Debezium can do wrong. Few, for each takes it a second.

use changeproof::{
    Change, Op,
    judge::FaultKind::{Lost, LostTombstone, WrongState},
};
use scenarios_relational::mutants::{CHANGE_REPEATED, CHANGES_DROPPED, CHANGES_SWAPPED, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    CHANGES_DROPPED,
    CHANGES_SWAPPED,
    CHANGE_REPEATED,
    Mutant {
        name: "tombstones_lost",
        tamper: || Box::new(|change| vec![Change { tombstone: false, ..change }]),
        scenario: "insert_update_delete",
        kinds: &[LostTombstone],
    },
    Mutant {
        name: "an_old_key_left_there",
        tamper: || Box::new(|change: Change| if change.op == Op::Delete { vec![] } else { vec![change] }),
        scenario: "update_of_a_primary_key",
        kinds: &[Lost, WrongState],
    },
];
