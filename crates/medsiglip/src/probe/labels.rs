//! [`Labels`]: what a table of labels says of ids, and the probe that is learned from it and a table of embeddings.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::{Choice, Features, Head, Kind, Probe, Recipe, Task, folds};
use crate::embedding::{EmbeddingTable, IdMatch};
use crate::probe::ClassWeight;
use crate::{Error, Result};

/// The C of a head that is in too few groups to choose by.
const DEFAULT_C: f64 = 1.0;
/// Rows of a table of labels.
const MAX_ROWS: usize = 1 << 27;

/// Which columns of a CSV file say what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelColumns {
    /// The ids; by default `id`, `path` or `image`, the first that is there.
    pub id: Option<String>,
    /// The class of each.
    pub label: Option<String>,
    /// In place of `label`, a column a finding: 1 (present), 0 (absent) or nothing (unknown).
    pub findings: Vec<String>,
    /// The patient, lesion or slide.
    pub group: Option<String>,
}

/// A question with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The column.
    pub name: String,
    /// Its classes; of a finding `absent` and `present`.
    pub classes: Vec<String>,
    /// The class of every id; `None` where it is unknown.
    pub of: Vec<Option<usize>>,
}

/// Labels of ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The ids, each once.
    pub ids: Vec<String>,
    /// One question of classes, or one a finding.
    pub questions: Vec<Labelled>,
    /// The number of every id's group; one without is its own.
    pub groups: Vec<usize>,
}

impl Labels {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with the row for a missing column, an id that is there twice, or a finding that is none of 1, 0 and
    /// nothing; `IO_ERROR`; `LIMIT_EXCEEDED`.
    pub fn read(path: &Path, columns: &LabelColumns) -> Result<Self> {
        let bad = |what: &str| Error::BadConfig(format!("labels: {what}: {}", path.display()));
        if columns.label.is_some() != columns.findings.is_empty() {
            return Err(Error::BadArgument(
                "labels: expected either a column of classes or columns of findings".into(),
            ));
        }
        let mut reader = csv::Reader::from_path(path).map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(e) => Error::io("read", path, e),
            _ => bad("expected a CSV file with a header"),
        })?;
        let header = reader
            .headers()
            .map_err(|_| bad("expected a header"))?
            .clone();
        let place = |name: &str| header.iter().position(|own| own == name);
        let needed = |name: &String| place(name).ok_or_else(|| bad(&format!("no column {name}")));
        let id = match &columns.id {
            Some(name) => needed(name)?,
            None => ["id", "path", "image"]
                .into_iter()
                .find_map(place)
                .ok_or_else(|| bad("no column id, path or image; name the one with the ids"))?,
        };
        let group = columns.group.as_ref().map(needed).transpose()?;
        let asked: Vec<&String> = columns.label.iter().chain(&columns.findings).collect();
        let places: Vec<usize> = asked
            .iter()
            .map(|name| needed(name))
            .collect::<Result<_>>()?;
        let (mut ids, mut groups, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); places.len()];
        let (mut numbers, mut next) = (HashMap::new(), 0..);
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|_| bad(&format!("row {} cannot be read", row + 2)))?;
            if row >= MAX_ROWS {
                return Err(Error::Limit {
                    what: "the number of rows of a table of labels",
                    got: row as u64 + 1,
                    limit: MAX_ROWS as u64,
                });
            }
            let cell = |at: usize| record.get(at).unwrap_or_default().trim().to_owned();
            if !seen.insert(cell(id)) {
                return Err(bad(&format!("the id of row {} is there twice", row + 2)));
            }
            ids.push(cell(id));
            let own = group.map(cell).filter(|group| !group.is_empty());
            groups.push(match own {
                Some(group) => *numbers
                    .entry(group)
                    .or_insert_with(|| next.next().expect("without end")),
                None => next.next().expect("without end"),
            });
            for (column, at) in cells.iter_mut().zip(&places) {
                column.push(cell(*at));
            }
        }
        let of_classes = columns.label.is_some();
        let questions = asked.into_iter().zip(cells).map(|(name, cells)| match of_classes {
            true => Ok(classes(name, &cells)),
            false => finding(name, &cells).map_err(|row| {
                bad(&format!("column {name}, row {}: expected 1 (present), 0 (absent) or nothing (unknown)", row + 2))
            }),
        });
        Ok(Self {
            questions: questions.collect::<Result<_>>()?,
            ids,
            groups,
        })
    }

    /// The classes of a question in another order, as a probe has them; `None` where it has one that they lack.
    pub fn in_order(&self, question: usize, classes: &[String]) -> Option<Vec<Option<usize>>> {
        let own = &self.questions[question];
        let new: Option<Vec<usize>> = own
            .classes
            .iter()
            .map(|class| classes.iter().position(|c| c == class))
            .collect();
        let new = new?;
        Some(
            own.of
                .iter()
                .map(|class| class.map(|class| new[class]))
                .collect(),
        )
    }
}

