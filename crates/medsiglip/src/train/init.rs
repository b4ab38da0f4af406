//! Random weights for a [`Config`]: the rules of transformers' SigLIP, and three that help where data is scarce.
//!
//! The rules are those of `SiglipPreTrainedModel._init_weights` (transformers 4.51.3), itself after big_vision:
//! Xavier uniform for attention, MLPs and the probe; LeCun normal, truncated at two standard deviations, for the patch
//! embedding and what follows attention in the pooling head and the text tower; normal embeddings; norms 1 and 0. One
//! deviation: transformers starts the logit's scale and bias at 0 and leaves it to training to set them;
//! [`Init`] gives them.

mod dct;
mod mimetic;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::f32::consts::LN_10;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use mimetic::Mimetic;

use crate::checkpoint::{ExpectedTensor, Tensor, expected_tensors};
use crate::config::Shape;
use crate::{Config, Error, Result};

/// Weights under their Hugging Face names, in the stored shapes.
pub type Weights = BTreeMap<String, Tensor>;

/// More than any SigLIP has (So400m: 0.9 billion); keeps a mistyped size from asking for all memory.
const MAX_NUMBERS: u64 = 1 << 32;
const PATCH_EMBEDDING: &str = "vision_model.embeddings.patch_embedding.weight";
/// Standard deviation of a standard normal that is cut at 2 (jax, `variance_scaling`).
const TRUNCATED_STD: f32 = 0.879_625_7;
/// Base of the wavelengths of sine-cosine positions.
const WAVELENGTHS: f64 = 10_000.0;

/// How random weights are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Init {
    /// The same seed gives the same weights; each tensor has its own stream, so that none depends on another.
    pub seed: u64,
    /// The vision tower.
    pub vision: TowerInit,
    /// The text tower.
    pub text: TowerInit,
    /// The kernels that patches are embedded by.
    #[serde(skip_serializing_if = "PatchInit::is_random")]
    pub patch: PatchInit,
    /// The four numbers behind [`AttentionInit::Mimetic`].
    pub mimetic: Mimetic,
    /// Logarithm of the temperature, t' in the SigLIP paper (arXiv 2303.15343, section 3.2): ln 10.
    pub logit_scale: f32,
    /// b in the SigLIP paper: -10.
    pub logit_bias: f32,
}

impl Default for Init {
    fn default() -> Self {
        Self {
            seed: 0,
            vision: TowerInit::default(),
            text: TowerInit::default(),
            patch: PatchInit::Random,
            mimetic: Mimetic::default(),
            logit_scale: LN_10,
            logit_bias: -10.0,
        }
    }
}

/// How the kernels of the patch embedding start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatchInit {
    /// Random numbers.
    #[default]
    Random,
    /// The lowest frequencies of a patch, each in brightness and two opponent colours: the first functions of the
    /// cosine transform. Kernels beyond these are random.
    Dct,
}

impl PatchInit {
    fn is_random(&self) -> bool {
        *self == Self::Random
    }
}

/// How one tower starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowerInit {
    /// The position table.
    pub position: Position,
    /// The projections of self-attention; the pooling head's are always Xavier.
    pub attention: AttentionInit,
}

/// How a position table starts. It is trained in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Normal, of standard deviation 1/sqrt(D).
    #[default]
    Random,
    /// Sines and cosines: of row and column of a patch (MAE, arXiv 2111.06377, `get_2d_sincos_pos_embed`), or of a
    /// token's place (arXiv 1706.03762, section 3.5, all sines before all cosines).
    Sincos,
}

/// How the projections of self-attention start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionInit {
    /// Xavier uniform.
    #[default]
    Xavier,
    /// Like those of trained transformers (Trockman and Kolter, arXiv 2305.09828).
    Mimetic,
}

/// Random weights for a model of these shapes, as f32.
///
/// # Errors
/// `BAD_CONFIG` where the config's fields do not fit together; `BAD_ARGUMENT` for a number that is not finite, or a
/// width that sines and cosines cannot fill; `LIMIT_EXCEEDED` above 2^32 numbers.
pub fn random_weights(config: &Config, init: &Init) -> Result<Weights> {
    config.check()?;
    init.check(config)?;
    let expected = expected_tensors(config);
    let numbers = expected
        .iter()
        .map(|t| t.shape.iter().map(|s| *s as u64).product::<u64>());
    let numbers: u64 = numbers.sum();
    if numbers > MAX_NUMBERS {
        return Err(Error::Limit {
            what: "the number of random weights",
            got: numbers,
            limit: MAX_NUMBERS,
        });
    }
    let mut weights: Weights = expected
        .into_par_iter()
        .map(|tensor| (tensor.name.clone(), init.draw(tensor)))
        .collect();
    init.set_positions(config, &mut weights);
    if init.patch == PatchInit::Dct
        && let Some(kernels) = weights.get_mut(PATCH_EMBEDDING)
    {
        *kernels = dct::kernels(kernels);
    }
    for (tower, shape, how) in towers(config, init) {
        if how.attention == AttentionInit::Mimetic {
            weights.par_extend(mimetic::attention(init.seed, tower, shape, &init.mimetic));
        }
    }
    Ok(weights)
}

/// Name in the checkpoint, sizes and rules of each tower that there is.
fn towers<'a>(
    config: &Config,
    init: &'a Init,
) -> impl Iterator<Item = (&'static str, Shape, &'a TowerInit)> {
    let text = config.text.as_ref().map(|text| text.shape());
    [
        ("vision_model", Some(config.vision.shape()), &init.vision),
        ("text_model", text, &init.text),
    ]
    .into_iter()
    .filter_map(|(name, shape, how)| Some((name, shape?, how)))
}

