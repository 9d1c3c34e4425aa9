//! Each way in which a stream can be wrong must turn the judge red, by the name of the fault.

use proptest::prelude::*;

use super::*;

mod amid;
mod overlap;
mod tables;

use crate::{
    change::{Lsn, Position, TxId},
    guarantees::{
        AfterABreak, BeforeImages, Granularity, KeyChange, Order, Promise, RowImage, SchemaChanges, Truncate,
        UnchangedToast, Values,
    },
    model::ModelError,
    row,
    schema::Type,
    script::{Step, TableBuilder, TableRef, begin, commit},
    value::Row,
};

const DEBEZIUM: Guarantees = Guarantees {
    initial_snapshot: false,
    snapshot_overlaps: false,
    snapshot_amid_changes: false,
    granularity: Granularity::EachChange,
    before_images: BeforeImages::ReplicaIdentity,
    row_image: RowImage::Full,
    fills_before_images: true,
    keys_by_identity: true,
    key_change: KeyChange::DeleteAndInsert,
    keyless_update: KeyChange::Update,
    unchanged_updates: true,
    transactions: true,
    order: Order::Commit,
    truncate: Truncate::Told,
    schema_changes: SchemaChanges::NextRow,
    unchanged_toast: UnchangedToast::Omitted,
    after_a_break: AfterABreak::ExactlyOnce,
    tombstones: true,
    values: Values::AS_STORED,
    read_values: None,
};

const LOSSLESS: Guarantees = Guarantees {
    before_images: BeforeImages::Full,
    row_image: RowImage::Full,
    fills_before_images: false,
    key_change: KeyChange::Update,
    keyless_update: KeyChange::Update,
    unchanged_updates: true,
    unchanged_toast: UnchangedToast::Delivered,
    tombstones: false,
    ..DEBEZIUM
};

/// The stream of a method that keeps its promise.
fn deliver(promise: &Promise) -> Vec<Change> {
    let mut lsn = 0;
    let mut change = |expected: &Expected, tx: Option<String>| {
        lsn += 8;
        Change {
            key: expected.key.clone(),
            before: expected.before.as_ref().map(|before| {
                let image = before.iter().chain(expected.filler.iter());
                image.map(|(column, value)| (column, value.clone())).collect()
            }),
            after: expected.after.clone(),
            position: Some(Position::Lsn(Lsn(lsn))),
            tx: tx.map(TxId::new),
            commit_time_us: Some(0),
            tombstone: expected.tombstone,
            renamed_from: expected.renamed_from.clone(),
            ..Change::new(expected.op, expected.table.clone())
        }
    };
    let reads: Vec<_> = promise.reads.iter().map(|read| change(read, None)).collect();
    let streamed = promise
        .transactions
        .iter()
        .enumerate()
        .flat_map(|(tx, delivery)| delivery.changes.iter().map(move |change| (tx, change)).collect::<Vec<_>>());
    let streamed: Vec<_> = streamed.map(|(tx, expected)| change(expected, Some(tx.to_string()))).collect();
    [reads, streamed].concat()
}

struct Case {
    model: Model,
    stream: Vec<Change>,
    guarantees: Guarantees,
}

impl Case {
    fn new(guarantees: Guarantees, steps: &[Step]) -> Result<Self, ModelError> {
        let mut model = Model::default();
        steps.iter().try_for_each(|step| model.apply(step))?;
        let stream = deliver(&guarantees.promise(&model, 0, &[]));
        Ok(Self { model, stream, guarantees })
    }

    /// Two rows inserted in one transaction, an update, a key change, a delete: everything that can go wrong in it, can.
    fn usual(guarantees: Guarantees) -> Result<Self, ModelError> {
        let (create, t) = customers();
        Self::new(
            guarantees,
            &[
                create,
                begin(),
                t.insert(row! { id: 1, name: "Ada" }),
                t.insert(row! { id: 2, name: "Bob" }),
                commit(),
                t.update(1, row! { name: "Ada L." }),
                t.insert(row! { id: 3, name: "Cyd" }),
                t.update(2, row! { id: 20 }),
                t.delete(3),
            ],
        )
    }

    /// As if its connection had been broken.
    fn verdict_after_a_break(&self) -> Verdict {
        let watch = Watch { breaks: 1, ..began(0, 0) };
        judge(&self.model, &self.guarantees, &watch, &self.stream).verdict
    }

    fn judge(&self) -> Judgement {
        judge(&self.model, &self.guarantees, &began(0, 0), &self.stream)
    }

    fn faults(&self) -> Vec<FaultKind> {
        match self.judge().verdict {
            Verdict::Broken { faults } => faults.into_iter().map(|fault| fault.kind).collect(),
            _ => vec![],
        }
    }
}

fn began(from: usize, to: usize) -> Watch {
    Watch { began: (from, to), ..Watch::default() }
}

fn customers() -> (Step, TableRef) {
    let table = TableBuilder::new("customers").key("id", Type::Int).column("name", Type::Text).build();
    let handle = TableRef::new(&table);
    (crate::script::Action::CreateTable(table).into(), handle)
}

