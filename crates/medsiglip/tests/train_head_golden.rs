//! Classifiers beside transformers and torch: `scripts/make_head_golden.py`.
#![cfg(feature = "train")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use common::Golden;
use medsiglip::checkpoint::{Checkpoint, ModelSource};
use medsiglip::config::ClassKind;
use medsiglip::embedding::Embeddings;
use medsiglip::model::Encoder;
use medsiglip::preprocess::PixelValues;
use medsiglip::towers::{BurnEncoder, Siglip, params};
use medsiglip::train::head::{HeadLoss, head_step, head_step_on};
use medsiglip::{LoadOptions, Model};

const BATCH: usize = 6;
const CELLS: [[i8; 3]; BATCH] = [
    [1, 0, 1],
    [0, 0, -1],
    [-1, 1, 0],
    [1, -1, -1],
    [0, 1, 0],
    [-1, 0, 1],
];
const LABELS: [usize; BATCH] = [2, 0, 1, 1, 0, 2];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn golden() -> Golden {
    Golden::open(&data().join("golden/tiny-classifier.safetensors"))
}

fn source() -> ModelSource {
    ModelSource::Local(data().join("tiny-classifier"))
}

fn tiny(device: &Device) -> Siglip {
    let checkpoint = Checkpoint::open(&source(), &Default::default()).unwrap();
    Siglip::load(&checkpoint, device).unwrap()
}

/// The pictures of the script.
fn pixels() -> PixelValues {
    let numbers =
        (0..BATCH as u64 * 3 * 45 * 45).map(|k| k.wrapping_mul(2_654_435_761) as u32 >> 8);
    let pixels = numbers.map(|x| x as f32 / (1 << 23) as f32 - 1.0);
    PixelValues::new(BATCH, 45, pixels.collect()).unwrap()
}

fn cells() -> Vec<Vec<Option<bool>>> {
    let known = |cell: &i8| (*cell >= 0).then_some(*cell == 1);
    CELLS
        .iter()
        .map(|row| row.iter().map(known).collect())
        .collect()
}

fn one_hot() -> Vec<Vec<Option<bool>>> {
    let row = |label: &usize| (0..3).map(|class| Some(class == *label)).collect();
    LABELS.iter().map(row).collect()
}

