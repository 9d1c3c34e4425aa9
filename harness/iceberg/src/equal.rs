//! How far the rows of two batches are the same, one after the other: column by column, and by what stands in memory rather than
//! by what it means. NULL is the same as NULL, and a NaN as a NaN of the same bits.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::ByteArrayType};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::DataType;
use changeproof::error::{Context, Result};

use crate::SERVICE;

/// So many rows are compared at first, and twice as many each time that all of them are the same.
const FIRST_ROWS: usize = 32;

/// But not more: all columns are compared so far before the first that differs is known.
const MOST_ROWS: usize = 1024;

/// Two batches of the same columns.
pub(crate) struct Pair {
    columns: Vec<Column>,
}

/// A column of both batches; the places of rows in it are those in the batches.
struct Column {
    values: Values,
    /// Which rows hold a value, if some don't.
    valid: Option<(NullBuffer, NullBuffer)>,
}

enum Values {
    /// Of a fixed number of bytes each.
    Fixed(usize, Buffer, Buffer),
    Bits(BooleanBuffer, BooleanBuffer),
    Bytes((OffsetBuffer<i32>, Buffer), (OffsetBuffer<i32>, Buffer)),
    LongBytes((OffsetBuffer<i64>, Buffer), (OffsetBuffer<i64>, Buffer)),
    /// Of other types, encoded.
    Encoded(Rows, Rows),
}

impl Pair {
    pub(crate) fn new(left: &RecordBatch, right: &RecordBatch) -> Result<Self> {
        let columns = left.columns().iter().zip(right.columns());
        Ok(Self { columns: columns.map(|(left, right)| Column::new(left, right)).collect::<Result<_>>()? })
    }

    /// How many rows are the same from a place in the left batch and a place in the right one on, up to so many.
    pub(crate) fn run(&self, left: usize, right: usize, most: usize) -> usize {
        let (mut run, mut rows) = (0, FIRST_ROWS);
        while run < most {
            let looked_at = rows.min(most - run);
            let columns = self.columns.iter();
            let same = columns.fold(looked_at, |same, column| column.run(left + run, right + run, same));
            run += same;
            if same < looked_at {
                break;
            }
            rows = (rows * 2).min(MOST_ROWS);
        }
        run
    }

    /// Whether a row is the same as one of the other batch.
    pub(crate) fn is_same(&self, left: usize, right: usize) -> bool {
        self.columns.iter().all(|column| column.run(left, right, 1) == 1)
    }
}

impl Column {
    fn new(left: &ArrayRef, right: &ArrayRef) -> Result<Self> {
        let valid = (left.null_count() + right.null_count() > 0).then(|| (valid(left), valid(right)));
        Ok(Self { values: Values::new(left, right)?, valid })
    }

    fn run(&self, left: usize, right: usize, rows: usize) -> usize {
        let Some((left_valid, right_valid)) = &self.valid else { return self.values.run(left, right, rows) };
        if left_valid.slice(left, rows).inner() == right_valid.slice(right, rows).inner()
            && self.values.run(left, right, rows) == rows
        {
            return rows;
        }
        let is_same = |row: &usize| match (left_valid.is_valid(left + row), right_valid.is_valid(right + row)) {
            (true, true) => self.values.run(left + row, right + row, 1) == 1,
            // What stands where there is no value doesn't count.
            (left, right) => left == right,
        };
        (0..rows).take_while(is_same).count()
    }
}

fn valid(column: &ArrayRef) -> NullBuffer {
    column.nulls().cloned().unwrap_or_else(|| NullBuffer::new_valid(column.len()))
}

