//! Linear probes of a task: C is chosen, a probe is fitted, and its scores are given for other pictures.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::config::{DataCurveConfig, ProbeConfig};
use super::embed::Rows;
use super::measure::Sample;
use super::report::{DataCurve, DataPoint};
use super::truth::{Answers, Truth};
use crate::Result;
use crate::metrics::Estimate;
use crate::probe::{
    ClassWeight, DEFAULT_C, Features, Head, Probe, Recipe, Settings, Split, Task, folds, subsets,
};

/// Passes of the solver for one C; with the largest C, classes that can be separated need more, and the report says so.
const MAX_ITER: usize = 2000;

/// What probes of a task learn from and are tuned on.
pub struct Lesson<'a> {
    /// What is true.
    pub truth: &'a Truth,
    /// An encoder's embeddings of the source.
    pub rows: &'a Rows,
    /// Places to learn from.
    pub train: &'a [usize],
    /// Places to tune on.
    pub val: &'a [usize],
    /// The group of every place of the source.
    pub groups: &'a [usize],
    /// The settings.
    pub config: &'a ProbeConfig,
    /// Seed of folds and subsets.
    pub seed: u64,
}

/// What C is chosen by.
#[derive(Clone, Copy)]
enum Tuned {
    /// So many folds of what it learns from.
    Folds(usize),
    /// The validation side.
    Held,
}

/// A probe, and the C of each of its heads; 0 where there was too little to learn.
struct Learned {
    heads: Vec<Option<Head>>,
    chosen: Vec<Option<f64>>,
}

