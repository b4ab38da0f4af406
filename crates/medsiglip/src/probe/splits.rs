//! Parts of data: folds for the choice of C, nested subsets for data-efficient curves. Groups (patients) are never cut.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// Items to fit on and items to judge by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Items that the probe sees.
    pub train: Vec<usize>,
    /// Items that it is judged by.
    pub held: Vec<usize>,
}

/// `count` splits in which every item is held out once, classes in equal shares (scikit-learn's `StratifiedKFold`, and
/// `StratifiedGroupKFold` with `groups`).
///
/// Without groups a class is dealt out one by one, and the deal goes on where the last class ended. Groups go, those
/// of most uneven classes first, to where class counts stay most even.
///
/// # Errors
/// `BAD_ARGUMENT` where there is not one group an item, `count` is below 2, or a class is in fewer groups than folds.
pub fn folds(
    labels: &[usize],
    groups: Option<&[usize]>,
    count: usize,
    seed: u64,
) -> Result<Vec<Split>> {
    if count < 2 {
        return Err(Error::BadArgument(format!(
            "folds: expected two or more, got {count}"
        )));
    }
    let units = units(labels, groups, seed)?;
    check_spread(labels, &units, count)?;
    let fold_of_unit = match groups {
        None => deal(labels, &units, count),
        Some(_) => spread(labels, &units, count),
    };
    let mut held = vec![Vec::new(); count];
    for (unit, fold) in units.iter().zip(fold_of_unit) {
        held[fold].extend_from_slice(unit);
    }
    let all = held.into_iter().map(|mut held: Vec<usize>| {
        held.sort_unstable();
        let is_held = |item: &usize| held.binary_search(item).is_ok();
        let train = (0..labels.len()).filter(|item| !is_held(item)).collect();
        Split { train, held }
    });
    Ok(all.collect())
}

/// One subset a size, each part of the next larger one, classes in the shares of the whole. Other seeds give other subsets.
///
/// Every class is in every subset: the first items are one group of each. Groups are whole, so that a subset can be
/// a few items smaller than asked for.
///
/// # Errors
/// `BAD_ARGUMENT` where there is not one group an item, a size is larger than the data, or too small for its classes.
pub fn subsets(
    labels: &[usize],
    groups: Option<&[usize]>,
    sizes: &[usize],
    seed: u64,
) -> Result<Vec<Vec<usize>>> {
    let order = stratified(labels, units(labels, groups, seed)?);
    let classes = counts(labels.iter().copied()).len();
    let mut least = 0;
    let mut seen = BTreeMap::new();
    for unit in &order {
        least += unit.len();
        unit.iter()
            .for_each(|item| *seen.entry(labels[*item]).or_insert(0) += 1);
        if seen.len() == classes {
            break;
        }
    }
    let subset = |size: &usize| {
        if *size > labels.len() || *size < least {
            return Err(Error::BadArgument(format!(
                "subsets: expected sizes from {least} (an item or group of each class) to {} (all), got {size}",
                labels.len()
            )));
        }
        let mut subset = Vec::with_capacity(*size);
        for unit in &order {
            if subset.len() + unit.len() > *size {
                break;
            }
            subset.extend_from_slice(unit);
        }
        subset.sort_unstable();
        Ok(subset)
    };
    sizes.iter().map(subset).collect()
}

/// The items of each group, or each item, in an order drawn from the seed.
fn units(labels: &[usize], groups: Option<&[usize]>, seed: u64) -> Result<Vec<Vec<usize>>> {
    let mut units: Vec<Vec<usize>> = match groups {
        None => (0..labels.len()).map(|item| vec![item]).collect(),
        Some(groups) if groups.len() == labels.len() => {
            let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (item, group) in groups.iter().enumerate() {
                members.entry(*group).or_default().push(item);
            }
            members.into_values().collect()
        }
        Some(groups) => {
            return Err(Error::BadArgument(format!(
                "groups: expected one for each of {} items, got {}",
                labels.len(),
                groups.len()
            )));
        }
    };
    units.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    Ok(units)
}

fn counts(labels: impl Iterator<Item = usize>) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    labels.for_each(|label| *counts.entry(label).or_insert(0) += 1);
    counts
}

