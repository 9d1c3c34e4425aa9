//! SQL as steps: the statements that a script expresses, and an error with its line for all others.
//!
//! Names and literals are read as PostgreSQL reads them. The file is run on a Model meanwhile, so that a statement that names
//! what the file has not made is known before anything starts, and a MERGE knows the rows that it meets.

use changeproof::{
    Row, Value,
    model::Model,
    schema::{Column, ReplicaIdentity, Table, TableName, Type},
    script::{Action, Alter, Step},
};
use sqlparser::{
    ast::{
        AlterColumnOperation, AlterTable, AlterTableOperation, Assignment, AssignmentTarget, BinaryOperator, ColumnDef,
        ColumnOption, CreateTable, Delete, Expr, FromTable, Ident, Insert, Merge, MergeAction, MergeClauseKind,
        MergeInsertKind, ObjectName, ObjectNamePart, RenameTableNameKind, SetExpr, Statement as Sql, TableConstraint,
        TableFactor, TableObject, TableWithJoins, UnaryOperator, Update, Value as Literal,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::steps::Script;
use crate::sql_file::{SqlFileError, Statement};

type Told<T> = Result<T, String>;

/// Reads a file's statements as steps.
///
/// # Errors
/// A statement that no script expresses, or that names what the file has not made: with its line.
pub(super) fn script(statements: &[Statement]) -> Result<Script, SqlFileError> {
    let mut model = Model::default();
    let read = |statement: &Statement| {
        let step = step(statement, &model).and_then(|step| match model.apply(&step) {
            Ok(()) => Ok(step),
            Err(error) => Err(error.to_string()),
        });
        match step {
            Ok(step) => Ok((statement.clone(), step)),
            Err(problem) => Err(SqlFileError { line: statement.line, problem }),
        }
    };
    statements.iter().map(read).collect()
}

fn step(statement: &Statement, model: &Model) -> Told<Step> {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, &statement.sql).map_err(|error| error.to_string())?;
    let [sql] = parsed.as_slice() else { return Err("it is more than one statement".to_owned()) };
    let action = match sql {
        Sql::CreateTable(create) => create_table(create)?,
        Sql::Insert(insert) => inserted(insert, model)?,
        Sql::Update(update) => updated(update, model)?,
        Sql::Delete(delete) => deleted(delete, model)?,
        Sql::Merge(merge) => merged(merge, model)?,
        Sql::Truncate(truncate) => {
            nothing(truncate.partitions.is_none() && truncate.cascade.is_none(), "of TRUNCATE only the tables")?;
            let tables = truncate.table_names.iter().map(|target| table_name(&target.name));
            Action::Truncate(tables.collect::<Told<_>>()?)
        }
        Sql::AlterTable(alter) => altered(alter)?,
        Sql::StartTransaction { .. } => Action::Begin,
        Sql::Commit { .. } => Action::Commit,
        Sql::Rollback { savepoint: None, .. } => Action::Rollback,
        _ => {
            return Err(unknown(
                "it is none of CREATE TABLE, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, ALTER TABLE, BEGIN, COMMIT, ROLLBACK",
            ));
        }
    };
    Ok(Step::from(action).on(&statement.session))
}

/// What is wrong, and what a file for tables of a lakehouse may hold.
fn unknown(what: impl AsRef<str>) -> String {
    format!("{}; `cdc help try` tells what a file for Iceberg and Delta Lake may hold", what.as_ref())
}

fn nothing(is_absent: bool, expected: &str) -> Told<()> {
    if is_absent { Ok(()) } else { Err(unknown(format!("{expected} can be given here"))) }
}

/// A name as PostgreSQL folds it (manual, 4.1.1): lower case, unless it is quoted.
fn name(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn parts(object: &ObjectName) -> Told<Vec<String>> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(name(ident)),
        ObjectNamePart::Function(_) => Err(unknown(format!("{object} is no name"))),
    };
    object.0.iter().map(part).collect()
}

fn table_name(object: &ObjectName) -> Told<TableName> {
    match parts(object)?.as_slice() {
        [name] => Ok(TableName::from(name.as_str())),
        [schema, name] => Ok(TableName::new(schema, name)),
        _ => Err(unknown(format!("{object} is no name of a table"))),
    }
}

