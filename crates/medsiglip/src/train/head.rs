//! Supervised fine-tuning: the vision tower with a linear layer on the mean of its patches, which is transformers'
//! `SiglipForImageClassification`.

mod predicted;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use self::predicted::Predicted;
use super::config::TrainConfig;
use super::data::Data;
use super::objective::Objective;
use super::step::{StepGradients, constant, on_each};
use super::truth::{Count, Truth};
use super::validate::TaskResult;
use crate::config::ClassKind;
use crate::dataset::{Batch, Side};
use crate::model::Model;
use crate::preprocess::PixelValues;
use crate::towers::Siglip;
use crate::{Error, Result};

/// The `[head]` table: the vision tower learns to tell classes apart, and there are no texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// Whether one class is right, or each is there or not.
    pub kind: ClassKind,
    /// The column with the names of the classes, several between `|` where several may be there. An empty cell says
    /// nothing: the example is left out.
    #[serde(default)]
    pub label: Option<String>,
    /// The classes, where `label` is not to give its own: other names are then no class.
    #[serde(default)]
    pub labels: Vec<String>,
    /// In place of `label`, a column a class: 1, 0, or nothing (or -1) where nobody knows, which the loss leaves out.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What the presence of each class counts beside its absence, for `multilabel`.
    #[serde(default)]
    pub pos_weight: Option<PosWeight>,
    /// The share of the truth that is spread: over all classes, or over presence and absence.
    #[serde(default)]
    pub label_smoothing: f64,
    /// What early stopping goes by.
    #[serde(default)]
    pub judge: Judge,
}

/// What presence counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PosWeight {
    /// Examples without the class to each with it, among those that are drawn; weights of sources do not count.
    Balanced,
    /// For every class.
    #[serde(untagged)]
    Each(Vec<f64>),
}

/// What is to rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The mean of the classes' AUROCs.
    #[default]
    Auroc,
    /// The share of answers that are right.
    Accuracy,
}

impl HeadConfig {
    /// What must hold, and what is said where it does not.
    pub(super) fn checks(&self, config: &TrainConfig) -> [(bool, &'static str); 8] {
        let multilabel = self.kind == ClassKind::Multilabel;
        let by_columns = !self.columns.is_empty();
        let mut names: Vec<_> = self.labels.iter().chain(&self.columns).collect();
        names.sort();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        let named = names.iter().all(|name| !name.trim().is_empty());
        let weights = match &self.pos_weight {
            Some(PosWeight::Each(weights)) => weights.as_slice(),
            _ => &[],
        };
        let positive = weights.iter().all(|w| w.is_finite() && *w > 0.0);
        [
            (
                self.label.is_some() != by_columns,
                "head: expected either label or columns",
            ),
            (
                !by_columns || multilabel && self.labels.is_empty(),
                "head.columns: expected kind = \"multilabel\", and no labels beside them",
            ),
            (
                named && !twice,
                "head: expected every class once, by its name",
            ),
            (
                multilabel || self.pos_weight.is_none(),
                "head.pos_weight: expected kind = \"multilabel\"",
            ),
            (positive, "head.pos_weight: expected numbers above 0"),
            (
                (0.0..1.0).contains(&self.label_smoothing),
                "head.label_smoothing: expected a share from 0 to below 1",
            ),
            (
                config.validation.tasks.is_empty() && config.text_warm_start.is_none(),
                "head: there are no texts for validation.task and text_warm_start; the head's own classes are measured",
            ),
            (
                config.loss == Default::default(),
                "loss: it is that of pairs, a head has its own",
            ),
        ]
    }
}

/// The loss of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadLoss {
    /// Cross-entropy, or binary cross-entropy of every class.
    pub kind: ClassKind,
    /// (C): what presence counts beside absence; for [`ClassKind::Multilabel`].
    pub pos_weight: Vec<f64>,
    /// The share of the truth that is spread.
    pub label_smoothing: f64,
}

impl HeadLoss {
    /// (n, C) each: what the logarithms of the probabilities of presence and of absence are multiplied by. Their sum is the
    /// loss, a mean over pictures (PyTorch's `CrossEntropyLoss`) or over what is known (`BCEWithLogitsLoss`, without the
    /// cells that are not).
    fn factors(&self, truth: &[&[Option<bool>]]) -> [Vec<f32>; 2] {
        let spread = self.label_smoothing;
        let over = match self.kind {
            ClassKind::Multiclass => truth.len(),
            ClassKind::Multilabel => known(truth),
        };
        let mut factors = [Vec::new(), Vec::new()];
        for row in truth {
            let even = match self.kind {
                ClassKind::Multiclass => spread / row.len() as f64,
                ClassKind::Multilabel => spread / 2.0,
            };
            for (class, has) in row.iter().enumerate() {
                let share = |has: bool| (1.0 - spread) * f64::from(u8::from(has)) + even;
                let weight = self.pos_weight.get(class).copied().unwrap_or(1.0);
                let [present, absent] = match has {
                    Some(has) => [weight * share(*has), share(!has)],
                    None => [0.0; 2],
                };
                factors[0].push((-present / over as f64) as f32);
                factors[1].push((-absent / over as f64) as f32);
            }
        }
        factors
    }

