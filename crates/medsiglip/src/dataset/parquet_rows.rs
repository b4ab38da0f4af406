//! The rows of a Parquet manifest, and the bytes of one cell.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::{Field, Row as ParquetRow};
use parquet::schema::types::{Type, TypePtr};

use super::table::{Receiver, Row, Unusable, bad, no_column, one};
use crate::image::Limits;
use crate::{Error, Result};

/// `work`, or `damaged` where it panics: the parquet crate (60.1) does so on some damaged files, for example on a page
/// whose header lacks the part that its type needs. What it was reading is dropped with it.
fn guarded<T>(work: impl FnOnce() -> Result<T>, damaged: impl FnOnce() -> Error) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged()))
}

/// As [`super::table::read`].
pub(super) fn read(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let damaged = || bad(path, "not a readable Parquet file");
    guarded(|| read_rows(path, file, wanted, each), damaged)
}

fn read_rows(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let broken = |_: ParquetError| bad(path, "not a readable Parquet file");
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema();
    let mut names = Vec::new();
    let mut fields: Vec<TypePtr> = Vec::new();
    for wanted in wanted {
        let found = wanted.iter().find_map(|name| {
            schema
                .get_fields()
                .iter()
                .find(|field| field.name() == *name)
        });
        let field = found.ok_or_else(|| no_column(path, wanted))?;
        if !is_text_or_list(field) {
            let wrong = format!(
                "column {}: expected texts, numbers or lists of them",
                field.name()
            );
            return Err(bad(path, &wrong));
        }
        names.push(field.name());
        if !fields.iter().any(|known| known.name() == field.name()) {
            fields.push(field.clone());
        }
    }
    if names.is_empty() {
        let rows = reader.metadata().file_metadata().num_rows();
        (1..=rows.max(0) as u64).for_each(|number| each(number, Ok(Vec::new())));
        return Ok(());
    }
    let projection = Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()
        .map_err(broken)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(broken)?;
    for (number, row) in (1..).zip(rows) {
        each(number, cells(&row.map_err(broken)?, &names));
    }
    Ok(())
}

/// Whether a column has one value a row, or one list of values (the three levels of a LIST included).
fn is_text_or_list(field: &Type) -> bool {
    let mut field = field;
    for _ in 0..3 {
        match field {
            Type::PrimitiveType { physical_type, .. } => return *physical_type != Physical::INT96,
            Type::GroupType { fields, .. } => match fields.as_slice() {
                [only] => field = only,
                _ => return false,
            },
        }
    }
    false
}

fn cells(row: &ParquetRow, names: &[&str]) -> std::result::Result<Row, Unusable> {
    let cell = |name: &&str| {
        let field = row.get_column_iter().find(|(column, _)| column == name);
        field.map_or(Ok(Vec::new()), |(_, field)| texts(field))
    };
    names.iter().map(cell).collect()
}

fn texts(field: &Field) -> std::result::Result<Vec<String>, Unusable> {
    match field {
        Field::Null => Ok(Vec::new()),
        Field::Str(text) => Ok(one(text)),
        // Older writers do not say that their bytes are text.
        Field::Bytes(bytes) => Ok(one(bytes
            .as_utf8()
            .map_err(|_| "text that is not UTF-8")?)),
        Field::ListInternal(list) => {
            let mut all = Vec::new();
            for item in list.elements() {
                all.extend(texts(item)?);
            }
            Ok(all)
        }
        Field::Group(_) | Field::MapInternal(_) => Err("group where a text was expected"),
        number => Ok(vec![number.to_string()]),
    }
}

/// The bytes in `column` of the row with this number, from 1. Pages before it are passed over without being decoded.
///
/// # Errors
/// `IO_ERROR`; `BAD_IMAGE` where the file or the cell is damaged or empty; `LIMIT_EXCEEDED`.
pub(super) fn bytes(path: &Path, column: &str, row: u64, limits: &Limits) -> Result<Vec<u8>> {
    guarded(
        || read_bytes(path, column, row, limits),
        || unreadable(path, row),
    )
}

fn read_bytes(path: &Path, column: &str, row: u64, limits: &Limits) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let reader = SerializedFileReader::new(file).map_err(|_| unreadable(path, row))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let place = (0..schema.num_columns())
        .find(|place| schema.column(*place).path().string() == column)
        .ok_or_else(|| no_column(path, &[column]))?;
    let mut before = row.saturating_sub(1);
    for group in 0..reader.num_row_groups() {
        let group = reader
            .get_row_group(group)
            .map_err(|_| unreadable(path, row))?;
        let rows = group.metadata().num_rows().max(0) as u64;
        if before < rows {
            let cell = cell(group.as_ref(), place, before as usize);
            let cell = cell.map_err(|_| unreadable(path, row))?;
            let cell = cell.ok_or_else(|| unreadable(path, row))?;
            return match cell.len() as u64 {
                got if got > limits.max_file_bytes => Err(Error::Limit {
                    what: Limits::FILE_BYTES,
                    got,
                    limit: limits.max_file_bytes,
                }),
                _ => Ok(cell.data().to_vec()),
            };
        }
        before -= rows;
    }
    Err(unreadable(path, row))
}

fn unreadable(path: &Path, row: u64) -> Error {
    Error::BadImage(format!(
        "row {row}: no readable picture bytes: {}",
        path.display()
    ))
}

fn cell(
    group: &dyn RowGroupReader,
    place: usize,
    before: usize,
) -> parquet::errors::Result<Option<ByteArray>> {
    let ColumnReader::ByteArrayColumnReader(mut column) = group.get_column_reader(place)? else {
        return Ok(None);
    };
    column.skip_records(before)?;
    let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    column.read_records(1, Some(&mut defined), Some(&mut repeated), &mut values)?;
    Ok(values.pop())
}

/// Whether `column` holds bytes, one value a row.
///
/// # Errors
/// `BAD_CONFIG` where it does not, or there is no such column; `IO_ERROR`.
pub(super) fn check_bytes(path: &Path, column: &str) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let damaged = || bad(path, "not a readable Parquet file");
    let open = || SerializedFileReader::new(file).map_err(|_| damaged());
    let reader = guarded(open, damaged)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let found = (0..schema.num_columns())
        .map(|place| schema.column(place))
        .find(|found| found.path().string() == column)
        .ok_or_else(|| no_column(path, &[column]))?;
    if found.physical_type() != Physical::BYTE_ARRAY || found.max_rep_level() > 0 {
        let wrong = format!("column {column}: expected the bytes of one picture file a row");
        return Err(bad(path, &wrong));
    }
    Ok(())
}
