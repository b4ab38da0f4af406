//! The towers at full size against PyTorch, on real pictures. Opt-in: `scripts/README.md` says how the folders are made.
//!
//! `MEDSIGLIP_FULL=DIR MEDSIGLIP_FULL_896=DIR-896 cargo test --release -p medsiglip --test full -- --ignored --nocapture`

mod common;

use std::path::{Path, PathBuf};

use common::Golden;
use medsiglip::checkpoint::{Checkpoint, Dtype, ModelSource, OpenOptions};
use medsiglip::embedding::Embeddings;
use medsiglip::model::{Encoder, Keep};
use medsiglip::preprocess::Recipe;
use medsiglip::{LoadOptions, Model, engine::CpuEngine};

fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("set {variable}: see scripts/README.md"))
        .into()
}

fn golden(folder: &Path) -> Golden {
    Golden::open(&folder.join("golden.safetensors"))
}

fn load(folder: &Path, dtype: Option<Dtype>) -> Model {
    let checkpoint = OpenOptions {
        dtype,
        ..OpenOptions::default()
    };
    let options = LoadOptions {
        checkpoint,
        recipe: Some(Recipe::Hf),
        ..LoadOptions::default()
    };
    Model::load(&ModelSource::Local(folder.into()), &options).unwrap()
}

/// Goldens keep 64 evenly spaced rows of each picture: the same rows of `hidden` (B, N, D).
fn kept_rows(hidden: &[f32], batch: usize, width: usize) -> Vec<f32> {
    let patches = hidden.len() / batch / width;
    let row =
        |item: usize, k: usize| &hidden[(item * patches + k * (patches / 64)) * width..][..width];
    (0..batch)
        .flat_map(|item| (0..64).flat_map(move |k| row(item, k).to_vec()))
        .collect()
}

/// The names of the pictures and the prompts that the goldens were made from.
fn inputs(folder: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = |key: &str| -> Vec<String> {
        json[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    (
        list("images")
            .iter()
            .map(|name| folder.join(name))
            .collect(),
        list("prompts"),
    )
}

#[test]
#[ignore = "needs MEDSIGLIP_FULL, a folder made by scripts/make_golden.py full"]
fn full_size_equals_pytorch() {
    let folder = folder("MEDSIGLIP_FULL");
    let golden = golden(&folder);
    let model = load(&folder, None);
    let keep = Keep {
        last_hidden_state: true,
        map_attention: true,
        ..Keep::default()
    };
    let images = model
        .encoder()
        .encode_images(&golden.pixels("pixel_values"), keep)
        .unwrap();
    let pooled = images.pooled.unwrap();
    golden.check_within("vision.pooled", pooled.data(), 1e-3, 0.99999);
    golden.check_within(
        "vision.normalized",
        pooled.clone().normalized().data(),
        2e-5,
        0.99999,
    );
    let hidden = kept_rows(
        &images.last_hidden_state.unwrap(),
        pooled.len(),
        pooled.dim(),
    );
    golden.check_within("vision.last_hidden_state", &hidden, 1e-3, 0.99999);

    let (files, prompts) = inputs(&folder);
    let (ids, truncated) = model.tokenize(&prompts).unwrap();
    assert_eq!(ids, golden.ids());
    assert!(truncated.is_empty());
    let texts = model.encode_texts(&prompts).unwrap();
    golden.check_within(
        "text.normalized",
        texts.clone().normalized().data(),
        2e-5,
        0.99999,
    );
    let scores = model.scores(&pooled, &texts).unwrap();
    golden.check_within("logits_per_image", &scores.logit, 2e-3, 0.99999);
    golden.check_within("probability", &scores.probability, 1e-4, 0.99999);

    // From the files themselves: our decoder and our bicubic, then the same tower.
    for (i, file) in files.iter().enumerate() {
        let embedding = model
            .encode_images(&model.preprocessor().open(file).unwrap())
            .unwrap();
        let cosine = embedding.cosine(&pooled).unwrap()[i];
        println!(
            "{}: cosine with transformers from the file on 1 - {:.1e}",
            i,
            1.0 - cosine
        );
        assert!(cosine >= 0.99999, "picture {i}: cosine {cosine}");
    }
}

#[test]
#[ignore = "needs MEDSIGLIP_FULL, a folder made by scripts/make_golden.py full"]
fn full_size_with_rounded_weights_stays_close() {
    for dtype in [Dtype::Bf16, Dtype::Int8] {
        stays_close(dtype);
    }
}

fn stays_close(dtype: Dtype) {
    let folder = folder("MEDSIGLIP_FULL");
    let golden = golden(&folder);
    let model = load(&folder, Some(dtype));
    let images = model.encode_images(&golden.pixels("pixel_values")).unwrap();
    let texts = model
        .encoder()
        .encode_texts(&golden.ids(), Keep::default())
        .unwrap()
        .pooled
        .unwrap();
    for (name, embeddings) in [("vision.pooled", images), ("text.pooled", texts)] {
        for (i, row) in embeddings.rows().enumerate() {
            let want = &golden.get(name)[i * row.len()..][..row.len()];
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let cosine = dot(row, want) / (dot(row, row) * dot(want, want)).sqrt();
            println!("{dtype} {name} {i}: cosine 1 - {:.1e}", 1.0 - cosine);
            assert!(cosine >= 0.999, "{dtype} {name} {i}: cosine {cosine}");
        }
    }
}

#[test]
#[ignore = "needs MEDSIGLIP_FULL and MEDSIGLIP_FULL_896, made by scripts/make_golden.py"]
fn full_size_896_equals_pytorch() {
    let folder_896 = folder("MEDSIGLIP_FULL_896");
    let golden = golden(&folder_896);
    let options = OpenOptions {
        head_from: Some(ModelSource::Local(folder("MEDSIGLIP_FULL"))),
        ..OpenOptions::default()
    };
    let checkpoint = Checkpoint::open(&ModelSource::Local(folder_896), &options).unwrap();
    let engine = CpuEngine::new(&checkpoint, None).unwrap();
    let keep = Keep {
        last_hidden_state: true,
        ..Keep::default()
    };
    let output = engine
        .encode_images(&golden.pixels("pixel_values"), keep)
        .unwrap();
    let pooled = output.pooled.unwrap();
    let hidden = kept_rows(
        &output.last_hidden_state.unwrap(),
        pooled.len(),
        pooled.dim(),
    );
    assert_eq!(golden.shape("vision.last_hidden_state")[1], 64);
    golden.check_within("vision.last_hidden_state", &hidden, 1e-3, 0.99999);
    golden.check_within("joined.pooled", pooled.data(), 1e-3, 0.99999);
    let reference = Embeddings::new(pooled.dim(), golden.get("joined.pooled").to_vec())
        .unwrap()
        .normalized();
    let worst = pooled
        .normalized()
        .data()
        .iter()
        .zip(reference.data())
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, f32::max);
    println!("joined, normalised: max-abs {worst:.2e}");
    assert!(worst <= 2e-5, "joined, normalised: max-abs {worst}");
}
