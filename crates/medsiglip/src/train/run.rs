//! A training run from its configuration to the model's folder.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::card::{Base, Metric, ModelCard, TrainedOn};
use super::config::{Places, TrainConfig};
use super::data::{Data, Sources};
use super::export::{create_model_folder, export};
use super::lora::{merged, with_lora};
use super::optimizer::{Norms, Optimizer, average};
use super::state::{self, Progress, State};
use super::step::{Cut, sigmoid_step};
use super::validate::{Task, TaskResult};
use super::warm_start::warm_start;
use crate::checkpoint::ModelSource;
use crate::dataset::{Batch, Side};
use crate::model::{Device, LoadOptions, Logit, Model};
use crate::tokenizer::{Canonicalizer, TrainedTokenizer};
use crate::towers::{self, BurnEncoder, Siglip};
use crate::{Config, Error, Result};

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something that a person should know.
    Warning {
        /// What.
        message: String,
    },
    /// Something done.
    Note {
        /// What.
        message: String,
    },
    /// A step.
    Step(StepReport),
    /// A validation, or the test at the end.
    Measured {
        /// After so many steps.
        step: u64,
        /// `val` or `test`.
        side: String,
        /// Every task's.
        results: Vec<TaskResult>,
    },
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// Of all steps.
    pub steps: u64,
    /// The loss before the step.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Temperature t = exp(t').
    pub temperature: f64,
    /// Bias b.
    pub bias: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Of the vision tower's.
    pub gradient_norm_vision: f64,
    /// Of the text tower's.
    pub gradient_norm_text: f64,
    /// Pictures a second, data and all.
    pub images_per_second: f64,
}

/// How a run is made, beside its configuration.
pub struct RunOptions<'a> {
    /// The folder that relative paths of the configuration start at.
    pub base: &'a Path,
    /// The run's folder.
    pub output: &'a Path,
    /// Go on from the newest checkpoint there.
    pub resume: bool,
    /// Where to train.
    pub device: Device,
    /// Asked before every step whether to stop.
    pub stop: fn() -> bool,
}

/// Trains, and writes the model to `model` in the run's folder.
///
/// # Errors
/// Those of its parts; `DIVERGED` where the loss is no number, with the batch's ids in `diverged.json`; `INTERRUPTED`
/// where it was stopped, after a checkpoint.
pub fn train(
    config: &TrainConfig,
    options: &RunOptions,
    tell: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<Vec<TaskResult>> {
    Run::new(config, options, tell)?.train()
}

struct Run<'a> {
    config: &'a TrainConfig,
    options: &'a RunOptions<'a>,
    tell: &'a mut dyn FnMut(&Event) -> Result<()>,
    places: Places,
    /// The starting model, whose encoder and temperature are replaced by those in training for every validation.
    start: Model,
    data: Data,
    tasks: Vec<Task>,
    model: Siglip,
    average: Option<Siglip>,
    optimizer: Optimizer,
    progress: Progress,
    /// What the validation after the last step gave.
    validated: Option<Vec<TaskResult>>,
}

impl<'a> Run<'a> {
    fn new(
        config: &'a TrainConfig,
        options: &'a RunOptions<'a>,
        tell: &'a mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let places = Places::of(options.output);
        let mut progress = Progress {
            step: 0,
            best: None,
            stale: 0,
            config: checksum(config),
        };
        let checkpoint = state::begin(&places, options.resume)?;
        if let Some(checkpoint) = &checkpoint {
            progress = taken_up(checkpoint, &progress)?;
        }
        let Ready {
            captions,
            mut start,
            data,
            tasks,
            mut model,
        } = Ready::new(config, options, &places)?;
        for message in &data.warnings {
            tell(&Event::Warning {
                message: message.clone(),
            })?;
        }
        if let (Some(warm), None) = (&config.text_warm_start, &checkpoint) {
            model = warm_text(model, &start, &captions, warm, options, tell)?;
        }
        if let Some(lora) = &config.lora {
            model.vision_model.device().seed(config.seed);
            model = with_lora(model, lora)?;
        }
        let (mut optimizer, mut model) = Optimizer::new(&config.optimizer, model)?;
        let mut average = config.average.map(|_| model.valid());
        if let Some(checkpoint) = &checkpoint {
            (model, average) = state::load(checkpoint, model, average, &mut optimizer)?;
        }
        // The engine that was loaded with it is not needed.
        start.replace_encoder(Box::new(BurnEncoder::new(model.valid())), None);
        Ok(Self {
            config,
            options,
            tell,
            places,
            start,
            data,
            tasks,
            model,
            average,
            optimizer,
            progress,
            validated: None,
        })
    }