#[test]
fn a_stream_that_tells_all_is_exact() -> Result<(), ModelError> {
    assert_eq!(Case::usual(LOSSLESS)?.judge().verdict, Verdict::Exact);
    Ok(())
}

#[test]
fn a_stream_that_keeps_a_weaker_promise_names_its_losses() -> Result<(), ModelError> {
    let losses = BTreeSet::from([Loss::BeforeImageKeyOnly, Loss::NoBeforeImage, Loss::KeyChangeSplit]);
    assert_eq!(Case::usual(DEBEZIUM)?.judge().verdict, Verdict::AsGuaranteed { losses });
    Ok(())
}

#[test]
fn every_lost_change_is_found_wherever_it_was() -> Result<(), ModelError> {
    for guarantees in [DEBEZIUM, LOSSLESS] {
        for at in 0..Case::usual(guarantees.clone())?.stream.len() {
            let mut case = Case::usual(guarantees.clone())?;
            case.stream.remove(at);
            assert_eq!(case.faults(), [FaultKind::Lost], "without change {at}");
        }
    }
    Ok(())
}

#[test]
fn the_first_of_two_that_are_alike_is_lost_and_not_swapped() -> Result<(), ModelError> {
    let (create, t) = customers();
    let set = |name: &str| t.update(1, row! { name: name });
    let steps = [create, t.insert(row! { id: 1, name: "c" }), set("a"), set("b"), set("a")];
    let mut case = Case::new(DEBEZIUM, &steps)?;
    case.stream.remove(1);
    assert_eq!(case.faults(), [FaultKind::Lost]);
    Ok(())
}

#[test]
fn every_duplicate_is_found_wherever_it_lands() -> Result<(), ModelError> {
    let length = Case::usual(DEBEZIUM)?.stream.len();
    for at in 0..length {
        for to in at..=length {
            let mut case = Case::usual(DEBEZIUM)?;
            case.stream.insert(to, case.stream[at].clone());
            assert!(case.faults().contains(&FaultKind::Duplicated), "{at} again at {to}: {:?}", case.judge().verdict);
        }
    }
    Ok(())
}

#[test]
fn what_comes_again_is_forgiven_only_after_a_break_and_only_where_it_is_promised() -> Result<(), ModelError> {
    let at_least_once = Guarantees { after_a_break: AfterABreak::AtLeastOnce, ..DEBEZIUM };
    for at in 0..Case::usual(DEBEZIUM)?.stream.len() {
        let again = |guarantees: &Guarantees| {
            let mut case = Case::usual(guarantees.clone())?;
            case.stream.push(case.stream[at].clone());
            Ok::<_, ModelError>(case)
        };
        assert!(again(&DEBEZIUM)?.verdict_after_a_break().is_broken(), "{at}");
        assert!(again(&at_least_once)?.judge().verdict.is_broken(), "{at}");
        let forgiven = again(&at_least_once)?.verdict_after_a_break();
        let comes_again = |losses: &BTreeSet<Loss>| losses.contains(&Loss::MayComeAgain);
        assert!(matches!(&forgiven, Verdict::AsGuaranteed { losses } if comes_again(losses)), "{at}: {forgiven}");
        let mut lost = again(&at_least_once)?;
        let gone = lost.stream[at].clone();
        lost.stream.retain(|change| *change != gone);
        assert!(lost.verdict_after_a_break().is_broken(), "{at} lost");
    }
    Ok(())
}

#[test]
fn every_swap_is_found_within_and_across_transactions() -> Result<(), ModelError> {
    let length = Case::usual(DEBEZIUM)?.stream.len();
    for a in 0..length {
        for b in a + 1..length {
            let mut case = Case::usual(DEBEZIUM)?;
            let (tx_a, tx_b) = (case.stream[a].tx.clone(), case.stream[b].tx.clone());
            case.stream.swap(a, b);
            case.stream[a].tx = tx_a;
            case.stream[b].tx = tx_b;
            assert!(case.faults().contains(&FaultKind::Reordered), "{a} with {b}");
        }
    }
    Ok(())
}

#[test]
fn a_wrong_value_is_found_by_column() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[2].after = Some(row! { id: 1, name: "Eve" });
    assert_eq!(case.faults(), [FaultKind::WrongValue]);
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].after = Some(row! { id: 1 });
    assert_eq!(case.faults(), [FaultKind::WrongValue], "a column that is missing");
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].after = Some(row! { id: 1, name: "Ada", age: None::<i64> });
    assert_eq!(case.faults(), [FaultKind::WrongValue], "a column too many");
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].after = Some(row! { id: "1", name: "Ada" });
    assert_eq!(case.faults(), [FaultKind::WrongValue], "a number as text");
    Ok(())
}

#[test]
fn a_before_image_must_be_what_was_promised() -> Result<(), ModelError> {
    let delete = Case::usual(LOSSLESS)?.stream.len() - 1;
    for image in [None, Some(row! { id: 3 }), Some(row! { id: 3, name: "Dan" })] {
        let mut case = Case::usual(LOSSLESS)?;
        case.stream[delete].before = image;
        assert_eq!(case.faults(), [FaultKind::WrongBeforeImage]);
    }
    Ok(())
}

