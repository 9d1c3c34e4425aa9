//! Hashes of whole rows, column by column: of 128 bits, so that rows of the same hash are taken for the same.

use std::hash::{BuildHasherDefault, Hasher};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    downcast_primitive_array,
    types::{ArrowPrimitiveType, ByteArrayType},
};
use arrow_schema::DataType;
use changeproof::error::Result;
use xxhash_rust::xxh3::xxh3_128;

use crate::deletes::Encoder;

/// What stands for NULL.
const NULL: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834;

/// Multiplier of the 128-bit linear congruential generator of `PCG` (O'Neill 2014).
const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

/// A map by such hashes, which need no other.
pub(crate) type ByHash<T> = std::collections::HashMap<u128, T, BuildHasherDefault<AsItIs>>;

/// Takes the hash for what it is.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only hashes of this file are keys, and they are written as a whole.
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash << 8) ^ u64::from(*byte));
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one, too")]
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

/// Makes hashes of rows. Equal rows of different batches have equal hashes, if their columns are of the same types.
#[derive(Debug, Default)]
pub(crate) struct RowHasher {
    /// For columns of other types than those below.
    encoders: Vec<Encoder>,
}

impl RowHasher {
    pub(crate) fn hash(&mut self, batch: &RecordBatch) -> Result<Vec<u128>> {
        let mut hashes = vec![NULL; batch.num_rows()];
        self.encoders.resize_with(batch.num_columns(), Encoder::default);
        for (at, column) in batch.columns().iter().enumerate() {
            let column = column.as_ref();
            downcast_primitive_array! {
                column => primitives(column, &mut hashes),
                DataType::Utf8 => bytes(column.as_string::<i32>(), &mut hashes),
                DataType::LargeUtf8 => bytes(column.as_string::<i64>(), &mut hashes),
                DataType::Binary => bytes(column.as_binary::<i32>(), &mut hashes),
                DataType::LargeBinary => bytes(column.as_binary::<i64>(), &mut hashes),
                _ => self.encoders[at].encode(batch, [at].into_iter(), |row, bytes| mix(&mut hashes[row], xxh3_128(bytes)))?
            }
        }
        Ok(hashes)
    }
}

fn mix(hash: &mut u128, value: u128) {
    *hash = (*hash ^ value).wrapping_mul(MULTIPLIER);
    *hash ^= *hash >> 67;
}

fn primitives<T: ArrowPrimitiveType>(column: &arrow_array::PrimitiveArray<T>, hashes: &mut [u128]) {
    use arrow_buffer::ToByteSlice;
    let values = column.values();
    for (row, hash) in hashes.iter_mut().enumerate() {
        let value = if column.is_null(row) {
            NULL
        } else {
            let mut wide = [0; 16];
            let narrow = std::slice::from_ref(&values[row]).to_byte_slice();
            match wide.get_mut(..narrow.len()) {
                Some(part) => part.copy_from_slice(narrow),
                None => wide = xxh3_128(narrow).to_le_bytes(),
            }
            u128::from_le_bytes(wide).wrapping_add(1)
        };
        mix(hash, value);
    }
}

fn bytes<T: ByteArrayType>(column: &arrow_array::GenericByteArray<T>, hashes: &mut [u128]) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        mix(hash, if column.is_null(row) { NULL } else { xxh3_128(column.value(row).as_ref()) });
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = columns.into_iter().enumerate().map(|(at, column)| (at.to_string(), column, true));
        RecordBatch::try_from_iter_with_nullable(names).expect("the columns are of the same length")
    }

    #[test]
    fn rows_that_differ_in_anything_have_other_hashes() -> Result<()> {
        let numbers: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(0), Some(0), Some(1), Some(i64::MAX)]));
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some(""), Some(""), Some(""), None, Some("a"), Some("a"), Some("")]));
        let truths: ArrayRef = Arc::new(BooleanArray::from(vec![true; 7]));
        let hashes = RowHasher::default().hash(&batch(vec![numbers.clone(), texts.clone(), truths.clone()]))?;
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 7);
        let swapped = RowHasher::default().hash(&batch(vec![texts, numbers, truths]))?;
        assert!(hashes.iter().all(|hash| !swapped.contains(hash)), "the order of columns counts");
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN]));
        assert_eq!(RowHasher::default().hash(&batch(vec![zeros]))?.into_iter().collect::<HashSet<_>>().len(), 3);
        Ok(())
    }

    #[test]
    fn many_rows_of_small_numbers_have_as_many_hashes() -> Result<()> {
        let left: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|n| n % 500)));
        let right: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|n| n / 500)));
        let hashes = RowHasher::default().hash(&batch(vec![left, right]))?;
        let halves =
            |shift: u32| hashes.iter().map(|hash| (hash >> shift) & u128::from(u64::MAX)).collect::<HashSet<_>>().len();
        assert_eq!((halves(0), halves(64)), (200_000, 200_000), "each half of them is a hash too");
        Ok(())
    }
}
