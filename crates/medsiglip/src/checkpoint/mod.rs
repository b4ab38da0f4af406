//! Checkpoints: safetensors (one file or sharded), big_vision `.npz`, the hub; key names, shape checks, position resampling.

mod source;
mod names;
mod tensor;
mod files;
mod safetensors;
mod npz;
mod bigvision;
mod positions;
mod checksum;
#[cfg(feature = "hub")]
mod hub;
mod save;
#[cfg(feature = "train")]
mod memory;
mod mini;

pub(crate) use names::CLASSIFIER;
pub use names::{ExpectedTensor, expected_tensors};
pub use positions::PositionResampling;
pub use save::{Drift, SaveOptions, save};
#[cfg(feature = "train")]
pub(crate) use save::{TOKENIZER_FILES, save_with};
pub use source::{DEFAULT_MODEL, MEDSIGLIP, ModelSource};
pub use tensor::{Dtype, Tensor, Values};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use self::bigvision::BigVision;
use self::files::Weights;
use self::safetensors::SafeTensors;
use crate::config::{Architecture, MAX_GRID, MAX_SIDE};
use crate::tokenizer::TokenizerFile;
use crate::{Config, Error, Result};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";

/// Tells how a download gets on: the file's name, bytes done, bytes in all.
pub type Progress = fn(file: &str, done: u64, total: u64);

/// How a checkpoint is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Picture height and width in pixels; `None` takes the checkpoint's.
    pub resolution: Option<usize>,
    /// How the position table is resampled where the resolution differs.
    pub positions: PositionResampling,
    /// Round the weights to this storage type; `None` keeps what is stored. Tensors with fewer than two axes longer
    /// than 1 are never rounded: `logit_scale`, `logit_bias`, norms, biases and the probe save nothing and cost accuracy.
    pub dtype: Option<Dtype>,
    /// A second checkpoint that gives the MAP pooling head (and the text tower) that the first one lacks.
    pub head_from: Option<ModelSource>,
    /// Told how a download from the hub gets on.
    pub progress: Option<Progress>,
}

/// An opened checkpoint: its shapes, its tensors under their Hugging Face names, and the files beside them.
pub struct Checkpoint {
    id: String,
    folder: PathBuf,
    config: Config,
    preprocessor_config: Option<String>,
    weights: Box<dyn Weights>,
    dtype: Option<Dtype>,
    /// The position table at a resolution other than the checkpoint's own.
    positions: Option<(PositionResampling, Tensor)>,
    /// The tensors of a classifier that this checkpoint was given.
    classifier: BTreeMap<String, Tensor>,
    /// Where the tensors come from that this checkpoint lacks.
    head: Option<Box<Checkpoint>>,
    checksum: OnceLock<String>,
    /// The files beside the weights that decide the result.
    companions: Vec<PathBuf>,
    config_checksum: OnceLock<String>,
    /// The folder, where it is there for this checkpoint alone; removed with the last copy.
    _own: Option<Arc<TempDir>>,
}

impl Checkpoint {
    /// Opens a checkpoint; weights stay in their memory-mapped files. Every tensor's name and shape is checked against the config.
    ///
    /// A folder holds `config.json` and `model.safetensors`, or shards with `model.safetensors.index.json`. A Gemma 3
    /// or MedGemma folder gives its vision tower, without a pooling head unless [`OpenOptions::head_from`] has one. A
    /// big_vision `.npz` has its shapes from a `config.json` beside it, or from its arrays.
    ///
    /// # Errors
    /// `BAD_CONFIG`, `BAD_CHECKPOINT`, `BAD_TENSOR`, `HUB_ERROR`, `GATED_REPOSITORY`, `IO_ERROR`; `BAD_ARGUMENT` for a
    /// resolution or a second checkpoint that does not fit; `UNSUPPORTED` for another kind of model.
    pub fn open(source: &ModelSource, options: &OpenOptions) -> Result<Self> {
        let mut checkpoint = match source {
            ModelSource::Mini => {
                let (folder, own) = mini::folder()?;
                let checkpoint = Self::open_folder(&folder, DEFAULT_MODEL.into())?;
                Self {
                    _own: own.map(Arc::new),
                    ..checkpoint
                }
            }
            ModelSource::Local(path) if is_npz(path) => Self::open_npz(path)?,
            ModelSource::Local(path) => Self::open_folder(path, local_id(path))?,
            ModelSource::Hub { repo, revision } => {
                let folder = hub_folder(repo, revision, options.progress)?;
                Self::open_folder(&folder, source.to_string())?
            }
        };
        if let Some(second) = &options.head_from {
            checkpoint.take_missing_from(second, options.progress)?;
        }
        if let Some(resolution) = options.resolution {
            checkpoint.set_resolution(resolution, options.positions)?;
        }
        checkpoint.dtype = options.dtype;
        Ok(checkpoint)
    }

