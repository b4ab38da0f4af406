//! The weights of one layer, found by their Hugging Face names and checked by shape.

use crate::Result;
use crate::checkpoint::{Checkpoint, Tensor};

/// `y = x W^T + b`.
pub(super) struct Linear {
    /// (out, in), as stored.
    pub weight: Tensor,
    /// (out).
    pub bias: Vec<f32>,
}

impl Linear {
    pub fn load(checkpoint: &Checkpoint, name: &str, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.tensor(&format!("{name}.weight"), &[output, input])?,
            bias: vector(checkpoint, &format!("{name}.bias"), output)?,
        })
    }

    /// Input width.
    pub fn input(&self) -> usize {
        self.weight.shape()[1..].iter().product()
    }

    /// Output width.
    pub fn output(&self) -> usize {
        self.bias.len()
    }
}

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.
pub(super) struct LayerNorm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub eps: f32,
}

impl LayerNorm {
    pub fn load(checkpoint: &Checkpoint, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: vector(checkpoint, &format!("{name}.weight"), width)?,
            bias: vector(checkpoint, &format!("{name}.bias"), width)?,
            eps,
        })
    }
}

/// Two linear layers with tanh-GELU between them.
pub(super) struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl Mlp {
    pub fn load(checkpoint: &Checkpoint, name: &str, width: usize, hidden: usize) -> Result<Self> {
        Ok(Self {
            fc1: Linear::load(checkpoint, &format!("{name}.fc1"), width, hidden)?,
            fc2: Linear::load(checkpoint, &format!("{name}.fc2"), hidden, width)?,
        })
    }
}

/// A vector of `len` numbers.
pub(super) fn vector(checkpoint: &Checkpoint, name: &str, len: usize) -> Result<Vec<f32>> {
    Ok(checkpoint.tensor(name, &[len])?.to_f32().into_owned())
}
