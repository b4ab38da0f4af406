//! The choice of C, and the probe that it gives.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::features::{Features, Scaler};
use super::objective::probabilities;
use super::saved::{Head, Kind};
use super::solver::{Fit, Settings, Solver, default_cs};
use super::splits::Split;
use super::task::Task;
use crate::metrics::Ranking;
use crate::{Error, Result};

/// Features of all splits that are in memory at once.
const MOST_BYTES: usize = 4 << 30;

/// The C of a head that has too little to choose it by.
pub const DEFAULT_C: f64 = 1.0;

/// By what C is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Area under the ROC curve; of several classes, the mean of each against the others.
    #[default]
    Auc,
    /// The mean log loss.
    LogLoss,
}

/// How features become a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Whether embeddings are divided by their L2 norm first. The public notebooks fit on them as they are.
    pub normalize: bool,
    /// Whether columns are then brought to mean 0 and variance 1, by the items that are fitted on.
    pub standardize: bool,
    /// Values of C to choose from.
    pub cs: Vec<f64>,
    /// By what.
    pub score: Score,
    /// How each probe is fitted.
    pub settings: Settings,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            normalize: false,
            standardize: false,
            cs: default_cs(),
            score: Score::Auc,
            settings: Settings::default(),
        }
    }
}

/// The value of C that a task is best with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The chosen value; of equals, the smallest.
    pub c: f64,
    /// Score of each value and split, (values of C, splits).
    pub scores: Vec<Vec<f64>>,
}

/// Tasks fitted on the same items.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// What brought the features to scale.
    pub scaler: Option<Scaler>,
    /// (tasks, values of C).
    pub fits: Vec<Vec<Fit>>,
}

impl Recipe {
    /// Every task at every C of `cs`, on `items`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the items of a task lack a class or something does not fit; `DIVERGED` where a fit has not come
    /// to the wanted gap.
    pub fn fit(
        &self,
        features: &Features,
        tasks: &[Task],
        items: &[usize],
        cs: &[f64],
    ) -> Result<Fitted> {
        let mut x = features.select(items)?;
        if self.normalize {
            x = x.normalized();
        }
        let scaler = self.standardize.then(|| Scaler::new(&x));
        if let Some(scaler) = &scaler {
            x = x.scaled(scaler)?;
        }
        let tasks: Vec<Task> = tasks
            .iter()
            .map(|task| task.select(items))
            .collect::<Result<_>>()?;
        let fits = Solver::new(x, &self.settings)?.fit_path(&tasks, cs)?;
        Ok(Fitted { scaler, fits })
    }

    /// The best C for each task, by the mean score over `splits`: one with a validation set, or [`folds`](super::folds).
    ///
    /// # Errors
    /// As [`fit`](Self::fit); `BAD_ARGUMENT` where what is held out lacks a class.
    pub fn choose(
        &self,
        features: &Features,
        tasks: &[Task],
        splits: &[Split],
    ) -> Result<Vec<Choice>> {
        if splits.is_empty() {
            return Err(Error::BadArgument(
                "choice of C: expected a split, got none".into(),
            ));
        }
        let one = |split: &Split| self.scores(features, tasks, split);
        let bytes = features.items() * features.dim() * 12 * splits.len();
        let by_split: Vec<Vec<Vec<f64>>> = match bytes > MOST_BYTES {
            true => splits.iter().map(one).collect::<Result<_>>()?,
            false => splits.par_iter().map(one).collect::<Result<_>>()?,
        };
        let choice = |task: usize| {
            let score = |c: usize| by_split.iter().map(|split| split[task][c]).collect();
            let scores: Vec<Vec<f64>> = (0..self.cs.len()).map(score).collect();
            let mut order: Vec<usize> = (0..self.cs.len()).collect();
            order.sort_by(|a, b| self.cs[*a].total_cmp(&self.cs[*b]));
            let mean = |c: usize| scores[c].iter().sum::<f64>() / scores[c].len() as f64;
            let best = order
                .into_iter()
                .reduce(|best, c| if mean(c) > mean(best) { c } else { best });
            let c = best.map_or(f64::NAN, |best| self.cs[best]);
            Choice { c, scores }
        };
        Ok((0..tasks.len()).map(choice).collect())
    }

