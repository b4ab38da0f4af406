//! [`Truth`]: what a task asks, and what is true of every example of its source.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{MAX_CLASSES, TaskConfig};
use super::report::Kind;
use crate::Result;
use crate::dataset::{Example, finding};

/// What a task asks, and what is true of every example.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Classes or findings.
    pub classes: Vec<String>,
    /// The truth of every example of the source.
    pub of: Answers,
    /// Classes that count as positive together.
    pub positive: Vec<usize>,
    /// Whether the classes are in an order that means something.
    pub ordered: bool,
}

/// What is true of examples.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// The class of each; `None` where it is none of the task's.
    Classes(Vec<Option<usize>>),
    /// For each, whether each finding is there; `None` where it is unknown.
    Findings(Vec<Vec<Option<bool>>>),
}

/// A yes-or-no question of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The class, finding, or classes together.
    pub name: String,
    /// The classes whose scores are summed.
    pub classes: Vec<usize>,
}

impl Truth {
    /// The truth of `task` about `examples`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a column is missing, has an unknown value, or a class that the task names has no example.
    pub fn new(task: &TaskConfig, examples: &[Example]) -> Result<Self> {
        match &task.label {
            Some(column) if task.multilabel => of_lists(task, column, examples),
            Some(column) => of_classes(task, column, examples),
            None => of_findings(task, examples),
        }
    }

    /// How the classes relate.
    pub fn kind(&self) -> Kind {
        match self.of {
            Answers::Classes(_) => Kind::Multiclass,
            Answers::Findings(_) => Kind::Findings,
        }
    }

    /// Whether anything is known of an example.
    pub fn is_known(&self, place: usize) -> bool {
        match &self.of {
            Answers::Classes(classes) => classes[place].is_some(),
            Answers::Findings(findings) => findings[place].iter().any(Option::is_some),
        }
    }

    /// The answer to a question about an example.
    pub fn answer(&self, asked: &Asked, place: usize) -> Option<bool> {
        match &self.of {
            Answers::Classes(classes) => Some(asked.classes.contains(&classes[place]?)),
            Answers::Findings(findings) => findings[place][asked.classes[0]],
        }
    }

    /// The questions of the task, the positive classes together first.
    pub fn questions(&self) -> Vec<Asked> {
        let mut questions = Vec::new();
        if !self.positive.is_empty() {
            let names: Vec<&str> = self
                .positive
                .iter()
                .map(|c| self.classes[*c].as_str())
                .collect();
            questions.push(Asked {
                name: names.join(" or "),
                classes: self.positive.clone(),
            });
        }
        // Of two classes, the second question is the first again.
        if questions.is_empty() || self.classes.len() > 2 {
            let single = self.classes.iter().enumerate().map(|(class, name)| Asked {
                name: name.clone(),
                classes: vec![class],
            });
            questions.extend(single);
        }
        questions
    }

    /// How many of `places` have each class or finding.
    pub fn counts(&self, places: &[usize]) -> Vec<usize> {
        let has = |class: usize, place: usize| match &self.of {
            Answers::Classes(classes) => classes[place] == Some(class),
            Answers::Findings(findings) => findings[place][class] == Some(true),
        };
        let count = |class| places.iter().filter(|place| has(class, **place)).count();
        (0..self.classes.len()).map(count).collect()
    }
}

