//! Scores beside the truth to measures with intervals.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::doubt::Doubt;
use super::question::{BINS, Column};
use super::report::{Measure, Question, Stratum};
use super::truth::{Answers, Truth};
use crate::metrics::{
    Bootstrap, ConfusionMatrix, OneVsRest, RankingSamples, Resampling, Samples,
    brier_score_multiclass, expected_calibration_error, top_label,
};
use crate::{Error, Result};

/// Of classes or findings of which nothing was learned, by their number, why.
pub type Unlearned = BTreeMap<usize, String>;

/// The measured pictures of a task.
pub struct Sample<'a> {
    pub(super) truth: &'a Truth,
    pub(super) places: &'a [usize],
    /// The group of each.
    pub(super) groups: &'a [usize],
    /// Of classes, that of each one's group: as many groups of every class are drawn as there are.
    strata: Option<Vec<usize>>,
    replicates: usize,
    seed: u64,
    pub(super) bootstrap: Bootstrap,
}

/// What a method's scores gave, and what a comparison needs of them.
pub struct Measured {
    /// Of the task as a whole, the one to quote first.
    pub overall: Vec<Measure>,
    /// The questions behind it.
    pub questions: Vec<Question>,
    /// Pictures by truth and highest score.
    pub confusion: Option<Vec<Vec<usize>>>,
    pub(super) columns: Vec<Column>,
    pub(super) samples: Vec<RankingSamples>,
    /// Of the measure to quote.
    pub(super) first: Samples,
}

impl<'a> Sample<'a> {
    /// The pictures at `places`, of which those of one group stand or fall together.
    ///
    /// # Errors
    /// As of [`Bootstrap::new`].
    pub fn new(
        truth: &'a Truth,
        places: &'a [usize],
        groups: &'a [usize],
        replicates: usize,
        seed: u64,
    ) -> Result<Self> {
        let strata = match &truth.of {
            Answers::Classes(classes) => {
                let mut of_group = HashMap::new();
                let pictures = places.iter().zip(groups);
                let mut stratum = |(place, group): (&usize, &usize)| {
                    let class = classes[*place].unwrap_or(usize::MAX);
                    *of_group.entry(*group).or_insert(class)
                };
                Some(pictures.map(&mut stratum).collect())
            }
            Answers::Findings(_) => None,
        };
        let how = resampling(groups, strata.as_deref(), replicates, seed);
        Ok(Self {
            bootstrap: Bootstrap::new(places.len(), &how)?,
            truth,
            places,
            groups,
            strata,
            replicates,
            seed,
        })
    }

    /// Fewer samples of the same kind.
    pub(super) fn at_most(&self, replicates: usize) -> Result<Bootstrap> {
        let replicates = self.replicates.min(replicates);
        let how = resampling(self.groups, self.strata.as_deref(), replicates, self.seed);
        Bootstrap::new(self.places.len(), &how)
    }

    /// The class of every picture, for classes.
    fn labels(&self) -> Option<Vec<usize>> {
        match &self.truth.of {
            Answers::Classes(classes) => self.places.iter().map(|place| classes[*place]).collect(),
            Answers::Findings(_) => None,
        }
    }

    /// Measures scores (N, C), row by row, each from 0 to 1; of what is `unlearned` there is no value.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a score is no number from 0 to 1, or their number is another.
    pub fn measure(&self, scores: &[f64], unlearned: &Unlearned) -> Result<Measured> {
        let columns = self.columns(scores, unlearned)?;
        let rankings: Vec<_> = columns
            .iter()
            .map(|column| column.ranking.clone())
            .collect();
        let samples = self.bootstrap.rankings(&rankings)?;
        let questions = columns.iter().zip(&samples);
        let questions = questions.map(|(column, samples)| column.question(self, samples));
        let (mut overall, first) = self.areas(&columns, &samples)?;
        let labels = self.labels();
        if let Some(labels) = &labels {
            overall.extend(self.of_classes(labels, scores, unlearned)?);
        }
        Ok(Measured {
            overall,
            questions: questions.collect::<Result<_>>()?,
            confusion: labels.map(|labels| self.confusion(&labels, scores)),
            columns,
            samples,
            first,
        })
    }

