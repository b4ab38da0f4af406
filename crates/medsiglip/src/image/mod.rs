//! Any source to a [`Picture`]: the samples as stored, upright, without colour map.

mod decode;
mod limits;
mod sniff;
mod raw;
mod png;
mod jpeg;
mod tiff;
mod tiff_jpeg;
mod tiff_palette;
mod simple;
pub mod dicom;
pub mod slide;
pub mod color;

use decode::orientation_of_exif;
pub use decode::{DecodeOptions, SourceInfo, decode, open, open_with};
pub use limits::Limits;
pub use sniff::{DICOM_EXTENSIONS, Kind, PICTURE_EXTENSIONS, SNIFF_BYTES, sniff};

use crate::{Error, Result};

/// The samples of a picture, interleaved, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 8 bits a sample.
    U8(Vec<u8>),
    /// 16 bits a sample, full range 0..=65535.
    U16(Vec<u16>),
}

/// A decoded picture: gray (1 channel) or RGB (3 channels), 8 or 16 bits a sample.
///
/// # Shapes
/// `samples` is (height, width, channels).
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    width: u32,
    height: u32,
    channels: u8,
    samples: Samples,
    source: SourceInfo,
}

impl Picture {
    /// A picture from samples in memory.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a side is zero, `channels` is not 1 or 3, or the sample count does not fit.
    pub fn new(width: u32, height: u32, channels: u8, samples: Samples) -> Result<Self> {
        let got = match &samples {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
        };
        let expected = u64::from(width) * u64::from(height) * u64::from(channels);
        if width == 0 || height == 0 || !matches!(channels, 1 | 3) || got as u64 != expected {
            return Err(Error::BadArgument(format!(
                "picture of {width}x{height}x{channels}: expected 1 or 3 channels, sides above 0 \
                 and {expected} samples, got {got}"
            )));
        }
        Ok(Self {
            width,
            height,
            channels,
            samples,
            source: SourceInfo::default(),
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// 1 (gray) or 3 (RGB).
    pub fn channels(&self) -> u8 {
        self.channels
    }

    /// The samples, (height, width, channels).
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Where the picture came from and what was done to it while decoding.
    pub fn source(&self) -> &SourceInfo {
        &self.source
    }
}
