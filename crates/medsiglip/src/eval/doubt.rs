//! [`Doubt`]: why scores beside labels give no value, or a value without an interval.

use std::collections::HashSet;

use super::report::Measure;
use crate::Result;
use crate::metrics::Samples;

/// Level of all intervals.
pub(super) const LEVEL: f64 = 0.95;

/// Why there is no value, or no interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// There is a value; how sure it is cannot be told.
    NoInterval(String),
    /// There is no value that says anything.
    NoValue(String),
}

impl Doubt {
    /// Of a yes-or-no question: an answer is missing or comes from one group alone, or all scores are the same.
    pub(super) fn of_question(
        scores: &[f64],
        answers: &[Option<bool>],
        groups: &[usize],
    ) -> Option<Self> {
        let groups_of = |wanted: bool| {
            let known = answers.iter().zip(groups);
            let those = known.filter(|(answer, _)| **answer == Some(wanted));
            those.map(|(_, group)| group).collect::<HashSet<_>>().len()
        };
        let known = scores.iter().zip(answers);
        let mut known = known.filter(|(_, answer)| answer.is_some());
        let first = known.next().map(|(score, _)| *score);
        let is_one = known.all(|(score, _)| Some(*score) == first);
        let no_value = |why: &str| Some(Self::NoValue(why.into()));
        let no_interval = |those: &str| {
            let why = format!("the {those} pictures are of one patient, lesion or slide");
            Some(Self::NoInterval(why))
        };
        match (groups_of(true), groups_of(false)) {
            (0, 0) => no_value("no picture is labelled"),
            (0, _) => no_value("no picture is positive"),
            (_, 0) => no_value("every picture is positive"),
            _ if is_one => no_value("all scores are the same"),
            (1, _) => no_interval("positive"),
            (_, 1) => no_interval("negative"),
            _ => None,
        }
    }

    /// Of a decision between `classes` by scores (N, C): all pictures have the same scores, or those of a class come from one group.
    pub(super) fn of_classes(
        scores: &[f64],
        labels: &[usize],
        groups: &[usize],
        classes: &[String],
    ) -> Option<Self> {
        let mut rows = scores.chunks_exact(classes.len());
        let first = rows.next();
        if rows.all(|row| Some(row) == first) {
            return Some(Self::NoValue("all scores are the same".into()));
        }
        let is_of_one = |class: &usize| {
            let own = labels.iter().zip(groups).filter(|(own, _)| *own == class);
            own.map(|(_, group)| group).collect::<HashSet<_>>().len() == 1
        };
        let class = (0..classes.len()).find(is_of_one)?;
        Some(Self::NoInterval(format!(
            "the pictures of {} are of one patient, lesion or slide",
            classes[class]
        )))
    }

    /// The same, of one of several.
    pub(super) fn about(&self, name: &str) -> Self {
        match self {
            Self::NoInterval(why) => Self::NoInterval(format!("{name}: {why}")),
            Self::NoValue(why) => Self::NoValue(format!("{name}: {why}")),
        }
    }

    /// Of what follows from several: the first of those that leave no value, else the first.
    pub(super) fn worst(of: impl Iterator<Item = Self>) -> Option<Self> {
        of.reduce(|worst, other| match (&worst, &other) {
            (Self::NoInterval(_), Self::NoValue(_)) => other,
            _ => worst,
        })
    }
}

impl Measure {
    /// From its samples, as far as nothing speaks against it. An interval of no width says nothing about other pictures: it is none.
    pub(super) fn new(name: &str, samples: &Samples, doubt: Option<&Doubt>) -> Result<Self> {
        let mut measure = Self {
            name: name.to_owned(),
            estimate: None,
            alone: None,
            missing: None,
        };
        measure.missing = match (doubt, samples.estimate(LEVEL)?) {
            (Some(Doubt::NoValue(why)), _) => Some(why.clone()),
            (_, None) => Some("it has no value on these pictures".into()),
            (Some(Doubt::NoInterval(why)), Some(estimate)) => {
                measure.alone = Some(estimate.value);
                Some(why.clone())
            }
            (None, Some(estimate)) if estimate.low == estimate.high => {
                measure.alone = Some(estimate.value);
                Some(
                    "it is the same in the bootstrap samples, which says nothing about others"
                        .into(),
                )
            }
            (None, Some(estimate)) => {
                measure.estimate = Some(estimate);
                None
            }
        };
        Ok(measure)
    }

    /// The number, with an interval or without.
    pub fn value(&self) -> Option<f64> {
        self.estimate.map(|estimate| estimate.value).or(self.alone)
    }
}
