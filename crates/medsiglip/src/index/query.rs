//! [`Query`]: several pictures and texts as one question, and which of the hits are told.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::{Comparison, Filter, Hit, Store, unit};
use crate::embedding::Embeddings;
use crate::{Error, Result};

/// What is added to a rank before its reciprocal is taken (Cormack, Clarke and Buettcher, SIGIR 2009).
const RANK_OFFSET: f64 = 60.0;
/// Least depth to which ranks are fused.
const FUSED_DEPTH: usize = 100;

/// One of the things that a query is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// (D); its length does not matter.
    pub embedding: Vec<f32>,
    /// What it counts; below zero what is wanted is unlike it.
    pub weight: f64,
}

/// How several terms become one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fusion {
    /// The weighted sum of the terms, each divided by its norm, is searched for.
    #[default]
    Sum,
    /// Each term is searched for, and an item's score is the sum of weight / (60 + rank).
    ReciprocalRank,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// What it is made of.
    pub terms: Vec<Term>,
    /// How they become one.
    pub fusion: Fusion,
    /// How many hits.
    pub k: usize,
    /// Which items are searched.
    pub filter: Option<Filter>,
    /// Items that are not wanted, such as the query itself.
    pub without: HashSet<String>,
    /// Items in whose metadata a field has this value are not wanted, such as those of the query's patient.
    pub unlike: Vec<(String, Value)>,
    /// At most so many hits with the same value of a field; an item that lacks it is by itself.
    pub per_group: Option<(String, usize)>,
    /// Of two hits whose cosine is above this, the worse one is left out.
    pub distinct: Option<f64>,
    /// The least cosine of a hit.
    pub min_cosine: Option<f64>,
}

/// A hit in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// From 1.
    pub rank: usize,
    /// The cosine with the sum of the terms, or the sum of reciprocal ranks.
    pub score: f64,
    /// Of the item and each term.
    pub cosines: Vec<f64>,
    /// The item; its cosine is that with the sum of the terms, or with the term that it is nearest to.
    pub hit: Hit,
}

/// Scores of candidates, best first.
type Scored = Vec<(f64, Hit)>;

impl Query {
    /// Asks `store`.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` without a term, where terms cancel each other, or weights are not right for the fusion; as of
    /// [`Store::search`].
    pub fn ask(&self, store: &dyn Store) -> Result<Vec<Found>> {
        let dim = store.about().dim;
        let unit_of = |(place, term): (usize, &Term)| unit(&term.embedding, dim, "term", place);
        let units: Vec<Vec<f32>> = self
            .terms
            .iter()
            .enumerate()
            .map(unit_of)
            .collect::<Result<_>>()?;
        self.check()?;
        let filter = self.filter();
        let all = store.len()?;
        // Hits that are left out make room for others further down.
        let mut depth = self.k.saturating_add(self.without.len());
        if self.per_group.is_some() || self.distinct.is_some() {
            depth = depth.saturating_mul(4);
        }
        loop {
            let (candidates, is_all) = match self.fusion {
                Fusion::Sum => self.by_sum(store, &units, depth, filter.as_ref())?,
                Fusion::ReciprocalRank => self.by_ranks(store, &units, depth, filter.as_ref())?,
            };
            // Cosines fall: what comes after one that is too low is lower.
            let least = self.min_cosine.filter(|_| self.fusion == Fusion::Sum);
            let last = candidates.last().map(|(score, _)| *score);
            let is_all = is_all || least.zip(last).is_some_and(|(least, last)| last < least);
            let picked = self.pick(store, candidates, &units)?;
            if picked.len() >= self.k || is_all || depth >= all {
                return Ok(picked);
            }
            depth = depth.saturating_mul(4);
        }
    }

    fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::BadArgument(format!("query: {what}")));
        if self.terms.is_empty() {
            return bad("expected a picture or a text, got none");
        }
        if self
            .terms
            .iter()
            .any(|term| !term.weight.is_finite() || term.weight == 0.0)
        {
            return bad("expected weights that are numbers and not 0");
        }
        let below = self.terms.iter().any(|term| term.weight < 0.0);
        if below && self.fusion == Fusion::ReciprocalRank {
            return bad("what is not wanted has no rank; fuse by the sum");
        }
        if self.per_group.as_ref().is_some_and(|(_, most)| *most == 0) {
            return bad("expected at least one hit a group");
        }
        Ok(())
    }

    fn filter(&self) -> Option<Filter> {
        let unlike = self.unlike.iter().map(|(field, value)| {
            Filter::Not(Box::new(Filter::Compare {
                field: field.clone(),
                how: Comparison::Equal,
                value: value.clone(),
            }))
        });
        let all: Vec<Filter> = self.filter.iter().cloned().chain(unlike).collect();
        (!all.is_empty()).then_some(Filter::And(all))
    }

    /// And whether there are no more.
    fn by_sum(
        &self,
        store: &dyn Store,
        units: &[Vec<f32>],
        depth: usize,
        filter: Option<&Filter>,
    ) -> Result<(Scored, bool)> {
        let dim = store.about().dim;
        let mut sum = vec![0.0f64; dim];
        for (term, unit) in self.terms.iter().zip(units) {
            let parts = sum.iter_mut().zip(unit);
            parts.for_each(|(sum, x)| *sum += term.weight * f64::from(*x));
        }
        let weights: f64 = self.terms.iter().map(|term| term.weight.abs()).sum();
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm <= 1e-6 * weights {
            return Err(Error::BadArgument(
                "query: its terms cancel each other".into(),
            ));
        }
        let sum = sum.iter().map(|x| (x / norm) as f32).collect();
        let hits = store
            .search(&Embeddings::new(dim, sum)?, depth, filter)?
            .remove(0);
        let is_all = hits.len() < depth;
        Ok((
            hits.into_iter().map(|hit| (hit.cosine, hit)).collect(),
            is_all,
        ))
    }

    fn by_ranks(
        &self,
        store: &dyn Store,
        units: &[Vec<f32>],
        depth: usize,
        filter: Option<&Filter>,
    ) -> Result<(Scored, bool)> {
        let depth = depth.saturating_mul(10).max(FUSED_DEPTH);
        let queries = Embeddings::new(store.about().dim, units.concat())?;
        let by_term = store.search(&queries, depth, filter)?;
        let is_all = by_term.iter().all(|hits| hits.len() < depth);
        let mut fused: BTreeMap<String, (f64, Hit)> = BTreeMap::new();
        for (term, hits) in self.terms.iter().zip(by_term) {
            for (place, hit) in hits.into_iter().enumerate() {
                let gain = term.weight / (RANK_OFFSET + (place + 1) as f64);
                let known = fused.entry(hit.id.clone()).or_insert((0.0, hit.clone()));
                known.0 += gain;
                known.1.cosine = known.1.cosine.max(hit.cosine);
            }
        }
        let mut fused: Scored = fused.into_values().collect();
        fused.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok((fused, is_all))
    }

    /// The first `k` that are wanted.
    fn pick(
        &self,
        store: &dyn Store,
        candidates: Scored,
        units: &[Vec<f32>],
    ) -> Result<Vec<Found>> {
        let mut picked: Vec<Found> = Vec::new();
        let mut embeddings: Vec<Vec<f32>> = Vec::new();
        let mut of_group: HashMap<String, usize> = HashMap::new();
        for (score, hit) in candidates {
            if picked.len() == self.k {
                break;
            }
            let is_low = self.min_cosine.is_some_and(|least| hit.cosine < least);
            if is_low || self.without.contains(&hit.id) {
                continue;
            }
            let group = self.per_group.as_ref().and_then(|(field, most)| {
                let value = hit.metadata.get(field).filter(|value| !value.is_null())?;
                Some((value.to_string(), *most))
            });
            if let Some((group, most)) = &group
                && of_group.get(group).is_some_and(|count| count >= most)
            {
                continue;
            }
            // What was removed meanwhile is no hit.
            let Some(stored) = store.get(&hit.id)? else {
                continue;
            };
            let near = |other: &Vec<f32>| {
                self.distinct
                    .is_some_and(|most| dot(other, &stored.embedding) > most)
            };
            if embeddings.iter().any(near) {
                continue;
            }
            if let Some((group, _)) = group {
                *of_group.entry(group).or_default() += 1;
            }
            picked.push(Found {
                rank: picked.len() + 1,
                score,
                cosines: units
                    .iter()
                    .map(|unit| dot(unit, &stored.embedding))
                    .collect(),
                hit,
            });
            embeddings.push(stored.embedding);
        }
        Ok(picked)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}
