//! [`Scorer`]: what gives pictures their scores, whether prompts or a trained classifier.

use medsiglip::classifier::TrainedClassifier;
use medsiglip::config::ClassKind;
use medsiglip::embedding::Embeddings;
use medsiglip::zero_shot::{ClassScore, PromptKind, ZeroShot};

/// What gives pictures their scores.
pub trait Scorer {
    /// How the classes compete.
    fn kind(&self) -> PromptKind;

    /// The name of the class at a place.
    fn label(&self, class: usize) -> Option<&str>;

    /// Scores of each image, in the order of the classes.
    fn scores(&self, images: &Embeddings) -> medsiglip::Result<Vec<Vec<ClassScore>>>;
}

impl Scorer for ZeroShot {
    fn kind(&self) -> PromptKind {
        self.prompts().kind
    }

    fn label(&self, class: usize) -> Option<&str> {
        let class = self.prompts().classes.get(class)?;
        Some(&class.label)
    }

    fn scores(&self, images: &Embeddings) -> medsiglip::Result<Vec<Vec<ClassScore>>> {
        self.scores(images)
    }
}

impl Scorer for TrainedClassifier {
    fn kind(&self) -> PromptKind {
        match self.classes().kind {
            ClassKind::Multiclass => PromptKind::Multiclass,
            ClassKind::Multilabel => PromptKind::BinaryPerFinding,
        }
    }

    fn label(&self, class: usize) -> Option<&str> {
        self.classes().labels.get(class).map(String::as_str)
    }

    fn scores(&self, images: &Embeddings) -> medsiglip::Result<Vec<Vec<ClassScore>>> {
        self.scores(images)
    }
}
