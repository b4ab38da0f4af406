//! The vision tower: patches, layers, MAP pooling head.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData, module};

use super::layers::{LayerNorm, Layers, Linear, Mlp, split_heads};
use super::text::Table;
use super::{Forward, Weights};
use crate::config::Shape;
use crate::model::Keep;
use crate::preprocess::PixelValues;
use crate::{Config, Result};

/// The vision tower.
#[derive(Module, Debug)]
pub struct VisionTower {
    /// Patches and positions.
    pub embeddings: Embeddings,
    /// The layers.
    pub encoder: Layers,
    /// After the last layer.
    pub post_layernorm: LayerNorm,
    /// Pooling; absent in MedGemma's tower, and in a classifier's, which takes the mean.
    pub head: Option<MapHead>,
    mean: bool,
    size: usize,
}

/// Patches and positions.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// A convolution with stride = kernel.
    pub patch_embedding: PatchEmbedding,
    /// (N, D).
    pub position_embedding: Table,
}

/// A convolution with stride = kernel.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// (D, 3, patch, patch).
    pub weight: Param<Tensor<4>>,
    /// (D).
    pub bias: Param<Tensor<1>>,
}

impl PatchEmbedding {
    /// (B, 3, size, size) to (B, N, D). Pixels right of and below the last whole patch are left out.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [width, channels, patch, _] = self.weight.dims();
        let [batch, _, size, _] = pixels.dims();
        let grid = size / patch;
        let seen = grid * patch;
        let rows = pixels
            .slice([0..batch, 0..channels, 0..seen, 0..seen])
            .reshape([batch, channels, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, grid * grid, channels * patch * patch]);
        let kernel = self.weight.val().reshape([width, channels * patch * patch]);
        module::linear(rows, kernel.transpose(), Some(self.bias.val()))
    }
}

impl VisionTower {
    pub(super) fn load(weights: &Weights, config: &Config) -> Result<Self> {
        let mean = config.classes.is_some();
        let config = &config.vision;
        let (width, patch) = (config.hidden_size, config.patch_size);
        let shape = config.shape();
        let name = "vision_model.embeddings";
        let head = (config.use_head && !mean).then(|| MapHead::load(weights, shape));
        Ok(Self {
            embeddings: Embeddings {
                patch_embedding: PatchEmbedding {
                    weight: weights.param(
                        &format!("{name}.patch_embedding.weight"),
                        [width, 3, patch, patch],
                    )?,
                    bias: weights.param(&format!("{name}.patch_embedding.bias"), [width])?,
                },
                position_embedding: Table::load(
                    weights,
                    &format!("{name}.position_embedding"),
                    config.num_patches(),
                    width,
                )?,
            },
            encoder: Layers::load(weights, "vision_model", shape)?,
            post_layernorm: LayerNorm::load(
                weights,
                "vision_model.post_layernorm",
                width,
                shape.eps,
            )?,
            head: head.transpose()?,
            mean,
            size: config.image_size,
        })
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.embeddings.position_embedding.weight.val().device()
    }

    /// Pixel values as a tensor on `device`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there are none, or of another size than this tower's.
    pub fn input(&self, pixels: &PixelValues, device: &Device) -> Result<Tensor<4>> {
        pixels.check(self.size)?;
        let shape = [pixels.batch(), 3, self.size, self.size];
        let data = TensorData::new(pixels.data().to_vec(), shape);
        Ok(Tensor::from_data(data, device))
    }

    /// Pixel values (B, 3, size, size).
    pub fn forward(&self, pixels: Tensor<4>, keep: Keep) -> Forward {
        let patches = self.embeddings.patch_embedding.forward(pixels);
        let x = patches + self.embeddings.position_embedding.weight.val().unsqueeze();
        let (x, hidden_states) = self.encoder.forward(x, keep.hidden_states);
        let last_hidden_state = self.post_layernorm.forward(x);
        let (pooled, map_attention) = match &self.head {
            Some(head) => {
                let (pooled, weights) = head.forward(last_hidden_state.clone());
                (Some(pooled), Some(weights))
            }
            None => {
                let mean = || last_hidden_state.clone().mean_dim(1).squeeze_dim(1);
                (self.mean.then(mean), None)
            }
        };
        Forward {
            pooled,
            last_hidden_state,
            hidden_states,
            map_attention,
        }
    }
}

/// Multihead attention pooling (Lee et al., Set Transformer, arXiv 1810.00825): one learned query, the probe,
/// attends to all patches; then a residual MLP.
#[derive(Module, Debug)]
pub struct MapHead {
    /// (1, 1, D).
    pub probe: Param<Tensor<3>>,
    /// Attention of the probe to the patches.
    pub attention: PackedAttention,
    /// Before the MLP.
    pub layernorm: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
}

/// Multihead attention whose projections of queries, keys and values are stored as one (PyTorch's `MultiheadAttention`).
#[derive(Module, Debug)]
pub struct PackedAttention {
    /// (3 D, D): queries, keys, values.
    pub in_proj_weight: Param<Tensor<2>>,
    /// (3 D).
    pub in_proj_bias: Param<Tensor<1>>,
    /// What follows attention.
    pub out_proj: Linear,
    heads: usize,
}

impl PackedAttention {
    /// Query (B, 1, D) and patches (B, N, D) to (B, 1, D) and the weights (B, H, N).
    fn forward(&self, query: Tensor<3>, patches: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let [batch, _, width] = query.dims();
        let dim = width / self.heads;
        let project = |x: Tensor<3>, part: usize| {
            let rows = part * width..(part + 1) * width;
            let weight = self.in_proj_weight.val().slice([rows.clone(), 0..width]);
            let bias = self.in_proj_bias.val().slice([rows]);
            split_heads(
                module::linear(x, weight.transpose(), Some(bias)),
                self.heads,
            )
        };
        let query = project(query, 0) / (dim as f64).sqrt();
        let scores = query.matmul(project(patches.clone(), 1).transpose());
        let weights = softmax(scores, 3);
        let attended = weights.clone().matmul(project(patches, 2));
        let joined = attended.swap_dims(1, 2).reshape([batch, 1, width]);
        (self.out_proj.forward(joined), weights.squeeze_dim(2))
    }
}

impl MapHead {
    fn load(weights: &Weights, shape: Shape) -> Result<Self> {
        let width = shape.width;
        let name = "vision_model.head";
        let attention = format!("{name}.attention");
        Ok(Self {
            probe: weights.param(&format!("{name}.probe"), [1, 1, width])?,
            attention: PackedAttention {
                in_proj_weight: weights
                    .param(&format!("{attention}.in_proj_weight"), [3 * width, width])?,
                in_proj_bias: weights.param(&format!("{attention}.in_proj_bias"), [3 * width])?,
                out_proj: Linear::load(weights, &format!("{attention}.out_proj"), width, width)?,
                heads: shape.heads,
            },
            layernorm: LayerNorm::load(weights, &format!("{name}.layernorm"), width, shape.eps)?,
            mlp: Mlp::load(weights, &format!("{name}.mlp"), width, shape.mlp)?,
        })
    }

    /// (B, N, D) to (B, D) and the weights (B, H, N).
    fn forward(&self, patches: Tensor<3>) -> (Tensor<2>, Tensor<3>) {
        let [batch, ..] = patches.dims();
        let probe = self.probe.val().repeat_dim(0, batch);
        let (x, weights) = self.attention.forward(probe, patches);
        let x = x.clone() + self.mlp.forward(self.layernorm.forward(x));
        (x.squeeze_dim(1), weights)
    }
}