/// The last part of a column's name; what stands before it names its table.
fn column_name(object: &ObjectName) -> Told<String> {
    parts(object)?.pop().ok_or_else(|| unknown(format!("{object} is no name of a column")))
}

fn definition<'a>(model: &'a Model, name: &TableName) -> Told<&'a Table> {
    let state = model.tables().0.get(name);
    state.map(|state| &*state.table).ok_or_else(|| format!("there is no table {name}"))
}

fn create_table(create: &CreateTable) -> Told<Action> {
    nothing(
        create.query.is_none() && !create.temporary && create.inherits.is_none(),
        "only columns and a primary key",
    )?;
    let mut table = Table {
        name: table_name(&create.name)?,
        columns: create.columns.iter().map(column).collect::<Told<_>>()?,
        key: Vec::new(),
        identity: ReplicaIdentity::Default,
    };
    let of_columns = create
        .columns
        .iter()
        .filter(|column| column.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_))));
    table.key.extend(of_columns.map(|column| name(&column.name)));
    for constraint in &create.constraints {
        let TableConstraint::PrimaryKey(key) = constraint else {
            return Err(unknown(format!("the constraint `{constraint}` is checked by none of these storages")));
        };
        for part in &key.columns {
            let Expr::Identifier(column) = &part.column.expr else {
                return Err(unknown(format!("{} can't be a part of a key", part.column.expr)));
            };
            table.key.push(name(column));
        }
    }
    let key = table.key.clone();
    table.columns.iter_mut().filter(|column| key.contains(&column.name)).for_each(|column| column.nullable = false);
    Ok(Action::CreateTable(table))
}

fn column(definition: &ColumnDef) -> Told<Column> {
    let ty = type_named(&definition.data_type.to_string().to_lowercase())?;
    let name = name(&definition.name);
    let mut column = Column { name, ty, nullable: true, default: None, external: false, generated: None };
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null | ColumnOption::PrimaryKey(_) => {}
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::Default(value) => column.default = Some(literal(value, &column.ty)?),
            other => return Err(unknown(format!("a column can't be declared with `{other}`"))),
        }
    }
    Ok(column)
}

fn type_named(text: &str) -> Told<Type> {
    if let Some(element) = text.strip_suffix("[]") {
        return Ok(Type::Array(Box::new(type_named(element)?)));
    }
    let (base, digits) = match text.split_once('(') {
        Some((base, rest)) => (base.trim(), rest.trim_end_matches(')').split(',').map(str::trim).collect()),
        None => (text, Vec::new()),
    };
    let digits: Vec<u16> = digits.iter().filter_map(|digits| digits.parse().ok()).collect();
    Ok(match (base, digits.as_slice()) {
        ("boolean" | "bool", _) => Type::Bool,
        ("smallint" | "int2", _) => Type::SmallInt,
        ("integer" | "int" | "int4", _) => Type::Int,
        ("bigint" | "int8" | "long", _) => Type::BigInt,
        ("real" | "float4" | "float", _) => Type::Real,
        ("double precision" | "double" | "float8", _) => Type::Double,
        ("numeric" | "decimal" | "dec", [precision, scale]) => Type::Numeric(Some((*precision, *scale))),
        ("numeric" | "decimal" | "dec", [precision]) => Type::Numeric(Some((*precision, 0))),
        ("text" | "string", _) => Type::Text,
        ("bytea" | "binary" | "bytes", _) => Type::Bytes,
        ("date", _) => Type::Date,
        ("timestamp" | "timestamp without time zone", _) => Type::Timestamp,
        ("timestamptz" | "timestamp with time zone", _) => Type::TimestampTz,
        ("uuid", _) => Type::Uuid,
        _ => {
            return Err(unknown(format!(
                "the type {text} is none of boolean, smallint, integer, bigint, real, double precision, numeric(P,S), \
                 text, bytea, date, timestamp, timestamptz, uuid, and arrays of them"
            )));
        }
    })
}