fn of_classes(task: &TaskConfig, column: &str, examples: &[Example]) -> Result<Truth> {
    let values: BTreeSet<&str> = examples
        .iter()
        .filter_map(|e| e.labels.get(column))
        .map(String::as_str)
        .collect();
    if values.is_empty() {
        return Err(task.bad(&format!(
            "no example has a value in the column {column}: name it among the source's labels"
        )));
    }
    if task.classes.is_empty() && values.len() > MAX_CLASSES {
        return Err(task.bad(&format!(
            "label: {column} has {} values, expected at most {MAX_CLASSES}: a column of classes, not of ids, ages or dates",
            values.len()
        )));
    }
    let of_value: BTreeMap<&str, &str> = match task.classes.is_empty() {
        true => values.iter().map(|value| (*value, *value)).collect(),
        false => task
            .classes
            .iter()
            .map(|(value, class)| (value.as_str(), class.as_str()))
            .collect(),
    };
    let classes = class_names(task, &of_value)?;
    let number = |class: &str| classes.iter().position(|known| *known == class);
    let positive = task.positive.iter().map(|class| {
        number(class).ok_or_else(|| task.bad("positive: expected names of its classes"))
    });
    let class_of = |example: &Example| number(of_value.get(example.labels.get(column)?.as_str())?);
    let of: Vec<Option<usize>> = examples.iter().map(class_of).collect();
    for (class, name) in classes.iter().enumerate() {
        if !of.contains(&Some(class)) {
            return Err(task.bad(&format!("no example is of the class {name}")));
        }
    }
    let mut positive: Vec<usize> = positive.collect::<Result<_>>()?;
    if positive.iter().collect::<BTreeSet<_>>().len() < positive.len() {
        return Err(task.bad("positive: expected every class once"));
    }
    if positive.len() == classes.len() {
        return Err(task.bad("positive: expected some of its classes, not all"));
    }
    if classes.len() == 2 && positive.is_empty() {
        // One question is asked, and either way round it has the same answer.
        positive.push(1);
    }
    Ok(Truth {
        positive,
        classes: classes.into_iter().map(str::to_owned).collect(),
        of: Answers::Classes(of),
        ordered: !task.ordered.is_empty(),
    })
}

/// The classes in their order.
fn class_names<'a>(
    task: &'a TaskConfig,
    of_value: &BTreeMap<&'a str, &'a str>,
) -> Result<Vec<&'a str>> {
    let named: BTreeSet<&str> = of_value.values().copied().collect();
    let classes: Vec<&str> = match task.ordered.is_empty() {
        true => named.iter().copied().collect(),
        false => task.ordered.iter().map(String::as_str).collect(),
    };
    if classes.iter().copied().collect::<BTreeSet<_>>() != named || classes.len() != named.len() {
        return Err(task.bad("ordered: expected every class once"));
    }
    if classes.len() < 2 {
        return Err(task.bad("expected at least two classes"));
    }
    Ok(classes)
}

/// Findings from a column that lists those that are there.
fn of_lists(task: &TaskConfig, column: &str, examples: &[Example]) -> Result<Truth> {
    if task.classes.is_empty() {
        return Err(
            task.bad("multilabel: expected classes, the findings by the values of the column")
        );
    }
    let names: BTreeSet<&String> = task.classes.values().collect();
    let row = |example: &Example| {
        let cell = example.labels.get(column);
        // Several values may be one finding.
        let is_there = |name: &&String| {
            let is_it = |value: &str| task.classes.get(value) == Some(*name);
            cell.map(|cell| cell.split('|').any(|one| is_it(one.trim())))
        };
        names.iter().map(is_there).collect::<Vec<_>>()
    };
    let rows: Vec<_> = examples.iter().map(row).collect();
    for (finding, name) in names.iter().enumerate() {
        if !rows.iter().any(|row| row[finding] == Some(true)) {
            return Err(task.bad(&format!(
                "no example has the finding {name} in the column {column}"
            )));
        }
    }
    Ok(Truth {
        classes: names.into_iter().cloned().collect(),
        of: Answers::Findings(rows),
        positive: Vec::new(),
        ordered: false,
    })
}

fn of_findings(task: &TaskConfig, examples: &[Example]) -> Result<Truth> {
    if task.findings.values().collect::<BTreeSet<_>>().len() < task.findings.len() {
        return Err(task.bad("findings: expected every name once"));
    }
    for column in task.findings.keys() {
        if !examples.iter().any(|e| e.labels.contains_key(column)) {
            return Err(task.bad(&format!(
                "no example has a value in the column {column}: name it among the source's labels"
            )));
        }
    }
    let cell = |example: &Example, column: &String| {
        let text = example.labels.get(column).map_or("", String::as_str);
        finding(text).map_err(|wrong| task.bad(&format!("column {column}: {wrong}")))
    };
    let row = |example: &Example| {
        task.findings
            .keys()
            .map(|column| cell(example, column))
            .collect()
    };
    let rows = examples.iter().map(row).collect::<Result<_>>()?;
    Ok(Truth {
        classes: task.findings.values().cloned().collect(),
        of: Answers::Findings(rows),
        positive: Vec::new(),
        ordered: false,
    })
}
