//! The text tower: tokens, blocks, last-token pooling, a linear head.

use super::block::{Blocks, Shape};
use super::buffers::{Buffers, sized};
use super::kernels::linear;
use super::weights::Linear;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::TextConfig;
use crate::embedding::Embeddings;
use crate::model::{Keep, TowerOutput};
use crate::tokenizer::TokenIds;
use crate::{Error, Result};

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
        let shape = Shape {
            width,
            mlp: config.intermediate_size,
            depth: config.num_hidden_layers,
            heads: config.num_attention_heads,
            eps: config.layer_norm_eps,
        };
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

    /// Pads are attended like any token (there is no mask), so a shorter row would give another answer: it is refused.
    pub fn check(&self, ids: &TokenIds) -> Result<()> {
        let length = self.positions.len() / self.blocks.shape.width;
        if ids.length() != length {
            return Err(Error::BadArgument(format!(
                "token ids: expected {length} a text, padding included, got {}",
                ids.length()
            )));
        }
        match ids.data().iter().find(|id| **id as usize >= self.vocab) {
            Some(id) => Err(Error::BadArgument(format!(
                "token ids: expected ids below {}, got {id}",
                self.vocab
            ))),
            None => Ok(()),
        }
    }

    /// # Shapes
    /// `ids` is (B, T), checked.
    pub fn forward(&self, ids: &[u32], keep: Keep, buffers: &mut Buffers) -> Result<TowerOutput> {
        let width = self.blocks.shape.width;
        let (rows, length) = (ids.len(), self.positions.len() / width);

        let x = sized(&mut buffers.x, rows * width);
        for (row, (id, x)) in ids.iter().zip(x.chunks_exact_mut(width)).enumerate() {
            let position = &self.positions[row % length * width..][..width];
            let id = *id as usize;
            let token = self.tokens.rows(id..id + 1);
            let token = token.to_f32();
            x.iter_mut()
                .zip(token.iter().zip(position))
                .for_each(|(x, (t, p))| *x = t + p);
        }

        let hidden_states = self
            .blocks
            .forward(buffers, rows, length, keep.hidden_states);
        let y = &buffers.y[..rows * width];
        let last: Vec<f32> = y
            .chunks_exact(length * width)
            .flat_map(|item| &item[(length - 1) * width..])
            .copied()
            .collect();
        let mut pooled = vec![0.0; rows / length * self.head.output()];
        linear(&last, &self.head, &mut pooled);
        Ok(TowerOutput {
            pooled: Some(Embeddings::new(self.head.output(), pooled)?),
            last_hidden_state: keep.last_hidden_state.then(|| y.to_vec()),
            hidden_states,
            map_attention: None,
        })
    }
}
