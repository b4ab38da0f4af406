//! The two towers in [Burn](https://burn.dev), one definition for every device that it knows, with gradients.
//!
//! The fields of the modules bear the Hugging Face names, so that a parameter's path through them is its name in a
//! checkpoint (`vision_model.encoder.layers.0.self_attn.q_proj.weight`), and all weights have the stored shapes:
//! nothing is renamed or transposed on the way in or out. `layers` has what both towers share.

mod device;
mod fused;
mod layers;
pub mod params;
mod text;
mod vision;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, module};

use crate::checkpoint::{CLASSIFIER, Checkpoint, Dtype};
use crate::embedding::Embeddings;
use crate::model::{Encoder, Keep, Precision, TowerOutput};
use crate::preprocess::PixelValues;
use crate::tokenizer::TokenIds;
use crate::{Error, Result};

#[cfg(feature = "train")]
pub(crate) use device::check_default;
pub use device::{device, found};
pub use layers::{Attention, Layer, LayerNorm, Layers, Linear, Mlp};
pub use text::TextTower;
pub use vision::{MapHead, VisionTower};

/// Both towers and the logit's scale and bias: `SiglipModel` of transformers; or the vision tower and a classifier:
/// `SiglipForImageClassification`.
#[derive(Module, Debug)]
pub struct Siglip {
    /// The vision tower.
    pub vision_model: VisionTower,
    /// The linear layer of a classifier, on the mean of the patches.
    pub classifier: Option<Linear>,
    /// In training, a layer on every patch for what is learned beside the loss; in no checkpoint of a model.
    pub auxiliary: Option<Linear>,
    /// The text tower; absent in a checkpoint with a vision tower alone.
    pub text_model: Option<TextTower>,
    /// Logarithm of the temperature t, (1); absent without a text tower.
    pub logit_scale: Option<Param<Tensor<1>>>,
    /// The bias b, (1); absent without a text tower.
    pub logit_bias: Option<Param<Tensor<1>>>,
}

/// What a tower's forward pass gives, still on its device.
pub struct Forward {
    /// (B, D), not normalised; absent without a pooling head.
    pub pooled: Option<Tensor<2>>,
    /// (B, N, D), after the final layer norm.
    pub last_hidden_state: Tensor<3>,
    /// The input of the first block and the output of every block, where asked for: (B, N, D) each.
    pub hidden_states: Option<Vec<Tensor<3>>>,
    /// (B, H, N), vision tower with a pooling head only.
    pub map_attention: Option<Tensor<3>>,
}

impl Siglip {
    /// The towers of `checkpoint` on `device`, in f32. On `device.autodiff()` they have gradients.
    ///
    /// # Errors
    /// `BAD_TENSOR` where a weight is missing or misshaped.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::load_in(checkpoint, device, Precision::F32)
    }

    /// As [`load`](Self::load), to multiply in `precision`. The weights are in f32 all the same.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn load_in(checkpoint: &Checkpoint, device: &Device, precision: Precision) -> Result<Self> {
        let weights = Weights {
            checkpoint,
            device,
            precision,
        };
        let config = checkpoint.config();
        let text = config.text.as_ref();
        let width = config.vision.hidden_size;
        let classes = config.classes.as_ref();
        let classifier = classes.map(|c| Linear::load(&weights, CLASSIFIER, width, c.labels.len()));
        let scalar = |name| text.map(|_| weights.param(name, [1])).transpose();
        Ok(Self {
            vision_model: VisionTower::load(&weights, config)?,
            classifier: classifier.transpose()?,
            auxiliary: None,
            text_model: text.map(|t| TextTower::load(&weights, t)).transpose()?,
            logit_scale: scalar("logit_scale")?,
            logit_bias: scalar("logit_bias")?,
        })
    }
}

impl Siglip {
    /// A classifier's logits, (B, C), of pixel values (B, 3, size, size); `None` where the model is none.
    pub fn logits(&self, pixels: Tensor<4>) -> Option<Tensor<2>> {
        let classifier = self.classifier.as_ref()?;
        let pooled = self.vision_model.forward(pixels, Keep::default()).pooled?;
        Some(module::linear(
            pooled,
            classifier.weight.val().transpose(),
            Some(classifier.bias.val()),
        ))
    }
}