    fn train(mut self) -> Result<Vec<TaskResult>> {
        let size = self.config.batch.size;
        let mut batches = self.data.batches(size, self.progress.step * size as u64)?;
        let mut began = Instant::now();
        while self.progress.step < self.config.steps && !self.enough() {
            if (self.options.stop)() {
                self.save()?;
                return Err(Error::Interrupted);
            }
            let batch = batches.next().ok_or_else(|| {
                Error::BadArgument(
                    "training data: no batch is left, its pictures cannot be read".into(),
                )
            })??;
            let mut report = self.step(&batch)?;
            report.images_per_second = batch.ids.len() as f64 / began.elapsed().as_secs_f64();
            began = Instant::now();
            (self.tell)(&Event::Step(report))?;
            let done = self.progress.step;
            let due = |every: u64| every > 0 && done.is_multiple_of(every);
            let last = done == self.config.steps;
            if due(self.config.validation.every) || last {
                self.validate()?;
            }
            if due(self.config.checkpoint.every) || last || self.enough() {
                self.save()?;
            }
        }
        drop(batches);
        let done = self.progress.step;
        if done < self.config.steps {
            let message = format!("stopped early after {done} steps: no better validation");
            (self.tell)(&Event::Note { message })?;
        }
        for message in self.data.skipped() {
            (self.tell)(&Event::Warning { message })?;
        }
        self.finish()
    }

