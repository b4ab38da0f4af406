//! [`Model`]: checkpoint, preprocessor, tokenizer and encoder in one; [`Encoder`]: the seam to what runs the towers.

mod device;

use std::sync::OnceLock;

use crate::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions};
use crate::classifier::TrainedClassifier;
use crate::embedding::{Embeddings, Provenance};
use crate::engine::CpuEngine;
use crate::preprocess::{Padding, PixelValues, Preprocessor, Recipe};
use crate::tokenizer::{Canonicalizer, TokenIds, Tokenizer};
use crate::{Config, Error, Result};

pub use device::{Backend, Device, Precision};

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
    /// Pooled embeddings, (B, D), not normalised, of a classifier the mean of the patches; absent where the vision tower has no pooling head.
    pub pooled: Option<Embeddings>,
    /// (B, N, D), after the final layer norm.
    pub last_hidden_state: Option<Vec<f32>>,
    /// L + 1 arrays of (B, N, D): the embeddings, then each block's output.
    pub hidden_states: Option<Vec<Vec<f32>>>,
    /// (B, H, N): how much the probe looks at each patch; each row sums to 1.
    pub map_attention: Option<Vec<f32>>,
}

impl TowerOutput {
    /// Appends the items of another output of the same tower, made with the same [`Keep`].
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        fn extend(to: &mut Option<Vec<f32>>, from: Option<Vec<f32>>) {
            if let (Some(to), Some(from)) = (to, from) {
                to.extend(from);
            }
        }
        if let (Some(to), Some(from)) = (&mut self.pooled, &other.pooled) {
            to.append(from)?;
        }
        extend(&mut self.last_hidden_state, other.last_hidden_state);
        extend(&mut self.map_attention, other.map_attention);
        if let (Some(to), Some(from)) = (&mut self.hidden_states, other.hidden_states) {
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| to.extend(from));
        }
        Ok(())
    }
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

    /// Where the towers run, for provenance: `cpu`, `cuda:0`.
    fn device(&self) -> &str;

    /// In what they multiply, for provenance.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// How the weights are stored, for provenance.
    fn dtype(&self) -> Dtype;
}

/// No towers.
#[cfg(feature = "train")]
struct Released;

#[cfg(feature = "train")]
impl Encoder for Released {
    fn encode_images(&self, _: &PixelValues, _: Keep) -> Result<TowerOutput> {
        Err(Error::Unsupported("the towers were let go".into()))
    }

    fn encode_texts(&self, _: &TokenIds, _: Keep) -> Result<TowerOutput> {
        Err(Error::Unsupported("the towers were let go".into()))
    }

