//! What follows from the order of scores: ROC and precision-recall curves, the areas below them, places to cut.

use super::{ITEM_LIMIT, finite, ratio, rows, same_length};
use crate::{Error, Result};

/// Items from the highest score to the lowest, each positive or negative. Sorted once; all measures walk along it.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Items in all, with those whose label is not known.
    pub(super) count: usize,
    /// Numbers of the labelled items, by descending score.
    pub(super) items: Vec<u32>,
    pub(super) scores: Vec<f64>,
    pub(super) positive: Vec<bool>,
    positives: usize,
}

/// Counts at a threshold: an item is called positive where its score is not below.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub threshold: f64,
    /// Positives with this very score, and negatives.
    pub here: (usize, usize),
    /// Positives with this score or a higher one, and negatives.
    pub above: (usize, usize),
}

/// The receiver operating characteristic, from the highest threshold to the lowest (scikit-learn's `roc_curve` with
/// `drop_intermediate=False`). The first point calls nothing positive: its threshold is infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct RocCurve {
    /// Every score that occurs; an item is called positive where its score is not below.
    pub thresholds: Vec<f64>,
    /// Share of negatives that are called positive.
    pub false_positive_rate: Vec<f64>,
    /// Share of positives that are called positive.
    pub true_positive_rate: Vec<f64>,
}

/// Precision and recall from the highest threshold to the lowest: scikit-learn's `precision_recall_curve` in reverse,
/// without its first point (recall 0, precision 1), which belongs to no threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct PrCurve {
    /// Every score that occurs; an item is called positive where its score is not below.
    pub thresholds: Vec<f64>,
    /// Share of positives among what is called positive.
    pub precision: Vec<f64>,
    /// Share of positives that are called positive.
    pub recall: Vec<f64>,
}

/// A place to cut. An item is called positive where its score is not below the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatingPoint {
    /// A score that occurs, or infinity: nothing is called positive.
    pub threshold: f64,
    /// Share of positives that are called positive.
    pub sensitivity: f64,
    /// Share of negatives that are called negative.
    pub specificity: f64,
}

impl Ranking {
    /// Of `scores`, one an item, the higher the more likely positive.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ or a score is not finite; `LIMIT_EXCEEDED` for more than 2^27 items.
    pub fn new(scores: &[f64], positive: &[bool]) -> Result<Self> {
        same_length("labels", scores.len(), positive.len())?;
        Self::sorted(scores, |item| Some(positive[item]))
    }

    /// The same where some labels are not known: those items are left out, and keep their number in a [`super::Bootstrap`],
    /// so that one sample serves all findings.
    ///
    /// # Errors
    /// As of [`Ranking::new`]; the score of an item without label is not looked at.
    pub fn labelled(scores: &[f64], positive: &[Option<bool>]) -> Result<Self> {
        same_length("labels", scores.len(), positive.len())?;
        Self::sorted(scores, |item| positive[item])
    }

    fn sorted(scores: &[f64], label: impl Fn(usize) -> Option<bool>) -> Result<Self> {
        if scores.len() > ITEM_LIMIT {
            return Err(Error::Limit {
                what: "number of items",
                got: scores.len() as u64,
                limit: ITEM_LIMIT as u64,
            });
        }
        let known = (0..scores.len()).filter_map(|item| Some((scores[item], label(item)?, item)));
        // -0 and 0 are a tie.
        let mut all: Vec<_> = known
            .map(|(s, p, item)| (s + 0.0, p, item as u32))
            .collect();
        if let Some((_, _, item)) = all.iter().find(|(score, ..)| !score.is_finite()) {
            return Err(Error::BadArgument(format!(
                "scores must be finite, that of item {item} (from 0) is not"
            )));
        }
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        Ok(Self {
            count: scores.len(),
            items: all.iter().map(|(_, _, item)| *item).collect(),
            scores: all.iter().map(|(score, ..)| *score).collect(),
            positive: all.iter().map(|(_, positive, _)| *positive).collect(),
            positives: all.iter().filter(|(_, positive, _)| *positive).count(),
        })
    }

