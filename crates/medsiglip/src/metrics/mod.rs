//! Measures of scores beside labels, with intervals, tests and calibration.
//!
//! ```
//! use medsiglip::metrics::{Bootstrap, Ranking, Resampling};
//!
//! # fn main() -> medsiglip::Result<()> {
//! let effusion = Ranking::new(&[0.1, 0.8, 0.4, 0.9, 0.2], &[false, true, false, true, true])?;
//! assert_eq!(effusion.roc_auc(), Some(5.0 / 6.0));
//! // Two pictures of the first patient: they are drawn together or not at all.
//! let how = Resampling { groups: Some(&[0, 0, 1, 2, 3]), ..Resampling::default() };
//! let samples = &Bootstrap::new(5, &how)?.rankings(&[effusion])?[0].roc_auc;
//! let auroc = samples.estimate(0.95)?.unwrap();
//! assert!(auroc.low <= auroc.value && auroc.value <= auroc.high);
//! # Ok(())
//! # }
//! ```
//!
//! | question | answer |
//! |---|---|
//! | how well scores order items, and where to cut | [`Ranking`], [`OneVsRest`] |
//! | how well classes are decided | [`ConfusionMatrix`] |
//! | how good probabilities are | [`brier_score`], [`log_loss`], [`expected_calibration_error`], [`reliability_curve`] |
//! | how well something is found again | [`Retrieval`] |
//! | how sure a measure is; do two encoders differ | [`Bootstrap`], [`delong`], [`holm`] |
//! | from scores to probabilities | [`calibration`] |
//!
//! Names are scikit-learn's where it has one, and so are values. What has no value is `None` (a class is absent, a
//! quotient is 0 / 0), never a number by convention. Scores that are not finite, lengths that differ and classes out of range are
//! errors (`BAD_ARGUMENT`). Scores of several classes are (N, C), row by row.

mod bootstrap;
mod confusion;
mod delong;
mod holm;
mod probability;
mod ranking;
mod retrieval;

pub mod calibration;

pub use bootstrap::{Bootstrap, Estimate, RankingSamples, Resampling, Samples};
pub use confusion::ConfusionMatrix;
pub use delong::{Comparison, DeLong, Interval, delong};
pub use holm::holm;
pub use probability::{
    Bin, Bins, brier_score, brier_score_multiclass, expected_calibration_error, log_loss,
    log_loss_multiclass, reliability_curve, top_label,
};
pub use ranking::{OneVsRest, OperatingPoint, PrCurve, Ranking, RocCurve};
pub use retrieval::{Query, Retrieval};

use crate::{Error, Result};

/// Twice the pairs of so many items is a whole number in f64.
const ITEM_LIMIT: usize = 1 << 27;

fn same_length(what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::BadArgument(format!(
        "expected {expected} {what}, one an item, got {got}"
    )))
}

fn finite(what: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::BadArgument(format!(
            "{what} must be finite, number {at} (from 0) is not"
        ))),
    }
}

fn probabilities(values: &[f64]) -> Result<()> {
    let within = |value: &f64| (0.0..=1.0).contains(value);
    match values.iter().position(|value| !within(value)) {
        None => Ok(()),
        Some(at) => Err(Error::BadArgument(format!(
            "probabilities must be 0 to 1, number {at} (from 0) is not"
        ))),
    }
}

/// (N, C) of `values` and a class of `classes` for every row.
fn rows(values: &[f64], labels: &[usize], classes: usize) -> Result<()> {
    if classes == 0 {
        return Err(Error::BadArgument("expected classes, got none".into()));
    }
    if Some(values.len()) != labels.len().checked_mul(classes) {
        return Err(Error::BadArgument(format!(
            "expected {classes} scores for each of {} items, got {}",
            labels.len(),
            values.len()
        )));
    }
    class_numbers(labels, classes)
}

fn class_numbers(labels: &[usize], classes: usize) -> Result<()> {
    match labels.iter().position(|label| *label >= classes) {
        None => Ok(()),
        Some(at) => Err(Error::BadArgument(format!(
            "expected classes 0 to {}, item {at} (from 0) has another",
            classes as i128 - 1
        ))),
    }
}

fn level_of_confidence(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(Error::BadArgument(format!(
        "a level of confidence lies between 0 and 1, got {level}"
    )))
}

/// `values[q (n - 1)]`, between two of them by a straight line (numpy's `percentile`, Hyndman and Fan's type 7).
/// `sorted` has at least one value.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = (place.floor() as usize).min(sorted.len() - 1);
    let (a, b) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let t = place - below as f64;
    // As numpy rounds it.
    if t < 0.5 {
        a + (b - a) * t
    } else {
        b - (b - a) * (1.0 - t)
    }
}

/// Some of `numerator / denominator`, unless that is a division by zero.
fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator != 0.0).then(|| numerator / denominator)
}

#[cfg(test)]
mod tests;
