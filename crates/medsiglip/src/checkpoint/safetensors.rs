//! The weights of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::files::{self, Weights};
use super::names::{self, ExpectedTensor};
use super::positions::PositionResampling;
use super::save::Drift;
use super::tensor::{Dtype, Tensor};
use crate::config::Architecture;
use crate::{Error, Result};

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Where `save` notes in a file's metadata how its position table was resampled.
pub(super) const POSITIONS_NOTE: &str = "medsiglip.positions";

/// Where `save` notes what was measured of rounded weights.
pub(super) const DRIFT_NOTE: &str = "medsiglip.drift";

/// A header of 900 tensors takes 100 kB, one of the largest language models 10 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Memory-mapped weight files; only their headers are read at opening.
pub(super) struct SafeTensors {
    files: Vec<PathBuf>,
    maps: Vec<Arc<Mmap>>,
    entries: HashMap<String, Entry>,
    resampled: Option<PositionResampling>,
    drift: Option<Drift>,
}

struct Entry {
    file: usize,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl SafeTensors {
    /// Maps the weight files of `folder` that hold tensors of ours.
    pub(super) fn open(folder: &Path, architecture: Architecture) -> Result<Self> {
        let mut weights = Self {
            files: Vec::new(),
            maps: Vec::new(),
            entries: HashMap::new(),
            resampled: None,
            drift: None,
        };
        let single = folder.join(WEIGHTS);
        let index = folder.join(INDEX);
        if single.exists() {
            weights.add_file(single, architecture)?;
        } else if index.exists() {
            let text = files::read_text(&index)?;
            for shard in shards(&text, architecture)? {
                weights.add_file(folder.join(shard), architecture)?;
            }
        } else {
            return Err(no_weights(folder));
        }
        Ok(weights)
    }

    /// Checks that exactly the `expected` tensors are there, each of its shape and of a float type.
    pub(super) fn check(&self, expected: &[ExpectedTensor]) -> Result<()> {
        let mut expected = Vec::from(expected);
        for tensor in expected.clone() {
            let entry = self.find(&tensor.name, &tensor.shape)?;
            if stored_type(&tensor.name, entry)? == Dtype::Int8 {
                let scales = ExpectedTensor {
                    name: names::scales(&tensor.name),
                    shape: vec![tensor.shape.first().copied().unwrap_or_default()],
                };
                let entry = self.find(&scales.name, &scales.shape)?;
                if entry.dtype != safetensors::Dtype::F32 {
                    return Err(bad_type(&scales.name, "f32 numbers", entry.dtype));
                }
                expected.push(scales);
            }
        }
        if self.entries.len() == expected.len() {
            return Ok(());
        }
        let wanted: BTreeSet<_> = expected.iter().map(|t| t.name.as_str()).collect();
        let surplus = self
            .entries
            .iter()
            .filter(|(name, _)| !wanted.contains(name.as_str()))
            .min_by_key(|(name, _)| name.as_str());
        surplus.map_or(Ok(()), |(name, entry)| {
            Err(files::surplus(name, &entry.shape))
        })
    }

    /// The entry `name`, checked to be of `shape`.
    fn find(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self.entries.get(name);
        let entry = entry.ok_or_else(|| files::missing(name, shape))?;
        if !names::same_shape(&entry.shape, shape) {
            return Err(files::misshaped(name, shape, &entry.shape));
        }
        Ok(entry)
    }

    /// The tensor that `entry` describes, 8-bit integers without their scales.
    fn read(&self, name: &str, entry: &Entry) -> Result<Tensor> {
        let dtype = stored_type(name, entry)?;
        let map = self.maps.get(entry.file);
        map.and_then(|map| {
            Tensor::from_mapped(map, entry.range.clone(), dtype, entry.shape.clone())
        })
        .ok_or_else(|| Error::BadTensor {
            name: name.to_owned(),
            expected: format!("numbers for shape {}", names::show(&entry.shape)),
            got: format!("{} bytes", entry.range.len()),
        })
    }

    fn add_file(&mut self, path: PathBuf, architecture: Architecture) -> Result<()> {
        let map = files::map(&path)?;
        let file = self.files.len();
        let (start, metadata) = header(&map, &path)?;
        let note = metadata.metadata().as_ref();
        let method = note.and_then(|notes| notes.get(POSITIONS_NOTE)?.parse().ok());
        self.resampled = self.resampled.or(method);
        let drift = note.and_then(|notes| serde_json::from_str(notes.get(DRIFT_NOTE)?).ok());
        self.drift = self.drift.or(drift);
        for (stored_name, info) in metadata.tensors() {
            let Some(name) = our_name(&stored_name, architecture) else {
                continue;
            };
            let (begin, end) = info.data_offsets;
            let entry = Entry {
                file,
                dtype: info.dtype,
                shape: info.shape.clone(),
                // `header` checked that the last offset ends the file
                range: start + begin..start + end,
            };
            if self.entries.insert(name.to_owned(), entry).is_some() {
                return Err(Error::BadCheckpoint(format!(
                    "tensor {name} is there twice: {}",
                    path.display()
                )));
            }
        }
        self.files.push(path);
        self.maps.push(map);
        Ok(())
    }
}

impl Weights for SafeTensors {
    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let tensor = self.read(name, entry)?;
        if tensor.dtype() != Dtype::Int8 {
            return Ok(Some(tensor));
        }
        let (name, rows) = (names::scales(name), vec![entry.shape[0]]);
        let scales = self.read(&name, self.find(&name, &rows)?)?;
        let tensor = tensor.with_scales(&scales.to_f32());
        tensor
            .map(Some)
            .ok_or_else(|| files::misshaped(&name, &rows, scales.shape()))
    }

    fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn resampled(&self) -> Option<PositionResampling> {
        self.resampled
    }

    fn drift(&self) -> Option<Drift> {
        self.drift
    }
}

/// The names of the shards that hold tensors of ours, sorted.
pub(super) fn shards(index: &str, architecture: Architecture) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = serde_json::from_str(index)
        .map_err(|e| Error::BadCheckpoint(format!("{INDEX}: expected a weight_map, got {e}")))?;
    let shards: BTreeSet<String> = index
        .weight_map
        .into_iter()
        .filter(|(name, _)| our_name(name, architecture).is_some())
        .map(|(_, shard)| shard)
        .collect();
    for shard in &shards {
        // Only names in the index's own folder: an index from outside must not lead elsewhere.
        if !shard.ends_with(".safetensors") || shard.contains(['/', '\\', ':', '\0']) {
            return Err(Error::BadCheckpoint(format!(
                "{INDEX}: expected plain names of .safetensors files, got {shard:?}"
            )));
        }
    }
    if shards.is_empty() {
        return Err(Error::BadCheckpoint(format!(
            "{INDEX}: expected the tensors of a SigLIP tower, got none"
        )));
    }
    Ok(shards)
}

/// Our name of a stored tensor; `None` for what is not ours: a language model's weights, index buffers.
fn our_name(stored: &str, architecture: Architecture) -> Option<&str> {
    if stored.ends_with("position_ids") {
        return None;
    }
    match architecture {
        Architecture::Siglip | Architecture::SiglipVision => Some(stored),
        // `model.` came with transformers 4.52; published checkpoints have either.
        Architecture::Gemma3 => stored
            .strip_prefix("model.")
            .unwrap_or(stored)
            .strip_prefix("vision_tower.")
            .filter(|name| name.starts_with("vision_model.")),
    }
}

/// A file's metadata and where its data starts, checked against the file's length.
///
/// The format's own crate checks offsets, shapes and sizes; its reader of whole buffers adds up
/// hostile offsets without a check, so the outer lengths are checked here.
fn header(bytes: &[u8], path: &Path) -> Result<(usize, Metadata)> {
    let bad = |what: String| Error::BadCheckpoint(format!("{what}: {}", path.display()));
    let cut = || bad("the safetensors file is cut, damaged, or no safetensors file".into());
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let length = u64::from_le_bytes(*length);
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(bad(
            "a git-lfs pointer stands in place of the weights; fetch them with git lfs pull".into(),
        ));
    }
    if length > MAX_HEADER_BYTES {
        return Err(bad(format!(
            "safetensors header: expected at most {MAX_HEADER_BYTES} bytes, got a length of {length}"
        )));
    }
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let header = header.ok_or_else(cut)?;
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|e| bad(format!("safetensors header: {e}")))?;
    let data = rest.len() - header.len();
    if metadata.data_len() != data {
        return Err(bad(format!(
            "safetensors data: expected {} bytes, got {data}",
            metadata.data_len()
        )));
    }
    Ok((8 + header.len(), metadata))
}

/// Our name of a stored type. Integers are known for the weights of linear layers alone.
fn stored_type(name: &str, entry: &Entry) -> Result<Dtype> {
    match entry.dtype {
        safetensors::Dtype::F32 => Ok(Dtype::F32),
        safetensors::Dtype::BF16 => Ok(Dtype::Bf16),
        safetensors::Dtype::F16 => Ok(Dtype::F16),
        safetensors::Dtype::I8 if names::is_linear(name, &entry.shape) => Ok(Dtype::Int8),
        other => Err(bad_type(name, "f32, bf16 or f16 numbers", other)),
    }
}

fn bad_type(name: &str, expected: &str, got: safetensors::Dtype) -> Error {
    Error::BadTensor {
        name: name.to_owned(),
        expected: expected.into(),
        got: format!("{got:?}"),
    }
}

/// Why a folder has no weights for us.
fn no_weights(folder: &Path) -> Error {
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    if pickled.iter().any(|name| folder.join(name).exists()) {
        return Error::Unsupported(format!(
            "expected {WEIGHTS}, got a pickled pytorch_model.bin, which can run code: save it anew \
             with transformers' save_pretrained(safe_serialization=True): {}",
            folder.display()
        ));
    }
    Error::BadCheckpoint(format!(
        "expected {WEIGHTS} or {INDEX}, got neither: {}",
        folder.display()
    ))
}
