//! The vision tower: patches, blocks, MAP pooling head.

use super::block::{Blocks, Shape};
use super::buffers::{Buffers, sized};
use super::kernels::{attend_one, gelu, layer_norm, linear, linear_add};
use super::weights::{LayerNorm, Linear, Mlp};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::config::VisionConfig;
use crate::embedding::Embeddings;
use crate::model::{Keep, TowerOutput};
use crate::preprocess::PixelValues;
use crate::{Error, Result};

pub(super) struct VisionTower {
    size: usize,
    patch: usize,
    grid: usize,
    embed: Linear,
    /// (N, D).
    positions: Vec<f32>,
    blocks: Blocks,
    head: Option<MapHead>,
}

impl VisionTower {
    pub fn load(checkpoint: &Checkpoint, config: &VisionConfig) -> Result<Self> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let shape = Shape {
            width,
            mlp: config.intermediate_size,
            depth: config.num_hidden_layers,
            heads: config.num_attention_heads,
            eps: config.layer_norm_eps,
        };
        let embeddings = "vision_model.embeddings";
        let kernel = checkpoint.tensor(
            &format!("{embeddings}.patch_embedding.weight"),
            &[width, 3, patch, patch],
        )?;
        let positions = checkpoint.tensor(
            &format!("{embeddings}.position_embedding.weight"),
            &[config.num_patches(), width],
        )?;
        Ok(Self {
            size: config.image_size,
            patch,
            grid: config.grid(),
            embed: Linear {
                weight: kernel,
                bias: super::weights::vector(
                    checkpoint,
                    &format!("{embeddings}.patch_embedding.bias"),
                    width,
                )?,
            },
            positions: positions.to_f32().into_owned(),
            blocks: Blocks::load(checkpoint, "vision_model", "post_layernorm", shape)?,
            head: if config.use_head {
                Some(MapHead::load(checkpoint, shape)?)
            } else {
                None
            },
        })
    }

    /// Number of patches, N.
    pub fn num_patches(&self) -> usize {
        self.grid * self.grid
    }

    /// How the weights are stored, told by the first of them.
    pub fn dtype(&self) -> Dtype {
        self.embed.weight.dtype()
    }

    pub fn check(&self, pixels: &PixelValues) -> Result<()> {
        if pixels.size() != self.size {
            return Err(Error::BadArgument(format!(
                "pixel values: expected {0}x{0} pixels, got {1}x{1}",
                self.size,
                pixels.size()
            )));
        }
        Ok(())
    }

    /// # Shapes
    /// `pixels` is (B, 3, size, size).
    pub fn forward(
        &self,
        pixels: &[f32],
        keep: Keep,
        buffers: &mut Buffers,
    ) -> Result<TowerOutput> {
        let (patches, width) = (self.num_patches(), self.blocks.shape.width);
        let batch = pixels.len() / (3 * self.size * self.size);
        let rows = batch * patches;

        let cut = sized(&mut buffers.wide, rows * 3 * self.patch * self.patch);
        self.cut_patches(pixels, cut);
        let x = sized(&mut buffers.x, rows * width);
        linear(cut, &self.embed, x);
        for item in x.chunks_exact_mut(patches * width) {
            item.iter_mut()
                .zip(&self.positions)
                .for_each(|(x, p)| *x += p);
        }

        let hidden_states = self
            .blocks
            .forward(buffers, rows, patches, keep.hidden_states);
        let last_hidden_state = keep
            .last_hidden_state
            .then(|| buffers.y[..rows * width].to_vec());
        let mut map_attention = None;
        let pooled = match &self.head {
            Some(head) => {
                let (pooled, weights) = head.forward(buffers, batch, patches);
                map_attention = keep.map_attention.then_some(weights);
                Some(Embeddings::new(width, pooled)?)
            }
            None => None,
        };
        Ok(TowerOutput {
            pooled,
            last_hidden_state,
            hidden_states,
            map_attention,
        })
    }

    /// Cuts pictures into rows of (channel, y, x) order, as a convolution with stride = kernel sees them.
    /// Pixels right of and below the last whole patch are left out.
    ///
    /// # Shapes
    /// `pixels` (B, 3, size, size) to `cut` (B * N, 3 * patch * patch).
    fn cut_patches(&self, pixels: &[f32], cut: &mut [f32]) {
        let (size, patch, grid) = (self.size, self.patch, self.grid);
        for (row, out) in cut.chunks_exact_mut(3 * patch * patch).enumerate() {
            let (item, py, px) = (row / (grid * grid), row / grid % grid, row % grid);
            for (line, out) in out.chunks_exact_mut(patch).enumerate() {
                let (channel, y) = (line / patch, py * patch + line % patch);
                let start = ((item * 3 + channel) * size + y) * size + px * patch;
                out.copy_from_slice(&pixels[start..start + patch]);
            }
        }
    }
}

