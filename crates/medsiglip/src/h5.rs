//! HDF5 files through `rust-hdf5`, each data set measured before it is read.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use rust_hdf5::format::messages::datatype::DatatypeMessage;
use rust_hdf5::types::H5Type;
use rust_hdf5::{H5Dataset, H5File};

use crate::dataset::guarded;
use crate::{Error, Result};

/// Bytes of one chunk, which is unpacked as a whole.
const MAX_CHUNK_BYTES: usize = 1 << 30;

/// Elements of a data set.
const MAX_ELEMENTS: usize = 1 << 36;

/// A file that is open for reading.
pub(crate) struct H5 {
    path: PathBuf,
    file: H5File,
}

impl H5 {
    /// The file at `path`.
    ///
    /// # Errors
    /// `IO_ERROR`; `BAD_CONFIG` where it is no HDF5 file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        std::fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
        let damaged = || bad(path, "not a readable HDF5 file");
        let open = || H5File::options().no_locking().open(path);
        let file = guarded(|| open().map_err(|_| damaged()), damaged)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// The names of its data sets.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        guarded(|| Ok(self.file.dataset_names()), || self.damaged())
    }

    /// The text of an attribute of the file, if it has one.
    ///
    /// # Errors
    /// `BAD_CONFIG` where it, or the list of attributes, cannot be read.
    pub(crate) fn attribute(&self, name: &str) -> Result<Option<String>> {
        let unreadable = || bad(&self.path, format!("the attribute {name} cannot be read"));
        let read = || {
            let names = self.file.attr_names().map_err(|_| unreadable())?;
            let whole = self.file.attrs_unreadable_reason();
            if !matches!(whole, Ok(None)) {
                return Err(unreadable());
            }
            let is_there = names.iter().any(|known| known == name);
            let text = is_there.then(|| self.file.attr_string(name)).transpose();
            text.map_err(|_| unreadable())
        };
        guarded(read, unreadable)
    }

    /// The data set `name`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where there is none; `LIMIT_EXCEEDED` where it or one of its chunks is too large.
    pub(crate) fn dataset(&self, name: &str) -> Result<Data> {
        let missing = || bad(&self.path, format!("there is no data set {name}"));
        let open = || {
            let data = self.file.dataset(name).map_err(|_| missing())?;
            let (shape, chunk) = (data.shape(), data.chunk_dims().unwrap_or_default());
            check("elements of a data set", &shape, MAX_ELEMENTS)?;
            let chunk: Vec<usize> = chunk.into_iter().chain([data.element_size()]).collect();
            check("bytes of a chunk", &chunk, MAX_CHUNK_BYTES)?;
            Ok((data, shape))
        };
        let (data, shape) = guarded(open, || self.damaged())?;
        Ok(Data {
            path: self.path.clone(),
            name: name.to_owned(),
            shape,
            data,
        })
    }

    fn damaged(&self) -> Error {
        bad(&self.path, "not a readable HDF5 file")
    }
}

fn check(what: &'static str, sides: &[usize], limit: usize) -> Result<()> {
    let product = sides.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    match product.filter(|n| *n <= limit) {
        Some(_) => Ok(()),
        None => Err(Error::Limit {
            what,
            got: product.map_or(u64::MAX, |n| n as u64),
            limit: limit as u64,
        }),
    }
}

fn check_bytes(got: u64, limit: u64) -> Result<()> {
    match got <= limit {
        true => Ok(()),
        false => Err(Error::Limit {
            what: "bytes of texts",
            got,
            limit,
        }),
    }
}

fn bad(path: &Path, wrong: impl Display) -> Error {
    Error::BadConfig(format!("HDF5: {wrong}: {}", path.display()))
}

/// A data set.
pub(crate) struct Data {
    path: PathBuf,
    name: String,
    shape: Vec<usize>,
    data: H5Dataset,
}

impl Data {
    /// Its sides.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of an element.
    pub(crate) fn element_size(&self) -> usize {
        self.data.element_size()
    }

    /// The elements from `starts` on, `counts` along each side, which must be of the type `T`.
    ///
    /// # Errors
    /// `BAD_CONFIG`.
    pub(crate) fn slice<T: H5Type>(&self, starts: &[usize], counts: &[usize]) -> Result<Vec<T>> {
        self.read(|| self.data.read_slice(starts, counts))
    }

