//! The vision tower: patches, blocks, MAP pooling head.

use super::block::Blocks;
use super::buffers::Buffers;
use super::kernels::{Then, layer_norm, linear, pool};
use super::panels::{LANES, Rows};
use super::weights::{LayerNorm, Linear, Mlp};
use crate::checkpoint::{Checkpoint, Dtype, Tensor};
use crate::config::Shape;
use crate::embedding::Embeddings;
use crate::model::{Keep, TowerOutput};
use crate::preprocess::PixelValues;
use crate::{Config, Result};

pub(super) struct VisionTower {
    size: usize,
    patch: usize,
    grid: usize,
    embed: Linear,
    /// (N, D), in panels.
    positions: Vec<f32>,
    blocks: Blocks,
    head: Option<MapHead>,
    /// A classifier's pooling.
    mean: bool,
}

impl VisionTower {
    pub fn load(checkpoint: &Checkpoint, config: &Config) -> Result<Self> {
        let mean = config.classes.is_some();
        let config = &config.vision;
        let (width, patch) = (config.hidden_size, config.patch_size);
        let shape = config.shape();
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
            positions: in_panels(&positions.to_f32(), width),
            blocks: Blocks::load(checkpoint, "vision_model", "post_layernorm", shape)?,
            head: if config.use_head && !mean {
                Some(MapHead::load(checkpoint, shape)?)
            } else {
                None
            },
            mean,
        })
    }

    /// Number of patches, N.
    pub fn num_patches(&self) -> usize {
        self.grid * self.grid
    }

    /// How the weights are stored.
    pub fn dtype(&self) -> Dtype {
        self.blocks.dtype()
    }

    pub fn check(&self, pixels: &PixelValues) -> Result<()> {
        pixels.check(self.size)
    }

    /// # Shapes
    /// `pixels` is (B, 3, size, size).
    pub fn forward(
        &self,
        pixels: &[f32],
        keep: Keep,
        buffers: &mut Buffers,
    ) -> Result<TowerOutput> {
        let width = self.blocks.shape.width;
        let rows = Rows {
            items: pixels.len() / (3 * self.size * self.size),
            tokens: self.num_patches(),
        };
        let inputs = self.embed.input();
        let widest = self.blocks.widest().max(inputs);
        buffers.reserve(rows.len(width), rows.len(widest))?;

        let (x, cut) = (
            &mut buffers.x[..rows.len(width)],
            &mut buffers.wide[..rows.len(inputs)],
        );
        self.cut_patches(pixels, rows, cut);
        linear(cut, &self.embed, Then::Store, x);
        for item in x.chunks_exact_mut(self.positions.len()) {
            item.iter_mut()
                .zip(&self.positions)
                .for_each(|(x, p)| *x += p);
        }

        let hidden_states = self.blocks.forward(buffers, rows, keep.hidden_states);
        let last_hidden_state = keep
            .last_hidden_state
            .then(|| rows.gather(&buffers.y, width));
        let mut map_attention = None;
        let pooled = match &self.head {
            Some(head) => {
                let (pooled, weights) = head.forward(buffers, rows);
                map_attention = keep.map_attention.then_some(weights);
                Some(Embeddings::new(width, pooled)?)
            }
            None if self.mean => Some(Embeddings::new(width, mean(&buffers.y, rows, width))?),
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
    /// `pixels` (B, 3, size, size) to `cut`, panels of 3 * patch * patch columns.
    fn cut_patches(&self, pixels: &[f32], rows: Rows, cut: &mut [f32]) {
        let (size, patch, grid) = (self.size, self.patch, self.grid);
        let columns = 3 * patch * patch;
        for item in 0..rows.items {
            for token in 0..rows.tokens {
                let (y, x) = (token / grid * patch, token % grid * patch);
                let out = &mut cut[rows.at(item, token, columns)..];
                for line in 0..3 * patch {
                    let (channel, y) = (line / patch, y + line % patch);
                    let start = ((item * 3 + channel) * size + y) * size + x;
                    let out = out[line * patch * LANES..].iter_mut().step_by(LANES);
                    out.zip(&pixels[start..start + patch])
                        .for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// The mean of every item's rows: (B, D).
fn mean(y: &[f32], rows: Rows, width: usize) -> Vec<f32> {
    let of_item = |item| {
        let mut sums = vec![0.0f64; width];
        for token in 0..rows.tokens {
            let row = rows.row(y, item, token, width);
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(x));
        }
        sums.into_iter()
            .map(|sum| (sum / rows.tokens as f64) as f32)
    };
    (0..rows.items).flat_map(of_item).collect()
}

/// Multihead attention pooling (Lee et al., Set Transformer, arXiv 1810.00825): one learned query, the probe,
/// attends to all patches; then a residual MLP.
///
/// The query is the same for every picture, so that no patch needs a key or a value of its own: a head's score of patch y
/// is `q . (K y + b) = (K^T q) . y + q . b`, of which softmax ignores the last term, and as weights sum to 1,
/// `sum of w (V y + b) = V (sum of w y) + b`.
struct MapHead {
    /// `K^T q / sqrt(Dh)` of each head: (H, D).
    looks: Linear,
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
        Ok(Self {
            looks: looks(&probe.to_f32(), &projection(0), &projection(1), shape.heads),
            value: projection(2),
            out: Linear::load(checkpoint, &format!("{attention}.out_proj"), width, width)?,
            norm: LayerNorm::load(checkpoint, "vision_model.head.layernorm", width, shape.eps)?,
            mlp: Mlp::load(checkpoint, "vision_model.head.mlp", width, shape.mlp)?,
        })
    }

    /// Pools `buffers.y`, panels of D columns, to (B, D); also gives the attention weights (B, H, N).
    fn forward(&self, buffers: &mut Buffers, rows: Rows) -> (Vec<f32>, Vec<f32>) {
        let (width, heads) = (self.looks.input(), self.looks.output());
        let y = &buffers.y[..rows.len(width)];
        let scores = &mut buffers.wide[..rows.len(heads)];
        linear(y, &self.looks, Then::Store, scores);

        // Each item now has a row for each head.
        let of_heads = Rows {
            items: rows.items,
            tokens: heads,
        };
        let mut weights = vec![0.0; rows.items * heads * rows.tokens];
        let mut sums = vec![0.0; of_heads.len(width)];
        let of_item = |all: usize| all / rows.items;
        weights
            .chunks_exact_mut(heads * rows.tokens)
            .zip(sums.chunks_exact_mut(of_item(of_heads.len(width))))
            .zip(scores.chunks_exact(of_item(rows.len(heads))))
            .zip(y.chunks_exact(of_item(rows.len(width))))
            .for_each(|(((weights, sums), scores), y)| {
                pool([scores, y], rows.tokens, weights, sums)
            });

        let mut values = vec![0.0; sums.len()];
        linear(&sums, &self.value, Then::Store, &mut values);
        let dim = width / heads;
        let attended: Vec<f32> = (0..rows.items * width)
            .map(|place| {
                let (item, column) = (place / width, place % width);
                values[of_heads.at(item, column / dim, width) + column * LANES]
            })
            .collect();
        (self.finish(&attended, buffers), weights)
    }

    /// What follows attention: out projection, then a residual MLP.
    ///
    /// # Shapes
    /// `attended` (B, D) to (B, D).
    fn finish(&self, attended: &[f32], buffers: &mut Buffers) -> Vec<f32> {
        let width = self.out.output();
        let rows = Rows {
            items: 1,
            tokens: attended.len() / width,
        };
        let (x, y) = (
            &mut buffers.x[..rows.len(width)],
            &mut buffers.y[..rows.len(width)],
        );
        let hidden = &mut buffers.wide[..rows.len(self.mlp.fc1.output())];
        rows.scatter(attended, width, y);
        linear(y, &self.out, Then::Store, x);
        layer_norm(x, &self.norm, y);
        linear(y, &self.mlp.fc1, Then::Gelu, hidden);
        linear(hidden, &self.mlp.fc2, Then::Add, x);
        rows.gather(x, width)
    }
}

/// What each head looks for in a patch: (H, D). Once a load, so in f64.
fn looks(probe: &[f32], query: &Linear, key: &Linear, heads: usize) -> Linear {
    let (width, dim) = (probe.len(), probe.len() / heads);
    let scale = 1.0 / (dim as f64).sqrt();
    let (queries, keys) = (query.weight.to_f32(), key.weight.to_f32());
    let rows = queries.chunks_exact(width).zip(&query.bias);
    let mut looks = vec![0.0f64; heads * width];
    for (row, ((weights, bias), keys)) in rows.zip(keys.chunks_exact(width)).enumerate() {
        let products = weights.iter().zip(probe);
        let products = products.map(|(w, p)| f64::from(*w) * f64::from(*p));
        let q = (products.sum::<f64>() + f64::from(*bias)) * scale;
        let looks = &mut looks[row / dim * width..][..width];
        for (look, key) in looks.iter_mut().zip(keys) {
            *look += q * f64::from(*key);
        }
    }
    let looks = looks.iter().map(|look| *look as f32).collect();
    Linear {
        weight: Tensor::from_f32(vec![heads, width], looks),
        bias: vec![0.0; heads],
    }
}

/// Row-major rows of one item as panels; spare lanes are zero.
fn in_panels(numbers: &[f32], width: usize) -> Vec<f32> {
    let rows = Rows {
        items: 1,
        tokens: numbers.len() / width,
    };
    let mut panels = vec![0.0; rows.len(width)];
    rows.scatter(numbers, width, &mut panels);
    panels
}
