//! A transformer layer as one operation of the CPU backend, with a backward pass of its own.
//!
//! Automatic differentiation takes a layer apart into some forty operations on the whole batch, each of which reads and
//! writes memory. Here a few items at a time go through the whole layer. With gradient checkpointing
//! ([`GradientCheckpointingStrategy::Balanced`](burn::tensor::GradientCheckpointingStrategy)) nothing is kept but the
//! layer's input, and the rest is made again in the backward pass.
//!
//! `layer` is the arithmetic on slices; here is what Burn needs to know of it.

mod attention;
mod buffer;
mod layer;
mod pointwise;
mod product;

use std::any::TypeId;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchDevice, ExtensionType, Flex, TensorMetadata,
    backend_extension,
};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::layers;
use attention::Heads;
use buffer::Buffer;
use layer::{Dims, PARTS, Pair, Parts, Pass};

/// Whether a layer on `device` runs as one operation.
pub(super) fn runs_on(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// `layer` of `x` (B, N, D), on the CPU.
pub(super) fn forward(layer: &layers::Layer, x: Tensor<3>) -> Tensor<3> {
    let norm = |norm: &layers::LayerNorm| TensorPair {
        weight: norm.weight.val().into_dispatch(),
        bias: norm.bias.val().into_dispatch(),
    };
    let linear = |linear: &layers::Linear| TensorPair {
        weight: linear.weight.val().into_dispatch(),
        bias: linear.bias.val().into_dispatch(),
    };
    let attention = &layer.self_attn;
    let tensors = LayerTensors {
        x: x.into_dispatch(),
        norm1: norm(&layer.layer_norm1),
        query: linear(&attention.q_proj),
        key: linear(&attention.k_proj),
        value: linear(&attention.v_proj),
        out: linear(&attention.out_proj),
        norm2: norm(&layer.layer_norm2),
        fc1: linear(&layer.mlp.fc1),
        fc2: linear(&layer.mlp.fc2),
    };
    let eps = layer.layer_norm1.eps();
    Tensor::from_dispatch(Dispatch::encoder_layer(tensors, attention.heads(), eps))
}

/// A weight and its bias.
#[derive(ExtensionType)]
struct TensorPair<B: Backend> {
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
}

/// A layer's input (B, N, D) and its parameters.
#[derive(ExtensionType)]
struct LayerTensors<B: Backend> {
    x: FloatTensor<B>,
    #[extension_type]
    norm1: TensorPair<B>,
    #[extension_type]
    query: TensorPair<B>,
    #[extension_type]
    key: TensorPair<B>,
    #[extension_type]
    value: TensorPair<B>,
    #[extension_type]
    out: TensorPair<B>,
    #[extension_type]
    norm2: TensorPair<B>,
    #[extension_type]
    fc1: TensorPair<B>,
    #[extension_type]
    fc2: TensorPair<B>,
}

impl<B: Backend> LayerTensors<B> {
    /// The input and the parameters, in the order of the layer's parts.
    fn split(self) -> (FloatTensor<B>, Parts<FloatTensor<B>>) {
        let parts = [
            self.norm1, self.query, self.key, self.value, self.out, self.norm2, self.fc1, self.fc2,
        ];
        let params = parts.map(|TensorPair { weight, bias }| Pair { weight, bias });
        (self.x, params)
    }
}

#[backend_extension(Autodiff, Flex)]
trait LayerBackend: Backend {
    fn encoder_layer(
        #[extension_type] tensors: LayerTensors<Self>,
        heads: usize,
        eps: f64,
    ) -> FloatTensor<Self>;
}

impl LayerBackend for Flex {
    fn encoder_layer(tensors: LayerTensors<Self>, heads: usize, eps: f64) -> FlexTensor {
        let (x, params) = tensors.split();
        Call::new(x, params, heads, eps).forward(false).0
    }
}

impl<C: CheckpointStrategy> LayerBackend for Autodiff<Flex, C> {
    fn encoder_layer(tensors: LayerTensors<Self>, heads: usize, eps: f64) -> FloatTensor<Self> {
        let (x, params) = tensors.split();
        let (x, node) = x.into_parts();
        let mut nodes = vec![node];
        let params = params.map(|Pair { weight, bias }| {
            let (weight, weight_node) = weight.into_parts();
            let (bias, bias_node) = bias.into_parts();
            nodes.extend([weight_node, bias_node]);
            Pair { weight, bias }
        });
        let Ok(nodes) = <[_; TENSORS]>::try_from(nodes) else {
            unreachable!("one input and two tensors a part")
        };
        let call = Call::new(x, params, heads, eps);
        match EncoderLayer.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let again = TypeId::of::<C>() == TypeId::of::<BalancedCheckpointing>();
                let (y, saved) = call.forward(!again);
                let saved = Arc::new(saved);
                prep.finish(State { call, saved }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(call.forward(false).0),
        }
    }
}

/// The input of a layer and its sixteen parameters.
const TENSORS: usize = 1 + 2 * PARTS;

/// The operation, as automatic differentiation knows it.
#[derive(Debug)]
struct EncoderLayer;

#[derive(Debug, Clone)]
struct State {
    call: Call,
    saved: Arc<Vec<Buffer>>,
}

impl Backward<Flex, TENSORS> for EncoderLayer {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, TENSORS>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let State { call, saved } = ops.state;
        let gradients = call.backward(&saved, &dy);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// A call of the operation: contiguous tensors, and sizes.
#[derive(Debug, Clone)]
struct Call {
    x: FlexTensor,
    params: Parts<FlexTensor>,
    dims: Dims,
}

impl Call {
    fn new(x: FlexTensor, params: Parts<FlexTensor>, heads: usize, eps: f64) -> Self {
        let [_, tokens, width] = x.shape().dims();
        let [hidden] = params[PARTS - 2].bias.shape().dims();
        Self {
            x: contiguous(x),
            params: params.map(|Pair { weight, bias }| Pair {
                weight: contiguous(weight),
                bias: contiguous(bias),
            }),
            dims: Dims {
                heads: Heads {
                    tokens,
                    width,
                    heads,
                },
                hidden,
                eps: eps as f32,
            },
        }
    }

    fn run<R>(&self, run: impl FnOnce(Pass) -> R) -> R {
        let params = self.params.each_ref().map(|pair| Pair {
            weight: pair.weight.storage::<f32>(),
            bias: pair.bias.storage::<f32>(),
        });
        run(Pass {
            dims: self.dims,
            params: &params,
            x: self.x.storage::<f32>(),
        })
    }

    /// The output, and where `keep` says so, what the backward pass needs.
    fn forward(&self, keep: bool) -> (FlexTensor, Vec<Buffer>) {
        let mut y = vec![0.0; self.x.shape().num_elements()];
        let saved = self.run(|pass| pass.forward(&mut y, keep));
        (tensor(y, &self.x), saved)
    }

    /// The gradients of the input and of every parameter, in their order.
    fn backward(&self, saved: &[Buffer], dy: &FlexTensor) -> Vec<FlexTensor> {
        let mut dx = vec![0.0; self.x.shape().num_elements()];
        let params = self.run(|pass| pass.backward(saved, dy.storage::<f32>(), &mut dx));
        let mut gradients = vec![tensor(dx, &self.x)];
        for (gradient, pair) in params.into_iter().zip(&self.params) {
            gradients.push(tensor(gradient.weight, &pair.weight));
            gradients.push(tensor(gradient.bias, &pair.bias));
        }
        gradients
    }
}

/// A tensor of the shape of `like`.
fn tensor(numbers: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, like.shape()))
}

/// `tensor` with its numbers side by side, from the first of its storage on.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    assert_eq!(tensor.dtype(), DType::F32, "training on the CPU is in f32");
    let whole = tensor.storage::<f32>().len() == tensor.shape().num_elements();
    if whole && tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

#[cfg(test)]
mod tests;
