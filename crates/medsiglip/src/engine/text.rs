//! The text tower: tokens, blocks, last-token pooling, a linear head.

use super::block::Blocks;
use super::buffers::Buffers;
use super::kernels::{Then, linear};
use super::panels::{LANES, Rows};
use super::weights::Linear;
use crate::Result;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::TextConfig;
use crate::embedding::Embeddings;
use crate::model::{Keep, TowerOutput};
use crate::tokenizer::TokenIds;

pub(super) struct TextTower {
    vocab: usize,
    /// (V, D), read row by row from where it is stored.
    tokens: Tensor,
    /// (T, D).
    positions: Vec<f32>,
    blocks: Blocks,
    head: Linear,
}

impl TextTower {
    pub fn load(checkpoint: &Checkpoint, config: &TextConfig) -> Result<Self> {
        let (width, vocab) = (config.hidden_size, config.vocab_size);
        let shape = config.shape();
        let embeddings = "text_model.embeddings";
        let positions = checkpoint.tensor(
            &format!("{embeddings}.position_embedding.weight"),
            &[config.max_position_embeddings, width],
        )?;
        Ok(Self {
            vocab,
            tokens: checkpoint.tensor(
                &format!("{embeddings}.token_embedding.weight"),
                &[vocab, width],
            )?,
            positions: positions.to_f32().into_owned(),
            blocks: Blocks::load(checkpoint, "text_model", "final_layer_norm", shape)?,
            head: Linear::load(checkpoint, "text_model.head", width, config.projection_size)?,
        })
    }

    pub fn check(&self, ids: &TokenIds) -> Result<()> {
        ids.check(self.positions.len() / self.blocks.shape.width, self.vocab)
    }

    /// # Shapes
    /// `ids` is (B, T), checked.
    pub fn forward(&self, ids: &[u32], keep: Keep, buffers: &mut Buffers) -> Result<TowerOutput> {
        let width = self.blocks.shape.width;
        let tokens = self.positions.len() / width;
        let rows = Rows {
            items: ids.len() / tokens,
            tokens,
        };
        buffers.reserve(rows.len(width), rows.len(self.blocks.widest()))?;
        self.embed(ids, rows, &mut buffers.x);

        let hidden_states = self.blocks.forward(buffers, rows, keep.hidden_states);
        let y = &buffers.y[..rows.len(width)];
        let last: Vec<f32> = (0..rows.items)
            .flat_map(|item| rows.row(y, item, tokens - 1, width))
            .collect();
        let last_hidden_state = keep.last_hidden_state.then(|| rows.gather(y, width));

        // One row an item.
        let rows = Rows {
            items: 1,
            tokens: rows.items,
        };
        let (x, output) = (rows.len(width), self.head.output());
        rows.scatter(&last, width, &mut buffers.x);
        let pooled = &mut buffers.wide[..rows.len(output)];
        linear(&buffers.x[..x], &self.head, Then::Store, pooled);
        Ok(TowerOutput {
            pooled: Some(Embeddings::new(output, rows.gather(pooled, output))?),
            last_hidden_state,
            hidden_states,
            map_attention: None,
        })
    }

    /// Token and position embeddings of every token, into panels.
    fn embed(&self, ids: &[u32], rows: Rows, x: &mut [f32]) {
        let width = self.blocks.shape.width;
        for (row, id) in ids.iter().enumerate() {
            let (item, token) = (row / rows.tokens, row % rows.tokens);
            let position = &self.positions[token * width..][..width];
            let id = *id as usize;
            let embedding = self.tokens.rows(id..id + 1);
            let column = x[rows.at(item, token, width)..].iter_mut().step_by(LANES);
            for (x, (t, p)) in column.zip(embedding.to_f32().iter().zip(position)) {
                *x = t + p;
            }
        }
    }
}