    fn device(&self) -> &str {
        "none"
    }

    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
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
    /// In what a GPU multiplies.
    pub precision: Precision,
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

/// What runs the towers where the options say.
fn encoder(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Box<dyn Encoder>> {
    #[cfg(feature = "towers")]
    let device = crate::towers::found(options.device);
    #[cfg(not(feature = "towers"))]
    let device = options.device;
    match device {
        #[cfg(feature = "towers")]
        Device::Gpu(..) => {
            let encoder = crate::towers::BurnEncoder::on(checkpoint, device, options.precision)?;
            Ok(Box::new(encoder))
        }
        #[cfg(not(feature = "towers"))]
        Device::Gpu(backend, _) => Err(backend.check().expect_err("needs the towers")),
        Device::Auto | Device::Cpu if options.precision.is_f32() => {
            Ok(Box::new(CpuEngine::new(checkpoint, options.threads)?))
        }
        Device::Auto | Device::Cpu => Err(not_on_the_cpu(options.precision)),
    }
}

/// The CPU has no precision but f32.
pub(crate) fn not_on_the_cpu(precision: Precision) -> Error {
    Error::BadArgument(format!(
        "precision: expected f32 on the CPU, got {precision}, which is for a GPU"
    ))
}

/// A model ready to use.
pub struct Model {
    checkpoint: Checkpoint,
    preprocessor: Preprocessor,
    /// Read when the first text comes: images need none.
    tokenizer: OnceLock<Tokenizer>,
    canonicalizer: Canonicalizer,
    encoder: Box<dyn Encoder>,
    logit: Option<Logit>,
    classifier: Option<TrainedClassifier>,
}

impl Model {
    /// Loads a model from a folder, a big_vision `.npz`, or the hub.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; `BAD_CONFIG` where the checkpoint's own pixel recipe cannot be followed.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        Self::of(Checkpoint::open(source, &options.checkpoint)?, options)
    }

    /// As [`Model::load`], of a checkpoint that is open.
    pub(crate) fn of(checkpoint: Checkpoint, options: &LoadOptions) -> Result<Self> {
        let config = checkpoint.config();
        let own_recipe = checkpoint.preprocessor_config();
        let recipe = options.recipe.unwrap_or(match own_recipe {
            Some(_) => Recipe::Checkpoint,
            None => Recipe::Hf,
        });
        let preprocessor = Preprocessor::new(
            recipe,
            options.padding,
            config.vision.image_size,
            own_recipe,
        )?;
        let scalar = |name: &str| -> Result<f32> {
            let tensor = checkpoint.tensor(name, &[1])?;
            Ok(tensor.to_f32().first().copied().unwrap_or(0.0))
        };
        let logit = match &config.text {
            Some(_) => Some(Logit {
                scale: scalar("logit_scale")?,
                bias: scalar("logit_bias")?,
            }),
            None => None,
        };
        let encoder = encoder(&checkpoint, options)?;
        Ok(Self {
            preprocessor,
            tokenizer: OnceLock::new(),
            canonicalizer: options.canonicalizer,
            encoder,
            logit,
            classifier: TrainedClassifier::load(&checkpoint)?,
            checkpoint,
        })
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

    /// The classifier on top of the image embeddings, where the model was trained as one.
    pub fn classifier(&self) -> Option<&TrainedClassifier> {
        self.classifier.as_ref()
    }

    /// The encoder, for more than pooled embeddings.
    pub fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }

    /// Lets the towers go, for what needs the rest alone.
    #[cfg(feature = "train")]
    pub(crate) fn release_encoder(&mut self) {
        self.encoder = Box::new(Released);
    }

    /// Runs on other towers, for example those in training; with `logit`, also with another temperature and bias.
    #[cfg(feature = "train")]
    pub(crate) fn replace_encoder(&mut self, encoder: Box<dyn Encoder>, logit: Option<Logit>) {
        self.encoder = encoder;
        self.logit = logit.or(self.logit);
    }

    /// Token ids of `texts`, and the indices of texts that were too long and lost their end.
    ///
    /// # Errors
    /// `BAD_TEXT`, and as [`Model::tokenizer`].
    pub fn tokenize<S: AsRef<str>>(&self, texts: &[S]) -> Result<(TokenIds, Vec<usize>)> {
        self.tokenizer()?.encode_batch(texts, self.canonicalizer)
    }

    /// The checkpoint's tokenizer, read from its files on the first call.
    ///
    /// # Errors
    /// `BAD_CONFIG` where its files are missing or damaged; `UNSUPPORTED` where the model has no text tower.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let text = self.config().text.as_ref().ok_or_else(no_text_tower)?;
        let tokenizer = Tokenizer::from_folder(
            self.checkpoint.folder(),
            text.max_position_embeddings,
            text.vocab_size,
        )?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// Pooled image embeddings, not normalised; of a classifier the mean of the patches, which its layer is made for.
    ///
    /// # Errors
    /// `BAD_ARGUMENT`; `UNSUPPORTED` where the model has no pooling head.
    pub fn encode_images(&self, pixels: &PixelValues) -> Result<Embeddings> {
        self.encoder.encode_images(pixels, Keep::default())?.pooled.ok_or_else(|| {
            Error::Unsupported(
                "this checkpoint has no pooling head (MedGemma's vision tower has none), so it gives hidden states \
                 but no image embedding: take the head from a MedSigLIP checkpoint"
                    .into(),
            )
        })
    }

    /// Text embeddings, not normalised. A text that is too long loses its end: [`Model::tokenize`] tells which.
    ///
    /// # Errors
    /// As [`Model::tokenize`].
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        self.encode_tokens(&self.tokenize(texts)?.0)
    }