fn loss(kind: ClassKind, pos_weight: [f64; 3], label_smoothing: f64) -> HeadLoss {
    HeadLoss {
        kind,
        pos_weight: pos_weight.into(),
        label_smoothing,
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

/// The distance of `got` from `want`, relative to the length of `want`.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    assert_eq!(got.len(), want.len());
    let off: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    let length: f64 = want.iter().map(|w| square(*w)).sum();
    (off / length.max(1e-30)).sqrt()
}

#[test]
fn a_classifier_that_transformers_saved_gives_its_logits_on_both_engines() {
    let golden = golden();
    let model = Model::load(&source(), &LoadOptions::default()).unwrap();
    let classifier = model.classifier().unwrap();
    assert_eq!(classifier.classes().labels, ["line", "dot", "ring"]);
    assert_eq!(classifier.classes().kind, ClassKind::Multilabel);
    let images = model.encode_images(&pixels()).unwrap();
    golden.check("logits", &classifier.logits(&images).unwrap());
    let burn = BurnEncoder::new(tiny(&Device::flex()));
    let images = burn.encode_images(&pixels(), Default::default());
    let images = images.unwrap().pooled.unwrap();
    golden.check("logits", &classifier.logits(&images).unwrap());
    let scores = &classifier.scores(&images).unwrap()[1];
    let want = 1.0 / (1.0 + f64::from(-golden.get("logits")[5]).exp());
    assert!((f64::from(scores[2].probability) - want).abs() < 1e-5);
    assert!(scores[2].label == "ring" && scores[2].cosine.is_none());
    let narrow = Embeddings::new(3, vec![0.0; 3]).unwrap();
    assert_eq!(
        classifier.logits(&narrow).unwrap_err().code(),
        "BAD_ARGUMENT"
    );
    assert_eq!(
        model.encode_texts(&["a line"]).unwrap_err().code(),
        "UNSUPPORTED"
    );
}

#[test]
fn losses_and_every_gradient_equal_torchs_however_the_batch_is_cut() {
    let golden = golden();
    let device = Device::flex().autodiff();
    let checkpointed = tiny(&device.clone().gradient_checkpointing());
    let model = tiny(&device);
    let cases = [
        (
            "multilabel",
            loss(ClassKind::Multilabel, [2.0, 0.5, 7.25], 0.1),
            cells(),
        ),
        (
            "multiclass",
            loss(ClassKind::Multiclass, [1.0; 3], 0.1),
            one_hot(),
        ),
    ];
    for (name, loss, truth) in cases {
        let rows: Vec<_> = truth.iter().map(Vec::as_slice).collect();
        let fork = |_| model.clone().fork(&Device::flex());
        let on = |count| (0..count).map(fork).collect::<Vec<_>>();
        for (models, micro) in [
            (on(1), BATCH),
            (on(1), 1),
            (on(1), 4),
            (vec![checkpointed.clone()], 5),
            (on(2), BATCH),
            (on(3), 1),
        ] {
            let step = head_step_on(&models, &pixels(), &rows, &loss, micro).unwrap();
            let model = &models[0];
            let want = f64::from(golden.get(&format!("{name}.loss"))[0]);
            assert!(
                (step.loss - want).abs() <= 1e-6 * want,
                "{name}: {} {want}",
                step.loss
            );
            let mut values = Values {
                gradients: &step.gradients,
                values: HashMap::new(),
            };
            model.visit(&mut values);
            let prefix = format!("{name}.gradient.");
            let wanted = golden.names().filter(|n| n.starts_with(&prefix)).count();
            assert_eq!(values.values.len(), wanted);
            for parameter in params::list(model) {
                let got = &values.values[&parameter.id];
                let distance = distance(got, golden.get(&format!("{prefix}{}", parameter.name)));
                // The keys' bias moves all scores of a query alike: its gradient is zero, but for rounding.
                let zero = parameter.name.ends_with("k_proj.bias");
                assert!(
                    zero || distance <= 1e-4,
                    "{name} {micro} {}: {distance}",
                    parameter.name
                );
            }
        }
    }
}

#[test]
fn without_weights_and_smoothing_the_losses_are_transformers_own() {
    let golden = golden();
    let model = tiny(&Device::flex().autodiff());
    let there: Vec<Vec<_>> = CELLS
        .iter()
        .map(|row| row.iter().map(|c| Some(*c == 1)).collect())
        .collect();
    for (name, kind, truth) in [
        ("multilabel", ClassKind::Multilabel, there),
        ("multiclass", ClassKind::Multiclass, one_hot()),
    ] {
        let rows: Vec<_> = truth.iter().map(Vec::as_slice).collect();
        let step = head_step(&model, &pixels(), &rows, &loss(kind, [1.0; 3], 0.0), BATCH).unwrap();
        let want = f64::from(golden.get(&format!("{name}.plain"))[0]);
        assert!(
            (step.loss - want).abs() <= 1e-6 * want,
            "{name}: {} {want}",
            step.loss
        );
    }
}

#[test]
fn a_batch_that_says_nothing_or_too_little_is_refused() {
    let model = tiny(&Device::flex().autodiff());
    let loss = loss(ClassKind::Multilabel, [1.0; 3], 0.0);
    let refused = |row: &[Option<bool>], rows: usize| {
        let step = head_step(&model, &pixels(), &vec![row; rows], &loss, BATCH);
        step.err().unwrap().code()
    };
    assert_eq!(refused(&[None; 3], BATCH), "BAD_ARGUMENT");
    assert_eq!(refused(&[Some(true); 2], BATCH), "BAD_ARGUMENT");
    assert_eq!(refused(&[Some(true); 3], 1), "BAD_ARGUMENT");
}