fn check_spread(labels: &[usize], units: &[Vec<usize>], folds: usize) -> Result<()> {
    let mut units_of = BTreeMap::new();
    for unit in units {
        for class in counts(unit.iter().map(|item| labels[*item])).into_keys() {
            *units_of.entry(class).or_insert(0) += 1;
        }
    }
    match units_of.iter().find(|(_, count)| **count < folds) {
        Some((class, count)) => Err(Error::BadArgument(format!(
            "folds: expected every class in {folds} items or groups at least, got {count} of class {class}; take fewer folds"
        ))),
        None => Ok(()),
    }
}

fn deal(labels: &[usize], units: &[Vec<usize>], folds: usize) -> Vec<usize> {
    let mut by_class: Vec<usize> = (0..units.len()).collect();
    by_class.sort_by_key(|unit| labels[units[*unit][0]]);
    let mut fold_of = vec![0; units.len()];
    for (place, unit) in by_class.into_iter().enumerate() {
        fold_of[unit] = place % folds;
    }
    fold_of
}

fn spread(labels: &[usize], units: &[Vec<usize>], folds: usize) -> Vec<usize> {
    let total = counts(labels.iter().copied());
    let of_unit: Vec<BTreeMap<usize, usize>> = units
        .iter()
        .map(|unit| counts(unit.iter().map(|item| labels[*item])))
        .collect();
    let unevenness = |unit: &usize| {
        let counts = total
            .keys()
            .map(|class| of_unit[*unit].get(class).copied().unwrap_or(0));
        deviation(counts.map(|count| count as f64))
    };
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by(|a, b| unevenness(b).total_cmp(&unevenness(a)));
    let mut shares: Vec<BTreeMap<usize, f64>> =
        vec![total.keys().map(|class| (*class, 0.0)).collect(); folds];
    let mut fold_of = vec![0; units.len()];
    let mut sizes = vec![0; folds];
    for unit in order {
        // Only the classes of the unit change; the fold that they leave most even, of equals the smallest.
        let cost = |fold: usize| {
            let of_class = of_unit[unit].iter().map(|(class, count)| {
                let more = *count as f64 / total[class] as f64;
                let with =
                    (0..folds).map(|f| shares[f][class] + if f == fold { more } else { 0.0 });
                deviation(with) - deviation((0..folds).map(|f| shares[f][class]))
            });
            of_class.sum::<f64>()
        };
        let costs: Vec<f64> = (0..folds).map(cost).collect();
        let best = (0..folds).min_by(|a, b| {
            let same = (costs[*a] - costs[*b]).abs() < 1e-12;
            let by_cost = costs[*a].total_cmp(&costs[*b]);
            if same {
                sizes[*a].cmp(&sizes[*b])
            } else {
                by_cost
            }
        });
        let best = best.unwrap_or(0);
        fold_of[unit] = best;
        sizes[best] += units[unit].len();
        for (class, count) in &of_unit[unit] {
            *shares[best].entry(*class).or_default() += *count as f64 / total[class] as f64;
        }
    }
    fold_of
}

fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (values.map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Units in an order of which every beginning has the classes of the whole: first one of each class, the rarest before the
/// others, then always one of the class that is furthest behind its share.
fn stratified(labels: &[usize], units: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let total = counts(labels.iter().copied());
    // A unit stands in the queue of its rarest class, so that rare classes are found.
    let mut queues: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
    for unit in units {
        let rarest = unit
            .iter()
            .map(|item| labels[*item])
            .min_by_key(|label| total[label]);
        queues.entry(rarest.unwrap_or(0)).or_default().push(unit);
    }
    let mut seen: BTreeMap<usize, usize> = total.keys().map(|class| (*class, 0)).collect();
    let mut order = Vec::new();
    let mut taken = 0;
    let mut rarest_first: Vec<usize> = total.keys().copied().collect();
    rarest_first.sort_by_key(|class| total[class]);
    loop {
        let missing = rarest_first
            .iter()
            .find(|c| seen[c] == 0 && queues.contains_key(c));
        let behind = |class: &usize| {
            let share = total[class] as f64 / labels.len() as f64;
            share * (taken + 1) as f64 - seen[class] as f64
        };
        let next = missing.copied().or_else(|| {
            queues
                .keys()
                .copied()
                .max_by(|a, b| behind(a).total_cmp(&behind(b)))
        });
        let Some(class) = next else { return order };
        let Some(queue) = queues.get_mut(&class) else {
            return order;
        };
        let unit = queue.pop();
        if queue.is_empty() {
            queues.remove(&class);
        }
        for item in unit.iter().flatten() {
            *seen.entry(labels[*item]).or_default() += 1;
            taken += 1;
        }
        order.extend(unit);
    }
}