    /// As [`slice`](Self::slice), as f64 (exact for f16, f32 and f64).
    ///
    /// # Errors
    /// `BAD_CONFIG`, also where the elements are no floating-point numbers.
    pub(crate) fn floats(&self, starts: &[usize], counts: &[usize]) -> Result<Vec<f64>> {
        self.read(|| self.data.read_numeric_slice_as(starts, counts))
    }

    /// As [`slice`](Self::slice), whole numbers of any width.
    ///
    /// # Errors
    /// `BAD_CONFIG`, also where the elements are none.
    pub(crate) fn integers(&self, starts: &[usize], counts: &[usize]) -> Result<Vec<i64>> {
        self.read(|| self.data.read_numeric_slice_as(starts, counts))
    }

    /// All elements as texts: texts of fixed or variable length, or whole numbers. NumPy and h5py declare ASCII whatever the
    /// bytes are: they are read as UTF-8.
    ///
    /// # Errors
    /// `BAD_CONFIG` where they are neither; `LIMIT_EXCEEDED` where they have more than `limit` bytes.
    pub(crate) fn texts(&self, limit: u64) -> Result<Vec<String>> {
        let count = self.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        let bytes = count.and_then(|n| n.checked_mul(self.element_size()));
        check_bytes(bytes.map_or(u64::MAX, |n| n as u64), limit)?;
        self.check_lengths(limit)?;
        let elements = self.read(|| {
            let cells: Vec<Vec<u8>> = match self.data.datatype()? {
                DatatypeMessage::VarLenString { .. } => self.data.read_vlen_bytes()?,
                DatatypeMessage::FixedString { size, .. } => {
                    let bytes = self.data.read_raw_bytes()?;
                    let cells = bytes.chunks_exact((size as usize).max(1));
                    cells.map(<[u8]>::to_vec).collect()
                }
                _ => {
                    let numbers = self.data.read_numeric_as::<i64>()?;
                    numbers.iter().map(|n| n.to_string().into_bytes()).collect()
                }
            };
            Ok(cells)
        })?;
        let text = |(row, mut cell): (usize, Vec<u8>)| {
            // Texts of fixed length are filled up with zeros.
            cell.truncate(
                cell.iter()
                    .rposition(|b| *b != 0)
                    .map_or(0, |last| last + 1),
            );
            let text = String::from_utf8(cell);
            text.map_err(|_| self.bad(format!("row {}: a text that is not UTF-8", row + 1)))
        };
        elements.into_iter().enumerate().map(text).collect()
    }

    /// Texts of variable length lie elsewhere in the file: a length and where, an element. What is there once can be named
    /// many times, and would be copied each time.
    fn check_lengths(&self, limit: u64) -> Result<()> {
        let is_var = || {
            Ok(matches!(
                self.data.datatype()?,
                DatatypeMessage::VarLenString { .. }
            ))
        };
        if !self.read(is_var)? {
            return Ok(());
        }
        let elements = self.read(|| self.data.read_raw_bytes())?;
        let (mut bytes, mut seen) = (0, HashSet::new());
        for element in elements.chunks_exact(self.element_size().max(5)) {
            let (length, place) = element.split_at(4);
            let address = &place[..place.len().saturating_sub(4)];
            bytes += u64::from(u32::from_le_bytes(length.try_into().unwrap_or_default()));
            check_bytes(bytes, limit)?;
            let is_nowhere = [0, 0xff]
                .iter()
                .any(|no| address.iter().all(|byte| byte == no));
            if !is_nowhere && !seen.insert(place) {
                return Err(self.bad("two texts at one place of the file"));
            }
        }
        Ok(())
    }

    fn read<T>(&self, read: impl FnOnce() -> Result<T, rust_hdf5::Hdf5Error>) -> Result<T> {
        guarded(
            || read().map_err(|_| self.bad("cannot be read, or has another type")),
            || self.bad("cannot be read"),
        )
    }

    /// An error about this data set.
    pub(crate) fn bad(&self, wrong: impl Display) -> Error {
        bad(&self.path, format!("data set {}: {wrong}", self.name))
    }
}