#[test]
fn a_before_image_better_than_promised_is_red_too() -> Result<(), ModelError> {
    let delete = Case::usual(DEBEZIUM)?.stream.len() - 1;
    for image in [row! { id: 3, name: "Cyd" }, row! { id: 3 }, row! { id: 3, name: "" }] {
        let mut case = Case::usual(DEBEZIUM)?;
        case.stream[delete].before = Some(image);
        assert_eq!(case.faults(), [FaultKind::WrongBeforeImage]);
    }
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[2].before = Some(row! { id: 1, name: "Ada" });
    assert_eq!(case.faults(), [FaultKind::WrongBeforeImage], "an update that promised none");
    Ok(())
}

#[test]
fn what_fills_a_before_image_is_named_and_must_be_just_that() -> Result<(), ModelError> {
    let table = TableBuilder::new("t").key("id", Type::Int).column_not_null("n", Type::Int).column_not_null_default(
        "s",
        Type::Text,
        "new",
    );
    let table = table.build();
    let t = TableRef::new(&table);
    let create = crate::script::Action::CreateTable(table).into();
    let steps = [create, t.insert(row! { id: 1, n: 5, s: "x" }), t.delete(1)];
    let mut case = Case::new(DEBEZIUM, &steps)?;
    let losses = BTreeSet::from([Loss::BeforeImageKeyOnly, Loss::BeforeImageFilled]);
    assert_eq!(case.judge().verdict, Verdict::AsGuaranteed { losses });
    for image in [row! { id: 1, n: 5, s: "x" }, row! { id: 1, n: 0, s: "" }, row! { id: 1, n: 0 }] {
        case.stream[1].before = Some(image);
        assert_eq!(case.faults(), [FaultKind::WrongBeforeImage]);
    }
    Ok(())
}

#[test]
fn keys_and_tombstones_must_be_right() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].key = row! {};
    assert_eq!(case.faults(), [FaultKind::WrongKey]);
    let mut case = Case::usual(DEBEZIUM)?;
    let delete = case.stream.len() - 1;
    case.stream[delete].tombstone = false;
    assert_eq!(case.faults(), [FaultKind::LostTombstone]);
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].tombstone = true;
    assert_eq!(case.faults(), [FaultKind::WrongTombstone]);
    Ok(())
}

#[test]
fn a_lost_tombstone_is_forgiven_once_for_each_break_and_named() -> Result<(), ModelError> {
    let at_least_once = Guarantees { after_a_break: AfterABreak::AtLeastOnce, ..DEBEZIUM };
    let without = |guarantees: &Guarantees, count: usize| {
        let mut case = Case::usual(guarantees.clone())?;
        case.stream
            .iter_mut()
            .filter(|change| change.tombstone)
            .take(count)
            .for_each(|delete| delete.tombstone = false);
        Ok::<_, ModelError>(case.verdict_after_a_break())
    };
    let is_named = |verdict: &Verdict| match verdict {
        Verdict::AsGuaranteed { losses } => Some(losses.contains(&Loss::TombstoneLost)),
        _ => None,
    };
    assert_eq!(is_named(&without(&at_least_once, 0)?), Some(false));
    assert_eq!(is_named(&without(&at_least_once, 1)?), Some(true));
    assert!(without(&at_least_once, 2)?.is_broken(), "two tombstones lost by one break");
    assert!(without(&DEBEZIUM, 1)?.is_broken(), "it promises that each change comes exactly once");
    Ok(())
}

#[test]
fn a_split_or_merged_transaction_is_found() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[1].tx = Some(TxId::new("other"));
    assert_eq!(case.faults(), [FaultKind::SplitTransaction]);
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[2].tx = case.stream[1].tx.clone();
    assert_eq!(case.faults(), [FaultKind::MergedTransactions]);
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[0].tx = None;
    assert_eq!(case.faults(), [FaultKind::SplitTransaction]);
    Ok(())
}

#[test]
fn what_never_happened_is_found() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    let mut phantom = case.stream[case.stream.len() - 1].clone();
    phantom.key = row! { id: 99 };
    phantom.before = Some(row! { id: 99 });
    case.stream.push(phantom);
    assert_eq!(case.faults(), [FaultKind::Phantom], "a phantom delete");
    let (create, t) = customers();
    let mut rolled_back = Case::new(DEBEZIUM, &[create, t.insert(row! { id: 1 })])?;
    rolled_back.model = Model::default();
    assert_eq!(rolled_back.faults(), [FaultKind::Phantom], "an insert that was rolled back");
    Ok(())
}

#[test]
fn an_empty_stream_is_no_excuse() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    let length = case.stream.len();
    case.stream.clear();
    assert_eq!(case.faults(), vec![FaultKind::Lost; length]);
    Ok(())
}

