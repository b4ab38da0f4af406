//! DICOMDIR: the index of a medium (PS3.3 annex F, PS3.10 section 8).

use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};

use super::attributes::Attributes;
use super::read;
use super::source::Source;
use crate::image::Limits;
use crate::{Error, Result};

/// The files that the DICOMDIR at `path` refers to, in the order of its records, as paths beside it. Whether they exist is
/// not looked at.
///
/// # Errors
/// `IO_ERROR`; `BAD_IMAGE` where it is damaged or no DICOMDIR, or refers to something outside its folder.
pub fn read_directory(path: impl AsRef<Path>, limits: &Limits) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let (_, header, _) = read::read(Source::open(path)?, limits)?;
    let dataset = &header.dataset;
    let class = dataset.text(tags::SOP_CLASS_UID);
    let records = dataset.items(tags::DIRECTORY_RECORD_SEQUENCE);
    let is_directory = !records.is_empty() || dataset.has(tags::DIRECTORY_RECORD_SEQUENCE);
    if !is_directory && class.as_deref() != Some(uids::MEDIA_STORAGE_DIRECTORY_STORAGE) {
        return Err(Error::BadImage(
            "DICOM file without directory records: not a DICOMDIR".into(),
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let ids = records
        .iter()
        .map(|record| record.texts(tags::REFERENCED_FILE_ID));
    ids.filter(|parts| parts.iter().any(|part| !part.is_empty()))
        .map(|parts| file_of(folder, &parts))
        .collect()
}

/// A File ID is the names of folders and of the file, one below the other (PS3.10 section 8.2).
fn file_of(folder: &Path, parts: &[String]) -> Result<PathBuf> {
    let mut path = folder.to_path_buf();
    for part in parts {
        let is_name =
            !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', ':']);
        if !is_name {
            return Err(Error::BadImage(
                "DICOMDIR referenced file id (0004,1500): expected names of folders and a file below the DICOMDIR".into(),
            ));
        }
        path.push(part);
    }
    Ok(path)
}
