use super::*;
use crate::{
    model::ModelError,
    row,
    schema::{ReplicaIdentity, Type},
    script::{Action, Step, TableBuilder, TableRef, begin, commit},
};

const EVERYTHING: Guarantees = Guarantees {
    initial_snapshot: true,
    snapshot_overlaps: false,
    snapshot_amid_changes: false,
    granularity: Granularity::EachChange,
    before_images: BeforeImages::Full,
    row_image: RowImage::Full,
    fills_before_images: false,
    keys_by_identity: false,
    key_change: KeyChange::Update,
    keyless_update: KeyChange::Update,
    unchanged_updates: true,
    transactions: true,
    order: Order::Commit,
    truncate: Truncate::Told,
    schema_changes: SchemaChanges::NextRow,
    unchanged_toast: UnchangedToast::Delivered,
    after_a_break: AfterABreak::ExactlyOnce,
    tombstones: false,
    values: Values::AS_STORED,
    read_values: None,
};

fn promise(guarantees: &Guarantees, steps: &[Step]) -> Result<Promise, ModelError> {
    let mut model = Model::default();
    steps.iter().try_for_each(|step| model.apply(step))?;
    Ok(guarantees.promise(&model, 0, &[]))
}

fn table() -> (Step, TableRef) {
    let table = TableBuilder::new("t").key("id", Type::Int).column("n", Type::Int).build();
    let handle = TableRef::new(&table);
    (Action::CreateTable(table).into(), handle)
}

#[test]
fn a_missed_truncate_is_a_loss_and_leaves_no_empty_transaction() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [create, t.insert(row! { id: 1 }), t.truncate()];
    let blind = promise(&Guarantees { truncate: Truncate::Missed, ..EVERYTHING }, &steps)?;
    assert_eq!(blind.transactions.len(), 1);
    assert_eq!(blind.losses, BTreeSet::from([Loss::TruncateMissed]));
    assert_eq!(promise(&EVERYTHING, &steps)?.transactions.len(), 2);
    Ok(())
}

#[test]
fn a_key_change_is_one_update_or_a_delete_and_an_insert() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [create, t.insert(row! { id: 1, n: 5 }), t.update(1, row! { id: 2 })];
    let ops = |promise: &Promise| {
        promise.transactions[1].changes.iter().map(|change| (change.op, change.key.clone())).collect::<Vec<_>>()
    };
    assert_eq!(ops(&promise(&EVERYTHING, &steps)?), [(Op::Update, row! { id: 2 })]);
    let split = Guarantees { key_change: KeyChange::DeleteAndInsert, ..EVERYTHING };
    let split = promise(&split, &steps)?;
    assert_eq!(ops(&split), [(Op::Delete, row! { id: 1 }), (Op::Insert, row! { id: 2 })]);
    assert!(split.losses.contains(&Loss::KeyChangeSplit));
    Ok(())
}

#[test]
fn a_change_of_the_replica_identity_is_no_change_of_the_shape() -> Result<(), ModelError> {
    let (create, t) = table();
    let alter =
        Action::Alter { table: t.name().clone(), change: crate::script::Alter::Identity(ReplicaIdentity::Full) };
    let by_identity = Guarantees { before_images: BeforeImages::ReplicaIdentity, ..EVERYTHING };
    let steps = [create, t.insert(row! { id: 1, n: 5 }), alter.into(), t.delete(1)];
    let promised = promise(&by_identity, &steps)?;
    assert_eq!(promised.losses, BTreeSet::new());
    assert_eq!(promised.transactions[1].changes[0].before, Some(row! { id: 1, n: 5 }));
    Ok(())
}

