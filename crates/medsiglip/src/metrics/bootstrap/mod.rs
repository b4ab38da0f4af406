//! Intervals and paired tests by drawing the items again, whole groups at a time.

mod ranked;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ITEM_LIMIT, Ranking, level_of_confidence, quantile, same_length};
use crate::{Error, Result};

/// A measure and where it would lie in most samples like this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the sample itself.
    pub value: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Bootstrap samples on which the measure has no value, as where a rare class was not drawn. The interval is that of the
    /// others: where these are many, draw within classes ([`Resampling::strata`]) or do not trust it.
    #[serde(default)]
    pub without_value: usize,
}

impl Estimate {
    pub(super) fn new(value: f64, low: f64, high: f64) -> Self {
        Self {
            value,
            low,
            high,
            without_value: 0,
        }
    }
}

/// How samples are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Resampling<'a> {
    /// The group of every item, such as its patient, as any number: groups are drawn whole, since items of one patient say little more
    /// than one of them. `None`: each item is its own.
    pub groups: Option<&'a [usize]>,
    /// The stratum of every item, such as its class, as any number: as many groups are drawn from each stratum as it has. `None`: all
    /// are one.
    pub strata: Option<&'a [usize]>,
    /// Samples, 2000 by default.
    pub replicates: usize,
    /// Equal seeds give equal samples, on any number of threads.
    pub seed: u64,
}

impl Default for Resampling<'_> {
    fn default() -> Self {
        Self {
            groups: None,
            strata: None,
            replicates: 2000,
            seed: 0,
        }
    }
}

/// Samples of N items with replacement (Efron and Tibshirani, 1993). All measures, findings and encoders see the same ones, so that
/// their differences are paired.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// What every item is drawn with. Groups of one stratum have consecutive numbers.
    unit_of: Vec<u32>,
    strata: Vec<Range<u32>>,
    replicates: usize,
    seed: u64,
}

