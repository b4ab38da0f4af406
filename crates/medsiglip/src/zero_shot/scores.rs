//! [`Classifier`]: class embeddings, temperature and bias to scores. Knows no model.

use serde::Serialize;

use crate::embedding::Embeddings;
use crate::model::{Logit, sigmoid};
use crate::{Error, Result};

/// One class's score for one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub label: String,
    /// Cosine similarity of the image and the class embedding; absent for a trained classifier, which has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
    /// `exp(logit_scale) * cosine + logit_bias`, or the output of a trained classifier.
    pub logit: f32,
    /// `sigmoid(logit)`: whether image and class belong together, whatever the other classes. For a trained classifier of
    /// which one class is right it is `softmax`.
    pub probability: f32,
    /// Where one class is right: its share among the classes, which sum to 1. Where each class is present or absent:
    /// the share of its presence against its absence, whatever the other classes.
    pub softmax: f32,
}

/// Class embeddings with the model's temperature and bias.
#[derive(Debug, Clone)]
pub struct Classifier {
    labels: Vec<String>,
    present: Embeddings,
    absent: Option<Embeddings>,
    /// What cosines with `present` and `absent` are multiplied by: 1, or the lengths of means that are not normalised.
    lengths: [Vec<f64>; 2],
    logit: Logit,
}

impl Classifier {
    /// A classifier of C classes.
    ///
    /// `present` and, where each class is scored against its absence, `absent` are class embeddings,
    /// (C, D); `logit` is the model's [`crate::Model::logit`].
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the counts or widths differ, or the scale is not finite.
    pub fn new(
        labels: Vec<String>,
        present: Embeddings,
        absent: Option<Embeddings>,
        logit: Logit,
    ) -> Result<Self> {
        let fits = |e: &Embeddings| e.len() == labels.len() && e.dim() == present.dim();
        if labels.is_empty() || !fits(&present) || !absent.as_ref().is_none_or(fits) {
            return Err(Error::BadArgument(format!(
                "classifier: expected one embedding a class of one width, got {} labels, {} embeddings",
                labels.len(),
                present.len()
            )));
        }
        if !logit.temperature().is_finite() || !logit.bias.is_finite() {
            return Err(Error::BadArgument(format!(
                "classifier: expected a finite temperature and bias, got exp({}) and {}",
                logit.scale, logit.bias
            )));
        }
        Ok(Self {
            lengths: [vec![1.0; labels.len()], vec![1.0; labels.len()]],
            labels,
            present: present.normalized(),
            absent: absent.map(Embeddings::normalized),
            logit,
        })
    }

    /// The same with class embeddings of these lengths.
    pub(super) fn of_lengths(mut self, present: Vec<f64>, absent: Option<Vec<f64>>) -> Self {
        self.lengths = [present, absent.unwrap_or_default()];
        self
    }

    /// The classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The class embeddings, (C, D), of norm 1.
    pub fn present(&self) -> &Embeddings {
        &self.present
    }

    /// The embeddings of the classes' absence, (C, D), of norm 1, where they are scored against it.
    pub fn absent(&self) -> Option<&Embeddings> {
        self.absent.as_ref()
    }

    /// Scores of each image (normalised or not), in the order of the classes.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn scores(&self, images: &Embeddings) -> Result<Vec<Vec<ClassScore>>> {
        let cosines = images.cosine(&self.present)?;
        let shares = self.shares_of(images, &cosines)?;
        let classes = self.labels.len();
        let rows = cosines
            .chunks_exact(classes)
            .zip(shares.chunks_exact(classes));
        let score_image = |(cosines, shares): (&[f32], &[f64])| {
            let classes = self.labels.iter().zip(cosines).zip(shares);
            classes
                .map(|((label, cosine), share)| self.score(label, *cosine, *share))
                .collect()
        };
        Ok(rows.map(score_image).collect())
    }

    /// The softmax alone of each image, (B, C), not rounded: what ranks images must not tie where shares are near 1.
    ///
    /// It is over `exp(logit_scale) * cosine`: the bias is the same for all and cancels.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where the widths differ.
    pub fn shares(&self, images: &Embeddings) -> Result<Vec<f64>> {
        self.shares_of(images, &images.cosine(&self.present)?)
    }

    fn shares_of(&self, images: &Embeddings, cosines: &[f32]) -> Result<Vec<f64>> {
        let classes = self.labels.len();
        let absent = self.absent.as_ref().map(|a| images.cosine(a)).transpose()?;
        let temperature = self.logit.temperature();
        let [with, without] = &self.lengths;
        let scale = |cosine: &f32, length: &f64| temperature * length * f64::from(*cosine);
        let of_image = |(image, cosines): (usize, &[f32])| -> Vec<f64> {
            let scaled: Vec<f64> = cosines.iter().zip(with).map(|(c, l)| scale(c, l)).collect();
            match &absent {
                None => softmax(&scaled),
                Some(absent) => {
                    let of_image = absent.iter().skip(image * classes).zip(without);
                    let pairs = scaled.iter().zip(of_image);
                    pairs.map(|(p, (a, l))| sigmoid(p - scale(a, l))).collect()
                }
            }
        };
        let rows = cosines.chunks_exact(classes).enumerate();
        Ok(rows.flat_map(of_image).collect())
    }

    fn score(&self, label: &str, cosine: f32, share: f64) -> ClassScore {
        ClassScore {
            label: label.to_owned(),
            cosine: Some(cosine),
            logit: self.logit.of(cosine),
            probability: self.logit.probability(cosine),
            softmax: share as f32,
        }
    }
}

/// Class embeddings, (C, D), and the length of each: for each class the mean of its rows of `prompts`, normalised again.
///
/// `prompts` is (P, D), normalised; `classes` holds each class's rows.
pub(super) fn class_embeddings(
    prompts: &Embeddings,
    classes: &[Vec<usize>],
) -> Result<(Embeddings, Vec<f64>)> {
    let dim = prompts.dim();
    let mut lengths = Vec::with_capacity(classes.len());
    let mut data = Vec::with_capacity(classes.len().saturating_mul(dim));
    for rows in classes {
        let mut mean = vec![0f64; dim];
        for row in rows {
            for (sum, x) in mean.iter_mut().zip(prompts.row(*row)) {
                *sum += f64::from(*x);
            }
        }
        // A mean and a sum have one direction.
        let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm.is_nan() || norm < 1e-12 {
            return Err(Error::BadArgument(
                "prompts: expected prompt embeddings with a mean, got ones that cancel out".into(),
            ));
        }
        data.extend(mean.iter().map(|x| (x / norm) as f32));
        lengths.push(norm / rows.len() as f64);
    }
    Ok((Embeddings::new(dim, data)?, lengths))
}

/// `exp(x) / sum(exp(x))` without overflow.
pub(crate) fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests;
