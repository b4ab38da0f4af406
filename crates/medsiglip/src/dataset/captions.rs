//! Captions from labels: templates with columns in braces.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Example, SourceConfig};
use crate::{Error, Result};

/// Texts by label column and value.
type LabelTexts = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// A text with columns in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Column(String),
}

impl Template {
    /// The template `{column}`.
    pub(super) fn of_column(column: &str) -> Self {
        Self(vec![Part::Column(column.to_owned())])
    }

    /// A template from its text.
    ///
    /// # Errors
    /// `BAD_CONFIG` where a brace has no partner, or nothing stands between two, or the whole is empty.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::BadConfig(format!(
                "template: expected a text with columns in braces, got {text:?}"
            ))
        };
        if text.trim().is_empty() {
            return Err(bad());
        }
        let mut parts = Vec::new();
        let mut pieces = text.split('{');
        let first = pieces.next().unwrap_or_default();
        let push_text = |parts: &mut Vec<Part>, text: &str| -> Result<()> {
            if text.contains('}') {
                return Err(bad());
            }
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            Ok(())
        };
        push_text(&mut parts, first)?;
        for piece in pieces {
            let (column, rest) = piece.split_once('}').ok_or_else(bad)?;
            if column.is_empty() {
                return Err(bad());
            }
            parts.push(Part::Column(column.to_owned()));
            push_text(&mut parts, rest)?;
        }
        Ok(Self(parts))
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(column) => Some(column.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The template with an example's labels in place; `choose` picks among so many texts. `None` where it does not fit.
    fn fill(
        &self,
        labels: &BTreeMap<String, String>,
        texts: &LabelTexts,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> Option<String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Column(column) => {
                    let value = labels.get(column)?;
                    let words = words(value, texts.get(column), choose);
                    if words.is_empty() {
                        return None;
                    }
                    filled.push_str(&words.join(", "));
                }
            }
        }
        Some(filled)
    }

    /// Whether `text` is the template with one of the choices of texts.
    fn gives(&self, text: &str, labels: &BTreeMap<String, String>, texts: &LabelTexts) -> bool {
        // How far the parts so far can reach into the text.
        let mut ends = BTreeSet::from([0]);
        for part in &self.0 {
            match part {
                Part::Text(words) => ends = reach(text, &ends, &[words]),
                Part::Column(column) => {
                    let Some(value) = labels.get(column) else {
                        return false;
                    };
                    let mut choices = choices(value, texts.get(column)).peekable();
                    if choices.peek().is_none() {
                        return false;
                    }
                    for (number, choice) in choices.enumerate() {
                        if number > 0 {
                            ends = reach(text, &ends, &[", "]);
                        }
                        ends = reach(text, &ends, &choice);
                    }
                }
            }
            if ends.is_empty() {
                return false;
            }
        }
        ends.contains(&text.len())
    }

    /// The template with every choice of texts; empty where it does not fit.
    fn fill_all(
        &self,
        labels: &BTreeMap<String, String>,
        texts: &LabelTexts,
    ) -> Result<Vec<String>> {
        let mut all = vec![String::new()];
        for part in &self.0 {
            let next = match part {
                Part::Text(text) => vec![text.clone()],
                Part::Column(column) => match labels.get(column) {
                    Some(value) => all_words(value, texts.get(column))?,
                    None => Vec::new(),
                },
            };
            all = product(all, "", &next)?;
        }
        Ok(all)
    }
}

/// Captions of one example that are written out at most.
const MAX_CAPTIONS: usize = 10_000;

/// `so_far` with every one of `next` after it.
fn product(so_far: Vec<String>, separator: &str, next: &[impl AsRef<str>]) -> Result<Vec<String>> {
    if so_far.len().saturating_mul(next.len()) > MAX_CAPTIONS {
        return Err(Error::Limit {
            what: "captions that one example can get",
            got: so_far.len().saturating_mul(next.len()) as u64,
            limit: MAX_CAPTIONS as u64,
        });
    }
    let with = |start: &String| {
        let start = start.clone();
        next.iter()
            .map(move |end| format!("{start}{separator}{}", end.as_ref()))
    };
    Ok(so_far.iter().flat_map(with).collect())
}

