//! The owners' label files: CSV, tab-separated, or either in gzip.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use crate::image::Limits;
use crate::{Error, Result};

/// A label file in memory: the largest has some hundred thousand rows.
pub(super) struct LabelFile {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<StringRecord>,
}

/// A column of a label file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column(usize);

impl LabelFile {
    /// The file at `path`; tab-separated where its name ends in `.tab` or `.tsv`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is no such table; `LIMIT_EXCEEDED` over 1 GiB, also unpacked; `IO_ERROR`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".gz");
        let tabs = name.ends_with(".tab") || name.ends_with(".tsv");
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(if tabs { b'\t' } else { b',' })
            .flexible(true)
            .from_reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
        let unreadable = |_| bad(path, "not a readable CSV file in UTF-8");
        let header = reader.headers().map_err(unreadable)?;
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let rows: Vec<StringRecord> = reader
            .records()
            .collect::<csv::Result<_>>()
            .map_err(unreadable)?;
        if let Some(row) = rows.iter().position(|row| row.len() != names.len()) {
            let cells = rows[row].len();
            return Err(bad(
                path,
                &format!(
                    "row {}: {cells} cells, and {} in the header",
                    row + 1,
                    names.len()
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            names,
            rows,
        })
    }

    /// The first of the columns `names` that is there.
    pub(super) fn find(&self, names: &[&str]) -> Option<Column> {
        let place = |name: &&str| self.names.iter().position(|known| known == name);
        names.iter().find_map(place).map(Column)
    }

    /// As [`find`](Self::find).
    ///
    /// # Errors
    /// `BAD_CONFIG` where none of them is there. The columns that are there are not told: where the header is missing, they
    /// are a patient's row.
    pub(super) fn column(&self, names: &[&str]) -> Result<Column> {
        self.find(names).ok_or_else(|| {
            let names = names.join(" or ");
            bad(&self.path, &format!("there is no column {names}"))
        })
    }

    /// All columns with their names.
    pub(super) fn columns(&self) -> impl Iterator<Item = (Column, &str)> {
        let names = self.names.iter().enumerate();
        names.map(|(place, name)| (Column(place), name.as_str()))
    }

    /// An error about the file as a whole.
    pub(super) fn bad(&self, wrong: &str) -> Error {
        bad(&self.path, wrong)
    }

    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = LabelRow<'_>> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(place, cells)| LabelRow {
            file: self,
            number: place + 1,
            cells,
        })
    }
}

/// The bytes of a file, unpacked where its name ends in `.gz`.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(bad(path, "expected a file"));
    }
    let limits = Limits::default();
    limits.check_file(metadata.len())?;
    let mut bytes = Vec::new();
    let limited = |reader: &mut dyn Read, bytes: &mut Vec<u8>| {
        reader.take(limits.max_file_bytes + 1).read_to_end(bytes)
    };
    match path.extension().is_some_and(|e| e == "gz") {
        true => limited(&mut MultiGzDecoder::new(file), &mut bytes)
            .map_err(|_| bad(path, "not a readable gzip file"))?,
        false => limited(&mut &file, &mut bytes).map_err(failed)?,
    };
    limits.check_file(bytes.len() as u64)?;
    Ok(bytes)
}

fn bad(path: &Path, wrong: &str) -> Error {
    Error::BadConfig(format!("label file: {wrong}: {}", path.display()))
}

/// A row of a label file.
#[derive(Clone, Copy)]
pub(super) struct LabelRow<'a> {
    file: &'a LabelFile,
    number: usize,
    cells: &'a StringRecord,
}

impl<'a> LabelRow<'a> {
    /// The cell without spaces around it.
    pub(super) fn get(&self, column: Column) -> &'a str {
        self.cells.get(column.0).unwrap_or_default().trim()
    }

    /// The cell; empty where there is no such column.
    pub(super) fn get_if(&self, column: Option<Column>) -> &'a str {
        column.map_or("", |column| self.get(column))
    }

    /// A cell that is not empty.
    ///
    /// # Errors
    /// `BAD_CONFIG`.
    pub(super) fn text(&self, column: Column) -> Result<&'a str> {
        match self.get(column) {
            "" => Err(self.bad(column, "no value")),
            text => Ok(text),
        }
    }

    /// What a cell stands for, by `known`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is not among them.
    pub(super) fn one_of<T: Copy>(&self, column: Column, known: &[(&str, T)]) -> Result<T> {
        let cell = self.get(column);
        let found = known.iter().find(|(name, _)| *name == cell);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.bad(column, &format!("expected one of {}", names.join(", ")))
        })
    }

    /// A whole number from 0 to below `end`; `3` and `3.0` are both three.
    ///
    /// # Errors
    /// `BAD_CONFIG`.
    pub(super) fn number(&self, column: Column, end: usize) -> Result<usize> {
        let cell = self.get(column);
        let whole = cell.strip_suffix(".0").unwrap_or(cell);
        let number = whole.parse::<usize>().ok().filter(|number| *number < end);
        number.ok_or_else(|| {
            let last = end.saturating_sub(1);
            self.bad(column, &format!("expected a whole number from 0 to {last}"))
        })
    }

    /// An error about a cell: the file, the row (from 1, the header not counted) and the column, never the value.
    pub(super) fn bad(&self, column: Column, wrong: &str) -> Error {
        let name = self.file.names.get(column.0).map_or("", String::as_str);
        let place = format!("row {}, column {name}", self.number);
        bad(&self.file.path, &format!("{place}: {wrong}"))
    }

    /// The place for messages.
    pub(super) fn place(&self) -> String {
        format!("{}: row {}", self.file.path.display(), self.number)
    }
}
