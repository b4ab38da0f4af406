//! Picture to [`PixelValues`]: the named pixel recipes. The only place that makes float pixels.

use std::path::Path;

use crate::image::{DecodeOptions, Picture};
use crate::{Error, Result};

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
    /// `BAD_ARGUMENT` where the length does not fit.
    pub fn new(batch: usize, size: usize, data: Vec<f32>) -> Result<Self> {
        if data.len() != batch * 3 * size * size {
            return Err(Error::BadArgument(format!(
                "pixel values: expected {batch}x3x{size}x{size} numbers, got {}",
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
}

/// A named pixel recipe: which resize, which rounding (see the module docs for the table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// `eval-tf`: `tf.image.resize` bilinear, antialias off, truncated to 8 bits: big_vision, model card "to match evaluations".
    EvalTf,
    /// `hf`: Pillow bicubic on 8 bits: `SiglipImageProcessor`.
    Hf,
    /// `container`: zero pad to a square, then Pillow bicubic: the public serving container.
    Container,
    /// `torchvision`: Pillow bilinear, antialiased: the public fine-tuning notebooks.
    Torchvision,
    /// `checkpoint`: what the checkpoint's own `preprocessor_config.json` says.
    Checkpoint,
}

/// Whether a picture is padded to a square before it is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// `none`: the aspect ratio is warped.
    None,
    /// `square`: zeros around the centred picture (before = diff / 2, after the rest).
    Square,
}

/// Pictures to pixel values by one recipe at one resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    recipe: Recipe,
    padding: Padding,
    size: usize,
}

impl Preprocessor {
    /// A preprocessor for `recipe` at `size` pixels; `padding` of `None` takes the recipe's own.
    /// `preprocessor_config` is the text of the checkpoint's `preprocessor_config.json`, needed for [`Recipe::Checkpoint`] alone.
    ///
    /// # Errors
    /// `BAD_CONFIG` where the checkpoint's recipe is asked for and absent or not one we can follow exactly.
    pub fn new(
        recipe: Recipe,
        padding: Option<Padding>,
        size: usize,
        preprocessor_config: Option<&str>,
    ) -> Result<Self> {
        let _ = (recipe, padding, size, preprocessor_config);
        todo!()
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
    /// `LIMIT_EXCEEDED` where padding would need too much memory.
    pub fn view(&self, picture: &Picture) -> Result<Vec<u8>> {
        let _ = picture;
        todo!()
    }

    /// The picture as float pixels, (1, 3, size, size).
    ///
    /// # Errors
    /// As [`Preprocessor::view`].
    pub fn pixel_values(&self, picture: &Picture) -> Result<PixelValues> {
        let _ = picture;
        todo!()
    }
}
