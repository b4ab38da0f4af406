//! [`Prepared`]: a task with its truth, its pictures and its prompts.

use std::path::Path;

use super::config::TaskConfig;
use super::published::published;
use super::report::Kind;
use super::truth::Truth;
use crate::Result;
use crate::dataset::{Divided, Side};
use crate::zero_shot::{PromptKind, PromptSet};

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
        let examples = &sources[source].examples;
        let truth = Truth::new(config, examples)?;
        for column in &config.strata {
            if !examples.iter().any(|e| e.labels.contains_key(column)) {
                return Err(config.bad(&format!("strata: no example has a value in the column {column}; name it among the source's labels")));
            }
        }
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
        Ok(prepared)
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