#[test]
fn nothing_told_before_the_first_break_is_forgiven() -> Result<(), ModelError> {
    let usual = Case::usual(Guarantees { after_a_break: AfterABreak::AtLeastOnce, ..DEBEZIUM })?;
    let judged = |stream: &[Change]| {
        let watch = Watch { breaks: 1, told_before_breaks: 4, ..began(0, 0) };
        judge(&usual.model, &usual.guarantees, &watch, stream).verdict
    };
    let again = [&usual.stream[..], &usual.stream[2..]].concat();
    assert!(!judged(&again).is_broken());
    for at in 0..2 {
        let mut swapped = usual.stream.clone();
        swapped.swap(at, at + 1);
        assert!(judged(&swapped).is_broken(), "{at}");
    }
    let mut without = usual.stream.clone();
    without.iter_mut().for_each(|change| change.tx = None);
    assert!(judged(&without).is_broken());
    let mut later = usual.stream.clone();
    later.swap(4, 5);
    assert!(!judged(&later).is_broken(), "what comes after it may come in another order");
    Ok(())
}

#[test]
fn a_stream_that_ends_early_must_be_a_beginning() -> Result<(), ModelError> {
    let whole = Case::usual(Guarantees { after_a_break: AfterABreak::AtLeastOnce, ..DEBEZIUM })?;
    let faults = |stream: &[Change], breaks: usize| {
        let watch = Watch { breaks, ..began(0, 0) };
        judge_beginning(&whole.model, &whole.guarantees, &watch, stream)
    };
    for end in 0..=whole.stream.len() {
        let beginning = &whole.stream[..end];
        assert_eq!(faults(beginning, 0), [], "the first {end}");
        for at in 0..end.saturating_sub(1) {
            let mut lacks_one = beginning.to_vec();
            lacks_one.remove(at);
            assert_ne!(faults(&lacks_one, 0), [], "{at} of {end} is lost");
        }
    }
    let mut invented = whole.stream[..2].to_vec();
    invented.push(Change { key: row! { id: 9 }, after: Some(row! { id: 9, name: "?" }), ..invented[1].clone() });
    assert_ne!(faults(&invented, 1), []);
    let again = [&whole.stream[..2], &whole.stream[1..3]].concat();
    assert_eq!((faults(&again, 1), faults(&again, 0).is_empty()), (vec![], false));
    Ok(())
}

#[test]
fn a_row_image_has_what_the_statement_names() -> Result<(), ModelError> {
    let t =
        TableBuilder::new("t").key("id", Type::Int).column("name", Type::Varchar(9)).column("body", Type::Text).build();
    let (create, t) = (crate::script::Action::CreateTable(t.clone()).into(), TableRef::new(&t));
    let steps = [create, t.insert(row! { id: 1 }), t.update(1, row! { name: None::<&str> })];
    for (row_image, rows) in [
        (RowImage::Minimal, [row! { id: 1 }, row! { name: None::<&str> }]),
        (RowImage::NoBlob, [row! { id: 1, name: None::<&str> }, row! { id: 1, name: None::<&str> }]),
    ] {
        let guarantees =
            Guarantees { row_image, before_images: BeforeImages::Full, unchanged_updates: true, ..DEBEZIUM };
        let case = Case::new(guarantees.clone(), &steps)?;
        assert_eq!(case.stream.iter().filter_map(|change| change.after.clone()).collect::<Vec<_>>(), rows);
        assert!(!case.judge().verdict.is_broken());
        let full = Case::new(Guarantees { row_image: RowImage::Full, ..guarantees.clone() }, &steps)?;
        assert_ne!(Case { stream: full.stream, ..case }.faults(), [], "more than the log has");
    }
    Ok(())
}

#[test]
fn rows_without_a_key_are_counted_not_merged() -> Result<(), ModelError> {
    let table = TableBuilder::new("log").column("line", Type::Text).identity_full().build();
    let log = TableRef::new(&table);
    let steps = [
        crate::script::Action::CreateTable(table).into(),
        log.insert(row! { line: "same" }),
        log.insert(row! { line: "same" }),
    ];
    let mut case = Case::new(DEBEZIUM, &steps)?;
    assert_eq!(case.judge().verdict, Verdict::Exact);
    case.stream.pop();
    assert_eq!(case.faults(), [FaultKind::Lost]);
    let mut case = Case::new(DEBEZIUM, &steps)?;
    case.stream.push(case.stream[1].clone());
    assert_eq!(case.faults(), [FaultKind::Duplicated]);
    Ok(())
}

#[test]
fn a_column_that_may_be_left_out_keeps_its_value_in_the_fold_and_only_then() {
    let row = |row: Row, op| Change { key: row! { id: 1 }, after: Some(row), ..Change::new(op, "t".into()) };
    let stream = [row(row! { id: 1, n: 1, body: "x" }, Op::Insert), row(row! { id: 1, n: 2 }, Op::Update)];
    let held = TableContents {
        key: vec!["id".into()],
        rows: vec![row! { id: 1, n: 2, body: "x" }],
        ..TableContents::default()
    };
    let held = Contents::from([("t".into(), held)]);
    let kinds = |unchanged_toast| {
        let guarantees = Guarantees { unchanged_toast, ..DEBEZIUM };
        let (faults, _) = judge_fold(&Contents::new(), &stream, &held, &Alterations::default(), &guarantees);
        faults.into_iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(UnchangedToast::LeftOut), []);
    assert_eq!(kinds(UnchangedToast::Omitted), [FaultKind::WrongState]);
}

