//! From scores to probabilities: [`Platt`], [`Isotonic`], [`Temperature`], each fitted on items that the score was not fitted on.
//!
//! All keep the order of scores (isotonic makes ties), so that AUROC stays; what changes is whether 0.8 means eight in ten.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{finite, probabilities, rows, same_length};
use crate::{Error, Result};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The probability of positive is sigmoid(-(a score + b)) (Platt, 1999; the signs are his, and scikit-learn's).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    /// Below zero where higher scores are more likely positive.
    pub a: f64,
    /// Log-odds of negative at score 0.
    pub b: f64,
}

impl Platt {
    /// The best a and b for Platt's targets, (P + 1) / (P + 2) for P positives and 1 / (N + 2) for N negatives, which keep it from
    /// certainty (scikit-learn's `_SigmoidCalibration`). `None` where a class is absent or all scores are equal.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ or a score is not finite.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Result<Option<Self>> {
        same_length("labels", scores.len(), positive.len())?;
        finite("scores", scores)?;
        let positives = positive.iter().filter(|p| **p).count() as f64;
        let negatives = scores.len() as f64 - positives;
        let (low, high) = range(scores);
        if positives == 0.0 || negatives == 0.0 || low == high {
            return Ok(None);
        }
        // Scores of -1 to 1, so that both unknowns are of one size.
        let (center, half) = (low / 2.0 + high / 2.0, high / 2.0 - low / 2.0);
        let targets = [
            1.0 / (negatives + 2.0),
            (positives + 1.0) / (positives + 2.0),
        ];
        let items = scores.iter().zip(positive);
        let items: Vec<_> = items
            .map(|(score, p)| ((score - center) / half, targets[usize::from(*p)]))
            .collect();
        let (slope, offset) = logistic(&items, (positives / negatives).ln());
        let a = -slope / half;
        Ok(Some(Self {
            a,
            b: -offset - a * center,
        }))
    }

    /// The probability of positive.
    pub fn apply(&self, score: f64) -> f64 {
        sigmoid(-(self.a * score + self.b))
    }
}

/// The slope and offset of the least logistic loss of (x, target), by Newton's steps, halved while they do not help (Lin, Lin and Weng,
/// 2007). Targets are neither 0 nor 1 and some x differ, so that there is one least.
fn logistic(items: &[(f64, f64)], offset: f64) -> (f64, f64) {
    // ln(1 + exp(z)) - target z.
    let loss_at = |z: f64, target: f64| z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z;
    let loss = |(slope, offset): (f64, f64)| -> f64 {
        let each = items
            .iter()
            .map(|(x, target)| loss_at(slope * x + offset, *target));
        each.sum()
    };
    let mut best = (0.0, offset);
    let mut least = loss(best);
    for _ in 0..100 {
        let (mut g, mut h) = ([0.0; 2], [0.0; 3]);
        for (x, target) in items {
            let p = sigmoid(best.0 * x + best.1);
            let (error, weight) = (p - target, p * (1.0 - p));
            g = [g[0] + error * x, g[1] + error];
            h = [h[0] + weight * x * x, h[1] + weight * x, h[2] + weight];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        let step = (
            (h[2] * g[0] - h[1] * g[1]) / determinant,
            (h[0] * g[1] - h[1] * g[0]) / determinant,
        );
        // Near the end the loss is too flat to tell a better place, the gradient is not.
        if g[0] * step.0 + g[1] * step.1 < 1e-6 * least {
            best = (best.0 - step.0, best.1 - step.1);
            if step.0.abs().max(step.1.abs()) <= 1e-14 * (1.0 + best.0.abs() + best.1.abs()) {
                return best;
            }
            continue;
        }
        let halves = (0..50).map(|k| 0.5_f64.powi(k));
        let tried = halves.map(|share| (best.0 - share * step.0, best.1 - share * step.1));
        let Some(next) = tried.into_iter().find(|next| loss(*next) < least) else {
            return best;
        };
        (best, least) = (next, loss(next));
    }
    best
}

fn range(values: &[f64]) -> (f64, f64) {
    let each = values.iter().copied();
    each.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    })
}

/// The probability of positive rises with the score in the way that fits best, with straight lines between the scores it was fitted on and
/// level beyond them (scikit-learn's `IsotonicRegression(out_of_bounds="clip")`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Knots")]
pub struct Isotonic {
    scores: Vec<f64>,
    probabilities: Vec<f64>,
}

/// What a file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Knots {
    /// Rising.
    scores: Vec<f64>,
    /// At each; they do not fall.
    probabilities: Vec<f64>,
}

impl TryFrom<Knots> for Isotonic {
    type Error = Error;

    fn try_from(knots: Knots) -> Result<Self> {
        finite("scores", &knots.scores)?;
        probabilities(&knots.probabilities)?;
        same_length(
            "probabilities",
            knots.scores.len(),
            knots.probabilities.len(),
        )?;
        let rises = knots.scores.is_sorted_by(|a, b| a < b) && knots.probabilities.is_sorted();
        if knots.scores.is_empty() || !rises {
            return Err(Error::BadArgument(
                "an isotonic calibration needs rising scores and probabilities that do not fall"
                    .into(),
            ));
        }
        Ok(Self {
            scores: knots.scores,
            probabilities: knots.probabilities,
        })
    }
}

