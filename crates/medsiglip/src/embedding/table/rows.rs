//! [`Rows`]: what all formats are read into, a row at a time, each checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{EmbeddingTable, TableOptions};
use crate::embedding::{Embeddings, Provenance};
use crate::{Error, Result};

/// Bytes that an id takes beside its text: where it begins, how long it is, its row.
const BYTES_OF_ID: u64 = 64;

/// The rows so far.
pub(super) struct Rows {
    ids: Vec<String>,
    row_of: HashMap<String, usize>,
    /// Of each row, the file and the number there, from 1.
    places: Vec<(u32, u64)>,
    files: Vec<PathBuf>,
    dim: usize,
    data: Vec<f32>,
    /// That of the rows so far; the outer one is `None` before the first.
    provenance: Option<Option<Provenance>>,
    max_bytes: u64,
    max_id_bytes: u64,
    id_bytes: u64,
    current: Vec<f32>,
}

impl Rows {
    pub(super) fn new(options: &TableOptions) -> Self {
        Self {
            ids: Vec::new(),
            row_of: HashMap::new(),
            places: Vec::new(),
            files: Vec::new(),
            dim: 0,
            data: Vec::new(),
            provenance: None,
            max_bytes: options.max_bytes,
            max_id_bytes: options.max_id_bytes,
            id_bytes: 0,
            current: Vec::new(),
        }
    }

    /// What follows is of this file.
    pub(super) fn begin_file(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    /// The file that is read, for messages.
    fn file(&self) -> &Path {
        self.files.last().map_or(Path::new(""), PathBuf::as_path)
    }

    /// An error about the file that is read.
    pub(super) fn bad(&self, wrong: &str) -> Error {
        Error::BadConfig(format!("embeddings: {wrong}: {}", self.file().display()))
    }

    /// An error about the row `number` of it, from 1.
    pub(super) fn bad_row(&self, number: u64, wrong: &str) -> Error {
        self.bad(&format!("row {number}: {wrong}"))
    }

    /// Checks a number of values that a file claims, before any is read.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`.
    pub(super) fn expect(&self, values: u64) -> Result<()> {
        let bytes = (self.data.len() as u64)
            .saturating_add(values)
            .saturating_mul(4);
        if bytes <= self.max_bytes {
            return Ok(());
        }
        Err(Error::Limit {
            what: "memory for embeddings in bytes",
            got: bytes,
            limit: self.max_bytes,
        })
    }

    /// Checks a number of ids of `bytes` each that a file claims, before any is read.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`.
    pub(super) fn expect_ids(&self, count: u64, bytes: u64) -> Result<()> {
        let each = bytes.saturating_add(BYTES_OF_ID);
        let bytes = self.id_bytes.saturating_add(count.saturating_mul(each));
        if bytes <= self.max_id_bytes {
            return Ok(());
        }
        Err(Error::Limit {
            what: "memory for ids in bytes",
            got: bytes,
            limit: self.max_id_bytes,
        })
    }

    /// The largest text of ids that a file may have.
    pub(super) fn max_id_bytes(&self) -> u64 {
        self.max_id_bytes
    }

    /// Says how the rows that follow were made, once a file or with each row.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is not the same as of those before.
    pub(super) fn made_by(&mut self, provenance: Option<Provenance>) -> Result<()> {
        match &self.provenance {
            None => self.provenance = Some(provenance),
            Some(before) if *before == provenance => (),
            Some(_) => {
                return Err(self.bad(
                    "embeddings that were made in another way than those before; expected one model and one set of options",
                ));
            }
        }
        Ok(())
    }

    /// Provenance as JSON.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it is not that.
    pub(super) fn parse_provenance(&self, json: &str) -> Result<Provenance> {
        serde_json::from_str(json)
            .map_err(|_| self.bad("the provenance (medsiglip.provenance) cannot be read"))
    }

    /// Adds the row `number` of the file.
    ///
    /// # Errors
    /// As [`EmbeddingTable::read`].
    pub(super) fn push(
        &mut self,
        id: &str,
        number: u64,
        values: impl IntoIterator<Item = f64>,
    ) -> Result<()> {
        if id.is_empty() {
            return Err(self.bad_row(number, "no id"));
        }
        let mut current = std::mem::take(&mut self.current);
        current.clear();
        current.extend(values.into_iter().map(|value| value as f32));
        let added = self.add(id, number, &current);
        self.current = current;
        added
    }

    fn add(&mut self, id: &str, number: u64, values: &[f32]) -> Result<()> {
        if !values.iter().all(|value| value.is_finite()) {
            return Err(self.bad_row(
                number,
                "an embedding with a number that is missing, NaN, infinite or out of the range of f32",
            ));
        }
        if values.is_empty() {
            return Err(self.bad_row(number, "an embedding without numbers"));
        }
        if self.dim == 0 {
            self.dim = values.len();
        }
        if values.len() != self.dim {
            let wrong = format!(
                "expected {} numbers as in the rows before, got {}",
                self.dim,
                values.len()
            );
            return Err(self.bad_row(number, &wrong));
        }
        if let Some(before) = self.row_of.get(id) {
            if self.data[before * self.dim..][..self.dim] == *values {
                return Ok(());
            }
            let (file, row) = self.places[*before];
            let file = self.files[file as usize].display();
            let wrong = format!("the id of row {row} of {file} with another embedding");
            return Err(self.bad_row(number, &wrong));
        }
        self.expect(values.len() as u64)?;
        self.expect_ids(1, id.len() as u64)?;
        self.id_bytes += BYTES_OF_ID + id.len() as u64;
        self.row_of.insert(id.to_owned(), self.ids.len());
        self.ids.push(id.to_owned());
        let file = u32::try_from(self.files.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.places.push((file, number));
        self.data.extend_from_slice(values);
        Ok(())
    }

    /// The table, which must have a row.
    pub(super) fn finish(self, path: &Path) -> Result<EmbeddingTable> {
        if self.ids.is_empty() {
            return Err(Error::BadConfig(format!(
                "embeddings: there is no embedding: {}",
                path.display()
            )));
        }
        let embeddings = Embeddings::new(self.dim, self.data)?;
        EmbeddingTable::new(self.ids, embeddings, self.provenance.flatten())
    }
}
