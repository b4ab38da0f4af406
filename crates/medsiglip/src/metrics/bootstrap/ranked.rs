//! AUROC and average precision of many bootstrap samples at a time.
//!
//! A sample is a count for every unit, so that a ranking is sorted once and walked with counts instead of ones. 64 samples are walked
//! side by side: their counts of a unit are 64 bytes, a line of cache, and every sum below is a vector of 64.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::Bootstrap;
use crate::metrics::Ranking;

/// Samples side by side.
const LANES: usize = 64;
/// Counts of one unit.
type Counts = [u8; LANES];
/// Bytes of counts held at a time.
const BYTES: usize = 1 << 27;

/// Of every ranking the two measures on every sample.
pub(super) fn draw(
    bootstrap: &Bootstrap,
    rankings: &[Ranking],
) -> Vec<(Vec<Option<f64>>, Vec<Option<f64>>)> {
    let walks: Vec<Walk> = rankings
        .par_iter()
        .map(|ranking| Walk::new(ranking, &bootstrap.unit_of))
        .collect();
    let mut all = vec![(Vec::new(), Vec::new()); rankings.len()];
    let at_a_time = (BYTES / (LANES * bootstrap.units().max(1))).max(1) * LANES;
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
        let mut table = vec![[0; LANES]; bootstrap.units()];
        table
            .par_chunks_mut(UNITS)
            .enumerate()
            .for_each(|(chunk, rows)| {
                for (lane, sample) in samples.iter().enumerate() {
                    for (row, count) in rows.iter_mut().zip(&sample[chunk * UNITS..]) {
                        row[lane] = *count;
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
        Arch::new().dispatch(|| self.walk(table))
    }

    #[inline(always)]
    fn walk(&self, table: &[Counts]) -> Sums {
        let mut sums = Sums::default();
        let mut at = 0;
        for step in &self.steps {
            let mut add = |to: &mut [i32; LANES], end: u32| {
                let mut sum = *to;
                for unit in &self.units[at..end as usize] {
                    let counts = &table[*unit as usize];
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
