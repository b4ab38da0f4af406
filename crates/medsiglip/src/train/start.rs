//! What a run works with, before anything is trained.

use std::collections::BTreeMap;

use serde_json::json;

use super::auxiliary::with_auxiliary;
use super::config::{Places, TextWarmStart, TrainConfig};
use super::data::{Captions, Data};
use super::export::{check_target, create_model_folder};
use super::head::Head;
use super::lora::with_lora;
use super::objective::{Objective, Pairs};
use super::run::{Event, RunOptions};
use super::validate::Task;
use super::warm_start::{self, warm_start};
use crate::checkpoint::{CLASSIFIER, Checkpoint, ModelSource, OpenOptions, Tensor};
use crate::config::Classes;
use crate::image::DecodeOptions;
use crate::model::{Device, LoadOptions, Model};
use crate::tokenizer::{Canonicalizer, TrainedTokenizer};
use crate::towers::{self, Siglip};
use crate::{Config, Error, Result};

/// What a run works with, before anything is trained.
pub(super) struct Start {
    pub data: Data,
    pub objective: Box<dyn Objective>,
    /// What training starts from.
    pub source: Model,
    /// Its towers, on a device with gradients.
    pub model: Siglip,
    /// Devices beside the model's.
    pub others: Vec<burn::tensor::Device>,
    /// Where the text tower is to be warmed up.
    pub captions: Option<Captions>,
}

impl Start {
    /// All that can go wrong before the first step, and what the end needs, goes wrong here.
    pub fn new(config: &TrainConfig, options: &RunOptions, places: &Places) -> Result<Self> {
        let precision = config.model.precision;
        let on = |device: &Device| Ok(towers::device(*device, precision)?.autodiff());
        let mut devices = options.devices.iter().map(on).collect::<Result<Vec<_>>>()?;
        if devices.is_empty() {
            devices.push(on(&Device::Auto)?);
        }
        let others = devices.split_off(1);
        let mut device = devices.remove(0);
        // Those of every recipe that a model is trained with.
        let mut data = Data::open(config, options.base, &DecodeOptions::default())?;
        let needs_captions = config.model.new.is_some() || config.text_warm_start.is_some();
        let needs_captions = needs_captions && config.head.is_none();
        let captions = needs_captions.then(|| data.captions()).transpose()?;
        let source = starting_model(config, options, places, captions.as_ref())?;
        let mut checkpoint = Checkpoint::open(&source, &OpenOptions::default())?;
        if let Some(truth) = &data.truth {
            checkpoint = with_classes(checkpoint, &truth.classes);
        }
        // Its engine is let go of when training begins.
        let load = LoadOptions {
            device: Device::Cpu,
            ..LoadOptions::default()
        };
        let source = Model::of(checkpoint, &load)?;
        check_target(&places.model(), source.checkpoint())?;
        let captions = captions.filter(|_| config.text_warm_start.is_some());
        if let Some(captions) = &captions {
            warm_start::check(captions.texts.len())?;
        }
        let objective = objective(config, &mut data, options)?;
        if config.model.gradient_checkpointing {
            device = device.gradient_checkpointing();
        }
        Ok(Self {
            objective,
            model: Siglip::load_in(source.checkpoint(), &device, precision)?,
            data,
            source,
            others,
            captions,
        })
    }

    /// Tells what a person should know before the first step.
    pub fn introduce(&self, tell: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
        let warnings = self.data.divided.warnings.iter().cloned();
        let warnings = warnings.map(|message| Event::Warning { message });
        let notes = self.objective.notes().into_iter();
        let notes = notes.map(|message| Event::Note { message });
        warnings.chain(notes).try_for_each(|event| tell(&event))
    }

