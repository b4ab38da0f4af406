//! Zero-shot AUROC on held-out pictures, by the same code as `classify`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::TaskConfig;
use super::data::Data;
use crate::dataset::Side;
use crate::embedding::Embeddings;
use crate::metrics::{Bootstrap, Estimate, OneVsRest, Ranking, Resampling, Samples};
use crate::model::Model;
use crate::zero_shot::{PromptSet, ZeroShot};
use crate::{Error, Result};

/// Level of all intervals.
pub(super) const LEVEL: f64 = 0.95;

/// A task with its examples.
pub struct Task {
    /// Its name.
    pub name: String,
    source: usize,
    prompts: PromptSet,
    /// The number of the class of every example of the source; `None` where it is none of the task's.
    truth: Vec<Option<usize>>,
    /// Classes that count as positive together.
    positive: Vec<usize>,
}

/// What a task gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub task: String,
    /// Pictures.
    pub images: usize,
    /// `AUROC`, or `macro AUROC` for the mean of every class against the others.
    pub measure: String,
    /// It with its 95 % interval; absent where a class is missing.
    pub auroc: Option<Estimate>,
    /// Share of pictures whose class is the one with the highest score; of a multi-label classifier, share of the known
    /// answers on whose side of one half the probability is. With its 95 % interval; absent where there is none.
    pub accuracy: Option<Estimate>,
}

impl Task {
    /// A task of `config` on `data`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a class is none of the prompt set's; as of [`TaskConfig::prompt_set`].
    pub fn new(config: &TaskConfig, data: &Data, base: &Path) -> Result<Self> {
        let prompts = config.prompt_set(base)?;
        let class = |label: &String| {
            let known = prompts.classes.iter().position(|c| c.label == *label);
            known.ok_or_else(|| {
                Error::BadConfig(format!(
                    "task {}: the prompt set {} has no class {label}",
                    config.name, config.prompts
                ))
            })
        };
        let of_value: HashMap<&str, usize> = config
            .classes
            .iter()
            .map(|(value, label)| Ok((value.as_str(), class(label)?)))
            .collect::<Result<_>>()?;
        let positive = config.positive.iter().map(class).collect::<Result<_>>()?;
        let sources = data.divided.sources();
        let source = sources.iter().position(|s| s.config.name == config.source);
        let source = source.ok_or_else(|| {
            Error::BadConfig(format!("task {}: no source {}", config.name, config.source))
        })?;
        let value = |labels: &std::collections::BTreeMap<String, String>| {
            of_value.get(labels.get(&config.label)?.as_str()).copied()
        };
        let examples = sources[source].examples.iter();
        let truth: Vec<_> = examples.map(|example| value(&example.labels)).collect();
        if truth.iter().all(Option::is_none) {
            return Err(Error::BadConfig(format!(
                "task {}: no example of source {} has one of its classes in column {}; is the column among the source's labels?",
                config.name, config.source, config.label
            )));
        }
        Ok(Self {
            name: config.name.clone(),
            source,
            prompts,
            truth,
            positive,
        })
    }

    /// The result on a side's pictures.
    ///
    /// # Errors
    /// As of [`ZeroShot::new`] and of the loader.
    pub fn run(&self, model: &Model, data: &Data, side: Side, batch: usize) -> Result<TaskResult> {
        let places = data.divided.to_use(self.source, side).into_iter();
        let list = places.filter(|place| self.truth[*place].is_some());
        let list: Vec<_> = list.map(|place| (self.source, place)).collect();
        let zero_shot = ZeroShot::new(model, self.prompts.clone())?;
        let (mut shares, mut places) = (Vec::new(), Vec::new());
        for batch in data.in_order(model.preprocessor(), list, batch)? {
            let batch = batch?;
            let embeddings: Embeddings = model.encode_images(&batch.pixels)?;
            for scores in zero_shot.scores(&embeddings)? {
                shares.push(
                    scores
                        .iter()
                        .map(|s| f64::from(s.softmax))
                        .collect::<Vec<_>>(),
                );
            }
            places.extend(batch.places);
        }
        let truth: Vec<usize> = places.iter().filter_map(|p| self.truth[*p]).collect();
        let right = |item: &usize| {
            let (row, truth) = (&shares[*item], truth[*item]);
            let mut others = row.iter().enumerate().filter(|(i, _)| *i != truth);
            others.all(|(_, share)| *share < row[truth])
        };
        let accuracy = |at: &[usize]| {
            let right = at.iter().filter(|item| right(item)).count();
            (!at.is_empty()).then(|| right as f64 / at.len() as f64)
        };
        let of_source = &data.divided.groups[self.source];
        let groups: Vec<usize> = places.iter().map(|place| of_source[*place]).collect();
        let bootstrap = by_groups(&groups)?;
        Ok(TaskResult {
            task: self.name.clone(),
            images: places.len(),
            measure: match self.positive.is_empty() {
                true => "macro AUROC".into(),
                false => "AUROC".into(),
            },
            auroc: self.auroc(&shares, &truth, &bootstrap)?,
            accuracy: bootstrap.measure(|at| Ok(accuracy(at)))?.estimate(LEVEL)?,
        })
    }

    /// Of a row of shares and a class of every picture.
    fn auroc(
        &self,
        shares: &[Vec<f64>],
        truth: &[usize],
        bootstrap: &Bootstrap,
    ) -> Result<Option<Estimate>> {
        let rankings = if self.positive.is_empty() {
            OneVsRest::new(&shares.concat(), truth, self.prompts.classes.len())?.classes
        } else {
            let sum = |row: &Vec<f64>| self.positive.iter().map(|class| row[*class]).sum();
            let scores: Vec<f64> = shares.iter().map(sum).collect();
            let positive: Vec<bool> = truth.iter().map(|t| self.positive.contains(t)).collect();
            vec![Ranking::new(&scores, &positive)?]
        };
        let drawn = bootstrap.rankings(&rankings)?;
        let each: Vec<&Samples> = drawn.iter().map(|one| &one.roc_auc).collect();
        Samples::mean(&each)?.estimate(LEVEL)
    }
}

/// Samples of items of these groups.
pub(super) fn by_groups(groups: &[usize]) -> Result<Bootstrap> {
    let how = Resampling {
        groups: Some(groups),
        ..Resampling::default()
    };
    Bootstrap::new(groups.len(), &how)
}
