//! AUROC and average precision of many bootstrap samples at a time.
//!
//! A sample is a count for every unit, so that a ranking is sorted once and walked with counts instead of ones. 64 samples are walked
//! side by side: their counts of a unit are 64 bytes, a line of cache, and every sum below is a vector of 64.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Bootstrap;
use crate::metrics::Ranking;

/// Samples side by side.
const LANES: usize = 64;
/// Counts of one unit.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Counts([u8; LANES]);
/// Bytes of counts to hold at a time.
pub(super) const BYTES: usize = 1 << 27;

/// AUROC and average precision of every sample.
type Measures = (Vec<Option<f64>>, Vec<Option<f64>>);

/// Of every ranking the two measures on every sample, with some `bytes` of counts at a time.
pub(super) fn draw(bootstrap: &Bootstrap, rankings: &[Ranking], bytes: usize) -> Vec<Measures> {
    let walks: Vec<Walk> = rankings
        .par_iter()
        .map(|ranking| Walk::new(ranking, &bootstrap.unit_of))
        .collect();
    let mut all = vec![(Vec::new(), Vec::new()); rankings.len()];
    let at_a_time = (bytes / (LANES * bootstrap.units().max(1))).max(1) * LANES;
    for first in (0..bootstrap.replicates).step_by(at_a_time) {
        let replicates = first..(first + at_a_time).min(bootstrap.replicates);
        let tables = tables(bootstrap, replicates.clone());
        let tasks = (0..walks.len() * tables.len()).into_par_iter();
        let sums: Vec<Sums> = tasks
            .map(|task| walks[task / tables.len()].sums(&tables[task % tables.len()]))
            .collect();
        for (sums, all) in sums.chunks_exact(tables.len()).zip(&mut all) {
            let lanes = sums.iter().flat_map(Sums::measures);
            for (roc_auc, average_precision) in lanes.take(replicates.len()) {
                all.0.push(roc_auc);
                all.1.push(average_precision);
            }
        }
    }
    all
}

/// The counts of some samples, by 64 of them and by units; what is over of the last 64 is zero.
fn tables(bootstrap: &Bootstrap, replicates: Range<usize>) -> Vec<Vec<Counts>> {
    /// Units that are turned over at a time, in the fastest cache.
    const UNITS: usize = 64;
    let drawn: Vec<Vec<u8>> = replicates
        .into_par_iter()
        .map(|replicate| bootstrap.draw(replicate))
        .collect();
    let turned = |samples: &[Vec<u8>]| {
        let mut table = vec![Counts([0; LANES]); bootstrap.units()];
        table
            .par_chunks_mut(UNITS)
            .enumerate()
            .for_each(|(chunk, rows)| {
                for (lane, sample) in samples.iter().enumerate() {
                    for (row, count) in rows.iter_mut().zip(&sample[chunk * UNITS..]) {
                        row.0[lane] = *count;
                    }
                }
            });
        table
    };
    drawn.chunks(LANES).map(turned).collect()
}

/// A ranking as a list of units from the highest score to the lowest.
struct Walk {
    units: Vec<u32>,
    steps: Vec<Step>,
}

/// Ends in the list of units.
#[derive(Clone, Copy, Default)]
struct Step {
    /// Of negatives above any score that a positive has: nothing has to be done between them.
    negatives: u32,
    /// Of negatives that are tied with a positive.
    tied: u32,
    /// Of the positives that they are tied with.
    positives: u32,
}

impl Walk {
    fn new(ranking: &Ranking, unit_of: &[u32]) -> Self {
        let mut units: Vec<u32> = Vec::with_capacity(ranking.items.len());
        let mut steps = Vec::new();
        let mut step = Step::default();
        for tied in ranking.ties() {
            let of = |wanted: bool| {
                let here = tied.clone().filter(move |i| ranking.positive[*i] == wanted);
                here.map(|i| unit_of[ranking.items[i] as usize])
            };
            let has_positive = ranking.positive[tied.clone()].contains(&true);
            if has_positive {
                step.negatives = units.len() as u32;
            }
            units.extend(of(false));
            if has_positive {
                step.tied = units.len() as u32;
                units.extend(of(true));
                step.positives = units.len() as u32;
                steps.push(step);
            }
        }
        let end = units.len() as u32;
        steps.push(Step {
            negatives: end,
            tied: end,
            positives: end,
        });
        Self { units, steps }
    }

    fn sums(&self, table: &[Counts]) -> Sums {
        Arch::new().dispatch(Task { walk: self, table })
    }
}

struct Task<'a> {
    walk: &'a Walk,
    table: &'a [Counts],
}