/// A literal as a column of the type holds it.
fn literal(expression: &Expr, ty: &Type) -> Told<Value> {
    let text = |text: &str| match ty {
        Type::Text => Value::Text(text.to_owned()),
        ty => Value::from_text(text, ty),
    };
    match expression {
        Expr::Nested(inner) => literal(inner, ty),
        Expr::TypedString(typed) => match &typed.value.value {
            Literal::SingleQuotedString(value) => Ok(text(value)),
            other => Err(no_literal(other)),
        },
        Expr::Value(value) => match &value.value {
            Literal::Null => Ok(Value::Null),
            Literal::Boolean(truth) => Ok(Value::Bool(*truth)),
            Literal::Number(number, _) => Ok(text(number)),
            Literal::SingleQuotedString(value) | Literal::EscapedStringLiteral(value) => Ok(text(value)),
            Literal::DollarQuotedString(value) => Ok(text(&value.value)),
            Literal::HexStringLiteral(digits) => Ok(text(&format!("\\x{digits}"))),
            other => Err(no_literal(other)),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
            Expr::Value(value) => match &value.value {
                Literal::Number(number, _) => Ok(text(&format!("-{number}"))),
                other => Err(no_literal(other)),
            },
            other => Err(no_literal(other)),
        },
        Expr::Array(array) => match ty {
            Type::Array(element) => {
                array.elem.iter().map(|item| literal(item, element)).collect::<Told<_>>().map(Value::Array)
            }
            _ => Err(no_literal(expression)),
        },
        other => Err(no_literal(other)),
    }
}

fn no_literal(what: impl std::fmt::Display) -> String {
    unknown(format!("`{what}` is no literal value"))
}

/// A value for a column of a table.
fn value(table: &Table, column: &str, expression: &Expr) -> Told<Value> {
    let known = table.column(column).ok_or_else(|| format!("{} has no column {column}", table.name))?;
    Ok(literal(expression, &known.ty)?.cast(&known.ty))
}

fn rows_of(body: &SetExpr) -> Told<Vec<&[Expr]>> {
    match body {
        SetExpr::Values(values) => Ok(values.rows.iter().map(|row| row.content.as_slice()).collect()),
        _ => Err(unknown("rows can only be given by VALUES")),
    }
}

fn paired(columns: &[String], row: &[Expr], mut read: impl FnMut(&str, &Expr) -> Told<Value>) -> Told<Row> {
    if columns.len() != row.len() {
        return Err(format!("there are {} columns and {} values", columns.len(), row.len()));
    }
    columns.iter().zip(row).map(|(column, value)| Ok((column.clone(), read(column, value)?))).collect()
}

fn inserted(insert: &Insert, model: &Model) -> Told<Action> {
    nothing(insert.on.is_none() && insert.returning.is_none() && insert.or.is_none(), "only rows")?;
    let TableObject::TableName(object) = &insert.table else { return Err(unknown("a table's name is expected")) };
    let table = definition(model, &table_name(object)?)?;
    let columns: Vec<String> = match insert.columns.as_slice() {
        [] => table.columns.iter().map(|column| column.name.clone()).collect(),
        named => named.iter().map(column_name).collect::<Told<_>>()?,
    };
    let Some(source) = &insert.source else { return Err(unknown("rows can only be given by VALUES")) };
    let rows = rows_of(&source.body)?;
    let rows = rows.into_iter().map(|row| paired(&columns, row, |column, given| value(table, column, given)));
    Ok(Action::Insert { table: table.name.clone(), rows: rows.collect::<Told<_>>()? })
}

fn only_table(from: &TableWithJoins) -> Told<TableName> {
    match &from.relation {
        TableFactor::Table { name, .. } if from.joins.is_empty() => table_name(name),
        other => Err(unknown(format!("`{other}` is no single table"))),
    }
}

fn updated(update: &Update, model: &Model) -> Told<Action> {
    let is_plain = update.from.is_none() && update.returning.is_none() && update.limit.is_none();
    nothing(is_plain && update.order_by.is_empty(), "only SET and WHERE")?;
    let table = definition(model, &only_table(&update.table)?)?;
    let at = condition(update.selection.as_ref(), table)?;
    let set = assignments(&update.assignments, |column, given| value(table, column, given))?;
    Ok(Action::Update { table: table.name.clone(), at, set })
}

fn assignments(given: &[Assignment], mut read: impl FnMut(&str, &Expr) -> Told<Value>) -> Told<Row> {
    let assignment = |assignment: &Assignment| match &assignment.target {
        AssignmentTarget::ColumnName(object) => {
            let column = column_name(object)?;
            let value = read(&column, &assignment.value)?;
            Ok((column, value))
        }
        AssignmentTarget::Tuple(_) => Err(unknown("columns are set one by one")),
    };
    given.iter().map(assignment).collect()
}

