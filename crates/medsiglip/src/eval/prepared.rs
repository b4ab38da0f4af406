//! [`Prepared`]: a task with its truth, its pictures and its prompts.

use std::collections::BTreeSet;
use std::path::Path;

use super::config::TaskConfig;
use super::published::published;
use super::report::Kind;
use super::truth::{Answers, Truth};
use crate::Result;
use crate::dataset::{Divided, Example, Side, Source};
use crate::probe::Kind as HeadKind;
use crate::zero_shot::{PromptKind, PromptSet};

/// Values of a column that pictures are divided by.
const MAX_STRATA: usize = 20;

/// A task with its truth and its pictures.
pub(super) struct Prepared<'a> {
    /// What is asked.
    pub config: &'a TaskConfig,
    /// The number of its source.
    pub source: usize,
    /// What is true.
    pub truth: Truth,
    /// Prompts of its classes.
    pub prompts: Option<PromptSet>,
}

impl<'a> Prepared<'a> {
    /// All that can be wrong with a task is found here.
    pub fn new(config: &'a TaskConfig, divided: &Divided, base: &Path) -> Result<Self> {
        let sources = divided.sources();
        let source = sources.iter().position(|s| s.config.name == config.source);
        let source = source.ok_or_else(|| config.bad("its source is none of the sources"))?;
        check_columns(config, &sources[source])?;
        let truth = Truth::new(config, &sources[source].examples)?;
        check_probe(config, &truth)?;
        if let Some(name) = config
            .published
            .as_ref()
            .filter(|name| published(name).is_empty())
        {
            return Err(config.bad(&format!("published: nothing was published of {name}")));
        }
        let prompts = config
            .zero_shot
            .as_ref()
            .map(|zero_shot| prompt_set(config, &zero_shot.prompts, &truth, base));
        let prepared = Self {
            config,
            source,
            prompts: prompts.transpose()?,
            truth,
        };
        if prepared.on_side(divided, Side::Test).is_empty() {
            return Err(config.bad("none of its pictures is on the test side: give split.test a share, or a column that says so"));
        }
        prepared.check_strata(divided)?;
        if config.data_curve.is_some() && prepared.on_side(divided, Side::Val).is_empty() {
            return Err(config.bad("data_curve: its probes are tuned on the validation side, and none of its pictures is there: give split.val a share"));
        }
        Ok(prepared)
    }

    fn examples<'b>(&self, divided: &'b Divided) -> &'b [Example] {
        &divided.sources()[self.source].examples
    }

    fn check_strata(&self, divided: &Divided) -> Result<()> {
        let examples = self.examples(divided);
        let measured = self.on_side(divided, Side::Test);
        for column in &self.config.strata {
            let values = measured
                .iter()
                .filter_map(|place| examples[*place].labels.get(column));
            let count = values.collect::<BTreeSet<_>>().len();
            if count == 0 {
                return Err(self.config.bad(&format!("strata: no measured picture has a value in the column {column}; name it among the source's labels")));
            }
            if count > MAX_STRATA {
                return Err(self.config.bad(&format!(
                    "strata: expected a column of at most {MAX_STRATA} values, {column} has {count}"
                )));
            }
        }
        Ok(())
    }

    /// What is said of pictures with a value that is none of its classes.
    pub fn left_out(&self, divided: &Divided) -> Option<String> {
        let (column, Answers::Classes(classes)) = (self.config.label.as_ref()?, &self.truth.of)
        else {
            return None;
        };
        let examples = self.examples(divided).iter().zip(classes);
        let has = |example: &Example| example.labels.contains_key(column);
        let others = examples.filter(|(example, class)| class.is_none() && has(example));
        let (name, count) = (&self.config.name, others.count());
        (count > 0).then(|| {
            format!(
                "{name} leaves out {count} pictures whose value of {column} is none of its classes."
            )
        })
    }

    /// Places of pictures of which anything is known; on the training side, those to learn from.
    pub fn on_side(&self, divided: &Divided, side: Side) -> Vec<usize> {
        let mut places = divided.to_use(self.source, side);
        places.retain(|place| self.truth.is_known(*place));
        places
    }

    /// Places of pictures that it needs embeddings of.
    pub fn places(&self, divided: &Divided) -> Vec<usize> {
        let sides: &[Side] = match self.config.probe {
            Some(_) => &Side::ALL,
            None => &[Side::Test],
        };
        sides
            .iter()
            .flat_map(|side| self.on_side(divided, *side))
            .collect()
    }
}

/// A column that tells patients apart has no classes and no strata, and its values are told to nobody.
fn check_columns(config: &TaskConfig, source: &Source) -> Result<()> {
    for column in config.label.iter().chain(&config.strata) {
        let both = source.examples.iter();
        let mut both = both.filter_map(|e| Some((e.group.as_ref()?, e.labels.get(column)?)));
        let is_group = source.config.group.as_ref() == Some(column)
            || both.next().is_some_and(|(group, value)| group == value)
                && both.all(|(group, value)| group == value);
        if is_group {
            return Err(config.bad(&format!("the column {column} is the source's group: it names patients, lesions or slides, no classes")));
        }
    }
    Ok(())
}

fn check_probe(config: &TaskConfig, truth: &Truth) -> Result<()> {
    let Some(probe) = &config.probe else {
        return Ok(());
    };
    let kind = match truth.kind() {
        Kind::Multiclass if truth.classes.len() > 2 => HeadKind::Multinomial,
        _ => HeadKind::Binary,
    };
    let wrong = probe.recipe(0).check(kind);
    wrong.map_err(|wrong| config.bad(&format!("probe: {}", wrong.trim_start_matches("probe: "))))
}

/// The prompts of the task's classes, in their order.
fn prompt_set(config: &TaskConfig, name: &str, truth: &Truth, base: &Path) -> Result<PromptSet> {
    let mut set = PromptSet::named(name, base)?;
    let fits = matches!(
        (set.kind, truth.kind()),
        (PromptKind::Multiclass, Kind::Multiclass) | (PromptKind::BinaryPerFinding, Kind::Findings)
    );
    if !fits {
        return Err(config.bad("zero_shot.prompts: prompts of presence and absence are for findings, others for classes"));
    }
    let of_class = |class: &String| {
        let own = set.classes.iter().find(|own| own.label == *class).cloned();
        own.ok_or_else(|| {
            config.bad(&format!(
                "zero_shot.prompts: {} has no class {class}",
                set.name
            ))
        })
    };
    set.classes = truth.classes.iter().map(of_class).collect::<Result<_>>()?;
    Ok(set)
}