#[test]
fn an_unchanged_toast_value_must_be_marked_where_it_is_not_logged() -> Result<(), ModelError> {
    let table =
        TableBuilder::new("docs").key("id", Type::Int).column("title", Type::Text).column_external("body", Type::Text);
    for (table, omitted) in [(table.clone().build(), true), (table.identity_full().build(), false)] {
        let docs = TableRef::new(&table);
        let steps = [
            crate::script::Action::CreateTable(table).into(),
            docs.insert(row! { id: 1, title: "a", body: "x".repeat(5000) }),
            docs.update(1, row! { title: "b" }),
        ];
        let mut case = Case::new(DEBEZIUM, &steps)?;
        let body = case.stream[1].after.as_ref().and_then(|after| after.get("body")).cloned();
        assert_eq!(body == Some(crate::Value::Unavailable), omitted);
        assert_eq!(case.faults(), []);
        case.stream[1].after = Some(row! { id: 1, title: "b", body: None::<&str> });
        assert_eq!(case.faults(), [FaultKind::WrongValue], "NULL is not the same as not sent");
    }
    Ok(())
}

#[test]
fn the_snapshot_and_the_stream_must_meet_at_one_point() -> Result<(), ModelError> {
    let (create, t) = customers();
    let steps: Vec<_> = std::iter::once(create).chain((1..=6).map(|id| t.insert(row! { id: id }))).collect();
    let with_snapshot = Guarantees { initial_snapshot: true, ..DEBEZIUM };
    let case = Case::new(with_snapshot.clone(), &steps)?;
    let handed_over = |cut: usize| deliver(&with_snapshot.promise(&case.model, cut, &[]));
    for cut in 1..=7 {
        let judgement = judge(&case.model, &with_snapshot, &began(1, 7), &handed_over(cut));
        assert_eq!((judgement.verdict, judgement.cut), (Verdict::Exact, cut));
    }
    let mut lost = handed_over(4);
    lost.remove(0);
    assert!(judge(&case.model, &with_snapshot, &began(1, 7), &lost).verdict.is_broken());
    let mut gap = handed_over(4);
    gap.remove(3);
    assert!(judge(&case.model, &with_snapshot, &began(1, 7), &gap).verdict.is_broken());
    let mut twice = handed_over(4);
    twice.insert(3, twice[2].clone());
    assert!(judge(&case.model, &with_snapshot, &began(1, 7), &twice).verdict.is_broken());
    let mut late = handed_over(4);
    late.rotate_left(1);
    assert!(judge(&case.model, &with_snapshot, &began(1, 7), &late).verdict.is_broken());
    let outside = judge(&case.model, &with_snapshot, &began(5, 7), &handed_over(3));
    assert!(outside.verdict.is_broken(), "a first look before the capture was started");
    Ok(())
}

#[test]
fn a_known_flaw_excuses_no_other_fault_however_many_it_causes() -> Result<(), ModelError> {
    let (create, t) = customers();
    let steps: Vec<_> =
        std::iter::once(create).chain((1..=40).map(|id| t.insert(row! { id: id, name: "Ada" }))).collect();
    let mut case = Case::new(DEBEZIUM, &steps)?;
    for change in &mut case.stream[..30] {
        change.after = change.after.take().map(|after| after.project(["id"]));
    }
    let kinds = [FaultKind::WrongValue; 30];
    let explained = |case: &Case| case.judge().verdict.explained_by("a reference", &kinds);
    assert!(!explained(&case).is_broken());
    let mut one_more = case.stream.clone();
    one_more[30].after = Some(row! { id: 31 });
    let once_too_often = judge(&case.model, &case.guarantees, &began(0, 0), &one_more).verdict;
    assert!(once_too_often.explained_by("a reference", &kinds).is_broken(), "the same fault once too often");
    case.stream.remove(35);
    assert!(explained(&case).is_broken(), "a change is lost as well");
    Ok(())
}

#[test]
fn each_change_must_tell_its_transaction_and_no_two_may_share_a_name() -> Result<(), ModelError> {
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[2].tx = None;
    assert_eq!(case.faults(), [FaultKind::SplitTransaction], "one that is alone in its transaction");
    let mut case = Case::usual(DEBEZIUM)?;
    case.stream[3].tx = case.stream[0].tx.clone();
    assert_eq!(case.faults(), [FaultKind::MergedTransactions], "the name of the one before the last");
    Ok(())
}

#[test]
fn transactions_that_nobody_promised_are_red_too() -> Result<(), ModelError> {
    let without = Guarantees { transactions: false, ..DEBEZIUM };
    let mut case = Case::usual(without)?;
    assert_eq!(case.faults(), [FaultKind::UnpromisedTransaction]);
    case.stream.iter_mut().for_each(|change| change.tx = None);
    assert_eq!(case.faults(), []);
    Ok(())
}