    /// One step.
    fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let config = self.config;
        let number = self.progress.step;
        let tokenizer = self.start.tokenizer()?;
        let pairs = self.data.pairs(batch, tokenizer, config.loss.positives)?;
        let cut = Cut {
            micro_batch: config.micro_batch(),
            loss_block: config.loss.block,
        };
        let step = sigmoid_step(&self.model, &pairs, cut)?;
        if !step.loss.is_finite() {
            return Err(self.diverged(number, batch));
        }
        let logit = logit(&self.model)?;
        let lr = config.optimizer.lr * config.schedule.at(number, config.steps);
        let (model, norms) = self.optimizer.step(lr, self.model.clone(), step.gradients);
        self.model = model;
        if !norms.all.is_finite() {
            return Err(self.diverged(number, batch));
        }
        if let (Some(decay), Some(old)) = (config.average, self.average.take()) {
            // Early on the average follows faster, so that it forgets the random start.
            let decay = decay.min((1 + number) as f64 / (10 + number) as f64);
            self.average = Some(average(old, &self.model, decay));
        }
        self.progress.step = number + 1;
        self.validated = None;
        Ok(self.report(step.loss, lr, logit, norms))
    }

    fn report(&self, loss: f64, lr: f64, logit: Logit, norms: Norms) -> StepReport {
        StepReport {
            step: self.progress.step,
            steps: self.config.steps,
            loss,
            lr,
            temperature: logit.temperature(),
            bias: logit.bias.into(),
            gradient_norm: norms.all,
            gradient_norm_vision: norms.vision,
            gradient_norm_text: norms.text,
            images_per_second: 0.0,
        }
    }

    fn diverged(&self, number: u64, batch: &Batch) -> Error {
        let path = self.places.run.join("diverged.json");
        let told = serde_json::json!({"step": number + 1, "ids": batch.ids, "draws": [batch.draws.start, batch.draws.end]});
        if let Err(e) = std::fs::write(&path, format!("{told:#}\n")) {
            return Error::io("write", &path, e);
        }
        Error::Diverged(format!(
            "the loss of step {} or a gradient of it is no finite number; the batch's ids are in {}; a lower learning rate, a longer warm-up or \
             clipping may help, or a look at these pictures",
            number + 1,
            path.display()
        ))
    }

    fn save(&self) -> Result<()> {
        let state = State {
            progress: &self.progress,
            model: &self.model,
            average: self.average.as_ref(),
            optimizer: &self.optimizer,
        };
        state
            .save(&self.places.checkpoints(), self.config.checkpoint.keep)
            .map(drop)
    }

    /// What is measured and exported: the average where there is one.
    fn result(&self) -> Siglip {
        self.average.clone().unwrap_or_else(|| self.model.valid())
    }

    fn measure(&mut self, side: Side) -> Result<Vec<TaskResult>> {
        let result = self.result();
        let logit = logit(&result)?;
        self.start
            .replace_encoder(Box::new(BurnEncoder::new(result)), Some(logit));
        let batch = self.config.micro_batch();
        let run = |task: &Task| task.run(&self.start, &self.data, side, batch);
        let results: Vec<_> = self.tasks.iter().map(run).collect::<Result<_>>()?;
        let event = Event::Measured {
            step: self.progress.step,
            side: side.name().into(),
            results: results.clone(),
        };
        (self.tell)(&event)?;
        Ok(results)
    }

    /// Measures the validation side.
    fn validate(&mut self) -> Result<()> {
        if self.tasks.is_empty() || self.config.split.val == 0.0 {
            return Ok(());
        }
        let results = self.measure(Side::Val)?;
        let values = results.iter().filter_map(|r| Some(r.auroc?.value));
        let values: Vec<f64> = values.collect();
        self.validated = Some(results);
        if values.is_empty() {
            return Ok(());
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        if self.progress.best.is_none_or(|best| mean > best) {
            self.progress.best = Some(mean);
            self.progress.stale = 0;
        } else {
            self.progress.stale += 1;
        }
        Ok(())
    }

    /// Whether validation has been no better for too long.
    fn enough(&self) -> bool {
        let patience = self.config.validation.patience;
        patience.is_some_and(|patience| self.progress.stale > patience)
    }

    fn finish(mut self) -> Result<Vec<TaskResult>> {
        let side = if self.config.split.test > 0.0 {
            Side::Test
        } else {
            Side::Val
        };
        let results = match (self.tasks.is_empty(), side, self.validated.take()) {
            (true, ..) => Vec::new(),
            (false, Side::Val, Some(results)) => results,
            _ => self.measure(side)?,
        };
        let card = self.card(side, &results);
        let weights = merged(&self.result(), self.config.lora.as_ref())?;
        export(
            &self.places.model(),
            self.start.checkpoint(),
            weights,
            self.config.export.dtype,
            &card,
        )?;
        Ok(results)
    }

    fn card(&mut self, side: Side, results: &[TaskResult]) -> ModelCard {
        let config = self.config;
        let draws = self.progress.step * config.batch.size as u64;
        let counts = self.data.mixture.counts(draws).to_vec();
        let pools = self.data.mixture.pools();
        let sources = pools.iter().zip(counts).map(|(pool, count)| TrainedOn {
            name: pool.name.clone(),
            pairs: pool.len() as u64,
            license: config
                .export
                .source_licenses
                .get(&pool.name)
                .cloned()
                .unwrap_or_else(|| "not stated".into()),
            share: count as f64 / draws.max(1) as f64,
        });
        let metric = |result: &TaskResult| {
            let estimate = result.auroc?;
            Some(Metric {
                task: format!("{}, zero-shot, {} pictures", result.task, side.name()),
                name: "AUROC".into(),
                value: estimate.value,
                low: estimate.low,
                high: estimate.high,
                images: result.images as u64,
            })
        };
        let settings = [
            ("steps", self.progress.step.to_string()),
            ("batch", config.batch.size.to_string()),
            ("learning rate", config.optimizer.lr.to_string()),
            ("weight decay", config.optimizer.weight_decay.to_string()),
            ("seed", config.seed.to_string()),
            ("configuration", format!("SHA-256 {}", self.progress.config)),
        ];
        ModelCard {
            name: config.export.name.clone(),
            base: match &config.model.base {
                Some(_) => Base::of(self.start.checkpoint().id()),
                None => Base::Random,
            },
            license: config.export.license.clone(),
            sources: sources.collect(),
            settings: settings.map(|(k, v)| (k.into(), v)).into(),
            metrics: results.iter().filter_map(metric).collect(),
            limitations: config.export.limitations.clone(),
        }
    }
}

