//! How good probabilities are: proper scores and calibration.

use super::{probabilities, quantile, ratio, rows, same_length};
use crate::{Error, Result};

/// A row of probabilities may miss one by what f32 loses.
const SUM_TOLERANCE: f64 = 1e-4;

fn binary(probability: &[f64], positive: &[bool]) -> Result<()> {
    same_length("labels", probability.len(), positive.len())?;
    probabilities(probability)
}

fn multiclass(probability: &[f64], labels: &[usize], classes: usize) -> Result<()> {
    rows(probability, labels, classes)?;
    probabilities(probability)?;
    let mut sums = probability
        .chunks_exact(classes)
        .map(|row| row.iter().sum::<f64>());
    match sums.position(|sum| (sum - 1.0).abs() > SUM_TOLERANCE) {
        None => Ok(()),
        Some(at) => Err(Error::BadArgument(format!(
            "the probabilities of an item must add up to 1, those of item {at} (from 0) do not"
        ))),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len() as f64;
    ratio(values.sum(), count)
}

/// The mean squared distance of the probability of positive from what came (Brier, 1950, halved; `brier_score_loss`). `None`
/// without items.
///
/// # Errors
/// `BAD_ARGUMENT` where lengths differ or a probability is not 0 to 1.
pub fn brier_score(probability: &[f64], positive: &[bool]) -> Result<Option<f64>> {
    binary(probability, positive)?;
    let squares = probability.iter().zip(positive);
    Ok(mean(squares.map(|(p, y)| (p - f64::from(*y)).powi(2))))
}

/// The same of several classes, summed over them: 0 to 2 (Brier, 1950, as published). `probability` is (N, C).
///
/// # Errors
/// `BAD_ARGUMENT` where lengths differ, a probability is not 0 to 1, a row does not add up to 1, or a label is no class.
pub fn brier_score_multiclass(
    probability: &[f64],
    labels: &[usize],
    classes: usize,
) -> Result<Option<f64>> {
    multiclass(probability, labels, classes)?;
    let of = |(row, label): (&[f64], &usize)| {
        let distance = |(k, p): (usize, &f64)| (p - f64::from(k == *label)).powi(2);
        row.iter().enumerate().map(distance).sum()
    };
    Ok(mean(probability.chunks_exact(classes).zip(labels).map(of)))
}

/// The mean of -ln of the probability of what came. As in scikit-learn's `log_loss` a probability below 2.2e-16 counts as that,
/// so that one certain error costs 36 and not infinity. `None` without items.
///
/// # Errors
/// As of [`brier_score`].
pub fn log_loss(probability: &[f64], positive: &[bool]) -> Result<Option<f64>> {
    binary(probability, positive)?;
    let came = probability.iter().zip(positive);
    Ok(mean(
        came.map(|(p, y)| surprise(if *y { *p } else { 1.0 - p })),
    ))
}

/// The same of several classes; `probability` is (N, C).
///
/// # Errors
/// As of [`brier_score_multiclass`].
pub fn log_loss_multiclass(
    probability: &[f64],
    labels: &[usize],
    classes: usize,
) -> Result<Option<f64>> {
    multiclass(probability, labels, classes)?;
    let came = probability.chunks_exact(classes).zip(labels);
    Ok(mean(came.map(|(row, label)| surprise(row[*label]))))
}

fn surprise(probability: f64) -> f64 {
    -probability.max(f64::EPSILON).ln()
}

/// The highest probability of every row of (N, C), and whether its class came: with these two, the functions below measure the
/// calibration of several classes as Guo et al. (2017) do. Of equal ones the first class is the highest.
///
/// # Errors
/// As of [`brier_score_multiclass`].
pub fn top_label(
    probability: &[f64],
    labels: &[usize],
    classes: usize,
) -> Result<(Vec<f64>, Vec<bool>)> {
    multiclass(probability, labels, classes)?;
    let of = |(row, label): (&[f64], &usize)| {
        let highest = row.iter().copied().fold(0.0, f64::max);
        let class = row.iter().position(|p| *p == highest);
        (highest, class == Some(*label))
    };
    Ok(probability
        .chunks_exact(classes)
        .zip(labels)
        .map(of)
        .unzip())
}

/// How probabilities are put together to be compared with shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bins {
    /// So many of the same width from 0 to 1 (`strategy="uniform"`).
    EqualWidth(usize),
    /// So many of the same number of items, between quantiles of the probabilities (`strategy="quantile"`). Ties stay
    /// together, so that bins may differ and some may be empty.
    EqualMass(usize),
}

/// One point of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Items in it.
    pub count: usize,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of them that was positive.
    pub observed: f64,
}

/// The bins that are not empty, by rising probability (scikit-learn's `calibration_curve`). An edge belongs to the bin below it.
///
/// # Errors
/// `BAD_ARGUMENT` where lengths differ, a probability is not 0 to 1, or there are no bins; `LIMIT_EXCEEDED` for more than a million.
pub fn reliability_curve(probability: &[f64], positive: &[bool], bins: Bins) -> Result<Vec<Bin>> {
    binary(probability, positive)?;
    let edges = inner_edges(probability, bins)?;
    let mut sums = vec![(0_usize, 0.0, 0_usize); edges.len() + 1];
    for (p, y) in probability.iter().zip(positive) {
        let sum = &mut sums[edges.partition_point(|edge| edge < p)];
        *sum = (sum.0 + 1, sum.1 + p, sum.2 + usize::from(*y));
    }
    let filled = sums.into_iter().filter(|(count, ..)| *count > 0);
    let bin = |(count, sum, positives)| Bin {
        count,
        predicted: sum / count as f64,
        observed: positives as f64 / count as f64,
    };
    Ok(filled.map(bin).collect())
}

/// All edges of the bins but 0 and 1.
fn inner_edges(probability: &[f64], bins: Bins) -> Result<Vec<f64>> {
    const LIMIT: usize = 1_000_000;
    let (Bins::EqualWidth(count) | Bins::EqualMass(count)) = bins;
    if count == 0 {
        return Err(Error::BadArgument("expected bins, got none".into()));
    }
    if count > LIMIT {
        return Err(Error::Limit {
            what: "number of bins",
            got: count as u64,
            limit: LIMIT as u64,
        });
    }
    // As numpy's linspace rounds it.
    let shares = (1..count).map(|i| i as f64 * (1.0 / count as f64));
    if matches!(bins, Bins::EqualWidth(_)) || probability.is_empty() {
        return Ok(shares.collect());
    }
    let mut sorted = probability.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // In percent and back, as scikit-learn asks numpy for it.
    Ok(shares
        .map(|share| quantile(&sorted, share * 100.0 / 100.0))
        .collect())
}

/// The mean distance between probability and share over the bins, weighted by their items (ECE; Naeini et al., 2015; Guo et
/// al., 2017, equation 3). Say beside it which bins: it depends on them. `None` without items.
///
/// # Errors
/// As of [`reliability_curve`].
pub fn expected_calibration_error(
    probability: &[f64],
    positive: &[bool],
    bins: Bins,
) -> Result<Option<f64>> {
    let curve = reliability_curve(probability, positive, bins)?;
    let distance = |bin: &Bin| bin.count as f64 * (bin.predicted - bin.observed).abs();
    Ok(ratio(
        curve.iter().map(distance).sum(),
        probability.len() as f64,
    ))
}