    /// The model's shapes, at the resolution asked for.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tensor `name` (Hugging Face naming, for example `vision_model.post_layernorm.weight`) of shape `shape`.
    ///
    /// # Errors
    /// `BAD_TENSOR` where it is missing or misshaped, or has a number too large for the storage type asked for.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self
            .stored(name)?
            .ok_or_else(|| files::missing(name, shape))?;
        if !names::same_shape(tensor.shape(), shape) {
            return Err(files::misshaped(name, shape, tensor.shape()));
        }
        let tensor = tensor.reshaped(shape);
        match self.dtype {
            Some(dtype) => tensor.stored_as(dtype, name),
            None => Ok(tensor),
        }
    }

    /// The id for provenance: the hub id (with `@revision` unless that is `main`), or the folder's or file's name, never
    /// its whole path. Where a second checkpoint gives tensors, `first+second`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 over the weight files, in hexadecimal, prefixed `sha256:`. Reads every byte on the first call.
    ///
    /// One file: its own. Shards (those opened): that of the lines `name sha256\n`, sorted by name. With a second
    /// checkpoint: that of the lines `first\nsecond\n`. A file in the hub's cache is not read: its link carries its SHA-256. That of another
    /// large file is remembered in the user's cache (`medsiglip/sha256`) for as long as the file does not change.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub fn checksum(&self) -> Result<&str> {
        if let Some(checksum) = self.checksum.get() {
            return Ok(checksum);
        }
        let mut sum = checksum::of_files(self.weights.files())?;
        if let Some(head) = &self.head {
            let second = head.checksum()?.trim_start_matches("sha256:");
            sum = checksum::of_text(&format!("{sum}\n{second}\n"));
        }
        Ok(self.checksum.get_or_init(|| format!("sha256:{sum}")))
    }

    /// SHA-256 over the small files that decide the result, in hexadecimal, prefixed `sha256:`: `config.json`,
    /// `preprocessor_config.json`, and for a text tower the tokenizer's file (`tokenizer.json`, else `spiece.model`).
    ///
    /// That of the lines `name sha256\n`, sorted by name; files that are not there have no line. With a second
    /// checkpoint: that of the lines `first\nsecond\n`.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub fn config_checksum(&self) -> Result<&str> {
        if let Some(checksum) = self.config_checksum.get() {
            return Ok(checksum);
        }
        let mut sum = checksum::of_lines(&self.companions)?;
        if let Some(head) = &self.head {
            let second = head.config_checksum()?.trim_start_matches("sha256:");
            sum = checksum::of_text(&format!("{sum}\n{second}\n"));
        }
        Ok(self.config_checksum.get_or_init(|| format!("sha256:{sum}")))
    }

    /// The folder that holds the tokenizer's files: that of the checkpoint which gives the text tower.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text of `preprocessor_config.json`, where the checkpoint has one.
    pub fn preprocessor_config(&self) -> Option<&str> {
        self.preprocessor_config.as_deref()
    }

    /// The resampling that was done to the position table, here or by [`save`] when it wrote this checkpoint; `None` where
    /// the table is the one that was trained, as far as is known.
    pub fn resampled(&self) -> Option<PositionResampling> {
        match &self.positions {
            Some((method, _)) => Some(*method),
            None => self.weights.resampled(),
        }
    }

    /// What was measured of the rounding when [`save`] wrote this checkpoint with rounded weights.
    pub fn drift(&self) -> Option<Drift> {
        self.weights.drift()
    }

    fn open_folder(folder: &Path, id: String) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::BadArgument(format!(
                "model: expected a folder with config.json and model.safetensors, or a .npz file: {}",
                folder.display()
            )));
        }
        let json = files::read_text(&folder.join(CONFIG))?;
        let config = Config::from_json(&json)?;
        let weights = SafeTensors::open(folder, Architecture::from_json(&json)?)?;
        weights.check(&expected_tensors(&config))?;
        Self::new(id, folder, config, Box::new(weights))
    }

    /// A big_vision file; a `config.json` beside it comes before what its shapes tell.
    fn open_npz(path: &Path) -> Result<Self> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let json = files::read_text_if_there(&folder.join(CONFIG))?;
        let config = json.as_deref().map(Config::from_json).transpose()?;
        let (weights, config) = BigVision::open(path, config)?;
        Self::new(local_id(path), folder, config, Box::new(weights))
    }

    fn new(id: String, folder: &Path, config: Config, weights: Box<dyn Weights>) -> Result<Self> {
        let preprocessor = folder.join(PREPROCESSOR);
        Ok(Self {
            id,
            folder: folder.to_path_buf(),
            companions: companions(folder, config.text.is_some()),
            config,
            preprocessor_config: files::read_text_if_there(&preprocessor)?,
            weights,
            dtype: None,
            positions: None,
            classifier: BTreeMap::new(),
            head: None,
            checksum: OnceLock::new(),
            config_checksum: OnceLock::new(),
            _own: None,
        })
    }

    /// The tensor as it is stored, here or in the second checkpoint.
    fn stored(&self, name: &str) -> Result<Option<Tensor>> {
        if let (names::POSITIONS, Some((_, table))) = (name, &self.positions) {
            return Ok(Some(table.clone()));
        }
        if let Some(tensor) = self.classifier.get(name) {
            return Ok(Some(tensor.clone()));
        }
        let own = self.weights.tensor(name)?;
        match (own, &self.head) {
            (None, Some(head)) => head.stored(name),
            (own, _) => Ok(own),
        }
    }

    /// Takes the pooling head and the text tower, as far as they are missing here, from a second checkpoint.
    fn take_missing_from(
        &mut self,
        source: &ModelSource,
        progress: Option<Progress>,
    ) -> Result<()> {
        let options = OpenOptions {
            progress,
            ..OpenOptions::default()
        };
        let second = Self::open(source, &options)?;
        let lacks_head = !self.config.vision.use_head;
        if self.config.classes.is_some() || !lacks_head && self.config.text.is_some() {
            return Err(Error::BadArgument(format!(
                "head from {}: expected a checkpoint without a pooling head or text tower to give it to, got {}, which needs neither",
                second.id, self.id
            )));
        }
        if lacks_head {
            check_head_fits(&self.config, &second)?;
            self.config.vision.use_head = true;
        }
        if self.config.text.is_none() && second.config.text.is_some() {
            self.config.text = second.config.text.clone();
            self.folder = second.folder.clone();
            self.config.check()?;
        }
        self.id = format!("{}+{}", self.id, second.id);
        self.head = Some(Box::new(second));
        Ok(())
    }

    fn set_resolution(&mut self, resolution: usize, method: PositionResampling) -> Result<()> {
        let vision = &mut self.config.vision;
        if resolution == vision.image_size {
            return Ok(());
        }
        let patch = vision.patch_size;
        if resolution == 0 || !resolution.is_multiple_of(patch) {
            return Err(Error::BadArgument(format!(
                "resolution: expected a multiple of the patch size, {patch}, or the checkpoint's own {}, got {resolution}",
                vision.image_size
            )));
        }
        // as `Config::check` has it: what `save` writes must open again
        if resolution > MAX_SIDE {
            return Err(Error::Limit {
                what: "the resolution in pixels",
                got: resolution as u64,
                limit: MAX_SIDE as u64,
            });
        }
        if resolution / patch > MAX_GRID {
            return Err(Error::Limit {
                what: "the number of patches along one side",
                got: (resolution / patch) as u64,
                limit: MAX_GRID as u64,
            });
        }
        let (own, width) = (vision.grid(), vision.hidden_size);
        vision.image_size = resolution;
        let grid = vision.grid();
        if grid == own {
            return Ok(());
        }
        let table = self.tensor(names::POSITIONS, &[own * own, width])?;
        let resampled = method.resample(&table.to_f32(), own, grid, width)?;
        let resampled = Tensor::from_f32(vec![grid * grid, width], resampled);
        self.positions = Some((method, resampled));
        Ok(())
    }
}

