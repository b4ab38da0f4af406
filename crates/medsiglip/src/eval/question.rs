//! One yes-or-no question: its scores beside the answers, its measures and its curves.

use super::doubt::Doubt;
use super::measure::{Sample, Unlearned};
use super::report::{Band, Bin, Measure, Question};
use super::truth::Asked;
use crate::Result;
use crate::metrics::{
    Bins, Ranking, RankingSamples, Samples, brier_score, expected_calibration_error,
    reliability_curve,
};

/// Bins of the calibration error.
pub(super) const BINS: Bins = Bins::EqualWidth(10);
/// Points of a curve.
const GRID: usize = 101;
/// Bootstrap samples behind a band.
const BAND_REPLICATES: usize = 500;
/// Specificity, or sensitivity, at which the other is told.
const OPERATING: f64 = 0.9;

/// A question with the scores and answers of the measured pictures.
pub(super) struct Column {
    pub asked: Asked,
    /// (N).
    pub scores: Vec<f64>,
    /// (N); `None` where the answer is unknown.
    pub answers: Vec<Option<bool>>,
    pub ranking: Ranking,
    /// Why the scores say nothing, or not how sure it is.
    pub doubt: Option<Doubt>,
}

impl Column {
    /// Of `scores` (N, C), each from 0 to 1.
    pub fn new(
        asked: Asked,
        sample: &Sample,
        scores: &[f64],
        unlearned: &Unlearned,
    ) -> Result<Self> {
        let rows = scores.chunks_exact(sample.truth.classes.len());
        let together = |row: &[f64]| asked.classes.iter().map(|class| row[*class]).sum::<f64>();
        // Shares of classes are at most 1, but for rounding.
        let scores: Vec<f64> = rows.map(|row| together(row).clamp(0.0, 1.0)).collect();
        let answer = |place: &usize| sample.truth.answer(&asked, *place);
        let answers: Vec<Option<bool>> = sample.places.iter().map(answer).collect();
        let unlearned = asked.classes.iter().find_map(|class| unlearned.get(class));
        let doubt = match unlearned {
            Some(why) => Some(Doubt::NoValue(why.clone())),
            None => Doubt::of_question(&scores, &answers, sample.groups),
        };
        Ok(Self {
            ranking: Ranking::labelled(&scores, &answers)?,
            doubt,
            asked,
            scores,
            answers,
        })
    }

    /// Scores and answers of `items`, where they are known.
    pub fn pick(&self, items: &[usize]) -> (Vec<f64>, Vec<bool>) {
        let known = items
            .iter()
            .filter_map(|i| Some((self.scores[*i], self.answers[*i]?)));
        known.unzip()
    }

    fn measure(&self, name: &str, samples: &Samples) -> Result<Measure> {
        Measure::new(name, samples, self.doubt.as_ref())
    }

    /// Sensitivity and specificity where what scores at least `threshold` is called positive.
    pub fn at_threshold(&self, sample: &Sample, threshold: f64) -> Result<[Measure; 2]> {
        let samples = sample.bootstrap.measures(|items| {
            let (scores, positive) = self.pick(items);
            let right = |wanted: bool| {
                let those = scores.iter().zip(&positive).filter(|(_, p)| **p == wanted);
                let all = those.clone().count();
                let right = those.filter(|(score, _)| (**score >= threshold) == wanted);
                (all > 0).then(|| right.count() as f64 / all as f64)
            };
            Ok(vec![right(true), right(false)])
        })?;
        Ok([
            self.measure("sensitivity at the threshold", &samples[0])?,
            self.measure("specificity at the threshold", &samples[1])?,
        ])
    }