    /// The head of one task: C is chosen over `splits`, and it is fitted on `items`. C is 1, and there is no choice, where there
    /// are no splits, or a class is missing in a held-out part.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn head(
        &self,
        name: &str,
        classes: &[String],
        (features, task): (&Features, &Task),
        items: &[usize],
        splits: &[Split],
    ) -> Result<(Head, Option<Choice>)> {
        let tasks = std::slice::from_ref(task);
        let choice = match splits.is_empty() {
            true => None,
            false => match self.choose(features, tasks, splits) {
                Ok(mut choices) => choices.pop(),
                // Whole groups may leave a part without a class.
                Err(Error::BadArgument(_)) => None,
                Err(e) => return Err(e),
            },
        };
        let c = choice.as_ref().map_or(DEFAULT_C, |choice| choice.c);
        let fitted = self.fit(features, tasks, items, &[c])?;
        let kind = match classes.len() {
            2 => Kind::Binary,
            _ => Kind::Multinomial,
        };
        let (fits, penalty) = (&fitted.fits[0], self.settings.penalty);
        let head = Head::new(name, classes.to_vec(), kind, fits, penalty, fitted.scaler)?;
        Ok((head, choice))
    }

    /// (tasks, values of C), higher is better.
    fn scores(&self, features: &Features, tasks: &[Task], split: &Split) -> Result<Vec<Vec<f64>>> {
        let fitted = self.fit(features, tasks, &split.train, &self.cs)?;
        let mut x = features.select(&split.held)?;
        if self.normalize {
            x = x.normalized();
        }
        if let Some(scaler) = &fitted.scaler {
            x = x.scaled(scaler)?;
        }
        let of_task = |(task, fits): (&Task, &Vec<Fit>)| {
            let task = task.select(&split.held)?;
            let score = |fit: &Fit| self.score(&task, &x.times(&fit.coef), &fit.intercept);
            fits.iter().map(score).collect()
        };
        tasks.iter().zip(&fitted.fits).map(of_task).collect()
    }

    fn score(&self, task: &Task, products: &[f64], intercept: &[f64]) -> Result<f64> {
        let k = task.outputs();
        let labelled: Vec<usize> = (0..task.labels().len())
            .filter(|i| task.weights()[*i] > 0.0)
            .collect();
        let mut columns = vec![Vec::with_capacity(labelled.len()); task.classes()];
        for item in &labelled {
            let mut row: Vec<f64> = (0..k)
                .map(|i| products[item * k + i] + intercept[i])
                .collect();
            if k == 1 {
                // Margins order as probabilities do, and have no ties where these round to one.
                row = match self.score {
                    Score::Auc => vec![-row[0], row[0]],
                    Score::LogLoss => vec![0.0, row[0]],
                };
            }
            if k > 1 || self.score == Score::LogLoss {
                probabilities(&mut row);
            }
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(column, p)| column.push(p));
        }
        let labels: Vec<usize> = labelled.iter().map(|item| task.labels()[*item]).collect();
        match self.score {
            Score::LogLoss => {
                let surprise = labels
                    .iter()
                    .enumerate()
                    .map(|(i, label)| columns[*label][i].max(f64::MIN_POSITIVE).ln());
                Ok(surprise.sum::<f64>() / labels.len() as f64)
            }
            Score::Auc => {
                let mut sum = 0.0;
                for (class, column) in columns.iter().enumerate() {
                    let positive: Vec<bool> = labels.iter().map(|label| *label == class).collect();
                    sum += Ranking::new(column, &positive)?.roc_auc().ok_or_else(|| {
                        Error::BadArgument(format!(
                            "choice of C: expected items of every class and of others in each held-out part, got none of one kind for class {class}"
                        ))
                    })?;
                }
                Ok(sum / task.classes() as f64)
            }
        }
    }
}