#[test]
fn a_schema_change_while_the_snapshot_begins_may_fall_on_either_side() -> Result<(), ModelError> {
    let (create, t) = customers();
    let steps = [
        create,
        t.insert(row! { id: 1, name: "Ada" }),
        t.add_column_not_null("vip", Type::Bool, false),
        t.insert(row! { id: 2, name: "Bob" }),
    ];
    let with_snapshot = Guarantees { initial_snapshot: true, ..DEBEZIUM };
    let case = Case::new(with_snapshot.clone(), &steps)?;
    for cut in 1..=4 {
        let stream = deliver(&with_snapshot.promise(&case.model, cut, &[]));
        let judgement = judge(&case.model, &with_snapshot, &began(1, 4), &stream);
        assert!(!judgement.verdict.is_broken(), "{cut}: {}", judgement.verdict);
        assert_eq!(judgement.cut, cut);
    }
    Ok(())
}

#[test]
fn a_snapshot_needs_no_transactions_to_meet_the_stream() -> Result<(), ModelError> {
    let (create, t) = customers();
    let steps: Vec<_> = std::iter::once(create).chain((1..=6).map(|id| t.insert(row! { id: id }))).collect();
    let polled = Guarantees { initial_snapshot: true, transactions: false, ..DEBEZIUM };
    let case = Case::new(polled.clone(), &steps)?;
    let mut stream = deliver(&polled.promise(&case.model, 3, &[]));
    stream.iter_mut().for_each(|change| change.tx = None);
    let judgement = judge(&case.model, &polled, &began(1, 7), &stream);
    assert_eq!((judgement.verdict, judgement.cut), (Verdict::Exact, 3));
    Ok(())
}

mod folding {
    use super::*;

    fn contents(key: &[&str], rows: Vec<Row>) -> Contents {
        let key = key.iter().map(|column| (*column).to_owned()).collect();
        Contents::from([("customers".into(), TableContents { key, rows, ..TableContents::default() })])
    }

    fn kinds(faults: &[Fault]) -> Vec<FaultKind> {
        faults.iter().map(|fault| fault.kind).collect()
    }

    use crate::value::{Row, Value};

    fn run(stream: &[Change], after: &Contents, alterations: &Alterations) -> (Vec<FaultKind>, Vec<Loss>) {
        let (faults, losses) = judge_fold(&Contents::new(), stream, after, alterations, &DEBEZIUM);
        (kinds(&faults), losses.into_iter().collect())
    }

    fn held() -> Contents {
        contents(&["id"], vec![row! { id: 1, name: "Ada L." }, row! { id: 20, name: "Bob" }])
    }

    #[test]
    fn a_right_stream_gives_what_the_database_holds() -> Result<(), ModelError> {
        let stream = Case::usual(DEBEZIUM)?.stream;
        assert_eq!(run(&stream, &held(), &Alterations::default()), (vec![], vec![]));
        Ok(())
    }

    #[test]
    fn each_lost_or_repeated_change_shows_in_the_fold() -> Result<(), ModelError> {
        let stream = Case::usual(DEBEZIUM)?.stream;
        for at in 0..stream.len() {
            let mut without = stream.clone();
            without.remove(at);
            assert_ne!(run(&without, &held(), &Alterations::default()).0, [], "without {at}");
            let mut repeated = stream.clone();
            repeated.insert(at, stream[at].clone());
            let is_update = stream[at].op == Op::Update;
            let found = run(&repeated, &held(), &Alterations::default()).0;
            assert_eq!(found.is_empty(), is_update, "an update twice folds to the same");
        }
        Ok(())
    }

    #[test]
    fn a_value_that_differs_shows_in_the_fold() -> Result<(), ModelError> {
        let stream = Case::usual(DEBEZIUM)?.stream;
        let other = contents(&["id"], vec![row! { id: 1, name: "Ada" }, row! { id: 20, name: "Bob" }]);
        assert_eq!(run(&stream, &other, &Alterations::default()).0, [FaultKind::WrongState]);
        Ok(())
    }

    #[test]
    fn only_altered_columns_may_be_stale_and_only_in_rows_delivered_before() -> Result<(), ModelError> {
        let stream = Case::usual(DEBEZIUM)?.stream;
        let vip = |name: &str| {
            contents(&["id"], vec![row! { id: 1, name: name, vip: false }, row! { id: 20, name: "Bob", vip: false }])
        };
        assert_ne!(run(&stream, &vip("Ada L."), &Alterations::default()).0, []);
        let mut altered = Alterations::default();
        altered.column(&"customers".into(), "vip", None);
        let stale = vec![Loss::RewrittenRowsStale];
        assert_eq!(run(&stream, &vip("Ada L."), &altered), (vec![], stale));
        assert_eq!(run(&stream, &vip("Eve"), &altered).0, [FaultKind::WrongState]);
        altered.column(&"customers".into(), "vip", Some(Position::Lsn(Lsn(1))));
        assert_ne!(run(&stream, &vip("Ada L."), &altered).0, [], "delivered after the column came");
        Ok(())
    }

