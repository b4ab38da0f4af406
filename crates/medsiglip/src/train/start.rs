//! What a run works with, before anything is trained.

use super::config::{Places, TextWarmStart, TrainConfig};
use super::data::{Captions, Data};
use super::export::{check_target, create_model_folder};
use super::run::{Event, RunOptions};
use super::validate::Task;
use super::warm_start::{self, warm_start};
use crate::checkpoint::ModelSource;
use crate::image::DecodeOptions;
use crate::model::{LoadOptions, Model};
use crate::tokenizer::{Canonicalizer, TrainedTokenizer};
use crate::towers::{self, Siglip};
use crate::{Config, Error, Result};

/// What a run works with, before anything is trained.
pub(super) struct Start {
    pub data: Data,
    pub tasks: Vec<Task>,
    /// What training starts from.
    pub source: Model,
    /// Its towers, on a device with gradients.
    pub model: Siglip,
    /// Where the text tower is to be warmed up.
    pub captions: Option<Captions>,
}

impl Start {
    /// All that can go wrong before the first step, and what the end needs, goes wrong here.
    pub fn new(config: &TrainConfig, options: &RunOptions, places: &Places) -> Result<Self> {
        // Those of every recipe that a model is trained with.
        let data = Data::open(config, options.base, &DecodeOptions::default())?;
        let needs_captions = config.model.new.is_some() || config.text_warm_start.is_some();
        let captions = needs_captions.then(|| data.captions()).transpose()?;
        let source = starting_model(config, options, places, captions.as_ref())?;
        let source = Model::load(&source, &LoadOptions::default())?;
        check_target(&places.model(), source.checkpoint())?;
        let captions = captions.filter(|_| config.text_warm_start.is_some());
        if let Some(captions) = &captions {
            warm_start::check(captions.texts.len())?;
        }
        let tasks = config.validation.tasks.iter();
        let tasks = tasks.map(|task| Task::new(task, &data, options.base));
        let mut device = towers::device(options.device).autodiff();
        if config.model.gradient_checkpointing {
            device = device.gradient_checkpointing();
        }
        Ok(Self {
            tasks: tasks.collect::<Result<_>>()?,
            model: Siglip::load(source.checkpoint(), &device)?,
            data,
            source,
            captions,
        })
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

/// The folder or hub id that training starts from; for a model of random weights, it is made first.
fn starting_model(
    config: &TrainConfig,
    options: &RunOptions,
    places: &Places,
    captions: Option<&Captions>,
) -> Result<ModelSource> {
    let (Some(new), Some(captions)) = (&config.model.new, captions) else {
        let base = config.model.base.as_deref().unwrap_or_default();
        return ModelSource::parse_in(options.base, base);
    };
    let folder = places.start();
    // Written whole or not at all: what a resumed run finds is what it started from.
    if !(options.resume && folder.exists()) {
        let tokenizer = TrainedTokenizer::train(&captions.texts, &new.tokenizer)?;
        tokenizer.write(&places.tokenizer())?;
        let mut text = new.text.clone();
        text.insert("vocab_size".into(), tokenizer.vocab_size().into());
        text.insert(
            "max_position_embeddings".into(),
            new.tokenizer.length.into(),
        );
        let json = serde_json::json!({"model_type": "siglip", "vision_config": new.vision, "text_config": text});
        let shapes = Config::from_json(&json.to_string())?;
        let mut init = new.init.clone();
        if init.seed == 0 {
            init.seed = config.seed;
        }
        create_model_folder(&folder, &shapes, &init, &places.tokenizer())?;
    }
    Ok(ModelSource::Local(folder))
}
