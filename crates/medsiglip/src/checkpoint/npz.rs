//! The arrays of a `.npz` file: a zip of `.npy` files, each measured before it is trusted.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use npyz::npz::{NpzArchive, array_name_from_file_name};

use super::files;
use super::tensor::Dtype;
use crate::npy::NpyHeader;
use crate::{Error, Result};

/// One array: its type, its shape and its little-endian bytes in C order.
pub(super) struct Array {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    storage: Storage,
    range: Range<usize>,
}

enum Storage {
    /// Stored plainly (`np.savez`): the file itself, mapped.
    Mapped(Arc<Mmap>),
    /// Compressed (`np.savez_compressed`): unpacked at opening.
    Unpacked(Vec<u8>),
}

/// Random weights hardly compress; what unpacks to more than this many times its file is no checkpoint.
const MAX_UNPACKING: u64 = 64;
/// But a small file may be all zeros.
const UNPACKING_ALLOWANCE: u64 = 64 << 20;

impl Array {
    pub(super) fn bytes(&self) -> &[u8] {
        let all = match &self.storage {
            Storage::Mapped(map) => &map[..],
            Storage::Unpacked(bytes) => bytes,
        };
        all.get(self.range.clone()).unwrap_or_default()
    }
}

/// The arrays of the file at `path` whose names `wanted` renames to a key.
pub(super) fn read(
    path: &Path,
    wanted: impl Fn(&str) -> Option<String>,
) -> Result<HashMap<String, Array>> {
    let damaged = |what: &str| Error::BadCheckpoint(format!("npz: {what}: {}", path.display()));
    let map = files::map(path)?;
    let mut archive =
        NpzArchive::new(Cursor::new(&map[..])).map_err(|e| damaged(&e.to_string()))?;
    let zip = archive.zip_archive();
    let limit = (map.len() as u64)
        .saturating_mul(MAX_UNPACKING)
        .max(UNPACKING_ALLOWANCE);
    let mut unpacked = 0u64;
    let mut arrays = HashMap::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).map_err(|e| damaged(&e.to_string()))?;
        let Some(key) = array_name_from_file_name(file.name()).and_then(&wanted) else {
            continue;
        };
        let plain =
            file.compression().to_string() == "Stored" && file.size() == file.compressed_size();
        let (storage, whole) = if plain {
            (
                Storage::Mapped(Arc::clone(&map)),
                stored_range(file.data_start(), file.size()),
            )
        } else {
            unpacked = unpacked.saturating_add(file.size());
            if unpacked > limit {
                return Err(Error::Limit {
                    what: "the unpacked size of a .npz file in bytes",
                    got: unpacked,
                    limit,
                });
            }
            let size = file.size();
            let bytes =
                unpack(&mut file, size).ok_or_else(|| damaged(&format!("cannot unpack {key}")))?;
            let whole = 0..bytes.len();
            (Storage::Unpacked(bytes), Some(whole))
        };
        let array = whole.and_then(|whole| array(storage, whole));
        let array = array.ok_or_else(|| damaged(&format!("{key} is cut or no .npy file")))??;
        if arrays.insert(key.clone(), array).is_some() {
            return Err(damaged(&format!("{key} is there twice")));
        }
    }
    Ok(arrays)
}

fn stored_range(start: u64, size: u64) -> Option<Range<usize>> {
    let end = start.checked_add(size)?;
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// The bytes of a compressed file; `None` where they are not as many as it says. Memory grows with what is really there.
fn unpack(file: impl Read, size: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(size.checked_add(1)?)
        .read_to_end(&mut bytes)
        .ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

/// The array in the `.npy` file at `whole`; `None` where it is cut or malformed.
fn array(storage: Storage, whole: Range<usize>) -> Option<Result<Array>> {
    let start = whole.start;
    let mut array = Array {
        dtype: Dtype::F32,
        shape: Vec::new(),
        storage,
        range: whole,
    };
    let header = NpyHeader::parse(array.bytes())?;
    let unsupported = |what: String| Some(Err(Error::Unsupported(what)));
    array.dtype = match header.descr.as_str() {
        "<f4" => Dtype::F32,
        "<f2" => Dtype::F16,
        // numpy has no bfloat16: it keeps its two bytes as an opaque type
        "|V2" | "<V2" => Dtype::Bf16,
        other => {
            return unsupported(format!(
                "npz: expected arrays of <f4, <f2 or |V2 (bfloat16), got {other}"
            ));
        }
    };
    if header.fortran_order && header.shape.len() > 1 {
        return unsupported("npz: expected arrays in C order, got Fortran order".into());
    }
    let numbers = header.count()?;
    let data = array.bytes().len().checked_sub(header.length)?;
    if numbers.checked_mul(array.dtype.size())? != data {
        return None;
    }
    array.range.start = start + header.length;
    array.shape = header.shape;
    Some(Ok(array))
}
