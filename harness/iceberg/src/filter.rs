//! A predicate that a scan tells the rows of.

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, Scalar, StringArray,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_buffer::BooleanBuffer;
use arrow_cast::cast;
use arrow_ord::cmp::{eq, gt, gt_eq, lt, lt_eq, neq};
use arrow_schema::{ArrowError, DataType};
use changeproof::error::{Context, Error, Result};
use iceberg::{
    arrow::type_to_arrow_type,
    expr::{Bind, BoundPredicate, BoundReference, Predicate, PredicateOperator},
    spec::{Datum, ManifestFile, PrimitiveLiteral, PrimitiveType, SchemaRef, Type},
    table::Table,
};

use crate::{SERVICE, files::LiveFile, pruning::Pruning};

/// A predicate bound to the present columns of a table. Columns are known by their numbers, so it is the same for snapshots that
/// had other names for them.
#[derive(Debug)]
pub(crate) struct Filter {
    predicate: BoundPredicate,
    columns: Vec<i32>,
    pruning: Pruning,
}

impl Filter {
    /// # Errors
    /// The table has no such column, or it is of another type.
    pub(crate) fn new(table: &Table, predicate: &Predicate) -> Result<Self> {
        let doing = || format!("filter by {predicate}");
        let schema = table.metadata().current_schema();
        let bound =
            predicate.clone().rewrite_not().bind(SchemaRef::clone(schema), true).while_doing(SERVICE, doing())?;
        let mut columns = Vec::new();
        columns_of(&bound, &mut columns);
        let is_of_the_table = |id: &i32| schema.as_struct().fields().iter().any(|field| field.id == *id);
        if !columns.iter().all(is_of_the_table) {
            let cause = "a part of a nested column can't be compared";
            return Err(Error::new(SERVICE, doing(), cause).help("filter by columns of the table itself"));
        }
        Ok(Self { pruning: Pruning::new(table, schema, bound.clone()), predicate: bound, columns })
    }

    /// The numbers of the columns that it compares.
    pub(crate) fn columns(&self) -> &[i32] {
        &self.columns
    }

    /// Whether a manifest can name a file that [`Self::may_hold`] is true of.
    pub(crate) fn may_name(&self, manifest: &ManifestFile) -> bool {
        self.pruning.may_name(manifest)
    }

    /// Whether a data file can hold a row that the predicate is true of, or a delete file delete one.
    pub(crate) fn may_hold(&self, file: &LiveFile) -> bool {
        self.pruning.may_hold(file)
    }

    /// Unmarks the rows of a batch that the predicate isn't true of.
    pub(crate) fn unmark(&self, schema: &SchemaRef, batch: &RecordBatch, marks: &mut [bool]) -> Result<()> {
        let is_true = evaluate(&self.predicate, schema, batch)?;
        marks.iter_mut().zip(is_true.iter()).for_each(|(mark, is_true)| *mark &= is_true);
        Ok(())
    }
}

fn columns_of(predicate: &BoundPredicate, columns: &mut Vec<i32>) {
    match predicate {
        BoundPredicate::And(parts) | BoundPredicate::Or(parts) => {
            parts.inputs().into_iter().for_each(|part| columns_of(part, columns));
        }
        BoundPredicate::Not(parts) => parts.inputs().into_iter().for_each(|part| columns_of(part, columns)),
        BoundPredicate::Unary(unary) => columns.push(unary.term().field().id),
        BoundPredicate::Binary(binary) => columns.push(binary.term().field().id),
        BoundPredicate::Set(set) => columns.push(set.term().field().id),
        BoundPredicate::AlwaysTrue | BoundPredicate::AlwaysFalse => {}
    }
}

/// Of each row whether the predicate is true of it. Since there is no `NOT` left in it, what is unknown of NULL may count as false
/// at once.
fn evaluate(predicate: &BoundPredicate, schema: &SchemaRef, batch: &RecordBatch) -> Result<BooleanBuffer> {
    let both = |parts: [&BoundPredicate; 2]| -> Result<_> {
        Ok((evaluate(parts[0], schema, batch)?, evaluate(parts[1], schema, batch)?))
    };
    match predicate {
        BoundPredicate::AlwaysTrue => Ok(BooleanBuffer::new_set(batch.num_rows())),
        BoundPredicate::AlwaysFalse => Ok(BooleanBuffer::new_unset(batch.num_rows())),
        BoundPredicate::And(parts) => both(parts.inputs()).map(|(left, right)| &left & &right),
        BoundPredicate::Or(parts) => both(parts.inputs()).map(|(left, right)| &left | &right),
        BoundPredicate::Not(parts) => Ok(!&evaluate(parts.inputs()[0], schema, batch)?),
        BoundPredicate::Unary(unary) => Ok(is_of_kind(column(unary.term(), schema, batch)?, unary.op())),
        BoundPredicate::Binary(binary) => compare(column(binary.term(), schema, batch)?, binary.op(), binary.literal()),
        BoundPredicate::Set(set) => {
            let column = column(set.term(), schema, batch)?;
            let mut is_in = BooleanBuffer::new_unset(batch.num_rows());
            for value in set.literals() {
                is_in = &is_in | &compare(column, PredicateOperator::Eq, value)?;
            }
            match set.op() {
                PredicateOperator::In => Ok(is_in),
                _ => Ok(&!&is_in & &is_of_kind(column, PredicateOperator::NotNull)),
            }
        }
    }
}

