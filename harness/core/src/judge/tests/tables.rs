//! Methods of table formats: they compare states, commit by commit, and tell nothing of what comes first in different tables.

use super::*;
use crate::guarantees::{Difference, ROWS};

const CHANGELOG: Guarantees = Guarantees {
    granularity: Granularity::Difference(Difference { each_commit: true, keyed: true }),
    key_change: KeyChange::DeleteAndInsert,
    keyless_update: KeyChange::DeleteAndInsert,
    unchanged_updates: true,
    order: Order::CommitOfEachTable,
    truncate: Truncate::AsDeletes,
    schema_changes: SchemaChanges::WithNextRow,
    ..LOSSLESS
};

const FILES: Guarantees = Guarantees { granularity: Granularity::Files, ..CHANGELOG };

fn two_tables(guarantees: Guarantees) -> Result<Case, ModelError> {
    let (create, t) = customers();
    let orders = TableBuilder::new("orders").key("id", Type::Int).build();
    let o = TableRef::new(&orders);
    Case::new(
        guarantees,
        &[
            create,
            crate::script::Action::CreateTable(orders).into(),
            t.insert_many([row! { id: 1, name: "Ada" }, row! { id: 2, name: "Bob" }]),
            o.insert(row! { id: 7 }),
            t.update(1, row! { name: "Ada L." }),
            t.update(2, row! { name: "Bob" }),
            t.add_column("email", Type::Text),
            t.insert(row! { id: 3, name: "Cyd" }),
            t.truncate(),
        ],
    )
}

#[test]
fn tables_and_rows_of_a_commit_come_in_any_order_and_commits_do_not() -> Result<(), ModelError> {
    let case = two_tables(CHANGELOG)?;
    assert_eq!(case.faults(), []);
    let told: Vec<_> = case.stream.iter().map(|change| change.op.symbol()).collect();
    assert_eq!(told.iter().collect::<String>(), "+++~*+---", "the update of Bob changed nothing and is not told");

    let mut other_order = case;
    other_order.stream.swap(0, 1);
    let orders = other_order.stream.remove(2);
    other_order.stream.push(orders);
    assert_eq!(other_order.faults(), []);

    let mut swapped = two_tables(CHANGELOG)?;
    swapped.stream.swap(0, 3);
    assert!(swapped.faults().contains(&FaultKind::Reordered));
    let mut late_shape = two_tables(CHANGELOG)?;
    late_shape.stream.swap(4, 5);
    assert_eq!(late_shape.faults(), [FaultKind::Reordered], "the new shape stands before its row");
    Ok(())
}

#[test]
fn each_row_of_a_comparison_counts() -> Result<(), ModelError> {
    let whole = two_tables(CHANGELOG)?;
    for at in 0..whole.stream.len() {
        let mut less = two_tables(CHANGELOG)?;
        less.stream.remove(at);
        assert_eq!(less.faults(), [FaultKind::Lost], "without {at}");
        let mut more = two_tables(CHANGELOG)?;
        more.stream.insert(at, more.stream[at].clone());
        assert!(more.faults().contains(&FaultKind::Duplicated), "{at} twice");
    }
    Ok(())
}

#[test]
fn what_a_comparison_leaves_out_is_named() -> Result<(), ModelError> {
    let named = [Loss::SchemaChangeLate, Loss::TruncateAsDeletes, Loss::UnchangedUpdateMissed, Loss::OrderAcrossTables];
    let verdict = Verdict::AsGuaranteed { losses: BTreeSet::from(named) };
    assert_eq!(two_tables(CHANGELOG)?.judge().verdict, verdict);
    Ok(())
}

#[test]
fn looks_tell_the_difference_and_not_the_way() -> Result<(), ModelError> {
    let (create, t) = customers();
    let steps = [
        create,
        t.insert(row! { id: 1, name: "Ada" }),
        t.update(1, row! { name: "Eve" }),
        t.insert(row! { id: 2, name: "Bob" }),
        t.delete(2),
        t.update(1, row! { name: "Ada L." }),
    ];
    let mut model = Model::default();
    steps.iter().try_for_each(|step| model.apply(step))?;
    let promised = |keyed: bool| {
        let difference = Granularity::Difference(Difference { each_commit: false, keyed });
        let guarantees = Guarantees { granularity: difference, transactions: false, ..CHANGELOG };
        guarantees.promise(&model, 0, &[3, 6])
    };
    let ops = |promise: &Promise| -> Vec<String> {
        let symbols = |delivery: &crate::guarantees::Delivery| delivery.changes.iter().map(|c| c.op.symbol()).collect();
        promise.transactions.iter().map(symbols).collect()
    };
    assert_eq!(ops(&promised(true)), ["+", "~"]);
    assert_eq!(ops(&promised(false)), ["+", "-+"], "without a key an update is two");
    let losses = promised(true).losses;
    assert!(losses.contains(&Loss::VersionsCollapsed) && losses.contains(&Loss::NoTransactions), "{losses:?}");
    Ok(())
}

#[test]
fn files_must_be_told_for_each_commit_and_their_rows_must_add_up() -> Result<(), ModelError> {
    let case = two_tables(FILES)?;
    assert_eq!(case.faults(), []);
    assert_eq!(case.stream.len(), 6);
    let contents = Contents::from([("customers".into(), TableContents::default())]);
    let fold = |stream: &[Change]| {
        let (faults, _) = judge_fold(&Contents::new(), stream, &contents, &Alterations::default(), &FILES);
        faults.into_iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(fold(&case.stream), []);
    for at in 0..case.stream.len() {
        let mut less = two_tables(FILES)?;
        less.stream.remove(at);
        assert_eq!(less.faults(), [FaultKind::Lost]);
    }
    let mut wrong = two_tables(FILES)?;
    wrong.stream[0].after = Some(row! { rows: 3 });
    assert_eq!(wrong.faults(), [FaultKind::WrongValue]);
    assert_eq!(fold(&wrong.stream), [FaultKind::WrongState]);
    let mut unknown = two_tables(FILES)?;
    unknown.stream[0].after = Some(row! { rows: crate::Value::Unavailable });
    assert_eq!(unknown.faults(), [], "the metadata need not say it");
    assert_eq!(ROWS, "rows");
    Ok(())
}
