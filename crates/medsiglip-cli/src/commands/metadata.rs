//! Fields of items from a CSV file.

use std::collections::HashMap;
use std::fs::File;

use medsiglip::embedding::IdMatch;
use serde_json::{Map, Value};

use crate::args::MetadataArgs;
use crate::inputs::file_of;
use crate::messages::{self, Failure, Result};

/// Fields by the ids that a table has.
pub struct Fields {
    rows: HashMap<String, Row>,
    ids: IdMatch,
    given: bool,
}

struct Row {
    /// In the file, the header being the first.
    number: usize,
    fields: Map<String, Value>,
    /// The file that it stands for.
    of: Option<String>,
}

impl Fields {
    /// Reads the table that is asked for, if one is.
    pub fn read(args: &MetadataArgs) -> Result<Self> {
        let mut all = Self {
            rows: HashMap::new(),
            ids: args.ids(),
            given: args.metadata.is_some(),
        };
        let Some(path) = &args.metadata else {
            return Ok(all);
        };
        let bad = |what: &str| Failure::argument(format!("metadata: {what}: {}", path.display()));
        let file = File::open(path).map_err(|e| Failure::io("read", path, e))?;
        let mut reader = csv::Reader::from_reader(file);
        let header = reader
            .headers()
            .map_err(|_| bad("expected a CSV file with a header"))?
            .clone();
        let place = |name: &str| header.iter().position(|own| own == name);
        let id = match &args.metadata_id {
            Some(name) => place(name).ok_or_else(|| bad(&format!("no column {name}")))?,
            None => ["id", "path", "image"]
                .into_iter()
                .find_map(place)
                .ok_or_else(|| {
                    bad("no column id, path or image; --metadata-id names the one with the ids")
                })?,
        };
        for (number, record) in (2..).zip(reader.records()) {
            let record = record.map_err(|_| bad(&format!("row {number} cannot be read")))?;
            let cells = header.iter().zip(&record).enumerate();
            let fields = cells.filter(|(at, (_, cell))| *at != id && !cell.trim().is_empty());
            let fields = fields.map(|(_, (name, cell))| (name.to_owned(), value(cell.trim())));
            let row = Row {
                number,
                fields: fields.collect(),
                of: None,
            };
            let key = all
                .ids
                .key(record.get(id).unwrap_or_default().trim())
                .to_owned();
            if all.rows.insert(key, row).is_some() {
                return Err(bad(&format!("the id of row {number} is there twice")));
            }
        }
        Ok(all)
    }

    /// Notes for which file each row stands.
    ///
    /// # Errors
    /// Where a row has the name of several: it cannot be known whose it is.
    pub fn join<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> Result<()> {
        for id in ids {
            let file = file_of(id);
            let Some(row) = self.rows.get_mut(self.ids.key(file)) else {
                continue;
            };
            if row.of.get_or_insert_with(|| file.to_owned()) != file {
                return Err(Failure::argument(format!(
                    "metadata: row {} has the name of several files; give whole ids: --metadata-ids exact",
                    row.number
                )));
            }
        }
        if self.given && self.rows.values().all(|row| row.of.is_none()) {
            messages::say(
                "warning: no item has an id of the metadata; --metadata-ids file-name joins by the file's name",
            );
        }
        Ok(())
    }

    /// The fields of an item: those of its file.
    pub fn of(&self, id: &str) -> Option<&Map<String, Value>> {
        let row = self.rows.get(self.ids.key(file_of(id)));
        row.map(|row| &row.fields)
    }
}

/// A number where it is written as one would be, so that `007` stays a text.
fn value(cell: &str) -> Value {
    let whole = cell
        .parse::<i64>()
        .ok()
        .filter(|number| number.to_string() == cell);
    if let Some(whole) = whole {
        return whole.into();
    }
    let digits = cell.trim_start_matches('-');
    let is_plain = digits.contains('.')
        && !digits.starts_with('.')
        && (digits.starts_with("0.") || !digits.starts_with('0'));
    let number = cell.parse::<f64>().ok().filter(|_| is_plain);
    number.map_or_else(|| cell.into(), Value::from)
}
