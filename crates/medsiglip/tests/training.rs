//! Training beside transformers and torch: `scripts/make_training_golden.py`.
#![cfg(feature = "train")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};
use medsiglip::checkpoint::{Checkpoint, ModelSource, OpenOptions};
use medsiglip::model::Precision;
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
use medsiglip::towers::{Siglip, params};
use medsiglip::train::auxiliary::{AuxiliaryConfig, with_auxiliary};
use medsiglip::train::optimizer::{GroupConfig, Optimizer, OptimizerConfig, Rule};
use medsiglip::train::step::{Cut, Pairs, sigmoid_step, sigmoid_step_on};

use common::Golden;

const BATCH: usize = 6;
const WHOLE: Cut = Cut {
    micro_batch: BATCH,
    loss_block: BATCH,
};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn tiny(device: &Device) -> Siglip {
    tiny_in(device, Precision::F32)
}

fn tiny_in(device: &Device, precision: Precision) -> Siglip {
    let source = ModelSource::Local(data().join("tiny"));
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default()).unwrap();
    Siglip::load_in(&checkpoint, device, precision).unwrap()
}

/// The integers of the script, 0..2^24.
fn numbers(count: usize, seed: u64) -> impl Iterator<Item = u32> {
    (0..count as u64).map(move |k| (k + seed * 1_000_003).wrapping_mul(2_654_435_761) as u32 >> 8)
}

fn batch(step: u64) -> Pairs {
    let pixels = numbers(BATCH * 3 * 56 * 56, step);
    let pixels = pixels.map(|x| x as f32 / (1 << 23) as f32 - 1.0).collect();
    let ids = numbers(BATCH * 64, 1000 + step).map(|x| x % 640).collect();
    Pairs {
        pixels: PixelValues::new(BATCH, 56, pixels).unwrap(),
        tokens: TokenIds::new(BATCH, 64, ids).unwrap(),
        true_of: (0..BATCH as i32).map(|i| vec![i]).collect(),
        keys: (0..BATCH as i32).collect(),
        auxiliary: None,
    }
}

/// Gradients by parameter.
struct Values<'a> {
    gradients: &'a GradientsParams,
    values: HashMap<ParamId, Vec<f32>>,
}

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let values = gradient.into_data().try_to_vec().unwrap();
            self.values.insert(param.id, values);
        }
    }
}

fn by_name(model: &Siglip, gradients: &GradientsParams) -> HashMap<String, Vec<f32>> {
    let mut values = Values {
        gradients,
        values: HashMap::new(),
    };
    model.visit(&mut values);
    let named = params::list(model).into_iter();
    named
        .filter_map(|p| Some((p.name, values.values.remove(&p.id)?)))
        .collect()
}

/// The distance of `got` from `want`, relative to the length of `want`.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    assert_eq!(got.len(), want.len());
    let off: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    let length: f64 = want.iter().map(|w| square(*w)).sum();
    (off / length.max(1e-30)).sqrt()
}

#[test]
fn every_gradient_equals_transformers() {
    let golden = Golden::open(&data().join("golden/training.safetensors"));
    for device in common::burn_devices() {
        let model = tiny(&device.autodiff());
        let step = sigmoid_step(&model, &batch(0), WHOLE).unwrap();
        let want = f64::from(golden.get("losses")[0]);
        assert!(
            (step.loss - want).abs() <= 1e-6 * want,
            "{} {want}",
            step.loss
        );
        let worst = worst(&golden, by_name(&model, &step.gradients));
        assert!(worst <= 1e-4, "{worst}");
    }
}

/// The largest distance of a gradient from the golden one.
fn worst(golden: &Golden, gradients: HashMap<String, Vec<f32>>) -> f64 {
    assert_eq!(gradients.len(), golden.names().count() - 1);
    // The keys' bias moves all scores of a query alike: its gradient is zero, but for rounding.
    let not_zero = |(name, _): &(String, _)| !name.ends_with("k_proj.bias");
    let distance = |(name, got): (String, Vec<f32>)| distance(&got, golden.get(&name));
    let distances = gradients.into_iter().filter(not_zero).map(distance);
    let worst = distances.fold(0.0, f64::max);
    println!("gradients: largest distance {worst:.1e}");
    worst
}

/// Layers in bfloat16, which has 8 bits: the gradients are those of f32 to a few percent, and in f32 as the weights are.
#[test]
fn gradients_through_layers_in_bf16_are_close_and_in_f32() {
    let golden = Golden::open(&data().join("golden/training.safetensors"));
    for device in common::burn_devices() {
        if !device.supports_dtype(FloatDType::BF16) {
            println!("skipped on {device:?}: it has no bf16");
            continue;
        }
        let model = tiny_in(&device.autodiff(), Precision::Bf16);
        let step = sigmoid_step(&model, &batch(0), WHOLE).unwrap();
        let worst = worst(&golden, by_name(&model, &step.gradients));
        assert!((1e-3..=0.1).contains(&worst), "{worst}");
    }
}

