//! The names of the pixel recipes and of the padding.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, named};

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

impl Recipe {
    /// Every recipe, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::EvalTf,
        Self::Hf,
        Self::Container,
        Self::Torchvision,
        Self::Checkpoint,
    ];

    /// The recipe's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EvalTf => "eval-tf",
            Self::Hf => "hf",
            Self::Container => "container",
            Self::Torchvision => "torchvision",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The padding of a recipe whose caller chose none.
    pub fn default_padding(self) -> Padding {
        match self {
            Self::Container => Padding::Square,
            _ => Padding::None,
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named::parse("pixel recipe", &Self::ALL, Self::name, name)
    }
}

/// Whether a picture is padded to a square before it is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// `none`: the aspect ratio is warped.
    None,
    /// `square`: zeros around the centred picture (before = diff / 2, after the rest).
    Square,
}

impl Padding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::None, Self::Square];

    /// The padding's stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Square => "square",
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Padding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        named::parse("padding", &Self::ALL, Self::name, name)
    }
}
