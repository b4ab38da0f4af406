//! A training run from its configuration to the model's folder.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::card::{Base, Metric, ModelCard, TrainedOn};
use super::config::{CheckpointConfig, ExportConfig, Places, TrainConfig};
use super::data::Data;
use super::export::export;
use super::lora::merged;
use super::objective::{Objective, logit};
use super::optimizer::{Norms, Optimizer, average};
use super::start::{Start, equipped};
use super::state::{self, Progress, State};
use super::validate::TaskResult;
use crate::dataset::{Batch, Side};
use crate::metrics::Estimate;
use crate::model::{Device, Logit, Model};
use crate::towers::Siglip;
use crate::{Error, Result};

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
    /// The auxiliary loss, without its weight; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Temperature t = exp(t'); absent for a head, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Bias b; absent for a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
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
    /// Where to train: on one device, or on several that share every batch. The optimizer works on the first.
    pub devices: &'a [Device],
    /// Asked before every step whether to stop.
    pub stop: fn() -> bool,
}

/// Trains, and writes the model to `model` in the run's folder.
///
/// # Errors
/// Those of its parts; `DIVERGED` where the loss is no number, with the batch's ids in `diverged.json`; `INTERRUPTED`
/// where it was stopped, after a checkpoint unless the text tower was still being warmed up.
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
    source: Model,
    data: Data,
    objective: Box<dyn Objective>,
    model: Siglip,
    /// Devices beside the model's.
    others: Vec<burn::tensor::Device>,
    average: Option<Siglip>,
    optimizer: Optimizer,
    progress: Progress,
    /// What the validation after the last step gave.
    validated: Option<Vec<TaskResult>>,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
    /// The run's folder is ours as long as this is there.
    _lock: File,
}

impl<'a> Run<'a> {
    fn new(
        config: &'a TrainConfig,
        options: &'a RunOptions<'a>,
        tell: &'a mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let places = Places::of(options.output);
        let lock = state::claim(&places)?;
        let checkpoint = state::begin(&places, options.resume)?;
        let own = checksum(config);
        let found = checkpoint.as_deref().map(state::progress).transpose()?;
        refuse_other("configuration", found.as_ref().map(|f| &f.config), &own)?;
        let mut start = Start::new(config, options, &places)?;
        let data = &start.data.divided.fingerprint;
        refuse_other("data", found.as_ref().map(|f| &f.data), data)?;
        let progress = found.unwrap_or_else(|| Progress {
            step: 0,
            best: None,
            best_step: 0,
            stale: 0,
            config: own,
            data: data.clone(),
        });
        start.introduce(tell)?;
        if let (Some(warm), None) = (&config.text_warm_start, &checkpoint) {
            start.warm(warm, options, tell)?;
        }
        let Start {
            mut source,
            data,
            objective,
            mut model,
            others,
            ..
        } = start;
        model = equipped(model, config)?;
        let (mut optimizer, mut model) = Optimizer::new(&config.optimizer, model)?;
        let mut average = config.average.map(|_| model.valid());
        if let Some(checkpoint) = &checkpoint {
            (model, average) = state::load(checkpoint, model, average, &mut optimizer)?;
        }
        // The engine that was loaded with it is not needed: what is measured is given to it then.
        source.release_encoder();
        Ok(Self {
            config,
            options,
            tell,
            places,
            source,
            data,
            objective,
            model,
            others,
            average,
            optimizer,
            saved: checkpoint.map(|_| progress.step),
            progress,
            validated: None,
            _lock: lock,
        })
    }

    fn train(mut self) -> Result<Vec<TaskResult>> {
        let size = self.config.batch.size;
        let first = self.progress.step * size as u64;
        let preprocessor = self.source.preprocessor();
        let mut batches = self.data.batches(preprocessor, size, first)?;
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
        for message in self.data.divided.skipped() {
            (self.tell)(&Event::Warning { message })?;
        }
        self.finish()
    }

