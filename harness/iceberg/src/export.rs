//! A changelog as a table: the rows with what happened to them in columns behind, as Spark's `create_changelog_view` names
//! them.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use changeproof::error::{Context, Result};

use crate::{
    SERVICE,
    changelog::{ChangeBatch, Kind},
};

impl ChangeBatch {
    /// The rows with `_change_type` (`INSERT`, `DELETE`, `UPDATE_BEFORE`, `UPDATE_AFTER`), `_change_ordinal`,
    /// `_commit_snapshot_id` and `_commit_timestamp`. An update is two batches, of the same rows before and after.
    ///
    /// # Errors
    /// A column of the table bears one of these names.
    pub fn to_record_batches(&self) -> Result<Vec<RecordBatch>> {
        let (before, after) = match self.kind {
            Kind::Update => ("UPDATE_BEFORE", "UPDATE_AFTER"),
            Kind::Insert | Kind::Delete => ("DELETE", "INSERT"),
        };
        let sides = [(&self.before, before), (&self.after, after)].into_iter();
        sides.filter_map(|(rows, kind)| Some(self.with_columns(rows.as_ref()?, kind))).collect()
    }

    fn with_columns(&self, rows: &RecordBatch, kind: &str) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let ordinal = i32::try_from(self.ordinal).while_doing(SERVICE, "number the snapshots")?;
        let (id, time) = (self.snapshot.snapshot_id(), self.snapshot.timestamp_ms());
        let zone: Arc<str> = "UTC".into();
        let columns: [(&str, ArrayRef); 4] = [
            ("_change_type", Arc::new(StringArray::from_iter_values(std::iter::repeat_n(kind, count)))),
            ("_change_ordinal", Arc::new(Int32Array::from_value(ordinal, count))),
            ("_commit_snapshot_id", Arc::new(Int64Array::from_value(id, count))),
            (
                "_commit_timestamp",
                Arc::new(TimestampMillisecondArray::from_value(time, count).with_timezone(Arc::clone(&zone))),
            ),
        ];
        let types =
            [DataType::Utf8, DataType::Int32, DataType::Int64, DataType::Timestamp(TimeUnit::Millisecond, Some(zone))];
        let own = rows.schema();
        let fields = own.fields().iter().cloned();
        let more = columns.iter().zip(types).map(|((name, _), ty)| Arc::new(Field::new(*name, ty, false)));
        let schema = Schema::new(fields.chain(more).collect::<Vec<_>>());
        let arrays = rows.columns().iter().cloned().chain(columns.into_iter().map(|(_, column)| column));
        RecordBatch::try_new(Arc::new(schema), arrays.collect()).while_doing(SERVICE, "write the changes as a table")
    }
}