    /// [`Measured::questions`] in their order, where what scores at least `threshold` is called positive: sensitivity and specificity.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `measured` is of other pictures.
    pub fn at_threshold(&self, measured: &Measured, threshold: f64) -> Result<Vec<[Measure; 2]>> {
        let columns = measured.columns.iter();
        columns
            .map(|column| column.at_threshold(self, threshold))
            .collect()
    }

    fn columns(&self, scores: &[f64], unlearned: &Unlearned) -> Result<Vec<Column>> {
        let expected = self.places.len() * self.truth.classes.len();
        if scores.len() != expected {
            return Err(Error::BadArgument(format!(
                "scores: expected {expected}, one a picture and class, got {}",
                scores.len()
            )));
        }
        // Shares of classes are 0 to 1, but for rounding.
        if !scores
            .iter()
            .all(|score| (-1e-9..=1.0 + 1e-9).contains(score))
        {
            return Err(Error::BadArgument(
                "scores: expected numbers from 0 to 1, got one that is not".into(),
            ));
        }
        let questions = self.truth.questions().into_iter();
        questions
            .map(|asked| Column::new(asked, self, scores, unlearned))
            .collect()
    }

    /// The measure to quote, without an interval.
    ///
    /// # Errors
    /// As of [`Sample::measure`].
    pub fn value(&self, scores: &[f64]) -> Result<Option<f64>> {
        let columns = self.columns(scores, &Unlearned::new())?;
        let quoted = match self.truth.positive.is_empty() {
            true => &columns[..],
            false => &columns[..1],
        };
        let areas = quoted.iter().map(|column| match column.doubt {
            Some(Doubt::NoValue(_)) => None,
            _ => column.ranking.roc_auc(),
        });
        let areas: Option<Vec<f64>> = areas.collect();
        Ok(areas.map(|areas| areas.iter().sum::<f64>() / areas.len() as f64))
    }

    /// The areas of the task as a whole, the one to quote first, and that one on every sample.
    fn areas(
        &self,
        columns: &[Column],
        samples: &[RankingSamples],
    ) -> Result<(Vec<Measure>, Samples)> {
        let together = usize::from(!self.truth.positive.is_empty());
        let mut overall = Vec::new();
        let mut first = None;
        if together == 1 {
            let RankingSamples {
                roc_auc,
                average_precision,
            } = &samples[0];
            let doubt = columns[0].doubt.as_ref();
            overall.push(Measure::new("AUROC", roc_auc, doubt)?);
            overall.push(Measure::new("average precision", average_precision, doubt)?);
            first = Some(roc_auc.clone());
        }
        let (columns, samples) = (&columns[together..], &samples[together..]);
        if !columns.is_empty() {
            let named = |column: &Column| Some(column.doubt.as_ref()?.about(&column.asked.name));
            let doubt = Doubt::worst(columns.iter().filter_map(named));
            let doubt = doubt.as_ref();
            let mean = |of: fn(&RankingSamples) -> &Samples| {
                Samples::mean(&samples.iter().map(of).collect::<Vec<_>>())
            };
            let area = mean(|samples| &samples.roc_auc)?;
            overall.push(Measure::new("macro AUROC", &area, doubt)?);
            let precision = mean(|samples| &samples.average_precision)?;
            overall.push(Measure::new("macro average precision", &precision, doubt)?);
            first = first.or(Some(area));
        }
        Ok((overall, first.expect("a task asks at least one question")))
    }

    fn confusion(&self, labels: &[usize], scores: &[f64]) -> Vec<Vec<usize>> {
        let classes = self.truth.classes.len();
        let mut counts = vec![vec![0; classes]; classes];
        for (truth, decided) in labels.iter().zip(highest(scores, classes)) {
            counts[*truth][decided] += 1;
        }
        counts
    }

