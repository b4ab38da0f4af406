//! How well something is found again: what belongs to a query among everything, by score.

use super::{finite, quantile, ratio, same_length};
use crate::Result;

/// What became of one query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query {
    /// The rank of the first relevant item, from 1. A tied item that is not relevant counts as before it, so that constant
    /// scores find nothing.
    pub rank: usize,
    /// The mean over the relevant items of the share of relevant ones among all that score no less
    /// (`label_ranking_average_precision_score` and `average_precision_score` of one query).
    pub average_precision: f64,
}

impl Query {
    /// Of a query's scores with all N items, and which of them are relevant. `None` where none is.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ or a score is not finite.
    pub fn new(scores: &[f64], relevant: &[bool]) -> Result<Option<Self>> {
        same_length("marks of relevance", scores.len(), relevant.len())?;
        finite("scores", scores)?;
        let of = |wanted: bool| {
            let chosen = scores
                .iter()
                .zip(relevant)
                .filter(move |(_, r)| **r == wanted);
            let mut chosen: Vec<f64> = chosen.map(|(score, _)| *score).collect();
            chosen.sort_unstable_by(|a, b| b.total_cmp(a));
            chosen
        };
        let (found, others) = (of(true), of(false));
        let Some(best) = found.first() else {
            return Ok(None);
        };
        let not_below = |all: &[f64], score: f64| all.partition_point(|other| *other >= score);
        let precision = |score: &f64| {
            let relevant = not_below(&found, *score);
            relevant as f64 / (relevant + not_below(&others, *score)) as f64
        };
        Ok(Some(Self {
            rank: 1 + not_below(&others, *best),
            average_precision: found.iter().map(precision).sum::<f64>() / found.len() as f64,
        }))
    }
}

/// All queries that have a relevant item.
#[derive(Debug, Clone, Default)]
pub struct Retrieval {
    /// One a query.
    pub queries: Vec<Query>,
}

impl Retrieval {
    fn mean(&self, of: impl Fn(&Query) -> f64) -> Option<f64> {
        ratio(self.queries.iter().map(of).sum(), self.queries.len() as f64)
    }

    /// Share of queries with a relevant item among their first `k` (Recall@K as retrieval of captions reports it). `None`
    /// without queries, as for all that follow.
    pub fn recall_at(&self, k: usize) -> Option<f64> {
        self.mean(|query| f64::from(query.rank <= k))
    }

    /// The mean of one over the rank of the first relevant item.
    pub fn mean_reciprocal_rank(&self) -> Option<f64> {
        self.mean(|query| 1.0 / query.rank as f64)
    }

    /// The median rank of the first relevant item.
    pub fn median_rank(&self) -> Option<f64> {
        let mut ranks: Vec<f64> = self.queries.iter().map(|q| q.rank as f64).collect();
        ranks.sort_unstable_by(f64::total_cmp);
        (!ranks.is_empty()).then(|| quantile(&ranks, 0.5))
    }

    /// The mean of the average precisions (mAP).
    pub fn mean_average_precision(&self) -> Option<f64> {
        self.mean(|query| query.average_precision)
    }
}
