//! Train, validation and test: whole groups, in exact shares, the same for the same seed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::Source;
use super::random::{Purpose, generator};
use crate::{Error, Result};

/// The part of the data that an example belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What the model learns from.
    Train,
    /// What training is steered by.
    Val,
    /// What is looked at once.
    Test,
}

impl Side {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The side's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The side that a split column names; `valid`, `validation` and `dev` are `val`, `training` and `testing` too.
    fn of(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// The shares of validation and test; the rest is for training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Share of validation, from 0 to 1.
    #[serde(default)]
    pub val: f64,
    /// Share of test, from 0 to 1.
    #[serde(default)]
    pub test: f64,
}

impl Shares {
    fn check(self) -> Result<Self> {
        let ok = |share: f64| (0.0..=1.0).contains(&share);
        if ok(self.val) && ok(self.test) && self.val + self.test <= 1.0 {
            return Ok(self);
        }
        Err(Error::BadConfig(
            "split: expected shares val and test from 0 to 1, together at most 1".into(),
        ))
    }
}

/// The side of each example of `source`, in its order.
///
/// Where the source has a split column, it alone decides. Else groups, and examples that `joined` connects, are kept
/// together; within each value of `stratify` such units stand in an order drawn from `seed`, and each goes to the side
/// that is furthest behind its share, so that at every point the shares are exact to a unit.
///
/// `joined` holds pairs of places in `source.examples`.
///
/// # Errors
/// `BAD_CONFIG` where shares are out of range, an example's split column names no side, or a column cuts a group.
pub fn split(
    source: &Source,
    shares: Shares,
    seed: u64,
    joined: &[(usize, usize)],
) -> Result<Vec<Side>> {
    let shares = shares.check()?;
    if let Some(column) = &source.config.split {
        return by_column(source, column);
    }
    let mut sides = vec![Side::Train; source.examples.len()];
    let targets = [1.0 - shares.val - shares.test, shares.val, shares.test];
    let (mut seen, mut counts) = (0, [0; 3]);
    for unit in ordered_units(source, seed, joined) {
        seen += unit.len();
        let behind = |side: usize| targets[side] * seen as f64 - f64::from(counts[side]);
        // A side without a share gets nothing; of equals, the first.
        let side = (1..3).fold(0, |best, side| {
            let better = targets[side] > 0.0 && behind(side) > behind(best);
            if targets[best] == 0.0 || better {
                side
            } else {
                best
            }
        });
        counts[side] += unit.len() as u32;
        unit.iter()
            .for_each(|place| sides[*place] = Side::ALL[side]);
    }
    Ok(sides)
}

/// Examples that must stay together, stratum by stratum, in an order drawn from the seed.
fn ordered_units(source: &Source, seed: u64, joined: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut strata: BTreeMap<Option<&str>, Vec<(u64, Vec<usize>)>> = BTreeMap::new();
    for (number, unit) in (0..).zip(units(source, joined)) {
        // The commonest value of the unit; of equals, the last in the alphabet.
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for place in &unit {
            let column = source.config.stratify.as_ref();
            if let Some(value) = column.and_then(|c| source.examples[*place].labels.get(c)) {
                *counts.entry(value).or_default() += 1;
            }
        }
        let value = counts.iter().max_by_key(|(_, count)| **count);
        let order = generator(seed, Purpose::Split, [number, 0]).random();
        let stratum = strata.entry(value.map(|(value, _)| *value)).or_default();
        stratum.push((order, unit));
    }
    let mut ordered = Vec::new();
    for mut units in strata.into_values() {
        units.sort();
        ordered.extend(units.into_iter().map(|(_, unit)| unit));
    }
    ordered
}

/// The sets of examples that share a group or are joined, in the order of their first members.
pub(super) fn units(source: &Source, joined: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let count = source.examples.len();
    let mut leader: Vec<usize> = (0..count).collect();
    let mut first_of_group = HashMap::new();
    for (place, example) in source.examples.iter().enumerate() {
        if let Some(group) = &example.group {
            let first = *first_of_group.entry(group).or_insert(place);
            join(&mut leader, first, place);
        }
    }
    for &(a, b) in joined {
        join(&mut leader, a, b);
    }
    let mut units: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for place in 0..count {
        let first = find(&mut leader, place);
        units.entry(first).or_default().push(place);
    }
    units.into_values().collect()
}

pub(super) fn find(leader: &mut [usize], mut place: usize) -> usize {
    while leader[place] != place {
        leader[place] = leader[leader[place]];
        place = leader[place];
    }
    place
}

/// The smaller place leads.
pub(super) fn join(leader: &mut [usize], a: usize, b: usize) {
    let (a, b) = (find(leader, a), find(leader, b));
    leader[a.max(b)] = a.min(b);
}

fn by_column(source: &Source, column: &str) -> Result<Vec<Side>> {
    let side =
        |example: &super::Example| example.labels.get(column).and_then(|text| Side::of(text));
    let wrong = source.examples.iter().filter(|e| side(e).is_none()).count();
    if wrong > 0 {
        let wrong =
            format!("split column {column}: {wrong} examples name none of train, val and test");
        return Err(source.config.bad(&wrong));
    }
    let sides: Vec<Side> = source.examples.iter().filter_map(side).collect();
    let mut of_group = HashMap::new();
    let mut cut = BTreeSet::new();
    for (example, side) in source.examples.iter().zip(&sides) {
        if let Some(group) = &example.group
            && of_group
                .insert(group, side)
                .is_some_and(|other| other != side)
        {
            cut.insert(group);
        }
    }
    if !cut.is_empty() {
        let wrong = format!(
            "split column {column}: {} groups lie on two sides",
            cut.len()
        );
        return Err(source.config.bad(&wrong));
    }
    Ok(sides)
}

/// What a person should know of a split: classes that validation or test has and training has not. Those with texts in the
/// configuration are named; other values are data, and counted.
pub fn split_warnings(source: &Source, sides: &[Side]) -> Vec<String> {
    let mut warnings = Vec::new();
    for column in source.class_columns() {
        let values = |training: bool| -> BTreeSet<&str> {
            let examples = source.examples.iter().zip(sides);
            examples
                .filter(|(_, side)| (**side == Side::Train) == training)
                .filter_map(|(example, _)| example.labels.get(column))
                .flat_map(|value| value.split('|'))
                .collect()
        };
        let train = values(true);
        let elsewhere = values(false);
        let texts = source.config.label_texts.get(column);
        let has_text = |value: &&str| texts.is_some_and(|texts| texts.contains_key(*value));
        let missing = elsewhere.difference(&train).copied();
        let (named, others): (Vec<&str>, Vec<&str>) = missing.partition(has_text);
        let name = &source.config.name;
        for value in named {
            warnings.push(format!(
                "source {name}: {column} = {value} is in validation or test and not in training"
            ));
        }
        if !others.is_empty() {
            warnings.push(format!(
                "source {name}: {} values of {column} are in validation or test and not in training",
                others.len()
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
