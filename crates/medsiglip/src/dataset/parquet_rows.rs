//! The rows of a Parquet manifest, and the bytes of one cell.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::serialized_reader::SerializedRowGroupReader;
use parquet::record::{Field, Row as ParquetRow};
use parquet::schema::types::{Type, TypePtr};

use super::location::guarded;
use super::table::{Receiver, Row, Unusable, bad, no_column, one};
use crate::image::Limits;
use crate::{Error, Result};

/// Rows of a manifest at most: each takes some hundred bytes of memory.
const MAX_ROWS: u64 = 1 << 28;

/// As [`super::table::read`].
pub(super) fn read(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let damaged = || bad(path, "not a readable Parquet file");
    guarded(|| read_rows(path, file, wanted, each), damaged)
}

fn read_rows(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let broken = |_: ParquetError| bad(path, "not a readable Parquet file");
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let count = row_count(path, reader.metadata())?;
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
        (1..=count).for_each(|number| each(number, Ok(Vec::new())));
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

/// How many rows the file has, once its footer does not contradict itself.
pub(super) fn row_count(path: &Path, metadata: &ParquetMetaData) -> Result<u64> {
    let contradiction = || {
        bad(
            path,
            "a Parquet file that claims other rows than its row groups can hold",
        )
    };
    let count = |rows: i64| u64::try_from(rows).map_err(|_| contradiction());
    let mut held = 0_u64;
    for group in metadata.row_groups() {
        let rows = count(group.num_rows())?;
        // A row has at least one value of every column, be it null.
        for column in group.columns() {
            if count(column.num_values())? < rows {
                return Err(contradiction());
            }
        }
        held = held.saturating_add(rows);
    }
    let claimed = count(metadata.file_metadata().num_rows())?;
    if claimed != held {
        return Err(contradiction());
    }
    match claimed > MAX_ROWS {
        true => Err(Error::Limit {
            what: "rows of a manifest",
            got: claimed,
            limit: MAX_ROWS,
        }),
        false => Ok(claimed),
    }
}

/// The column of a Parquet file that holds the bytes of picture files. The footer is read once for all rows.
#[derive(Debug)]
pub struct PictureColumn {
    path: PathBuf,
    name: String,
    place: usize,
    metadata: ParquetMetaData,
}

impl PartialEq for PictureColumn {
    /// Whether both are the same column of the same file.
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.place) == (&other.path, other.place)
    }
}

impl Eq for PictureColumn {}

impl PictureColumn {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The column's name; `image.bytes` for a field of a group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column `name` of the file at `path`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it does not hold bytes, one value a row, there is no such column, or the file is damaged;
    /// `LIMIT_EXCEEDED`; `IO_ERROR`.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let damaged = || bad(path, "not a readable Parquet file");
        let read = || ParquetMetaDataReader::new().parse_and_finish(&file);
        let metadata = guarded(|| read().map_err(|_| damaged()), damaged)?;
        let schema = metadata.file_metadata().schema_descr();
        let place = (0..schema.num_columns())
            .find(|place| schema.column(*place).path().string() == name)
            .ok_or_else(|| no_column(path, &[name]))?;
        let found = schema.column(place);
        if found.physical_type() != Physical::BYTE_ARRAY || found.max_rep_level() > 0 {
            let wrong = format!("column {name}: expected the bytes of one picture file a row");
            return Err(bad(path, &wrong));
        }
        // No picture takes less than a byte: rows are held in memory before the first is read.
        if row_count(path, &metadata)? > bytes {
            return Err(bad(
                path,
                "a Parquet file that claims more pictures than it has bytes",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            place,
            metadata,
        })
    }

    /// The bytes of the row with this number, from 1. Pages before it are passed over without being decoded.
    ///
    /// # Errors
    /// `IO_ERROR`; `BAD_IMAGE` where the file or the cell is damaged or empty; `LIMIT_EXCEEDED`.
    pub(super) fn bytes(&self, row: u64, limits: &Limits) -> Result<Vec<u8>> {
        let unreadable = || {
            Error::BadImage(format!(
                "row {row}: no readable picture bytes: {}",
                self.path.display()
            ))
        };
        let file = File::open(&self.path).map_err(|error| Error::io("read", &self.path, error))?;
        let read = || {
            let cell = self.cell(file, row).map_err(|_| unreadable())?;
            cell.ok_or_else(unreadable)
        };
        let cell = guarded(read, unreadable)?;
        limits.check_file(cell.len() as u64)?;
        Ok(cell.data().to_vec())
    }

    fn cell(&self, file: File, row: u64) -> parquet::errors::Result<Option<ByteArray>> {
        let mut before = row.saturating_sub(1);
        for (number, group) in self.metadata.row_groups().iter().enumerate() {
            let rows = group.num_rows().max(0) as u64;
            if before >= rows {
                before -= rows;
                continue;
            }
            let index = self.metadata.page_index_for_row_group(number);
            let properties = Arc::new(ReaderProperties::builder().build());
            let group = SerializedRowGroupReader::new(Arc::new(file), group, index, properties)?;
            let ColumnReader::ByteArrayColumnReader(mut column) =
                group.get_column_reader(self.place)?
            else {
                return Ok(None);
            };
            column.skip_records(before as usize)?;
            let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
            column.read_records(1, Some(&mut defined), Some(&mut repeated), &mut values)?;
            return Ok(values.pop());
        }
        Ok(None)
    }
}
