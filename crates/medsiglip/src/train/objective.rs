//! [`Objective`]: what a run learns, and how it is judged. The loop knows nothing else of it.

use super::config::TrainConfig;
use super::data::Data;
use super::step::{Cut, StepGradients, sigmoid_step_on};
use super::validate::{Task, TaskResult};
use crate::dataset::{Batch, Side};
use crate::model::{Logit, Model};
use crate::towers::{BurnEncoder, Siglip};
use crate::{Error, Result};

/// What a run learns.
pub(super) trait Objective {
    /// The loss of a batch and its gradients. `models` are the same on every device; `start` is what the run began from.
    fn step(
        &self,
        models: &[Siglip],
        start: &Model,
        data: &Data,
        batch: &Batch,
    ) -> Result<StepGradients>;

    /// Whether there is anything to measure.
    fn is_measured(&self) -> bool;

    /// What `model` gives on the pictures of a side.
    fn measure(
        &self,
        model: Siglip,
        start: &mut Model,
        data: &Data,
        side: Side,
    ) -> Result<Vec<TaskResult>>;

    /// The number of a measurement that is to rise.
    fn judge(&self, results: &[TaskResult]) -> Option<f64>;

    /// How it is measured, for the model card.
    fn how(&self) -> &'static str;

    /// What a person should know of it beforehand.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What it adds to the settings of the model card.
    fn settings(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Pictures and texts that belong together.
pub(super) struct Pairs {
    pub config: TrainConfig,
    pub tasks: Vec<Task>,
}

impl Objective for Pairs {
    fn step(
        &self,
        models: &[Siglip],
        start: &Model,
        data: &Data,
        batch: &Batch,
    ) -> Result<StepGradients> {
        let config = &self.config;
        let mut pairs = data.pairs(batch, start.tokenizer()?, config.loss.positives)?;
        if let Some(auxiliary) = &config.auxiliary {
            let (patch, draw) = (start.config().vision.patch_size, batch.draws.start);
            let (told, shown) = auxiliary.of(&pairs.pixels, patch, config.seed, draw)?;
            (pairs.pixels, pairs.auxiliary) = (shown, Some(told));
        }
        let cut = Cut {
            micro_batch: config.micro_batch(),
            loss_block: config.loss.block,
        };
        sigmoid_step_on(models, &pairs, cut)
    }

    fn is_measured(&self) -> bool {
        !self.tasks.is_empty()
    }

    fn measure(
        &self,
        model: Siglip,
        start: &mut Model,
        data: &Data,
        side: Side,
    ) -> Result<Vec<TaskResult>> {
        let logit = logit(&model).ok_or_else(|| {
            Error::Unsupported("training on pairs needs a model with a text tower".into())
        })?;
        start.replace_encoder(Box::new(BurnEncoder::new(model)), Some(logit));
        let batch = self.config.micro_batch();
        let run = |task: &Task| task.run(start, data, side, batch);
        let results = self.tasks.iter().map(run).collect();
        start.release_encoder();
        results
    }

    fn judge(&self, results: &[TaskResult]) -> Option<f64> {
        let values: Vec<f64> = results
            .iter()
            .filter_map(|r| Some(r.auroc?.value))
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    fn how(&self) -> &'static str {
        "zero-shot"
    }

    fn settings(&self) -> Vec<(String, String)> {
        let auxiliary = self.config.auxiliary.iter();
        let settings = auxiliary.map(|a| {
            let value = format!("weight {}, mask {}", a.weight, a.mask);
            ("auxiliary loss".into(), value)
        });
        settings.collect()
    }
}

/// Temperature and bias of a model; `None` without a text tower.
pub(super) fn logit(model: &Siglip) -> Option<Logit> {
    let value = |p: &Option<burn::module::Param<burn::tensor::Tensor<1>>>| {
        p.as_ref().map(|p| p.val().into_scalar::<f32>())
    };
    Some(Logit {
        scale: value(&model.logit_scale)?,
        bias: value(&model.logit_bias)?,
    })
}