impl Bootstrap {
    /// Of `items` items.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ, or a group has items of two strata; `LIMIT_EXCEEDED` for more than 2^27 items or a million
    /// samples.
    pub fn new(items: usize, how: &Resampling) -> Result<Self> {
        for (what, got, limit) in [
            ("number of items", items, ITEM_LIMIT),
            ("number of bootstrap samples", how.replicates, 1_000_000),
        ] {
            if got > limit {
                let (got, limit) = (got as u64, limit as u64);
                return Err(Error::Limit { what, got, limit });
            }
        }
        same_length("groups", items, how.groups.map_or(items, <[_]>::len))?;
        same_length("strata", items, how.strata.map_or(items, <[_]>::len))?;
        let (unit_of, stratum_of) = units(items, how)?;
        let mut order: Vec<u32> = (0..stratum_of.len() as u32).collect();
        order.sort_by_key(|unit| stratum_of[*unit as usize]);
        let mut number = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            number[*old as usize] = new as u32;
        }
        let mut start = 0;
        let same = |a: &u32, b: &u32| stratum_of[*a as usize] == stratum_of[*b as usize];
        let strata = order.chunk_by(same).map(|units| {
            start += units.len() as u32;
            start - units.len() as u32..start
        });
        Ok(Self {
            strata: strata.collect(),
            unit_of: unit_of.iter().map(|unit| number[*unit as usize]).collect(),
            replicates: how.replicates,
            seed: how.seed,
        })
    }

    /// How many items it draws among.
    pub fn items(&self) -> usize {
        self.unit_of.len()
    }

    /// Groups, or items where there are none.
    pub fn units(&self) -> usize {
        self.strata.last().map_or(0, |last| last.end as usize)
    }

    /// How often every unit is in a sample. A count above 255 has a chance below 1e-500.
    fn draw(&self, replicate: usize) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(replicate as u64);
        let mut counts = vec![0_u8; self.units()];
        for stratum in &self.strata {
            let counts = &mut counts[stratum.start as usize..stratum.end as usize];
            let Ok(any) = Uniform::new(0, counts.len() as u32) else {
                continue;
            };
            for _ in 0..counts.len() {
                let count = &mut counts[any.sample(&mut random) as usize];
                *count = count.saturating_add(1);
            }
        }
        counts
    }

    /// What `of` makes of every sample, given the numbers of its items: a number stands there as often as it was drawn.
    ///
    /// # Errors
    /// The first of `of`.
    pub fn each<T: Send>(&self, of: impl Fn(&[usize]) -> Result<T> + Sync) -> Result<Vec<T>> {
        let sample = |replicate| {
            let counts = self.draw(replicate);
            let times = |item: usize| usize::from(counts[self.unit_of[item] as usize]);
            let items = 0..self.unit_of.len();
            items
                .flat_map(|item| std::iter::repeat_n(item, times(item)))
                .collect()
        };
        (0..self.replicates)
            .into_par_iter()
            .map(|replicate| {
                let items: Vec<usize> = sample(replicate);
                of(&items)
            })
            .collect()
    }

    /// A measure, given the numbers of items, on all items and on every sample.
    ///
    /// # Errors
    /// The first of `measure`.
    pub fn measure(
        &self,
        measure: impl Fn(&[usize]) -> Result<Option<f64>> + Sync,
    ) -> Result<Samples> {
        let mut one = self.measures(|items| Ok(vec![measure(items)?]))?;
        Ok(one.remove(0))
    }

    /// Several measures at once, such as all that follow from one confusion matrix, or a curve at some places for its band.
    ///
    /// # Errors
    /// The first of `measures`; `BAD_ARGUMENT` where it gives another number of them on a sample than on all items.
    pub fn measures(
        &self,
        measures: impl Fn(&[usize]) -> Result<Vec<Option<f64>>> + Sync,
    ) -> Result<Vec<Samples>> {
        let all: Vec<usize> = (0..self.unit_of.len()).collect();
        let values = measures(&all)?;
        let drawn = self.each(|items| {
            let on_sample = measures(items)?;
            if on_sample.len() == values.len() {
                return Ok(on_sample);
            }
            Err(Error::BadArgument(format!(
                "expected {} measures on every sample, got {}",
                values.len(),
                on_sample.len()
            )))
        })?;
        let of = |k: usize| drawn.iter().map(|one| one[k]).collect();
        let each = values.iter().enumerate();
        Ok(each.map(|(k, value)| self.samples(*value, of(k))).collect())
    }

    /// AUROC and average precision of several findings of the same items: equal to [`Bootstrap::measure`] on each sample,
    /// and many times as fast, since nothing is sorted again.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a ranking is of another number of items.
    pub fn rankings(&self, rankings: &[Ranking]) -> Result<Vec<RankingSamples>> {
        for ranking in rankings {
            same_length("scores", self.unit_of.len(), ranking.count)?;
        }
        let drawn = ranked::draw(self, rankings, ranked::BYTES);
        let with_value = drawn.into_iter().zip(rankings);
        Ok(with_value
            .map(|((roc_auc, average_precision), ranking)| RankingSamples {
                roc_auc: self.samples(ranking.roc_auc(), roc_auc),
                average_precision: self.samples(ranking.average_precision(), average_precision),
            })
            .collect())
    }

    fn samples(&self, value: Option<f64>, replicates: Vec<Option<f64>>) -> Samples {
        let mut drawn = DefaultHasher::new();
        (&self.unit_of, &self.strata, self.seed).hash(&mut drawn);
        Samples {
            value,
            replicates,
            drawn: drawn.finish(),
        }
    }
}

/// The unit of every item, and the stratum of every unit.
fn units(items: usize, how: &Resampling) -> Result<(Vec<u32>, Vec<usize>)> {
    let mut of_group: HashMap<usize, u32> = HashMap::new();
    let mut unit_of = Vec::with_capacity(items);
    let mut stratum_of = Vec::new();
    for item in 0..items {
        let stratum = how.strata.map_or(0, |strata| strata[item]);
        let new = stratum_of.len() as u32;
        let unit = match how.groups {
            Some(groups) => *of_group.entry(groups[item]).or_insert(new),
            None => new,
        };
        if unit == new {
            stratum_of.push(stratum);
        } else if stratum_of[unit as usize] != stratum {
            return Err(Error::BadArgument(format!(
                "item {item} (from 0) is of another stratum than others of its group; give all of a group one, such as whether any is positive"
            )));
        }
        unit_of.push(unit);
    }
    Ok((unit_of, stratum_of))
}

