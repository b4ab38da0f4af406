//! Prompt sets to class embeddings to scores.
//!
//! The protocol is that of the MedGemma Technical Report (arXiv 2507.05201, zero-shot evaluation):
//! the embeddings of a class's prompts are averaged, an image is compared by cosine, and a softmax
//! runs over the class options. The report does not say whether prompt embeddings are normalised
//! before the mean, nor the temperature; here they are, as in CLIP and big_vision, and it is the model's.

mod prompts;
mod scores;

use std::collections::{HashMap, HashSet};
use std::fmt;

pub use prompts::{ClassPrompts, PromptKind, PromptSet};
pub(crate) use scores::softmax;
pub use scores::{ClassScore, Classifier};

use crate::embedding::Embeddings;
use crate::model::Model;
use crate::{Error, Result};

/// What the published protocol leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZeroShotOptions {
    /// Whether the mean of a class's prompt embeddings is normalised again.
    pub renormalize: bool,
    /// What cosines are multiplied by before the softmax, instead of the model's temperature.
    pub temperature: Option<f64>,
}

impl Default for ZeroShotOptions {
    fn default() -> Self {
        Self {
            renormalize: true,
            temperature: None,
        }
    }
}

/// A prompt set encoded by a model: ready to score images.
#[derive(Debug)]
pub struct ZeroShot {
    set: PromptSet,
    classifier: Classifier,
    truncated: Vec<PromptPlace>,
}

/// Where a prompt stands in its set, each from 1. It names the prompt in messages, which never show texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptPlace {
    /// Which class.
    pub class: usize,
    /// Which of its prompts, those for its presence first.
    pub prompt: usize,
}

impl fmt::Display for PromptPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prompt {} of class {}", self.prompt, self.class)
    }
}

impl ZeroShot {
    /// Encodes the prompts of `set` once; a class embedding is the mean of its normalised prompt embeddings, normalised again.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` as [`PromptSet::check`]; else as [`Model::encode_texts`].
    pub fn new(model: &Model, set: PromptSet) -> Result<Self> {
        Self::with_options(model, set, ZeroShotOptions::default())
    }

    /// The same, by other rules.
    ///
    /// # Errors
    /// As of [`ZeroShot::new`]; `BAD_ARGUMENT` for a temperature that is not above 0.
    pub fn with_options(model: &Model, set: PromptSet, options: ZeroShotOptions) -> Result<Self> {
        let mut logit = model.logit()?;
        if let Some(temperature) = options.temperature {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(Error::BadArgument(format!(
                    "temperature: expected a number above 0, got {temperature}"
                )));
            }
            logit.scale = temperature.ln() as f32;
        }
        set.check().map_err(Error::BadArgument)?;
        let prompts = set.distinct_prompts();
        let (ids, cut) = model.tokenize(&prompts)?;
        let cut = cut
            .iter()
            .filter_map(|index| prompts.get(*index).copied())
            .collect();
        let truncated = places(&set, &cut);
        let embeddings = model.encode_tokens(&ids)?.normalized();
        let row_of: HashMap<&str, usize> = prompts.iter().copied().zip(0..).collect();
        let rows = |prompts: &[String]| -> Vec<usize> {
            let rows = prompts.iter().filter_map(|p| row_of.get(p.as_str()));
            rows.copied().collect()
        };
        let labels = set.classes.iter().map(|c| c.label.clone()).collect();
        let present: Vec<_> = set.classes.iter().map(|c| rows(&c.present)).collect();
        let absent: Option<Vec<_>> = (set.kind == PromptKind::BinaryPerFinding)
            .then(|| set.classes.iter().map(|c| rows(&c.absent)).collect());
        let (present, lengths) = scores::class_embeddings(&embeddings, &present)?;
        let absent = absent.map(|absent| scores::class_embeddings(&embeddings, &absent));
        let (absent, absent_lengths) = absent.transpose()?.unzip();
        let mut classifier = Classifier::new(labels, present, absent, logit)?;
        if !options.renormalize {
            classifier = classifier.of_lengths(lengths, absent_lengths);
        }
        Ok(Self {
            set,
            classifier,
            truncated,
        })
    }

    /// The prompt set.
    pub fn prompts(&self) -> &PromptSet {
        &self.set
    }

    /// The class embeddings and the arithmetic on them.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Places of the prompts that were too long for the text tower and lost their end.
    pub fn truncated(&self) -> &[PromptPlace] {
        &self.truncated
    }

    /// Scores of each image (normalised or not), in the order of the classes.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn scores(&self, images: &Embeddings) -> Result<Vec<Vec<ClassScore>>> {
        self.classifier.scores(images)
    }
}

/// Every place in `set` of one of `prompts`.
fn places(set: &PromptSet, prompts: &HashSet<&str>) -> Vec<PromptPlace> {
    let classes = set.classes.iter().zip(1..);
    classes
        .flat_map(|(class, at)| {
            let own = class.present.iter().chain(&class.absent).zip(1..);
            own.filter(|(prompt, _)| prompts.contains(prompt.as_str()))
                .map(move |(_, prompt)| PromptPlace { class: at, prompt })
        })
        .collect()
}
