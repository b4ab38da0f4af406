//! Prompt sets to class embeddings to scores.

use serde::Serialize;

use crate::Result;
use crate::embedding::Embeddings;
use crate::model::Model;

/// A set of classes, each with the prompts that describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSet {
    /// Short name, for example `cxr_findings`.
    pub name: String,
    /// How the classes compete.
    pub kind: PromptKind,
    /// The classes in their order.
    pub classes: Vec<ClassPrompts>,
}

/// How the classes of a prompt set compete in the softmax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// One of the classes is right: softmax over all classes.
    Multiclass,
    /// Each class is present or absent: softmax over its present and absent prompts.
    BinaryPerFinding,
}

/// One class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPrompts {
    /// Its name.
    pub label: String,
    /// Prompts that say it is there.
    pub present: Vec<String>,
    /// Prompts that say it is not; for [`PromptKind::BinaryPerFinding`] alone.
    pub absent: Vec<String>,
}

/// One class's score for one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub label: String,
    /// Cosine similarity of the image and the class embedding.
    pub cosine: f32,
    /// `exp(logit_scale) * cosine + logit_bias`.
    pub logit: f32,
    /// `sigmoid(logit)`: whether image and class belong together, whatever the other classes.
    pub probability: f32,
    /// Share of this class among the classes of the set (or of present against absent); sums to 1.
    pub softmax: f32,
}

impl PromptSet {
    /// The published prompt sets by name: see [`PromptSet::task_names`].
    ///
    /// # Errors
    /// `BAD_ARGUMENT` naming the known ones.
    pub fn task(name: &str) -> Result<Self> {
        let _ = name;
        todo!()
    }

    /// The names of the published prompt sets.
    pub fn task_names() -> Vec<&'static str> {
        todo!()
    }

    /// A prompt set from the text of a TOML file, as in `configs/prompts/`.
    ///
    /// # Errors
    /// `BAD_CONFIG`.
    pub fn from_toml(text: &str) -> Result<Self> {
        let _ = text;
        todo!()
    }

    /// Each label is its own single prompt.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where there is none, or one is empty or given twice.
    pub fn from_labels<S: AsRef<str>>(labels: &[S]) -> Result<Self> {
        let _ = labels;
        todo!()
    }
}

/// A prompt set encoded by a model: ready to score images.
pub struct ZeroShot {}

impl ZeroShot {
    /// Encodes the prompts of `set` once; a class embedding is the mean of its normalised prompt embeddings, normalised again.
    ///
    /// # Errors
    /// As [`Model::encode_texts`].
    pub fn new(model: &Model, set: PromptSet) -> Result<Self> {
        let _ = (model, set);
        todo!()
    }

    /// Prompts that were too long for the text tower and lost their end.
    pub fn truncated(&self) -> &[String] {
        todo!()
    }

    /// Scores of each image (normalised or not), in the order of the classes.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn scores(&self, images: &Embeddings) -> Result<Vec<Vec<ClassScore>>> {
        let _ = images;
        todo!()
    }
}
