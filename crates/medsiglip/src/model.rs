//! [`Model`]: checkpoint, preprocessor, tokenizer and encoder in one; [`Encoder`]: the seam to what runs the towers.

use crate::checkpoint::{Checkpoint, ModelSource, OpenOptions};
use crate::embedding::{Embeddings, Provenance};
use crate::preprocess::{Padding, PixelValues, Preprocessor, Recipe};
use crate::tokenizer::{Canonicalizer, TokenIds, Tokenizer};
use crate::{Config, Result};

/// What to keep of a forward pass beside the pooled embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The last block's output after the final layer norm.
    pub last_hidden_state: bool,
    /// The input of the first block and the output of every block.
    pub hidden_states: bool,
    /// The MAP head's attention (vision tower only).
    pub map_attention: bool,
}

/// What a tower gives for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerOutput {
    /// Pooled embeddings, (B, D), not normalised; absent where the vision tower has no pooling head.
    pub pooled: Option<Embeddings>,
    /// (B, N, D), after the final layer norm.
    pub last_hidden_state: Option<Vec<f32>>,
    /// L + 1 arrays of (B, N, D): the embeddings, then each block's output.
    pub hidden_states: Option<Vec<Vec<f32>>>,
    /// (B, H, N): how much the probe looks at each patch; each row sums to 1.
    pub map_attention: Option<Vec<f32>>,
}

/// The two towers, whatever runs them. All implementations give the same numbers within their precision.
pub trait Encoder: Send + Sync {
    /// Runs the vision tower.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the pixel values do not fit the tower.
    fn encode_images(&self, pixels: &PixelValues, keep: Keep) -> Result<TowerOutput>;

    /// Runs the text tower.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the ids do not fit the tower, `UNSUPPORTED` where there is no text tower.
    fn encode_texts(&self, ids: &TokenIds, keep: Keep) -> Result<TowerOutput>;

    /// Where the towers run, for provenance: `cpu`.
    fn device(&self) -> &str;
}

/// Where the towers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The best one there is; today the CPU.
    #[default]
    Auto,
    /// Our CPU engine.
    Cpu,
}

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Weights: resolution, position resampling, storage type, where a missing head comes from.
    pub checkpoint: OpenOptions,
    /// Pixel recipe; `None` takes the checkpoint's own `preprocessor_config.json`, or `hf` where it has none.
    pub recipe: Option<Recipe>,
    /// Padding; `None` takes the recipe's.
    pub padding: Option<Padding>,
    /// Text canonicalizer.
    pub canonicalizer: Canonicalizer,
    /// Where to run.
    pub device: Device,
    /// Threads of the CPU engine; `None` takes all cores.
    pub threads: Option<usize>,
}

/// Scores of every image with every text.
///
/// # Shapes
/// Each is (B images, B texts), row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Cosine similarity.
    pub cosine: Vec<f32>,
    /// `exp(logit_scale) * cosine + logit_bias`.
    pub logit: Vec<f32>,
    /// `sigmoid(logit)`: the probability that this pair belongs together, whatever the other texts.
    pub probability: Vec<f32>,
}

/// A model ready to use.
pub struct Model {
    checkpoint: Checkpoint,
    preprocessor: Preprocessor,
    tokenizer: Option<Tokenizer>,
    canonicalizer: Canonicalizer,
    encoder: Box<dyn Encoder>,
    logit_scale: f32,
    logit_bias: f32,
}

impl Model {
    /// Loads a model from a folder, a big_vision `.npz`, or the hub.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        let _ = (source, options);
        todo!()
    }

    /// The model's shapes.
    pub fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    /// The checkpoint behind the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The preprocessor that makes this model's pixel values.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The encoder, for more than pooled embeddings.
    pub fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }

    /// Token ids of `texts`, and the indices of texts that were too long and lost their end.
    ///
    /// # Errors
    /// `BAD_TEXT`; `UNSUPPORTED` where the model has no text tower.
    pub fn tokenize<S: AsRef<str>>(&self, texts: &[S]) -> Result<(TokenIds, Vec<usize>)> {
        let _ = texts;
        todo!()
    }

    /// Pooled image embeddings, not normalised.
    ///
    /// # Errors
    /// `BAD_ARGUMENT`; `UNSUPPORTED` where the model has no pooling head.
    pub fn encode_images(&self, pixels: &PixelValues) -> Result<Embeddings> {
        let _ = pixels;
        todo!()
    }

    /// Text embeddings, not normalised.
    ///
    /// # Errors
    /// As [`Model::tokenize`].
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        let _ = texts;
        todo!()
    }

    /// Scores of every image with every text, by the sigmoid that the model was trained with.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn scores(&self, images: &Embeddings, texts: &Embeddings) -> Result<Scores> {
        let _ = (images, texts);
        todo!()
    }

    /// Natural logarithm of the temperature, as the checkpoint keeps it.
    pub fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    /// The bias of the logit.
    pub fn logit_bias(&self) -> f32 {
        self.logit_bias
    }

    /// How this model's outputs are made. Reads all weights for their checksum on the first call.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub fn provenance(&self, normalized: bool) -> Result<Provenance> {
        let _ = normalized;
        todo!()
    }
}