/// A ranking's measures on all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingSamples {
    /// [`Ranking::roc_auc`].
    pub roc_auc: Samples,
    /// [`Ranking::average_precision`].
    pub average_precision: Samples,
}

/// A measure on all items and on every bootstrap sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// On all items.
    pub value: Option<f64>,
    /// On every sample.
    pub replicates: Vec<Option<f64>>,
    /// Tells samples apart that were drawn in another way.
    drawn: u64,
}

impl Samples {
    /// The percentile interval at `level`, such as 0.95 (Efron and Tibshirani, 1993, chapter 13). `None` where the measure has no
    /// value on all items, or on no sample.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `level` is not between 0 and 1.
    pub fn estimate(&self, level: f64) -> Result<Option<Estimate>> {
        level_of_confidence(level)?;
        let mut sorted: Vec<f64> = self.replicates.iter().flatten().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - level) / 2.0;
        let value = self.value.filter(|_| !sorted.is_empty());
        Ok(value.map(|value| Estimate {
            value,
            low: quantile(&sorted, tail),
            high: quantile(&sorted, 1.0 - tail),
            without_value: self.replicates.len() - sorted.len(),
        }))
    }

    /// This less `other`, sample by sample: the paired bootstrap of a difference, as of two encoders on the same items.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where they are not of the same samples.
    pub fn minus(&self, other: &Self) -> Result<Self> {
        Self::joined(&[self, other], |values| values[0] - values[1])
    }

    /// The mean of several, sample by sample, as of all findings or of all classes. No value where one has none.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where they are not of the same samples, or there are none.
    pub fn mean(all: &[&Self]) -> Result<Self> {
        Self::joined(all, |values| {
            values.iter().sum::<f64>() / values.len() as f64
        })
    }

    fn joined(all: &[&Self], of: impl Fn(&[f64]) -> f64) -> Result<Self> {
        let Some(first) = all.first() else {
            return Err(Error::BadArgument(
                "a mean needs a measure, got none".into(),
            ));
        };
        let key = |samples: &Self| (samples.drawn, samples.replicates.len());
        if all.iter().any(|other| key(other) != key(first)) {
            return Err(Error::BadArgument(
                "measures of different bootstrap samples cannot be paired; draw them with the same seed, items, groups and strata".into(),
            ));
        }
        let join = |values: Option<Vec<f64>>| values.map(|values| of(&values));
        let at = |i: usize| join(all.iter().map(|samples| samples.replicates[i]).collect());
        Ok(Self {
            value: join(all.iter().map(|samples| samples.value).collect()),
            replicates: (0..first.replicates.len()).map(at).collect(),
            drawn: first.drawn,
        })
    }

    /// The chance of a value as far from 0 in either direction where the truth is 0: twice the share of samples on the other
    /// side of 0, or on it, which is where the percentile interval begins to hold 0 (Efron and Tibshirani, 1993, chapter 15). Counts
    /// are one up, so that it is never 0 (Davison and Hinkley, 1997, equation 4.11). `None` where there is no value.
    pub fn p_value(&self) -> Option<f64> {
        let all: Vec<f64> = self.replicates.iter().flatten().copied().collect();
        let share = |side: fn(&f64) -> bool| {
            (1.0 + all.iter().filter(|v| side(v)).count() as f64) / (1.0 + all.len() as f64)
        };
        let least = share(|v| *v <= 0.0).min(share(|v| *v >= 0.0));
        (self.value.is_some() && !all.is_empty()).then(|| (2.0 * least).min(1.0))
    }
}