fn column<'a>(reference: &BoundReference, schema: &SchemaRef, batch: &'a RecordBatch) -> Result<&'a ArrayRef> {
    let (id, name) = (reference.field().id, &reference.field().name);
    let at = schema.as_struct().fields().iter().position(|field| field.id == id);
    let unread = || Error::new(SERVICE, format!("filter by {name}"), "the column was not read");
    at.and_then(|at| batch.columns().get(at)).ok_or_else(unread)
}

fn is_of_kind(column: &ArrayRef, operator: PredicateOperator) -> BooleanBuffer {
    let has_value = || match column.nulls() {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(column.len()),
    };
    let is_nan = |row: usize| match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).is_nan(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).is_nan(),
        _ => false,
    };
    let is_nan = || BooleanBuffer::collect_bool(column.len(), is_nan);
    match operator {
        PredicateOperator::IsNull => !&has_value(),
        PredicateOperator::NotNull => has_value(),
        PredicateOperator::IsNan => &is_nan() & &has_value(),
        _ => &!&is_nan() & &has_value(),
    }
}

fn compare(column: &ArrayRef, operator: PredicateOperator, with: &Datum) -> Result<BooleanBuffer> {
    let doing = || format!("compare a column with {with}");
    if let PredicateOperator::StartsWith | PredicateOperator::NotStartsWith = operator {
        let (Some(texts), PrimitiveLiteral::String(with)) = (column.as_string_opt::<i32>(), with.literal()) else {
            return Err(Error::new(SERVICE, doing(), "only texts begin with something"));
        };
        let is_wanted = operator == PredicateOperator::StartsWith;
        let begins = |text: Option<&str>| text.is_some_and(|text| text.starts_with(with.as_str()) == is_wanted);
        return Ok(texts.iter().map(begins).collect());
    }
    let with = values_of(with)?;
    // Iceberg's columns are only ever widened: an older snapshot's may be narrower than the value.
    let column = cast(column, with.data_type()).while_doing(SERVICE, doing())?;
    let kernel: fn(&ArrayRef, &Scalar<ArrayRef>) -> Result<BooleanArray, ArrowError> = match operator {
        PredicateOperator::LessThan => |left, right| lt(left, right),
        PredicateOperator::LessThanOrEq => |left, right| lt_eq(left, right),
        PredicateOperator::GreaterThan => |left, right| gt(left, right),
        PredicateOperator::GreaterThanOrEq => |left, right| gt_eq(left, right),
        PredicateOperator::Eq => |left, right| eq(left, right),
        PredicateOperator::NotEq => |left, right| neq(left, right),
        _ => return Err(Error::new(SERVICE, doing(), format!("{operator} is unknown"))),
    };
    let is_true = kernel(&column, &Scalar::new(with)).while_doing(SERVICE, doing())?;
    let (is_true, nulls) = is_true.into_parts();
    Ok(nulls.map_or(is_true.clone(), |valid| &is_true & valid.inner()))
}

/// A column of one value.
fn values_of(value: &Datum) -> Result<ArrayRef> {
    use std::sync::Arc;
    let doing = || format!("compare with {value}");
    let ty = value.data_type();
    let column: ArrayRef = match (value.literal(), ty) {
        (PrimitiveLiteral::Boolean(value), _) => Arc::new(BooleanArray::from(vec![*value])),
        (PrimitiveLiteral::Int(value), _) => Arc::new(Int32Array::from(vec![*value])),
        (PrimitiveLiteral::Long(value), _) => Arc::new(Int64Array::from(vec![*value])),
        (PrimitiveLiteral::Float(value), _) => Arc::new(Float32Array::from(vec![value.into_inner()])),
        (PrimitiveLiteral::Double(value), _) => Arc::new(Float64Array::from(vec![value.into_inner()])),
        (PrimitiveLiteral::String(value), _) => Arc::new(StringArray::from(vec![value.as_str()])),
        (PrimitiveLiteral::Binary(value), PrimitiveType::Fixed(_)) => {
            let values = FixedSizeBinaryArray::try_from_iter(std::iter::once(value));
            Arc::new(values.while_doing(SERVICE, doing())?)
        }
        (PrimitiveLiteral::Binary(value), _) => Arc::new(arrow_array::BinaryArray::from(vec![value.as_slice()])),
        (PrimitiveLiteral::UInt128(value), _) => {
            let values = FixedSizeBinaryArray::try_from_iter(std::iter::once(value.to_be_bytes()));
            Arc::new(values.while_doing(SERVICE, doing())?)
        }
        (PrimitiveLiteral::Int128(value), PrimitiveType::Decimal { precision, scale }) => {
            let precision = u8::try_from(*precision).while_doing(SERVICE, doing())?;
            let scale = i8::try_from(*scale).while_doing(SERVICE, doing())?;
            let values = Decimal128Array::from(vec![*value]).with_precision_and_scale(precision, scale);
            Arc::new(values.while_doing(SERVICE, doing())?)
        }
        _ => return Err(Error::new(SERVICE, doing(), "it is of no type that can be compared")),
    };
    let ty = type_to_arrow_type(&Type::Primitive(ty.clone())).while_doing(SERVICE, doing())?;
    cast(&column, &ty).while_doing(SERVICE, doing())
}
