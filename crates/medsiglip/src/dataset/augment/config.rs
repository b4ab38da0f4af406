//! [`AugmentConfig`]: how the training pictures of a source are varied.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How training pictures are varied; nothing by default. The names are torchvision's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// A part of the picture instead of the whole.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Probability of a mirror image. The heart lies on the left: not for chest X-rays.
    pub horizontal_flip: f64,
    /// Probability of an upside-down picture.
    pub vertical_flip: f64,
    /// A turn by 0, 90, 180 or 270 degrees, each as likely.
    pub quarter_turns: bool,
    /// A rotation by at most so many degrees either way (`RandomRotation`, bilinear); what comes into view is black.
    pub rotation_degrees: f64,
    /// Changes of colour.
    pub color_jitter: Option<ColorJitter>,
    /// A blur.
    pub gaussian_blur: Option<GaussianBlur>,
    /// A rectangle is made mid-gray.
    pub random_erasing: Option<RandomErasing>,
}

/// `RandomResizedCrop`: the share of the area and the ratio of the sides are drawn; the model's size is fixed by the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResizedCrop {
    /// Lowest and highest share of the picture's area.
    pub scale: [f64; 2],
    /// Lowest and highest ratio of width to height.
    pub ratio: [f64; 2],
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self {
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
        }
    }
}

/// `ColorJitter`: each factor is drawn from `1 - x` to `1 + x` (not below 0), the order of the four is drawn too.
/// On gray pictures brightness and contrast alone have an effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// Largest change of brightness.
    pub brightness: f64,
    /// Largest change of contrast.
    pub contrast: f64,
    /// Largest change of saturation.
    pub saturation: f64,
    /// Largest shift of hue either way, in turns of the colour circle, at most 0.5.
    pub hue: f64,
}

/// `GaussianBlur`, applied with probability `p`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GaussianBlur {
    /// Probability.
    pub p: f64,
    /// Side of the kernel in pixels, odd, at most 63.
    pub kernel_size: usize,
    /// Smallest and largest standard deviation in pixels.
    pub sigma: [f64; 2],
}

impl Default for GaussianBlur {
    fn default() -> Self {
        Self {
            p: 0.5,
            kernel_size: 9,
            sigma: [0.1, 2.0],
        }
    }
}

/// `RandomErasing`, applied with probability `p`. The rectangle is filled with level 128, which is the zero of the pixels
/// that the model sees, as torchvision's `value=0` is after its normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomErasing {
    /// Probability.
    pub p: f64,
    /// Lowest and highest share of the area.
    pub scale: [f64; 2],
    /// Lowest and highest ratio of height to width.
    pub ratio: [f64; 2],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            p: 0.5,
            scale: [0.02, 0.33],
            ratio: [0.3, 3.3],
        }
    }
}

/// `0 < low <= high <= limit`.
fn is_range([low, high]: [f64; 2], limit: f64) -> bool {
    low > 0.0 && low <= high && high <= limit
}

impl AugmentConfig {
    /// Whether pictures stay as they are.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// `BAD_CONFIG` naming the key.
    pub fn check(&self) -> Result<()> {
        let share = |p: f64| (0.0..=1.0).contains(&p);
        let crop = self.random_resized_crop.clone().unwrap_or_default();
        let jitter = self.color_jitter.clone().unwrap_or_default();
        let blur = self.gaussian_blur.clone().unwrap_or_default();
        let erasing = self.random_erasing.clone().unwrap_or_default();
        let factors = [jitter.brightness, jitter.contrast, jitter.saturation];
        let checks = [
            (
                share(self.horizontal_flip) && share(self.vertical_flip),
                "horizontal_flip and vertical_flip: expected probabilities from 0 to 1",
            ),
            (
                (0.0..=180.0).contains(&self.rotation_degrees),
                "rotation_degrees: expected 0 to 180",
            ),
            (
                is_range(crop.scale, 1.0) && is_range(crop.ratio, 100.0),
                "random_resized_crop: expected scale [low, high] above 0 and up to 1, ratio [low, high] above 0",
            ),
            (
                factors.into_iter().all(|x| x.is_finite() && x >= 0.0),
                "color_jitter: expected brightness, contrast and saturation of at least 0",
            ),
            (
                (0.0..=0.5).contains(&jitter.hue),
                "color_jitter: expected hue from 0 to 0.5",
            ),
            (
                share(blur.p) && is_range(blur.sigma, 100.0),
                "gaussian_blur: expected p from 0 to 1 and sigma [low, high] above 0",
            ),
            (
                blur.kernel_size % 2 == 1 && blur.kernel_size < 64,
                "gaussian_blur: expected an odd kernel_size of at most 63",
            ),
            (
                share(erasing.p) && is_range(erasing.scale, 1.0) && is_range(erasing.ratio, 100.0),
                "random_erasing: expected p from 0 to 1, scale [low, high] up to 1, ratio [low, high] above 0",
            ),
        ];
        match checks.iter().find(|(ok, _)| !ok) {
            Some((_, wrong)) => Err(Error::BadConfig(format!("augment: {wrong}"))),
            None => Ok(()),
        }
    }
}
