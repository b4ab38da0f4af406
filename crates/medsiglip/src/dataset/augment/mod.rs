//! [`augment`]: a training picture is varied before it becomes pixels. Evaluation never comes here.
//!
//! Names and definitions are those of torchvision 0.22 (`torchvision.transforms`, the functions on tensors). The order is
//! fixed: crop, the pixel recipe's own resize, flips, quarter turns, rotation, colour, blur, erasing. All but the crop
//! work on the few pixels that the model will see.

mod color;
mod config;
mod geometry;
mod blur;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use config::{AugmentConfig, ColorJitter, GaussianBlur, RandomErasing, RandomResizedCrop};

use crate::Result;
use crate::image::{Picture, Samples};
use crate::preprocess::Preprocessor;

/// An 8-bit square picture on its way, (size, size, channels).
#[derive(Debug, Clone, PartialEq)]
struct Canvas {
    size: usize,
    channels: usize,
    samples: Vec<u8>,
}

/// A variation of `picture` at the size of `preprocessor`, whose recipe then leaves it as it is.
///
/// # Errors
/// As [`Preprocessor::view`].
pub fn augment(
    picture: &Picture,
    preprocessor: &Preprocessor,
    config: &AugmentConfig,
    random: &mut ChaCha8Rng,
) -> Result<Picture> {
    let view = match &config.random_resized_crop {
        Some(crop) => {
            let area = crop.draw(picture.width(), picture.height(), random);
            preprocessor.view(&geometry::crop(picture, &area)?)?
        }
        None => preprocessor.view(picture)?,
    };
    let gray = picture.channels() == 1;
    let mut canvas = Canvas {
        size: preprocessor.size(),
        channels: if gray { 1 } else { 3 },
        samples: match gray {
            true => view.into_iter().step_by(3).collect(),
            false => view,
        },
    };
    canvas.turn(config, random);
    if let Some(jitter) = &config.color_jitter {
        color::jitter(&mut canvas, jitter, random);
    }
    if let Some(blur) = &config.gaussian_blur
        && random.random_bool(blur.p)
    {
        let [low, high] = blur.sigma;
        blur::gaussian(&mut canvas, blur.kernel_size, between(low, high, random));
    }
    if let Some(erasing) = &config.random_erasing
        && random.random_bool(erasing.p)
    {
        canvas.erase(erasing, random);
    }
    let side = canvas.size as u32;
    Picture::new(side, side, picture.channels(), Samples::U8(canvas.samples))
}

/// Uniform in `low..high`; `low` where both are equal.
fn between(low: f64, high: f64, random: &mut ChaCha8Rng) -> f64 {
    low + (high - low) * random.random::<f64>()
}

#[cfg(test)]
mod tests;
