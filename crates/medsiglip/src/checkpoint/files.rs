//! What the formats share: reading and mapping files, and the messages about tensors.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::names::show;
use super::positions::PositionResampling;
use super::save::Drift;
use super::tensor::Tensor;
use crate::{Error, Result};

/// Weights under their Hugging Face names, whatever file format holds them.
pub(super) trait Weights: Send + Sync {
    /// The tensor `name` as it is stored.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>>;

    /// The weight files.
    fn files(&self) -> &[PathBuf];

    /// The resampling that the file says was done to its position table.
    fn resampled(&self) -> Option<PositionResampling> {
        None
    }

    /// The drift that the file notes.
    fn drift(&self) -> Option<Drift> {
        None
    }
}

/// Configs and indices are far smaller.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The text of a small file.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::Limit {
            what: "the size of a configuration file in bytes",
            got: fs::metadata(path).map_or(bytes.len() as u64, |m| m.len()),
            limit: MAX_TEXT_BYTES,
        });
    }
    String::from_utf8(bytes).map_err(|_| {
        Error::BadConfig(format!(
            "expected UTF-8 text, got other bytes: {}",
            path.display()
        ))
    })
}

/// The text of a small file; `None` where there is no such file.
pub(super) fn read_text_if_there(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    read_text(path).map(Some)
}

/// A file, mapped into memory for reading. Nothing is read yet.
pub(super) fn map(path: &Path) -> Result<Arc<Mmap>> {
    let file = open(path)?;
    // SAFETY: the map is read only and lives as long as its tensors. Weight files are not changed in
    // place: the hub's cache, transformers and we write beside and rename. If someone truncates one
    // under us, the process ends with a bus error, as every user of mapped weights accepts.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
    Ok(Arc::new(map))
}

/// Opens a regular file; a pipe or a device could block or never end.
pub(super) fn open(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    if !metadata.is_file() {
        return Err(Error::BadCheckpoint(format!(
            "expected a regular file: {}",
            path.display()
        )));
    }
    File::open(path).map_err(|e| Error::io("read", path, e))
}

pub(super) fn missing(name: &str, expected: &[usize]) -> Error {
    tensor_error(name, format!("shape {}", show(expected)), "nothing".into())
}

pub(super) fn misshaped(name: &str, expected: &[usize], got: &[usize]) -> Error {
    let got = format!("shape {}", show(got));
    tensor_error(name, format!("shape {}", show(expected)), got)
}

pub(super) fn surplus(name: &str, got: &[usize]) -> Error {
    let got = format!("a surplus one of shape {}", show(got));
    tensor_error(name, "no such tensor".into(), got)
}

fn tensor_error(name: &str, expected: String, got: String) -> Error {
    Error::BadTensor {
        name: name.to_owned(),
        expected,
        got,
    }
}
