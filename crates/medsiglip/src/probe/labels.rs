//! [`Labels`]: what a table of labels says of ids, and the probe that is learned from it and a table of embeddings.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::{Choice, ClassWeight, Features, Probe, Recipe, Task, folds};
use crate::dataset::{NotAFinding, finding};
use crate::embedding::{EmbeddingTable, IdMatch};
use crate::{Error, Result};

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

/// Ids, groups (empty without one), and the cells of every column that was asked for.
type Cells = (Vec<String>, Vec<String>, Vec<Vec<String>>);

impl LabelColumns {
    fn asked(&self) -> impl Iterator<Item = &String> {
        self.label.iter().chain(&self.findings)
    }

    fn cells(&self, path: &Path) -> Result<Cells> {
        let bad = |what: &str| Error::BadConfig(format!("labels: {what}: {}", path.display()));
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
        let id = match &self.id {
            Some(name) => needed(name)?,
            None => ["id", "path", "image"]
                .into_iter()
                .find_map(place)
                .ok_or_else(|| bad("no column id, path or image; name the one with the ids"))?,
        };
        let group = self.group.as_ref().map(needed).transpose()?;
        let places: Vec<usize> = self.asked().map(needed).collect::<Result<_>>()?;
        let (mut ids, mut groups) = (Vec::new(), Vec::new());
        let mut cells = vec![Vec::new(); places.len()];
        for (row, record) in reader.records().enumerate() {
            if row >= MAX_ROWS {
                return Err(Error::Limit {
                    what: "the number of rows of a table of labels",
                    got: row as u64 + 1,
                    limit: MAX_ROWS as u64,
                });
            }
            let record = record.map_err(|_| bad(&format!("row {} cannot be read", row + 2)))?;
            let cell = |at: usize| record.get(at).unwrap_or_default().trim().to_owned();
            ids.push(cell(id));
            groups.push(group.map(cell).unwrap_or_default());
            for (column, at) in cells.iter_mut().zip(&places) {
                column.push(cell(*at));
            }
        }
        Ok((ids, groups, cells))
    }
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
        if columns.label.is_some() != columns.findings.is_empty() {
            return Err(Error::BadArgument(
                "labels: expected either a column of classes or columns of findings".into(),
            ));
        }
        let bad = |what: &str| Error::BadConfig(format!("labels: {what}: {}", path.display()));
        let (ids, groups, cells) = columns.cells(path)?;
        let mut seen = HashSet::new();
        if let Some(row) = ids.iter().position(|id| !seen.insert(id)) {
            return Err(bad(&format!("the id of row {} is there twice", row + 2)));
        }
        let (mut numbers, mut next) = (HashMap::new(), 0..);
        let mut new = || next.next().expect("without end");
        let groups = groups.into_iter().map(|group| match group.is_empty() {
            true => new(),
            false => *numbers.entry(group).or_insert_with(&mut new),
        });
        let groups = groups.collect();
        let questions = columns
            .asked()
            .zip(cells)
            .map(|(name, cells)| match columns.label {
                Some(_) => Ok(classes(name, &cells)),
                None => of_finding(name, &cells).map_err(|(row, wrong)| {
                    bad(&format!("column {name}, row {}: {wrong}", row + 2))
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

/// Or the row where a cell is wrong, from 0, and what is wrong.
fn of_finding(name: &str, cells: &[String]) -> Result<Labelled, (usize, NotAFinding)> {
    let of = |(row, cell): (usize, &String)| match finding(cell) {
        Ok(known) => Ok(known.map(usize::from)),
        Err(wrong) => Err((row, wrong)),
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
        if self.folds < 2 {
            return Err(Error::BadArgument(format!(
                "folds: expected two or more, got {}",
                self.folds
            )));
        }
        let joined = table.join(&labels.ids, self.ids)?;
        let features = Features::of(&joined.embeddings)?;
        let (mut heads, mut choices, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for question in &labels.questions {
            let known = joined.found.iter().enumerate();
            let known =
                known.filter_map(|(row, place)| Some((row, (*place, question.of[*place]?))));
            let (rows, known): (Vec<usize>, Vec<(usize, usize)>) = known.unzip();
            let of_rows: Vec<usize> = known.iter().map(|(_, class)| *class).collect();
            let groups: Vec<usize> = known
                .iter()
                .map(|(place, _)| labels.groups[*place])
                .collect();
            // A class that is in too few groups cannot be in every fold.
            let seed = self.recipe.settings.seed;
            let splits = folds(&of_rows, Some(&groups), self.folds, seed).unwrap_or_default();
            let task =
                Task::new(question.classes.len(), of_rows)?.class_weight(&self.class_weight)?;
            let of = (&features.select(&rows)?, &task);
            let all: Vec<usize> = (0..rows.len()).collect();
            let (head, choice) =
                self.recipe
                    .head(&question.name, &question.classes, of, &all, &splits)?;
            heads.push(head);
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