/// Multihead attention pooling (Lee et al., Set Transformer, arXiv 1810.00825): one learned query, the probe,
/// attends to all patches; then a residual MLP.
struct MapHead {
    heads: usize,
    /// The probe's query: the same for every picture, so it is computed once. (D).
    query: Vec<f32>,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    mlp: Mlp,
}

impl MapHead {
    fn load(checkpoint: &Checkpoint, shape: Shape) -> Result<Self> {
        let width = shape.width;
        let attention = "vision_model.head.attention";
        let weight =
            checkpoint.tensor(&format!("{attention}.in_proj_weight"), &[3 * width, width])?;
        let bias =
            super::weights::vector(checkpoint, &format!("{attention}.in_proj_bias"), 3 * width)?;
        let projection = |index: usize| Linear {
            weight: weight.rows(index * width..(index + 1) * width),
            bias: bias[index * width..(index + 1) * width].to_vec(),
        };
        let probe = checkpoint.tensor("vision_model.head.probe", &[1, 1, width])?;
        let mut query = vec![0.0; width];
        linear(&probe.to_f32(), &projection(0), &mut query);
        Ok(Self {
            heads: shape.heads,
            query,
            key: projection(1),
            value: projection(2),
            out: Linear::load(checkpoint, &format!("{attention}.out_proj"), width, width)?,
            norm: LayerNorm::load(checkpoint, "vision_model.head.layernorm", width, shape.eps)?,
            mlp: Mlp::load(checkpoint, "vision_model.head.mlp", width, shape.mlp)?,
        })
    }

    /// Pools `buffers.y` (B * N, D) to (B, D); also gives the attention weights (B, H, N).
    fn forward(&self, buffers: &mut Buffers, batch: usize, patches: usize) -> (Vec<f32>, Vec<f32>) {
        let width = self.query.len();
        let len = batch * patches * width;
        let (k, v) = (sized(&mut buffers.k, len), sized(&mut buffers.v, len));
        linear(&buffers.y[..len], &self.key, k);
        linear(&buffers.y[..len], &self.value, v);

        let mut attended = vec![0.0; batch * width];
        let mut weights = vec![0.0; batch * self.heads * patches];
        for item in 0..batch {
            let own = item * patches * width..(item + 1) * patches * width;
            attend_one(
                &self.query,
                [&k[own.clone()], &v[own]],
                &mut attended[item * width..(item + 1) * width],
                &mut weights[item * self.heads * patches..(item + 1) * self.heads * patches],
            );
        }

        let mut pooled = vec![0.0; batch * width];
        linear(&attended, &self.out, &mut pooled);
        layer_norm(&pooled, &self.norm, &mut attended);
        let mut hidden = vec![0.0; batch * self.mlp.fc1.output()];
        linear(&attended, &self.mlp.fc1, &mut hidden);
        gelu(&mut hidden);
        linear_add(&hidden, &self.mlp.fc2, &mut pooled);
        (pooled, weights)
    }
}