    /// The model after the warm start of its text tower.
    pub fn warm(
        &mut self,
        config: &TextWarmStart,
        options: &RunOptions,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let Some(Captions { texts, meanings }) = self.captions.take() else {
            return Ok(());
        };
        let tokenizer = self.source.tokenizer()?;
        let (ids, _) = tokenizer.encode_batch(&texts, Canonicalizer::default())?;
        let mut last = f64::NAN;
        let each = |_, loss| {
            last = loss;
            match (options.stop)() {
                true => Err(Error::Interrupted),
                false => Ok(()),
            }
        };
        self.model = warm_start(self.model.clone(), &ids, &meanings, config, each)?;
        let different = meanings.iter().max().map_or(0, |last| last + 1);
        let message = format!(
            "the text tower tells {} captions in {different} meanings apart: loss {last:.3} after {} steps",
            texts.len(),
            config.steps
        );
        tell(&Event::Note { message })
    }
}

/// `model` with what only training needs: adapters, and the layer of an auxiliary loss.
pub(super) fn equipped(mut model: Siglip, config: &TrainConfig) -> Result<Siglip> {
    if let Some(lora) = &config.lora {
        model.vision_model.device().seed(config.seed);
        model = with_lora(model, lora)?;
    }
    match config.auxiliary {
        Some(_) => Ok(with_auxiliary(model)),
        None => Ok(model),
    }
}

/// What the configuration says that is learned.
fn objective(
    config: &TrainConfig,
    data: &mut Data,
    options: &RunOptions,
) -> Result<Box<dyn Objective>> {
    if let (Some(head), Some(truth)) = (&config.head, data.truth.take()) {
        let head = Head::new(head, truth, data, config.micro_batch())?;
        return Ok(Box::new(head));
    }
    let tasks = config.validation.tasks.iter();
    let tasks = tasks.map(|task| Task::new(task, data, options.base));
    Ok(Box::new(Pairs {
        config: config.clone(),
        tasks: tasks.collect::<Result<_>>()?,
    }))
}

/// `checkpoint` as a classifier: with the layer that it has where it is one of these classes, else with one of zeros (big_vision,
/// `head_zeroinit`), so that training has no chance directions to unlearn.
fn with_classes(checkpoint: Checkpoint, classes: &Classes) -> Checkpoint {
    let mut layer = BTreeMap::new();
    if checkpoint.config().classes.as_ref() != Some(classes) {
        let count = classes.labels.len();
        let width = checkpoint.config().vision.hidden_size;
        for (part, shape) in [("weight", vec![count, width]), ("bias", vec![count])] {
            let zeros = vec![0.0; shape.iter().product()];
            layer.insert(
                format!("{CLASSIFIER}.{part}"),
                Tensor::from_f32(shape, zeros),
            );
        }
    }
    checkpoint.classifying(classes.clone(), layer)
}

/// The folder or hub id that training starts from; for a model of random weights, it is made first.
fn starting_model(
    config: &TrainConfig,
    options: &RunOptions,
    places: &Places,
    captions: Option<&Captions>,
) -> Result<ModelSource> {
    let Some(new) = &config.model.new else {
        let base = config.model.base.as_deref().unwrap_or_default();
        return ModelSource::parse_in(options.base, base);
    };
    let folder = places.start();
    // Written whole or not at all: what a resumed run finds is what it started from.
    if !(options.resume && folder.exists()) {
        let mut shapes = json!(new.vision);
        shapes["model_type"] = "siglip_vision_model".into();
        if let Some(captions) = captions {
            let tokenizer = TrainedTokenizer::train(&captions.texts, &new.tokenizer)?;
            tokenizer.write(&places.tokenizer())?;
            let mut text = new.text.clone().unwrap_or_default();
            text.insert("vocab_size".into(), tokenizer.vocab_size().into());
            text.insert(
                "max_position_embeddings".into(),
                new.tokenizer.length.into(),
            );
            shapes =
                json!({"model_type": "siglip", "vision_config": new.vision, "text_config": text});
        }
        let shapes = Config::from_json(&shapes.to_string())?;
        let mut init = new.init.clone();
        if init.seed == 0 {
            init.seed = config.seed;
        }
        create_model_folder(&folder, &shapes, &init, &places.tokenizer())?;
    }
    Ok(ModelSource::Local(folder))
}
