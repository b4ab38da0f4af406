//! CSV and JSON Lines, and the files that stand beside arrays: ids, provenance.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use csv::StringRecord;
use serde_json::Value;

use super::rows::Rows;
use super::{TableOptions, wide};
use crate::embedding::Provenance;
use crate::{Error, Result};

/// Bytes of a line of JSON: an embedding of a million numbers is below.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Bytes of a file of provenance.
const MAX_PROVENANCE_BYTES: u64 = 1 << 20;

/// As [`super::EmbeddingTable::read`]: a column of ids, and the numbers in columns `e0`, `e1`, ..., or otherwise numbered.
pub(super) fn read_csv(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let mut reader = csv::Reader::from_reader(file);
    let broken = |rows: &Rows, error: csv::Error| csv_error(path, rows, error);
    let header = reader.headers().map_err(|e| broken(rows, e))?.clone();
    let find = |name: &&str| header.iter().position(|known| known.trim() == *name);
    let names = options.id_names();
    let id = names
        .iter()
        .find_map(find)
        .ok_or_else(|| rows.bad(&format!("there is no column of ids: {}", names.join(", "))))?;
    let others = header.iter().map(str::trim).enumerate();
    let others = others.filter(|(column, _)| *column != id);
    let others = others.map(|(column, name)| {
        let is_float = true;
        (column, wide::Named { name, is_float })
    });
    let columns = wide::columns(others, options.embedding.as_deref());
    let columns = columns.map_err(|wrong| rows.bad(&wrong))?;
    rows.made_by(read_provenance(path, rows)?)?;
    let mut record = StringRecord::new();
    let mut number = 0;
    while reader
        .read_record(&mut record)
        .map_err(|e| broken(rows, e))?
    {
        number += 1;
        // What is no number is none.
        let value = |column: &usize| {
            let cell = record.get(*column).unwrap_or_default().trim();
            cell.parse().unwrap_or(f64::NAN)
        };
        let id = record.get(id).unwrap_or_default().trim();
        rows.push(id, number, columns.iter().map(value))?;
    }
    Ok(())
}

fn csv_error(path: &Path, rows: &Rows, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::io("read", path, error),
        csv::ErrorKind::UnequalLengths {
            pos: Some(position),
            ..
        } => rows.bad_row(position.record(), "another number of cells than the header"),
        _ => rows.bad("not a readable CSV file in UTF-8"),
    }
}

/// As [`super::EmbeddingTable::read`]. Lines of items that failed (`error`) are passed over.
pub(super) fn read_jsonl(path: &Path, options: &TableOptions, rows: &mut Rows) -> Result<()> {
    let failed = |error| Error::io("read", path, error);
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let mut limited = (&mut reader).take(MAX_LINE_BYTES + 1);
        if limited.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(Error::Limit {
                what: "bytes of a line",
                got: line.len() as u64,
                limit: MAX_LINE_BYTES,
            });
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Ok(Value::Object(mut object)) = serde_json::from_slice(&line) else {
            return Err(rows.bad_row(number, "no JSON object"));
        };
        if object.contains_key("error") {
            continue;
        }
        let find = |names: Vec<&str>| names.into_iter().find_map(|name| object.get(name));
        let id = match find(options.id_names()) {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => return Err(rows.bad_row(number, "no id, as a text or a number")),
        };
        let Some(Value::Array(values)) = find(options.embedding_names()) else {
            return Err(rows.bad_row(number, "no embedding, as a list of numbers"));
        };
        let values: Vec<f64> = values
            .iter()
            .map(|v| v.as_f64().unwrap_or(f64::NAN))
            .collect();
        let provenance = object.remove("provenance");
        let provenance = provenance
            .map(serde_json::from_value::<Provenance>)
            .transpose();
        let provenance =
            provenance.map_err(|_| rows.bad_row(number, "provenance that cannot be read"))?;
        rows.made_by(provenance)?;
        rows.push(&id, number, values)?;
    }
}

/// The ids of `count` embeddings in a file beside an array: a `.csv` with a column of ids (and `row`, which is checked), or
/// an id a line.
pub(super) fn read_ids(
    path: &Path,
    count: usize,
    options: &TableOptions,
    rows: &Rows,
) -> Result<Vec<String>> {
    let bad = |wrong: &str| Error::BadConfig(format!("ids: {wrong}: {}", path.display()));
    rows.expect_ids(count as u64, 0)?;
    let bytes = read_small(path, rows.max_id_bytes())?;
    let text = String::from_utf8(bytes).map_err(|_| bad("not a text file in UTF-8"))?;
    let too_many = || bad(&format!("more than one for each of {count} embeddings"));
    if !path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"))
    {
        let mut lines = text.lines().map(|line| line.trim().to_owned());
        let ids = lines.by_ref().take(count).collect();
        return lines.next().map_or(Ok(ids), |_| Err(too_many()));
    }
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let unreadable = |_| bad("not a readable CSV file");
    let header = reader.headers().map_err(unreadable)?.clone();
    let find = |name: &&str| header.iter().position(|known| known.trim() == *name);
    let names = options.id_names();
    let id = names.iter().find_map(find);
    let id = id.ok_or_else(|| bad(&format!("there is no column of ids: {}", names.join(", "))))?;
    let row = find(&"row");
    let mut ids = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        if ids.len() == count {
            return Err(too_many());
        }
        let cell = |column: usize| record.get(column).unwrap_or_default().trim();
        if row.is_some_and(|row| cell(row) != ids.len().to_string()) {
            let wrong = format!(
                "row {}: expected {} in the column row",
                ids.len() + 1,
                ids.len()
            );
            return Err(bad(&wrong));
        }
        ids.push(cell(id).to_owned());
    }
    Ok(ids)
}

/// What stands in `FILE.provenance.json`, where there is such a file.
pub(super) fn read_provenance(path: &Path, rows: &Rows) -> Result<Option<Provenance>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".provenance.json");
    let beside = Path::new(&name);
    if !beside.is_file() {
        return Ok(None);
    }
    let bytes = read_small(beside, MAX_PROVENANCE_BYTES)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    rows.parse_provenance(&text).map(Some)
}

fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 <= limit {
        true => Ok(bytes),
        false => Err(Error::Limit {
            what: "file size in bytes",
            got: bytes.len() as u64,
            limit,
        }),
    }
}