/// What stands for each of a column's values; a value without texts is left out where the column has texts.
fn words<'a>(
    value: &'a str,
    texts: Option<&'a BTreeMap<String, Vec<String>>>,
    choose: &mut dyn FnMut(usize) -> usize,
) -> Vec<&'a str> {
    let values = value
        .split('|')
        .map(str::trim)
        .filter(|value| !value.is_empty());
    let word = |value: &'a str| match texts {
        None => Some(value),
        Some(texts) => {
            let texts = texts.get(value)?;
            texts.get(choose(texts.len())).map(String::as_str)
        }
    };
    values.filter_map(word).collect()
}

/// Every choice of [`words`], joined.
fn all_words(value: &str, texts: Option<&BTreeMap<String, Vec<String>>>) -> Result<Vec<String>> {
    let mut choices = choices(value, texts);
    let Some(first) = choices.next() else {
        return Ok(Vec::new());
    };
    let first = first.into_iter().map(str::to_owned).collect();
    choices.try_fold(first, |all, next| product(all, ", ", &next))
}

/// For each of a column's values what can stand for it, but for values without texts where the column has texts.
fn choices<'a>(
    value: &'a str,
    texts: Option<&'a BTreeMap<String, Vec<String>>>,
) -> impl Iterator<Item = Vec<&'a str>> {
    let values = value.split('|').map(str::trim).filter(|v| !v.is_empty());
    let one = move |value| match texts {
        None => vec![value],
        Some(texts) => match texts.get(value) {
            Some(texts) => texts.iter().map(String::as_str).collect(),
            None => Vec::new(),
        },
    };
    values.map(one).filter(|choice| !choice.is_empty())
}

/// The ends of all `choices` in `text` that begin at one of `starts`.
fn reach(text: &str, starts: &BTreeSet<usize>, choices: &[impl AsRef<str>]) -> BTreeSet<usize> {
    let mut ends = BTreeSet::new();
    for start in starts {
        let rest = &text[*start..];
        let fitting = choices.iter().map(AsRef::as_ref);
        let fitting = fitting.filter(|choice: &&str| rest.starts_with(*choice));
        ends.extend(fitting.map(|choice| start + choice.len()));
    }
    ends
}

/// What makes captions of a source's examples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Captions {
    templates: Vec<Template>,
    texts: LabelTexts,
}

impl Captions {
    pub(super) fn new(config: &SourceConfig) -> Result<Self> {
        Ok(Self {
            templates: config.templates()?,
            texts: config.label_texts.clone(),
        })
    }

    /// One of the example's captions and fitting templates, each as likely as the other.
    pub(super) fn draw(&self, example: &Example, random: &mut ChaCha8Rng) -> Option<String> {
        let mut choose = |count: usize| match count {
            0 | 1 => 0,
            _ => random.random_range(0..count),
        };
        self.choose(example, &mut choose)
    }

    /// The first caption, or the first template that fits with the first of its texts.
    pub(super) fn first(&self, example: &Example) -> Option<String> {
        self.choose(example, &mut |_| 0)
    }

    /// Every caption that [`draw`](Self::draw) can give.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where there are more than ten thousand.
    pub(super) fn all(&self, example: &Example) -> Result<Vec<String>> {
        let mut all = example.captions.clone();
        for template in &self.templates {
            all.extend(template.fill_all(&example.labels, &self.texts)?);
        }
        Ok(all)
    }

    /// Whether [`draw`](Self::draw) can give `caption`.
    pub(super) fn may_give(&self, example: &Example, caption: &str) -> bool {
        let of_template = |t: &Template| t.gives(caption, &example.labels, &self.texts);
        example.captions.iter().any(|given| given == caption)
            || self.templates.iter().any(of_template)
    }

    fn choose(&self, example: &Example, choose: &mut dyn FnMut(usize) -> usize) -> Option<String> {
        // Whether a template fits does not depend on which text is chosen.
        let fits = |template: &&Template| {
            let filled = template.fill(&example.labels, &self.texts, &mut |_| 0);
            filled.is_some()
        };
        let fitting: Vec<&Template> = self.templates.iter().filter(fits).collect();
        let choice = choose(example.captions.len() + fitting.len());
        match example.captions.get(choice) {
            Some(caption) => Some(caption.clone()),
            None => fitting.get(choice - example.captions.len())?.fill(
                &example.labels,
                &self.texts,
                choose,
            ),
        }
    }
}

#[cfg(test)]
mod tests;
