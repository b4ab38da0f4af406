//! [`Mixture`]: which example the draw with a given number is.
//!
//! A source is drawn with a probability in proportion to its weight, independently for each draw. The k-th draw of a
//! source is the k-th place in its sequence of epochs, each a new order of all its examples. The state of the whole is thus
//! one number, the next draw.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::random::{Purpose, generator};
use super::{Location, Side, Source};
use crate::{Error, Result};

/// The part of a source that is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The source's name, for messages.
    pub name: String,
    /// Its weight, relative to the sum of all.
    pub weight: f64,
    /// Places of the examples in the source, by shard; one entry where there are no shards.
    blocks: Vec<Vec<u32>>,
    /// Examples that are shuffled together: those of the buffer for shards, else all.
    window: usize,
}

impl Pool {
    /// The examples of `source` whose side is [`Side::Train`], but for the places in `left_out`.
    pub fn training(source: &Source, sides: &[Side], left_out: &HashSet<usize>) -> Self {
        let mut blocks: BTreeMap<Option<&Path>, Vec<u32>> = BTreeMap::new();
        for (place, (example, side)) in source.examples.iter().zip(sides).enumerate() {
            if *side != Side::Train || left_out.contains(&place) {
                continue;
            }
            let shard = match &example.picture {
                Location::Member { shard, .. } => Some(shard.as_ref()),
                _ => None,
            };
            blocks.entry(shard).or_default().push(place as u32);
        }
        Self {
            name: source.config.name.clone(),
            weight: source.config.weight,
            blocks: blocks.into_values().collect(),
            window: match source.config.shards {
                Some(_) => source.config.shuffle_buffer,
                None => usize::MAX,
            },
        }
    }

    /// How many examples there are to draw from.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The places in the order of one epoch. Files are shuffled as a whole. Of shards the order is drawn, then their
    /// samples are shuffled within windows: as a buffer that is filled, shuffled and emptied, so that reads stay near to
    /// each other.
    fn order(&self, seed: u64, source: u64, epoch: u64) -> Arc<[u32]> {
        let place = [source, epoch];
        let mut blocks: Vec<&Vec<u32>> = self.blocks.iter().collect();
        blocks.shuffle(&mut generator(seed, Purpose::Shards, place));
        let mut order: Vec<u32> = blocks.into_iter().flatten().copied().collect();
        let mut random = generator(seed, Purpose::Order, place);
        order
            .chunks_mut(self.window)
            .for_each(|window| window.shuffle(&mut random));
        order.into()
    }
}

/// One draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Its number.
    pub index: u64,
    /// The source.
    pub source: usize,
    /// How often the source was gone through before.
    pub epoch: u64,
    order: Arc<[u32]>,
    position: usize,
}

impl Draw {
    /// The example's place in its source.
    pub fn example(&self) -> usize {
        self.order[self.position] as usize
    }

    /// The example, then those that stand for it one after the other where it cannot be read: the next of the epoch.
    pub fn candidates(&self) -> impl Iterator<Item = usize> {
        let count = self.order.len();
        (0..count).map(move |i| self.order[(self.position + i) % count] as usize)
    }
}

/// Draws from several sources by weight.
#[derive(Debug, Clone)]
pub struct Mixture {
    seed: u64,
    pools: Vec<Pool>,
    /// Upper ends of the sources' parts of 0..1.
    ends: Vec<f64>,
    /// The next draw, and how many of each source came before it.
    next: u64,
    counts: Vec<u64>,
    numbers: ChaCha8Rng,
    orders: Vec<Option<(u64, Arc<[u32]>)>>,
}

impl Mixture {
    /// A mixture of `pools`, one for each source, in their order.
    ///
    /// # Errors
    /// `BAD_CONFIG` where no weight is above 0, or a source has a weight and no example.
    pub fn new(pools: Vec<Pool>, seed: u64) -> Result<Self> {
        let sum: f64 = pools.iter().map(|pool| pool.weight).sum();
        if !(sum.is_finite() && sum > 0.0) || pools.iter().any(|pool| pool.weight < 0.0) {
            return Err(Error::BadConfig(
                "mixture: expected weights of at least 0, one of them above 0".into(),
            ));
        }
        if let Some(pool) = pools
            .iter()
            .find(|pool| pool.weight > 0.0 && pool.is_empty())
        {
            return Err(Error::BadConfig(format!(
                "source {}: no training example, but weight {}; expected weight = 0",
                pool.name, pool.weight
            )));
        }
        let mut end = 0.0;
        let ends = pools.iter().map(|pool| {
            end += pool.weight / sum;
            end
        });
        Ok(Self {
            ends: ends.collect(),
            counts: vec![0; pools.len()],
            orders: vec![None; pools.len()],
            numbers: generator(seed, Purpose::Source, [0, 0]),
            next: 0,
            seed,
            pools,
        })
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The sources' parts.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// How many of the first `draws` draws are of each source: the realised shares.
    pub fn counts(&mut self, draws: u64) -> &[u64] {
        if draws < self.next {
            self.next = 0;
            self.counts.fill(0);
            self.numbers = generator(self.seed, Purpose::Source, [0, 0]);
        }
        while self.next < draws {
            self.next_source();
        }
        &self.counts
    }

    /// The draw with the number `index`. Asked for in order, each takes constant time; a leap forward counts what it
    /// passes over (some nanoseconds a draw), a leap back begins at the first.
    pub fn draw(&mut self, index: u64) -> Draw {
        self.counts(index);
        let source = self.next_source();
        let number = self.counts[source] - 1;
        let count = self.pools[source].len() as u64;
        let (epoch, position) = (number / count, (number % count) as usize);
        Draw {
            index,
            source,
            epoch,
            order: self.order(source, epoch),
            position,
        }
    }

    fn next_source(&mut self) -> usize {
        let number: f64 = self.numbers.random();
        let source = self.ends.iter().position(|end| number < *end);
        // The last end can fall short of 1 by rounding.
        let source = source.unwrap_or_else(|| {
            let drawn = |pool: &Pool| pool.weight > 0.0;
            self.pools.iter().rposition(drawn).unwrap_or(0)
        });
        self.next += 1;
        self.counts[source] += 1;
        source
    }

    /// The order of the epoch, kept until the source's next.
    fn order(&mut self, source: usize, epoch: u64) -> Arc<[u32]> {
        match &self.orders[source] {
            Some((known, order)) if *known == epoch => order.clone(),
            _ => {
                let order = self.pools[source].order(self.seed, source as u64, epoch);
                self.orders[source] = Some((epoch, order.clone()));
                order
            }
        }
    }
}

#[cfg(test)]
mod tests;
