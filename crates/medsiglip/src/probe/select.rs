//! The choice of C, and the probe that it gives.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibrated::{Calibrate, Cut, to_probabilities};
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
    /// What makes probabilities honest, on the parts that C is chosen by.
    pub calibrate: Option<Calibrate>,
    /// Where two classes are told apart, on the same parts.
    pub threshold: Option<Cut>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            normalize: false,
            standardize: false,
            cs: default_cs(),
            score: Score::Auc,
            settings: Settings::default(),
            calibrate: None,
            threshold: None,
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
    /// Fits among them that had not come to the wanted gap.
    #[serde(default)]
    pub not_converged: usize,
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
        let by_split: Vec<Vec<Vec<(f64, bool)>>> = match bytes > MOST_BYTES {
            true => splits.iter().map(one).collect::<Result<_>>()?,
            false => splits.par_iter().map(one).collect::<Result<_>>()?,
        };
        let choice = |task: usize| {
            let score = |c: usize| by_split.iter().map(|split| split[task][c].0).collect();
            let scores: Vec<Vec<f64>> = (0..self.cs.len()).map(score).collect();
            let mut order: Vec<usize> = (0..self.cs.len()).collect();
            order.sort_by(|a, b| self.cs[*a].total_cmp(&self.cs[*b]));
            let mean = |c: usize| scores[c].iter().sum::<f64>() / scores[c].len() as f64;
            let best = order
                .into_iter()
                .reduce(|best, c| if mean(c) > mean(best) { c } else { best });
            let c = best.map_or(f64::NAN, |best| self.cs[best]);
            let fits = by_split.iter().flat_map(|split| &split[task]);
            Choice {
                c,
                scores,
                not_converged: fits.filter(|(_, converged)| !converged).count(),
            }
        };
        Ok((0..tasks.len()).map(choice).collect())
    }

    /// The head of one task: C is chosen over `splits`, and it is fitted on `items`. C is the only one that there is, or 1, and there is
    /// no choice, no calibration and no threshold, where there are no splits, or a class is missing in a part of one.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); `BAD_ARGUMENT` where a calibration or threshold is for two classes and there are more.
    pub fn head(
        &self,
        name: &str,
        classes: &[String],
        (features, task): (&Features, &Task),
        items: &[usize],
        splits: &[Split],
    ) -> Result<(Head, Option<Choice>)> {
        let kind = match classes.len() {
            2 => Kind::Binary,
            _ => Kind::Multinomial,
        };
        self.check(kind).map_err(Error::BadArgument)?;
        let tasks = std::slice::from_ref(task);
        // Whole groups may leave a part without a class.
        let are_whole = |split: &Split| task.has_all(&split.train) && task.has_all(&split.held);
        let choice = match !splits.is_empty() && splits.iter().all(are_whole) {
            true => self.choose(features, tasks, splits)?.pop(),
            false => None,
        };
        let c = match (&choice, &self.cs[..]) {
            (Some(choice), _) => choice.c,
            (None, [only]) => *only,
            (None, _) => DEFAULT_C,
        };
        let fitted = self.fit(features, tasks, items, &[c])?;
        let (fits, penalty) = (&fitted.fits[0], self.settings.penalty);
        let mut head = Head::new(name, classes.to_vec(), kind, fits, penalty, fitted.scaler)?;
        if choice.is_some() && (self.calibrate.is_some() || self.threshold.is_some()) {
            let held = self.held_out(features, task, splits, c)?;
            self.judge(&mut head, held)?;
        }
        Ok((head, choice))
    }

    /// Outputs (N, K) of held-out items that have a label, each by a probe that has not seen it, and the labels.
    fn held_out(
        &self,
        features: &Features,
        task: &Task,
        splits: &[Split],
        c: f64,
    ) -> Result<(Vec<f64>, Vec<usize>)> {
        let k = task.outputs();
        let (mut outputs, mut labels) = (Vec::new(), Vec::new());
        for split in splits {
            let fitted = self.fit(features, std::slice::from_ref(task), &split.train, &[c])?;
            let fit = &fitted.fits[0][0];
            let x = self.scaled(features, &split.held, fitted.scaler.as_ref())?;
            let products = x.times(&fit.coef);
            for (item, row) in split.held.iter().zip(products.chunks_exact(k)) {
                if task.weights()[*item] > 0.0 {
                    outputs.extend(row.iter().zip(&fit.intercept).map(|(z, b)| z + b));
                    labels.push(task.labels()[*item]);
                }
            }
        }
        Ok((outputs, labels))
    }

    /// Whether C can be chosen, a probe can be fitted so, and what is asked of held-out items is for such a head.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), String> {
        self.settings.check(&self.cs).map_err(|e| e.to_string())?;
        if self.cs.is_empty() || !self.cs.iter().all(|c| c.is_finite() && *c > 0.0) {
            return Err("expected values of C above zero".into());
        }
        self.calibrate
            .map_or(Ok(()), |calibrate| calibrate.check(kind))?;
        self.threshold.map_or(Ok(()), |cut| cut.check(kind))
    }

    /// Calibrates a head, and finds its threshold.
    fn judge(&self, head: &mut Head, (mut outputs, labels): (Vec<f64>, Vec<usize>)) -> Result<()> {
        let kind = head.kind;
        if let Some(calibrate) = self.calibrate {
            head.calibration = calibrate.fit(kind, &outputs, &labels)?;
        }
        let Some(cut) = self.threshold else {
            return Ok(());
        };
        let mut probabilities = Vec::with_capacity(2 * labels.len());
        for row in outputs.chunks_exact_mut(1) {
            to_probabilities(kind, head.calibration.as_ref(), row, &mut probabilities);
        }
        let present: Vec<f64> = probabilities.into_iter().skip(1).step_by(2).collect();
        head.threshold = cut.find(&present, &labels)?;
        Ok(())
    }

    /// Features of `items` as a fitted probe takes them.
    fn scaled(
        &self,
        features: &Features,
        items: &[usize],
        scaler: Option<&Scaler>,
    ) -> Result<Features<'static>> {
        let mut x = features.select(items)?;
        if self.normalize {
            x = x.normalized();
        }
        match scaler {
            Some(scaler) => x.scaled(scaler),
            None => Ok(x),
        }
    }

    /// (tasks, values of C), higher is better, and whether each fit has converged.
    fn scores(
        &self,
        features: &Features,
        tasks: &[Task],
        split: &Split,
    ) -> Result<Vec<Vec<(f64, bool)>>> {
        let fitted = self.fit(features, tasks, &split.train, &self.cs)?;
        let x = self.scaled(features, &split.held, fitted.scaler.as_ref())?;
        let of_task = |(task, fits): (&Task, &Vec<Fit>)| {
            let task = task.select(&split.held)?;
            let score = |fit: &Fit| {
                let score = self.score(&task, &x.times(&fit.coef), &fit.intercept)?;
                Ok((score, fit.converged))
            };
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
