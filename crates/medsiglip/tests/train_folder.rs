//! Model folders for training: made from nothing, read back, trained weights exported.
#![cfg(feature = "train")]

#[path = "checkpoint_support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use medsiglip::checkpoint::{Checkpoint, Dtype, OpenOptions, PositionResampling, expected_tensors};
use medsiglip::preprocess::Recipe;
use medsiglip::tokenizer::{TokenizerOptions, TrainedTokenizer};
use medsiglip::train::card::{Base, ModelCard};
use medsiglip::train::export::{create_model_folder, export};
use medsiglip::train::init::{Init, Weights, random_weights};
use medsiglip::{Config, LoadOptions, Model};
use support::{open, open_with, tiny};

const CAPTIONS: [&str; 3] = [
    "a chest x-ray with pneumonia",
    "a chest x-ray without finding",
    "a fundus photograph with retinopathy",
];

fn card() -> ModelCard {
    ModelCard {
        name: "test".into(),
        base: Base::Random,
        license: "apache-2.0".into(),
        classes: Vec::new(),
        sources: Vec::new(),
        settings: Vec::new(),
        metrics: Vec::new(),
        limitations: Vec::new(),
    }
}

/// A tokenizer's folder and the tests' small config with its vocabulary.
fn tokenizer(dir: &Path) -> (PathBuf, Config) {
    let mut config = tiny();
    let text = config.text.as_mut().unwrap();
    text.max_position_embeddings = 12;
    let options = TokenizerOptions {
        vocab_size: 320,
        length: 12,
    };
    let trained = TrainedTokenizer::train(CAPTIONS, &options).unwrap();
    text.vocab_size = trained.vocab_size();
    let folder = dir.join("tokenizer");
    trained.write(&folder).unwrap();
    (folder, config)
}

fn start(dir: &Path) -> PathBuf {
    let (tokenizer, config) = tokenizer(dir);
    let folder = dir.join("start");
    create_model_folder(&folder, &config, &Init::default(), &tokenizer).unwrap();
    folder
}

fn weights_of(checkpoint: &Checkpoint) -> Weights {
    let expected = expected_tensors(checkpoint.config()).into_iter();
    expected
        .map(|t| {
            let tensor = checkpoint.tensor(&t.name, &t.shape).unwrap();
            (t.name, tensor)
        })
        .collect()
}