    /// Of `items`, numbers of items in which one may stand several times, as in a bootstrap sample: equal to a ranking of their scores
    /// and labels, but nothing is sorted again. Its items have no number of their own.
    ///
    /// # Panics
    /// Where there is no such item.
    #[must_use]
    pub fn drawn(&self, items: &[usize]) -> Self {
        let mut times = vec![0_u32; self.count];
        items.iter().for_each(|item| times[*item] += 1);
        let mut drawn = Self {
            count: 0,
            items: Vec::with_capacity(items.len()),
            scores: Vec::with_capacity(items.len()),
            positive: Vec::with_capacity(items.len()),
            positives: 0,
        };
        let known = self.items.iter().zip(&self.scores).zip(&self.positive);
        for ((item, score), positive) in known {
            let times = times[*item as usize] as usize;
            let first = drawn.items.len() as u32;
            drawn.items.extend(first..first + times as u32);
            drawn.scores.extend(std::iter::repeat_n(*score, times));
            drawn.positive.extend(std::iter::repeat_n(*positive, times));
            drawn.positives += times * usize::from(*positive);
        }
        drawn.count = drawn.items.len();
        drawn
    }

    /// Items with a positive label.
    pub fn positives(&self) -> usize {
        self.positives
    }

    /// Items with a negative label.
    pub fn negatives(&self) -> usize {
        self.items.len() - self.positives
    }

    fn has_both(&self) -> bool {
        self.positives() > 0 && self.negatives() > 0
    }

    /// Where items with one score begin and end.
    pub(super) fn ties(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut start = 0;
        self.scores.chunk_by(|a, b| a == b).map(move |tied| {
            start += tied.len();
            start - tied.len()..start
        })
    }

    fn steps(&self) -> impl Iterator<Item = Step> {
        let mut above = (0, 0);
        self.ties().map(move |tied| {
            let labels = &self.positive[tied.clone()];
            let positives = labels.iter().filter(|p| **p).count();
            let here = (positives, labels.len() - positives);
            above = (above.0 + here.0, above.1 + here.1);
            Step {
                threshold: self.scores[tied.start],
                here,
                above,
            }
        })
    }

    /// Area under the ROC curve: how often a positive scores above a negative, ties counted half (the Mann-Whitney
    /// statistic; `roc_auc_score`). `None` without a positive or without a negative.
    pub fn roc_auc(&self) -> Option<f64> {
        // Twice the pairs in the wrong order, as whole numbers: a tie is one.
        let wrong: u128 = self
            .steps()
            .map(|s| s.here.0 as u128 * (2 * s.above.1 - s.here.1) as u128)
            .sum();
        let pairs = 2 * self.positives() as u128 * self.negatives() as u128;
        ratio((pairs - wrong) as f64, pairs as f64)
    }

    /// The mean of the precision at every positive, tied ones together (`average_precision_score`). `None` without a positive
    /// or without a negative: there is nothing to rank.
    pub fn average_precision(&self) -> Option<f64> {
        let precision = |s: Step| s.above.0 as f64 / (s.above.0 + s.above.1) as f64;
        let sum: f64 = self
            .steps()
            .filter(|s| s.here.0 > 0)
            .map(|s| s.here.0 as f64 * precision(s))
            .sum();
        self.has_both().then(|| sum / self.positives() as f64)
    }

    /// `None` without a positive or without a negative.
    pub fn roc_curve(&self) -> Option<RocCurve> {
        let points: Vec<_> = self.points()?.collect();
        Some(RocCurve {
            thresholds: points.iter().map(|p| p.0).collect(),
            false_positive_rate: points
                .iter()
                .map(|p| p.2 as f64 / self.negatives() as f64)
                .collect(),
            true_positive_rate: points
                .iter()
                .map(|p| p.1 as f64 / self.positives() as f64)
                .collect(),
        })
    }

    /// `None` without a positive or without a negative.
    pub fn precision_recall_curve(&self) -> Option<PrCurve> {
        let points: Vec<_> = self.points()?.skip(1).collect();
        Some(PrCurve {
            thresholds: points.iter().map(|p| p.0).collect(),
            precision: points
                .iter()
                .map(|p| p.1 as f64 / (p.1 + p.2) as f64)
                .collect(),
            recall: points
                .iter()
                .map(|p| p.1 as f64 / self.positives() as f64)
                .collect(),
        })
    }

    /// Threshold, true positives, false positives, from nothing called positive to all.
    fn points(&self) -> Option<impl Iterator<Item = (f64, usize, usize)>> {
        let steps = self.steps().map(|s| (s.threshold, s.above.0, s.above.1));
        let all = std::iter::once((f64::INFINITY, 0, 0)).chain(steps);
        self.has_both().then_some(all)
    }

