//! What the vision tower learns of its pictures beside the loss, without labels: a linear layer on its patches tells how
//! bright, how varied, how dark and how light each of them is in every colour, also of patches that it was not shown.
//!
//! Few pictures with few captions teach a tower little else than their captions' differences; this keeps in its patches
//! what is to be seen there. The layer is not part of the trained model.

use std::ops::Range;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::step::constant;
use crate::dataset::{Purpose, generator};
use crate::preprocess::PixelValues;
use crate::towers::{Linear, Siglip, params};
use crate::{Error, Result};

/// Mean, standard deviation, least and greatest value of three colours.
const STATISTICS: usize = 12;

/// The `[auxiliary]` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuxiliaryConfig {
    /// What its loss counts beside that of the pairs.
    pub weight: f64,
    /// The share of patches that the vision tower is not shown: they are grey, and are told from what is around them.
    #[serde(default)]
    pub mask: f64,
}

/// What is to be told of a batch of pictures.
#[derive(Debug, Clone)]
pub struct Auxiliary {
    /// What it counts.
    pub weight: f64,
    /// (n, N, 12): each statistic has mean 0 and variance 1 over the batch.
    truth: Vec<f32>,
    /// N, of a picture.
    patches: usize,
}

/// `model` with a layer of zeros for what is to be told.
pub fn with_auxiliary(mut model: Siglip) -> Siglip {
    let position = model
        .vision_model
        .embeddings
        .position_embedding
        .weight
        .val();
    let (width, device) = (position.dims()[1], position.device());
    let id = |part: &str| params::id(&format!("auxiliary.{part}"));
    let weight = Tensor::zeros([STATISTICS, width], &device);
    let bias = Tensor::zeros([STATISTICS], &device);
    model.auxiliary = Some(Linear {
        weight: Param::initialized(id("weight"), weight.set_require_grad(true)),
        bias: Param::initialized(id("bias"), bias.set_require_grad(true)),
    });
    model
}

impl AuxiliaryConfig {
    /// What is to be told of `pixels` in patches of `patch` by `patch`, and the pixels that the tower is shown. Which patches
    /// are hidden follows from `seed` and the number of the first draw.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a patch is larger than a picture, or of no size.
    pub fn of(
        &self,
        pixels: &PixelValues,
        patch: usize,
        seed: u64,
        draw: u64,
    ) -> Result<(Auxiliary, PixelValues)> {
        if patch == 0 || patch > pixels.size() {
            return Err(Error::BadArgument(format!(
                "an auxiliary loss: expected patches within pictures of {0}x{0} pixels, got {patch}x{patch}",
                pixels.size()
            )));
        }
        let truth = Auxiliary {
            weight: self.weight,
            truth: statistics(pixels, patch),
            patches: (pixels.size() / patch).pow(2),
        };
        if self.mask == 0.0 {
            return Ok((truth, pixels.clone()));
        }
        let mut shown = pixels.data().to_vec();
        let (size, grid) = (pixels.size(), pixels.size() / patch);
        for (row, picture) in shown.chunks_exact_mut(3 * size * size).enumerate() {
            let mut rng = generator(seed, Purpose::Mask, [draw, row as u64]);
            let hidden: Vec<bool> = (0..grid * grid)
                .map(|_| rng.random_bool(self.mask))
                .collect();
            for (line, pixels) in picture.chunks_exact_mut(size).enumerate() {
                let down = line % size / patch;
                for (across, pixels) in pixels.chunks_exact_mut(patch).take(grid).enumerate() {
                    if down < grid && hidden[down * grid + across] {
                        pixels.fill(0.0);
                    }
                }
            }
        }
        Ok((truth, PixelValues::new(pixels.batch(), size, shown)?))
    }
}

impl Auxiliary {
    /// The part that some pictures, whose patches (rows, N, D) came out of `model`, have in the loss: the mean square of the
    /// differences, without its weight.
    ///
    /// # Errors
    /// `UNSUPPORTED` where the model has no layer for it, `BAD_ARGUMENT` where it has other patches.
    pub(super) fn part(
        &self,
        model: &Siglip,
        rows: &Range<usize>,
        patches: &Tensor<3>,
    ) -> Result<Tensor<1>> {
        let layer = model.auxiliary.as_ref().ok_or_else(|| {
            Error::Unsupported("an auxiliary loss needs a model with a layer for it".into())
        })?;
        let each = self.patches * STATISTICS;
        let truth = self.truth.get(rows.start * each..rows.end * each);
        let truth = truth.filter(|_| patches.dims()[1] == self.patches);
        let truth = truth.ok_or_else(|| {
            Error::BadArgument("an auxiliary loss: expected the patches of its pictures".into())
        })?;
        let told = layer.forward(patches.clone());
        let inner = told.device().without_autodiff();
        let truth = TensorData::new(truth.to_vec(), told.dims());
        let truth = constant(Tensor::from_data(truth, &inner), &told);
        let all = self.truth.len() as f64;
        Ok((told - truth).square().sum() / all)
    }
}

