//! The table of events that the benches of the table formats read and write. Each compiles it in: the formats need different releases
//! of Arrow.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use changeproof::{
    schema::{Table, TableName, Type},
    script::TableBuilder,
};

pub(crate) fn name() -> TableName {
    "events".into()
}

/// The table.
pub(crate) fn table() -> Table {
    let table = TableBuilder::new(name()).key("id", Type::BigInt).column("kind", Type::Text);
    table.column("note", Type::Text).column("amount", Type::Double).build()
}

/// Its columns for events of these numbers; `changed` says which of them hold another kind.
pub(crate) fn columns(ids: &(impl Iterator<Item = i64> + Clone), changed: impl Fn(i64) -> bool) -> Vec<ArrayRef> {
    let kinds = ids
        .clone()
        .map(|id| if changed(id) { "changed" } else { ["click", "view", "buy"][usize::try_from(id % 3).unwrap_or(0)] });
    let notes =
        ids.clone().map(|id| format!("note {} of visitor {}", id % 977, id.wrapping_mul(2_654_435_761) % 100_003));
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    let amounts = ids.clone().map(|id| (id % 10_007) as f64 / 100.0);
    vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter_values(kinds)),
        Arc::new(StringArray::from_iter_values(notes)),
        Arc::new(Float64Array::from_iter_values(amounts)),
    ]
}
