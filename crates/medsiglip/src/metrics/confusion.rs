//! Decisions beside the truth, and what is counted from them.

use super::{class_numbers, ratio, same_length};
use crate::{Error, Result};

/// How often each class was taken for each: entry (truth, decision), as in scikit-learn's `confusion_matrix`.
///
/// Of two classes, 1 is the positive one: its recall is the sensitivity, that of class 0 the specificity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// Of a true and a decided class for every item.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ or a number is no class; `LIMIT_EXCEEDED` for more than 10,000 classes.
    pub fn new(truth: &[usize], decided: &[usize], classes: usize) -> Result<Self> {
        const LIMIT: usize = 10_000;
        if classes > LIMIT {
            return Err(Error::Limit {
                what: "number of classes",
                got: classes as u64,
                limit: LIMIT as u64,
            });
        }
        same_length("decisions", truth.len(), decided.len())?;
        class_numbers(truth, classes)?;
        class_numbers(decided, classes)?;
        let mut counts = vec![0; classes * classes];
        for (truth, decided) in truth.iter().zip(decided) {
            counts[truth * classes + decided] += 1;
        }
        Ok(Self { classes, counts })
    }

    /// C.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Items of class `truth` that were taken for `decided`.
    ///
    /// # Panics
    /// Where one is no class.
    pub fn count(&self, truth: usize, decided: usize) -> u64 {
        assert!(truth < self.classes && decided < self.classes);
        self.counts[truth * self.classes + decided]
    }

    /// Items.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Items of a class.
    pub fn support(&self, class: usize) -> u64 {
        (0..self.classes).map(|k| self.count(class, k)).sum()
    }

    /// Items that were taken for a class.
    pub fn decided(&self, class: usize) -> u64 {
        (0..self.classes).map(|k| self.count(k, class)).sum()
    }

    fn right(&self) -> u64 {
        (0..self.classes).map(|k| self.count(k, k)).sum()
    }

    /// Share of right decisions (`accuracy_score`). `None` without items.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.right() as f64, self.total() as f64)
    }

    /// Share of right ones among the decisions for a class. `None` where there are none.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class) as f64, self.decided(class) as f64)
    }

    /// Share of a class's items that were recognised. `None` where it has none.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class) as f64, self.support(class) as f64)
    }

    /// The harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn) (`f1_score`). `None` where the class was neither there nor
    /// decided for.
    pub fn f1(&self, class: usize) -> Option<f64> {
        let sum = self.support(class) + self.decided(class);
        ratio(2.0 * self.count(class, class) as f64, sum as f64)
    }

    /// The mean of a measure over all classes (`average="macro"`), as in `matrix.mean(ConfusionMatrix::f1)`. `None` where a
    /// class has no value.
    pub fn mean(&self, of: impl Fn(&Self, usize) -> Option<f64>) -> Option<f64> {
        let all: Vec<f64> = (0..self.classes)
            .map(|k| of(self, k))
            .collect::<Option<_>>()?;
        ratio(all.iter().sum(), all.len() as f64)
    }

    /// The mean of a measure weighted by the items of each class (`average="weighted"`). An absent class weighs nothing; `None` where
    /// another has no value.
    pub fn weighted(&self, of: impl Fn(&Self, usize) -> Option<f64>) -> Option<f64> {
        let present = (0..self.classes).filter(|k| self.support(*k) > 0);
        let weighted = present.map(|k| Some(of(self, k)? * self.support(k) as f64));
        let all: Vec<f64> = weighted.collect::<Option<_>>()?;
        ratio(all.iter().sum(), self.total() as f64)
    }

    /// The mean recall of all classes (`balanced_accuracy_score`). `None` where a class has no items.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        self.mean(Self::recall)
    }

    /// Agreement beyond chance (Cohen, 1960; `cohen_kappa_score`). `None` where chance alone agrees always: truth and decisions
    /// are all of one class.
    pub fn cohen_kappa(&self) -> Option<f64> {
        self.kappa(|truth, decided| f64::from(truth != decided))
    }

    /// Kappa with disagreement weighted by the square of the distance, for ordered classes such as grades
    /// (Cohen, 1968; `weights="quadratic"`). `None` as for [`ConfusionMatrix::cohen_kappa`].
    pub fn quadratic_kappa(&self) -> Option<f64> {
        self.kappa(|truth, decided| (truth as f64 - decided as f64).powi(2))
    }

    fn kappa(&self, weight: impl Fn(usize, usize) -> f64) -> Option<f64> {
        let support: Vec<f64> = (0..self.classes).map(|k| self.support(k) as f64).collect();
        let decided: Vec<f64> = (0..self.classes).map(|k| self.decided(k) as f64).collect();
        let (mut observed, mut expected) = (0.0, 0.0);
        for (truth, in_truth) in support.iter().enumerate() {
            for (decision, in_decisions) in decided.iter().enumerate() {
                let weight = weight(truth, decision);
                observed += weight * self.count(truth, decision) as f64;
                expected += weight * in_truth * in_decisions;
            }
        }
        ratio(observed * self.total() as f64, expected).map(|share| 1.0 - share)
    }
}