impl Values {
    fn new(left: &ArrayRef, right: &ArrayRef) -> Result<Self> {
        let ty = left.data_type();
        let width = match ty {
            DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
            _ => ty.primitive_width(),
        };
        if let Some(width) = width {
            return Ok(Self::Fixed(width, fixed(left, width), fixed(right, width)));
        }
        Ok(match ty {
            DataType::Boolean => Self::Bits(left.as_boolean().values().clone(), right.as_boolean().values().clone()),
            DataType::Utf8 => Self::Bytes(bytes(left.as_string::<i32>()), bytes(right.as_string::<i32>())),
            DataType::Binary => Self::Bytes(bytes(left.as_binary::<i32>()), bytes(right.as_binary::<i32>())),
            DataType::LargeUtf8 => Self::LongBytes(bytes(left.as_string::<i64>()), bytes(right.as_string::<i64>())),
            DataType::LargeBinary => Self::LongBytes(bytes(left.as_binary::<i64>()), bytes(right.as_binary::<i64>())),
            _ => {
                let converter = RowConverter::new(vec![SortField::new(ty.clone())]);
                let converter = converter.while_doing(SERVICE, "compare rows")?;
                let encode = |column: &ArrayRef| {
                    converter.convert_columns(std::slice::from_ref(column)).while_doing(SERVICE, "compare rows")
                };
                Self::Encoded(encode(left)?, encode(right)?)
            }
        })
    }

    fn run(&self, left: usize, right: usize, rows: usize) -> usize {
        match self {
            Self::Fixed(width, left_values, right_values) => {
                let left = &left_values[left * width..(left + rows) * width];
                let right = &right_values[right * width..(right + rows) * width];
                if left == right {
                    return rows;
                }
                left.iter().zip(right).take_while(|(left, right)| left == right).count() / width
            }
            Self::Bits(left_bits, right_bits) => {
                if left_bits.slice(left, rows) == right_bits.slice(right, rows) {
                    return rows;
                }
                (0..rows).take_while(|row| left_bits.value(left + row) == right_bits.value(right + row)).count()
            }
            Self::Bytes(left_bytes, right_bytes) => run_of_bytes(left_bytes, left, right_bytes, right, rows),
            Self::LongBytes(left_bytes, right_bytes) => run_of_bytes(left_bytes, left, right_bytes, right, rows),
            Self::Encoded(left_rows, right_rows) => {
                (0..rows).take_while(|row| left_rows.row(left + row) == right_rows.row(right + row)).count()
            }
        }
    }
}

fn fixed(column: &ArrayRef, width: usize) -> Buffer {
    let data = column.to_data();
    data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width)
}

fn bytes<T: ByteArrayType>(column: &arrow_array::GenericByteArray<T>) -> (OffsetBuffer<T::Offset>, Buffer) {
    (column.offsets().clone(), column.values().clone())
}