/// Runs [`Siglip`] as an [`Encoder`], without gradients.
pub struct BurnEncoder {
    model: Siglip,
    device: Device,
    name: String,
    dtype: Dtype,
    precision: Precision,
}

impl BurnEncoder {
    /// The towers of `checkpoint` on a device, multiplying in `precision`.
    ///
    /// # Errors
    /// As of [`device`] and [`Siglip::load`].
    pub fn on(
        checkpoint: &Checkpoint,
        at: crate::model::Device,
        precision: Precision,
    ) -> Result<Self> {
        let at = found(at);
        let model = Siglip::load_in(checkpoint, &device(at, precision)?, precision)?;
        let width = checkpoint.config().vision.hidden_size;
        let weight = "vision_model.encoder.layers.0.self_attn.q_proj.weight";
        let dtype = match checkpoint.config().vision.num_hidden_layers {
            0 => Dtype::F32,
            _ => checkpoint.tensor(weight, &[width, width])?.dtype(),
        };
        let name = match at {
            crate::model::Device::Gpu(..) => at.to_string(),
            _ => "burn-cpu".into(),
        };
        Ok(Self {
            name,
            dtype,
            precision,
            ..Self::new(model)
        })
    }

    /// Towers that are on a device already, multiplying in f32.
    pub fn new(model: Siglip) -> Self {
        Self {
            device: model.vision_model.device(),
            model,
            name: "burn".into(),
            dtype: Dtype::F32,
            precision: Precision::F32,
        }
    }
}

impl Encoder for BurnEncoder {
    fn encode_images(&self, pixels: &PixelValues, keep: Keep) -> Result<TowerOutput> {
        let pixels = self.model.vision_model.input(pixels, &self.device)?;
        read(self.model.vision_model.forward(pixels, keep), keep)
    }

    fn encode_texts(&self, ids: &TokenIds, keep: Keep) -> Result<TowerOutput> {
        let text = self.model.text_model.as_ref().ok_or_else(|| {
            Error::Unsupported(
                "this checkpoint has no text tower: it can encode images alone".into(),
            )
        })?;
        let ids = text.input(ids, &self.device)?;
        read(text.forward(ids, keep), keep)
    }

    fn device(&self) -> &str {
        &self.name
    }

    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

/// A tensor's numbers, back from its device.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let failed = |e: &dyn std::fmt::Debug| Error::Device(format!("the device failed: {e:?}"));
    let data = tensor.try_into_data().map_err(|e| failed(&e))?;
    data.try_to_vec().map_err(|e| failed(&e))
}

fn read(forward: Forward, keep: Keep) -> Result<TowerOutput> {
    let pooled = forward.pooled.map(|pooled| {
        let width = pooled.dims()[1];
        Embeddings::new(width, numbers(pooled)?)
    });
    let last = keep.last_hidden_state.then_some(forward.last_hidden_state);
    let hidden = forward.hidden_states;
    let attention = forward.map_attention.filter(|_| keep.map_attention);
    Ok(TowerOutput {
        pooled: pooled.transpose()?,
        last_hidden_state: last.map(numbers).transpose()?,
        hidden_states: hidden
            .map(|states| states.into_iter().map(numbers).collect())
            .transpose()?,
        map_attention: attention.map(numbers).transpose()?,
    })
}

/// A checkpoint's tensors as parameters on a device.
struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    /// In what the layers multiply.
    precision: Precision,
}

impl Weights<'_> {
    fn param<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Param<Tensor<D>>> {
        let tensor = self.checkpoint.tensor(name, &shape)?;
        let data = TensorData::new(tensor.to_f32().into_owned(), shape);
        let value =
            Tensor::from_data(data, self.device).set_require_grad(self.device.is_autodiff());
        Ok(Param::initialized(params::id(name), value))
    }
}
