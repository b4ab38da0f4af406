//! [`Task`]: the classes of items and what each item counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What errors on a class count (scikit-learn's `class_weight`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeight {
    /// Every item counts the same.
    #[default]
    None,
    /// Every class counts the same: N / (C N_c).
    Balanced,
    /// A weight for each class, in their order.
    Given(Vec<f64>),
}

/// One classification of N items into C classes: a class index and a weight an item. Items of weight zero (those
/// without a label, those of another fold) take no part.
///
/// Two classes have one output, the logit of class 1. More have C, and their probabilities are the softmax
/// (multinomial); [`one_vs_rest`](Self::one_vs_rest) takes them apart into tasks of two classes, as are the findings of a
/// multi-label problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    classes: usize,
    labels: Vec<usize>,
    weights: Vec<f64>,
}

impl Task {
    /// A task in which every item counts 1.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` with fewer than two classes, or where a label is no class.
    pub fn new(classes: usize, labels: Vec<usize>) -> Result<Self> {
        if classes < 2 {
            return Err(Error::BadArgument(format!(
                "task: expected two classes or more, got {classes}"
            )));
        }
        if let Some(item) = labels.iter().position(|label| *label >= classes) {
            return Err(Error::BadArgument(format!(
                "task: expected labels below {classes}, got another at item {item}"
            )));
        }
        let weights = vec![1.0; labels.len()];
        Ok(Self {
            classes,
            labels,
            weights,
        })
    }

    /// Two classes; items without a label take no part.
    pub fn binary(labels: &[Option<bool>]) -> Self {
        Self {
            classes: 2,
            labels: labels
                .iter()
                .map(|l| usize::from(*l == Some(true)))
                .collect(),
            weights: labels
                .iter()
                .map(|l| f64::from(u8::from(l.is_some())))
                .collect(),
        }
    }

    /// Whether every class is among `items`.
    pub(super) fn has_all(&self, items: &[usize]) -> bool {
        let counted = items.iter().filter(|item| self.weights[**item] > 0.0);
        let there: BTreeSet<usize> = counted.map(|item| self.labels[*item]).collect();
        there.len() == self.classes
    }

    /// The same with each item's weight multiplied by `weights` (N).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is not one weight an item, or one is negative or not finite.
    pub fn sample_weight(mut self, weights: &[f64]) -> Result<Self> {
        check(weights, self.weights.len(), "sample_weight")?;
        for (weight, by) in self.weights.iter_mut().zip(weights) {
            *weight *= by;
        }
        Ok(self)
    }

    /// The same with each item's weight multiplied by that of its class.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is not one weight a class, or one is negative or not finite.
    pub fn class_weight(mut self, by_class: &ClassWeight) -> Result<Self> {
        let by_class = match by_class {
            ClassWeight::None => return Ok(self),
            ClassWeight::Given(weights) => weights.clone(),
            ClassWeight::Balanced => {
                let of_class = self.weight_of_classes();
                let total: f64 = of_class.iter().sum();
                let balanced = |weight: &f64| match *weight > 0.0 {
                    true => total / (self.classes as f64 * weight),
                    false => 1.0,
                };
                of_class.iter().map(balanced).collect()
            }
        };
        check(&by_class, self.classes, "class_weight")?;
        for (weight, label) in self.weights.iter_mut().zip(&self.labels) {
            *weight *= by_class[*label];
        }
        Ok(self)
    }

    /// Each class against all others, as tasks of two classes.
    pub fn one_vs_rest(&self) -> Vec<Self> {
        let one = |class: usize| Self {
            classes: 2,
            labels: self
                .labels
                .iter()
                .map(|l| usize::from(*l == class))
                .collect(),
            weights: self.weights.clone(),
        };
        (0..self.classes).map(one).collect()
    }

    /// The task of these items, in this order.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where an item is not there.
    pub fn select(&self, items: &[usize]) -> Result<Self> {
        if let Some(item) = items.iter().find(|item| **item >= self.labels.len()) {
            return Err(Error::BadArgument(format!(
                "task: expected items below {}, got {item}",
                self.labels.len()
            )));
        }
        Ok(Self {
            classes: self.classes,
            labels: items.iter().map(|item| self.labels[*item]).collect(),
            weights: items.iter().map(|item| self.weights[*item]).collect(),
        })
    }

    /// Classes, C.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of each item, (N).
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The weight of each item, (N).
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Rows of coefficients, K: 1 for two classes, else C.
    pub fn outputs(&self) -> usize {
        match self.classes {
            2 => 1,
            classes => classes,
        }
    }

    pub(super) fn weight_of_classes(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes];
        for (label, weight) in self.labels.iter().zip(&self.weights) {
            sums[*label] += weight;
        }
        sums
    }

    /// Whether a probe can be fitted to it.
    pub(super) fn check(&self, items: usize) -> Result<()> {
        if self.labels.len() != items {
            return Err(Error::BadArgument(format!(
                "task: expected a label for each of {items} items, got {}",
                self.labels.len()
            )));
        }
        let missing: Vec<String> = (0..)
            .zip(self.weight_of_classes())
            .filter(|(_, weight)| *weight == 0.0)
            .map(|(class, _): (usize, f64)| class.to_string())
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::BadArgument(format!(
                "task: expected labelled items of all {} classes, got none of class {}",
                self.classes,
                missing.join(", ")
            ))),
        }
    }
}

fn check(weights: &[f64], expected: usize, what: &str) -> Result<()> {
    if weights.len() != expected {
        return Err(Error::BadArgument(format!(
            "{what}: expected {expected} weights, got {}",
            weights.len()
        )));
    }
    match weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        Some(place) => Err(Error::BadArgument(format!(
            "{what}: expected finite weights not below zero, got another at {place}"
        ))),
        None => Ok(()),
    }
}
