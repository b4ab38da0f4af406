//! Parquet: a column of ids, and one of lists of floats, or a column a number.

use std::fs::File;
use std::path::Path;

use half::f16;
use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::rows::Rows;
use super::{TableOptions, wide};
use crate::dataset::guarded;
use crate::{Error, Result};

/// Key of the provenance (JSON) in the file's metadata.
const PROVENANCE: &str = "medsiglip.provenance";

/// Rows that are read at a time.
const BLOCK: usize = 512;

/// Bytes of one id: a block of copies of a longer one would take more memory than its file.
const MAX_ID_BYTES: usize = 1 << 16;

/// As [`super::EmbeddingTable::read`].
pub(super) fn read(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let damaged = rows.bad("not a readable Parquet file");
    guarded(|| read_file(file, options, rows), || damaged)
}

fn read_file(file: File, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let damaged = |rows: &Rows, _: ParquetError| rows.bad("not a readable Parquet file");
    let reader = SerializedFileReader::new(file).map_err(|e| damaged(rows, e))?;
    let metadata = reader.metadata();
    let keys = metadata.file_metadata().key_value_metadata();
    let json = keys
        .into_iter()
        .flatten()
        .find(|pair| pair.key == PROVENANCE);
    let json = json.and_then(|pair| pair.value.as_ref());
    let provenance = json.map(|json| rows.parse_provenance(json)).transpose()?;
    rows.made_by(provenance)?;
    let schema = metadata.file_metadata().schema_descr();
    let leaves: Vec<&ColumnDescriptor> = schema.columns().iter().map(AsRef::as_ref).collect();
    let id = id_column(&leaves, options, rows)?;
    let embedding = embedding_columns(&leaves, id, options, rows)?;
    let claimed = |group: usize, column: usize| {
        let count = metadata.row_group(group).column(column).num_values();
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    let mut number = 0;
    for group in 0..metadata.num_row_groups() {
        let values = embedding.iter().map(|column| claimed(group, *column));
        rows.expect(values.fold(0, u64::saturating_add))?;
        let group = reader.get_row_group(group).map_err(|e| damaged(rows, e))?;
        read_group(&*group, id, &embedding, &leaves, &mut number, rows)?;
    }
    Ok(())
}

/// The place of the column of ids: texts or whole numbers, one a row.
fn id_column(leaves: &[&ColumnDescriptor], options: &TableOptions, rows: &Rows) -> Result<usize> {
    let fits = |leaf: &ColumnDescriptor| {
        let kind = leaf.physical_type();
        let known = [Physical::BYTE_ARRAY, Physical::INT32, Physical::INT64].contains(&kind);
        known && leaf.max_rep_level() == 0
    };
    let names = options.id_names();
    let find = |name: &&str| {
        let is_it = |leaf: &&ColumnDescriptor| leaf.path().string() == *name && fits(leaf);
        leaves.iter().position(is_it)
    };
    names.iter().find_map(find).ok_or_else(|| {
        let names = names.join(", ");
        rows.bad(&format!(
            "there is no column of ids (texts or whole numbers): {names}"
        ))
    })
}

/// The places of the columns of numbers: one of lists, or several of one number a row.
fn embedding_columns(
    leaves: &[&ColumnDescriptor],
    id: usize,
    options: &TableOptions,
    rows: &Rows,
) -> Result<Vec<usize>> {
    let is_list = |place: &usize| {
        let leaf = leaves[*place];
        *place != id && is_float(leaf) && leaf.max_rep_level() == 1
    };
    let lists: Vec<usize> = (0..leaves.len()).filter(is_list).collect();
    let named = options.embedding_names().into_iter().find_map(|name| {
        let is_it = |place: &&usize| {
            leaves[**place]
                .path()
                .parts()
                .first()
                .is_some_and(|p| p == name)
        };
        lists.iter().find(is_it).copied()
    });
    match (named, &lists[..], &options.embedding) {
        (Some(list), ..) => Ok(vec![list]),
        (None, [only], None) => Ok(vec![*only]),
        (None, [], None) | (None, _, Some(_)) => {
            let columns = leaves.iter().enumerate();
            let columns = columns.filter(|(place, leaf)| *place != id && leaf.max_rep_level() == 0);
            let names: Vec<(String, bool, usize)> = columns
                .map(|(place, leaf)| (leaf.path().string(), is_float(leaf), place))
                .collect();
            let named = names.iter().map(|(name, is_float, place)| {
                let is_float = *is_float;
                (*place, wide::Named { name, is_float })
            });
            let asked = options.embedding.as_deref();
            wide::columns(named, asked).map_err(|wrong| {
                let asked = asked.map_or(String::new(), |name| format!(" {name}"));
                rows.bad(&format!(
                    "there is no column of lists of floats{asked}, and {wrong}"
                ))
            })
        }
        (None, _, None) => {
            Err(rows
                .bad("several columns of lists of floats; name the one: embedding_column in a configuration, --embedding-column on the command line"))
        }
    }
}

fn is_float(leaf: &ColumnDescriptor) -> bool {
    match leaf.physical_type() {
        Physical::FLOAT | Physical::DOUBLE => true,
        Physical::FIXED_LEN_BYTE_ARRAY => {
            leaf.logical_type_ref() == Some(&LogicalType::Float16) && leaf.type_length() == 2
        }
        _ => false,
    }
}

fn read_group(
    group: &dyn RowGroupReader,
    id: usize,
    embedding: &[usize],
    leaves: &[&ColumnDescriptor],
    number: &mut u64,
    rows: &mut Rows,
) -> Result<()> {
    let damaged = |rows: &Rows, _: ParquetError| rows.bad("not a readable Parquet file");
    let open = |column: usize| -> parquet::errors::Result<Column> {
        let max_def = leaves[column].max_def_level();
        Ok(Column {
            reader: group.get_column_reader(column)?,
            max_def,
            defined: Vec::new(),
            repeated: Vec::new(),
        })
    };
    let mut ids = open(id).map_err(|e| damaged(rows, e))?;
    let mut columns = Vec::new();
    for column in embedding {
        columns.push(open(*column).map_err(|e| damaged(rows, e))?);
    }
    loop {
        let block = ids.texts(BLOCK).map_err(|e| damaged(rows, e))?;
        let mut numbers: Vec<Vec<f64>> = vec![Vec::new(); block.len()];
        for column in &mut columns {
            let read = column.numbers(block.len(), &mut numbers);
            if read.map_err(|e| damaged(rows, e))? != block.len() {
                return Err(rows.bad("columns with different numbers of rows"));
            }
        }
        if block.is_empty() {
            return Ok(());
        }
        for (id, values) in block.into_iter().zip(numbers) {
            *number += 1;
            let id = id.ok_or_else(|| {
                rows.bad_row(
                    *number,
                    "no id, or one that is not UTF-8 or longer than 64 KiB",
                )
            })?;
            rows.push(&id, *number, values)?;
        }
    }
}

/// A column in reading, with the levels of the block that was read last.
struct Column {
    reader: ColumnReader,
    max_def: i16,
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

impl Column {
    /// The next texts, at most `rows`; `None` where there is none.
    fn texts(&mut self, rows: usize) -> parquet::errors::Result<Vec<Option<String>>> {
        let Self {
            reader,
            max_def,
            defined,
            repeated,
        } = self;
        let levels = (defined, repeated, *max_def);
        match reader {
            ColumnReader::ByteArrayColumnReader(reader) => cells(reader, rows, levels, |bytes| {
                let bytes = Some(bytes.data()).filter(|bytes| bytes.len() <= MAX_ID_BYTES)?;
                let text = std::str::from_utf8(bytes).ok()?;
                Some(text.trim().to_owned())
            }),
            ColumnReader::Int32ColumnReader(reader) => {
                cells::<Int32Type, _>(reader, rows, levels, |n| Some(n.to_string()))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                cells::<Int64Type, _>(reader, rows, levels, |n| Some(n.to_string()))
            }
            _ => Err(ParquetError::General("ids of another type".into())),
        }
    }

    /// Appends the numbers of the next rows to each of `rows`, NaN for those that are null; how many rows there were.
    fn numbers(&mut self, count: usize, rows: &mut [Vec<f64>]) -> parquet::errors::Result<usize> {
        let Self {
            reader,
            max_def,
            defined,
            repeated,
        } = self;
        let levels = (defined, repeated, *max_def);
        let f16 = |bytes: &[u8]| match *bytes {
            [a, b] => f16::from_le_bytes([a, b]).to_f64(),
            _ => f64::NAN,
        };
        match reader {
            ColumnReader::FloatColumnReader(reader) => {
                lists::<FloatType>(reader, count, levels, rows, |x| f64::from(*x))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                lists::<DoubleType>(reader, count, levels, rows, |x| *x)
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                lists::<FixedLenByteArrayType>(reader, count, levels, rows, |x| f16(x.data()))
            }
            _ => Err(ParquetError::General("numbers of another type".into())),
        }
    }
}

/// Definition and repetition levels to fill, and the level at which a value is there.
type Levels<'a> = (&'a mut Vec<i16>, &'a mut Vec<i16>, i16);

/// The next cells of a column of one value a row.
fn cells<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    (defined, repeated, max_def): Levels,
    cell: impl Fn(&T::T) -> Option<V>,
) -> parquet::errors::Result<Vec<Option<V>>> {
    let mut values = Vec::new();
    defined.clear();
    repeated.clear();
    let (read, ..) =
        reader.read_records(rows, Some(&mut *defined), Some(&mut *repeated), &mut values)?;
    let mut values = values.iter();
    let is_there = |row: usize| max_def == 0 || defined.get(row) == Some(&max_def);
    let next = |row| {
        is_there(row)
            .then(|| values.next())
            .flatten()
            .and_then(&cell)
    };
    Ok((0..read).map(next).collect())
}

/// The numbers of the next rows of a column of lists, or of one number a row.
fn lists<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    (defined, repeated, max_def): Levels,
    rows: &mut [Vec<f64>],
    number: impl Fn(&T::T) -> f64,
) -> parquet::errors::Result<usize> {
    let mut values = Vec::new();
    defined.clear();
    repeated.clear();
    let (read, _, levels) = reader.read_records(
        count,
        Some(&mut *defined),
        Some(&mut *repeated),
        &mut values,
    )?;
    let mut values = values.iter();
    let mut row = 0;
    for level in 0..levels {
        // A level of no repetition begins a row.
        row += usize::from(repeated.get(level).is_none_or(|level| *level == 0));
        let is_there = max_def == 0 || defined.get(level) == Some(&max_def);
        let value = is_there.then(|| values.next()).flatten();
        let to = row.checked_sub(1).and_then(|row| rows.get_mut(row));
        let to = to.ok_or_else(|| ParquetError::General("levels that do not fit".into()))?;
        to.push(value.map_or(f64::NAN, &number));
    }
    Ok(read)
}