impl Isotonic {
    /// By pooling adjacent violators (Ayer et al., 1955). `None` where a class is absent or all scores are equal.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ or a score is not finite.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Result<Option<Self>> {
        same_length("labels", scores.len(), positive.len())?;
        finite("scores", scores)?;
        let (low, high) = range(scores);
        if low == high || !positive.contains(&true) || !positive.contains(&false) {
            return Ok(None);
        }
        let mut items: Vec<(f64, bool)> = scores
            .iter()
            .copied()
            .zip(positive.iter().copied())
            .collect();
        items.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut pools: Vec<Pool> = Vec::new();
        for tied in items.chunk_by(|a, b| a.0 == b.0) {
            let mut pool = Pool {
                first: tied[0].0,
                last: tied[0].0,
                count: tied.len(),
                positives: tied.iter().filter(|(_, p)| *p).count(),
            };
            while let Some(below) = pools.pop_if(|below| !below.is_below(&pool)) {
                pool = below.with(&pool);
            }
            pools.push(pool);
        }
        let ends = |pool: &Pool| {
            let probability = pool.positives as f64 / pool.count as f64;
            let both = [(pool.first, probability), (pool.last, probability)];
            both.into_iter()
                .take(1 + usize::from(pool.first < pool.last))
        };
        let (scores, probabilities) = pools.iter().flat_map(ends).unzip();
        Ok(Some(Self {
            scores,
            probabilities,
        }))
    }

    /// The probability of positive.
    pub fn apply(&self, score: f64) -> f64 {
        let above = self.scores.partition_point(|own| *own < score);
        let last = self.scores.len() - 1;
        if above == 0 || above > last {
            return self.probabilities[above.min(last)];
        }
        let at = |i: usize| (self.scores[i], self.probabilities[i]);
        let ((x0, y0), (x1, y1)) = (at(above - 1), at(above));
        // Halved, since the distance of two finite numbers need not be one.
        y0 + (y1 - y0) * ((score / 2.0 - x0 / 2.0) / (x1 / 2.0 - x0 / 2.0))
    }
}

/// Items with one probability.
struct Pool {
    first: f64,
    last: f64,
    count: usize,
    positives: usize,
}

impl Pool {
    /// Compared as whole numbers, so that equal shares are equal.
    fn is_below(&self, other: &Self) -> bool {
        (self.positives as u128 * other.count as u128)
            < other.positives as u128 * self.count as u128
    }

    fn with(&self, above: &Self) -> Self {
        Self {
            first: self.first,
            last: above.last,
            count: self.count + above.count,
            positives: self.positives + above.positives,
        }
    }
}

/// The probabilities of C classes are softmax(logits / temperature) (Guo et al., 2017, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// Above zero; above 1 where the logits were too sure.
    #[serde(deserialize_with = "above_zero")]
    pub temperature: f64,
}

fn above_zero<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(D::Error::custom("a temperature is finite and above zero"))
}

impl Temperature {
    /// The temperature of the least log loss of `logits` (N, C). `None` where there is none: every item's class has the highest
    /// logit (the colder the better), or logits point no more to the class than away from it (the warmer the better), as where all are
    /// equal.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ, a logit is not finite or a label is no class.
    pub fn fit(logits: &[f64], labels: &[usize], classes: usize) -> Result<Option<Self>> {
        rows(logits, labels, classes)?;
        finite("logits", logits)?;
        // Distances from the highest of the row.
        let row = |(row, label): (&[f64], &usize)| {
            let (_, high) = range(row);
            (row.iter().map(|z| z - high).collect(), row[*label] - high)
        };
        let items: Vec<(Vec<f64>, f64)> =
            logits.chunks_exact(classes).zip(labels).map(row).collect();
        for (row, _) in &items {
            finite("distances of logits", row)?;
        }
        let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
        let uniform: f64 = items.iter().map(|(row, own)| mean(row) - own).sum();
        if uniform >= 0.0 || items.iter().all(|(_, own)| *own == 0.0) {
            return Ok(None);
        }
        Ok(Some(Self {
            temperature: 1.0 / coldness(&items),
        }))
    }

    /// The probabilities of C logits.
    pub fn apply(&self, logits: &[f64]) -> Vec<f64> {
        let (_, high) = range(logits);
        let weights = logits.iter().map(|z| ((z - high) / self.temperature).exp());
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}

/// One over the temperature, at which the loss of (logits, logit of the class) is level. Its slope rises from below 0 to above: Newton's
/// steps, or the middle where they leave what is known to hold the root.
fn coldness(items: &[(Vec<f64>, f64)]) -> f64 {
    // The mean of the logits less that of the class, and their variance, summed over items.
    let slope = |cold: f64| {
        let each = items.iter().map(|(row, own)| {
            let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
            for z in row {
                let weight = (cold * z).exp();
                (sum, first, second) = (sum + weight, first + weight * z, second + weight * z * z);
            }
            let mean = first / sum;
            (mean - own, second / sum - mean * mean)
        });
        each.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let (mut low, mut high) = (0.0, 1.0);
    while slope(high).0 < 0.0 && high < f64::MAX / 2.0 {
        (low, high) = (high, high * 2.0);
    }
    let mut cold = low / 2.0 + high / 2.0;
    for _ in 0..200 {
        let (value, rise) = slope(cold);
        if value < 0.0 {
            low = cold;
        } else {
            high = cold;
        }
        let newton = cold - value / rise;
        let next = if newton > low && newton < high {
            newton
        } else {
            low / 2.0 + high / 2.0
        };
        if (next - cold).abs() <= 4.0 * f64::EPSILON * cold {
            return next;
        }
        cold = next;
    }
    cold
}
