use super::*;
use crate::{
    row,
    schema::Type,
    script::{TableBuilder, TableRef, begin, commit, rollback, rollback_to, savepoint},
};

type Outcome = Result<(), ModelError>;

fn model() -> Result<(Model, TableRef), ModelError> {
    let table = TableBuilder::new("t").key("id", Type::Int).column_default("n", Type::Numeric(Some((6, 2))), 1).build();
    let mut model = Model::default();
    model.apply(&Action::CreateTable(table.clone()).into())?;
    Ok((model, TableRef::new(&table)))
}

fn ops(transaction: &IdealTransaction) -> Vec<Op> {
    transaction
        .changes
        .iter()
        .filter_map(|change| match change {
            IdealChange::Row { op, .. } => Some(*op),
            _ => None,
        })
        .collect()
}

fn rows(model: &Model) -> Vec<Row> {
    model.tables().0[&"t".into()].rows.clone()
}

#[test]
fn each_step_outside_a_transaction_is_one() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&t.insert(row! { id: 1 }))?;
    model.apply(&t.update(1, row! { n: 2 }))?;
    model.apply(&t.delete(1))?;
    let ops: Vec<_> = model.committed().iter().map(ops).collect();
    assert_eq!(ops, [vec![], vec![Op::Insert], vec![Op::Update], vec![Op::Delete]]);
    assert_eq!(rows(&model), []);
    Ok(())
}

#[test]
fn defaults_and_scales_are_filled_in() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&t.insert(row! { id: 1 }))?;
    model.apply(&t.insert(row! { id: 2, n: None::<i64> }))?;
    assert_eq!(rows(&model)[0], row! { id: 1, n: Value::Decimal("1.00".into()) });
    assert_eq!(rows(&model)[1], row! { id: 2, n: Value::Null });
    Ok(())
}

#[test]
fn a_rollback_leaves_nothing_and_a_savepoint_what_came_before_it() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&begin())?;
    model.apply(&t.insert(row! { id: 1 }))?;
    model.apply(&savepoint("p"))?;
    model.apply(&t.update(1, row! { n: 9 }))?;
    model.apply(&t.truncate())?;
    model.apply(&rollback_to("p"))?;
    model.apply(&t.insert(row! { id: 2 }))?;
    model.apply(&commit())?;
    model.apply(&begin())?;
    model.apply(&t.delete(1))?;
    model.apply(&t.add_column("x", Type::Text))?;
    model.apply(&rollback())?;
    assert_eq!(ops(&model.committed()[1]), [Op::Insert, Op::Insert]);
    assert_eq!(model.committed().len(), 2);
    assert_eq!(rows(&model).len(), 2);
    assert_eq!(rows(&model).iter().map(Row::len).collect::<Vec<_>>(), [2, 2]);
    Ok(())
}

#[test]
fn a_statement_visits_rows_in_the_order_of_the_heap() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&t.insert_many([1, 2, 3].map(|id| row! { id: id })))?;
    model.apply(&t.update(1, row! { n: 9 }))?;
    model.apply(&begin())?;
    model.apply(&t.delete(2))?;
    model.apply(&t.update(3, row! { n: 7 }))?;
    model.apply(&rollback())?;
    model.apply(&t.update(row! {}, row! { n: 5 }))?;
    let updated: Vec<_> = model.committed()[3]
        .changes
        .iter()
        .filter_map(|change| match change {
            IdealChange::Row { after, .. } => after.as_ref()?.get("id").cloned(),
            _ => None,
        })
        .collect();
    assert_eq!(updated, [2, 3, 1].map(Value::from), "as PostgreSQL does");
    Ok(())
}

#[test]
fn sessions_interleave_and_their_order_is_that_of_their_commits() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&begin())?;
    model.apply(&t.insert(row! { id: 1 }))?;
    model.apply(&t.insert(row! { id: 2 }).on("b"))?;
    model.apply(&rollback())?;
    assert_eq!(rows(&model), [row! { id: 2, n: Value::Decimal("1.00".into()) }]);
    assert_eq!(model.committed().len(), 2);
    Ok(())
}

#[test]
fn past_states_are_found_again_across_schema_changes() -> Outcome {
    let (mut model, t) = model()?;
    model.apply(&t.insert(row! { id: 1, n: 3 }))?;
    model.apply(&t.rename_column("n", "amount"))?;
    model.apply(&t.change_type("amount", Type::Numeric(Some((8, 3)))))?;
    model.apply(&t.add_column_not_null("vip", Type::Bool, false))?;
    model.apply(&t.rename_to("u"))?;
    model.apply(&t.renamed("u").delete(1))?;
    let before = model.tables_after(2);
    assert_eq!(before.0[&"t".into()].rows, [row! { id: 1, n: Value::Decimal("3.00".into()) }]);
    let renamed = model.tables_after(6);
    assert_eq!(renamed.0[&"u".into()].rows, [row! { id: 1, amount: Value::Decimal("3.000".into()), vip: false }]);
    assert_eq!(&model.tables_after(7), model.tables());
    Ok(())
}

#[test]
fn a_slip_in_the_script_is_an_error_that_names_it() -> Outcome {
    let (mut model, t) = model()?;
    let slip = model.apply(&t.update(1, row! { nmae: "x" }));
    assert_eq!(slip, Err(ModelError::UnknownColumn("t".into(), "nmae".into())));
    let slip = model.apply(&t.renamed("z").delete(1));
    assert_eq!(slip, Err(ModelError::UnknownTable("z".into())));
    assert!(matches!(model.apply(&commit()), Err(ModelError::NotBegun(..))));
    model.apply(&begin())?;
    assert_eq!(model.apply(&begin()), Err(ModelError::BegunTwice("a".into())));
    Ok(())
}