    /// Embeddings of texts that are tokenized already, not normalised.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the ids do not fit the tower; `UNSUPPORTED` where the model has no text tower.
    pub fn encode_tokens(&self, ids: &TokenIds) -> Result<Embeddings> {
        let output = self.encoder.encode_texts(ids, Keep::default())?;
        output.pooled.ok_or_else(no_text_tower)
    }

    /// Scores of every image with every text, by the sigmoid that the model was trained with.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ; `UNSUPPORTED` where the model has no text tower.
    pub fn scores(&self, images: &Embeddings, texts: &Embeddings) -> Result<Scores> {
        let logit = self.logit()?;
        let cosine = images.cosine(texts)?;
        Ok(Scores {
            logit: cosine.iter().map(|c| logit.of(*c)).collect(),
            probability: cosine.iter().map(|c| logit.probability(*c)).collect(),
            cosine,
        })
    }

    /// How a cosine becomes a logit.
    ///
    /// # Errors
    /// `UNSUPPORTED` where the model has no text tower.
    pub fn logit(&self) -> Result<Logit> {
        self.logit.ok_or_else(no_text_tower)
    }

    /// How this model's outputs are made. Reads all weights for their checksum on the first call.
    ///
    /// # Errors
    /// `IO_ERROR`.
    pub fn provenance(&self, normalized: bool) -> Result<Provenance> {
        Ok(Provenance {
            medsiglip: env!("CARGO_PKG_VERSION").into(),
            model: self.checkpoint.id().into(),
            checksum: self.checkpoint.checksum()?.into(),
            config_checksum: self.checkpoint.config_checksum()?.into(),
            device: self.encoder.device().into(),
            dtype: self.encoder.dtype().to_string(),
            precision: match self.encoder.precision() {
                Precision::F32 => None,
                other => Some(other.to_string()),
            },
            recipe: self.preprocessor.recipe().to_string(),
            pad: self.preprocessor.padding().to_string(),
            canonicalizer: self
                .config()
                .text
                .as_ref()
                .map(|_| self.canonicalizer.to_string()),
            resolution: self.preprocessor.size(),
            positions: self.checkpoint.resampled().map(|method| method.to_string()),
            normalized,
        })
    }
}

/// The affine map from cosine to logit that the sigmoid loss learned (SigLIP, arXiv 2303.15343, Algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logit {
    /// Natural logarithm of the temperature, as checkpoints keep it.
    pub scale: f32,
    /// Added to the scaled cosine.
    pub bias: f32,
}

impl Logit {
    /// `exp(scale)`, what a cosine is multiplied by.
    pub fn temperature(self) -> f64 {
        f64::from(self.scale).exp()
    }

    /// `exp(scale) * cosine + bias`.
    pub fn of(self, cosine: f32) -> f32 {
        (self.temperature() * f64::from(cosine) + f64::from(self.bias)) as f32
    }

    /// `sigmoid(logit)`: the probability that a pair belongs together, whatever else it is compared with.
    pub fn probability(self, cosine: f32) -> f32 {
        sigmoid(self.temperature() * f64::from(cosine) + f64::from(self.bias)) as f32
    }
}

/// `1 / (1 + e^-x)`, without overflow for any x.
pub(crate) fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 {
        1.0 / (1.0 + small)
    } else {
        small / (1.0 + small)
    }
}

fn no_text_tower() -> Error {
    Error::Unsupported("this checkpoint has no text tower: it can encode images alone".into())
}
