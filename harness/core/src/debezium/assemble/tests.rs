//! Changes that arrive in all ways in which partitions and restarts let them.

use std::collections::HashMap;

use super::*;
use crate::{change::TxId, row};

fn change(tx: &str, number: u64, op: Op, id: i32) -> Event {
    logged(tx, 0, number, op, id)
}

fn logged(tx: &str, position: u64, number: u64, op: Op, id: i32) -> Event {
    let change = Change {
        key: row! { id: id },
        after: (op != Op::Delete).then(|| row! { id: id }),
        tx: Some(TxId::new(tx)),
        ..Change::new(op, "t".into())
    };
    Event::Change(Box::new(change), Some(Place { in_log: (position, 0), number }))
}

fn read(id: i32) -> Event {
    match change("", 0, Op::Read, id) {
        Event::Change(change, _) => Event::Change(Box::new(Change { tx: None, ..*change }), None),
        other => other,
    }
}

fn begin(tx: &str) -> Boundary {
    Boundary { status: "BEGIN".into(), id: tx.into(), event_count: None, data_collections: None }
}

fn end(tx: &str, count: u64) -> Boundary {
    Boundary { status: "END".into(), id: tx.into(), event_count: Some(count), data_collections: None }
}

fn notification(kind: &str, rows: u64) -> Notification {
    Notification {
        aggregate_type: "Initial Snapshot".into(),
        kind: kind.into(),
        additional_data: HashMap::from([("total_rows_scanned".into(), Some(rows.to_string()))]),
    }
}

fn popped(assembler: &mut Assembler) -> Vec<String> {
    std::iter::from_fn(|| assembler.pop())
        .map(|change| {
            let tombstone = if change.tombstone { "†" } else { "" };
            format!("{}{}{tombstone}", change.op.symbol(), change.key.get("id").unwrap_or(&crate::Value::Null))
        })
        .collect()
}

#[test]
fn a_transaction_waits_for_all_its_changes_and_puts_them_in_order() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 1), change("x", 2, Op::Insert, 2));
    assembler.boundary(end("x", 3));
    assembler.event(("t", 0), change("x", 3, Op::Insert, 3));
    assert_eq!(popped(&mut assembler), Vec::<String>::new());
    assert!(assembler.waiting_for().contains("of whose 3 changes 2 have come"));
    assembler.event(("t", 2), change("x", 1, Op::Insert, 1));
    assert_eq!(popped(&mut assembler), ["+1", "+2", "+3"]);
}

#[test]
fn what_no_transaction_counts_stands_where_its_identifier_says() -> Result<(), String> {
    let gtid = |number: u64| format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}");
    let position = Some(Position::Gtid(gtid(2).parse()?));
    let truncate = Change { position, ..Change::new(Op::Truncate, "t".into()) };
    let mut assembler = Assembler::new(false, true).with_uncounted(true);
    for (number, id) in [(1, 1), (3, 3)] {
        assembler.event(("t", 0), change(&gtid(number), 1, Op::Insert, id));
        assembler.boundary(end(&gtid(number), 1));
    }
    assert_eq!((popped(&mut assembler), assembler.unsettled()), (vec![], 2), "more may stand before them");
    assembler.event(("t", 1), Event::Change(Box::new(truncate), None));
    assembler.settle_all(2);
    assert_eq!(popped(&mut assembler), ["+1", "!NULL", "+3"]);
    assembler.event(("t", 0), change(&gtid(4), 1, Op::Insert, 4));
    assembler.boundary(end(&gtid(4), 1));
    assert_eq!((popped(&mut assembler), assembler.unsettled()), (vec![], 1));
    Ok(())
}

#[test]
fn a_transaction_of_which_a_part_is_missing_is_not_settled() {
    let mut assembler = Assembler::new(false, true).with_uncounted(true);
    for (gtid, count) in [("0-1-2", 1), ("0-1-3", 2)] {
        assembler.boundary(end(gtid, count));
        assembler.event(("t", 0), change(gtid, 1, Op::Insert, 1));
    }
    assert_eq!(
        assembler.unsettled(),
        1,
        "what stands before the second may not be visible yet, as its own change isn't"
    );
}