fn other_weights(config: &Config) -> Weights {
    let init = Init {
        seed: 1,
        ..Init::default()
    };
    random_weights(config, &init).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_folder_from_nothing_is_a_model_with_the_weights_that_were_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let folder = start(dir.path());
    let model = Model::load(
        &folder.to_str().unwrap().parse().unwrap(),
        &LoadOptions::default(),
    );
    let model = model.unwrap();
    assert_eq!(model.preprocessor().recipe(), Recipe::Checkpoint);
    let texts = model.encode_texts(&CAPTIONS).unwrap();
    assert_eq!(texts.len(), 3);
    let drawn = random_weights(model.config(), &Init::default()).unwrap();
    for (name, tensor) in weights_of(&open(&folder)) {
        assert_eq!(tensor.to_f32(), drawn[&name].to_f32(), "{name}");
        assert_eq!(tensor.dtype(), Dtype::F32);
    }
    assert_eq!(
        names(&folder),
        [
            "README.md",
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "spiece.model",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    create_model_folder(
        &folder,
        model.config(),
        &Init::default(),
        &dir.path().join("tokenizer"),
    )
    .unwrap();
    assert_eq!(bytes, fs::read(folder.join("model.safetensors")).unwrap());
}

#[test]
fn an_export_has_the_new_weights_and_the_files_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let folder = start(dir.path());
    let source = open(&folder);
    let out = dir.path().join("out");
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let weights = other_weights(source.config());
        // Over the one before.
        export(&out, &source, weights.clone(), dtype, &card()).unwrap();
        let written = open(&out);
        let rounding = OpenOptions {
            dtype: Some(dtype),
            ..OpenOptions::default()
        };
        assert_eq!(written.config(), source.config());
        for (name, tensor) in weights_of(&written) {
            let error = match dtype {
                Dtype::F32 => 0.0,
                Dtype::F16 => 1.0 / 2048.0,
                _ => 1.0 / 256.0,
            };
            for (got, want) in tensor.to_f32().iter().zip(weights[&name].to_f32().iter()) {
                // The smallest f16 are 6e-8 apart.
                assert!(
                    (got - want).abs() <= error * want.abs() + 3e-8 * error.signum(),
                    "{name}"
                );
            }
        }
        let rounded = open_with(&out, &rounding).unwrap();
        support::assert_same_numbers(&written, &rounded);
        let names_of_source = names(&folder);
        assert_eq!(names(&out), names_of_source);
        for name in names_of_source {
            if name.starts_with("token") || name.starts_with("sp") || name.starts_with("pre") {
                let read = |folder: &Path| fs::read(folder.join(&name)).unwrap();
                assert_eq!(read(&out), read(&folder), "{name}");
            }
        }
        let header = fs::read(out.join("model.safetensors")).unwrap();
        let header = String::from_utf8_lossy(&header[..4096]).into_owned();
        assert!(header.contains(r#""medsiglip.source":"start""#), "{header}");
        assert!(header.contains(source.checksum().unwrap()));
    }
    assert_eq!(names(dir.path()), ["out", "start", "tokenizer"]);
}

#[test]
fn an_export_that_cannot_be_leaves_the_old_model() {
    let dir = tempfile::tempdir().unwrap();
    let folder = start(dir.path());
    let source = open(&folder);
    let out = dir.path().join("out");
    let export = |out: &Path, weights, dtype, card: &ModelCard| {
        export(out, &source, weights, dtype, card).map_err(|e| e.code())
    };
    let good = || weights_of(&source);
    export(&out, good(), Dtype::F32, &card()).unwrap();
    let before = fs::read(out.join("model.safetensors")).unwrap();
    let mut missing = good();
    missing.remove("logit_bias");
    assert_eq!(
        export(&out, missing, Dtype::F32, &card()),
        Err("BAD_TENSOR")
    );
    let mut surplus = good();
    surplus.insert("more".into(), surplus["logit_bias"].clone());
    assert_eq!(
        export(&out, surplus, Dtype::F32, &card()),
        Err("BAD_TENSOR")
    );
    let mut misshaped = good();
    misshaped.insert(
        "logit_bias".into(),
        misshaped["text_model.head.bias"].clone(),
    );
    assert_eq!(
        export(&out, misshaped, Dtype::F32, &card()),
        Err("BAD_TENSOR")
    );
    assert_eq!(
        export(&out, good(), Dtype::Int8, &card()),
        Err("UNSUPPORTED")
    );
    let no_name = ModelCard {
        name: String::new(),
        ..card()
    };
    assert_eq!(
        export(&out, good(), Dtype::F32, &no_name),
        Err("BAD_ARGUMENT")
    );
    assert_eq!(
        export(&folder, good(), Dtype::F32, &card()),
        Err("BAD_ARGUMENT")
    );
    let under_a_file = out.join("config.json/model");
    assert_eq!(
        export(&under_a_file, good(), Dtype::F32, &card()),
        Err("IO_ERROR")
    );
    fs::write(out.join("mine.txt"), "").unwrap();
    assert_eq!(
        export(&out, good(), Dtype::F32, &card()),
        Err("BAD_ARGUMENT")
    );
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), before);
    assert_eq!(names(dir.path()), ["out", "start", "tokenizer"]);
}

/// A position table that was resampled and not trained further is still said to be; a trained one is not.
#[test]
fn resampled_positions_are_noted_while_they_are_left_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let folder = start(dir.path());
    let options = OpenOptions {
        resolution: Some(24),
        ..OpenOptions::default()
    };
    let source = open_with(&folder, &options).unwrap();
    let out = dir.path().join("out");
    export(&out, &source, weights_of(&source), Dtype::F32, &card()).unwrap();
    let written = open(&out);
    assert_eq!(written.config().vision.image_size, 24);
    assert_eq!(written.resampled(), Some(PositionResampling::default()));
    let trained = other_weights(source.config());
    export(&out, &source, trained, Dtype::F32, &card()).unwrap();
    assert_eq!(open(&out).resampled(), None);
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (tokenizer, config) = tokenizer(dir.path());
    let out = dir.path().join("out");
    let code = |config: &Config, tokenizer: &Path| {
        let made = create_model_folder(&out, config, &Init::default(), tokenizer);
        made.unwrap_err().code()
    };
    let mut small = config.clone();
    small.text.as_mut().unwrap().vocab_size -= 1;
    assert_eq!(code(&small, &tokenizer), "BAD_CONFIG");
    assert_eq!(code(&config, dir.path()), "BAD_CONFIG");
    assert!(!out.exists());
}
