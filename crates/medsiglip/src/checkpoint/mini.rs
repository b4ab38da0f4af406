//! `medsiglip-mini`, compiled in, as a folder that everything else reads like any other checkpoint.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::checksum;
use crate::{Error, Result, folder};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../models/medsiglip-mini/", $name)))),*]
    };
}

/// The model's files.
const FILES: [(&str, &[u8]); 8] = files![
    "README.md",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The folder with the model's files: `medsiglip/medsiglip-mini` in the user's cache, made where it is not there or not
/// the same; where that cannot be written, a temporary one, which is there as long as the second result is kept.
///
/// # Errors
/// `IO_ERROR` where there is no place for it.
pub(super) fn folder() -> Result<(PathBuf, Option<TempDir>)> {
    let cached = checksum::cache_folder().map(|cache| cache.join(super::DEFAULT_MODEL));
    if let Some(place) = cached
        && (is_whole(&place) || write(&place).is_ok())
    {
        return Ok((place, None));
    }
    let own = TempDir::new().map_err(|e| Error::io("create", std::env::temp_dir(), e))?;
    let place = own.path().join(super::DEFAULT_MODEL);
    write(&place)?;
    Ok((place, Some(own)))
}

/// Whether every file is there and has the bytes that it must have.
fn is_whole(place: &Path) -> bool {
    let same = |(name, bytes): &(&str, &[u8])| {
        std::fs::read(place.join(name)).is_ok_and(|found| found == *bytes)
    };
    FILES.iter().all(same)
}

fn write(place: &Path) -> Result<()> {
    let ours = |name: &str| FILES.iter().any(|(file, _)| *file == name);
    folder::write(place, ours, |folder| {
        FILES
            .iter()
            .try_for_each(|(name, bytes)| folder::write_file(&folder.join(name), bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_written_again() {
        let home = TempDir::new().unwrap();
        let place = home.path().join("a/b");
        assert!(!is_whole(&place));
        write(&place).unwrap();
        assert!(is_whole(&place));
        std::fs::write(place.join("config.json"), "{}").unwrap();
        assert!(!is_whole(&place));
        write(&place).unwrap();
        assert!(is_whole(&place));
    }
}