    /// Everything that is told of it.
    pub fn question(&self, sample: &Sample, samples: &RankingSamples) -> Result<Question> {
        let mut question = Question {
            name: self.asked.name.clone(),
            positives: self.ranking.positives(),
            negatives: self.ranking.negatives(),
            measures: vec![
                self.measure("AUROC", &samples.roc_auc)?,
                self.measure("average precision", &samples.average_precision)?,
            ],
            roc: Band::default(),
            precision_recall: Band::default(),
            reliability: Vec::new(),
        };
        let names = [
            "sensitivity at 90 % specificity",
            "specificity at 90 % sensitivity",
            "Brier score",
            "ECE, 10 equal bins",
        ];
        let others = sample.bootstrap.measures(|items| {
            let (scores, positive) = self.pick(items);
            let ranking = self.ranking.drawn(items);
            let sensitivity = ranking.sensitivity_at_specificity(OPERATING)?;
            let specificity = ranking.specificity_at_sensitivity(OPERATING)?;
            Ok(vec![
                sensitivity.map(|point| point.sensitivity),
                specificity.map(|point| point.specificity),
                brier_score(&scores, &positive)?,
                expected_calibration_error(&scores, &positive, BINS)?,
            ])
        })?;
        for (name, samples) in names.into_iter().zip(&others) {
            question.measures.push(self.measure(name, samples)?);
        }
        if self.doubt.is_none() {
            (question.roc, question.precision_recall) = self.curves(sample)?;
            let all: Vec<usize> = (0..self.scores.len()).collect();
            let (scores, positive) = self.pick(&all);
            let bins = reliability_curve(&scores, &positive, Bins::EqualMass(10))?;
            let bin = |bin: crate::metrics::Bin| Bin {
                score: bin.predicted,
                share: bin.observed,
                images: bin.count,
            };
            question.reliability = bins.into_iter().map(bin).collect();
        }
        Ok(question)
    }

    /// Both curves at even steps, and where they lie in 95 of 100 samples.
    fn curves(&self, sample: &Sample) -> Result<(Band, Band)> {
        let at = |items: &[usize]| {
            let ranking = self.ranking.drawn(items);
            Ok(roc_at(&ranking).zip(precision_at(&ranking)))
        };
        let all: Vec<usize> = (0..self.scores.len()).collect();
        let Some((roc, precision)) = at(&all)? else {
            return Ok(Default::default());
        };
        let drawn = sample.at_most(BAND_REPLICATES)?.each(at)?;
        let (rocs, precisions): (Vec<_>, Vec<_>) = drawn.into_iter().flatten().unzip();
        Ok((band(roc, &rocs), band(precision, &precisions)))
    }
}

/// Sensitivity at even steps of 1 - specificity, on straight lines between the curve's points.
fn roc_at(ranking: &Ranking) -> Option<Vec<f64>> {
    let curve = ranking.roc_curve()?;
    let (x, y) = (&curve.false_positive_rate, &curve.true_positive_rate);
    let at = |step: usize| {
        let wanted = step as f64 / (GRID - 1) as f64;
        // Of several points above one another, the highest: it is the last.
        let next = x.partition_point(|x| *x <= wanted);
        if next == x.len() {
            return y[next - 1];
        }
        let share = (wanted - x[next - 1]) / (x[next] - x[next - 1]);
        y[next - 1] + share * (y[next] - y[next - 1])
    };
    Some((0..GRID).map(at).collect())
}

/// Precision at even steps of recall: that of the first point which reaches it.
fn precision_at(ranking: &Ranking) -> Option<Vec<f64>> {
    let curve = ranking.precision_recall_curve()?;
    let at = |step: usize| {
        let wanted = step as f64 / (GRID - 1) as f64;
        let first = curve.recall.partition_point(|recall| *recall < wanted);
        curve.precision[first.min(curve.precision.len() - 1)]
    };
    Some((0..GRID).map(at).collect())
}

fn band(y: Vec<f64>, drawn: &[Vec<f64>]) -> Band {
    let sorted = |step: usize| {
        let mut values: Vec<f64> = drawn.iter().map(|curve| curve[step]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let mut band = Band {
        x: (0..GRID)
            .map(|step| step as f64 / (GRID - 1) as f64)
            .collect(),
        ..Band::default()
    };
    for (step, own) in y.iter().enumerate() {
        let values = sorted(step);
        let last = values.len().saturating_sub(1) as f64;
        let at = |share: f64| {
            values
                .get((share * last).round() as usize)
                .copied()
                .unwrap_or(*own)
        };
        band.low.push(at(0.025));
        band.high.push(at(0.975));
    }
    band.y = y;
    band
}
