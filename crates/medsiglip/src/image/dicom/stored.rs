//! What a frame stores, before anything is done for display.

use std::str::FromStr;

use dicom_dictionary_std::tags;
use dicom_object::Tag;

use crate::{Error, Result};

/// Stored values of one frame, interleaved where there are three samples a pixel.
///
/// # Shapes
/// (rows, columns, channels), row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Height in pixels.
    pub rows: u32,
    /// Width in pixels.
    pub columns: u32,
    /// 1 or 3.
    pub channels: u8,
    /// The numbers.
    pub values: Values,
    /// What the numbers mean: YBR is RGB by now, a palette is still to be applied.
    pub photometric: Photometric,
    /// ICC profile that the compressed frame itself carries.
    pub icc_profile: Option<Vec<u8>>,
    /// What was odd, for a person to read.
    pub warnings: Vec<String>,
}

/// Numbers of a frame, sign-extended from the bits that are stored.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Values {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Photometric Interpretation (DICOM PS3.3 C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own terms")]
pub enum Photometric {
    Monochrome1,
    Monochrome2,
    Rgb,
    PaletteColor,
    YbrFull,
    YbrFull422,
    YbrPartial420,
    YbrPartial422,
    YbrIct,
    YbrRct,
}

impl Photometric {
    /// The standard's term.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
            Self::Rgb => "RGB",
            Self::PaletteColor => "PALETTE COLOR",
            Self::YbrFull => "YBR_FULL",
            Self::YbrFull422 => "YBR_FULL_422",
            Self::YbrPartial420 => "YBR_PARTIAL_420",
            Self::YbrPartial422 => "YBR_PARTIAL_422",
            Self::YbrIct => "YBR_ICT",
            Self::YbrRct => "YBR_RCT",
        }
    }

    /// Whether a pixel is one gray sample.
    pub fn is_monochrome(self) -> bool {
        matches!(self, Self::Monochrome1 | Self::Monochrome2)
    }

    /// Samples a pixel that the term calls for.
    pub fn channels(self) -> u8 {
        match self {
            Self::Monochrome1 | Self::Monochrome2 | Self::PaletteColor => 1,
            _ => 3,
        }
    }
}

impl FromStr for Photometric {
    type Err = Error;

    /// # Errors
    /// `UNSUPPORTED` for terms that are retired or unknown; the term itself is not shown, it may be anything.
    fn from_str(term: &str) -> Result<Self> {
        let all = [
            Self::Monochrome1,
            Self::Monochrome2,
            Self::Rgb,
            Self::PaletteColor,
            Self::YbrFull,
            Self::YbrFull422,
            Self::YbrPartial420,
            Self::YbrPartial422,
            Self::YbrIct,
            Self::YbrRct,
        ];
        all.into_iter()
            .find(|one| one.name() == term.trim())
            .ok_or_else(|| {
                let known = all.map(Self::name).join(", ");
                Error::Unsupported(format!(
                    "DICOM photometric interpretation (0028,0004): expected one of {known}"
                ))
            })
    }
}

/// How the pixel module says that a frame is stored (DICOM PS3.3 C.7.6.3), checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Height in pixels, above 0.
    pub rows: u32,
    /// Width in pixels, above 0.
    pub columns: u32,
    /// 1 or 3.
    pub samples_per_pixel: u8,
    /// Planar Configuration 1: all of R, then all of G, then all of B.
    pub is_planar: bool,
    /// 1, 8, 16, 32 or 64.
    pub bits_allocated: u8,
    /// 1 to `bits_allocated`.
    pub bits_stored: u8,
    /// The highest bit of a stored value.
    pub high_bit: u8,
    /// Pixel Representation 1: two's complement.
    pub is_signed: bool,
    /// Float or Double Float Pixel Data.
    pub is_float: bool,
    /// What a stored pixel is.
    pub photometric: Photometric,
}

impl Shape {
    /// Samples of a frame; within `usize` by the limits that were checked.
    pub fn samples(&self) -> usize {
        self.rows as usize * self.columns as usize * usize::from(self.samples_per_pixel)
    }

    /// Bits of an uncompressed frame. `YBR_FULL_422` holds two pixels in four samples (PS3.3 C.7.6.3.1.2).
    pub fn native_bits(&self) -> u64 {
        let pixels = u64::from(self.rows) * u64::from(self.columns);
        let samples = match self.photometric {
            Photometric::YbrFull422 | Photometric::YbrPartial422 => 2 * pixels.next_multiple_of(2),
            _ => pixels * u64::from(self.samples_per_pixel),
        };
        samples * u64::from(self.bits_allocated)
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self, pixels: Tag) -> Result<()> {
        let Self {
            bits_allocated,
            bits_stored,
            high_bit,
            ..
        } = *self;
        let is_allocated = match pixels {
            tags::FLOAT_PIXEL_DATA => bits_allocated == 32,
            tags::DOUBLE_FLOAT_PIXEL_DATA => bits_allocated == 64,
            _ => matches!(bits_allocated, 1 | 8 | 16 | 32),
        };
        if !is_allocated {
            return Err(Error::Unsupported(format!(
                "DICOM bits allocated (0028,0100): expected 1, 8, 16 or 32, got {bits_allocated}"
            )));
        }
        if bits_stored == 0
            || bits_stored > bits_allocated
            || high_bit >= bits_allocated
            || high_bit + 1 < bits_stored
        {
            return Err(Error::BadImage(format!(
                "DICOM bits: stored {bits_stored} with high bit {high_bit} do not fit into {bits_allocated} allocated"
            )));
        }
        if self.samples_per_pixel != self.photometric.channels() {
            return Err(Error::BadImage(format!(
                "DICOM samples per pixel (0028,0002): {} with {}",
                self.samples_per_pixel,
                self.photometric.name()
            )));
        }
        Ok(())
    }
}