fn deleted(delete: &Delete, model: &Model) -> Told<Action> {
    let is_plain = delete.using.is_none() && delete.returning.is_none() && delete.limit.is_none();
    nothing(is_plain && delete.tables.is_empty() && delete.order_by.is_empty(), "only FROM and WHERE")?;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else { return Err(unknown("rows are deleted from one table")) };
    let table = definition(model, &only_table(from)?)?;
    Ok(Action::Delete { table: table.name.clone(), at: condition(delete.selection.as_ref(), table)? })
}

/// The values that columns must have: equalities, joined by AND. No condition is met by every row.
fn condition(expression: Option<&Expr>, table: &Table) -> Told<Row> {
    let mut at = Row::default();
    let Some(expression) = expression else { return Ok(at) };
    let mut left = vec![expression];
    while let Some(expression) = left.pop() {
        let (column, value) = match expression {
            Expr::BinaryOp { left: a, op: BinaryOperator::And, right: b } => {
                left.extend([&**b, &**a]);
                continue;
            }
            Expr::Nested(inner) => {
                left.push(inner);
                continue;
            }
            Expr::IsNull(column) => (named(column)?, Value::Null),
            Expr::BinaryOp { left: column, op: BinaryOperator::Eq, right: given } => {
                let column = named(column)?;
                let value = value(table, &column, given)?;
                (column, value)
            }
            other => {
                return Err(unknown(format!(
                    "a condition is COLUMN = VALUE or COLUMN IS NULL, joined by AND, not `{other}`"
                )));
            }
        };
        if table.column(&column).is_none() {
            return Err(format!("{} has no column {column}", table.name));
        }
        at.set(&column, value);
    }
    Ok(at)
}

/// The column that an expression names, without its table.
fn named(expression: &Expr) -> Told<String> {
    match expression {
        Expr::Identifier(ident) => Ok(name(ident)),
        Expr::CompoundIdentifier(parts) => {
            parts.last().map(name).ok_or_else(|| unknown(format!("`{expression}` is no column")))
        }
        Expr::Nested(inner) => named(inner),
        other => Err(unknown(format!("`{other}` is no column"))),
    }
}

/// The rows that a MERGE brings: their name, their columns, and the rows as they are written.
struct Brought<'a> {
    name: String,
    columns: Vec<String>,
    rows: Vec<&'a [Expr]>,
}

impl<'a> Brought<'a> {
    fn of(source: &'a TableFactor) -> Told<Self> {
        let expected = || unknown("the rows of a MERGE are given as USING (VALUES (…), (…)) AS NAME (COLUMN, …)");
        let TableFactor::Derived { subquery, alias: Some(alias), .. } = source else { return Err(expected()) };
        let columns: Vec<String> = alias.columns.iter().map(|column| name(&column.name)).collect();
        let rows = rows_of(&subquery.body).map_err(|_| expected())?;
        match columns.is_empty() || rows.iter().any(|row| row.len() != columns.len()) {
            true => Err(expected()),
            false => Ok(Self { name: name(&alias.name), columns, rows }),
        }
    }

    /// What an expression is in a row: a column that the row brings stands for its value.
    fn resolve<'b>(&self, row: &'b [Expr], expression: &'b Expr) -> &'b Expr {
        let column = match expression {
            Expr::Identifier(ident) => name(ident),
            Expr::CompoundIdentifier(parts) if parts.first().map(name).as_ref() == Some(&self.name) => {
                parts.last().map(name).unwrap_or_default()
            }
            _ => return expression,
        };
        self.columns.iter().position(|brought| *brought == column).map_or(expression, |at| &row[at])
    }
}

