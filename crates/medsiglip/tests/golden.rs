//! Both towers against the reference implementation, stage by stage, on the tiny models of `scripts/make_golden.py`.

mod common;

use std::path::{Path, PathBuf};

use medsiglip::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions, PositionResampling};
use medsiglip::embedding::Embeddings;
use medsiglip::engine::CpuEngine;
use medsiglip::model::{Encoder, Keep, Logit, TowerOutput};
use medsiglip::preprocess::PixelValues;
use medsiglip::tokenizer::TokenIds;
#[cfg(feature = "towers")]
use medsiglip::towers::{BurnEncoder, Siglip};
#[cfg(feature = "towers")]
use medsiglip::{
    LoadOptions, Model,
    model::{Device, Precision},
};

use common::Golden;

const EVERYTHING: Keep = Keep {
    last_hidden_state: true,
    hidden_states: true,
    map_attention: true,
};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn open_golden(name: &str) -> Golden {
    Golden::open(&data().join("golden").join(format!("{name}.safetensors")))
}

fn open(path: &str, options: &OpenOptions) -> Checkpoint {
    Checkpoint::open(&ModelSource::Local(data().join(path)), options).unwrap()
}

fn engine(checkpoint: &Checkpoint) -> CpuEngine {
    CpuEngine::new(checkpoint, Some(2)).unwrap()
}

/// Whatever runs the towers gives the same numbers: our engine, Burn where it is compiled in, and Burn on the device that
/// `MEDSIGLIP_TEST_DEVICE` names.
fn encoders(checkpoint: &Checkpoint) -> Vec<Box<dyn Encoder>> {
    #[allow(unused_mut)]
    let mut encoders: Vec<Box<dyn Encoder>> = vec![Box::new(engine(checkpoint))];
    #[cfg(feature = "towers")]
    for device in [Some(Device::Cpu), common::device()].into_iter().flatten() {
        let burn = BurnEncoder::on(checkpoint, device, Precision::F32).unwrap();
        encoders.push(Box::new(burn));
    }
    encoders
}

fn pooled(output: &TowerOutput) -> &Embeddings {
    output.pooled.as_ref().unwrap()
}

fn check_stages(golden: &Golden, tower: &str, output: &TowerOutput) {
    let hidden = output.hidden_states.as_ref().unwrap();
    golden.check(&format!("{tower}.embeddings"), &hidden[0]);
    for (i, hidden) in hidden[1..].iter().enumerate() {
        golden.check(&format!("{tower}.block.{i}"), hidden);
    }
    golden.check(
        &format!("{tower}.last_hidden_state"),
        output.last_hidden_state.as_ref().unwrap(),
    );
    golden.check(&format!("{tower}.pooled"), pooled(output).data());
    golden.check(
        &format!("{tower}.normalized"),
        pooled(output).clone().normalized().data(),
    );
}

/// Embeddings of both towers and their scores, for one of the ways in which weights are stored.
fn check_scores(golden: &Golden, checkpoint: &Checkpoint) {
    for encoder in encoders(checkpoint) {
        check_scores_of(golden, checkpoint, encoder.as_ref());
    }
}

fn check_scores_of(golden: &Golden, checkpoint: &Checkpoint, encoder: &dyn Encoder) {
    let images = encoder
        .encode_images(&golden.pixels("pixel_values"), Keep::default())
        .unwrap();
    let texts = encoder
        .encode_texts(&golden.ids(), Keep::default())
        .unwrap();
    golden.check("vision.pooled", pooled(&images).data());
    golden.check("text.pooled", pooled(&texts).data());

    let scalar = |name| checkpoint.tensor(name, &[1]).unwrap().to_f32()[0];
    let logit = Logit {
        scale: scalar("logit_scale"),
        bias: scalar("logit_bias"),
    };
    let cosine = pooled(&images).cosine(pooled(&texts)).unwrap();
    let logits: Vec<f32> = cosine.iter().map(|c| logit.of(*c)).collect();
    golden.check("logits_per_image", &logits);
    let probability: Vec<f32> = cosine.iter().map(|c| logit.probability(*c)).collect();
    golden.check("probability", &probability);
}

