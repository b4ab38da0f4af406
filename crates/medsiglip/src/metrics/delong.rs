//! The variance of an area under the ROC curve, and of the difference of two, without drawing samples.

use super::{Estimate, finite, level_of_confidence, same_length};
use crate::Result;

/// Areas under the ROC curve of one or more scores of the same items, and how they vary together (DeLong, DeLong and
/// Clarke-Pearson, 1988). It takes items as independent: where patients have several, use the bootstrap by groups.
#[derive(Debug, Clone, PartialEq)]
pub struct DeLong {
    /// One a score.
    pub roc_auc: Vec<f64>,
    /// (K, K) of K scores.
    pub covariance: Vec<Vec<f64>>,
}

/// On which scale an interval is symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// On that of the area itself, cut at 0 and 1 (DeLong et al., 1988).
    Plain,
    /// On that of its log-odds, which stays between 0 and 1 and is nearer to the level for areas near 1 (Pepe, 2003, chapter 5).
    Logit,
}

/// A difference and what chance would make of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The first less the second.
    pub difference: Estimate,
    /// The difference in standard errors.
    pub z: f64,
    /// The chance of one as large in either direction where there is none.
    pub p_value: f64,
}

/// Of K `scores` of the same items, each as long as `positive`. `None` with less than two positives or two negatives: there is no
/// variance of one.
///
/// By midranks (Sun and Xu, 2014, algorithm 2): the time of sorting.
///
/// # Errors
/// `BAD_ARGUMENT` where lengths differ or a score is not finite.
pub fn delong(scores: &[&[f64]], positive: &[bool]) -> Result<Option<DeLong>> {
    for one in scores {
        same_length("scores", positive.len(), one.len())?;
        finite("scores", one)?;
    }
    let positives = positive.iter().filter(|p| **p).count();
    if positives < 2 || positive.len() - positives < 2 {
        return Ok(None);
    }
    let parts: Vec<Components> = scores
        .iter()
        .map(|scores| Components::new(scores, positive))
        .collect();
    let covariance = |a: &Components, b: &Components| {
        covariance(&a.of_positives, &b.of_positives) / positives as f64
            + covariance(&a.of_negatives, &b.of_negatives) / (positive.len() - positives) as f64
    };
    let row = |a| parts.iter().map(|b| covariance(a, b)).collect();
    Ok(Some(DeLong {
        roc_auc: parts.iter().map(|part| part.roc_auc).collect(),
        covariance: parts.iter().map(row).collect(),
    }))
}

/// How often each positive scores above a negative, and each negative below a positive.
struct Components {
    roc_auc: f64,
    of_positives: Vec<f64>,
    of_negatives: Vec<f64>,
}

impl Components {
    fn new(scores: &[f64], positive: &[bool]) -> Self {
        let among_all = midranks(scores);
        let of = |wanted: bool| {
            let chosen = (0..scores.len()).filter(|i| positive[*i] == wanted);
            let (own, all): (Vec<f64>, Vec<f64>) =
                chosen.map(|i| (scores[i], among_all[i])).unzip();
            (midranks(&own), all)
        };
        let ((own_p, all_p), (own_n, all_n)) = (of(true), of(false));
        let (p, n) = (own_p.len() as f64, own_n.len() as f64);
        let share = |all: &f64, own: &f64, of: f64| (all - own) / of;
        Self {
            roc_auc: (all_p.iter().sum::<f64>() - p * (p + 1.0) / 2.0) / (p * n),
            of_positives: all_p
                .iter()
                .zip(&own_p)
                .map(|(a, o)| share(a, o, n))
                .collect(),
            of_negatives: all_n
                .iter()
                .zip(&own_n)
                .map(|(a, o)| 1.0 - share(a, o, p))
                .collect(),
        }
    }
}

/// Places in rising order, from 1; of equal values the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.iter().map(|v| v + 0.0).zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        for (_, item) in tied {
            ranks[*item] = below as f64 + (tied.len() as f64 + 1.0) / 2.0;
        }
        below += tied.len();
    }
    ranks
}

fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let products = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b));
    products.sum::<f64>() / (count - 1.0)
}

impl DeLong {
    /// The area of one score with its interval at `level`, such as 0.95. `None` where the variance is zero, as it is for an area of 1:
    /// that the items at hand are apart says nothing about others.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `level` is not between 0 and 1.
    ///
    /// # Panics
    /// Where there is no such score.
    pub fn interval(&self, score: usize, kind: Interval, level: f64) -> Result<Option<Estimate>> {
        level_of_confidence(level)?;
        let (value, variance) = (self.roc_auc[score], self.covariance[score][score]);
        if variance <= 0.0 {
            return Ok(None);
        }
        let reach = normal_quantile(level) * variance.sqrt();
        let (low, high) = match kind {
            Interval::Plain => ((value - reach).max(0.0), (value + reach).min(1.0)),
            Interval::Logit => {
                let odds = (value / (1.0 - value)).ln();
                let reach = reach / (value * (1.0 - value));
                let expit = |x: f64| 1.0 / (1.0 + (-x).exp());
                (expit(odds - reach), expit(odds + reach))
            }
        };
        Ok(Some(Estimate::new(value, low, high)))
    }

    /// Whether two scores differ. `None` where their difference has no variance, as that of a score with itself.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `level` is not between 0 and 1.
    ///
    /// # Panics
    /// Where there is no such score.
    pub fn compare(&self, first: usize, second: usize, level: f64) -> Result<Option<Comparison>> {
        level_of_confidence(level)?;
        let difference = self.roc_auc[first] - self.roc_auc[second];
        let own = self.covariance[first][first] + self.covariance[second][second];
        let variance = own - 2.0 * self.covariance[first][second];
        // What is left of equal numbers after rounding is no variance.
        if variance <= own * 1e-14 {
            return Ok(None);
        }
        let error = variance.sqrt();
        let reach = normal_quantile(level) * error;
        let z = difference / error;
        Ok(Some(Comparison {
            difference: Estimate::new(difference, difference - reach, difference + reach),
            z,
            p_value: libm::erfc(z.abs() / std::f64::consts::SQRT_2),
        }))
    }
}

/// The z between whose minus and plus a share of `level` of the normal distribution lies.
fn normal_quantile(level: f64) -> f64 {
    use std::f64::consts::{PI, SQRT_2};
    // Newton's steps on a concave function from its left: they rise to the root and never pass it.
    let mut z: f64 = 0.0;
    for _ in 0..100 {
        let missing = libm::erfc(z / SQRT_2) - (1.0 - level);
        let slope = (2.0 / PI).sqrt() * (-z * z / 2.0).exp();
        let step = missing / slope;
        z += step;
        if step <= z * f64::EPSILON {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_has_its_tabled_quantiles() {
        for (level, z) in [
            (0.5, 0.674_489_750_196_081_7),
            (0.95, 1.959_963_984_540_054),
            (0.99, 2.575_829_303_548_900_4),
            (0.999_999, 4.891_638_475_699_129),
        ] {
            let got = normal_quantile(level);
            assert!((got - z).abs() < 1e-9 * z, "{level}: {got}");
        }
    }

    #[test]
    fn midranks_share_the_places_of_ties() {
        assert_eq!(
            midranks(&[2.0, 1.0, 2.0, 0.0, -0.0]),
            [4.5, 3.0, 4.5, 1.5, 1.5]
        );
    }
}