impl Init {
    fn check(&self, config: &Config) -> Result<()> {
        let m = &self.mimetic;
        for (name, value) in [
            ("logit_scale", self.logit_scale),
            ("logit_bias", self.logit_bias),
            ("mimetic.alpha1", m.alpha1),
            ("mimetic.beta1", m.beta1),
            ("mimetic.alpha2", m.alpha2),
            ("mimetic.beta2", m.beta2),
        ] {
            if !value.is_finite() {
                return Err(Error::BadArgument(format!(
                    "init.{name}: expected a finite number, got {value}"
                )));
            }
        }
        for (tower, shape, how) in towers(config, self) {
            let parts = if tower == "vision_model" { 4 } else { 2 };
            if how.position == Position::Sincos && !shape.width.is_multiple_of(parts) {
                return Err(Error::BadArgument(format!(
                    "init: sincos positions of {tower} need a width that {parts} divides, got {}",
                    shape.width
                )));
            }
        }
        Ok(())
    }

    fn draw(&self, tensor: ExpectedTensor) -> Tensor {
        let ExpectedTensor { name, shape } = tensor;
        let count = shape.iter().product();
        let mut rng = stream(self.seed, &name);
        let values = match self.rule(&name, &shape) {
            Rule::Constant(value) => vec![value; count],
            Rule::Uniform(bound) => StandardUniform
                .sample_iter(rng)
                .take(count)
                .map(|x: f32| bound * (2.0 * x - 1.0))
                .collect(),
            Rule::Normal(std) => normal(&mut rng).take(count).map(|x| std * x).collect(),
            Rule::Truncated(std) => normal(&mut rng)
                .filter(|x| x.abs() <= 2.0)
                .take(count)
                .map(|x| std / TRUNCATED_STD * x)
                .collect(),
        };
        Tensor::from_f32(shape, values)
    }

    fn rule(&self, name: &str, shape: &[usize]) -> Rule {
        let ends = |end: &str| name.ends_with(end);
        let input: usize = shape.iter().skip(1).product();
        let lecun = Rule::Truncated((1.0 / input as f32).sqrt());
        match name {
            "logit_scale" => Rule::Constant(self.logit_scale),
            "logit_bias" => Rule::Constant(self.logit_bias),
            "vision_model.head.attention.out_proj.weight" | "text_model.head.weight" => lecun,
            _ if ends("patch_embedding.weight") => lecun,
            _ if ends("_embedding.weight") => Rule::Normal((1.0 / input as f32).sqrt()),
            _ if ends("fc1.bias") || ends("fc2.bias") => Rule::Normal(1e-6),
            _ if ends("bias") => Rule::Constant(0.0),
            // the norms' weights
            _ if shape.len() == 1 => Rule::Constant(1.0),
            // PyTorch counts the probe (1, 1, D) as D inputs and D outputs.
            _ if ends("probe") => xavier(input, input),
            _ => xavier(input, shape[0]),
        }
    }

    fn set_positions(&self, config: &Config, weights: &mut Weights) {
        let mut set = |tower: &str, rows: usize, width: usize, values: Vec<f32>| {
            let name = format!("{tower}.embeddings.position_embedding.weight");
            weights.insert(name, Tensor::from_f32(vec![rows, width], values));
        };
        let (grid, width) = (config.vision.grid(), config.vision.hidden_size);
        if self.vision.position == Position::Sincos {
            set("vision_model", grid * grid, width, sincos_2d(grid, width));
        }
        if let Some(text) = &config.text
            && self.text.position == Position::Sincos
        {
            let (length, width) = (text.max_position_embeddings, text.hidden_size);
            let places = (0..length).flat_map(|place| sincos(place, width));
            set("text_model", length, width, places.collect());
        }
    }
}

/// How the numbers of one tensor are drawn.
enum Rule {
    Constant(f32),
    /// Between the bound and its negative.
    Uniform(f32),
    /// Of this standard deviation.
    Normal(f32),
    /// The same, cut at two standard deviations of what is cut.
    Truncated(f32),
}

fn xavier(input: usize, output: usize) -> Rule {
    Rule::Uniform((6.0 / (input + output) as f32).sqrt())
}

/// The random numbers of one tensor, whatever else is drawn.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(name));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    rng
}

/// Numbers of a standard normal distribution.
fn normal(rng: &mut ChaCha8Rng) -> impl Iterator<Item = f32> {
    StandardNormal.sample_iter(rng)
}

/// (grid * grid, width): sines and cosines of the column, then of the row.
fn sincos_2d(grid: usize, width: usize) -> Vec<f32> {
    let axis: Vec<Vec<f32>> = (0..grid)
        .map(|place| sincos(place, width / 2).collect())
        .collect();
    let patches = axis.iter().flat_map(|y| axis.iter().map(move |x| [x, y]));
    patches.flatten().flatten().copied().collect()
}

/// Sines, then cosines of `place` at `width` / 2 wavelengths from 2 pi to almost 10000 times that.
fn sincos(place: usize, width: usize) -> impl Iterator<Item = f32> {
    let half = width / 2;
    let angle = move |i: usize| place as f64 / WAVELENGTHS.powf(i as f64 / half as f64);
    let sines = (0..half).map(move |i| angle(i).sin() as f32);
    sines.chain((0..half).map(move |i| angle(i).cos() as f32))
}