#[test]
fn every_stage_of_both_towers_equals_the_reference() {
    let golden = open_golden("tiny");
    let checkpoint = open("tiny", &OpenOptions::default());
    for encoder in encoders(&checkpoint) {
        check_every_stage(&golden, &checkpoint, encoder.as_ref());
    }
    check_scores(&golden, &checkpoint);
}

fn check_every_stage(golden: &Golden, checkpoint: &Checkpoint, encoder: &dyn Encoder) {
    let images = encoder
        .encode_images(&golden.pixels("pixel_values"), EVERYTHING)
        .unwrap();
    check_stages(golden, "vision", &images);
    golden.check(
        "vision.map_attention",
        images.map_attention.as_ref().unwrap(),
    );
    // The patches before their positions: what is left when the positions are taken off again.
    let positions = checkpoint
        .tensor(
            "vision_model.embeddings.position_embedding.weight",
            &[16, 64],
        )
        .unwrap();
    let embeddings = &images.hidden_states.as_ref().unwrap()[0];
    let patches: Vec<f32> = embeddings
        .iter()
        .zip(positions.to_f32().iter().cycle())
        .map(|(x, p)| x - p)
        .collect();
    golden.check("vision.patches", &patches);

    check_stages(
        golden,
        "text",
        &encoder.encode_texts(&golden.ids(), EVERYTHING).unwrap(),
    );
}

#[test]
fn odd_sizes_in_bf16_shards_equal_the_reference() {
    check_scores(
        &open_golden("tiny-odd"),
        &open("tiny-odd", &OpenOptions::default()),
    );
}

#[test]
fn big_vision_npz_in_both_layouts_equals_the_reference() {
    let golden = open_golden("tiny-bigvision");
    for file in ["per_layer.npz", "scanned.npz", "hf"] {
        check_scores(
            &golden,
            &open(&format!("tiny-bigvision/{file}"), &OpenOptions::default()),
        );
    }
}

#[test]
fn another_resolution_equals_transformers_interpolation() {
    let golden = open_golden("tiny");
    let options = OpenOptions {
        resolution: Some(112),
        positions: PositionResampling::Bicubic,
        ..OpenOptions::default()
    };
    for encoder in encoders(&open("tiny", &options)) {
        let output = encoder
            .encode_images(&golden.pixels("vision112.pixel_values"), EVERYTHING)
            .unwrap();
        golden.check(
            "vision112.last_hidden_state",
            output.last_hidden_state.as_ref().unwrap(),
        );
        golden.check("vision112.pooled", pooled(&output).data());
    }
}

#[test]
fn gemma_vision_tower_alone_and_joined_with_a_head_equals_the_reference() {
    let golden = open_golden("tiny-gemma");
    let tiny = open_golden("tiny");
    let pixels = tiny.pixels("vision112.pixel_values");

    for alone in encoders(&open("tiny-gemma", &OpenOptions::default())) {
        let output = alone.encode_images(&pixels, EVERYTHING).unwrap();
        assert!(output.pooled.is_none() && output.map_attention.is_none());
        golden.check(
            "vision.last_hidden_state",
            output.last_hidden_state.as_ref().unwrap(),
        );
        assert_eq!(
            alone
                .encode_texts(&tiny.ids(), Keep::default())
                .unwrap_err()
                .code(),
            "UNSUPPORTED"
        );
    }

    let head_from = Some(ModelSource::Local(data().join("tiny")));
    let joined = open(
        "tiny-gemma",
        &OpenOptions {
            head_from: head_from.clone(),
            ..OpenOptions::default()
        },
    );
    for joined in encoders(&joined) {
        golden.check(
            "joined.pooled",
            pooled(&joined.encode_images(&pixels, EVERYTHING).unwrap()).data(),
        );
        check_stages(
            &tiny,
            "text",
            &joined.encode_texts(&tiny.ids(), EVERYTHING).unwrap(),
        );
    }

    for positions in PositionResampling::ALL {
        let options = OpenOptions {
            resolution: Some(56),
            positions,
            head_from: head_from.clone(),
            ..OpenOptions::default()
        };
        for encoder in encoders(&open("tiny-gemma", &options)) {
            let output = encoder.encode_images(&tiny.pixels("pixel_values"), Keep::default());
            golden.check(
                &format!("joined56.pooled.{positions}"),
                pooled(&output.unwrap()).data(),
            );
        }
    }
}

