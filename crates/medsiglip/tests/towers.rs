//! Gradients of the towers in Burn beside central differences.
#![cfg(feature = "towers")]

mod common;

use std::path::Path;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};
use medsiglip::checkpoint::{Checkpoint, ModelSource, OpenOptions};
use medsiglip::model::Keep;
use medsiglip::towers::Siglip;

use common::Golden;

/// The sum of all cosines' numerators: enough to reach every weight of both towers.
fn objective(model: &Siglip, golden: &Golden, device: &Device) -> Tensor<1> {
    let pixels = golden.pixels("pixel_values");
    let shape = [pixels.batch(), 3, pixels.size(), pixels.size()];
    let pixels = Tensor::from_data(TensorData::new(pixels.data().to_vec(), shape), device);
    let ids = golden.ids();
    let numbers: Vec<i32> = ids.data().iter().map(|id| *id as i32).collect();
    let shape = [ids.batch(), ids.length()];
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(numbers, shape), device);
    let images = model.vision_model.forward(pixels, Keep::default());
    let texts = model.text_model.as_ref().unwrap();
    let texts = texts.forward(ids, Keep::default());
    let pairs = images
        .pooled
        .unwrap()
        .matmul(texts.pooled.unwrap().transpose());
    pairs.mean()
}

#[test]
fn gradients_equal_central_differences() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let golden = Golden::open(&data.join("golden/tiny.safetensors"));
    let source = ModelSource::Local(data.join("tiny"));
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default()).unwrap();
    let device = Device::flex().autodiff();
    let model = Siglip::load(&checkpoint, &device).unwrap();
    let gradients = objective(&model, &golden, &device).backward();

    /// Along the gradient itself, the slope is the gradient's length.
    fn check<const D: usize>(
        name: &str,
        at: fn(&mut Siglip) -> &mut Param<Tensor<D>>,
        model: &Siglip,
        gradients: &burn::tensor::Gradients,
        value: &dyn Fn(&Siglip) -> f64,
    ) {
        let mut moved = model.clone();
        let stored = at(&mut moved).val();
        let gradient = stored.grad(gradients).expect(name);
        let length = f64::from(gradient.clone().square().sum().into_scalar::<f32>()).sqrt();
        let direction = gradient / length;
        let mut at_step = |step: f64| {
            let place = stored.clone().inner() + direction.clone() * step;
            *at(&mut moved) = Param::initialized(ParamId::new(), Tensor::from_inner(place));
            value(&moved)
        };
        let mut slope = |step: f64| (at_step(step) - at_step(-step)) / (2.0 * step);
        // The error of central differences falls with the square of the step (Richardson).
        let slope = (4.0 * slope(4e-3) - slope(8e-3)) / 3.0;
        assert!(
            (slope - length).abs() <= 1e-3 * length,
            "{name}: slope {slope}, gradient {length}"
        );
    }

    let value = |model: &Siglip| f64::from(objective(model, &golden, &device).into_scalar::<f32>());
    macro_rules! check {
        ($($path:tt)+) => {
            check(stringify!($($path)+), |m| &mut m.$($path)+, &model, &gradients, &value)
        };
    }
    check!(vision_model.embeddings.patch_embedding.weight);
    check!(vision_model.embeddings.position_embedding.weight);
    check!(vision_model.encoder.layers[0].self_attn.q_proj.weight);
    check!(vision_model.encoder.layers[0].layer_norm1.weight);
    check!(vision_model.encoder.layers[1].mlp.fc1.bias);
    check!(vision_model.head.as_mut().unwrap().probe);
    check!(vision_model.head.as_mut().unwrap().attention.in_proj_weight);
    check!(
        text_model
            .as_mut()
            .unwrap()
            .embeddings
            .token_embedding
            .weight
    );
    check!(
        text_model.as_mut().unwrap().encoder.layers[0]
            .self_attn
            .k_proj
            .weight
    );
    check!(text_model.as_mut().unwrap().head.weight);
}