    #[test]
    fn rows_without_a_key_are_compared_by_how_often_they_are_there() {
        let insert =
            |line: &str| Change { after: Some(row! { line: line }), ..Change::new(Op::Insert, "customers".into()) };
        let stream = [insert("x"), insert("x"), insert("y")];
        let row = |line: &str| row! { line: line };
        let same = contents(&[], vec![row("x"), row("y"), row("x")]);
        assert_eq!(run(&stream, &same, &Alterations::default()).0, []);
        let fewer = contents(&[], vec![row("x"), row("y")]);
        assert_eq!(run(&stream, &fewer, &Alterations::default()).0, [FaultKind::WrongState]);
    }

    #[test]
    fn a_renamed_table_goes_on_under_its_new_name() -> Result<(), ModelError> {
        let mut stream = Case::usual(DEBEZIUM)?.stream;
        stream.iter_mut().skip(2).for_each(|change| change.table = "clients".into());
        let mut after = Contents::new();
        after.insert("clients".into(), held().remove(&"customers".into()).unwrap_or_default());
        assert_ne!(run(&stream, &after, &Alterations::default()).0, []);
        let mut renamed = Alterations::default();
        renamed.rename([("customers".into(), "clients".into())], Moment::Place(0));
        assert_eq!(run(&stream, &after, &renamed), (vec![], vec![Loss::SchemaChangeSilent]));
        Ok(())
    }

    fn insert(row: Row, key: Row) -> Change {
        Change { key, after: Some(row), ..Change::new(Op::Insert, "customers".into()) }
    }

    #[test]
    fn a_value_that_was_never_delivered_is_missed() {
        let held = contents(&["id"], vec![row! { id: 1, name: "Ada" }]);
        let withheld = insert(row! { id: 1, name: Value::Unavailable }, row! { id: 1 });
        let found = run(std::slice::from_ref(&withheld), &held, &Alterations::default()).0;
        assert_eq!(found, [FaultKind::WrongState], "an insert without the value");
        let told = insert(row! { id: 0, name: "Ada" }, row! { id: 0 });
        let gone = Change { op: Op::Delete, before: Some(row! { id: 0 }), after: None, ..told.clone() };
        let moved = [told, gone, withheld];
        assert_eq!(run(&moved, &held, &Alterations::default()).0, [], "a key change takes it along");
        let other = contents(&["id"], vec![row! { id: 1, name: "Eve" }]);
        assert_eq!(run(&moved, &other, &Alterations::default()).0, [FaultKind::WrongState]);
    }

    #[test]
    fn a_row_delivered_twice_is_one_too_many_whatever_keys_it_came_with() {
        let held = contents(&["id"], vec![row! { id: 1, name: "Ada" }]);
        let ada = || row! { id: 1, name: "Ada" };
        for keys in [[row! {}, row! {}], [row! { id: 7 }, row! { id: 8 }]] {
            let stream = keys.map(|key| insert(ada(), key));
            assert_ne!(run(&stream, &held, &Alterations::default()).0, []);
        }
    }

    #[test]
    fn a_name_that_another_table_takes_over_means_the_one_that_had_it_at_the_time() {
        let insert = |table: &str, id: i32| Change {
            key: row! { id: id },
            after: Some(row! { id: id }),
            ..Change::new(Op::Insert, table.into())
        };
        let stream = [insert("orders", 1), insert("ghost", 2), insert("orders", 3)];
        let held = |rows: &[i32]| TableContents {
            key: vec!["id".into()],
            rows: rows.iter().map(|id| row! { id: *id }).collect(),
            ..TableContents::default()
        };
        let after = Contents::from([("old".into(), held(&[1])), ("orders".into(), held(&[2, 3]))]);
        let swap = |place: usize| {
            let mut swapped = Alterations::default();
            let names = [("orders".into(), "old".into()), ("ghost".into(), "orders".into())];
            swapped.rename(names, Moment::Place(place));
            swapped
        };
        assert_eq!(run(&stream, &after, &swap(2)).0, []);
        assert_ne!(run(&stream, &after, &swap(3)).0, []);
        let mut one_by_one = Alterations::default();
        one_by_one.rename([("orders".into(), "old".into())], Moment::Place(2));
        one_by_one.rename([("ghost".into(), "orders".into())], Moment::Place(2));
        assert_eq!(run(&stream, &after, &one_by_one).0, []);
        let mut created_again = Alterations::default();
        created_again.rename([("orders".into(), "old".into())], Moment::Place(1));
        created_again.create(&"orders".into());
        let after =
            Contents::from([("old".into(), held(&[1])), ("orders".into(), held(&[3])), ("ghost".into(), held(&[2]))]);
        assert_eq!(run(&stream, &after, &created_again).0, []);
    }

    #[test]
    fn changes_that_come_again_may_find_their_rows_gone() -> Result<(), ModelError> {
        let stream = Case::usual(DEBEZIUM)?.stream;
        let mut again = Alterations::default();
        again.comes_again = true;
        let wrong = |stream: &[Change], alterations: &Alterations| {
            run(stream, &held(), alterations).0.contains(&FaultKind::WrongState)
        };
        let replayed = |at: usize| [&stream[..], &stream[at..]].concat();
        assert!((0..stream.len()).all(|at| !wrong(&replayed(at), &again)));
        assert!((0..stream.len()).any(|at| wrong(&replayed(at), &Alterations::default())), "it must matter");
        assert!(wrong(&stream[..stream.len() - 1], &again), "one that never came is no less lost");
        Ok(())
    }

