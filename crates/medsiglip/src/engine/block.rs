//! One pre-norm transformer block, and a stack of them: the part that both towers share.

use super::buffers::{Buffers, thirds};
use super::kernels::{Heads, Then, attention, layer_norm, linear};
use super::panels::Rows;
use super::weights::{LayerNorm, Linear, Mlp};
use crate::Result;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::config::Shape;

/// `x += attention(norm1(x)); x += mlp(norm2(x))`.
struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
}

/// The blocks of a tower and its final layer norm.
pub(super) struct Blocks {
    pub shape: Shape,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
}

impl Blocks {
    /// Loads `{tower}.encoder.layers.*` and the layer norm `{tower}.{final_norm}`.
    pub fn load(
        checkpoint: &Checkpoint,
        tower: &str,
        final_norm: &str,
        shape: Shape,
    ) -> Result<Self> {
        let Shape {
            width, mlp, eps, ..
        } = shape;
        let block = |index: usize| {
            let layer = format!("{tower}.encoder.layers.{index}");
            let projection = |name: &str| {
                Linear::load(
                    checkpoint,
                    &format!("{layer}.self_attn.{name}_proj"),
                    width,
                    width,
                )
            };
            Ok(Block {
                norm1: LayerNorm::load(checkpoint, &format!("{layer}.layer_norm1"), width, eps)?,
                query: projection("q")?,
                key: projection("k")?,
                value: projection("v")?,
                out: projection("out")?,
                norm2: LayerNorm::load(checkpoint, &format!("{layer}.layer_norm2"), width, eps)?,
                mlp: Mlp::load(checkpoint, &format!("{layer}.mlp"), width, mlp)?,
            })
        };
        Ok(Self {
            shape,
            blocks: (0..shape.depth).map(block).collect::<Result<_>>()?,
            final_norm: LayerNorm::load(checkpoint, &format!("{tower}.{final_norm}"), width, eps)?,
        })
    }

    /// How the weights are stored, told by the first of them.
    pub fn dtype(&self) -> Dtype {
        let first = self.blocks.first();
        first.map_or(Dtype::F32, |block| block.query.weight.dtype())
    }

    /// Columns of the widest thing that a block keeps in `Buffers::wide`.
    pub fn widest(&self) -> usize {
        self.shape.mlp.max(3 * self.shape.width)
    }

    /// Runs `buffers.x` through all blocks; leaves the final layer norm's output in `buffers.y`.
    /// Gives the input of the first block and the output of each where `keep_hidden` is set, row-major.
    ///
    /// # Shapes
    /// `buffers.x` and `buffers.y` are panels of D columns; the rows of an item attend to one another.
    pub fn forward(
        &self,
        buffers: &mut Buffers,
        rows: Rows,
        keep_hidden: bool,
    ) -> Option<Vec<Vec<f32>>> {
        let width = self.shape.width;
        let mut hidden = keep_hidden.then(|| vec![rows.gather(&buffers.x, width)]);
        for block in &self.blocks {
            block.forward(self.shape, buffers, rows);
            if let Some(hidden) = &mut hidden {
                hidden.push(rows.gather(&buffers.x, width));
            }
        }
        let len = rows.len(width);
        layer_norm(&buffers.x[..len], &self.final_norm, &mut buffers.y[..len]);
        hidden
    }
}

impl Block {
    fn forward(&self, shape: Shape, buffers: &mut Buffers, rows: Rows) {
        let Shape { width, heads, .. } = shape;
        let len = rows.len(width);
        let (x, y) = (&mut buffers.x[..len], &mut buffers.y[..len]);
        let [q, k, v] = thirds(&mut buffers.wide, len);

        layer_norm(x, &self.norm1, y);
        linear(y, &self.query, Then::Store, q);
        linear(y, &self.key, Then::Store, k);
        linear(y, &self.value, Then::Store, v);
        attention([q, k, v], y, Heads { rows, width, heads });
        linear(y, &self.out, Then::Add, x);

        layer_norm(x, &self.norm2, y);
        let wide = &mut buffers.wide[..rows.len(shape.mlp)];
        linear(y, &self.mlp.fc1, Then::Gelu, wide);
        linear(wide, &self.mlp.fc2, Then::Add, x);
    }
}