fn run_of_bytes<T: ArrowNativeType>(
    (left_offsets, left_values): &(OffsetBuffer<T>, Buffer),
    left: usize,
    (right_offsets, right_values): &(OffsetBuffer<T>, Buffer),
    right: usize,
    rows: usize,
) -> usize {
    let left_ends = &left_offsets[left..=left + rows];
    let right_ends = &right_offsets[right..=right + rows];
    let between = |ends: &[T], from: usize, to: usize| ends[from].as_usize()..ends[to].as_usize();
    let shift = right_ends[0].as_usize().wrapping_sub(left_ends[0].as_usize());
    let ends = left_ends.iter().zip(right_ends);
    // Without an early end, so that several are compared at once.
    let are_of_same_lengths =
        ends.fold(true, |same, (left, right)| same & (right.as_usize().wrapping_sub(left.as_usize()) == shift));
    if are_of_same_lengths && left_values[between(left_ends, 0, rows)] == right_values[between(right_ends, 0, rows)] {
        return rows;
    }
    let is_same = |row: &usize| {
        left_values[between(left_ends, *row, row + 1)] == right_values[between(right_ends, *row, row + 1)]
    };
    (0..rows).take_while(is_same).count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, ListArray, StringArray,
        types::Int32Type,
    };

    use super::*;

    fn pair(left: ArrayRef, right: ArrayRef) -> Result<Pair> {
        let batch = |column| {
            RecordBatch::try_from_iter_with_nullable([("c", column, true)]).while_doing("test", "make a batch")
        };
        Pair::new(&batch(left)?, &batch(right)?)
    }

    /// Of each type, columns of five different rows: a run of each with itself, shifted, and cut short by each row in turn.
    #[test]
    fn runs_of_all_types_end_where_rows_differ() -> Result<()> {
        let fixed = [[1_u8, 2], [1, 3], [0, 2], [9, 9], [8, 8]];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), None, Some(0), Some(-1), Some(i32::MAX)])),
            Arc::new(StringArray::from(vec![Some("a"), Some(""), None, Some("ab"), Some("b")])),
            Arc::new(arrow_array::LargeBinaryArray::from(vec![&b"a"[..], b"", b"c1", b"ab", b"b"])),
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), None, Some(1.0)])),
            Arc::new(Decimal128Array::from(vec![Some(1), Some(1 << 100), None, Some(0), Some(-1)])),
            Arc::new(FixedSizeBinaryArray::try_from_iter(fixed.into_iter()).while_doing("test", "make a column")?),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
                Some(vec![None]),
                Some(vec![Some(1)]),
            ])),
        ];
        for column in columns {
            let itself = pair(column.clone(), column.clone())?;
            assert_eq!(itself.run(0, 0, 5), 5, "{column:?}");
            for (left, right) in (0..5).flat_map(|left| (0..5).map(move |right| (left, right))) {
                assert_eq!(itself.is_same(left, right), left == right, "rows {left} and {right} of {column:?}");
            }
            let shifted = pair(column.clone(), column.slice(2, 3))?;
            assert_eq!((shifted.run(2, 0, 3), shifted.run(0, 0, 3)), (3, 0), "{column:?}");
        }
        Ok(())
    }

    #[test]
    fn long_runs_end_at_the_row_that_differs() -> Result<()> {
        let numbers = |wrong: Option<i32>| (0..5000).map(move |n| if wrong == Some(n) { -1 } else { n });
        for wrong in [0, 1, 31, 32, 33, 95, 96, 1023, 4998, 4999] {
            let at = usize::try_from(wrong).unwrap_or(0);
            let ints = |wrong| Arc::new(Int32Array::from_iter_values(numbers(wrong)));
            assert_eq!(pair(ints(None), ints(Some(wrong)))?.run(0, 0, 5000), at);
            let texts = |wrong| Arc::new(StringArray::from_iter_values(numbers(wrong).map(|n| n.to_string())));
            assert_eq!(pair(texts(None), texts(Some(wrong)))?.run(0, 0, 5000), at);
            let bits = |wrong| Arc::new(numbers(wrong).map(|n| Some(n < 0)).collect::<BooleanArray>());
            assert_eq!(pair(bits(None), bits(Some(wrong)))?.run(0, 0, 5000), at);
            let sparse =
                |wrong| Arc::new(numbers(wrong).map(|n| (n % 7 > 0 || n < 0).then_some(n)).collect::<Int32Array>());
            let sparse = pair(sparse(None), sparse(Some(wrong)))?;
            assert_eq!(sparse.run(0, 0, 5000), at);
            assert_eq!(sparse.run(at + 1, at + 1, 4999 - at), 4999 - at);
        }
        Ok(())
    }

    /// A decoder may leave anything where there is no value.
    #[test]
    fn what_stands_behind_null_does_not_count() -> Result<()> {
        let column = |values: Vec<i32>, valid: [bool; 3]| {
            Arc::new(Int32Array::new(values.into(), Some(NullBuffer::from(valid.to_vec()))))
        };
        let nulls = pair(column(vec![1, 2, 3], [true, false, true]), column(vec![1, 9, 3], [true, false, true]))?;
        assert_eq!(nulls.run(0, 0, 3), 3);
        let other = pair(column(vec![1, 2, 3], [true, false, true]), column(vec![1, 2, 3], [true, true, true]))?;
        assert_eq!(other.run(0, 0, 3), 1);
        Ok(())
    }
}
