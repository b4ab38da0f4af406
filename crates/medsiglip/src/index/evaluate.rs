//! How well items are found: by other items of their class, and by texts.

use rayon::prelude::*;

use crate::embedding::Embeddings;
use crate::metrics::{Bootstrap, Query, Samples};
use crate::{Error, Result};

/// Items with what is known of them.
#[derive(Debug, Clone)]
pub struct Collection {
    /// (N, D); their lengths do not matter.
    pub embeddings: Embeddings,
    /// The class of each.
    pub classes: Vec<Option<usize>>,
    /// The group of each, such as its patient: what is of one group is no hit of one another.
    pub groups: Vec<usize>,
}

/// A measure of many queries.
#[derive(Debug, Clone)]
pub struct Measured {
    /// `precision@10`, `mAP`, ...
    pub name: String,
    /// With its bootstrap samples.
    pub samples: Samples,
}

/// What became of a query.
struct Judged {
    query: Query,
    precision: Vec<f64>,
    /// Share of what is relevant among all that could be found: what an order by chance gives.
    chance: f64,
}

impl Collection {
    fn check(&self) -> Result<()> {
        let (n, classes, groups) = (self.embeddings.len(), self.classes.len(), self.groups.len());
        match (classes, groups) == (n, n) {
            true => Ok(()),
            false => Err(Error::BadArgument(format!(
                "collection: expected a class and a group for each of {n} items, got {classes} and {groups}"
            ))),
        }
    }

    /// Every item of `queries` asks for the others of its class, those of its group left out; `bootstrap` draws among the
    /// queries, while what is searched stays as it is: the intervals are of other queries to the same items. Precision at each of
    /// `ks`, mAP (over all that is found), MRR, the median rank of the first hit, and what chance would give for the precisions.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where lengths differ, a query is no item, or an embedding is not finite.
    pub fn by_items(
        &self,
        queries: &[usize],
        ks: &[usize],
        bootstrap: &Bootstrap,
    ) -> Result<Vec<Measured>> {
        self.check()?;
        if queries.iter().any(|query| *query >= self.classes.len()) {
            return Err(Error::BadArgument(
                "collection: a query is none of its items".into(),
            ));
        }
        check_draws(bootstrap, queries.len())?;
        let units = self.embeddings.clone().normalized();
        let judge = |query: &usize| -> Result<Option<Judged>> {
            let Some(class) = self.classes[*query] else {
                return Ok(None);
            };
            let others = (0..units.len()).filter(|item| self.groups[*item] != self.groups[*query]);
            let others = others.filter_map(|item| Some((item, self.classes[item]?)));
            let score = |item: usize| dot(units.row(*query), units.row(item));
            let scored = others.map(|(item, own)| (score(item), own == class));
            let (scores, relevant): (Vec<f64>, Vec<bool>) = scored.unzip();
            judge(&scores, &relevant, ks)
        };
        let judged: Vec<Option<Judged>> = queries.par_iter().map(judge).collect::<Result<_>>()?;
        of_queries(&judged, ks, bootstrap)
    }
}

/// A text asks for what is relevant by its cosine with every item, (N); what may be relevant or not, `None`, is not searched.
/// `bootstrap` draws among the items. Precision at each of `ks`, average precision, and what chance would give.
///
/// # Errors
/// `BAD_ARGUMENT` where lengths differ or a cosine is not finite.
pub fn by_text(
    cosines: &[f64],
    relevant: &[Option<bool>],
    ks: &[usize],
    bootstrap: &Bootstrap,
) -> Result<Vec<Measured>> {
    if cosines.len() != relevant.len() {
        return Err(Error::BadArgument(format!(
            "expected what is known of each of {} items, got {}",
            cosines.len(),
            relevant.len()
        )));
    }
    check_draws(bootstrap, cosines.len())?;
    let samples = bootstrap.measures(|items| {
        let known = items
            .iter()
            .filter_map(|item| Some((cosines[*item], relevant[*item]?)));
        let (scores, relevant): (Vec<f64>, Vec<bool>) = known.unzip();
        let judged = judge(&scores, &relevant, ks)?;
        let precision = (0..ks.len()).map(|at| judged.as_ref().map(|judged| judged.precision[at]));
        let average = judged.as_ref().map(|judged| judged.query.average_precision);
        let chance = judged.as_ref().map(|judged| judged.chance);
        Ok(precision.chain([average, chance]).collect())
    })?;
    let names = ks.iter().map(|k| format!("precision@{k}"));
    let names = names.chain(["average precision".to_owned(), "chance".to_owned()]);
    Ok(named(names, samples))
}

