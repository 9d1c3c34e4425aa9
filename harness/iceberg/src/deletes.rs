//! Which rows of a data file are deleted (specification, "Delete Formats" and "Scan Planning").

use std::{
    collections::{HashMap, HashSet},
    io::Cursor,
    sync::Arc,
};

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_row::{RowConverter, SortField};
use changeproof::error::{Context, Error, Result};
use iceberg::{
    metadata_columns::{RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS},
    spec::{DataContentType, NestedField, PrimitiveType, Schema, SchemaRef, Type},
    table::Table,
};
use roaring::RoaringTreemap;

use crate::{
    SERVICE,
    files::{FileIdentity, LiveFile},
    reading::{columns_of, read},
};

/// The magic number of a deletion vector (specification of Puffin, "`deletion-vector-v1` blob type").
pub(crate) const VECTOR_MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

/// What a delete file says.
#[derive(Clone, Debug)]
pub(crate) enum Deletes {
    /// Positions of rows, by the path of their data file.
    Positions(Arc<HashMap<String, RoaringTreemap>>),
    /// Rows that hold these values.
    Values(Arc<EqualityDeletes>),
}

/// Values of some columns; a row that holds them is deleted. NULL equals NULL.
#[derive(Debug)]
pub(crate) struct EqualityDeletes {
    /// The columns by their field numbers.
    pub(crate) field_ids: Vec<i32>,
    values: HashSet<Box<[u8]>>,
}

/// The schema of a position delete file.
pub(crate) fn position_schema() -> Result<SchemaRef> {
    let path =
        NestedField::required(RESERVED_FIELD_ID_DELETE_FILE_PATH, "file_path", Type::Primitive(PrimitiveType::String));
    let position =
        NestedField::required(RESERVED_FIELD_ID_DELETE_FILE_POS, "pos", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([path.into(), position.into()]).build();
    schema.map(Arc::new).while_doing(SERVICE, "make the schema of position deletes")
}

/// Reads delete files, each once.
#[derive(Debug, Default)]
pub(crate) struct DeleteFiles {
    read: HashMap<FileIdentity, Deletes>,
}

impl DeleteFiles {
    /// What a delete file says. `schema` has its columns, as the data files are read.
    pub(crate) async fn load(&mut self, table: &Table, file: &LiveFile, schema: &SchemaRef) -> Result<Deletes> {
        let identity = file.identity();
        if let Some(known) = self.read.get(&identity) {
            return Ok(known.clone());
        }
        let deletes = match file.file.content_type() {
            DataContentType::EqualityDeletes => Deletes::Values(Arc::new(values(table, file, schema).await?)),
            _ if file.is_deletion_vector() => Deletes::Positions(Arc::new(vector(table, file).await?)),
            _ => Deletes::Positions(Arc::new(positions(table, file).await?)),
        };
        self.read.insert(identity, deletes.clone());
        Ok(deletes)
    }
}

fn damaged(file: &LiveFile, cause: impl std::fmt::Display) -> Error {
    Error::new(SERVICE, format!("read the delete file {}", file.file.file_path()), cause)
}

async fn positions(table: &Table, file: &LiveFile) -> Result<HashMap<String, RoaringTreemap>> {
    let mut positions: HashMap<String, RoaringTreemap> = HashMap::new();
    let mut batches = read(table, file, &position_schema()?).await?;
    while let Some(batch) = batches.next().await? {
        let (Some(paths), Some(numbers)) =
            (batch.column(0).as_string_opt::<i32>(), batch.column(1).as_primitive_opt::<Int64Type>())
        else {
            return Err(damaged(file, "its columns are no paths and positions"));
        };
        for at in 0..batch.num_rows() {
            let position =
                u64::try_from(numbers.value(at)).map_err(|_| damaged(file, "it holds a negative position"))?;
            match positions.get_mut(paths.value(at)) {
                Some(known) => known.insert(position),
                None => positions.entry(paths.value(at).to_owned()).or_default().insert(position),
            };
        }
    }
    Ok(positions)
}

/// A deletion vector: the length of what follows up to the checksum, a magic number, a bitmap of 64-bit positions in
/// Roaring's portable form, and the CRC-32 of magic number and bitmap.
async fn vector(table: &Table, file: &LiveFile) -> Result<HashMap<String, RoaringTreemap>> {
    let (Some(offset), Some(size), Some(path)) =
        (file.file.content_offset(), file.file.content_size_in_bytes(), file.file.referenced_data_file())
    else {
        return Err(damaged(file, "its entry lacks the place of the deletion vector, or the data file's name"));
    };
    let unsigned =
        |number: i64| u64::try_from(number).map_err(|_| damaged(file, "it is said to begin before its beginning"));
    let (offset, size) = (unsigned(offset)?, unsigned(size)?);
    let doing = || format!("read the delete file {}", file.file.file_path());
    let input = table.file_io().new_input(file.file.file_path()).while_doing(SERVICE, doing())?;
    let reader = input.reader().await.while_doing(SERVICE, doing())?;
    let blob = reader.read(offset..offset.saturating_add(size)).await.while_doing(SERVICE, doing())?;
    let bitmap = parse_vector(&blob).map_err(|cause| damaged(file, cause))?;
    Ok(HashMap::from([(path, bitmap)]))
}

pub(crate) fn parse_vector(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let (length, rest) = blob.split_first_chunk::<4>().ok_or("the deletion vector is cut short")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|error| error.to_string())?;
    let (content, rest) = rest.split_at_checked(length).ok_or("the deletion vector is cut short")?;
    let checksum = rest.first_chunk::<4>().ok_or("the deletion vector lacks its checksum")?;
    if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
        return Err("the checksum of the deletion vector is wrong".to_owned());
    }
    let bitmap = content.strip_prefix(&VECTOR_MAGIC).ok_or("the deletion vector lacks its magic number")?;
    RoaringTreemap::deserialize_from(Cursor::new(bitmap)).map_err(|error| error.to_string())
}

