//! Picture to [`PixelValues`]: the named pixel recipes. The only place that makes float pixels.
//!
//! | recipe | padding | resize | 16-bit sources |
//! |---|---|---|---|
//! | `eval-tf` | none | `tf.image.resize` bilinear, no antialias, truncated | rounded to 8 bits first |
//! | `hf` | none | Pillow bicubic | rounded to 8 bits first |
//! | `container` | square, zeros | Pillow bicubic | truncated to 8 bits first, as the container does |
//! | `torchvision` | none | Pillow bilinear (antialiased) | rounded to 8 bits first |
//! | `checkpoint` | none | the Pillow filter that the checkpoint names | rounded to 8 bits first |
//!
//! All but `checkpoint` then map the 8-bit levels to [-1, 1] with the very f32 numbers of `SiglipImageProcessor`.
//! torchvision's `ToTensor` and `Normalize` and big_vision's `value_range(-1, 1)` give the same 256 numbers, bit for bit.
//!
//! Pillow itself reads 16-bit colour by its high byte; our rounding is nearer to the source by half a step on average.

use std::path::Path;

mod recipe;
mod processor_config;
mod depth;
mod frame;
mod resample;
mod tf_resize;
mod levels;

use frame::Frame;
use levels::{Levels, ONE_255TH};
use resample::Filter;

use crate::image::{DecodeOptions, Picture};
use crate::{Error, Result};

pub use recipe::{Padding, Recipe};

/// Longest side of a picture: the weights of a resize grow with it.
const MAX_SIDE: u32 = 1 << 22;

/// Float pixels for the vision tower.
///
/// # Shapes
/// `data` is (B, 3, size, size), row-major, values in [-1, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct PixelValues {
    batch: usize,
    size: usize,
    data: Vec<f32>,
}

impl PixelValues {
    /// Pixel values from a buffer of shape (batch, 3, size, size).
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `size` is zero or the length does not fit.
    pub fn new(batch: usize, size: usize, data: Vec<f32>) -> Result<Self> {
        let expected = [3, size, size]
            .into_iter()
            .try_fold(batch, usize::checked_mul);
        if size == 0 || expected != Some(data.len()) {
            return Err(Error::BadArgument(format!(
                "pixel values: expected {batch}x3x{size}x{size} numbers and a size above 0, got {}",
                data.len()
            )));
        }
        Ok(Self { batch, size, data })
    }

    /// Joins the items of several pixel values of one size into one batch.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where `parts` is empty or sizes differ.
    pub fn concat(parts: &[PixelValues]) -> Result<Self> {
        let size = parts.first().map_or(0, |p| p.size);
        if size == 0 || parts.iter().any(|p| p.size != size) {
            return Err(Error::BadArgument(
                "pixel values to join: expected at least one, all of one size".into(),
            ));
        }
        Ok(Self {
            batch: parts.iter().map(|p| p.batch).sum(),
            size,
            data: parts.iter().flat_map(|p| &p.data).copied().collect(),
        })
    }

    /// Number of pictures, B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Height and width in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The numbers, (B, 3, size, size).
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Some of its pictures.
    #[cfg(feature = "train")]
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let each = 3 * self.size * self.size;
        Self {
            batch: rows.len(),
            size: self.size,
            data: self.data[rows.start * each..rows.end * each].to_vec(),
        }
    }

    /// Whether there is a picture at all and a tower of `size` pixels can take it.
    pub(crate) fn check(&self, size: usize) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::empty_batch());
        }
        if self.size != size {
            return Err(Error::BadArgument(format!(
                "pixel values: expected {size}x{size} pixels, got {0}x{0}",
                self.size
            )));
        }
        Ok(())
    }
}

/// How the picture gets its new size.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Resize {
    Pillow(Filter),
    TfBilinear,
    /// The picture must have the size already.
    Keep,
}

/// Pictures to pixel values by one recipe at one resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    recipe: Recipe,
    padding: Padding,
    size: usize,
    resize: Resize,
    levels: Box<Levels>,
    description: String,
}

impl Preprocessor {
    /// A preprocessor for `recipe` at `size` pixels; `padding` of `None` takes the recipe's own.
    /// `preprocessor_config` is the text of the checkpoint's `preprocessor_config.json`, needed for [`Recipe::Checkpoint`] alone.
    ///
    /// # Errors
    /// `BAD_CONFIG` where the checkpoint's recipe is asked for and absent or not one we can follow exactly;
    /// `BAD_ARGUMENT` where `size` is zero or above 16384.
    pub fn new(
        recipe: Recipe,
        padding: Option<Padding>,
        size: usize,
        preprocessor_config: Option<&str>,
    ) -> Result<Self> {
        if !(1..=16_384).contains(&size) {
            return Err(Error::BadArgument(format!(
                "picture size for the model: expected 1 to 16384, got {size}"
            )));
        }
        let half = [0.5; 3];
        let mut levels = Box::new(levels::levels(Some(ONE_255TH), Some((half, half))));
        let mut description = recipe.name().to_owned();
        let resize = match recipe {
            Recipe::EvalTf => Resize::TfBilinear,
            Recipe::Hf | Recipe::Container => Resize::Pillow(Filter::Bicubic),
            Recipe::Torchvision => Resize::Pillow(Filter::Bilinear),
            Recipe::Checkpoint => {
                let text = preprocessor_config.ok_or_else(|| {
                    Error::BadConfig(
                        "recipe checkpoint: the checkpoint has no preprocessor_config.json".into(),
                    )
                })?;
                let config = processor_config::parse(text)?;
                levels = Box::new(config.levels());
                description = format!("{recipe}: {config}");
                config.filter.map_or(Resize::Keep, Resize::Pillow)
            }
        };
        let padding = padding.unwrap_or(recipe.default_padding());
        Ok(Self {
            recipe,
            padding,
            size,
            resize,
            levels,
            description,
        })
    }