    /// The part that some pictures have in the loss, of their logits (n, C) and factors.
    fn part(&self, logits: Tensor<2>, factors: &[Vec<f32>; 2], first: usize) -> Tensor<1> {
        let [rows, classes] = logits.dims();
        let inner = logits.device().without_autodiff();
        let times = |log: Tensor<2>, factors: &[f32]| {
            let own = &factors[first * classes..(first + rows) * classes];
            let own = Tensor::from_data(TensorData::new(own.to_vec(), [rows, classes]), &inner);
            (log.clone() * constant(own, &log)).sum()
        };
        match self.kind {
            ClassKind::Multiclass => times(log_softmax(logits, 1), &factors[0]),
            ClassKind::Multilabel => {
                let absent = times(log_sigmoid(-logits.clone()), &factors[1]);
                times(log_sigmoid(logits), &factors[0]) + absent
            }
        }
    }
}

/// Cells that somebody knows.
fn known(truth: &[&[Option<bool>]]) -> usize {
    truth.iter().flat_map(|row| row.iter()).flatten().count()
}

/// The loss of a classifier on pictures (n, 3, size, size) of which `truth` (n, C) is known, and its gradients; at most
/// `micro_batch` pictures go through the tower at once. `model` is on an autodiff device.
///
/// # Errors
/// `BAD_ARGUMENT` where pictures and truth differ in number, do not fit the model, or nothing is known; `UNSUPPORTED` where
/// the model is no classifier.
pub fn head_step(
    model: &Siglip,
    pixels: &PixelValues,
    truth: &[&[Option<bool>]],
    loss: &HeadLoss,
    micro_batch: usize,
) -> Result<StepGradients> {
    head_step_on(
        std::slice::from_ref(model),
        pixels,
        truth,
        loss,
        micro_batch,
    )
}

/// As [`head_step`], with the same model on one device or more, at least one. The gradients are where the first is.
///
/// # Errors
/// As of [`head_step`].
pub fn head_step_on(
    models: &[Siglip],
    pixels: &PixelValues,
    truth: &[&[Option<bool>]],
    loss: &HeadLoss,
    micro_batch: usize,
) -> Result<StepGradients> {
    let model = models.first().ok_or_else(|| {
        Error::BadArgument("a step: expected a model on at least one device, got none".into())
    })?;
    let missing = || Error::Unsupported("a head needs a model that is a classifier".into());
    let classifier = model.classifier.as_ref().ok_or_else(missing)?;
    let classes = classifier.bias.val().dims()[0];
    let n = pixels.batch();
    let fits = truth.len() == n && truth.iter().all(|row| row.len() == classes);
    if !fits || known(truth) == 0 {
        return Err(Error::BadArgument(format!(
            "a batch for a head: expected what is known of {n} pictures and {classes} classes, got {} rows and {} known cells",
            truth.len(),
            known(truth)
        )));
    }
    let factors = loss.factors(truth);
    let inner = model.vision_model.device().without_autodiff();
    let at_once = micro_batch.min(n.div_ceil(models.len())).max(1);
    let parts = on_each(models, |number, model| {
        let device = model.vision_model.device();
        let mut gradients = GradientsAccumulator::new();
        let mut sum = 0.0;
        for first in (0..n).step_by(at_once).skip(number).step_by(models.len()) {
            let rows = pixels.rows(first..n.min(first + at_once));
            let logits = model.logits(model.vision_model.input(&rows, &device)?);
            let part = loss.part(logits.ok_or_else(missing)?, &factors, first);
            sum += f64::from(part.clone().into_scalar::<f32>());
            gradients.accumulate(model, GradientsParams::from_grads(part.backward(), model));
        }
        Ok((sum, gradients.grads().to_device(&inner, model)))
    })?;
    let mut gradients = GradientsAccumulator::new();
    let mut sum = 0.0;
    for (part, of_part) in parts {
        sum += part;
        gradients.accumulate(model, of_part);
    }
    Ok(StepGradients {
        loss: sum,
        auxiliary: None,
        gradients: gradients.grads(),
    })
}

/// Classes that are told apart.
pub(super) struct Head {
    loss: HeadLoss,
    judge: Judge,
    micro_batch: usize,
    truth: Truth,
    /// Of the examples that are drawn.
    counts: Vec<Count>,
}