#[test]
fn twenty_steps_equal_torchs() {
    let golden = Golden::open(&data().join("golden/training.safetensors"));
    let config = OptimizerConfig {
        lr: 1e-3,
        betas: [0.9, 0.95],
        eps: 1e-8,
        weight_decay: 0.1,
        clip: None,
        ..OptimizerConfig::default()
    };
    for device in common::burn_devices() {
        let (mut optimizer, mut model) = Optimizer::new(&config, tiny(&device.autodiff())).unwrap();
        for (number, want) in golden.get("losses").iter().enumerate() {
            let step = sigmoid_step(&model, &batch(number as u64), WHOLE).unwrap();
            let want = f64::from(*want);
            println!("step {number}: off by {:.1e}", (step.loss - want) / want);
            assert!(
                (step.loss - want).abs() <= 1e-4 * want,
                "step {number}: {} {want}",
                step.loss
            );
            (model, _) = optimizer.step(1e-3, model, step.gradients);
        }
    }
}

#[test]
fn accumulated_equals_one_big_batch_and_a_repeated_text_counts_for_each_of_its_pairs() {
    let mut pairs = batch(3);
    let ids = pairs.tokens.data();
    let ids: Vec<u32> = [&ids[..64 * 4], &ids[..64], &ids[64 * 2..64 * 3]].concat();
    pairs.tokens = TokenIds::new(BATCH, 64, ids).unwrap();
    pairs.keys = vec![0, 1, 2, 3, 0, 2];
    pairs.true_of = [[0, 1], [1, -1], [2, -1], [3, 0], [0, -1], [2, 3]]
        .map(Vec::from)
        .into();
    let device = Device::flex().autodiff();
    let model = tiny(&device);
    let whole = sigmoid_step(&model, &pairs, WHOLE).unwrap();
    let want = by_name(&model, &whole.gradients);
    let checkpointed = tiny(&device.gradient_checkpointing());
    // Several devices, each with a share of the batch; of four that share six pictures in twos, the last has texts alone.
    let fork = |_| model.clone().fork(&Device::flex());
    let on = |count| (0..count).map(fork).collect::<Vec<_>>();
    for (models, micro_batch) in [
        (on(1), 1),
        (on(1), 4),
        (vec![checkpointed], BATCH),
        (on(2), BATCH),
        (on(3), 1),
        (on(4), 2),
    ] {
        let cut = Cut {
            micro_batch,
            loss_block: 2,
        };
        let step = sigmoid_step_on(&models, &pairs, cut).unwrap();
        assert!((step.loss - whole.loss).abs() <= 1e-6 * whole.loss);
        let gradients = by_name(&models[0], &step.gradients);
        assert_eq!(gradients.len(), want.len());
        for (name, got) in gradients {
            let zero = name.ends_with("k_proj.bias");
            let distance = distance(&got, &want[&name]);
            assert!(zero || distance <= 1e-5, "{name}: {distance}");
        }
    }
}

/// What the tests' tower is to tell of a batch, and a model whose layer for it is not zero.
fn told(pairs: &mut Pairs, device: &Device) -> Siglip {
    let config = AuxiliaryConfig {
        weight: 3.0,
        mask: 0.5,
    };
    let (auxiliary, shown) = config.of(&pairs.pixels, 14, 1, 0).unwrap();
    (pairs.pixels, pairs.auxiliary) = (shown, Some(auxiliary));
    let model = with_auxiliary(tiny(device));
    let layer = params::list(&model.auxiliary).into_iter();
    let values = layer.map(|p| {
        let values = numbers(p.count(), 77).map(|x| x as f32 / (1 << 26) as f32 - 0.125);
        (p.id, values.collect())
    });
    params::write(model, values.collect())
}

/// Along the gradient the loss rises by its squared length.
#[test]
fn the_gradient_of_an_auxiliary_loss_is_its_slope() {
    let mut pairs = batch(6);
    let model = told(&mut pairs, &Device::flex().autodiff());
    let step = sigmoid_step(&model, &pairs, WHOLE).unwrap();
    let gradients = by_name(&model, &step.gradients);
    let square = |x: &f32| f64::from(*x).powi(2);
    let slope: f64 = gradients.values().flatten().map(square).sum();
    let layer = &gradients["auxiliary.weight"];
    assert!(layer.iter().map(square).sum::<f64>() > 1e-6);
    let at = |along: f64| {
        let all = params::read(&model).unwrap().into_iter();
        let moved = all.map(|(p, values)| {
            let moves = values.iter().zip(&gradients[&p.name]);
            let moved = moves.map(|(x, g)| (f64::from(*x) + along * f64::from(*g)) as f32);
            (p.id, moved.collect())
        });
        let moved = params::write(model.clone(), moved.collect());
        let step = sigmoid_step(&moved, &pairs, WHOLE).unwrap();
        step.loss + 3.0 * step.auxiliary.unwrap()
    };
    let along = 1e-3 / slope.sqrt();
    let found = (at(along) - at(-along)) / (2.0 * along);
    assert!((found - slope).abs() < 0.01 * slope, "{found} {slope}");
}