impl Lesson<'_> {
    /// Scores (N, C) of the pictures at `places`, and what was chosen.
    ///
    /// # Errors
    /// As of [`Recipe::fit`].
    pub fn scores(&self, places: &[usize]) -> Result<(Vec<f64>, BTreeMap<String, String>)> {
        let (learn, tuned) = match self.config.folds {
            0 => (self.train.to_vec(), Tuned::Held),
            folds => ([self.train, self.val].concat(), Tuned::Folds(folds)),
        };
        let learned = self.learn(&learn, tuned)?;
        let scores = self.predict(&learned, places)?;
        let chosen = learned.chosen.iter().map(|c| match c {
            Some(c) => format!("{c:.3e}"),
            None => format!("{DEFAULT_C} (too few pictures to choose by)"),
        });
        let gap = learned
            .heads
            .iter()
            .flatten()
            .map(|head| head.fit.gap)
            .fold(0.0, f64::max);
        let settings = [
            ("C", chosen.collect::<Vec<_>>().join(", ")),
            (
                "chosen by",
                match tuned {
                    Tuned::Folds(folds) => {
                        format!("AUROC in {folds} stratified folds that cut no group")
                    }
                    Tuned::Held => "AUROC on the validation side".into(),
                },
            ),
            ("learned from", format!("{} pictures", learn.len())),
            ("calibrated", self.calibrated(&learned)),
            ("penalty", format!("{:?}", self.config.penalty)),
            ("standardised", self.config.standardize.to_string()),
            (
                "embeddings normalised first",
                self.config.normalize.to_string(),
            ),
            ("classes weigh the same", self.config.balanced.to_string()),
            (
                "relative duality gap",
                match learned
                    .heads
                    .iter()
                    .flatten()
                    .all(|head| head.fit.converged)
                {
                    true => format!("{gap:.1e}"),
                    false => format!("{gap:.1e}: NOT CONVERGED in {MAX_ITER} passes"),
                },
            ),
        ];
        Ok((
            scores,
            settings.map(|(key, value)| (key.to_owned(), value)).into(),
        ))
    }

    fn calibrated(&self, learned: &Learned) -> String {
        let Some(wanted) = self.config.calibrate else {
            return "no".into();
        };
        let heads = learned.heads.iter().flatten();
        let without = heads.filter(|head| head.calibration.is_none()).count();
        let name = format!("{wanted:?}").to_lowercase();
        match without {
            0 => format!("{name}, by the scores of what C is chosen by"),
            without => format!(
                "{name}; {without} of them not: too few pictures, or scores that say nothing"
            ),
        }
    }

    /// The first overall measure of probes that learn from more and more pictures, tuned on the validation side.
    ///
    /// # Errors
    /// As of [`Lesson::scores`].
    pub fn data_curve(
        &self,
        encoder: &str,
        config: &DataCurveConfig,
        sample: &Sample,
        places: &[usize],
    ) -> Result<DataCurve> {
        let (known, labels) = self.strata(self.train);
        let groups: Vec<usize> = known.iter().map(|place| self.groups[*place]).collect();
        let mut points = Vec::new();
        let mut sizes: Vec<usize> = config
            .sizes
            .iter()
            .copied()
            .filter(|size| *size <= known.len())
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let repeat = |repeat: usize| -> Result<Option<(usize, f64)>> {
                let seed = self.seed.wrapping_add(repeat as u64);
                // Too small for its classes, or for its groups.
                let Ok(subset) = subsets(&labels, Some(&groups), &[size], seed) else {
                    return Ok(None);
                };
                let learn: Vec<usize> = subset[0].iter().map(|item| known[*item]).collect();
                let learned = self.learn(&learn, Tuned::Held)?;
                let value = sample.value(&self.predict(&learned, places)?)?;
                Ok(value.map(|value| (learn.len(), value)))
            };
            let values = (0..config.repeats).into_par_iter().map(repeat);
            let values: Vec<(usize, f64)> = values
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect();
            let count = values.len() as f64;
            let areas = || values.iter().map(|(_, area)| *area);
            points.push(DataPoint {
                // Groups are whole: a subset may be smaller than asked for.
                size: values.iter().map(|(size, _)| *size as f64).sum::<f64>() / count.max(1.0),
                asked: size,
                estimate: (!values.is_empty()).then(|| Estimate {
                    value: areas().sum::<f64>() / count,
                    low: areas().fold(f64::INFINITY, f64::min),
                    high: areas().fold(f64::NEG_INFINITY, f64::max),
                    without_value: config.repeats - values.len(),
                }),
                repeats: values.len(),
            });
        }
        Ok(DataCurve {
            encoder: encoder.to_owned(),
            points,
        })
    }

    /// Places whose labels make strata, and their stratum: the class, or the first finding that is there.
    fn strata(&self, places: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let stratum = |place: &usize| match &self.truth.of {
            Answers::Classes(classes) => Some((*place, classes[*place]?)),
            Answers::Findings(findings) => {
                let first = findings[*place]
                    .iter()
                    .position(|there| *there == Some(true));
                Some((*place, first.map_or(0, |first| first + 1)))
            }
        };
        places.iter().filter_map(stratum).unzip()
    }

    /// One head for classes, one a finding.
    fn learn(&self, learn: &[usize], tuned: Tuned) -> Result<Learned> {
        let number = match &self.truth.of {
            Answers::Classes(_) => 1,
            Answers::Findings(_) => self.truth.classes.len(),
        };
        let heads: Vec<_> = (0..number)
            .into_par_iter()
            .map(|head| self.head(head, learn, tuned))
            .collect::<Result<_>>()?;
        let (heads, chosen) = heads.into_iter().unzip();
        Ok(Learned { heads, chosen })
    }

    /// A place's label for a head.
    fn label(&self, head: usize, place: usize) -> Option<usize> {
        match &self.truth.of {
            Answers::Classes(classes) => classes[place],
            Answers::Findings(findings) => findings[place][head].map(usize::from),
        }
    }

    fn head(
        &self,
        number: usize,
        learn: &[usize],
        tuned: Tuned,
    ) -> Result<(Option<Head>, Option<f64>)> {
        let (name, classes) = match &self.truth.of {
            Answers::Classes(_) => ("classes".to_owned(), self.truth.classes.clone()),
            Answers::Findings(_) => (
                self.truth.classes[number].clone(),
                vec!["absent".into(), "present".into()],
            ),
        };
        let known = |places: &[usize]| -> (Vec<usize>, Vec<usize>) {
            places
                .iter()
                .filter_map(|place| Some((*place, self.label(number, *place)?)))
                .unzip()
        };
        let (mut places, mut labels) = known(learn);
        let own = places.len();
        let has_all = |labels: &[usize]| (0..classes.len()).all(|class| labels.contains(&class));
        if !has_all(&labels) {
            return Ok((None, None));
        }
        let mut splits = Vec::new();
        match tuned {
            Tuned::Folds(count) => {
                let groups: Vec<usize> = places.iter().map(|place| self.groups[*place]).collect();
                // A class that is in too few groups cannot be in every fold.
                splits = folds(&labels, Some(&groups), count, self.seed).unwrap_or_default();
            }
            Tuned::Held => {
                let (held, of_held) = known(self.val);
                places.extend(held);
                labels.extend(of_held);
                splits.push(Split {
                    train: (0..own).collect(),
                    held: (own..places.len()).collect(),
                });
            }
        }
        let weight = match self.config.balanced {
            true => ClassWeight::Balanced,
            false => ClassWeight::None,
        };
        let embeddings = self.rows.select(&places)?;
        let task = Task::new(classes.len(), labels)?.class_weight(&weight)?;
        let of = (&Features::of(&embeddings)?, &task);
        let items: Vec<usize> = (0..own).collect();
        let (head, choice) = self.recipe().head(&name, &classes, of, &items, &splits)?;
        Ok((Some(head), choice.map(|choice| choice.c)))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            normalize: self.config.normalize,
            standardize: self.config.standardize,
            cs: self.config.c.clone(),
            settings: Settings {
                penalty: self.config.penalty,
                seed: self.seed,
                max_iter: MAX_ITER,
                accept_unconverged: true,
                ..Settings::default()
            },
            calibrate: self.config.calibrate,
            ..Recipe::default()
        }
    }

    /// Scores (N, C); what nothing was learned of has the same score everywhere.
    fn predict(&self, learned: &Learned, places: &[usize]) -> Result<Vec<f64>> {
        let embeddings = self.rows.select(places)?;
        let classes = self.truth.classes.len();
        let share = match &self.truth.of {
            Answers::Classes(_) => 1.0 / classes as f64,
            Answers::Findings(_) => 0.5,
        };
        let mut scores = vec![share; places.len() * classes];
        for (number, head) in learned.heads.iter().enumerate() {
            let Some(head) = head else { continue };
            let probe = Probe {
                dim: self.rows.dim,
                normalize: self.config.normalize,
                provenance: None,
                heads: vec![head.clone()],
            };
            let predicted = probe.predict(&embeddings, None)?.swap_remove(0);
            match &self.truth.of {
                Answers::Classes(_) => scores = predicted,
                Answers::Findings(_) => {
                    let present = predicted
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .map(|[_, present]| *present);
                    let column = scores.iter_mut().skip(number).step_by(classes);
                    column
                        .zip(present)
                        .for_each(|(score, present)| *score = present);
                }
            }
        }
        Ok(scores)
    }
}