impl Head {
    /// The head of a run.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a class has no example, or nothing but examples, to learn from, or weights are not one a class.
    pub fn new(head: &HeadConfig, truth: Truth, data: &Data, micro_batch: usize) -> Result<Self> {
        let labels = &truth.classes.labels;
        let counts = truth.counts(data.drawn());
        for (label, count) in labels.iter().zip(&counts) {
            if count.positive == 0 || count.negative == 0 {
                return Err(Error::BadConfig(format!(
                    "head: class {label} cannot be learned: {} examples of the training side have it, {} do not",
                    count.positive, count.negative
                )));
            }
        }
        let pos_weight = match &head.pos_weight {
            None => vec![1.0; labels.len()],
            Some(PosWeight::Each(weights)) => weights.clone(),
            Some(PosWeight::Balanced) => counts
                .iter()
                .map(|c| c.negative as f64 / c.positive as f64)
                .collect(),
        };
        if pos_weight.len() != labels.len() {
            return Err(Error::BadConfig(format!(
                "head.pos_weight: expected a number for each of {} classes, got {}",
                labels.len(),
                pos_weight.len()
            )));
        }
        Ok(Self {
            loss: HeadLoss {
                kind: head.kind,
                pos_weight,
                label_smoothing: head.label_smoothing,
            },
            judge: head.judge,
            micro_batch,
            counts,
            truth,
        })
    }

    /// (n) rows of C probabilities, and the places of the examples (source, place), of a side.
    fn predict(&self, model: &Siglip, start: &Model, data: &Data, side: Side) -> Result<Predicted> {
        let truth = &self.truth;
        let mut list = Vec::new();
        for source in 0..data.divided.sides.len() {
            let places = data.divided.to_use(source, side).into_iter();
            let known = places.filter(|place| !truth.of(source, *place).is_empty());
            list.extend(known.map(|place| (source, place)));
        }
        let device = model.vision_model.device();
        let mut predicted = Predicted::default();
        for batch in data.in_order(start.preprocessor(), list, self.micro_batch)? {
            let batch = batch?;
            let input = model.vision_model.input(&batch.pixels, &device)?;
            let missing = || Error::Unsupported("a head needs a model that is a classifier".into());
            let logits = model.logits(input).ok_or_else(missing)?;
            for row in crate::towers::numbers(logits)?.chunks_exact(self.counts.len()) {
                predicted.shares.push(self.loss.kind.probabilities(row));
            }
            for (source, place) in batch.sources.into_iter().zip(batch.places) {
                predicted.truth.push(truth.of(source, place).to_vec());
                predicted.examples.push((source, place));
            }
        }
        Ok(predicted)
    }
}

impl Objective for Head {
    fn step(
        &self,
        models: &[Siglip],
        _start: &Model,
        _data: &Data,
        batch: &Batch,
    ) -> Result<StepGradients> {
        let examples = batch.sources.iter().zip(&batch.places);
        let rows: Vec<_> = examples.map(|(s, p)| self.truth.of(*s, *p)).collect();
        head_step_on(models, &batch.pixels, &rows, &self.loss, self.micro_batch)
    }

    fn is_measured(&self) -> bool {
        true
    }

    fn measure(
        &self,
        model: Siglip,
        start: &mut Model,
        data: &Data,
        side: Side,
    ) -> Result<Vec<TaskResult>> {
        let predicted = self.predict(&model, start, data, side)?;
        let examples = predicted.examples.iter();
        let groups: Vec<usize> = examples.map(|(s, p)| data.divided.groups[*s][*p]).collect();
        predicted.results(&self.truth.classes, &groups)
    }

    fn judge(&self, results: &[TaskResult]) -> Option<f64> {
        let all = results.first()?;
        let estimate = match self.judge {
            Judge::Auroc => all.auroc,
            Judge::Accuracy => all.accuracy,
        };
        Some(estimate?.value)
    }

    fn how(&self) -> &'static str {
        "trained classifier"
    }

    fn notes(&self) -> Vec<String> {
        let labels = self.truth.classes.labels.iter();
        let classes = labels.zip(&self.counts).zip(&self.loss.pos_weight);
        let notes = classes.map(|((label, count), weight)| {
            let Count { positive, negative } = count;
            let weight = match self.loss.kind {
                ClassKind::Multiclass => String::new(),
                ClassKind::Multilabel => format!(", positive weight {weight:.3}"),
            };
            format!("class {label}: {positive} examples have it, {negative} do not{weight}")
        });
        notes.collect()
    }

    fn settings(&self) -> Vec<(String, String)> {
        let kind = match self.loss.kind {
            ClassKind::Multiclass => "one class is right, cross-entropy",
            ClassKind::Multilabel => "each class is there or not, binary cross-entropy",
        };
        let classes = self.notes().join("; ");
        let smoothing = self.loss.label_smoothing.to_string();
        [
            ("head", kind.into()),
            ("classes", classes),
            ("label smoothing", smoothing),
        ]
        .map(|(name, value): (&str, String)| (name.into(), value))
        .into()
    }
}
