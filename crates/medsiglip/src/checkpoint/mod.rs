//! Checkpoints: safetensors (one file or sharded), big_vision `.npz`, the hub; key names, shape checks, position resampling.

mod positions;
mod tensor;

pub use positions::PositionResampling;
pub use tensor::{Dtype, Tensor, Values};

use std::path::{Path, PathBuf};

use crate::{Config, Result};

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder, or a big_vision `.npz` file.
    Local(PathBuf),
    /// A hub id such as `google/medsiglip-448`, with an optional revision after `@`.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

/// The default model: `google/medsiglip-448` on the hub (gated: its terms must be accepted).
pub const DEFAULT_MODEL: &str = "google/medsiglip-448";

/// How a checkpoint is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Picture height and width in pixels; `None` takes the checkpoint's.
    pub resolution: Option<usize>,
    /// How the position table is resampled where the resolution differs.
    pub positions: PositionResampling,
    /// Round the weights to this storage type; `None` keeps what is stored.
    pub dtype: Option<Dtype>,
    /// A second checkpoint that gives the MAP pooling head (and the text tower) that the first one lacks.
    pub head_from: Option<ModelSource>,
}

/// An opened checkpoint: its shapes, its tensors under their Hugging Face names, and the files beside them.
pub struct Checkpoint {}

impl Checkpoint {
    /// Opens a checkpoint; weights stay in their memory-mapped files. Every tensor's name and shape is checked against the config.
    ///
    /// # Errors
    /// `BAD_CONFIG`, `BAD_CHECKPOINT`, `BAD_TENSOR`, `HUB_ERROR`, `GATED_REPOSITORY`, `IO_ERROR`.
    pub fn open(source: &ModelSource, options: &OpenOptions) -> Result<Self> {
        let _ = (source, options);
        todo!()
    }

    /// The model's shapes, at the resolution asked for.
    pub fn config(&self) -> &Config {
        todo!()
    }

    /// The tensor `name` (Hugging Face naming, for example `vision_model.post_layernorm.weight`) of shape `shape`.
    ///
    /// # Errors
    /// `BAD_TENSOR` where it is missing or misshaped.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let _ = (name, shape);
        todo!()
    }

    /// The id for provenance: the hub id, or the folder's name (never its whole path).
    pub fn id(&self) -> &str {
        todo!()
    }

    /// SHA-256 over the weight files, in hexadecimal, prefixed `sha256:`. Reads every byte on the first call.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub fn checksum(&self) -> Result<&str> {
        todo!()
    }

    /// The folder that holds the tokenizer's files.
    pub fn folder(&self) -> &Path {
        todo!()
    }

    /// The text of `preprocessor_config.json`, where the checkpoint has one.
    pub fn preprocessor_config(&self) -> Option<&str> {
        todo!()
    }

    /// The resampling that was done to the position table; `None` where the resolution is the checkpoint's own.
    pub fn resampled(&self) -> Option<PositionResampling> {
        todo!()
    }
}