#[test]
fn guarantees_are_read_from_json_field_by_field_and_a_wrong_name_is_refused() -> Result<(), serde_json::Error> {
    assert_eq!(serde_json::from_str::<Guarantees>("{}")?, Guarantees::default());
    let told = r#"{ "before_images": "none", "transactions": false, "unchanged_toast": "left_out",
        "granularity": { "latest_state": { "touched_by_updates": true, "overlap": false } } }"#;
    let expected = Guarantees {
        before_images: BeforeImages::None,
        transactions: false,
        unchanged_toast: UnchangedToast::LeftOut,
        granularity: Granularity::LatestState(TOUCHED),
        ..Guarantees::default()
    };
    assert_eq!(serde_json::from_str::<Guarantees>(told)?, expected);
    assert_eq!(serde_json::from_str::<Guarantees>(&serde_json::to_string(&expected)?)?, expected);
    assert!(serde_json::from_str::<Guarantees>(r#"{ "transaction": true }"#).is_err());
    Ok(())
}

#[test]
fn a_large_value_that_an_update_leaves_alone_is_marked_or_its_column_left_out() -> Result<(), ModelError> {
    let table = TableBuilder::new("t").key("id", Type::Int).column_external("body", Type::Text).build();
    let t = TableRef::new(&table);
    let body = "x".repeat(3000);
    let steps = [Action::CreateTable(table).into(), t.insert(row! { id: 1, body: body }), t.update(1, row! { id: 2 })];
    for (unchanged_toast, expected) in [
        (UnchangedToast::Omitted, row! { id: 2, body: crate::Value::Unavailable }),
        (UnchangedToast::LeftOut, row! { id: 2 }),
    ] {
        let promised = promise(&Guarantees { unchanged_toast, ..EVERYTHING }, &steps)?;
        assert_eq!(promised.transactions[1].changes[0].after, Some(expected));
        assert!(promised.losses.contains(&Loss::UnchangedToastOmitted));
    }
    Ok(())
}

fn changes(promise: &Promise) -> Vec<String> {
    let changes = promise.transactions.iter().flat_map(|delivery| &delivery.changes);
    let told = |change: &Expected| format!("{}{}", change.op.symbol(), change.after.clone().unwrap_or_default());
    changes.map(told).collect()
}

#[test]
fn a_change_of_the_shape_is_told_with_the_next_row_and_several_of_them_as_one() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [
        create,
        t.insert(row! { id: 1, n: 5 }),
        t.add_column("x", Type::Text),
        t.drop_column("n"),
        t.rename_to("u"),
        t.renamed("u").insert(row! { id: 2, x: "y" }),
        t.renamed("u").add_column("z", Type::Int),
    ];
    let late = Guarantees { schema_changes: SchemaChanges::WithNextRow, ..EVERYTHING };
    let promised = promise(&late, &steps)?;
    assert_eq!(changes(&promised), ["+id: 1  n: 5", "*id: int  x: text", "+id: 2  x: y"]);
    let told = &promised.transactions[1].changes[0];
    assert_eq!(told.before, Some(row! { id: "int", n: "int" }));
    assert_eq!(told.renamed_from, Some("t".into()));
    assert_eq!(promised.losses, BTreeSet::from([Loss::SchemaChangeLate]));
    Ok(())
}

#[test]
fn a_change_of_the_shape_is_told_at_once_with_names_if_anything_of_it_is_told() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [
        create,
        t.insert(row! { id: 1, n: 5 }),
        t.add_column("price", Type::Numeric(Some((6, 2)))),
        t.change_type("price", Type::Numeric(Some((8, 2)))),
        t.rename_to("u"),
    ];
    let values = Values { bare_types: true, ..Values::AS_STORED };
    let told = promise(&Guarantees { schema_changes: SchemaChanges::AtOnceWithNames, values, ..EVERYTHING }, &steps)?;
    let shape = "*id: int  n: int  price: decimal";
    assert_eq!(changes(&told), ["+id: 1  n: 5", shape, shape]);
    assert_eq!(told.transactions[1].changes[0].renamed_from, None);
    assert_eq!(told.transactions[2].changes[0].renamed_from, Some("t".into()));
    assert_eq!(told.losses, BTreeSet::from([Loss::SchemaChangeSilent]), "a precision that nobody tells");
    Ok(())
}

