//! What the Model knows, in the words of the second oracle: what tables hold, and what changed in their definitions.

use std::collections::BTreeSet;

use crate::{
    change::{Change, Op},
    error::{Error, Result},
    guarantees::{Guarantees, TIME_COLUMN},
    judge::{
        Alterations, COMES_AGAIN, Contents, Judgement, StoredColumn, TableContents, Watch, judge, judge_fold, told_once,
    },
    model::{IdealChange, Model, Tables},
    schema::TableName,
    script::Alter,
    value::{Row, Value},
};

fn contents_of(tables: &Tables) -> Contents {
    let contents = tables.0.values().map(|state| {
        let (key, rows) = (state.table.key.clone(), state.rows.clone());
        let columns = state.table.columns.iter().map(|column| {
            let stored = StoredColumn { ty: column.ty.clone(), is_generated: column.generated.is_some() };
            (column.name.clone(), stored)
        });
        (state.table.name.clone(), TableContents { key, columns: columns.collect(), rows })
    });
    contents.collect()
}

/// Judges a stream by both oracles: against the Model, and folded into tables against what the source holds.
pub fn judge_by_both(
    model: &Model,
    guarantees: &Guarantees,
    watch: &Watch,
    stream: &[Change],
    contents: &Contents,
) -> Judgement {
    let judgement = judge(model, guarantees, watch, stream);
    // Rows that are read amid changes have been judged each at its place; without them the changes are those of rows that were there.
    let is_amid = guarantees.initial_snapshot && guarantees.snapshot_amid_changes;
    let before = match guarantees.initial_snapshot && !is_amid {
        true => Contents::new(),
        false => contents_of(&model.tables_after(judgement.cut)),
    };
    let comes_again = watch.may_come_again(guarantees);
    let mut alterations = alterations(model, &judgement);
    alterations.comes_again = comes_again;
    let reads: BTreeSet<_> = (0..stream.len()).filter(|at| is_amid && stream[*at].op == Op::Read).collect();
    let stream = told_once(stream, if is_amid { &reads } else { &judgement.overlap });
    let (mut faults, losses) = judge_fold(&before, &stream, contents, &alterations, guarantees);
    faults.retain(|fault| !comes_again || !COMES_AGAIN.contains(&fault.kind));
    Judgement { verdict: judgement.verdict.and(faults, losses), ..judgement }
}

/// The Model is an oracle only as long as it agrees with the database.
///
/// # Errors
/// They differ: says in which table and row.
pub fn check_model(tables: &Tables, contents: &Contents) -> Result<()> {
    let model = contents_of(tables);
    let names: BTreeSet<_> = model.keys().chain(contents.keys()).collect();
    for name in names {
        let (ideal, real) = (sorted(model.get(name)), sorted(contents.get(name)));
        if ideal != real {
            let differing = ideal.iter().find(|row| !real.contains(row));
            let differing = differing.or_else(|| real.iter().find(|row| !ideal.contains(row)));
            let differing = differing.map(|row| format!("{row:?}"));
            let cause = format!(
                "in {name} it has {} rows and the database {}; they differ in {}",
                ideal.len(),
                real.len(),
                differing.as_deref().unwrap_or("how often rows are there")
            );
            return Err(Error::new("the Model", "agree with the database", cause)
                .help("if the script uses SQL of the database's own, state what it means"));
        }
    }
    Ok(())
}

fn sorted(contents: Option<&TableContents>) -> Vec<Vec<(&str, &Value)>> {
    let mut rows: Vec<_> = contents.into_iter().flat_map(|contents| contents.rows.iter().map(Row::canonical)).collect();
    rows.sort_unstable();
    rows
}

/// What changed in the tables' definitions since the capture began.
fn alterations(model: &Model, judgement: &Judgement) -> Alterations {
    let cut = judgement.cut;
    let mut alterations = Alterations::default();
    let committed = &model.committed()[cut..];
    alterations.is_out_of_time = committed.iter().zip(cut..).any(|(transaction, at)| transaction.committed_before < at);
    let numbered =
        committed.iter().zip(cut..).flat_map(|(transaction, at)| transaction.changes.iter().map(move |c| (at, c)));
    for (number, change) in numbered {
        let (table, change) = match change {
            IdealChange::Altered { table, change } => (table, change),
            IdealChange::Row { op, table, .. } => {
                if *op == Op::Truncate {
                    alterations.truncate(&table.name);
                }
                alterations.is_out_of_time |= table.column(TIME_COLUMN).is_some();
                continue;
            }
            IdealChange::Created(table) => {
                alterations.create(&table.name);
                continue;
            }
        };
        match change {
            Alter::AddColumn(column) => alterations.column(&table.name, &column.name, None),
            Alter::DropColumn(column) | Alter::ChangeType { column, .. } => {
                alterations.column(&table.name, column, None);
            }
            Alter::RenameColumn { from, to } => {
                alterations.column(&table.name, from, None);
                alterations.column(&table.name, to, None);
            }
            Alter::RenameTable(to) => {
                let renamed = TableName::new(table.name.schema(), to);
                alterations.rename([(table.name.clone(), renamed)], judgement.moment_after(number));
            }
            Alter::Identity(_) | Alter::Key(_) => {}
        }
    }
    alterations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Context,
        row,
        script::{Action, TableBuilder, TableRef},
    };

    fn contents(rows: Vec<Row>) -> Contents {
        Contents::from([("t".into(), TableContents { key: vec!["id".into()], rows, ..TableContents::default() })])
    }

    #[test]
    fn a_model_that_differs_from_the_database_is_no_oracle() -> Result<()> {
        let table = TableBuilder::new("t").key("id", crate::schema::Type::Int).build();
        let handle = TableRef::new(&table);
        let mut model = Model::default();
        for step in [Action::CreateTable(table).into(), handle.insert(row! { id: 1 })] {
            model.apply(&step).while_doing("test", "apply")?;
        }
        let tables = model.tables();
        check_model(tables, &contents(vec![row! { id: 1 }]))?;
        for wrong in [vec![], vec![row! { id: 2 }], vec![row! { id: 1 }, row! { id: 1 }]] {
            assert!(check_model(tables, &contents(wrong)).is_err());
        }
        assert!(check_model(tables, &Contents::new()).is_err(), "a database without the table");
        let long = |end: &str| format!("{}{end}", "x".repeat(100));
        let text = |end: &str| Value::from(long(end));
        for (ideal, real) in [(text("a"), text("b")), (1.5.into(), Value::Decimal("1.5".into()))] {
            let table = TableBuilder::new("t").key("id", crate::schema::Type::Other("any".into()));
            let table = table.build();
            let handle = TableRef::new(&table);
            let mut model = Model::default();
            for step in [Action::CreateTable(table).into(), handle.insert(row! { id: ideal })] {
                model.apply(&step).while_doing("test", "apply")?;
            }
            assert!(check_model(model.tables(), &contents(vec![row! { id: real }])).is_err());
        }
        Ok(())
    }
}