/// A deletion vector as a blob: the inverse of [`parse_vector`].
pub(crate) fn write_vector(positions: &RoaringTreemap) -> Result<Vec<u8>> {
    let mut content = VECTOR_MAGIC.to_vec();
    positions.serialize_into(&mut content).while_doing(SERVICE, "write a deletion vector")?;
    let length = u32::try_from(content.len()).while_doing(SERVICE, "write a deletion vector")?;
    let checksum = crc32fast::hash(&content);
    Ok([&length.to_be_bytes()[..], &content, &checksum.to_be_bytes()].concat())
}

async fn values(table: &Table, file: &LiveFile, schema: &SchemaRef) -> Result<EqualityDeletes> {
    let field_ids = file.file.equality_ids().unwrap_or_default();
    if field_ids.is_empty() {
        return Err(damaged(file, "its entry doesn't say which columns are compared"));
    }
    let columns = columns_of(schema, &field_ids)?;
    let mut encoder = Encoder::default();
    let mut found = HashSet::new();
    let mut batches = read(table, file, &columns).await?;
    while let Some(batch) = batches.next().await? {
        encoder.encode(&batch, 0..batch.num_columns(), |_, row| {
            found.insert(row.into());
        })?;
    }
    Ok(EqualityDeletes { field_ids, values: found })
}

impl EqualityDeletes {
    /// Whether each row of a batch is among the deleted; `columns` are the places of the compared columns in it.
    pub(crate) fn mark(
        &self,
        batch: &RecordBatch,
        columns: &[usize],
        encoder: &mut Encoder,
        mut mark: impl FnMut(usize),
    ) -> Result<()> {
        encoder.encode(batch, columns.iter().copied(), |at, row| {
            if self.values.contains(row) {
                mark(at);
            }
        })
    }
}

/// Makes of some columns of a row bytes that are equal if the values are.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    converter: Option<RowConverter>,
}

impl Encoder {
    pub(crate) fn encode(
        &mut self,
        batch: &RecordBatch,
        columns: impl Iterator<Item = usize>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let columns: Vec<_> = columns.map(|column| Arc::clone(batch.column(column))).collect();
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                none.insert(RowConverter::new(fields).while_doing(SERVICE, "compare rows")?)
            }
        };
        let rows = converter.convert_columns(&columns).while_doing(SERVICE, "compare rows")?;
        rows.iter().enumerate().for_each(|(at, row)| each(at, row.data()));
        Ok(())
    }
}

/// Whether a delete file applies to a data file, as far as their entries say (specification, "Scan Planning").
pub(crate) fn may_apply(delete: &LiveFile, data: &LiveFile, is_unpartitioned: bool) -> bool {
    if delete.file.content_type() == DataContentType::EqualityDeletes {
        return data.sequence_number < delete.sequence_number && (is_unpartitioned || delete.is_beside(data));
    }
    let names = delete.file.referenced_data_file();
    data.sequence_number <= delete.sequence_number
        && delete.is_beside(data)
        && names.is_none_or(|path| path == data.file.file_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_vector_comes_back_and_a_damaged_one_is_refused() -> Result<()> {
        let positions: RoaringTreemap = [0, 7, 65_536, 1 << 33].into_iter().collect();
        let blob = write_vector(&positions)?;
        assert_eq!(parse_vector(&blob), Ok(positions));
        for at in 0..blob.len() {
            let mut wrong = blob.clone();
            wrong[at] ^= 1;
            assert!(parse_vector(&wrong).is_err(), "byte {at}");
            assert!(parse_vector(&blob[..at]).is_err(), "cut at {at}");
        }
        Ok(())
    }
}