/// Whether `second`'s pooling head fits a vision tower of `config`'s shapes.
fn check_head_fits(config: &Config, second: &Checkpoint) -> Result<()> {
    let (ours, theirs) = (&config.vision, &second.config.vision);
    if !theirs.use_head {
        return Err(Error::BadArgument(format!(
            "head from {}: expected a checkpoint with a pooling head, got one without",
            second.id
        )));
    }
    for (what, expected, got) in [
        ("hidden_size", ours.hidden_size, theirs.hidden_size),
        (
            "intermediate_size",
            ours.intermediate_size,
            theirs.intermediate_size,
        ),
        (
            "num_attention_heads",
            ours.num_attention_heads,
            theirs.num_attention_heads,
        ),
    ] {
        if expected != got {
            return Err(Error::BadArgument(format!(
                "head from {}: expected a {what} of {expected}, got {got}",
                second.id
            )));
        }
    }
    Ok(())
}

/// The files of `folder` that decide the result beside the weights; the tokenizer's is the one that it is read from.
fn companions(folder: &Path, has_text: bool) -> Vec<PathBuf> {
    let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let tokenizers = [TokenizerFile::TokenizerJson, TokenizerFile::Spiece];
    let tokenizer = tokenizers.iter().find_map(|file| there(file.name()));
    let mut files: Vec<_> = [CONFIG, PREPROCESSOR]
        .into_iter()
        .filter_map(there)
        .collect();
    files.extend(tokenizer.filter(|_| has_text));
    files
}

fn is_npz(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ext| ext.eq_ignore_ascii_case("npz"))
}

#[cfg(feature = "hub")]
fn hub_folder(repo: &str, revision: &str, progress: Option<Progress>) -> Result<PathBuf> {
    hub::Hub::from_env()?.snapshot(repo, revision, progress)
}

#[cfg(not(feature = "hub"))]
fn hub_folder(repo: &str, _: &str, _: Option<Progress>) -> Result<PathBuf> {
    Err(Error::Unsupported(format!(
        "this build cannot download {repo}: it was made without the feature `hub`; use a local folder"
    )))
}

/// The last part of a path, which tells nothing of whose machine it is on.
fn local_id(path: &Path) -> String {
    let whole = path.canonicalize();
    let name = whole.as_deref().unwrap_or(path).file_name();
    name.map_or("model".into(), |n| n.to_string_lossy().into_owned())
}
