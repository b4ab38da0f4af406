//! The rows of a manifest: CSV, JSON lines or Parquet, told by the extension.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::parquet_rows;
use crate::image::Limits;
use crate::{Error, Result};

/// The texts of each wanted column; none where a cell is empty.
pub(super) type Row = Vec<Vec<String>>;

/// A row that cannot be used, and why.
pub(super) type Unusable = &'static str;

/// Receives the rows with their numbers, from 1, the header not counted.
pub(super) type Receiver<'a> = &'a mut dyn FnMut(u64, std::result::Result<Row, Unusable>);

/// Reads the rows of the manifest at `path`. Each wanted column is given by one or several names, of which the first that
/// the table has is taken.
///
/// # Errors
/// `BAD_CONFIG` where the extension is unknown, the table is damaged as a whole or lacks a column; `IO_ERROR`;
/// `LIMIT_EXCEEDED`.
pub(super) fn read(path: &Path, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let metadata = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?;
    if !metadata.is_file() {
        return Err(bad(path, "expected a file"));
    }
    match extension.to_ascii_lowercase().as_str() {
        "parquet" => parquet_rows::read(path, file, wanted, each),
        "csv" => {
            Limits::default().check_file(metadata.len())?;
            read_csv(path, file, wanted, each)
        }
        "jsonl" => {
            Limits::default().check_file(metadata.len())?;
            read_jsonl(path, file, wanted, each)
        }
        _ => Err(bad(path, "expected a .csv, .jsonl or .parquet file")),
    }
}

pub(super) fn bad(path: &Path, wrong: &str) -> Error {
    Error::BadConfig(format!("manifest: {wrong}: {}", path.display()))
}

/// The columns that the table has are not told: where the header is missing, they are a patient's row.
pub(super) fn no_column(path: &Path, names: &[&str]) -> Error {
    bad(path, &format!("there is no column {}", names.join(" or ")))
}

fn read_csv(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let broken = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::io("read", path, error),
        _ => bad(path, "not a readable CSV file"),
    };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.byte_headers().map_err(broken)?.clone();
    let names: Vec<&[u8]> = header.iter().collect();
    let place = |names_wanted: &Vec<&str>| {
        let found = names_wanted
            .iter()
            .find_map(|name| names.iter().position(|n| n.trim_ascii() == name.as_bytes()));
        found.ok_or_else(|| no_column(path, names_wanted))
    };
    let places: Vec<usize> = wanted.iter().map(place).collect::<Result<_>>()?;
    let mut record = csv::ByteRecord::new();
    for number in 1.. {
        if !reader.read_byte_record(&mut record).map_err(broken)? {
            break;
        }
        if record.len() != names.len() {
            each(
                number,
                Err("row with another number of cells than the header"),
            );
            continue;
        }
        let cell = |place: &usize| {
            let text =
                std::str::from_utf8(&record[*place]).map_err(|_| "text that is not UTF-8")?;
            Ok(one(text))
        };
        each(number, places.iter().map(cell).collect());
    }
    Ok(())
}

/// A cell of one text.
pub(super) fn one(text: &str) -> Vec<String> {
    let text = text.trim();
    Vec::from_iter((!text.is_empty()).then(|| text.to_owned()))
}

fn read_jsonl(path: &Path, file: File, wanted: &[Vec<&str>], each: Receiver) -> Result<()> {
    let mut lines = BufReader::new(file);
    let mut seen = vec![false; wanted.len()];
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        if read.map_err(|error| Error::io("read", path, error))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        number += 1;
        let Ok(Value::Object(object)) = serde_json::from_slice(&line) else {
            each(number, Err("line that is no JSON object"));
            continue;
        };
        let mut row = Vec::with_capacity(wanted.len());
        for (names, seen) in wanted.iter().zip(&mut seen) {
            let cell = names.iter().find_map(|name| object.get(*name));
            *seen |= cell.is_some();
            row.push(cell.map_or(Ok(Vec::new()), texts));
        }
        each(number, row.into_iter().collect());
    }
    match wanted.iter().zip(seen).find(|(_, seen)| !seen) {
        Some((names, _)) if number > 0 => Err(no_column(path, names)),
        _ => Ok(()),
    }
}

/// The texts of a JSON value: one, or a list of them.
pub(super) fn texts(value: &Value) -> std::result::Result<Vec<String>, Unusable> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(one(text)),
        Value::Bool(_) | Value::Number(_) => Ok(vec![value.to_string()]),
        Value::Array(items) => {
            let mut all = Vec::new();
            for item in items {
                if item.is_array() {
                    return Err("list of lists where texts were expected");
                }
                all.extend(texts(item)?);
            }
            Ok(all)
        }
        Value::Object(_) => Err("object where a text was expected"),
    }
}