#[test]
fn a_transaction_of_another_domain_lets_nothing_go_that_no_transaction_counts() {
    let truncate = Change { position: Position::of_gtid("0-1-2"), ..Change::new(Op::Truncate, "t".into()) };
    let mut assembler = Assembler::new(false, true).with_uncounted(true);
    assembler.event(("t", 1), Event::Change(Box::new(truncate), None));
    for (gtid, id) in [("7-1-1", 7), ("0-1-1", 1), ("0-1-3", 3)] {
        assembler.event(("t", 0), change(gtid, 1, Op::Insert, id));
        assembler.boundary(end(gtid, 1));
    }
    assembler.settle_all(3);
    assert_eq!(popped(&mut assembler), ["+7", "+1", "!NULL", "+3"]);
}

#[test]
fn a_transaction_without_changes_is_not_waited_for() {
    let mut assembler = Assembler::new(false, true).with_uncounted(true);
    assembler.boundary(end("0-1-1", 0));
    assert_eq!((assembler.unsettled(), assembler.is_waiting()), (0, false));
}

#[test]
fn a_transaction_whose_changes_were_all_sent_before_a_restart_is_not_taken_for_empty() {
    let (gtid, next) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562:1", "3e11fa47-71ca-11e1-9e33-c80aa9429562:2");
    let mut assembler = Assembler::new(false, true).with_uncounted(true);
    for boundary in [begin(gtid), begin(gtid), end(gtid, 0), end(next, 1)] {
        assembler.boundary(boundary);
    }
    assembler.event(("t", 0), change(next, 1, Op::Insert, 2));
    assembler.event(("t", 1), change(gtid, 1, Op::Insert, 1));
    assert_eq!((popped(&mut assembler), assembler.unsettled()), (vec![], 2));
    assembler.settle_all(2);
    assert_eq!(popped(&mut assembler), ["+1", "+2"]);
}

#[test]
fn a_transaction_with_a_restart_in_it_is_put_in_the_order_of_the_log() {
    let mut assembler = Assembler::new(false, true);
    for boundary in [begin("x"), begin("x"), end("x", 2), begin("y"), end("y", 1)] {
        assembler.boundary(boundary);
    }
    assembler.event(("t", 0), logged("x", 30, 1, Op::Delete, 3));
    assembler.event(("t", 1), logged("x", 10, 1, Op::Delete, 1));
    assembler.event(("t", 1), Event::Tombstone(row! { id: 1 }));
    assembler.event(("t", 0), Event::Tombstone(row! { id: 3 }));
    assembler.event(("t", 2), logged("y", 50, 1, Op::Insert, 5));
    assembler.event(("t", 2), logged("x", 20, 2, Op::Insert, 2));
    assert_eq!((popped(&mut assembler), assembler.unsettled()), (vec![], 2), "its numbers don't tell that it is whole");
    assembler.event(("t", 2), logged("x", 40, 2, Op::Insert, 4));
    assembler.settle_all(2);
    assert_eq!(popped(&mut assembler), ["-1†", "+2", "-3†", "+4", "+5"]);
    assembler.boundary(end("z", 0));
    assert_eq!((assembler.unsettled(), assembler.is_waiting()), (0, false));
}

#[test]
fn transactions_come_in_the_order_of_their_ends() {
    let mut assembler = Assembler::new(false, true);
    assembler.boundary(end("y", 1));
    assembler.boundary(end("x", 1));
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assert_eq!(popped(&mut assembler), Vec::<String>::new(), "x ended after y");
    assembler.event(("t", 0), change("y", 1, Op::Insert, 2));
    assert_eq!(popped(&mut assembler), ["+2", "+1"]);
}

#[test]
fn a_delete_waits_for_its_tombstone_and_knows_it_from_anothers() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 0), change("x", 1, Op::Delete, 1));
    assembler.event(("t", 1), change("x", 2, Op::Delete, 2));
    assembler.boundary(end("x", 2));
    assembler.event(("t", 1), Event::Tombstone(row! { id: 2 }));
    assert_eq!(popped(&mut assembler), Vec::<String>::new());
    assembler.event(("t", 0), Event::Tombstone(row! { id: 1 }));
    assert_eq!(popped(&mut assembler), ["-1†", "-2†"]);
}

#[test]
fn transactions_wait_for_the_reads_that_the_snapshot_announced() {
    let mut assembler = Assembler::new(true, true);
    assembler.event(("t", 0), read(1));
    assembler.boundary(end("x", 1));
    assembler.event(("t", 0), change("x", 1, Op::Insert, 3));
    assert!(assembler.notification(&notification("TABLE_SCAN_COMPLETED", 2)));
    assembler.notification(&notification("COMPLETED", 0));
    assert_eq!(popped(&mut assembler), ["=1"]);
    assert!(assembler.waiting_for().contains("2 reads"));
    assembler.event(("t", 1), read(2));
    assert_eq!(popped(&mut assembler), ["=2", "+3"]);
}

