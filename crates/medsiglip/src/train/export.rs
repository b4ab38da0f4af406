//! Model folders in the Hugging Face layout: [`export`] writes a trained one, [`create_model_folder`] a random one.

use std::path::Path;

use serde_json::json;

use super::card::{Base, ModelCard, NOTICE};
use super::init::{Init, Weights, random_weights};
use crate::checkpoint::{
    CONFIG, Checkpoint, Dtype, PREPROCESSOR, SaveOptions, TOKENIZER_FILES, save_with,
};
use crate::tokenizer::Tokenizer;
use crate::{Config, Error, Result};

const CARD: &str = "README.md";

/// Writes trained `weights` to `folder` as transformers' `SiglipModel.from_pretrained` and `AutoProcessor` read it, or
/// `SiglipForImageClassification.from_pretrained` and `AutoImageProcessor` where it is a classifier, with `card` as its
/// `README.md`.
///
/// `source` is what the run started from: its config, at the resolution in force, and the files that say how pictures
/// and texts are prepared go along, and the weight file notes its id and checksum. Weights are rounded as
/// [`SaveOptions::dtype`] says. The folder appears whole or not at all; an older model under its name is replaced once
/// the new one is on the disk.
///
/// # Errors
/// `BAD_TENSOR` where the weights are not those of `source`'s config, are not finite, or do not fit the type;
/// `BAD_ARGUMENT` where `folder` is the source itself or holds other files than a model's, or the card contradicts
/// itself; `UNSUPPORTED` for [`Dtype::Int8`]; `IO_ERROR`, for example a full disk, and then an older model stays.
pub fn export(
    folder: &Path,
    source: &Checkpoint,
    weights: Weights,
    dtype: Dtype,
    card: &ModelCard,
) -> Result<()> {
    if dtype == Dtype::Int8 {
        return Err(Error::Unsupported(
            "a trained model is written as f32, bf16 or f16, which transformers reads: convert makes int8 of it".into(),
        ));
    }
    check_target(folder, source)?;
    write(folder, &source.with_weights(weights)?, Some(dtype), card)
}

/// Whether a model that was trained from `source` could be written to `folder`.
///
/// # Errors
/// `BAD_ARGUMENT` where `folder` is the source itself or holds other files than a model's; `IO_ERROR`.
pub fn check_target(folder: &Path, source: &Checkpoint) -> Result<()> {
    refuse_same(folder, source.folder())?;
    crate::folder::check_target(folder, is_of_a_model)
}

/// Writes a model with random weights to `folder`: where a training run from nothing starts.
///
/// `tokenizer` is a folder with the tokenizer's files, which are copied. Pictures are prepared as the published SigLIP
/// models' are: bicubic to the config's size, 0..255 to -1..1.
///
/// # Errors
/// As [`random_weights`] and [`Tokenizer::from_folder`]; `BAD_ARGUMENT` where `folder` is the tokenizer's, or holds
/// other files than a model's; `IO_ERROR`.
pub fn create_model_folder(
    folder: &Path,
    config: &Config,
    init: &Init,
    tokenizer: &Path,
) -> Result<()> {
    if let Some(text) = &config.text {
        Tokenizer::from_folder(tokenizer, text.max_position_embeddings, text.vocab_size)?;
    }
    refuse_same(folder, tokenizer)?;
    let card = ModelCard {
        name: "A SigLIP model with random weights".into(),
        base: Base::Random,
        license: "apache-2.0".into(),
        classes: Vec::new(),
        sources: Vec::new(),
        settings: Vec::new(),
        metrics: Vec::new(),
        limitations: vec!["Its weights are random: its scores mean nothing.".into()],
    };
    let checkpoint = Checkpoint::in_memory(
        format!("random weights of seed {}", init.seed),
        config.clone(),
        preprocessor_config(config.vision.image_size),
        tokenizer,
        random_weights(config, init)?,
    )?;
    write(folder, &checkpoint, None, &card)
}

fn write(
    folder: &Path,
    checkpoint: &Checkpoint,
    dtype: Option<Dtype>,
    card: &ModelCard,
) -> Result<()> {
    let options = SaveOptions {
        dtype,
        ..SaveOptions::default()
    };
    let (text, notice) = (card.to_markdown()?, card.notice());
    let mut texts = vec![(CARD, text.as_str())];
    texts.extend(notice.as_deref().map(|notice| (NOTICE, notice)));
    save_with(checkpoint, folder, &options, is_of_a_model, &texts)
}

/// Whether a model folder may hold a file of this name, so that a newer model replaces it.
fn is_of_a_model(name: &str) -> bool {
    name.ends_with(".safetensors")
        || name.ends_with(".safetensors.index.json")
        || [CONFIG, PREPROCESSOR, CARD, NOTICE].contains(&name)
        || TOKENIZER_FILES.contains(&name)
}

/// What is read from stays as it is.
fn refuse_same(folder: &Path, read: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    match real(folder) {
        Some(path) if Some(&path) == real(read).as_ref() => Err(Error::BadArgument(format!(
            "expected a folder other than the one that is read: {}",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// The published SigLIP models' `preprocessor_config.json`, for pictures of `size` pixels.
fn preprocessor_config(size: usize) -> String {
    let half = [0.5, 0.5, 0.5];
    let json = json!({
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": half,
        "image_processor_type": "SiglipImageProcessor",
        "image_std": half,
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"height": size, "width": size},
    });
    format!("{json:#}\n")
}
