//! Embeddings of a source's pictures by a model, kept on disk as they come, so that an evaluation that was stopped goes on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::{Divided, Loader, LoaderOptions};
use crate::embedding::{Embeddings, Provenance};
use crate::model::Model;
use crate::{Error, Result};

/// Pictures of a batch.
const BATCH: usize = 16;
/// Largest first line of a file.
const MAX_HEADER: usize = 1 << 16;

/// Embeddings by the place of the picture in its source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Width.
    pub dim: usize,
    data: Vec<f32>,
    of_place: HashMap<usize, usize>,
}

impl Rows {
    /// No rows yet, of this width.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            ..Self::default()
        }
    }

    /// Adds the embedding of a place.
    pub fn insert(&mut self, place: usize, row: &[f32]) {
        self.of_place.insert(place, self.data.len() / self.dim);
        self.data.extend_from_slice(row);
    }

    /// Whether there is one.
    pub fn has(&self, place: usize) -> bool {
        self.of_place.contains_key(&place)
    }

    /// The embeddings of `places`, each of which must be there.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where one is missing.
    pub fn select(&self, places: &[usize]) -> Result<Embeddings> {
        let mut data = Vec::with_capacity(places.len() * self.dim);
        for place in places {
            let row = self.of_place.get(place);
            let row = row.ok_or_else(|| Error::BadArgument("a picture has no embedding".into()))?;
            data.extend_from_slice(&self.data[row * self.dim..(row + 1) * self.dim]);
        }
        Embeddings::new(self.dim, data)
    }
}

/// What a file's first line says: with another, it is begun anew.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    dim: usize,
    provenance: Provenance,
    /// SHA-256 over the source's name, and all its examples in their order: their ids, where they lie, and size and time of
    /// the files.
    examples: String,
}

/// Embeddings of `places` of a source by `model`, not normalised. Those that the file `kept` has are taken from there, the others
/// are appended to it. Pictures that cannot be read are left out and noted in the source's [`crate::dataset::Pictures`].
///
/// `done` is told how many pictures were embedded; it may stop the work with an error.
///
/// # Errors
/// As of [`Model::encode_images`] and [`Loader::in_order`]; `DIVERGED` where an embedding has a number that is none; `IO_ERROR`; those
/// of `done`.
pub fn embed(
    model: &Model,
    divided: &Divided,
    source: usize,
    places: &[usize],
    kept: &Path,
    done: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Rows> {
    let header = Header {
        dim: model.config().vision.hidden_size,
        provenance: model.provenance(false)?,
        examples: examples(divided, source),
    };
    let (mut file, mut rows) = open(kept, &header, divided.sources()[source].examples.len())?;
    let failed = |e| Error::io("write", kept, e);
    done(places.iter().filter(|place| rows.has(**place)).count())?;
    let missing = places.iter().filter(|place| !rows.has(**place));
    let list: Vec<_> = missing.map(|place| (source, *place)).collect();
    let options = LoaderOptions {
        batch: BATCH,
        ..LoaderOptions::default()
    };
    let preprocessor = model.preprocessor().clone();
    for batch in Loader::in_order(divided.pictures.clone(), list, preprocessor, options)? {
        let batch = batch?;
        let embeddings = model.encode_images(&batch.pixels)?;
        if !embeddings.rows().all(is_finite) {
            return Err(Error::Diverged(
                "the model makes embeddings with numbers that are NaN or infinite; expected finite ones: its weights are damaged, or \
                 its precision is too low"
                    .into(),
            ));
        }
        let mut bytes = Vec::new();
        for (place, row) in batch.places.iter().zip(embeddings.rows()) {
            bytes.extend_from_slice(&(*place as u64).to_le_bytes());
            bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
            rows.insert(*place, row);
        }
        file.write_all(&bytes).map_err(failed)?;
        done(batch.places.len())?;
    }
    file.sync_all().map_err(failed)?;
    Ok(rows)
}

fn is_finite(row: &[f32]) -> bool {
    row.iter().all(|x| x.is_finite())
}

/// The file, ready to append to, and what it has, up to a record that is cut off or cannot be: that and what follows is made again.
fn open(path: &Path, header: &Header, examples: usize) -> Result<(File, Rows)> {
    let mut line = serde_json::to_vec(header).expect("plain fields");
    line.push(b'\n');
    let mut rows = Rows::new(header.dim);
    let size = 8 + 4 * header.dim;
    let mut whole = line.len() as u64;
    match File::open(path) {
        Ok(mut file) => {
            let mut own = vec![0; line.len().min(MAX_HEADER)];
            let read = file.read_exact(&mut own);
            if read.is_ok() && own == line {
                let mut record = vec![0; size];
                while rows.of_place.len() < examples && file.read_exact(&mut record).is_ok() {
                    let (place, row) = record.split_at(8);
                    let place = u64::from_le_bytes(place.try_into().expect("eight bytes"));
                    let row: Vec<f32> = row
                        .as_chunks()
                        .0
                        .iter()
                        .map(|x| f32::from_le_bytes(*x))
                        .collect();
                    match usize::try_from(place) {
                        Ok(place) if place < examples && is_finite(&row) => {
                            rows.insert(place, &row)
                        }
                        _ => break,
                    }
                    whole += size as u64;
                }
                return Ok((append(path, whole)?, rows));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("read", path, e)),
    }
    std::fs::write(path, &line).map_err(|e| Error::io("write", path, e))?;
    Ok((append(path, whole)?, rows))
}

/// The file up to its last good record.
fn append(path: &Path, whole: u64) -> Result<File> {
    let opened = OpenOptions::new().append(true).open(path);
    let cut = opened.and_then(|file| file.set_len(whole).map(|()| file));
    cut.map_err(|e| Error::io("write", path, e))
}

fn examples(divided: &Divided, source: usize) -> String {
    let source = &divided.sources()[source];
    let mut hasher = Sha256::new();
    let mut stamps: HashMap<&Path, String> = HashMap::new();
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    add(&source.config.name);
    for example in &source.examples {
        let file = example.picture.file();
        let stamp = stamps.entry(file).or_insert_with(|| {
            let metadata = std::fs::metadata(file).ok();
            format!("{:?}", metadata.map(|m| (m.len(), m.modified().ok())))
        });
        add(&example.id);
        add(&example.picture.place());
        add(stamp);
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_no_number_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.bin");
        let header = Header {
            dim: 2,
            provenance: serde_json::from_value(serde_json::json!({
                "medsiglip": "", "model": "", "checksum": "", "config_checksum": "", "device": "", "dtype": "",
                "recipe": "", "pad": "", "resolution": 1, "normalized": false,
            }))
            .unwrap(),
            examples: "of these".into(),
        };
        let (mut file, rows) = open(&path, &header, 4).unwrap();
        assert_eq!(rows, Rows::new(2));
        for (place, row) in [
            (2_u64, [1.0_f32, 2.0]),
            (0, [f32::NAN, 1.0]),
            (1, [3.0, 4.0]),
        ] {
            file.write_all(&place.to_le_bytes()).unwrap();
            let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.write_all(&bytes).unwrap();
        }
        drop(file);
        let (_, rows) = open(&path, &header, 4).unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|place| rows.has(place)),
            [false, false, true, false]
        );
        let (_, again) = open(&path, &header, 4).unwrap();
        assert_eq!(again, rows);
    }
}