#[test]
fn an_auxiliary_loss_is_the_same_however_the_batch_is_cut() {
    let mut pairs = batch(7);
    let model = told(&mut pairs, &Device::flex().autodiff());
    let whole = sigmoid_step(&model, &pairs, WHOLE).unwrap();
    let want = by_name(&model, &whole.gradients);
    assert_eq!(want.len(), params::list(&model).len());
    for (count, micro_batch) in [(1, 1), (1, 4), (2, 2)] {
        let cut = Cut {
            micro_batch,
            loss_block: BATCH,
        };
        let models = vec![model.clone(); count];
        let step = sigmoid_step_on(&models, &pairs, cut).unwrap();
        let off = step.auxiliary.unwrap() - whole.auxiliary.unwrap();
        assert!(off.abs() <= 1e-6, "{off}");
        assert!((step.loss - whole.loss).abs() <= 1e-6 * whole.loss);
        for (name, got) in by_name(&model, &step.gradients) {
            let zero = name.ends_with("k_proj.bias");
            let distance = distance(&got, &want[&name]);
            assert!(zero || distance <= 1e-5, "{name}: {distance}");
        }
    }
    let without = tiny(&Device::flex().autodiff());
    let refused = sigmoid_step(&without, &pairs, WHOLE).err().unwrap();
    assert_eq!(refused.code(), "UNSUPPORTED");
}

fn group(pattern: &str, lr: f64, freeze: bool) -> GroupConfig {
    GroupConfig {
        pattern: pattern.into(),
        lr,
        weight_decay: None,
        freeze,
    }
}

#[test]
fn what_is_frozen_has_no_gradient_and_the_rest_the_same_however_the_batch_is_cut() {
    let pairs = batch(5);
    let free = tiny(&Device::flex().autodiff());
    let want = sigmoid_step(&free, &pairs, WHOLE).unwrap();
    let want = by_name(&free, &want.gradients);
    for frozen in [
        vec!["vision_model.*"],
        vec!["text_model.*", "logit_*"],
        vec!["*_model.*"],
    ] {
        let config = OptimizerConfig {
            groups: frozen.iter().map(|p| group(p, 1.0, true)).collect(),
            ..OptimizerConfig::default()
        };
        let (_, model) = Optimizer::new(&config, tiny(&Device::flex().autodiff())).unwrap();
        for micro_batch in [BATCH, 4] {
            let cut = Cut {
                micro_batch,
                loss_block: BATCH,
            };
            let step = sigmoid_step(&model, &pairs, cut).unwrap();
            let got = by_name(&model, &step.gradients);
            let trained = params::list(&model).into_iter().filter(|p| p.trained);
            assert_eq!(got.len(), trained.count(), "{frozen:?}");
            for (name, got) in got {
                let zero = name.ends_with("k_proj.bias");
                let distance = distance(&got, &want[&name]);
                assert!(zero || distance <= 1e-5, "{name}: {distance}");
            }
        }
    }
}

#[test]
fn every_rule_moves_each_group_at_its_rate() {
    let pairs = batch(7);
    for rule in [Rule::AdamW, Rule::Adafactor, Rule::Lion] {
        let moved = |lr: f64| {
            let config = OptimizerConfig {
                rule,
                weight_decay: 0.0,
                groups: vec![group("vision_model.*", lr, false)],
                ..OptimizerConfig::default()
            };
            let start = tiny(&Device::flex().autodiff());
            let before = params::read(&start).unwrap();
            let (mut optimizer, model) = Optimizer::new(&config, start).unwrap();
            let step = sigmoid_step(&model, &pairs, WHOLE).unwrap();
            let (model, norms) = optimizer.step(1e-3, model, step.gradients);
            assert!(norms.all > norms.vision && norms.vision > 0.0 && norms.text > 0.0);
            let after = params::read(&model).unwrap();
            let change = |tower: &str| -> f64 {
                let pairs = before
                    .iter()
                    .zip(&after)
                    .filter(|((p, _), _)| p.name.starts_with(tower));
                let numbers = pairs.flat_map(|((_, b), (_, a))| b.iter().zip(a));
                numbers.map(|(b, a)| f64::from((a - b).abs())).sum()
            };
            [change("vision_model."), change("text_model.")]
        };
        let ([vision, text], [slow, same]) = (moved(1.0), moved(0.1));
        assert!(
            (slow / vision - 0.1).abs() < 1e-3,
            "{rule:?}: {slow} of {vision}"
        );
        assert_eq!(same, text, "{rule:?}");
        assert_eq!(moved(0.0)[0], 0.0);
    }
}

#[test]
fn a_batch_of_nothing_is_refused() {
    let mut pairs = batch(0);
    pairs.pixels = PixelValues::new(0, 56, Vec::new()).unwrap();
    let error = sigmoid_step(&tiny(&Device::flex().autodiff()), &pairs, WHOLE)
        .err()
        .unwrap();
    assert_eq!(error.code(), "BAD_ARGUMENT");
}
