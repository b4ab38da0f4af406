//! SHA-256 of weight files, in hexadecimal.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files;
use crate::{Error, Result};

/// One file's own SHA-256; of several, that of the lines `name sha256\n`, sorted by name.
pub(super) fn of_files(files: &[PathBuf]) -> Result<String> {
    match files {
        [file] => of_file(file),
        files => of_lines(files),
    }
}

/// That of the lines `name sha256\n`, sorted by name.
pub(super) fn of_lines(files: &[PathBuf]) -> Result<String> {
    let mut lines = Vec::with_capacity(files.len());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        lines.push(format!("{name} {}\n", of_file(file)?));
    }
    lines.sort();
    Ok(of_text(&lines.concat()))
}

/// The SHA-256 of a text.
pub(super) fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// The SHA-256 of a file's bytes; a link into the hub's cache already carries it as its target's name.
fn of_file(path: &Path) -> Result<String> {
    match blob_name(path) {
        Some(name) => Ok(name),
        None => of_bytes(path),
    }
}

/// The SHA-256 of a file's bytes, read whole.
pub(super) fn of_bytes(path: &Path) -> Result<String> {
    let mut file = files::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|e| Error::io("read", path, e))?;
        match buffer.get(..n) {
            Some([]) | None => return Ok(hex(&hasher.finalize())),
            Some(bytes) => hasher.update(bytes),
        }
    }
}

/// The name of the blob that a hub snapshot's link leads to, where it is a SHA-256 (that of a large file).
pub(super) fn blob_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let in_blobs = target.parent()?.file_name()? == "blobs";
    let name = target.file_name()?.to_str()?;
    let is_sha256 = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    (in_blobs && is_sha256).then(|| name.to_ascii_lowercase())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
