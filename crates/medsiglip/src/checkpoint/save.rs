//! [`save`]: a checkpoint to a folder in the Hugging Face layout, which transformers reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ::safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names::{self, ExpectedTensor, expected_tensors};
use super::safetensors::{DRIFT_NOTE, INDEX, POSITIONS_NOTE, WEIGHTS};
use super::tensor::{Dtype, Tensor, Values};
use super::{Checkpoint, files};
use crate::{Error, Result, folder};

/// What belongs to the text tower; files that are not there are not needed.
pub(crate) const TOKENIZER_FILES: [&str; 5] = [
    "tokenizer.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// How far embeddings of rounded weights are from those of the weights as they were stored: the lowest cosine of some
/// inputs, `None` where the model has no such tower.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Of pictures.
    pub cosine_images: Option<f32>,
    /// Of texts.
    pub cosine_texts: Option<f32>,
}

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct SaveOptions {
    /// Round the weights to this storage type, as [`OpenOptions::dtype`](super::OpenOptions::dtype); `None` keeps what is stored.
    pub dtype: Option<Dtype>,
    /// Cut the weights into files of at most this many bytes; a larger tensor gets a file of its own.
    pub max_shard_bytes: Option<u64>,
    /// What was measured of the rounding, to be noted in the files.
    pub drift: Option<Drift>,
    /// Asked now and then whether to stop.
    pub stop: Option<fn() -> bool>,
}

/// Bytes written between two questions whether to stop.
const WRITE_BYTES: usize = 16 << 20;

/// Writes `checkpoint` to `folder` as transformers' `SiglipModel.from_pretrained` reads it (`SiglipVisionModel` where
/// there is no text tower), at the resolution in force.
///
/// Memory holds one tensor at a time. The folder appears whole or not at all. The weight files' metadata says how they
/// were made: `medsiglip.version`, `.source` and `.source_checksum` ([`Checkpoint::id`], [`Checkpoint::checksum`]),
/// `.resolution`, `.positions` where the position table was resampled, which [`Checkpoint::resampled`] reads again, and
/// `.drift` where it was measured, which [`Checkpoint::drift`] reads again.
///
/// # Errors
/// `BAD_ARGUMENT` where `folder` exists and is not empty; `IO_ERROR`, for example a full disk; `BAD_TENSOR` where a
/// number does not fit the type; `INTERRUPTED` where `stop` said so, and then nothing is left behind.
pub fn save(checkpoint: &Checkpoint, folder: &Path, options: &SaveOptions) -> Result<()> {
    save_with(checkpoint, folder, options, |_| false, &[])
}

/// As [`save`], with further text files, by name. A folder that is there is replaced where it holds only files whose
/// names are `ours`.
pub(crate) fn save_with(
    checkpoint: &Checkpoint,
    folder: &Path,
    options: &SaveOptions,
    ours: fn(&str) -> bool,
    texts: &[(&str, &str)],
) -> Result<()> {
    if options.max_shard_bytes == Some(0) {
        return Err(Error::BadArgument(
            "largest weight file: expected at least 1 byte, got 0".into(),
        ));
    }
    folder::write(folder, ours, |beside| {
        let writer = Writer {
            checkpoint,
            options,
            folder: beside,
        };
        writer.weights()?;
        writer.config()?;
        writer.companions()?;
        for (name, text) in texts {
            writer.text(name, text)?;
        }
        writer.check_stop()
    })
}

/// Notes in a weight file's metadata.
type About = BTreeMap<&'static str, String>;

struct Writer<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a SaveOptions,
    folder: &'a Path,
}

/// What is written under one name.
struct Planned {
    /// Its name and shape in the file.
    stored: ExpectedTensor,
    dtype: Dtype,
    bytes: u64,
    /// The tensor that it is, or whose scales it is.
    tensor: ExpectedTensor,
}

impl Planned {
    fn new(stored: ExpectedTensor, dtype: Dtype, tensor: ExpectedTensor) -> Self {
        let numbers: usize = stored.shape.iter().product();
        Self {
            bytes: (numbers * dtype.size()) as u64,
            stored,
            dtype,
            tensor,
        }
    }

    fn is_scales(&self) -> bool {
        self.stored.name != self.tensor.name
    }
}

