//! [`Location`]: where the bytes of a picture lie, and how they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::parquet_rows;
use crate::image::{self, DecodeOptions, Limits, Picture};
use crate::{Error, Result};

/// Where the bytes of a picture file lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of its own.
    File(PathBuf),
    /// A cell of a Parquet file.
    Cell {
        /// The Parquet file.
        file: Arc<Path>,
        /// The column of bytes.
        column: Arc<str>,
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
}

impl Location {
    /// The picture. A DICOM file must have one frame.
    ///
    /// # Errors
    /// As [`crate::image::open`].
    pub fn open(&self, options: &DecodeOptions) -> Result<Picture> {
        match self {
            Self::File(path) => image::open_with(path, options),
            _ => image::decode(&self.read(&options.limits)?, options),
        }
    }

    /// The place for messages: the file, with the row or the byte.
    pub fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Cell { file, row, .. } => format!("{}: row {row}", file.display()),
            Self::Member { shard, offset, .. } => format!("{}: byte {offset}", shard.display()),
        }
    }

    /// The bytes of the picture file.
    ///
    /// # Errors
    /// `IO_ERROR`; `LIMIT_EXCEEDED`; `BAD_IMAGE` where a Parquet file is damaged.
    pub fn read(&self, limits: &Limits) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => read_part(path, 0, None, limits),
            Self::Cell { file, column, row } => parquet_rows::bytes(file, column, *row, limits),
            Self::Member {
                shard,
                offset,
                bytes,
            } => read_part(shard, *offset, Some(*bytes), limits),
        }
    }
}

/// `bytes` of the file from `offset` on, or all that follow.
fn read_part(path: &Path, offset: u64, bytes: Option<u64>, limits: &Limits) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let bytes = bytes.unwrap_or(length);
    if bytes > limits.max_file_bytes {
        return Err(Error::Limit {
            what: Limits::FILE_BYTES,
            got: bytes,
            limit: limits.max_file_bytes,
        });
    }
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