/// (n, N, 12) of the whole patches of pixels: each with mean 0 and variance 1, or 0 where there is no difference.
fn statistics(pixels: &PixelValues, patch: usize) -> Vec<f32> {
    let (size, grid) = (pixels.size(), pixels.size() / patch);
    let mut all = Vec::with_capacity(pixels.batch() * grid * grid * STATISTICS);
    for picture in pixels.data().chunks_exact(3 * size * size) {
        for place in 0..grid * grid {
            let (top, left) = (place / grid * patch, place % grid * patch);
            for colour in picture.chunks_exact(size * size) {
                let lines = colour.chunks_exact(size).skip(top).take(patch);
                all.extend(of_patch(lines.flat_map(|line| &line[left..left + patch])));
            }
        }
    }
    let count = (all.len() / STATISTICS) as f64;
    for which in 0..STATISTICS {
        let own = || {
            all.iter()
                .skip(which)
                .step_by(STATISTICS)
                .map(|x| f64::from(*x))
        };
        let mean = own().sum::<f64>() / count;
        let variance = own().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let scale = if variance > 1e-8 {
            variance.sqrt().recip()
        } else {
            0.0
        };
        for value in all.iter_mut().skip(which).step_by(STATISTICS) {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    }
    all
}

/// Mean, standard deviation, least and greatest.
fn of_patch<'a>(values: impl Iterator<Item = &'a f32>) -> [f32; 4] {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
    for value in values {
        let wide = f64::from(*value);
        (count, sum, squares) = (count + 1.0, sum + wide, squares + wide * wide);
        (least, most) = (least.min(*value), most.max(*value));
    }
    let mean = sum / count;
    let deviation = (squares / count - mean * mean).max(0.0).sqrt();
    [mean as f32, deviation as f32, least, most]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pictures of 5 by 5 pixels, that is two by two patches of 2 by 2 and a rest.
    fn pixels() -> PixelValues {
        let values = (0..2 * 3 * 25).map(|i| ((i * i * 7 + i) % 61) as f32 / 30.0 - 1.01);
        PixelValues::new(2, 5, values.collect()).unwrap()
    }

    fn of(mask: f64, seed: u64, draw: u64) -> (Auxiliary, Vec<f32>) {
        let config = AuxiliaryConfig { weight: 1.0, mask };
        let (auxiliary, shown) = config.of(&pixels(), 2, seed, draw).unwrap();
        (auxiliary, shown.data().to_vec())
    }

    #[test]
    fn of_every_patch_and_colour_there_are_four_numbers_without_their_mean_and_scale() {
        let (auxiliary, shown) = of(0.0, 1, 0);
        assert_eq!((auxiliary.patches, auxiliary.truth.len()), (4, 2 * 4 * 12));
        let pixels = pixels();
        assert_eq!(shown, pixels.data());
        // The green of the second picture's lower left patch, by hand.
        let at = |picture: usize, y: usize, x: usize| {
            f64::from(pixels.data()[(picture * 3 + 1) * 25 + y * 5 + x])
        };
        let patch = |picture: usize, top: usize, left: usize| {
            let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let values = places.map(|(y, x)| at(picture, top + y, left + x));
            let mean = values.iter().sum::<f64>() / 4.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
            let least = values.into_iter().fold(f64::INFINITY, f64::min);
            let most = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
            [mean, variance.sqrt(), least, most]
        };
        let corners = [(0, 0), (0, 2), (2, 0), (2, 2)];
        let all: Vec<_> = (0..2)
            .flat_map(|picture| corners.map(|(top, left)| patch(picture, top, left)))
            .collect();
        for which in 0..4 {
            let mean = all.iter().map(|p| p[which]).sum::<f64>() / 8.0;
            let variance = all.iter().map(|p| (p[which] - mean).powi(2)).sum::<f64>() / 8.0;
            let want = (all[6][which] - mean) / variance.sqrt();
            let got = f64::from(auxiliary.truth[6 * 12 + 4 + which]);
            assert!((got - want).abs() < 1e-5, "{which}: {got} {want}");
        }
    }

    #[test]
    fn whole_patches_are_hidden_and_what_is_told_stays() {
        let (auxiliary, shown) = of(0.5, 1, 0);
        assert_eq!(auxiliary.truth, of(0.0, 1, 0).0.truth);
        assert_eq!(shown, of(0.5, 1, 0).1);
        assert!(shown != of(0.5, 1, 2).1 && shown != of(0.5, 2, 0).1);
        let (pixels, mut hidden) = (pixels(), 0);
        for (place, (now, before)) in shown.iter().zip(pixels.data()).enumerate() {
            let (y, x) = (place / 5 % 5, place % 5);
            let corner = place / 75 * 75 + y / 2 * 10 + x / 2 * 2;
            // Colours are hidden together; the rest beyond the last whole patch never is.
            let gone = y < 4 && x < 4 && shown[corner] == 0.0;
            assert_eq!(*now, if gone { 0.0 } else { *before }, "{place}");
            hidden += usize::from(gone);
        }
        assert!(hidden > 0 && hidden.is_multiple_of(12), "{hidden}");
    }

    #[test]
    fn patches_that_do_not_differ_are_told_as_zero() {
        let flat = PixelValues::new(1, 4, vec![0.3; 48]).unwrap();
        let config = AuxiliaryConfig {
            weight: 1.0,
            mask: 0.0,
        };
        let (auxiliary, _) = config.of(&flat, 2, 0, 0).unwrap();
        assert!(auxiliary.truth.iter().all(|x| *x == 0.0));
        assert!(config.of(&flat, 5, 0, 0).is_err() && config.of(&flat, 0, 0, 0).is_err());
    }
}