    /// The recipe in use.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// The padding in use.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Output height and width in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The recipe for the record: its name, and of `checkpoint` also what the file made of it, for example
    /// `checkpoint: bicubic, mean 0.5, std 0.5, rescale 1/255`.
    pub fn describe(&self) -> String {
        self.description.clone()
    }

    /// Decode options that go with the recipe (`container` reads unusual files as the container does).
    pub fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            container_compat: self.recipe == Recipe::Container,
            ..DecodeOptions::default()
        }
    }

    /// Decodes the file at `path` with the recipe's decode options and preprocesses it.
    ///
    /// # Errors
    /// As [`crate::image::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<PixelValues> {
        self.pixel_values(&crate::image::open_with(path, &self.decode_options())?)
    }

    /// What the model will see, before the numbers become floats: RGB, 8 bits, (size, size, 3).
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where a side is above 2^22 pixels; `BAD_IMAGE` where the recipe `checkpoint` does not
    /// resize and the picture has another size than the model takes.
    pub fn view(&self, picture: &Picture) -> Result<Vec<u8>> {
        let view = self.resized(picture)?;
        Ok(if picture.channels() == 1 {
            view.into_iter().flat_map(|v| [v; 3]).collect()
        } else {
            view
        })
    }

    /// The 8-bit samples that float pixels of this preprocessor came from: RGB, (B, size, size, 3).
    pub fn samples(&self, pixels: &PixelValues) -> Vec<u8> {
        let plane = pixels.size() * pixels.size();
        let mut samples = vec![0; pixels.data().len()];
        let pictures = pixels.data().chunks_exact(3 * plane);
        for (picture, samples) in pictures.zip(samples.chunks_exact_mut(3 * plane)) {
            for (channel, table) in self.levels.iter().enumerate() {
                // Levels lie evenly between the first and the last.
                let (first, last) = (table[0], table[255]);
                for (place, x) in picture[channel * plane..][..plane].iter().enumerate() {
                    let level = (x - first) / (last - first) * 255.0;
                    samples[3 * place + channel] = level.round() as u8;
                }
            }
        }
        samples
    }

    /// The picture as float pixels, (1, 3, size, size).
    ///
    /// # Errors
    /// As [`Preprocessor::view`].
    pub fn pixel_values(&self, picture: &Picture) -> Result<PixelValues> {
        let view = self.resized(picture)?;
        let mut data = vec![0.0; 3 * self.size * self.size];
        levels::apply(
            &self.levels,
            &view,
            usize::from(picture.channels()),
            &mut data,
        );
        PixelValues::new(1, self.size, data)
    }

    /// The picture at the model's size, 8 bits, with the channels that it has: a gray one is resized once.
    ///
    /// # Shapes
    /// The result is (size, size, channels).
    fn resized(&self, picture: &Picture) -> Result<Vec<u8>> {
        let side = picture.width().max(picture.height());
        if side > MAX_SIDE {
            return Err(Error::Limit {
                what: "picture side in pixels",
                got: side.into(),
                limit: MAX_SIDE.into(),
            });
        }
        let (samples, is_binary) = if self.recipe == Recipe::Container {
            depth::to_container_8_bits(picture)
        } else {
            (depth::to_8_bits(picture), false)
        };
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let channels = usize::from(picture.channels());
        let frame = Frame::new(&samples, width, height, channels, self.padding);
        let mut view = self.resize(&frame)?;
        if is_binary {
            // Resized as 0 and 1, and 1 is white to the model: normalisation skips the division by 255 too.
            view.iter_mut()
                .for_each(|v| *v = if *v == 0 { 0 } else { 255 });
        }
        Ok(view)
    }

    fn resize(&self, frame: &Frame) -> Result<Vec<u8>> {
        match self.resize {
            Resize::Pillow(filter) => Ok(resample::resize(frame, self.size, filter)),
            Resize::TfBilinear => Ok(tf_resize::resize(frame, self.size)),
            Resize::Keep if frame.x.is_identity(self.size) && frame.y.is_identity(self.size) => {
                Ok(frame.data.to_vec())
            }
            Resize::Keep => Err(Error::BadImage(format!(
                "the checkpoint's recipe does not resize (do_resize is false): expected a picture of {size}x{size} \
                 pixels without padding, got {}x{}",
                frame.x.len,
                frame.y.len,
                size = self.size
            ))),
        }
    }
}

/// Pillow's antialiased bilinear resize of a square picture.
///
/// # Shapes
/// `rgb` is (side, side, 3); the result is (size, size, 3).
pub(crate) fn resize_square(rgb: &[u8], side: usize, size: usize) -> Vec<u8> {
    let frame = Frame::new(rgb, side, side, 3, Padding::None);
    resample::resize(&frame, size, Filter::Bilinear)
}

#[cfg(test)]
mod tests;
