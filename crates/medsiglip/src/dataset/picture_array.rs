//! [`PictureArray`]: pictures side by side in one array, of an `.npz` or HDF5 file.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use npyz::npz::NpzArchive;
use tempfile::TempPath;

use super::location::{guarded, read_part};
use crate::h5::H5;
use crate::image::Limits;
use crate::npy::NpyHeader;
use crate::{Error, Result};

/// Bytes of an array that is unpacked onto the disk: the largest of MedMNIST (PathMNIST at 224 px) has 15 GiB.
const MAX_UNPACKED: u64 = 16 << 30;

/// Pictures of an array: each becomes an example in memory. The largest set that we know, PCam, has 262,144.
const MAX_PICTURES: usize = 1 << 22;

/// Pictures of 8 bits, (N, height, width) or (N, height, width, 3), in one array of a file.
#[derive(Debug)]
pub struct PictureArray {
    path: PathBuf,
    name: String,
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// Numbers that lie in the file as they are.
    Plain { offset: u64 },
    /// Numbers of a compressed array, unpacked into a file that is removed in the end.
    Unpacked(TempPath),
    /// A data set of an HDF5 file.
    Hdf5,
}

impl PartialEq for PictureArray {
    /// Whether both are the same array of the same file.
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.name) == (&other.path, &other.name)
    }
}

impl Eq for PictureArray {}

impl PictureArray {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The array's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The data set `name` of the HDF5 file at `path`.
    ///
    /// # Errors
    /// `BAD_CONFIG`; `LIMIT_EXCEEDED`; `IO_ERROR`.
    pub(super) fn of_hdf5(path: &Path, name: &str) -> Result<Self> {
        let data = H5::open(path)?.dataset(name)?;
        if data.element_size() != 1 {
            return Err(data.bad("expected pictures of 8 bits"));
        }
        let sides = Sides::of(path, name, data.shape())?;
        Ok(Self::new(path, name, sides, Storage::Hdf5))
    }

    /// The array `name` of the `.npz` file at `path`. A compressed one is unpacked into a temporary file, so that each
    /// picture can be read where it lies.
    ///
    /// # Errors
    /// `BAD_CONFIG`; `LIMIT_EXCEEDED`; `IO_ERROR`; `UNSUPPORTED` for pictures of three dimensions.
    pub(super) fn of_npz(path: &Path, name: &str) -> Result<Self> {
        let damaged = || bad(path, name, "cannot be read");
        let open = || {
            let mut archive = NpzArchive::open(path).map_err(|_| damaged())?;
            let mut member = archive
                .zip_archive()
                .by_name(&format!("{name}.npy"))
                .map_err(|_| damaged())?;
            let plain = member.compression().to_string() == "Stored";
            let start = member.data_start();
            let header = NpyHeader::read(&mut member).ok_or_else(damaged)?;
            if header.descr != "|u1" || header.fortran_order {
                return Err(bad(
                    path,
                    name,
                    "expected pictures of 8 bits (|u1) in C order",
                ));
            }
            let sides = Sides::of(path, name, &header.shape)?;
            let bytes = header.count().ok_or_else(damaged)? as u64;
            if header.bytes(1) != Some(member.size()) {
                return Err(damaged());
            }
            let storage = match plain {
                true => Storage::Plain {
                    offset: start
                        .checked_add(header.length as u64)
                        .ok_or_else(damaged)?,
                },
                false => Storage::Unpacked(unpack(&mut member, bytes, damaged)?),
            };
            Ok(Self::new(path, name, sides, storage))
        };
        guarded(open, damaged)
    }

    fn new(path: &Path, name: &str, sides: Sides, storage: Storage) -> Self {
        Self {
            path: path.to_owned(),
            name: name.to_owned(),
            count: sides.count,
            height: sides.height,
            width: sides.width,
            channels: sides.channels,
            storage,
        }
    }

    /// The picture at `index` as a PNM file.
    ///
    /// # Errors
    /// `BAD_IMAGE` where there is none or the file is damaged; `IO_ERROR`.
    pub(super) fn read(&self, index: usize, limits: &Limits) -> Result<Vec<u8>> {
        let (h, w, c) = (self.height, self.width, self.channels);
        let unreadable = || {
            let path = self.path.display();
            Error::BadImage(format!(
                "array {}: no readable picture {index}: {path}",
                self.name
            ))
        };
        if index >= self.count {
            return Err(unreadable());
        }
        let bytes = (h * w * c) as u64;
        let at = |offset: u64| {
            let before = (index as u64).checked_mul(bytes);
            before
                .and_then(|before| before.checked_add(offset))
                .ok_or_else(unreadable)
        };
        let pixels = match &self.storage {
            Storage::Plain { offset } => read_part(&self.path, at(*offset)?, Some(bytes), limits)?,
            Storage::Unpacked(file) => read_part(file, at(0)?, Some(bytes), limits)?,
            Storage::Hdf5 => {
                let data = H5::open(&self.path)?.dataset(&self.name)?;
                let mut counts = data.shape().to_vec();
                let mut starts = vec![0; counts.len()];
                (counts[0], starts[0]) = (1, index);
                data.slice(&starts, &counts).map_err(|_| unreadable())?
            }
        };
        if pixels.len() as u64 != bytes {
            return Err(unreadable());
        }
        let kind = if c == 3 { "P6" } else { "P5" };
        Ok([format!("{kind}\n{w} {h}\n255\n").as_bytes(), &pixels].concat())
    }
}