/// A MERGE as the statements that it amounts to for the rows that are there (SQL:2003, 14.9).
fn merged(merge: &Merge, model: &Model) -> Told<Action> {
    let TableFactor::Table { name: object, .. } = &merge.table else {
        return Err(unknown("a MERGE is into one table"));
    };
    let table = definition(model, &table_name(object)?)?;
    let rows = model.tables().0.get(&table.name).map(|state| state.rows.as_slice()).unwrap_or_default();
    let brought = Brought::of(&merge.source)?;
    let by_source = merge.clauses.iter().any(|clause| clause.clause_kind == MergeClauseKind::NotMatchedBySource);
    nothing(!by_source, "only WHEN MATCHED THEN and WHEN NOT MATCHED THEN")?;
    let mut means = Vec::new();
    for row in &brought.rows {
        let at = matching(&merge.on, table, &brought, row)?;
        let is_matched = rows.iter().any(|row| row.contains(&at));
        let kinds = match is_matched {
            true => [MergeClauseKind::Matched; 2],
            false => [MergeClauseKind::NotMatched, MergeClauseKind::NotMatchedByTarget],
        };
        let Some(clause) = merge.clauses.iter().find(|clause| kinds.contains(&clause.clause_kind)) else { continue };
        nothing(clause.predicate.is_none(), "only WHEN MATCHED THEN and WHEN NOT MATCHED THEN")?;
        means.push(merge_action(&clause.action, table, &brought, row, at)?);
    }
    Ok(Action::Raw { sql: "MERGE".to_owned(), means })
}

fn matching(on: &Expr, table: &Table, brought: &Brought<'_>, row: &[Expr]) -> Told<Row> {
    let mut at = Row::default();
    let mut left = vec![on];
    while let Some(expression) = left.pop() {
        match expression {
            Expr::BinaryOp { left: a, op: BinaryOperator::And, right: b } => left.extend([&**b, &**a]),
            Expr::Nested(inner) => left.push(inner),
            Expr::BinaryOp { left: a, op: BinaryOperator::Eq, right: b } => {
                let is_brought = |side: &Expr| !std::ptr::eq(brought.resolve(row, side), side);
                let (own, other) = if is_brought(a) { (b, a) } else { (a, b) };
                let column = named(own)?;
                let value = value(table, &column, brought.resolve(row, other))?;
                at.set(&column, value);
            }
            other => {
                return Err(unknown(format!(
                    "rows of a MERGE match by equal columns, joined by AND, not by `{other}`"
                )));
            }
        }
    }
    Ok(at)
}

fn merge_action(action: &MergeAction, table: &Table, brought: &Brought<'_>, row: &[Expr], at: Row) -> Told<Action> {
    let read = |column: &str, given: &Expr| value(table, column, brought.resolve(row, given));
    let name = table.name.clone();
    Ok(match action {
        MergeAction::Update(update) => {
            nothing(update.update_predicate.is_none() && update.delete_predicate.is_none(), "only SET")?;
            Action::Update { table: name, at, set: assignments(&update.assignments, read)? }
        }
        MergeAction::Delete { .. } => Action::Delete { table: name, at },
        MergeAction::Insert(insert) => {
            let columns: Vec<String> = match insert.columns.as_slice() {
                [] => table.columns.iter().map(|column| column.name.clone()).collect(),
                named => named.iter().map(column_name).collect::<Told<_>>()?,
            };
            let MergeInsertKind::Values(values) = &insert.kind else { return Err(unknown("VALUES are expected")) };
            let [values] = values.rows.as_slice() else { return Err(unknown("a MERGE inserts row by row")) };
            Action::Insert { table: name, rows: vec![paired(&columns, &values.content, read)?] }
        }
    })
}

fn altered(alter: &AlterTable) -> Told<Action> {
    let [operation] = alter.operations.as_slice() else {
        return Err(unknown("ALTER TABLE makes one change at a time here"));
    };
    let change = match operation {
        AlterTableOperation::AddColumn { column_def, if_not_exists: false, column_position: None, .. } => {
            Alter::AddColumn(column(column_def)?)
        }
        AlterTableOperation::DropColumn { column_names, if_exists: false, .. } => match column_names.as_slice() {
            [column] => Alter::DropColumn(name(column)),
            _ => return Err(unknown("ALTER TABLE makes one change at a time here")),
        },
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            Alter::RenameColumn { from: name(old_column_name), to: name(new_column_name) }
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) } => {
            Alter::RenameTable(column_name(to)?)
        }
        AlterTableOperation::AlterColumn {
            column_name,
            op: AlterColumnOperation::SetDataType { data_type, using: None, .. },
        } => {
            let ty = type_named(&data_type.to_string().to_lowercase())?;
            Alter::ChangeType { column: name(column_name), ty, using: None }
        }
        other => return Err(unknown(format!("a table can't be changed by `{other}`"))),
    };
    Ok(Action::Alter { table: table_name(&alter.name)?, change })
}
