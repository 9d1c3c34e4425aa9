//! A method that reads the rows that exist while it tells changes.

use super::*;

const AMID: Guarantees = Guarantees { initial_snapshot: true, snapshot_amid_changes: true, ..LOSSLESS };

/// Three rows that exist, of which the second is changed and the third deleted while they are read, and a new one.
fn case() -> Result<(Case, Vec<Change>), ModelError> {
    let (create, t) = customers();
    let insert = |id: i32| t.insert(row! { id: id, name: "Ada" });
    let steps = [create, insert(1), insert(2), insert(3), t.update(2, row! { name: "Bob" }), t.delete(3), insert(4)];
    let case = Case::new(AMID, &steps)?;
    let of_changes = Guarantees { initial_snapshot: false, ..AMID };
    let changes = deliver(&of_changes.promise(&case.model, 4, &[]));
    Ok((case, changes))
}

fn read(id: i32, name: &str) -> Change {
    let row = row! { id: id, name: name };
    Change { key: row! { id: id }, after: Some(row), ..Change::new(Op::Read, "customers".into()) }
}

/// What is wrong with a stream that began with the three rows, and whose reading ended when all had been written.
fn faults(case: &Case, stream: &[Change]) -> Vec<FaultKind> {
    match judge(&case.model, &AMID, &began(4, 7), stream).verdict {
        Verdict::Broken { faults } => faults.into_iter().map(|fault| fault.kind).collect(),
        _ => vec![],
    }
}

#[test]
fn a_row_is_read_as_it_is_at_its_place() -> Result<(), ModelError> {
    let (case, changes) = case()?;
    let (update, delete, insert) = (&changes[0], &changes[1], &changes[2]);
    assert_eq!(changes.len(), 3);
    let of = |stream: &[&Change]| faults(&case, &stream.iter().map(|change| (*change).clone()).collect::<Vec<_>>());
    let (one, old, new, three, four) = (read(1, "Ada"), read(2, "Ada"), read(2, "Bob"), read(3, "Ada"), read(4, "Ada"));
    assert_eq!(of(&[&one, &old, &three, update, delete, insert]), []);
    assert_eq!(of(&[update, &one, &new, delete, insert, &four]), [], "told twice");
    assert_eq!(of(&[update, delete, insert, &one]), [], "what changed meanwhile need not be read");
    assert_eq!(of(&[&one, &new, update, delete, insert]), [FaultKind::WrongValue], "ahead of the stream");
    assert_eq!(of(&[&one, update, &old, delete, insert]), [FaultKind::WrongValue], "behind the stream");
    assert_eq!(of(&[&one, update, delete, &three, insert]), [FaultKind::Phantom], "gone by then");
    assert_eq!(of(&[&one, &four, update, delete, insert]), [FaultKind::Phantom], "not there yet");
    assert_eq!(of(&[&one, &one, update, delete, insert]), [FaultKind::Duplicated]);
    assert_eq!(of(&[update, delete, insert]), [FaultKind::Lost], "of the first nothing tells");
    assert!(of(&[&one, update, insert]).contains(&FaultKind::Lost), "a change is missing");
    Ok(())
}

#[test]
fn the_promise_is_named_as_a_loss() -> Result<(), ModelError> {
    let (case, changes) = case()?;
    let stream = [vec![read(1, "Ada")], changes].concat();
    let verdict = judge(&case.model, &AMID, &began(4, 7), &stream).verdict;
    assert_eq!(verdict, Verdict::AsGuaranteed { losses: BTreeSet::from([Loss::SnapshotOverlaps]) });
    Ok(())
}