/// What a run works with, before anything is trained.
pub(super) struct Ready {
    pub captions: Vec<(String, Vec<u32>)>,
    pub start: Model,
    pub data: Data,
    pub tasks: Vec<Task>,
    /// On a device with gradients.
    pub model: Siglip,
}

impl Ready {
    pub(super) fn new(config: &TrainConfig, options: &RunOptions, places: &Places) -> Result<Self> {
        let sources = Sources::open(config, options.base)?;
        let captions = sources.captions()?;
        let source = starting_model(config, options, places, &captions)?;
        let start = Model::load(&source, &LoadOptions::default())?;
        let data = sources.divide(config, start.preprocessor())?;
        let tasks = config.validation.tasks.iter();
        let tasks = tasks.map(|task| Task::new(task, &data, options.base));
        let mut device = towers::device(options.device).autodiff();
        if config.model.gradient_checkpointing {
            device = device.gradient_checkpointing();
        }
        Ok(Self {
            tasks: tasks.collect::<Result<_>>()?,
            model: Siglip::load(start.checkpoint(), &device)?,
            captions,
            start,
            data,
        })
    }
}

fn taken_up(checkpoint: &Path, own: &Progress) -> Result<Progress> {
    let found = state::progress(checkpoint)?;
    if found.config != own.config {
        return Err(Error::BadConfig(
            "the configuration is not the one that this run began with: a run that goes on must be the same; give another \
             folder for a new one"
                .into(),
        ));
    }
    Ok(found)
}

fn checksum(config: &TrainConfig) -> String {
    let json = serde_json::to_vec(config).expect("plain fields");
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder or hub id that training starts from; for a model of random weights, it is made first.
fn starting_model(
    config: &TrainConfig,
    options: &RunOptions,
    places: &Places,
    captions: &[(String, Vec<u32>)],
) -> Result<ModelSource> {
    let Some(new) = &config.model.new else {
        let base = config.model.base.as_deref().unwrap_or_default();
        let beside = options.base.join(base);
        return match beside.exists() {
            true => Ok(ModelSource::Local(beside)),
            false => base.parse(),
        };
    };
    let folder = places.start();
    // Written whole or not at all: what a resumed run finds is what it started from.
    if !(options.resume && folder.exists()) {
        let tokenizer =
            TrainedTokenizer::train(captions.iter().map(|(text, _)| text), &new.tokenizer)?;
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

fn warm_text<'a>(
    model: Siglip,
    start: &Model,
    captions: &'a [(String, Vec<u32>)],
    config: &super::config::TextWarmStart,
    options: &RunOptions,
    tell: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<Siglip> {
    let texts: Vec<&str> = captions.iter().map(|(text, _)| text.as_str()).collect();
    let (ids, _) = start
        .tokenizer()?
        .encode_batch(&texts, Canonicalizer::default())?;
    // Captions that are true of the same examples say the same.
    let mut numbers: HashMap<&[u32], i32> = HashMap::new();
    let key = |(_, examples): &'a (String, Vec<u32>)| {
        let next = numbers.len() as i32;
        *numbers.entry(examples.as_slice()).or_insert(next)
    };
    let keys: Vec<i32> = captions.iter().map(key).collect();
    let mut last = f64::NAN;
    let stop = options.stop;
    let model = warm_start(model, &ids, &keys, config, |_, loss| {
        last = loss;
        if stop() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    })?;
    let message = format!(
        "the text tower tells {} captions in {} meanings apart: loss {last:.3} after {} steps",
        texts.len(),
        numbers.len(),
        config.steps
    );
    tell(&Event::Note { message })?;
    Ok(model)
}

/// Temperature and bias of a model.
fn logit(model: &Siglip) -> Result<Logit> {
    let value = |p: &Option<burn::module::Param<burn::tensor::Tensor<1>>>| {
        p.as_ref().map(|p| p.val().into_scalar::<f32>())
    };
    match (value(&model.logit_scale), value(&model.logit_bias)) {
        (Some(scale), Some(bias)) => Ok(Logit { scale, bias }),
        _ => Err(Error::Unsupported(
            "training on pairs needs a model with a text tower".into(),
        )),
    }
}
