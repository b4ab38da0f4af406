//! The fused layer beside the same layer in Burn's own operations.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Distribution, Gradients};

use super::*;
use crate::checkpoint::{Checkpoint, ModelSource, OpenOptions};
use crate::towers::{Layer, Siglip};

fn layer(device: &Device) -> Layer {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny");
    let source = ModelSource::Local(folder.into());
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default()).unwrap();
    let model = Siglip::load(&checkpoint, device).unwrap();
    model.vision_model.encoder.layers[1].clone()
}

struct Collect<'a> {
    gradients: &'a Gradients,
    values: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).unwrap();
        self.values.push(gradient.into_data().try_to_vec().unwrap());
    }
}

/// Output, gradient of the input, gradients of all parameters, of the sum of the output times `weights`.
fn run(
    layer: &Layer,
    forward: fn(&Layer, Tensor<3>) -> Tensor<3>,
    x: &Tensor<3>,
    weights: &Tensor<3>,
) -> Vec<Vec<f32>> {
    let on = |values: &Tensor<3>| {
        let values = Tensor::from_inner(values.clone());
        match layer
            .layer_norm1
            .weight
            .val()
            .device()
            .gradient_checkpointing_strategy()
        {
            Some(strategy) => values.with_gradient_checkpointing_strategy(strategy),
            None => values,
        }
    };
    let x = on(x).require_grad();
    let y = forward(layer, x.clone());
    let gradients = (y.clone() * on(weights)).sum().backward();
    let mut collect = Collect {
        gradients: &gradients,
        values: vec![
            y.into_data().try_to_vec().unwrap(),
            x.grad(&gradients)
                .unwrap()
                .into_data()
                .try_to_vec()
                .unwrap(),
        ],
    };
    layer.visit(&mut collect);
    collect.values
}

/// Where the gradient of the keys' bias stands: after output, input, first norm, queries and the keys' weight.
const KEYS_BIAS: usize = 7;

fn check(batch: usize, tokens: usize, checkpointing: bool) {
    let inner = Device::flex();
    inner.seed((batch * tokens) as u64);
    let shape = [batch, tokens, 64];
    let x = Tensor::random(shape, Distribution::Normal(0.1, 1.0), &inner);
    let weights = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &inner);
    let device = inner.autodiff();
    let fused = layer(&match checkpointing {
        true => device.clone().gradient_checkpointing(),
        false => device.clone(),
    });
    let got = run(&fused, forward, &x, &weights);
    let want_all = run(&layer(&device), Layer::composed, &x, &weights);
    assert_eq!(got.len(), 2 + 2 * PARTS);
    for (number, (got, want)) in got.iter().zip(&want_all).enumerate() {
        // Gradients are sums of numbers of about one. That of the keys' bias is zero, since it moves all scores of a query
        // alike, and what is left of it is the rounding of the sum that the keys' weights have too.
        let like = if number == KEYS_BIAS {
            &want_all[KEYS_BIAS - 1]
        } else {
            want
        };
        let largest = like.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        let off = got
            .iter()
            .zip(want)
            .map(|(g, w)| (g - w).abs())
            .fold(0.0, f32::max);
        assert!(
            off <= 2e-5 * largest,
            "{batch} x {tokens}, part {number}: {off} of {largest}"
        );
    }
}

#[test]
fn equals_the_composed_layer_forward_and_backward() {
    // One item and several at once, fewer and more rows than go through at once, several blocks of queries.
    for (batch, tokens) in [(1, 1), (3, 7), (9, 33), (2, 300)] {
        check(batch, tokens, false);
        check(batch, tokens, true);
    }
}
