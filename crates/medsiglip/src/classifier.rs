//! [`TrainedClassifier`]: scores of the classes that a vision tower was trained to tell apart. Not for clinical use.

use crate::checkpoint::{CLASSIFIER, Checkpoint};
use crate::config::{ClassKind, Classes};
use crate::embedding::Embeddings;
use crate::model::sigmoid;
use crate::zero_shot::{ClassScore, softmax};
use crate::{Error, Result};

/// A linear layer from image embeddings to C classes.
#[derive(Debug, Clone)]
pub struct TrainedClassifier {
    classes: Classes,
    /// (C, D).
    weight: Vec<f32>,
    /// (C).
    bias: Vec<f32>,
    width: usize,
}

impl TrainedClassifier {
    /// That of `checkpoint`, where it has one.
    ///
    /// # Errors
    /// `BAD_TENSOR` where a weight is missing or misshaped.
    pub fn load(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(classes) = &checkpoint.config().classes else {
            return Ok(None);
        };
        let (count, width) = (classes.labels.len(), checkpoint.config().vision.hidden_size);
        let numbers = |part: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let tensor = checkpoint.tensor(&format!("{CLASSIFIER}.{part}"), shape)?;
            Ok(tensor.to_f32().into_owned())
        };
        Ok(Some(Self {
            classes: classes.clone(),
            weight: numbers("weight", &[count, width])?,
            bias: numbers("bias", &[count])?,
            width,
        }))
    }

    /// The classes.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The layer's outputs for embeddings that are not normalised: (B, C), row-major.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn logits(&self, images: &Embeddings) -> Result<Vec<f32>> {
        if images.dim() != self.width {
            return Err(Error::BadArgument(format!(
                "classifier: expected embeddings of width {}, got {}",
                self.width,
                images.dim()
            )));
        }
        let layer = || self.weight.chunks_exact(self.width).zip(&self.bias);
        let logits = (0..images.len()).flat_map(|image| {
            layer().map(move |(weights, bias)| {
                let products = weights.iter().zip(images.row(image));
                let products = products.map(|(w, x)| f64::from(*w) * f64::from(*x));
                (products.sum::<f64>() + f64::from(*bias)) as f32
            })
        });
        Ok(logits.collect())
    }

    /// Scores of each image, in the order of the classes.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn scores(&self, images: &Embeddings) -> Result<Vec<Vec<ClassScore>>> {
        let logits = self.logits(images)?;
        let rows = logits.chunks_exact(self.classes.labels.len());
        let scores = rows.map(|row| {
            let shares = self.classes.kind.probabilities(row);
            let classes = self.classes.labels.iter().zip(row).zip(shares);
            classes
                .map(|((label, logit), share)| ClassScore {
                    label: label.clone(),
                    cosine: None,
                    logit: *logit,
                    probability: share as f32,
                    softmax: share as f32,
                })
                .collect()
        });
        Ok(scores.collect())
    }
}

impl ClassKind {
    /// What the logits of one picture say: shares that sum to 1 where one class is right, else each class's own.
    pub fn probabilities(self, logits: &[f32]) -> Vec<f64> {
        let logits: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        match self {
            Self::Multiclass => softmax(&logits),
            Self::Multilabel => logits.into_iter().map(sigmoid).collect(),
        }
    }
}