#[test]
fn a_batch_equals_its_items() {
    let golden = open_golden("tiny");
    let checkpoint = open("tiny", &OpenOptions::default());
    let engine = engine(&checkpoint);
    // More items than one pass of the engine takes (1024 rows), each another picture and text.
    let (pixels, length) = (golden.pixels("pixel_values"), golden.ids().length());
    let item = &pixels.data()[..3 * 56 * 56];
    let shifted = |i: usize| {
        item.iter()
            .map(move |x| (x + i as f32 * 0.013).sin())
            .collect::<Vec<f32>>()
    };
    let many = 70;
    let batch = PixelValues::new(many, 56, (0..many).flat_map(shifted).collect()).unwrap();
    let token = |i: usize, t: usize| {
        if t < i {
            ((i * 31 + t * 7) % 640) as u32
        } else {
            1
        }
    };
    let texts: Vec<Vec<u32>> = (0..many)
        .map(|i| (0..length).map(|t| token(i, t)).collect())
        .collect();
    let text_batch = TokenIds::new(many, length, texts.concat()).unwrap();

    let images = engine.encode_images(&batch, EVERYTHING).unwrap();
    let encoded = engine.encode_texts(&text_batch, EVERYTHING).unwrap();
    assert_eq!(pooled(&images).len(), many);
    // The matrix product adds in another order for another number of rows, so the last bits may differ.
    let close = |got: &[f32], want: &[f32]| {
        let largest = want.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
        got.iter()
            .zip(want)
            .all(|(g, w)| (g - w).abs() <= 5e-6 * largest)
    };
    for i in [0, 1, 15, 16, 63, 64, many - 1] {
        let one = engine
            .encode_images(&PixelValues::new(1, 56, shifted(i)).unwrap(), EVERYTHING)
            .unwrap();
        assert!(
            close(pooled(&images).row(i), pooled(&one).row(0)),
            "image {i}"
        );
        let all = &images.hidden_states.as_ref().unwrap()[2][i * 16 * 64..(i + 1) * 16 * 64];
        assert!(
            close(all, &one.hidden_states.as_ref().unwrap()[2]),
            "hidden state {i}"
        );
        let one = engine
            .encode_texts(
                &TokenIds::new(1, length, texts[i].clone()).unwrap(),
                EVERYTHING,
            )
            .unwrap();
        assert!(
            close(pooled(&encoded).row(i), pooled(&one).row(0)),
            "text {i}"
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let golden = open_golden("tiny");
    let checkpoint = open("tiny", &OpenOptions::default());
    let embed = |threads| {
        let engine = CpuEngine::new(&checkpoint, Some(threads)).unwrap();
        engine
            .encode_images(&golden.pixels("pixel_values"), EVERYTHING)
            .unwrap()
    };
    let one = embed(1);
    for threads in [2, 3, 5] {
        assert!(embed(threads) == one, "{threads} threads");
    }
}

/// Calls from several threads on one engine share its pool; half-precision weights are widened into a buffer of the thread.
#[test]
fn calls_from_several_threads_do_not_disturb_one_another() {
    let golden = open_golden("tiny");
    let options = OpenOptions {
        dtype: Some(Dtype::Bf16),
        ..OpenOptions::default()
    };
    let engine = engine(&open("tiny", &options));
    let pixels = golden.pixels("pixel_values");
    let want = engine.encode_images(&pixels, EVERYTHING).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(engine.encode_images(&pixels, EVERYTHING).unwrap() == want);
                    engine.encode_texts(&golden.ids(), EVERYTHING).unwrap();
                }
            });
        }
    });
}

