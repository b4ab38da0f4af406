//! Linear probes of a task: C is chosen, a probe is fitted, and its scores are given for other pictures.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::config::{DataCurveConfig, ProbeConfig};
use super::embed::Rows;
use super::measure::{Sample, Unlearned};
use super::report::{DataCurve, DataPoint, Fits, Spread};
use super::truth::{Answers, Truth};
use crate::Result;
use crate::probe::{
    Choice, ClassWeight, Features, Head, Probe, Recipe, Settings, Split, Task, folds, subsets,
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

/// A head and how its C was chosen, or why nothing was learned.
type Learned = std::result::Result<(Head, Option<Choice>), String>;

/// What a probe says of pictures.
pub struct Probed {
    /// Scores (N, C); what nothing was learned of has the same score everywhere.
    pub scores: Vec<f64>,
    /// Of what nothing was learned.
    pub unlearned: Unlearned,
    /// What was chosen.
    pub settings: BTreeMap<String, String>,
}

impl Lesson<'_> {
    /// What a probe says of the pictures at `places`.
    ///
    /// # Errors
    /// As of [`Recipe::fit`].
    pub fn scores(&self, places: &[usize]) -> Result<Probed> {
        let (learn, tuned) = match self.config.folds {
            0 => (self.train.to_vec(), Tuned::Held),
            folds => ([self.train, self.val].concat(), Tuned::Folds(folds)),
        };
        let learned = self.learn(&learn, tuned)?;
        let mut settings = self.settings(&learned);
        let chosen_by = match (tuned, &self.config.c[..]) {
            (_, [_]) => "nothing: one is given".into(),
            (Tuned::Folds(folds), _) => {
                format!("AUROC in {folds} stratified folds that cut no group")
            }
            (Tuned::Held, _) => "AUROC on the validation side".into(),
        };
        settings.insert("chosen by".into(), chosen_by);
        settings.insert("learned from".into(), format!("{} pictures", learn.len()));
        Ok(Probed {
            scores: self.predict(&learned, places)?,
            unlearned: self.unlearned(&learned),
            settings,
        })
    }

    fn settings(&self, learned: &[Learned]) -> BTreeMap<String, String> {
        let c = learned.iter().map(|one| match one {
            Ok((head, Some(_))) => format!("{:.3e}", head.fit.c),
            Ok((head, None)) if self.config.c.len() == 1 => format!("{:.3e}", head.fit.c),
            Ok((head, None)) => format!("{:.3e} (too few pictures to choose by)", head.fit.c),
            Err(why) => format!("none ({why})"),
        });
        let fits = fits(learned);
        let mut gap = match fits.not_converged {
            _ if fits.c.is_empty() => "none: nothing was learned".into(),
            0 => format!("{:.1e}", fits.gap),
            _ => format!("{:.1e}: NOT CONVERGED in {MAX_ITER} passes", fits.gap),
        };
        if fits.not_converged_in_choice > 0 {
            let those = fits.not_converged_in_choice;
            gap += &format!("; {those} fits that C was chosen by had not converged");
        }
        let settings = [
            ("C", c.collect::<Vec<_>>().join(", ")),
            ("calibrated", self.calibrated(learned)),
            ("penalty", format!("{:?}", self.config.penalty)),
            ("standardised", self.config.standardize.to_string()),
            (
                "embeddings normalised first",
                self.config.normalize.to_string(),
            ),
            ("classes weigh the same", self.config.balanced.to_string()),
            ("relative duality gap", gap),
        ];
        settings.map(|(key, value)| (key.to_owned(), value)).into()
    }

    fn calibrated(&self, learned: &[Learned]) -> String {
        let Some(wanted) = self.config.calibrate else {
            return "no".into();
        };
        let heads = learned.iter().flatten();
        let without = heads.filter(|(head, _)| head.calibration.is_none()).count();
        let name = format!("{wanted:?}").to_lowercase();
        match without {
            0 => format!("{name}, by the scores of what C is chosen by"),
            without => format!(
                "{name}; {without} of them not: too few pictures, or scores that say nothing"
            ),
        }
    }

    fn unlearned(&self, learned: &[Learned]) -> Unlearned {
        let mut all = Unlearned::new();
        for (number, one) in learned.iter().enumerate() {
            let Err(why) = one else { continue };
            let of = match &self.truth.of {
                Answers::Classes(_) => 0..self.truth.classes.len(),
                Answers::Findings(_) => number..number + 1,
            };
            all.extend(of.map(|class| (class, why.clone())));
        }
        all
    }

    /// The first overall measure of probes that learn from more and more pictures, each tuned on the whole validation side.
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
        let sizes: BTreeSet<usize> = config.sizes.iter().copied().collect();
        let sizes = sizes.into_iter().filter(|size| *size <= known.len());
        let point = |size| self.point((&known, &labels), (size, config.repeats), sample, places);
        Ok(DataCurve {
            encoder: encoder.to_owned(),
            tuned_on: self.val.len(),
            points: sizes.map(point).collect::<Result<_>>()?,
        })
    }

    /// Probes that learn from `size` of `known` with these `labels`.
    fn point(
        &self,
        (known, labels): (&[usize], &[usize]),
        (size, repeats): (usize, usize),
        sample: &Sample,
        places: &[usize],
    ) -> Result<DataPoint> {
        let groups: Vec<usize> = known.iter().map(|place| self.groups[*place]).collect();
        let repeat = |repeat: usize| -> Result<Option<(usize, f64, Vec<Learned>)>> {
            let seed = self.seed.wrapping_add(repeat as u64);
            // Too small for its classes, or for its groups.
            let Ok(subset) = subsets(labels, Some(&groups), &[size], seed) else {
                return Ok(None);
            };
            let learn: Vec<usize> = subset[0].iter().map(|item| known[*item]).collect();
            let learned = self.learn(&learn, Tuned::Held)?;
            let value = sample.value(&self.predict(&learned, places)?)?;
            Ok(value.map(|value| (learn.len(), value, learned)))
        };
        let drawn = (0..repeats).into_par_iter().map(repeat);
        let drawn: Vec<_> = drawn.collect::<Result<_>>()?;
        let (mut sizes, mut areas, mut learned) = (Vec::new(), Vec::new(), Vec::new());
        for (size, area, heads) in drawn.into_iter().flatten() {
            sizes.push(size as f64);
            areas.push(area);
            learned.extend(heads);
        }
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
        Ok(DataPoint {
            // Groups are whole: a subset may be smaller than asked for.
            size: mean(&sizes),
            asked: size,
            auroc: (!areas.is_empty()).then(|| Spread {
                mean: mean(&areas),
                worst: areas.iter().copied().fold(f64::INFINITY, f64::min),
                best: areas.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }),
            repeats: areas.len(),
            without_value: repeats - areas.len(),
            fits: fits(&learned),
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
    fn learn(&self, learn: &[usize], tuned: Tuned) -> Result<Vec<Learned>> {
        let number = match &self.truth.of {
            Answers::Classes(_) => 1,
            Answers::Findings(_) => self.truth.classes.len(),
        };
        let heads = (0..number).into_par_iter();
        heads
            .map(|head| self.head(head, learn, tuned))
            .collect::<Result<_>>()
    }

    /// A place's label for a head.
    fn label(&self, head: usize, place: usize) -> Option<usize> {
        match &self.truth.of {
            Answers::Classes(classes) => classes[place],
            Answers::Findings(findings) => findings[place][head].map(usize::from),
        }
    }

    fn head(&self, number: usize, learn: &[usize], tuned: Tuned) -> Result<Learned> {
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
        if let Some(missing) = (0..classes.len()).find(|class| !labels.contains(class)) {
            let class = &classes[missing];
            return Ok(Err(format!(
                "nothing was learned: no picture of the class {class} to learn from"
            )));
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
        let (head, choice) = self
            .config
            .recipe(self.seed)
            .head(&name, &classes, of, &items, &splits)?;
        Ok(Ok((head, choice)))
    }

    /// Scores (N, C); what nothing was learned of has the same score everywhere.
    fn predict(&self, learned: &[Learned], places: &[usize]) -> Result<Vec<f64>> {
        let embeddings = self.rows.select(places)?;
        let classes = self.truth.classes.len();
        let share = match &self.truth.of {
            Answers::Classes(_) => 1.0 / classes as f64,
            Answers::Findings(_) => 0.5,
        };
        let mut scores = vec![share; places.len() * classes];
        for (number, one) in learned.iter().enumerate() {
            let Ok((head, _)) = one else { continue };
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

impl ProbeConfig {
    /// How a head is made.
    pub(super) fn recipe(&self, seed: u64) -> Recipe {
        Recipe {
            normalize: self.normalize,
            standardize: self.standardize,
            cs: self.c.clone(),
            settings: Settings {
                penalty: self.penalty,
                seed,
                max_iter: MAX_ITER,
                accept_unconverged: true,
                ..Settings::default()
            },
            calibrate: self.calibrate,
            ..Recipe::default()
        }
    }
}

/// How the fits of heads went.
fn fits(learned: &[Learned]) -> Fits {
    let mut fits = Fits::default();
    for (head, choice) in learned.iter().flatten() {
        fits.c.push(head.fit.c);
        fits.gap = fits.gap.max(head.fit.gap);
        fits.not_converged += usize::from(!head.fit.converged);
        match choice {
            Some(choice) => fits.not_converged_in_choice += choice.not_converged,
            None => fits.not_chosen += 1,
        }
    }
    fits
}