#[test]
fn a_change_that_comes_again_is_delivered_again() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assembler.event(("t", 1), change("x", 2, Op::Insert, 2));
    assembler.boundary(end("x", 2));
    assert_eq!(popped(&mut assembler), ["+1", "+2"]);
    assembler.event(("t", 1), change("x", 2, Op::Insert, 2));
    assembler.boundary(end("x", 2));
    assert_eq!(popped(&mut assembler), ["+2"], "the judge has to see it");
    assembler.event(("t", 0), change("y", 1, Op::Insert, 3));
    assembler.boundary(end("y", 1));
    assert_eq!(popped(&mut assembler), ["+3"], "and goes on after it");
}

#[test]
fn a_change_that_comes_twice_does_not_stand_for_another() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assembler.boundary(end("x", 2));
    assert_eq!(popped(&mut assembler), Vec::<String>::new());
    assembler.event(("t", 1), change("x", 2, Op::Insert, 2));
    assert_eq!(popped(&mut assembler), ["+1", "+1", "+2"]);
}

#[test]
fn an_end_that_comes_twice_ends_once() {
    let mut assembler = Assembler::new(false, true);
    assembler.boundary(end("x", 1));
    assembler.boundary(end("x", 1));
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assembler.boundary(end("y", 1));
    assembler.event(("t", 0), change("y", 1, Op::Insert, 2));
    assert_eq!(popped(&mut assembler), ["+1", "+2"]);
}

#[test]
fn a_tombstone_without_its_delete_is_not_swallowed() {
    for sends_tombstones in [true, false] {
        let mut assembler = Assembler::new(false, sends_tombstones);
        assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
        assembler.event(("t", 0), Event::Tombstone(row! { id: 1 }));
        assembler.boundary(end("x", 1));
        let mut delivered = popped(&mut assembler);
        delivered.sort();
        assert_eq!(delivered, ["+1", "-1†"]);
    }
}

#[test]
fn a_delete_whose_tombstone_did_not_come_is_delivered_without_it() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 0), change("x", 1, Op::Delete, 1));
    assembler.boundary(end("x", 1));
    assert_eq!(popped(&mut assembler), Vec::<String>::new());
    assembler.event(("t", 0), change("y", 1, Op::Insert, 2));
    assert_eq!(popped(&mut assembler), ["-1"], "the next record of its partition proves it");
    assembler.event(("t", 0), change("y", 2, Op::Delete, 1));
    assembler.event(("t", 0), change("y", 3, Op::Delete, 2));
    assembler.event(("t", 0), Event::Tombstone(row! { id: 2 }));
    assembler.boundary(end("y", 3));
    assert_eq!(popped(&mut assembler), ["+2", "-1", "-2†"]);
}

#[test]
fn a_message_counts_as_one_of_its_transactions_changes() {
    let mut assembler = Assembler::new(false, true);
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assembler.boundary(end("x", 2));
    assert_eq!(popped(&mut assembler), Vec::<String>::new());
    assembler.event(("message", 0), Event::Other(Some(("x".to_owned(), Place { in_log: (0, 0), number: 2 }))));
    assert_eq!(popped(&mut assembler), ["+1"]);
}

#[test]
fn a_snapshot_that_began_again_is_whole_when_each_row_has_come() {
    let mut assembler = Assembler::new(true, true);
    assembler.event(("t", 0), read(1));
    assembler.event(("t", 0), read(1));
    assembler.notification(&notification("TABLE_SCAN_COMPLETED", 2));
    assembler.notification(&notification("COMPLETED", 0));
    assembler.boundary(end("x", 1));
    assembler.event(("t", 0), change("x", 1, Op::Insert, 3));
    assert_eq!(popped(&mut assembler), ["=1", "=1"]);
    assembler.event(("t", 1), read(2));
    assert_eq!(popped(&mut assembler), ["=2", "+3"]);
}

#[test]
fn what_it_waits_for_is_told_even_when_nothing_has_ended() {
    let mut assembler = Assembler::new(false, true);
    assert_eq!(assembler.waiting_for(), "the next transaction");
    assembler.event(("t", 0), change("x", 1, Op::Insert, 1));
    assert!(assembler.waiting_for().contains("END record"));
}