    /// One step.
    fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let config = self.config;
        let number = self.progress.step;
        let mut models = vec![self.model.clone()];
        models.extend(self.others.iter().map(|d| self.model.clone().fork(d)));
        let step = self
            .objective
            .step(&models, &self.source, &self.data, batch)?;
        if !step.loss.is_finite() {
            return Err(self.diverged(number, batch));
        }
        let logit = logit(&self.model);
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
        let mut report = self.report(step.loss, lr, logit, norms);
        report.auxiliary = step.auxiliary;
        Ok(report)
    }

    fn report(&self, loss: f64, lr: f64, logit: Option<Logit>, norms: Norms) -> StepReport {
        StepReport {
            step: self.progress.step,
            steps: self.config.steps,
            loss,
            auxiliary: None,
            lr,
            temperature: logit.map(Logit::temperature),
            bias: logit.map(|logit| logit.bias.into()),
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

    fn save(&mut self) -> Result<()> {
        if self.saved == Some(self.progress.step) {
            return Ok(());
        }
        let state = State {
            progress: &self.progress,
            model: &self.model,
            average: self.average.as_ref(),
            optimizer: &self.optimizer,
        };
        state.save(&self.places.checkpoints(), self.config.checkpoint.keep)?;
        self.saved = Some(self.progress.step);
        Ok(())
    }

    /// What is measured and exported: the average where there is one, without what only training needs.
    fn result(&self) -> Siglip {
        let mut result = self.average.clone().unwrap_or_else(|| self.model.valid());
        result.auxiliary = None;
        result
    }

    /// Measures what is there after `step`.
    fn measure(&mut self, side: Side, step: u64) -> Result<Vec<TaskResult>> {
        let result = self.result();
        let start = &mut self.source;
        let results = self.objective.measure(result, start, &self.data, side)?;
        let event = Event::Measured {
            step,
            side: side.name().into(),
            results: results.clone(),
        };
        (self.tell)(&event)?;
        Ok(results)
    }

    /// Measures the validation side.
    fn validate(&mut self) -> Result<()> {
        if !self.objective.is_measured() || !self.data.divided.has(Side::Val) {
            return Ok(());
        }
        let results = self.measure(Side::Val, self.progress.step)?;
        let judged = self.objective.judge(&results);
        self.validated = Some(results);
        let Some(value) = judged else {
            if self.config.validation.patience.is_some() {
                let message =
                    "nothing on the validation side can be judged: the run does not stop early";
                (self.tell)(&Event::Warning {
                    message: message.into(),
                })?;
            }
            return Ok(());
        };
        if self.progress.best.is_none_or(|best| value > best) {
            self.progress.best = Some(value);
            self.progress.best_step = self.progress.step;
            self.progress.stale = 0;
            if self.config.validation.keep_best {
                state::save_best(&self.places.checkpoints(), &self.result())?;
            }
        } else {
            self.progress.stale += 1;
        }
        Ok(())
    }

    /// Whether validation has been no better for too long.
    fn enough(&self) -> bool {
        let patience = self.config.validation.patience;
        patience.is_some_and(|patience| self.progress.stale >= patience)
    }

    /// Goes back to the best validation where that is asked for; the step of what will be exported.
    fn settle(&mut self) -> Result<u64> {
        let Progress {
            step,
            best,
            best_step,
            ..
        } = self.progress;
        if !self.config.validation.keep_best || best.is_none() || best_step == step {
            return Ok(step);
        }
        let best = state::load_best(&self.places.checkpoints(), self.result())?;
        self.average = Some(best);
        self.validated = None;
        let message =
            format!("exporting the model of step {best_step}, whose validation was the best");
        (self.tell)(&Event::Note { message })?;
        Ok(best_step)
    }

    fn finish(mut self) -> Result<Vec<TaskResult>> {
        let step = self.settle()?;
        let side = match self.data.divided.has(Side::Test) {
            true => Side::Test,
            false => Side::Val,
        };
        let results = match (self.objective.is_measured(), side, self.validated.take()) {
            (false, ..) => Vec::new(),
            (true, Side::Val, Some(results)) => results,
            _ => self.measure(side, step)?,
        };
        let card = self.card(side, step, &results);
        let weights = merged(&self.result(), self.config.lora.as_ref())?;
        export(
            &self.places.model(),
            self.source.checkpoint(),
            weights,
            self.config.export.dtype,
            &card,
        )?;
        Ok(results)
    }

    fn card(&mut self, side: Side, step: u64, results: &[TaskResult]) -> ModelCard {
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
        let how = self.objective.how();
        let metrics = |result: &TaskResult| {
            let metric = |name: &str, estimate: Estimate| Metric {
                task: format!("{}, {how}, {} pictures", result.task, side.name()),
                name: name.into(),
                value: estimate.value,
                low: estimate.low,
                high: estimate.high,
                images: result.images as u64,
            };
            let auroc = result.auroc.map(|auroc| metric(&result.measure, auroc));
            let accuracy = result.accuracy.map(|accuracy| metric("accuracy", accuracy));
            [auroc, accuracy].into_iter().flatten().collect::<Vec<_>>()
        };
        let settings = [
            ("steps", self.progress.step.to_string()),
            ("weights of step", step.to_string()),
            ("batch", config.batch.size.to_string()),
            ("learning rate", config.optimizer.lr.to_string()),
            ("weight decay", config.optimizer.weight_decay.to_string()),
            ("seed", config.seed.to_string()),
            ("configuration", format!("SHA-256 {}", self.progress.config)),
        ];
        let classes = self.source.config().classes.as_ref();
        ModelCard {
            name: config.export.name.clone(),
            base: match &config.model.base {
                Some(_) => Base::of(self.source.checkpoint(), config.export.hai_def),
                None => Base::Random,
            },
            license: config.export.license.clone(),
            classes: classes.map(|c| c.labels.clone()).unwrap_or_default(),
            sources: sources.collect(),
            settings: [
                settings.map(|(k, v)| (k.into(), v)).into(),
                self.objective.settings(),
            ]
            .concat(),
            metrics: results.iter().flat_map(metrics).collect(),
            limitations: config.export.limitations.clone(),
        }
    }
}

/// A run goes on from the same configuration and the same data alone.
fn refuse_other(what: &str, began: Option<&String>, now: &str) -> Result<()> {
    match began {
        Some(began) if began != now => Err(Error::BadConfig(format!(
            "the {what} is not what this run began with: a run that goes on must be the same; give another folder for a new \
             one"
        ))),
        _ => Ok(()),
    }
}

/// SHA-256 of what decides a run's steps: how often it is saved and how it is exported may change.
fn checksum(config: &TrainConfig) -> String {
    let steps = TrainConfig {
        checkpoint: CheckpointConfig::default(),
        export: ExportConfig::default(),
        ..config.clone()
    };
    let json = serde_json::to_vec(&steps).expect("plain fields");
    let digest = Sha256::digest(json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
