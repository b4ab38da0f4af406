//! [`Location`]: where the bytes of a picture lie, and how they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{PictureArray, PictureColumn};
use crate::image::{self, DICOM_EXTENSIONS, DecodeOptions, Limits, PICTURE_EXTENSIONS, Picture};
use crate::{Error, Result};

/// Where the bytes of a picture file lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of its own.
    File(PathBuf),
    /// A cell of a Parquet file.
    Cell {
        /// The column of bytes.
        column: Arc<PictureColumn>,
        /// The row, from 1.
        row: u64,
    },
    /// A member of a tar file.
    Member {
        /// The tar file.
        shard: Arc<Path>,
        /// Where the member's bytes begin.
        offset: u64,
        /// How many there are.
        bytes: u64,
    },
    /// A picture of an array of pictures.
    Slice {
        /// The array.
        array: Arc<PictureArray>,
        /// Its place there, from 0.
        index: usize,
    },
}

impl Location {
    /// The picture. A DICOM file must have one frame.
    ///
    /// # Errors
    /// As [`crate::image::open`]. A decoder that panics on a hostile file costs that file alone: `BAD_IMAGE`.
    pub fn open(&self, options: &DecodeOptions) -> Result<Picture> {
        match self {
            Self::File(path) => {
                guarded(|| image::open_with(path, options), || self.decoder_failed())
            }
            _ => self.decode(&self.read(&options.limits)?, options),
        }
    }

    /// As [`open`](Self::open), of the bytes that [`read`](Self::read) gave.
    pub(super) fn decode(&self, bytes: &[u8], options: &DecodeOptions) -> Result<Picture> {
        guarded(|| image::decode(bytes, options), || self.decoder_failed())
    }

    fn decoder_failed(&self) -> Error {
        let place = self.place();
        Error::BadImage(format!("the decoder failed on this file: {place}"))
    }

    /// The file that holds it, perhaps among others.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Cell { column, .. } => column.path(),
            Self::Member { shard, .. } => shard,
            Self::Slice { array, .. } => array.path(),
        }
    }

    /// The file, with the row or the byte. A path can name a patient: messages have [`Example::place`](super::Example)
    /// instead.
    pub fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Cell { column, row } => format!("{}: row {row}", column.path().display()),
            Self::Member { shard, offset, .. } => format!("{}: byte {offset}", shard.display()),
            Self::Slice { array, index } => {
                format!("{}: {} {index}", array.path().display(), array.name())
            }
        }
    }

    /// What an error of this picture says, without the path that it names last.
    pub(super) fn said(&self, error: &Error) -> String {
        match error {
            Error::Io { action, source, .. } => format!("cannot {action}: {source}"),
            other => other
                .to_string()
                .replace(&format!(": {}", self.place()), ""),
        }
    }

    /// The bytes of the picture file; of an array's picture, those of a PNM file with its pixels.
    ///
    /// # Errors
    /// `IO_ERROR`; `LIMIT_EXCEEDED`; `BAD_IMAGE` where a Parquet file is damaged.
    pub fn read(&self, limits: &Limits) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => read_part(path, 0, None, limits),
            Self::Cell { column, row } => column.bytes(*row, limits),
            Self::Member {
                shard,
                offset,
                bytes,
            } => read_part(shard, *offset, Some(*bytes), limits),
            Self::Slice { array, index } => array.read(*index, limits),
        }
    }
}

/// `bytes` of the file from `offset` on, or all that follow.
pub(super) fn read_part(
    path: &Path,
    offset: u64,
    bytes: Option<u64>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let bytes = bytes.unwrap_or(length);
    limits.check_file(bytes)?;
    if offset.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut content = Vec::with_capacity(bytes as usize);
    file.take(bytes).read_to_end(&mut content).map_err(failed)?;
    match content.len() as u64 == bytes {
        true => Ok(content),
        false => Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
    }
}

/// `work`, or `failed` where it panics, as decoders and the parquet crate (60.1) do on some damaged files. What it was
/// reading is dropped with it.
pub(crate) fn guarded<T>(
    work: impl FnOnce() -> Result<T>,
    failed: impl FnOnce() -> Error,
) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(failed()))
}

/// Whether `extension`, in lower case, is that of a picture file.
pub(super) fn is_picture(extension: &str) -> bool {
    PICTURE_EXTENSIONS.contains(&extension) || DICOM_EXTENSIONS.contains(&extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_picture_has_no_path() {
        let location = Location::File("patient00001/a.png".into());
        let options = DecodeOptions::default();
        let missing = location.open(&options).unwrap_err();
        assert!(missing.to_string().contains("patient00001"));
        let said = location.said(&missing);
        assert!(said.starts_with("cannot read: "), "{said}");
        assert!(!said.contains("patient"), "{said}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("patient00001.png");
        std::fs::write(&path, b"\x89PNG\r\n\x1a\nno").unwrap();
        let location = Location::File(path);
        let damaged = location.open(&options).unwrap_err();
        assert!(damaged.to_string().contains("patient00001"));
        let said = location.said(&damaged);
        assert!(!said.is_empty() && !said.contains("patient"), "{said}");
        assert_eq!(
            location.said(&location.decoder_failed()),
            "the decoder failed on this file"
        );
    }

    #[test]
    fn a_panic_costs_one_file() {
        let location = Location::File("a.png".into());
        let failed = || location.decoder_failed();
        let error = guarded(|| -> Result<()> { panic!("a decoder's bug") }, failed).unwrap_err();
        assert_eq!(error.code(), "BAD_IMAGE");
        assert_eq!(error.to_string(), "the decoder failed on this file: a.png");
        assert_eq!(guarded(|| Ok(1), failed).unwrap(), 1);
        assert!(matches!(
            guarded(|| -> Result<()> { Err(Error::Interrupted) }, failed),
            Err(Error::Interrupted)
        ));
    }
}
