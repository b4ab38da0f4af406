//! Samples as a file stores them, and their way to gray or RGB.

use super::{Picture, Samples, SourceInfo};
use crate::{Error, Result};

/// What the channels of a file mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
    /// 0 is no ink, as Pillow holds it.
    Cmyk,
}

impl Layout {
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// A decoded file before alpha and CMYK are resolved and before it is turned upright.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) samples: Samples,
    /// EXIF orientation to apply, 1..=8.
    pub(super) orientation: u8,
    pub(super) format: &'static str,
    pub(super) color: String,
    pub(super) warnings: Vec<String>,
}

impl Raw {
    /// Checks the sample count, then resolves alpha, CMYK and orientation.
    ///
    /// Alpha is dropped, as Pillow's `convert("RGB")` does. CMYK is converted as Pillow does, or, with
    /// `container_compat`, its first three channels are taken as RGB: the container's reading.
    pub(super) fn into_picture(mut self, container_compat: bool) -> Result<Picture> {
        self.check_count()?;
        if matches!(self.layout, Layout::GrayAlpha | Layout::Rgba) && self.is_translucent() {
            self.warnings
                .push("alpha channel is not fully opaque and was dropped".into());
        }
        let in_channels = self.layout.channels();
        let samples = match (self.layout, self.samples) {
            (Layout::Gray | Layout::Rgb, samples) => samples,
            (Layout::Cmyk, Samples::U8(v)) if !container_compat => {
                Samples::U8(map_pixels(&v, 4, cmyk8_to_rgb))
            }
            (Layout::Cmyk, Samples::U16(v)) if !container_compat => {
                Samples::U16(map_pixels(&v, 4, cmyk16_to_rgb))
            }
            (Layout::GrayAlpha, Samples::U8(v)) => Samples::U8(v.into_iter().step_by(2).collect()),
            (Layout::GrayAlpha, Samples::U16(v)) => {
                Samples::U16(v.into_iter().step_by(2).collect())
            }
            (_, Samples::U8(v)) => Samples::U8(map_pixels(&v, in_channels, first_three)),
            (_, Samples::U16(v)) => Samples::U16(map_pixels(&v, in_channels, first_three)),
        };
        let channels = if in_channels < 3 { 1 } else { 3 };
        let (width, height) = (self.width, self.height);
        let samples = match samples {
            Samples::U8(v) => Samples::U8(upright(v, width, height, channels, self.orientation)),
            Samples::U16(v) => Samples::U16(upright(v, width, height, channels, self.orientation)),
        };
        let (width, height) = if self.orientation >= 5 {
            (height, width)
        } else {
            (width, height)
        };
        let mut picture = Picture::new(width, height, channels as u8, samples)?;
        picture.source = SourceInfo {
            format: self.format,
            color: self.color,
            orientation: self.orientation,
            display: None,
            warnings: self.warnings,
        };
        Ok(picture)
    }

    /// Nothing below may trust a decoder, or the damaged file it read, to have filled the picture.
    fn check_count(&self) -> Result<()> {
        let expected =
            u64::from(self.width) * u64::from(self.height) * self.layout.channels() as u64;
        let got = match &self.samples {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
        };
        if got as u64 != expected {
            return Err(Error::BadImage(format!(
                "{}: expected {expected} samples ({}x{} of {}), got {got}",
                self.format, self.width, self.height, self.color
            )));
        }
        Ok(())
    }

    fn is_translucent(&self) -> bool {
        let channels = self.layout.channels();
        match &self.samples {
            Samples::U8(v) => v
                .iter()
                .skip(channels - 1)
                .step_by(channels)
                .any(|&a| a != u8::MAX),
            Samples::U16(v) => v
                .iter()
                .skip(channels - 1)
                .step_by(channels)
                .any(|&a| a != u16::MAX),
        }
    }
}

/// The high byte of each sample: how Pillow reads 16-bit colour.
pub(super) fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|&v| (v >> 8) as u8).collect()
}

fn map_pixels<T: Copy>(samples: &[T], channels: usize, to_rgb: impl Fn(&[T]) -> [T; 3]) -> Vec<T> {
    let mut out = Vec::with_capacity(samples.len() / channels * 3);
    for pixel in samples.chunks_exact(channels) {
        out.extend_from_slice(&to_rgb(pixel));
    }
    out
}

fn first_three<T: Copy>(pixel: &[T]) -> [T; 3] {
    [pixel[0], pixel[1], pixel[2]]
}

/// Pillow's `cmyk2rgb` (`src/libImaging/Convert.c`): K' - C K' / 255 with K' = 255 - K.
fn cmyk8_to_rgb(pixel: &[u8]) -> [u8; 3] {
    let light = 255 - u32::from(pixel[3]);
    [0, 1, 2].map(|c| {
        let product = u32::from(pixel[c]) * light + 128;
        (light - (((product >> 8) + product) >> 8)) as u8
    })
}

/// The same in 16 bits, which Pillow does not have.
fn cmyk16_to_rgb(pixel: &[u16]) -> [u16; 3] {
    let light = 65_535 - u64::from(pixel[3]);
    [0, 1, 2].map(|c| (light - (u64::from(pixel[c]) * light + 32_767) / 65_535) as u16)
}

/// Applies an EXIF orientation (TIFF 6.0 tag 274, EXIF 2.32 section 4.6.4): the result is upright.
fn upright<T: Copy>(
    samples: Vec<T>,
    width: u32,
    height: u32,
    channels: usize,
    orientation: u8,
) -> Vec<T> {
    let (w, h) = (width as usize, height as usize);
    // Where output pixel (x, y) lies in the stored picture.
    let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        2 => |x, y, w, _| (w - 1 - x, y),
        3 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        4 => |x, y, _, h| (x, h - 1 - y),
        5 => |x, y, _, _| (y, x),
        6 => |x, y, _, h| (y, h - 1 - x),
        7 => |x, y, w, h| (w - 1 - y, h - 1 - x),
        8 => |x, y, w, _| (w - 1 - y, x),
        _ => return samples,
    };
    let (out_w, out_h) = if orientation >= 5 { (h, w) } else { (w, h) };
    let mut out = Vec::with_capacity(samples.len());
    for y in 0..out_h {
        for x in 0..out_w {
            let (sx, sy) = source(x, y, w, h);
            let at = (sy * w + sx) * channels;
            out.extend_from_slice(&samples[at..at + channels]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_sample_count_is_an_error_whatever_follows() {
        for layout in [Layout::Gray, Layout::GrayAlpha, Layout::Rgb, Layout::Cmyk] {
            for orientation in 1..=8 {
                for len in [0, 1, 6 * layout.channels() - 1, 6 * layout.channels() + 1] {
                    let raw = Raw {
                        width: 3,
                        height: 2,
                        layout,
                        samples: Samples::U8(vec![0; len]),
                        orientation,
                        format: "test",
                        color: String::new(),
                        warnings: Vec::new(),
                    };
                    assert_eq!(raw.into_picture(false).unwrap_err().code(), "BAD_IMAGE");
                }
            }
        }
    }
}
