//! Measures of scores beside labels, with intervals.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Area under the receiver operating characteristic: how often a positive scores above a negative, ties counted half
/// (the Mann-Whitney statistic; scikit-learn's `roc_auc_score`). `None` where there is no positive or no negative.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), positive.len());
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let negatives = scores.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut rank_sum = 0.0;
    let mut below = 0;
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let rank = below as f64 + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += rank * tied.iter().filter(|i| positive[**i]).count() as f64;
        below += tied.len();
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// The mean of every class's AUROC against all others (scikit-learn's `multi_class="ovr"`, `average="macro"`); `None`
/// where a class has no positive or no negative. `scores` has a row of C scores an item.
pub fn macro_auroc(scores: &[Vec<f64>], labels: &[usize], classes: usize) -> Option<f64> {
    let of = |class: usize| {
        let column: Vec<f64> = scores.iter().map(|row| row[class]).collect();
        let positive: Vec<bool> = labels.iter().map(|label| *label == class).collect();
        auroc(&column, &positive)
    };
    let aurocs: Option<Vec<f64>> = (0..classes).map(of).collect();
    let aurocs = aurocs.filter(|all| !all.is_empty())?;
    Some(aurocs.iter().sum::<f64>() / aurocs.len() as f64)
}

/// A measure and where it would lie in 95 of 100 samples like this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the sample itself.
    pub value: f64,
    /// 2.5 % of the bootstrap samples are below.
    pub low: f64,
    /// 2.5 % of the bootstrap samples are above.
    pub high: f64,
}

/// Bootstrap samples of an interval.
const SAMPLES: usize = 2000;

/// `measure` of all items, with its percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13): items are
/// drawn with replacement, whole groups at a time, since items of one patient say little more than one of them.
/// `None` where the measure has no value on the sample.
pub fn bootstrap(
    groups: &[usize],
    seed: u64,
    measure: impl Fn(&[usize]) -> Option<f64>,
) -> Option<Estimate> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.iter().max().map_or(0, |g| g + 1)];
    for (item, group) in groups.iter().enumerate() {
        members[*group].push(item);
    }
    members.retain(|group| !group.is_empty());
    let all: Vec<usize> = (0..groups.len()).collect();
    let value = measure(&all)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sample = Vec::with_capacity(groups.len());
    let mut values: Vec<f64> = (0..SAMPLES)
        .filter_map(|_| {
            sample.clear();
            for _ in 0..members.len() {
                sample.extend_from_slice(&members[random.random_range(0..members.len())]);
            }
            measure(&sample)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 - 1.0) * share).round() as usize);
    Some(Estimate {
        value,
        low: *at(0.025)?,
        high: *at(0.975)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auroc_counts_pairs() {
        let scores = [0.1, 0.4, 0.4, 0.8, 0.2];
        let positive = [false, true, false, true, false];
        // Of six pairs five are right, and one is a tie.
        assert_eq!(auroc(&scores, &positive), Some(5.5 / 6.0));
        assert_eq!(auroc(&scores, &[true; 5]), None);
        assert_eq!(auroc(&[], &[]), None);
    }

    #[test]
    fn macro_auroc_is_that_of_all_classes_or_none() {
        let scores = [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.7, 0.3, 0.0]].map(Vec::from);
        assert_eq!(macro_auroc(&scores, &[0, 1, 0], 2), Some(1.0));
        // The last two classes: one of two pairs is right in each.
        assert_eq!(macro_auroc(&scores, &[0, 0, 1], 2), Some(0.5));
        assert_eq!(macro_auroc(&scores, &[0, 1, 0], 3), None);
        assert_eq!(macro_auroc(&scores, &[0, 0, 0], 2), None);
    }

    #[test]
    fn the_interval_of_a_mean_has_the_width_of_theory() {
        let items: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let mean = |at: &[usize]| Some(at.iter().map(|i| items[*i]).sum::<f64>() / at.len() as f64);
        let groups: Vec<usize> = (0..400).collect();
        let estimate = bootstrap(&groups, 1, mean).unwrap();
        assert_eq!(estimate.value, 0.5);
        // 1.96 sqrt(0.25 / 400) = 0.049.
        assert!(
            (estimate.high - estimate.low - 0.098).abs() < 0.012,
            "{estimate:?}"
        );
        // Two hundred groups of two equal items: as wide as for two hundred items.
        let pairs: Vec<usize> = (0..400).map(|i| i / 4 * 2 + i % 2).collect();
        let wider = bootstrap(&pairs, 1, mean).unwrap();
        assert!((wider.high - wider.low - 0.139).abs() < 0.016, "{wider:?}");
    }
}
