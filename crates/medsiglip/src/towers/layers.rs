//! What both towers are made of. Letters: B batch, N patches or tokens, D width, H heads, F MLP width.

use burn::module::{Module, Param};
use burn::tensor::activation::gelu_approximate;
use burn::tensor::{DType, FloatDType, Tensor, module};

use super::{Weights, fused};
use crate::Result;
use crate::config::Shape;
use crate::model::Precision;

/// `y = x W^T + b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// (out, in), as PyTorch stores it.
    pub weight: Param<Tensor<2>>,
    /// (out).
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    pub(super) fn load(weights: &Weights, name: &str, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: weights.param(&format!("{name}.weight"), [output, input])?,
            bias: weights.param(&format!("{name}.bias"), [output])?,
        })
    }

    /// (B, N, in) to (B, N, out), in the type of `x`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = cast(self.weight.val(), x.dtype());
        let bias = cast(self.bias.val(), x.dtype());
        module::linear(x, weight.transpose(), Some(bias))
    }
}

/// `x` in another type, or as it is where it has that.
fn cast<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match x.dtype() == dtype {
        true => x,
        false => x.cast(FloatDType::from(dtype)),
    }
}

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// (D).
    pub weight: Param<Tensor<1>>,
    /// (D).
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn load(weights: &Weights, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: weights.param(&format!("{name}.weight"), [width])?,
            bias: weights.param(&format!("{name}.bias"), [width])?,
            eps: f64::from(eps),
        })
    }

    pub(super) fn eps(&self) -> f64 {
        self.eps
    }

    /// (B, N, D) to (B, N, D).
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        module::layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }
}

/// Two linear layers with tanh-GELU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// D to F.
    pub fc1: Linear,
    /// F to D.
    pub fc2: Linear,
}

impl Mlp {
    pub(super) fn load(weights: &Weights, name: &str, width: usize, hidden: usize) -> Result<Self> {
        Ok(Self {
            fc1: Linear::load(weights, &format!("{name}.fc1"), width, hidden)?,
            fc2: Linear::load(weights, &format!("{name}.fc2"), hidden, width)?,
        })
    }

    /// (B, N, D) to (B, N, D).
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu_approximate(self.fc1.forward(x)))
    }
}

/// Multihead self-attention without a mask.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries.
    pub q_proj: Linear,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Linear,
    /// What follows attention.
    pub out_proj: Linear,
    heads: usize,
}

impl Attention {
    fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self> {
        let linear =
            |part| Linear::load(weights, &format!("{name}.{part}"), shape.width, shape.width);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: shape.heads,
        })
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// (B, N, D) to (B, N, D).
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let heads = |projection: &Linear| split_heads(projection.forward(x.clone()), self.heads);
        let attended = module::attention(
            heads(&self.q_proj),
            heads(&self.k_proj),
            heads(&self.v_proj),
            None,
            None,
            Default::default(),
        );
        let joined = attended.swap_dims(1, 2).reshape([batch, tokens, width]);
        self.out_proj.forward(joined)
    }
}

/// (B, N, D) to (B, H, N, D / H).
pub(super) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads])
        .swap_dims(1, 2)
}

/// One transformer layer, norms first.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before attention.
    pub layer_norm1: LayerNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Before the MLP.
    pub layer_norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    /// Whether attention and MLP are in bfloat16.
    bf16: bool,
}

impl Layer {
    fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self> {
        let norm =
            |part| LayerNorm::load(weights, &format!("{name}.{part}"), shape.width, shape.eps);
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            self_attn: Attention::load(weights, &format!("{name}.self_attn"), shape)?,
            layer_norm2: norm("layer_norm2")?,
            mlp: Mlp::load(weights, &format!("{name}.mlp"), shape.width, shape.mlp)?,
            bf16: weights.precision == Precision::Bf16,
        })
    }

    /// (B, N, D) to (B, N, D).
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match fused::runs_on(&x.device()) && !self.bf16 {
            true => fused::forward(self, x),
            false => self.composed(x),
        }
    }

    /// The layer in Burn's own operations. Norms and the sums between layers are in f32.
    pub(super) fn composed(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = if self.bf16 { DType::BF16 } else { DType::F32 };
        let inside = |x| cast(x, dtype);
        let outside = |x| cast(x, DType::F32);
        let attended = inside(self.layer_norm1.forward(x.clone()));
        let x = x + outside(self.self_attn.forward(attended));
        let widened = inside(self.layer_norm2.forward(x.clone()));
        x + outside(self.mlp.forward(widened))
    }
}

/// The layers of a tower: `encoder` in a checkpoint.
#[derive(Module, Debug)]
pub struct Layers {
    /// First to last.
    pub layers: Vec<Layer>,
}

impl Layers {
    pub(super) fn load(weights: &Weights, tower: &str, shape: Shape) -> Result<Self> {
        let layer = |i| Layer::load(weights, &format!("{tower}.encoder.layers.{i}"), shape);
        Ok(Self {
            layers: (0..shape.depth).map(layer).collect::<Result<_>>()?,
        })
    }

    /// (B, N, D) to (B, N, D), and where asked for, `x` and the output of every layer.
    pub(super) fn forward(
        &self,
        mut x: Tensor<3>,
        keep: bool,
    ) -> (Tensor<3>, Option<Vec<Tensor<3>>>) {
        let mut hidden = keep.then(|| vec![x.clone()]);
        for layer in &self.layers {
            x = layer.forward(x);
            if let Some(hidden) = &mut hidden {
                hidden.push(x.clone());
            }
        }
        (x, hidden)
    }
}