/// The sides of an array of pictures.
struct Sides {
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl Sides {
    /// Those of the array `name` of this shape, once it is known that its pictures are not too many or too large.
    fn of(path: &Path, name: &str, shape: &[usize]) -> Result<Self> {
        let (count, height, width, channels) = match *shape {
            [n, h, w] => (n, h, w, 1),
            [n, h, w, c @ (1 | 3)] => (n, h, w, c),
            [_, _, _, _] => {
                return Err(Error::Unsupported(format!(
                    "array {name}: volumes are not pictures: {}",
                    path.display()
                )));
            }
            _ => {
                return Err(bad(
                    path,
                    name,
                    "expected a shape (N, height, width) or (N, height, width, 3)",
                ));
            }
        };
        if height == 0 || width == 0 {
            return Err(bad(path, name, "pictures without pixels"));
        }
        let side =
            |side: usize| u32::try_from(side).map_err(|_| bad(path, name, "pictures too large"));
        Limits::default().check_pixels(side(width)?, side(height)?)?;
        if count > MAX_PICTURES {
            return Err(Error::Limit {
                what: "pictures of an array",
                got: count as u64,
                limit: MAX_PICTURES as u64,
            });
        }
        Ok(Self {
            count,
            height,
            width,
            channels,
        })
    }
}

fn bad(path: &Path, name: &str, wrong: &str) -> Error {
    Error::BadConfig(format!("array {name}: {wrong}: {}", path.display()))
}

fn unpack(member: &mut impl Read, bytes: u64, damaged: impl Fn() -> Error) -> Result<TempPath> {
    if bytes > MAX_UNPACKED {
        return Err(Error::Limit {
            what: "the unpacked size of an array in bytes",
            got: bytes,
            limit: MAX_UNPACKED,
        });
    }
    let folder = std::env::temp_dir();
    let failed = |error| Error::io("write", &folder, error);
    let (mut file, path) = tempfile::NamedTempFile::new().map_err(failed)?.into_parts();
    let mut reader = BufReader::with_capacity(1 << 16, member.take(bytes));
    let mut block = vec![0; 1 << 16];
    let mut done = 0;
    loop {
        let read = reader.read(&mut block).map_err(|_| damaged())?;
        if read == 0 {
            break;
        }
        file.write_all(&block[..read]).map_err(failed)?;
        done += read as u64;
    }
    match done == bytes {
        true => Ok(path),
        false => Err(damaged()),
    }
}

/// The whole numbers of the array `name` of an `.npz` file, (N, K) as K a row, as MedMNIST has its labels.
///
/// # Errors
/// `BAD_CONFIG`; `LIMIT_EXCEEDED`.
pub(super) fn labels_of_npz(path: &Path, name: &str, limit: usize) -> Result<(usize, Vec<u64>)> {
    let damaged = || bad(path, name, "cannot be read");
    let read = || {
        let mut archive = NpzArchive::open(path).map_err(|_| damaged())?;
        let mut member = archive
            .zip_archive()
            .by_name(&format!("{name}.npy"))
            .map_err(|_| damaged())?;
        let header = NpyHeader::read(&mut member).ok_or_else(damaged)?;
        let columns = match header.shape[..] {
            [_] => 1,
            [_, columns] => columns,
            _ => return Err(bad(path, name, "expected a shape (N,) or (N, labels)")),
        };
        let (width, signed) = match header.descr.as_str() {
            "|u1" => (1, false),
            "|i1" => (1, true),
            "<u2" => (2, false),
            "<i2" => (2, true),
            "<u4" => (4, false),
            "<i4" => (4, true),
            "<u8" => (8, false),
            "<i8" => (8, true),
            _ => return Err(bad(path, name, "expected whole numbers")),
        };
        let count = header.count().ok_or_else(damaged)?;
        if count > limit || header.fortran_order {
            return Err(bad(
                path,
                name,
                "more labels than pictures, or in Fortran order",
            ));
        }
        let mut bytes = Vec::new();
        let wanted = (count as u64).saturating_mul(width as u64);
        if header.bytes(width as u64) != Some(member.size()) {
            return Err(damaged());
        }
        member
            .take(wanted)
            .read_to_end(&mut bytes)
            .map_err(|_| damaged())?;
        if bytes.len() as u64 != wanted {
            return Err(damaged());
        }
        let number = |bytes: &[u8]| {
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(bytes);
            let negative = signed && bytes[width - 1] >= 0x80;
            (!negative).then(|| u64::from_le_bytes(wide))
        };
        let numbers: Option<Vec<u64>> = bytes.chunks_exact(width).map(number).collect();
        let numbers = numbers.ok_or_else(|| bad(path, name, "expected labels of at least 0"))?;
        Ok((columns, numbers))
    };
    guarded(read, damaged)
}
