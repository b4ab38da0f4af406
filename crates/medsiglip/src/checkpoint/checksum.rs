//! SHA-256 of weight files, in hexadecimal.

use std::fs;
use std::io::{Read, Write};
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

/// The SHA-256 of a file's bytes; a link into the hub's cache already carries it as its target's name, and that of a
/// large file is remembered.
fn of_file(path: &Path) -> Result<String> {
    match blob_name(path) {
        Some(name) => Ok(name),
        None => remembered(path, cache_folder().map(|at| at.join("sha256")).as_deref()),
    }
}

/// Smaller files are read again each time.
const LARGE_BYTES: u64 = 64 << 20;

/// The SHA-256 of a file's bytes, from a note in `cache` where the file is the same as when the note was written.
/// A cache that cannot be read or written costs time and nothing else.
fn remembered(path: &Path, cache: Option<&Path>) -> Result<String> {
    let note = |path: &Path| Some(cache?.join(identity(path)?));
    let before = note(path);
    let known = before
        .as_ref()
        .and_then(|note| fs::read_to_string(note).ok());
    if let Some(sum) = known.filter(|sum| is_sha256(sum)) {
        return Ok(sum);
    }
    let sum = of_bytes(path)?;
    // Noted only where the file did not change while it was read; whole or not at all.
    if let (Some(to), Some(cache)) = (
        before.filter(|before| note(path).as_ref() == Some(before)),
        cache,
    ) {
        let _ = fs::create_dir_all(cache)
            .and_then(|()| tempfile::NamedTempFile::new_in(cache))
            .and_then(|mut file| file.write_all(sum.as_bytes()).map(|()| file))
            .and_then(|file| file.persist(to).map_err(|e| e.error));
    }
    Ok(sum)
}

/// What tells a large file from every other one and from itself before any change, as a name that tells no one else
/// anything; `None` for small files and where the system does not say enough.
#[cfg(unix)]
fn identity(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(path)
        .ok()
        .filter(|file| file.len() >= LARGE_BYTES)?;
    let changed = (
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    );
    Some(of_text(&format!(
        "{} {} {} {changed:?}",
        file.dev(),
        file.ino(),
        file.len()
    )))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<String> {
    None
}

/// What may be kept between runs: `medsiglip` in the user's cache.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")))?;
    cache.is_absolute().then(|| cache.join("medsiglip"))
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
    (in_blobs && is_sha256(name)).then(|| name.to_ascii_lowercase())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_large_file_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("weights"), folder.path().join("cache"));
        // Sparse: it takes no room.
        File::create(&path).unwrap().set_len(LARGE_BYTES).unwrap();
        let sum = remembered(&path, Some(&cache)).unwrap();
        assert_eq!(sum, of_bytes(&path).unwrap());
        let note = cache.join(identity(&path).unwrap());
        assert_eq!(fs::read_to_string(&note).unwrap(), sum);

        // What the note says is believed, unless it is no checksum.
        fs::write(&note, "ab".repeat(32)).unwrap();
        assert_eq!(remembered(&path, Some(&cache)).unwrap(), "ab".repeat(32));
        fs::write(&note, "cut").unwrap();
        assert_eq!(remembered(&path, Some(&cache)).unwrap(), sum);

        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(LARGE_BYTES + 1).unwrap();
        let changed = remembered(&path, Some(&cache)).unwrap();
        assert_eq!(changed, of_bytes(&path).unwrap());
        assert_ne!(changed, sum);
    }

    #[test]
    fn a_small_file_and_a_missing_cache_are_no_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, "weights").unwrap();
        let sum = of_bytes(&path).unwrap();
        assert_eq!(remembered(&path, Some(folder.path())).unwrap(), sum);
        assert_eq!(identity(&path), None);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(LARGE_BYTES)
            .unwrap();
        let below_a_file = path.join("cache");
        assert_eq!(
            remembered(&path, Some(&below_a_file)).unwrap(),
            of_bytes(&path).unwrap()
        );
        assert_eq!(remembered(&path, None).unwrap(), of_bytes(&path).unwrap());
    }
}