/// Whether a bootstrap draws among so many.
fn check_draws(bootstrap: &Bootstrap, count: usize) -> Result<()> {
    match bootstrap.items() == count {
        true => Ok(()),
        false => Err(Error::BadArgument(format!(
            "expected a bootstrap of {count}, got one of {}",
            bootstrap.items()
        ))),
    }
}

/// `queries` (Q, D) each ask for the items that are `right` for them among `items` (N, D): recall at each of `ks`, MRR, the median
/// rank of the first right one, and mAP; `bootstrap` draws among the queries.
///
/// # Errors
/// `BAD_ARGUMENT` where widths differ or an embedding is not finite.
pub fn by_pairs(
    queries: &Embeddings,
    items: &Embeddings,
    right: impl Fn(usize, usize) -> bool + Sync,
    ks: &[usize],
    bootstrap: &Bootstrap,
) -> Result<Vec<Measured>> {
    if queries.dim() != items.dim() {
        return Err(Error::BadArgument(format!(
            "embeddings: expected one width, got {} and {}",
            queries.dim(),
            items.dim()
        )));
    }
    check_draws(bootstrap, queries.len())?;
    let (queries, items) = (queries.clone().normalized(), items.clone().normalized());
    let judge = |query: usize| {
        let scores: Vec<f64> = items
            .rows()
            .map(|row| dot(queries.row(query), row))
            .collect();
        let relevant: Vec<bool> = (0..items.len()).map(|item| right(query, item)).collect();
        Query::new(&scores, &relevant)
    };
    let all = (0..queries.len()).into_par_iter().map(judge);
    let all: Vec<Option<Query>> = all.collect::<Result<_>>()?;
    let samples = bootstrap.measures(|drawn| {
        let queries = drawn.iter().filter_map(|query| all[*query]).collect();
        let found = crate::metrics::Retrieval { queries };
        let recall = ks.iter().map(|k| found.recall_at(*k));
        let others = [
            found.mean_reciprocal_rank(),
            found.median_rank(),
            found.mean_average_precision(),
        ];
        Ok(recall.chain(others).collect())
    })?;
    let names = ks.iter().map(|k| format!("recall@{k}"));
    let names = names.chain(["MRR", "median rank", "mAP"].map(str::to_owned));
    Ok(named(names, samples))
}

fn named(names: impl Iterator<Item = String>, samples: Vec<Samples>) -> Vec<Measured> {
    let both = names.zip(samples);
    both.map(|(name, samples)| Measured { name, samples })
        .collect()
}

/// `None` where nothing is relevant.
fn judge(scores: &[f64], relevant: &[bool], ks: &[usize]) -> Result<Option<Judged>> {
    let Some(query) = Query::new(scores, relevant)? else {
        return Ok(None);
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equals, the relevant ones come last, so that constant scores find nothing.
    let worse = |a: &usize, b: &usize| {
        let by_score = scores[*b].total_cmp(&scores[*a]);
        by_score.then(relevant[*a].cmp(&relevant[*b]))
    };
    let most = ks.iter().copied().max().unwrap_or(0).min(order.len());
    if most < order.len() {
        order.select_nth_unstable_by(most, worse);
        order.truncate(most);
    }
    order.sort_by(worse);
    let found = |k: usize| order.iter().take(k).filter(|item| relevant[**item]).count();
    let count = relevant.iter().filter(|relevant| **relevant).count();
    Ok(Some(Judged {
        query,
        // Where there are fewer than k items, the empty places are misses.
        precision: ks.iter().map(|k| found(*k) as f64 / *k as f64).collect(),
        chance: count as f64 / relevant.len() as f64,
    }))
}

fn of_queries(
    judged: &[Option<Judged>],
    ks: &[usize],
    bootstrap: &Bootstrap,
) -> Result<Vec<Measured>> {
    let samples = bootstrap.measures(|drawn| {
        let known: Vec<&Judged> = drawn
            .iter()
            .filter_map(|query| judged[*query].as_ref())
            .collect();
        let mean = |of: &dyn Fn(&Judged) -> f64| {
            let sum: f64 = known.iter().map(|judged| of(judged)).sum();
            (!known.is_empty()).then(|| sum / known.len() as f64)
        };
        let found = crate::metrics::Retrieval {
            queries: known.iter().map(|judged| judged.query).collect(),
        };
        let mut values: Vec<Option<f64>> = (0..ks.len())
            .map(|at| mean(&|judged| judged.precision[at]))
            .collect();
        values.extend([
            found.mean_average_precision(),
            found.mean_reciprocal_rank(),
            found.median_rank(),
            mean(&|judged| judged.chance),
        ]);
        Ok(values)
    })?;
    let names = ks.iter().map(|k| format!("precision@{k}"));
    let names = names.chain(["mAP", "MRR", "median rank", "chance"].map(str::to_owned));
    Ok(named(names, samples))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}
