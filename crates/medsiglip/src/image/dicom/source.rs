//! Bytes that are read by place: a file, or memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// How much of a file is read at once while its structure is walked.
const WINDOW: usize = 1 << 16;

/// Bytes of known length.
pub(super) enum Source {
    /// A file; one reader at a time.
    File {
        file: Mutex<File>,
        path: PathBuf,
        length: u64,
    },
    /// Memory.
    Bytes(Vec<u8>),
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::io("read", path, source);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self::File {
            file: Mutex::new(file),
            path: path.to_path_buf(),
            length,
        })
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// The `count` bytes from `offset` on.
    ///
    /// # Errors
    /// `BAD_IMAGE` where the end is not that far, before memory is taken; `IO_ERROR`.
    pub fn read(&self, offset: u64, count: usize) -> Result<Vec<u8>> {
        let end = offset.checked_add(count as u64);
        if end.is_none_or(|end| end > self.length()) {
            return Err(Error::BadImage("DICOM file is truncated".into()));
        }
        match self {
            Self::Bytes(bytes) => {
                let rest = bytes.get(offset as usize..).unwrap_or_default();
                Ok(rest.get(..count).unwrap_or_default().to_vec())
            }
            Self::File { file, path, .. } => {
                let mut bytes = vec![0; count];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|source| Error::io("read", path, source))?;
                Ok(bytes)
            }
        }
    }
}

/// Reads a source forward, in windows.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// Where the next byte is.
    pub position: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a Source, position: u64) -> Self {
        Self {
            source,
            position,
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.source.length().saturating_sub(self.position)
    }

    /// The next `N` bytes, without going on.
    pub fn peek<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.look(N)?;
        bytes.first_chunk().copied().ok_or_else(truncated)
    }

    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.peek()?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// The next `count` bytes.
    pub fn value(&mut self, count: usize) -> Result<Vec<u8>> {
        let bytes = if count <= WINDOW {
            self.look(count)?.to_vec()
        } else {
            self.source.read(self.position, count)?
        };
        self.position += count as u64;
        Ok(bytes)
    }

    /// Goes over `count` bytes.
    pub fn skip(&mut self, count: u64) -> Result<()> {
        if count > self.left() {
            return Err(truncated());
        }
        self.position += count;
        Ok(())
    }

    fn look(&mut self, count: usize) -> Result<&[u8]> {
        let start = self.position.checked_sub(self.window_start);
        let end = start.map(|start| start + count as u64);
        if end.is_none_or(|end| end > self.window.len() as u64) {
            let size = self.left().min(WINDOW.max(count) as u64) as usize;
            self.window = self.source.read(self.position, size)?;
            self.window_start = self.position;
        }
        let start = (self.position - self.window_start) as usize;
        let rest = self.window.get(start..).unwrap_or_default();
        rest.get(..count).ok_or_else(truncated)
    }
}

fn truncated() -> Error {
    Error::BadImage("DICOM file is truncated".into())
}
