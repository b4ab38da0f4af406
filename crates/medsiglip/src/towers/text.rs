//! The text tower: tokens, layers, last-token pooling, a linear head.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, module};

use super::layers::{LayerNorm, Layers, Linear};
use super::{Forward, Weights};
use crate::Result;
use crate::config::TextConfig;
use crate::model::Keep;
use crate::tokenizer::TokenIds;

/// The text tower.
#[derive(Module, Debug)]
pub struct TextTower {
    /// Tokens and positions.
    pub embeddings: Embeddings,
    /// The layers.
    pub encoder: Layers,
    /// After the last layer.
    pub final_layer_norm: LayerNorm,
    /// The last token's state to the embedding.
    pub head: Linear,
}

/// Tokens and positions.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// (V, D).
    pub token_embedding: Table,
    /// (T, D).
    pub position_embedding: Table,
}

/// Rows to look up or to add.
#[derive(Module, Debug)]
pub struct Table {
    /// (rows, D).
    pub weight: Param<Tensor<2>>,
}

impl Table {
    pub(super) fn load(weights: &Weights, name: &str, rows: usize, width: usize) -> Result<Self> {
        Ok(Self {
            weight: weights.param(&format!("{name}.weight"), [rows, width])?,
        })
    }
}

impl TextTower {
    pub(super) fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let width = config.hidden_size;
        let shape = config.shape();
        let table = |name, rows| {
            Table::load(
                weights,
                &format!("text_model.embeddings.{name}"),
                rows,
                width,
            )
        };
        Ok(Self {
            embeddings: Embeddings {
                token_embedding: table("token_embedding", config.vocab_size)?,
                position_embedding: table("position_embedding", config.max_position_embeddings)?,
            },
            encoder: Layers::load(weights, "text_model", shape)?,
            final_layer_norm: LayerNorm::load(
                weights,
                "text_model.final_layer_norm",
                width,
                shape.eps,
            )?,
            head: Linear::load(weights, "text_model.head", width, config.projection_size)?,
        })
    }

    /// Token ids as a tensor on `device`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there are none, or of another length than this tower's, or one is not in the vocabulary.
    pub fn input(&self, ids: &TokenIds, device: &Device) -> Result<Tensor<2, Int>> {
        let [length, _] = self.embeddings.position_embedding.weight.dims();
        let [vocab, _] = self.embeddings.token_embedding.weight.dims();
        ids.check(length, vocab)?;
        let numbers: Vec<i32> = ids.data().iter().map(|id| *id as i32).collect();
        let data = TensorData::new(numbers, [ids.batch(), ids.length()]);
        Ok(Tensor::from_data(data, device))
    }

    /// Token ids (B, T), padding included, each below V.
    pub fn forward(&self, ids: Tensor<2, Int>, keep: Keep) -> Forward {
        let tokens = module::embedding(self.embeddings.token_embedding.weight.val(), ids);
        let x = tokens + self.embeddings.position_embedding.weight.val().unsqueeze();
        let (x, hidden_states) = self.encoder.forward(x, keep.hidden_states);
        let last_hidden_state = self.final_layer_norm.forward(x);
        let [batch, length, width] = last_hidden_state.dims();
        let last = last_hidden_state
            .clone()
            .slice([0..batch, length - 1..length, 0..width]);
        let pooled: Tensor<2> = self.head.forward(last).squeeze_dim(1);
        Forward {
            pooled: Some(pooled),
            last_hidden_state,
            hidden_states,
            map_attention: None,
        }
    }
}