#[test]
fn an_old_row_may_hold_just_what_an_update_changed() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [create, t.insert(row! { id: 1, n: 5 }), t.update(1, row! { n: 6 }), t.delete(1)];
    let told = promise(&Guarantees { before_images: BeforeImages::Changed, ..EVERYTHING }, &steps)?;
    let before = |at: usize| told.transactions[at].changes[0].before.clone();
    assert_eq!((before(1), before(2)), (Some(row! { n: 5 }), Some(row! { id: 1, n: 6 })));
    assert_eq!(told.losses, BTreeSet::from([Loss::OldValuesOfChangesOnly]));
    Ok(())
}

fn states(mark: Mark, steps: &[Step], looks: &[usize]) -> Result<Promise, ModelError> {
    let mut model = Model::default();
    steps.iter().try_for_each(|step| model.apply(step))?;
    let polled = Guarantees { granularity: Granularity::LatestState(mark), transactions: false, ..EVERYTHING };
    Ok(polled.promise(&model, 1, looks))
}

const TOUCHED: Mark =
    Mark { touched_by_updates: true, overlap: false, time_of: TimeOf::Transaction, follows_renames: true };

#[test]
fn a_look_finds_the_last_version_of_each_row_and_no_delete() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [
        create,
        t.insert(row! { id: 1, n: 1 }),
        t.insert(row! { id: 2, n: 1 }),
        t.update(1, row! { n: 2 }),
        t.delete(2),
        t.update(1, row! { n: 3 }),
    ];
    let promised = states(TOUCHED, &steps, &[3, 6])?;
    assert_eq!(changes(&promised), ["±id: 1  n: 1", "±id: 2  n: 1", "±id: 1  n: 3"]);
    let losses = [Loss::NoBeforeImage, Loss::InsertOrUpdate, Loss::DeleteMissed, Loss::VersionsCollapsed];
    assert_eq!(promised.losses, BTreeSet::from(losses));
    let untouched = states(Mark { touched_by_updates: false, ..TOUCHED }, &steps, &[3, 6])?;
    assert_eq!(changes(&untouched), ["±id: 1  n: 1", "±id: 2  n: 1"]);
    assert!(untouched.losses.contains(&Loss::BehindTheMark));
    Ok(())
}

#[test]
fn what_is_committed_late_lies_behind_the_mark_unless_looks_overlap() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [
        create,
        begin().on("b"),
        t.insert(row! { id: 1, n: 1 }).on("b"),
        t.insert(row! { id: 2, n: 2 }),
        commit().on("b"),
    ];
    let missed = states(TOUCHED, &steps, &[2, 3])?;
    assert_eq!(changes(&missed), ["±id: 2  n: 2"]);
    assert!(missed.losses.contains(&Loss::BehindTheMark));
    let overlapping = states(Mark { overlap: true, ..TOUCHED }, &steps, &[2, 3])?;
    assert_eq!(changes(&overlapping), ["±id: 2  n: 2", "±id: 1  n: 1"]);
    assert!(!overlapping.losses.contains(&Loss::BehindTheMark));
    Ok(())
}

#[test]
fn concurrent_transactions_are_those_that_began_before_the_other_was_committed() -> Result<(), ModelError> {
    let (create, t) = table();
    let steps = [
        create,
        begin().on("b"),
        t.insert(row! { id: 1, n: 1 }).on("b"),
        t.insert(row! { id: 2, n: 2 }),
        commit().on("b"),
        t.insert(row! { id: 3, n: 3 }),
    ];
    let promised = promise(&Guarantees { order: Order::CommitUnlessConcurrent, ..EVERYTHING }, &steps)?;
    assert_eq!(promised.transactions.len(), 3);
    let [second, first, third] = [0, 1, 2].map(|at| &promised.transactions[at]);
    assert!(first.is_beside(second) && second.is_beside(first));
    assert!(!third.is_beside(first) && !third.is_beside(second));
    assert_eq!(promised.losses, BTreeSet::from([Loss::ConcurrentOrderUnknown]));
    Ok(())
}
