//! [`Truth`]: which classes every example has, read from its label columns.

use std::collections::BTreeSet;

use super::head::HeadConfig;
use crate::config::{ClassKind, Classes};
use crate::dataset::{Example, Side, Source, finding};
use crate::{Error, Result};

/// What is known of an example: for each class whether it is there; `None` where nobody says.
pub type Known = Vec<Option<bool>>;

/// The classes, and what is known of every example.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The classes.
    pub classes: Classes,
    /// What a person should know before training.
    pub warnings: Vec<String>,
    /// By source and example; empty where nothing is known.
    rows: Vec<Vec<Known>>,
}

/// Examples that training draws from and that have a class, or that do not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// That have it.
    pub positive: usize,
    /// That do not.
    pub negative: usize,
}

impl Truth {
    /// Reads the columns that `head` names. Without a list of classes, they are the values that the column has on the
    /// training side, sorted.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a column of zeros and ones has other values, or fewer than two classes are left of which one is
    /// right.
    pub fn new(head: &HeadConfig, sources: &[Source], sides: &[Vec<Side>]) -> Result<Self> {
        let labels = match (&head.label, head.labels.is_empty()) {
            (Some(column), true) => values(column, sources, sides),
            (Some(_), false) => head.labels.clone(),
            (None, _) => head.columns.clone(),
        };
        let least = match head.kind {
            ClassKind::Multiclass => 2,
            ClassKind::Multilabel => 1,
        };
        if labels.len() < least {
            return Err(Error::BadConfig(format!(
                "head: expected at least {least} classes, got {}",
                labels.len()
            )));
        }
        let mut truth = Self {
            classes: Classes {
                kind: head.kind,
                labels,
            },
            warnings: Vec::new(),
            rows: Vec::new(),
        };
        for source in sources {
            let rows = match &head.label {
                Some(column) => truth.by_value(column, source),
                None => by_columns(&head.columns, source)?,
            };
            let unknown = rows.iter().filter(|row| row.is_empty()).count();
            if unknown > 0 {
                truth.warnings.push(format!(
                    "source {}: {unknown} of {} examples have none of the classes that the head is for, and are left out",
                    source.config.name,
                    rows.len()
                ));
            }
            truth.rows.push(rows);
        }
        Ok(truth)
    }

    /// What is known of an example; empty where nothing is.
    pub fn of(&self, source: usize, place: usize) -> &[Option<bool>] {
        &self.rows[source][place]
    }

    /// Places in a source of which nothing is known.
    pub fn unknown(&self, source: usize) -> impl Iterator<Item = usize> {
        let rows = self.rows[source].iter().enumerate();
        rows.filter(|(_, row)| row.is_empty())
            .map(|(place, _)| place)
    }

    /// How many of the examples (source, place) have and do not have each class.
    pub fn counts(&self, examples: impl Iterator<Item = (usize, usize)>) -> Vec<Count> {
        let mut counts = vec![Count::default(); self.classes.labels.len()];
        for (source, place) in examples {
            for (count, known) in counts.iter_mut().zip(self.of(source, place)) {
                match known {
                    Some(true) => count.positive += 1,
                    Some(false) => count.negative += 1,
                    None => {}
                }
            }
        }
        counts
    }

    /// One column with the names of the classes. Where several may be there, names of no class count for nothing: `No
    /// Finding` is the absence of all.
    fn by_value(&self, column: &str, source: &Source) -> Vec<Known> {
        let row = |example: &Example| {
            let values: Vec<&str> = split(example, column).collect();
            let has = |label: &String| Some(values.contains(&label.as_str()));
            let row: Known = self.classes.labels.iter().map(has).collect();
            let right = row.iter().filter(|has| **has == Some(true)).count();
            let usable = match self.classes.kind {
                ClassKind::Multiclass => values.len() == 1 && right == 1,
                ClassKind::Multilabel => !values.is_empty(),
            };
            if usable { row } else { Known::new() }
        };
        source.examples.iter().map(row).collect()
    }
}

/// The values of an example's column.
fn split<'a>(example: &'a Example, column: &str) -> impl Iterator<Item = &'a str> {
    let cell = example.labels.get(column).map_or("", String::as_str);
    let values = cell.split('|').map(str::trim);
    values.filter(|value| !value.is_empty())
}

/// The values of a column on the training side.
fn values(column: &str, sources: &[Source], sides: &[Vec<Side>]) -> Vec<String> {
    let examples = sources.iter().zip(sides);
    let examples = examples.flat_map(|(source, sides)| source.examples.iter().zip(sides));
    let training = examples.filter(|(_, side)| **side == Side::Train);
    let values: BTreeSet<&str> = training
        .flat_map(|(example, _)| split(example, column))
        .collect();
    values.into_iter().map(str::to_owned).collect()
}

/// One column a class, each a [`finding`].
fn by_columns(columns: &[String], source: &Source) -> Result<Vec<Known>> {
    let mut wrong = 0;
    let mut cell = |example: &Example, column: &String| {
        let text = example.labels.get(column).map_or("", String::as_str);
        finding(text).unwrap_or_else(|_| {
            wrong += 1;
            None
        })
    };
    let mut rows = Vec::with_capacity(source.examples.len());
    for example in &source.examples {
        let row: Known = columns.iter().map(|column| cell(example, column)).collect();
        let known = row.iter().any(Option::is_some);
        rows.push(if known { row } else { Known::new() });
    }
    if wrong > 0 {
        return Err(Error::BadConfig(format!(
            "head.columns: expected cells of 1, 0, -1 or nothing, got {wrong} others in source {}",
            source.config.name
        )));
    }
    Ok(rows)
}