impl WithSimd for Task<'_> {
    type Output = Sums;

    /// Plain loops over the lanes, compiled for each instruction set.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let Self { walk, table } = self;
        let mut sums = Sums::default();
        let mut at = 0;
        for step in &walk.steps {
            let mut add = |to: &mut [i32; LANES], end: u32| {
                let mut sum = *to;
                for unit in &walk.units[at..end as usize] {
                    let Counts(counts) = &table[*unit as usize];
                    for lane in 0..LANES {
                        sum[lane] += i32::from(counts[lane]);
                    }
                }
                *to = sum;
                at = end as usize;
            };
            let (mut tied, mut here) = ([0; LANES], [0; LANES]);
            add(&mut sums.negatives, step.negatives);
            add(&mut tied, step.tied);
            add(&mut here, step.positives);
            for lane in 0..LANES {
                let found = f64::from(here[lane]);
                sums.wrong[lane] +=
                    found * (2.0 * f64::from(sums.negatives[lane]) + f64::from(tied[lane]));
                sums.negatives[lane] += tied[lane];
                sums.positives[lane] += here[lane];
                let positives = f64::from(sums.positives[lane]);
                let called = positives + f64::from(sums.negatives[lane]);
                // Where nothing is called positive nothing was found: 0 * (0 / 1).
                sums.precision[lane] += found * (positives / called.max(1.0));
            }
        }
        sums
    }
}

/// What is counted of 64 samples.
struct Sums {
    positives: [i32; LANES],
    negatives: [i32; LANES],
    /// Twice the pairs in the wrong order; whole numbers.
    wrong: [f64; LANES],
    /// The precision at every positive.
    precision: [f64; LANES],
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            positives: [0; LANES],
            negatives: [0; LANES],
            wrong: [0.0; LANES],
            precision: [0.0; LANES],
        }
    }
}

impl Sums {
    /// AUROC and average precision of every sample, in the words of [`Ranking::roc_auc`].
    fn measures(&self) -> impl Iterator<Item = (Option<f64>, Option<f64>)> {
        (0..LANES).map(|lane| {
            let positives = f64::from(self.positives[lane]);
            let pairs = 2.0 * positives * f64::from(self.negatives[lane]);
            let has_both = pairs > 0.0;
            (
                has_both.then(|| (pairs - self.wrong[lane]) / pairs),
                has_both.then(|| self.precision[lane] / positives),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Resampling;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_each_sample_ranked_anew(
            items in prop::collection::vec((0u8..9, 0u8..4, 0usize..20), 0..60),
            replicates in 0usize..200,
            grouped: bool,
            stratified: bool,
        ) {
            let scores: Vec<f64> = items.iter().map(|(score, ..)| f64::from(*score)).collect();
            // A quarter is positive, and a quarter without label.
            let label = |of: u8| (of > 0).then_some(of == 1);
            let labels: Vec<_> = items.iter().map(|(_, of, _)| label(*of)).collect();
            let groups: Vec<usize> = items.iter().map(|(.., group)| *group).collect();
            let strata: Vec<usize> = groups.iter().map(|group| group % 3).collect();
            let how = Resampling {
                groups: grouped.then_some(&groups[..]),
                strata: stratified.then_some(&strata[..]),
                replicates,
                seed: 3,
            };
            let bootstrap = Bootstrap::new(items.len(), &how).unwrap();
            let ranking = Ranking::labelled(&scores, &labels).unwrap();
            let anew = bootstrap.each(|at| {
                let scores: Vec<f64> = at.iter().map(|i| scores[*i]).collect();
                let labels: Vec<_> = at.iter().map(|i| labels[*i]).collect();
                let ranking = Ranking::labelled(&scores, &labels)?;
                Ok((ranking.roc_auc(), ranking.average_precision()))
            });
            let anew: (Vec<_>, Vec<_>) = anew.unwrap().into_iter().unzip();
            let rankings = [ranking.clone(), ranking];
            for bytes in [1, BYTES] {
                prop_assert_eq!(draw(&bootstrap, &rankings, bytes), vec![anew.clone(), anew.clone()]);
            }
        }
    }

    #[test]
    fn a_stratum_has_as_many_draws_as_groups() {
        let groups = [5, 5, 6, 7, 8, 9, 9];
        let strata = [1, 1, 0, 1, 0, 1, 1];
        let how = Resampling {
            groups: Some(&groups),
            strata: Some(&strata),
            replicates: 50,
            ..Resampling::default()
        };
        let bootstrap = Bootstrap::new(7, &how).unwrap();
        let drawn = |at: &[usize]| {
            // Items of a group come together; count its first.
            let times = |item: usize| at.iter().filter(|i| **i == item).count();
            assert_eq!((times(0), times(5)), (times(1), times(6)));
            Ok((times(0) + times(3) + times(5), times(2) + times(4)))
        };
        assert_eq!(bootstrap.each(drawn).unwrap(), vec![(3, 2); 50]);
    }
}
