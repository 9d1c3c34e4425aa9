//! Whether a file can hold a row that a predicate is true of, by what the metadata say of it (specification, "Scan Planning").

use std::collections::HashMap;

use iceberg::{
    expr::{Bind, BoundPredicate, Predicate, PredicateOperator},
    spec::{
        DataContentType, Datum, FieldSummary, Literal, ManifestFile, PartitionSpec, PrimitiveLiteral, PrimitiveType,
        Schema, SchemaRef,
    },
    table::Table,
};

use crate::files::LiveFile;

/// What is known of the values of a column in a file, or of a field of partitions.
struct Known {
    lower: Option<Datum>,
    upper: Option<Datum>,
    may_be_null: bool,
    may_have_value: bool,
    may_be_nan: bool,
}

/// Nothing.
const UNKNOWN: Known = Known { lower: None, upper: None, may_be_null: true, may_have_value: true, may_be_nan: true };

/// A predicate on rows, and what follows from it for the partitions of each spec.
#[derive(Debug)]
pub(crate) struct Pruning {
    predicate: BoundPredicate,
    /// By the numbers of the specs; none for a spec of which nothing follows.
    by_spec: HashMap<i32, OfPartitions>,
}

#[derive(Debug)]
struct OfPartitions {
    predicate: BoundPredicate,
    /// The fields' numbers and types, in their order.
    fields: Vec<(i32, PrimitiveType)>,
}

impl Pruning {
    /// For a predicate that is bound to a schema, without `NOT`.
    pub(crate) fn new(table: &Table, schema: &SchemaRef, predicate: BoundPredicate) -> Self {
        let specs = table.metadata().partition_specs_iter();
        let by_spec = specs.filter_map(|spec| Some((spec.spec_id(), OfPartitions::new(spec, schema, &predicate)?)));
        let by_spec = by_spec.collect();
        Self { predicate, by_spec }
    }

    /// Whether a manifest can name a file that [`Self::may_hold`] is true of.
    pub(crate) fn may_name(&self, manifest: &ManifestFile) -> bool {
        let Some(of_partitions) = self.by_spec.get(&manifest.partition_spec_id) else { return true };
        let Some(summaries) = &manifest.partitions else { return true };
        of_partitions.may_match(|at, ty| summaries.get(at).map_or(UNKNOWN, |summary| of_summary(summary, ty)))
    }

    /// Whether a data file can hold a row that the predicate is true of, or a delete file delete one.
    pub(crate) fn may_hold(&self, file: &LiveFile) -> bool {
        let of_partitions = self.by_spec.get(&file.spec_id);
        if !of_partitions
            .is_none_or(|of| of.may_match(|at, ty| of_partition(file.file.partition().fields().get(at), ty)))
        {
            return false;
        }
        // A delete file's statistics are of the deletes and not of the rows.
        file.file.content_type() != DataContentType::Data || may_match(&self.predicate, &|id| of_file(file, id))
    }
}

impl OfPartitions {
    fn new(spec: &PartitionSpec, schema: &SchemaRef, predicate: &BoundPredicate) -> Option<Self> {
        // A source column may have been dropped; then the spec says nothing that can be relied on.
        let fields = spec.partition_type(schema).ok()?.fields().to_vec();
        let types = fields.iter().map(|field| Some((field.id, field.field_type.as_primitive_type()?.clone())));
        let types = types.collect::<Option<Vec<_>>>()?;
        let partitions = Schema::builder().with_fields(fields).build().ok()?;
        let projected = project(spec, predicate).bind(partitions.into(), true).ok()?;
        Some(Self { predicate: projected, fields: types })
    }

    fn may_match(&self, known: impl Fn(usize, &PrimitiveType) -> Known) -> bool {
        may_match(&self.predicate, &|id| {
            let at = self.fields.iter().position(|(field, _)| *field == id);
            at.map_or(UNKNOWN, |at| known(at, &self.fields[at].1))
        })
    }
}

/// What is true of the partition of each row that a predicate is true of.
fn project(spec: &PartitionSpec, predicate: &BoundPredicate) -> Predicate {
    let of_column = |column: i32| {
        let parts = spec.fields().iter().filter(move |part| part.source_id == column);
        let projected = parts.filter_map(|part| part.transform.project(&part.name, predicate).ok().flatten());
        projected.fold(Predicate::AlwaysTrue, Predicate::and)
    };
    match predicate {
        BoundPredicate::AlwaysFalse => Predicate::AlwaysFalse,
        BoundPredicate::And(both) => {
            let [left, right] = both.inputs();
            project(spec, left).and(project(spec, right))
        }
        BoundPredicate::Or(either) => {
            let [left, right] = either.inputs();
            project(spec, left).or(project(spec, right))
        }
        BoundPredicate::Unary(unary) => of_column(unary.term().field().id),
        BoundPredicate::Binary(binary) => of_column(binary.term().field().id),
        BoundPredicate::Set(set) => of_column(set.term().field().id),
        BoundPredicate::AlwaysTrue | BoundPredicate::Not(_) => Predicate::AlwaysTrue,
    }
}