    fn operating_point(
        &self,
        (threshold, true_positives, false_positives): (f64, usize, usize),
    ) -> OperatingPoint {
        let negatives = self.negatives();
        OperatingPoint {
            threshold,
            sensitivity: true_positives as f64 / self.positives() as f64,
            specificity: (negatives - false_positives) as f64 / negatives as f64,
        }
    }

    /// The most sensitive place with at least this specificity; of equal ones the more specific. Where only calling nothing positive is
    /// specific enough, the threshold is infinite. `None` without a positive or without a negative.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `specificity` is not 0 to 1.
    pub fn sensitivity_at_specificity(&self, specificity: f64) -> Result<Option<OperatingPoint>> {
        super::probabilities(&[specificity])?;
        let Some(points) = self.points() else {
            return Ok(None);
        };
        let all = points.map(|point| self.operating_point(point));
        let enough = all.take_while(|point| point.specificity >= specificity);
        Ok(enough.reduce(|best, next| {
            if next.sensitivity > best.sensitivity {
                next
            } else {
                best
            }
        }))
    }

    /// The most specific place with at least this sensitivity, which is the highest threshold that reaches it.
    /// `None` without a positive or without a negative.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `sensitivity` is not 0 to 1.
    pub fn specificity_at_sensitivity(&self, sensitivity: f64) -> Result<Option<OperatingPoint>> {
        super::probabilities(&[sensitivity])?;
        let Some(points) = self.points() else {
            return Ok(None);
        };
        let mut all = points.map(|point| self.operating_point(point));
        Ok(all.find(|point| point.sensitivity >= sensitivity))
    }

    /// The place where sensitivity + specificity - 1 is highest (Youden, 1950); of equal ones the highest threshold.
    /// `None` where no place is better than chance.
    pub fn youden(&self) -> Option<OperatingPoint> {
        let (positives, negatives) = (self.positives() as i128, self.negatives() as i128);
        // In whole numbers, so that equal places are equal.
        let gain =
            |point: &(f64, usize, usize)| point.1 as i128 * negatives - point.2 as i128 * positives;
        let best = self.points()?.reduce(|best, next| {
            if gain(&next) > gain(&best) {
                next
            } else {
                best
            }
        })?;
        (gain(&best) > 0).then(|| self.operating_point(best))
    }
}

/// Every class against all others.
#[derive(Debug, Clone)]
pub struct OneVsRest {
    /// One a class.
    pub classes: Vec<Ranking>,
}

impl OneVsRest {
    /// Of `scores` (N, C), row by row, and the class of each of the N items.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ, a score is not finite or a label is no class.
    pub fn new(scores: &[f64], labels: &[usize], classes: usize) -> Result<Self> {
        rows(scores, labels, classes)?;
        finite("scores", scores)?;
        let of = |class: usize| {
            let column: Vec<f64> = scores.chunks_exact(classes).map(|row| row[class]).collect();
            let positive: Vec<bool> = labels.iter().map(|label| *label == class).collect();
            Ranking::new(&column, &positive)
        };
        let classes = (0..classes).map(of).collect::<Result<_>>()?;
        Ok(Self { classes })
    }

    /// The mean of all classes' areas (`roc_auc_score`, `multi_class="ovr"`, `average="macro"`). `None` where a class is
    /// absent, or has all items.
    pub fn macro_roc_auc(&self) -> Option<f64> {
        let all: Option<Vec<f64>> = self.classes.iter().map(Ranking::roc_auc).collect();
        all.map(|all| all.iter().sum::<f64>() / all.len() as f64)
    }

    /// The mean weighted by items of the class (`average="weighted"`); an absent class weighs nothing. `None` where one class has all
    /// items.
    pub fn weighted_roc_auc(&self) -> Option<f64> {
        let present = self.classes.iter().filter(|class| class.positives() > 0);
        let weighted = present.map(|class| Some((class.roc_auc()?, class.positives() as f64)));
        let all: Vec<(f64, f64)> = weighted.collect::<Option<_>>()?;
        let sum: f64 = all.iter().map(|(area, weight)| area * weight).sum();
        ratio(sum, all.iter().map(|(_, weight)| weight).sum())
    }
}
