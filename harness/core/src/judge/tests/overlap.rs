//! A method whose initial snapshot and changes overlap, and whose old rows hold what an update changed.

use super::*;

const OVERLAPPING: Guarantees = Guarantees { initial_snapshot: true, snapshot_overlaps: true, ..LOSSLESS };

/// Six rows, committed one by one while the snapshot is taken, which has read the first `read` of them; the stream tells of them
/// from the `told`-th on.
fn overlapping(told: usize, read: usize) -> Result<Case, ModelError> {
    let (create, t) = customers();
    let steps: Vec<_> =
        std::iter::once(create).chain((1..=6).map(|id| t.insert(row! { id: id, name: "Ada" }))).collect();
    let case = Case::new(OVERLAPPING, &steps)?;
    let reads = deliver(&OVERLAPPING.promise(&case.model, read + 1, &[])).into_iter().filter(|it| it.op == Op::Read);
    let changes = deliver(&OVERLAPPING.promise(&case.model, told, &[])).into_iter().filter(|it| it.op != Op::Read);
    let changes: Vec<_> = changes.collect();
    let (early, late) = changes.split_at((read + 1).saturating_sub(told));
    let stream = early.iter().cloned().chain(reads).chain(late.iter().cloned()).collect();
    Ok(Case { stream, ..case })
}

fn judged(case: &Case) -> Judgement {
    judge(&case.model, &case.guarantees, &began(1, 7), &case.stream)
}

#[test]
fn what_is_written_during_the_snapshot_may_be_told_twice_and_no_more() -> Result<(), ModelError> {
    for (told, read) in [(1, 4), (3, 4), (5, 4), (1, 6), (1, 0)] {
        let case = overlapping(told, read)?;
        let judgement = judged(&case);
        let losses = BTreeSet::from([Loss::SnapshotOverlaps]);
        assert_eq!(judgement.verdict, Verdict::AsGuaranteed { losses }, "{told} {read}");
        assert_eq!((judgement.cut, judgement.overlap.len()), (read + 1, (read + 1).saturating_sub(told)));
    }
    let mut thrice = overlapping(1, 4)?;
    thrice.stream.insert(0, thrice.stream[0].clone());
    assert!(judged(&thrice).verdict.is_broken());
    let strict = Case { guarantees: Guarantees { snapshot_overlaps: false, ..OVERLAPPING }, ..overlapping(3, 4)? };
    assert!(judged(&strict).verdict.is_broken(), "by a method that promises each once");
    Ok(())
}

#[test]
fn what_is_neither_read_nor_told_is_lost_however_much_overlaps() -> Result<(), ModelError> {
    let case = overlapping(1, 4)?;
    for at in (0..case.stream.len()).filter(|at| case.stream[*at].op != Op::Insert || *at > 4) {
        let mut lost = overlapping(1, 4)?;
        lost.stream.remove(at);
        assert!(judged(&lost).verdict.is_broken(), "without {at}");
    }
    Ok(())
}

#[test]
fn an_update_of_a_row_without_a_key_finds_it_by_what_did_not_change_too() {
    let guarantees = Guarantees { before_images: BeforeImages::Changed, ..LOSSLESS };
    let change = |op: Op, before: Option<Row>, after: Row| Change {
        before,
        after: Some(after),
        ..Change::new(op, "customers".into())
    };
    let stream = [
        change(Op::Insert, None, row! { name: "Ada", tier: 1 }),
        change(Op::Insert, None, row! { name: "Bob", tier: 1 }),
        change(Op::Update, Some(row! { tier: 1 }), row! { name: "Bob", tier: 2 }),
    ];
    let rows = vec![row! { name: "Ada", tier: 1 }, row! { name: "Bob", tier: 2 }];
    let after = Contents::from([("customers".into(), TableContents { rows, ..TableContents::default() })]);
    let faults = |guarantees: &Guarantees| {
        judge_fold(&Contents::new(), &stream, &after, &Alterations::default(), guarantees).0.len()
    };
    assert_eq!(faults(&guarantees), 0);
    assert_ne!(faults(&LOSSLESS), 0, "where the old row is promised whole");
}