#[test]
fn rounded_weights_stay_close() {
    let golden = open_golden("tiny");
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::Int8] {
        let checkpoint = open(
            "tiny",
            &OpenOptions {
                dtype: Some(dtype),
                ..OpenOptions::default()
            },
        );
        let output = engine(&checkpoint)
            .encode_images(&golden.pixels("pixel_values"), Keep::default())
            .unwrap();
        let reference = Embeddings::new(64, golden.get("vision.pooled").to_vec()).unwrap();
        let cosine = pooled(&output).cosine(&reference).unwrap();
        assert!(
            cosine[0] >= 0.999 && cosine[3] >= 0.999,
            "{dtype}: {cosine:?}"
        );
        assert_ne!(
            pooled(&output).data(),
            reference.data(),
            "{dtype}: the weights were not rounded"
        );
    }
}

/// The CPU engine has no layers in bf16; Burn has, on a GPU that has bf16, and for this test on the CPU.
#[cfg(feature = "towers")]
#[test]
fn layers_in_bf16_stay_close() {
    let golden = open_golden("tiny");
    let checkpoint = open("tiny", &OpenOptions::default());
    for device in common::burn_devices() {
        if !device.supports_dtype(burn::tensor::FloatDType::BF16) {
            println!("skipped on {device:?}: it has no bf16");
            continue;
        }
        let model = Siglip::load_in(&checkpoint, &device, Precision::Bf16).unwrap();
        let encoder = BurnEncoder::new(model);
        let images = encoder.encode_images(&golden.pixels("pixel_values"), EVERYTHING);
        let texts = encoder.encode_texts(&golden.ids(), EVERYTHING).unwrap();
        let all = [("vision.pooled", images.unwrap()), ("text.pooled", texts)];
        for (name, output) in all {
            let got = pooled(&output).data();
            golden.check_within(name, got, 0.1, 0.999);
            assert_ne!(got, golden.get(name), "{name}: nothing was rounded");
        }
    }
}

#[cfg(feature = "towers")]
#[test]
fn the_cpu_is_not_asked_for_bf16() {
    let checkpoint = open("tiny", &OpenOptions::default());
    let refused = BurnEncoder::on(&checkpoint, Device::Cpu, Precision::Bf16).map(drop);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "BAD_ARGUMENT");
    assert!(refused.to_string().contains("for a GPU"), "{refused}");
    let options = LoadOptions {
        device: Device::Cpu,
        precision: Precision::Bf16,
        ..LoadOptions::default()
    };
    let model = Model::load(&ModelSource::Local(data().join("tiny")), &options).map(drop);
    assert_eq!(model.unwrap_err().to_string(), refused.to_string());
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let checkpoint = open("tiny", &OpenOptions::default());
    for encoder in encoders(&checkpoint) {
        let code = |result: medsiglip::Result<TowerOutput>| result.unwrap_err().code();
        let images = |batch, size| {
            let numbers = vec![0.0; batch * 3 * size * size];
            let pixels = PixelValues::new(batch, size, numbers).unwrap();
            code(encoder.encode_images(&pixels, Keep::default()))
        };
        assert_eq!(images(1, 57), "BAD_ARGUMENT");
        assert_eq!(images(0, 56), "BAD_ARGUMENT");
        let texts = |batch, length, id| {
            let ids = TokenIds::new(batch, length, vec![id; batch * length]).unwrap();
            code(encoder.encode_texts(&ids, Keep::default()))
        };
        assert_eq!(texts(1, 63, 1), "BAD_ARGUMENT");
        assert_eq!(texts(1, 64, 640), "BAD_ARGUMENT");
        assert_eq!(texts(0, 64, 1), "BAD_ARGUMENT");
    }
    assert_eq!(
        CpuEngine::new(&checkpoint, Some(0))
            .map(drop)
            .unwrap_err()
            .code(),
        "BAD_ARGUMENT"
    );
}