    /// What is decided, and how good shares of classes are as probabilities.
    fn of_classes(
        &self,
        labels: &[usize],
        scores: &[f64],
        unlearned: &Unlearned,
    ) -> Result<Vec<Measure>> {
        let classes = self.truth.classes.len();
        let doubt = match unlearned.values().next() {
            Some(why) => Some(Doubt::NoValue(why.clone())),
            None => Doubt::of_classes(scores, labels, self.groups, &self.truth.classes),
        };
        let decided = highest(scores, classes);
        let (top, right) = top_label(scores, labels, classes)?;
        let mut names = vec!["accuracy", "balanced accuracy", "macro F1", "Cohen's kappa"];
        names.extend(self.truth.ordered.then_some("quadratic kappa"));
        names.extend((classes > 2).then_some("weighted AUROC"));
        names.extend(["ECE of the highest score, 10 equal bins", "Brier score"]);
        let samples = self.bootstrap.measures(|items| {
            let pick =
                |of: &[usize]| -> Vec<usize> { items.iter().map(|item| of[*item]).collect() };
            let labels = pick(labels);
            let rows = items
                .iter()
                .flat_map(|i| &scores[i * classes..(i + 1) * classes]);
            let rows: Vec<f64> = rows.copied().collect();
            let matrix = ConfusionMatrix::new(&labels, &pick(&decided), classes)?;
            let (top, right): (Vec<f64>, Vec<bool>) =
                items.iter().map(|i| (top[*i], right[*i])).unzip();
            let mut values = vec![
                matrix.accuracy(),
                matrix.balanced_accuracy(),
                matrix.mean(ConfusionMatrix::f1),
                matrix.cohen_kappa(),
            ];
            if self.truth.ordered {
                values.push(matrix.quadratic_kappa());
            }
            if classes > 2 {
                values.push(OneVsRest::new(&rows, &labels, classes)?.weighted_roc_auc());
            }
            values.push(expected_calibration_error(&top, &right, BINS)?);
            values.push(brier_score_multiclass(&rows, &labels, classes)?);
            Ok(values)
        })?;
        let measures = names.into_iter().zip(&samples);
        measures
            .map(|(name, samples)| Measure::new(name, samples, doubt.as_ref()))
            .collect()
    }

    /// The measure to quote of the pictures with each value of a column.
    ///
    /// # Errors
    /// As of [`Sample::measure`].
    pub fn strata(
        &self,
        column: &str,
        values: &[Option<String>],
        scores: &[f64],
        unlearned: &Unlearned,
    ) -> Result<Vec<Stratum>> {
        let classes = self.truth.classes.len();
        let known: BTreeSet<&String> = values.iter().flatten().collect();
        let stratum = |value: &String| {
            let all = 0..values.len();
            let items: Vec<usize> = all.filter(|i| values[*i].as_ref() == Some(value)).collect();
            let pick = |of: &[usize]| -> Vec<usize> { items.iter().map(|i| of[*i]).collect() };
            let (places, groups) = (pick(self.places), pick(self.groups));
            let rows = items
                .iter()
                .flat_map(|i| &scores[i * classes..(i + 1) * classes]);
            let scores: Vec<f64> = rows.copied().collect();
            let sample = Sample::new(self.truth, &places, &groups, self.replicates, self.seed)?;
            let columns = sample.columns(&scores, unlearned)?;
            let rankings: Vec<_> = columns
                .iter()
                .map(|column| column.ranking.clone())
                .collect();
            let (mut overall, _) =
                sample.areas(&columns, &sample.bootstrap.rankings(&rankings)?)?;
            Ok(Stratum {
                column: column.to_owned(),
                value: value.clone(),
                images: items.len(),
                measure: overall.swap_remove(0),
            })
        };
        known.into_iter().map(stratum).collect()
    }
}

fn resampling<'a>(
    groups: &'a [usize],
    strata: Option<&'a [usize]>,
    replicates: usize,
    seed: u64,
) -> Resampling<'a> {
    Resampling {
        groups: Some(groups),
        strata,
        replicates,
        seed,
    }
}

/// The class with the highest score of each picture; of equal ones the first.
fn highest(scores: &[f64], classes: usize) -> Vec<usize> {
    let best = |row: &[f64]| {
        (1..classes).fold(0, |best, class| match row[class] > row[best] {
            true => class,
            false => best,
        })
    };
    scores.chunks_exact(classes).map(best).collect()
}