/// Whether what is known leaves it open that a predicate is true of some row.
fn may_match(predicate: &BoundPredicate, known: &impl Fn(i32) -> Known) -> bool {
    match predicate {
        BoundPredicate::AlwaysTrue | BoundPredicate::Not(_) => true,
        BoundPredicate::AlwaysFalse => false,
        BoundPredicate::And(both) => both.inputs().into_iter().all(|part| may_match(part, known)),
        BoundPredicate::Or(either) => either.inputs().into_iter().any(|part| may_match(part, known)),
        BoundPredicate::Unary(unary) => {
            let known = known(unary.term().field().id);
            match unary.op() {
                PredicateOperator::IsNull => known.may_be_null,
                PredicateOperator::NotNull => known.may_have_value,
                PredicateOperator::IsNan => known.may_be_nan,
                _ => true,
            }
        }
        BoundPredicate::Binary(binary) => known(binary.term().field().id).may_be(binary.op(), binary.literal()),
        BoundPredicate::Set(set) => {
            let known = known(set.term().field().id);
            match set.op() {
                PredicateOperator::In => set.literals().iter().any(|value| known.may_be(PredicateOperator::Eq, value)),
                _ => known.may_have_value,
            }
        }
    }
}

impl Known {
    /// Whether some value may compare so with another. What can't be compared may.
    fn may_be(&self, operator: PredicateOperator, with: &Datum) -> bool {
        let (Some(lower), Some(upper)) = (&self.lower, &self.upper) else { return self.may_have_value };
        let begins_with = |bound: &Datum| match (bound.literal(), with.literal()) {
            (PrimitiveLiteral::String(bound), PrimitiveLiteral::String(with)) => bound.starts_with(with.as_str()),
            _ => true,
        };
        let is_apart = match operator {
            PredicateOperator::LessThan => lower >= with,
            PredicateOperator::LessThanOrEq => lower > with,
            PredicateOperator::GreaterThan => upper <= with,
            PredicateOperator::GreaterThanOrEq => upper < with,
            PredicateOperator::Eq => lower > with || upper < with,
            PredicateOperator::StartsWith => upper < with || (lower > with && !begins_with(lower)),
            _ => false,
        };
        self.may_have_value && !is_apart
    }

    /// Between bounds. A NaN is in none, and is greater than all numbers where rows are compared.
    fn between(lower: Option<Datum>, upper: Option<Datum>, may_be_nan: bool) -> Self {
        let is_usable = |bound: &Datum| !may_be_nan && !bound.is_nan();
        Self { lower: lower.filter(is_usable), upper: upper.filter(is_usable), may_be_nan, ..UNKNOWN }
    }
}

fn of_file(file: &LiveFile, column: i32) -> Known {
    let file = &file.file;
    let bound = |bounds: &HashMap<i32, Datum>| bounds.get(&column).cloned();
    let (lower, upper) = (bound(file.lower_bounds()), bound(file.upper_bounds()));
    let is_float = |bound: &Datum| matches!(bound.data_type(), PrimitiveType::Float | PrimitiveType::Double);
    let may_be_nan = match file.nan_value_counts().get(&column) {
        Some(count) => *count > 0,
        None => lower.as_ref().is_none_or(is_float),
    };
    let (values, nulls) = (file.value_counts().get(&column), file.null_value_counts().get(&column));
    Known {
        may_be_null: nulls.is_none_or(|nulls| *nulls > 0),
        may_have_value: values.zip(nulls).is_none_or(|(values, nulls)| nulls < values),
        ..Known::between(lower, upper, may_be_nan)
    }
}

fn of_partition(value: Option<&Option<Literal>>, ty: &PrimitiveType) -> Known {
    let Some(value) = value else { return UNKNOWN };
    let Some(value) = value else { return Known { may_have_value: false, may_be_nan: false, ..UNKNOWN } };
    let Literal::Primitive(value) = value else { return UNKNOWN };
    let value = match (ty, value) {
        (PrimitiveType::Boolean, PrimitiveLiteral::Boolean(value)) => Datum::bool(*value),
        (PrimitiveType::Int, PrimitiveLiteral::Int(value)) => Datum::int(*value),
        (PrimitiveType::Date, PrimitiveLiteral::Int(value)) => Datum::date(*value),
        // A column may have been widened since.
        (PrimitiveType::Long, PrimitiveLiteral::Int(value)) => Datum::long(*value),
        (PrimitiveType::Long, PrimitiveLiteral::Long(value)) => Datum::long(*value),
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(value)) => Datum::timestamp_micros(*value),
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(value)) => Datum::timestamptz_micros(*value),
        (PrimitiveType::String, PrimitiveLiteral::String(value)) => Datum::string(value),
        _ => return Known { may_be_null: false, ..UNKNOWN },
    };
    Known { may_be_null: false, ..Known::between(Some(value.clone()), Some(value), false) }
}

fn of_summary(summary: &FieldSummary, ty: &PrimitiveType) -> Known {
    let bound = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Datum::try_from_bytes(bytes, ty.clone()).ok());
    let lower = bound(summary.lower_bound.as_ref().map(|bytes| bytes.as_slice()));
    let upper = bound(summary.upper_bound.as_ref().map(|bytes| bytes.as_slice()));
    let is_float = matches!(ty, PrimitiveType::Float | PrimitiveType::Double);
    let may_be_nan = summary.contains_nan.unwrap_or(is_float);
    Known { may_be_null: summary.contains_null, ..Known::between(lower, upper, may_be_nan) }
}