    #[test]
    fn a_renamed_key_column_names_the_same_rows() {
        let before = insert(row! { id: 1, name: "Ada" }, row! { id: 1 });
        let update = Change { op: Op::Update, ..insert(row! { nr: 1, name: "Ada L." }, row! { nr: 1 }) };
        let mut altered = Alterations::default();
        altered.column(&"customers".into(), "id", None);
        altered.column(&"customers".into(), "nr", None);
        let held = contents(&["nr"], vec![row! { nr: 1, name: "Ada L." }]);
        assert_eq!(run(&[before.clone(), update.clone()], &held, &altered).0, []);
        let other = Change { key: row! { nr: 2 }, after: Some(row! { nr: 2, name: "Ada L." }), ..update };
        assert_ne!(run(&[before, other], &held, &altered).0, []);
    }

    #[test]
    fn a_row_without_a_key_is_found_again_after_its_table_changed() {
        let old = insert(row! { line: "x" }, row! {});
        let image = row! { line: "x", level: None::<i64> };
        let gone = Change { op: Op::Delete, before: Some(image), after: None, ..old.clone() };
        let mut altered = Alterations::default();
        altered.column(&"customers".into(), "level", None);
        let stream = [old, gone];
        assert_eq!(run(&stream, &contents(&[], vec![]), &altered).0, []);
        assert_ne!(run(&stream, &contents(&[], vec![]), &Alterations::default()).0, []);
    }

    #[test]
    fn rows_of_a_table_that_lost_its_key_are_found_again() {
        let old = insert(row! { id: 1, line: "x" }, row! { id: 1 });
        let gone =
            Change { op: Op::Delete, key: row! {}, before: Some(row! { line: "x" }), after: None, ..old.clone() };
        let mut altered = Alterations::default();
        altered.column(&"customers".into(), "id", None);
        assert_eq!(run(&[old, gone], &contents(&[], vec![]), &altered).0, []);
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Drop,
    Repeat,
    Swap,
    Value,
    Split,
}

fn random_steps() -> impl Strategy<Value = Vec<Step>> {
    let (create, t) = customers();
    let step = (0..4u8, 1..6i32, "[a-c]{0,3}").prop_map(move |(kind, id, name)| match kind {
        0 => t.delete(id),
        1 => t.update(id, row! { name: name }),
        2 => t.truncate(),
        _ => t.insert(row! { id: id, name: name }),
    });
    let block = (prop::collection::vec(step, 1..4), any::<bool>())
        .prop_map(|(steps, one)| if one { [vec![begin()], steps, vec![commit()]].concat() } else { steps });
    prop::collection::vec(block, 1..8).prop_map(move |blocks| {
        let mut steps = vec![create.clone()];
        let mut there = BTreeSet::new();
        for step in blocks.concat() {
            let keep = match &step.action {
                crate::script::Action::Insert { rows, .. } => {
                    rows.iter().all(|row| there.insert(format!("{:?}", row.get("id"))))
                }
                crate::script::Action::Delete { at, .. } => there.remove(&format!("{:?}", at.get("id"))),
                crate::script::Action::Truncate(_) => {
                    there.clear();
                    true
                }
                _ => true,
            };
            if keep {
                steps.push(step);
            }
        }
        steps
    })
}

proptest! {
    /// Whatever the script, a stream that keeps the promise passes, and one that was tampered with doesn't.
    #[test]
    fn the_judge_passes_what_is_right_and_nothing_else(
        steps in random_steps(),
        mutation in prop_oneof![
            Just(Mutation::Drop), Just(Mutation::Repeat), Just(Mutation::Swap),
            Just(Mutation::Value), Just(Mutation::Split),
        ],
        at in any::<prop::sample::Index>(),
        lossless in any::<bool>(),
    ) {
        let guarantees = if lossless { LOSSLESS } else { DEBEZIUM };
        let mut case = Case::new(guarantees, &steps).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(case.faults(), []);
        prop_assume!(!case.stream.is_empty());
        let at = at.index(case.stream.len());
        match mutation {
            Mutation::Drop => { case.stream.remove(at); }
            Mutation::Repeat => case.stream.insert(at, case.stream[at].clone()),
            Mutation::Swap => {
                prop_assume!(at > 0);
                let (a, b) = (case.stream[at - 1].clone(), case.stream[at].clone());
                let content = |c: &Change| (c.op, c.key.clone(), c.before.clone(), c.after.clone());
                prop_assume!(content(&a) != content(&b));
                case.stream.swap(at - 1, at);
            }
            Mutation::Value => {
                prop_assume!(case.stream[at].after.is_some());
                case.stream[at].after = Some(row! { id: 1, name: "tampered" });
            }
            Mutation::Split => {
                prop_assume!(at > 0 && case.stream[at - 1].tx == case.stream[at].tx);
                case.stream[at].tx = Some(TxId::new("other"));
            }
        }
        prop_assert!(case.judge().verdict.is_broken(), "{:?} at {} passed", mutation, at);
    }
}