impl Writer<'_> {
    fn weights(&self) -> Result<()> {
        let max_bytes = self.options.max_shard_bytes.unwrap_or(u64::MAX);
        let shards = shards(self.plan()?, max_bytes);
        let about = self.about()?;
        if let [shard] = shards.as_slice() {
            return self.weight_file(WEIGHTS, shard, &about);
        }
        let mut weight_map = serde_json::Map::new();
        let mut total = 0;
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            self.weight_file(&name, shard, &about)?;
            for planned in shard {
                total += planned.bytes;
                weight_map.insert(planned.stored.name.clone(), json!(name));
            }
        }
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        self.text(INDEX, &format!("{index:#}\n"))
    }

    /// Every tensor, wider types first: the order in which all stay aligned.
    fn plan(&self) -> Result<Vec<Planned>> {
        let mut plan = Vec::new();
        for tensor in expected_tensors(self.checkpoint.config()) {
            self.check_stop()?;
            let (name, shape) = (&tensor.name, &tensor.shape);
            let stored = self.checkpoint.stored(name)?;
            let stored = stored.ok_or_else(|| files::missing(name, shape))?.dtype();
            // As the tensor will be when it is read and rounded, without reading it yet.
            let rounded = [self.checkpoint.dtype, self.options.dtype];
            let dtype = rounded.into_iter().flatten().fold(stored, |stored, dtype| {
                Tensor::storage_type(dtype, stored, name, shape)
            });
            if dtype == Dtype::Int8 {
                let scales = ExpectedTensor {
                    name: names::scales(&tensor.name),
                    shape: tensor.shape[..1].to_vec(),
                };
                plan.push(Planned::new(scales, Dtype::F32, tensor.clone()));
            }
            plan.push(Planned::new(tensor.clone(), dtype, tensor));
        }
        plan.sort_by_key(|planned| std::cmp::Reverse(planned.dtype.size()));
        Ok(plan)
    }

    fn weight_file(&self, name: &str, plan: &[Planned], about: &About) -> Result<()> {
        let path = self.folder.join(name);
        let io = |e| Error::io("write", &path, e);
        let file = File::create(&path).map_err(io)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header(plan, about)?).map_err(io)?;
        for planned in plan {
            let tensor = self.tensor(planned)?;
            let values = match planned.is_scales() {
                true => Values::F32(tensor.scales()),
                false => tensor.values(),
            };
            for bytes in values.as_bytes().chunks(WRITE_BYTES) {
                self.check_stop()?;
                out.write_all(bytes).map_err(io)?;
            }
        }
        let file = out.into_inner().map_err(|e| io(e.into_error()))?;
        // A full disk may be told as late as here.
        file.sync_all().map_err(io)
    }

    fn tensor(&self, planned: &Planned) -> Result<Tensor> {
        let (name, shape) = (&planned.tensor.name, &planned.tensor.shape);
        let dtype = match planned.is_scales() {
            true => Dtype::Int8,
            false => planned.dtype,
        };
        self.checkpoint.tensor(name, shape)?.to_dtype(dtype, name)
    }

    /// What the weight files say of themselves, in a fixed order: the same checkpoint gives the same bytes.
    fn about(&self) -> Result<About> {
        self.check_stop()?;
        let checkpoint = self.checkpoint;
        let mut about = BTreeMap::from([
            // transformers refuses a file that does not say which library it is for
            ("format", "pt".to_owned()),
            ("medsiglip.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("medsiglip.source", checkpoint.id().to_owned()),
            (
                "medsiglip.resolution",
                checkpoint.config().vision.image_size.to_string(),
            ),
        ]);
        if !checkpoint.weights.files().is_empty() {
            let checksum = checkpoint.checksum()?.to_owned();
            about.insert("medsiglip.source_checksum", checksum);
        }
        if let Some(method) = checkpoint.resampled() {
            about.insert(POSITIONS_NOTE, method.to_string());
        }
        if let Some(drift) = self.options.drift.or(checkpoint.drift()) {
            about.insert(DRIFT_NOTE, json!(drift).to_string());
        }
        Ok(about)
    }

    fn check_stop(&self) -> Result<()> {
        match self.options.stop {
            Some(stop) if stop() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn config(&self) -> Result<()> {
        let config = self.checkpoint.config();
        let (d, p) = (config.vision.hidden_size, config.vision.patch_size);
        let stored = || {
            let weight = "vision_model.embeddings.patch_embedding.weight";
            Ok(self.checkpoint.tensor(weight, &[d, 3, p, p])?.dtype())
        };
        // Integers hold the weights of linear layers alone: the others' type is the model's.
        let rounded = self.options.dtype.filter(|dtype| *dtype != Dtype::Int8);
        let mut json = config.to_value();
        json["torch_dtype"] = match rounded.map_or_else(stored, Ok)? {
            Dtype::F32 | Dtype::Int8 => "float32",
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
        }
        .into();
        self.text("config.json", &format!("{json:#}\n"))
    }

    /// The files beside the weights: how pictures and texts are prepared.
    fn companions(&self) -> Result<()> {
        let size = self.checkpoint.config().vision.image_size;
        if let Some(text) = self.checkpoint.preprocessor_config() {
            self.text("preprocessor_config.json", &resized(text, size)?)?;
        }
        if self.checkpoint.config().text.is_none() {
            return Ok(());
        }
        for name in TOKENIZER_FILES {
            let from = self.checkpoint.folder().join(name);
            if from.exists() {
                files::open(&from)?;
                let to = self.folder.join(name);
                folder::copy(&from, &to)?;
            }
        }
        Ok(())
    }

    fn text(&self, name: &str, text: &str) -> Result<()> {
        folder::write_file(&self.folder.join(name), text.as_bytes())
    }
}

/// Cuts the plan into files, each as large as allowed.
fn shards(plan: Vec<Planned>, max_bytes: u64) -> Vec<Vec<Planned>> {
    let mut shards: Vec<Vec<Planned>> = Vec::new();
    let mut filled = 0u64;
    for planned in plan {
        let bytes = planned.bytes;
        match shards.last_mut() {
            Some(shard) if filled.saturating_add(bytes) <= max_bytes => {
                filled += bytes;
                shard.push(planned);
            }
            _ => {
                filled = bytes;
                shards.push(vec![planned]);
            }
        }
    }
    shards
}

/// The length and the header of a safetensors file, padded so that the data is aligned to 8 bytes.
fn header(plan: &[Planned], about: &About) -> Result<Vec<u8>> {
    let mut offset = 0;
    let mut infos = Vec::with_capacity(plan.len());
    for planned in plan {
        let end = offset + planned.bytes as usize;
        let info = TensorInfo {
            dtype: match planned.dtype {
                Dtype::F32 => ::safetensors::Dtype::F32,
                Dtype::Bf16 => ::safetensors::Dtype::BF16,
                Dtype::F16 => ::safetensors::Dtype::F16,
                Dtype::Int8 => ::safetensors::Dtype::I8,
            },
            shape: planned.stored.shape.clone(),
            data_offsets: (offset, end),
        };
        infos.push((planned.stored.name.clone(), info));
        offset = end;
    }
    // the format's own crate would write `about` in another order each time
    let text = Metadata::new(None, infos)
        .ok()
        .and_then(|metadata| serde_json::to_string(&metadata).ok())
        .and_then(|tensors| {
            let about = serde_json::to_string(about).ok()?;
            Some(format!(
                "{{\"__metadata__\":{about},{}",
                tensors.strip_prefix('{')?
            ))
        })
        .ok_or_else(|| Error::BadCheckpoint("the tensors fit no safetensors header".into()))?;
    let length = text.len().next_multiple_of(8);
    let mut bytes = (length as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(8 + length, b' ');
    Ok(bytes)
}

/// A `preprocessor_config.json` for pictures of `size` pixels and SigLIP's processor.
fn resized(text: &str, size: usize) -> Result<String> {
    let mut json: Value = serde_json::from_str(text).map_err(|e| {
        Error::BadConfig(format!("preprocessor_config.json is not valid json: {e}"))
    })?;
    let Some(object) = json.as_object_mut() else {
        return Err(Error::BadConfig(
            "preprocessor_config.json: expected an object".into(),
        ));
    };
    object.insert("size".into(), json!({"height": size, "width": size}));
    let processor = object.get("image_processor_type").and_then(Value::as_str);
    if processor.is_some_and(|name| !name.starts_with("Siglip")) {
        // Gemma's processor prepares the same pixels, and cuts and counts them for its language model.
        object.insert("image_processor_type".into(), json!("SiglipImageProcessor"));
        object.insert("processor_class".into(), json!("SiglipProcessor"));
        object.retain(|key, _| !key.contains("pan_and_scan") && key != "image_seq_length");
    }
    Ok(format!("{json:#}\n"))
}