fn classes(name: &str, cells: &[String]) -> Labelled {
    let known: BTreeSet<&String> = cells.iter().filter(|cell| !cell.is_empty()).collect();
    let classes: Vec<String> = known.into_iter().cloned().collect();
    let of = |cell: &String| classes.binary_search(cell).ok();
    Labelled {
        name: name.to_owned(),
        of: cells.iter().map(of).collect(),
        classes,
    }
}

/// The row where a cell is wrong, from 0.
fn finding(name: &str, cells: &[String]) -> Result<Labelled, usize> {
    let of = |(row, cell): (usize, &String)| match cell.as_str() {
        "" => Ok(None),
        "1" | "1.0" => Ok(Some(1)),
        "0" | "0.0" => Ok(Some(0)),
        _ => Err(row),
    };
    Ok(Labelled {
        name: name.to_owned(),
        classes: vec!["absent".into(), "present".into()],
        of: cells.iter().enumerate().map(of).collect::<Result<_, _>>()?,
    })
}

/// How a probe is learned, beside its [`Recipe`].
#[derive(Debug, Clone)]
pub struct Learning {
    /// How features become a probe.
    pub recipe: Recipe,
    /// What errors on a class count.
    pub class_weight: ClassWeight,
    /// Folds that C is chosen in; none cuts a group.
    pub folds: usize,
    /// What of two ids must be the same.
    pub ids: IdMatch,
}

/// A probe with what was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The probe.
    pub probe: Probe,
    /// The choice of each head's C; `None` where a class is in too few groups to choose by, and C is 1.
    pub choices: Vec<Option<Choice>>,
    /// Items that each head learned from.
    pub items: Vec<usize>,
    /// Ids without embeddings.
    pub missing: usize,
}

impl Learning {
    /// Learns a probe.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where no id joins or a question lacks a class; as of [`Recipe::fit`].
    pub fn learn(&self, table: &EmbeddingTable, labels: &Labels) -> Result<Learned> {
        let joined = table.join(&labels.ids, self.ids)?;
        let features = Features::of(&joined.embeddings)?;
        let (mut heads, mut choices, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for question in &labels.questions {
            let known = joined.found.iter().enumerate();
            let known = known.filter_map(|(row, place)| Some((row, *place, question.of[*place]?)));
            let (mut rows, mut of_rows, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            for (row, place, label) in known {
                rows.push(row);
                of_rows.push(label);
                groups.push(labels.groups[place]);
            }
            let own = features.select(&rows)?;
            let task = Task::new(question.classes.len(), of_rows.clone())?;
            let task = [task.class_weight(&self.class_weight)?];
            // A class that is in too few groups cannot be in every fold.
            let choice = match folds(
                &of_rows,
                Some(&groups),
                self.folds,
                self.recipe.settings.seed,
            ) {
                Ok(splits) => self.recipe.choose(&own, &task, &splits)?.pop(),
                Err(_) => None,
            };
            let c = choice.as_ref().map_or(DEFAULT_C, |choice| choice.c);
            let all: Vec<usize> = (0..rows.len()).collect();
            let fitted = self.recipe.fit(&own, &task, &all, &[c])?;
            let kind = match question.classes.len() {
                2 => Kind::Binary,
                _ => Kind::Multinomial,
            };
            let penalty = self.recipe.settings.penalty;
            heads.push(Head::new(
                &question.name,
                question.classes.clone(),
                kind,
                &fitted.fits[0],
                penalty,
                fitted.scaler,
            )?);
            choices.push(choice);
            items.push(rows.len());
        }
        Ok(Learned {
            probe: Probe {
                dim: joined.embeddings.dim(),
                normalize: self.recipe.normalize,
                provenance: table.provenance().cloned(),
                heads,
            },
            choices,
            items,
            missing: joined.missing.len(),
        })
    }
}
