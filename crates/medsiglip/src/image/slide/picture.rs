//! A plain picture as a slide of one level.

use std::path::Path;

use super::{Level, Limits, Picture, Slide, SlideInfo, checked_level, white};
use crate::Result;
use crate::image::{DecodeOptions, Samples, open_with};

/// A picture in memory. It has no microns per pixel: what the resolution tags of such files say is of print.
#[derive(Debug)]
pub struct PictureSlide {
    info: SlideInfo,
    limits: Limits,
    /// (height, width, 3).
    rgb: Vec<u8>,
}

impl PictureSlide {
    /// Reads the picture at `path`, as [`crate::image::open`].
    pub(super) fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let options = DecodeOptions {
            limits: *limits,
            ..DecodeOptions::default()
        };
        Ok(Self::new(&open_with(path, &options)?, limits))
    }

    pub(super) fn warn(&mut self, warning: &str) {
        self.info.warnings.push(warning.into());
    }

    /// A slide of `picture`; 16 bits are rounded to 8, gray becomes RGB.
    pub fn new(picture: &Picture, limits: &Limits) -> Self {
        let source = picture.source();
        let level = Level {
            width: picture.width(),
            height: picture.height(),
            downsample: 1.0,
        };
        let info = SlideInfo {
            format: source.format.to_owned(),
            reader: "picture".into(),
            levels: vec![level],
            mpp_xy: None,
            objective_power: None,
            icc_profile: None,
            background: white(),
            warnings: source.warnings.clone(),
        };
        Self {
            info,
            limits: *limits,
            rgb: rgb8(picture),
        }
    }
}

impl Slide for PictureSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read(&self, level: usize, x: u64, y: u64, width: u32, height: u32) -> Result<Vec<u8>> {
        let level = checked_level(&self.info, level, width, height, &self.limits)?;
        let mut canvas = Canvas::new(x, y, width, height, white());
        canvas.paste(&self.rgb, 0, 0, level.width, level.height, level.width);
        Ok(canvas.rgb)
    }
}

/// A part of a level that is put together from pieces.
pub(super) struct Canvas {
    x: u64,
    y: u64,
    width: u32,
    height: u32,
    /// (height, width, 3).
    pub(super) rgb: Vec<u8>,
}

impl Canvas {
    /// The part of `width` x `height` at (`x`, `y`) of the level, in pixels of the level.
    pub(super) fn new(x: u64, y: u64, width: u32, height: u32, background: [u8; 3]) -> Self {
        let pixels = width as usize * height as usize;
        Self {
            x,
            y,
            width,
            height,
            rgb: background.repeat(pixels),
        }
    }

    /// Puts the top left `width` x `height` of `piece`, whose rows have `stride` pixels, at (`at_x`, `at_y`) of the level.
    /// What falls outside is left out.
    pub(super) fn paste(
        &mut self,
        piece: &[u8],
        at_x: u64,
        at_y: u64,
        width: u32,
        height: u32,
        stride: u32,
    ) {
        let left = at_x.max(self.x);
        let right = (at_x + u64::from(width)).min(self.x.saturating_add(self.width.into()));
        let top = at_y.max(self.y);
        let bottom = (at_y + u64::from(height)).min(self.y.saturating_add(self.height.into()));
        if left >= right {
            return;
        }
        let len = 3 * (right - left) as usize;
        for y in top..bottom {
            let from = 3 * ((y - at_y) * u64::from(stride) + (left - at_x)) as usize;
            let to = 3 * ((y - self.y) * u64::from(self.width) + (left - self.x)) as usize;
            if let (Some(from), Some(to)) =
                (piece.get(from..from + len), self.rgb.get_mut(to..to + len))
            {
                to.copy_from_slice(from);
            }
        }
    }
}

/// RGB, 8 bits, (height, width, 3).
pub(super) fn rgb8(picture: &Picture) -> Vec<u8> {
    let samples: Vec<u8> = match picture.samples() {
        Samples::U8(v) => v.clone(),
        Samples::U16(v) => v
            .iter()
            .map(|&v| ((u32::from(v) + 128) / 257) as u8)
            .collect(),
    };
    if picture.channels() == 3 {
        return samples;
    }
    samples.into_iter().flat_map(|v| [v; 3]).collect()
}

/// RGB samples as a picture of a slide.
pub(super) fn picture_of(width: u32, height: u32, rgb: Vec<u8>) -> Result<Picture> {
    let mut picture = Picture::new(width, height, 3, Samples::U8(rgb))?;
    picture.source.format = "slide";
    picture.source.color = "rgb8".into();
    picture.source.orientation = 1;
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meet_the_picture_where_it_is_and_white_where_it_is_not() {
        let samples: Vec<u8> = (0..12).collect();
        let picture = Picture::new(4, 3, 1, Samples::U8(samples)).unwrap();
        let slide = PictureSlide::new(&picture, &Limits::default());
        let gray = |x, y, w, h| -> Vec<u8> {
            let rgb = slide.read(0, x, y, w, h).unwrap();
            rgb.chunks_exact(3).map(|p| p[1]).collect()
        };
        assert_eq!(gray(1, 1, 2, 2), [5, 6, 9, 10]);
        assert_eq!(gray(3, 2, 2, 2), [11, 255, 255, 255]);
        assert_eq!(gray(4, 0, 1, 1), [255]);
        assert_eq!(gray(u64::MAX, u64::MAX, 1, 1), [255]);
        for (level, width) in [(1, 1), (0, 0), (0, u32::MAX)] {
            assert!(slide.read(level, 0, 0, width, 1 << 20).is_err());
        }
    }

    #[test]
    fn sixteen_bits_are_rounded() {
        let picture = Picture::new(3, 1, 1, Samples::U16(vec![0, 383, 65_535])).unwrap();
        assert_eq!(rgb8(&picture), [0, 0, 0, 1, 1, 1, 255, 255, 255]);
    }
}
