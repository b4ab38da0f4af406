//! A slide made small: read in blocks, averaged, never whole in memory.

use rayon::prelude::*;

use super::picture::picture_of;
use super::{Level, Picture, Slide};
use crate::{Error, Result};

/// Side of the blocks that are read at a time, in pixels of the level.
const BLOCK: u32 = 2048;

/// Largest result, in pixels.
const MAX_PIXELS: u64 = 1 << 26;

/// Most pixels that are read for it: a slide of 262,144 x 262,144 pixels without coarser levels, a minute's work.
const MAX_SOURCE: u64 = 1 << 36;

/// A slide at a coarse scale.
pub(super) struct Reduced {
    /// In pixels.
    pub(super) width: u32,
    /// In pixels.
    pub(super) height: u32,
    /// Pixels of level 0 that one pixel spans.
    pub(super) downsample: f64,
    /// (height, width, 3).
    pub(super) rgb: Vec<u8>,
}

/// The whole slide, at most `max_side` pixels on the longer side: RGB, 8 bits. Each pixel is the mean of a square of
/// pixels of the coarsest level that is large enough.
///
/// # Errors
/// `BAD_ARGUMENT` where `max_side` is zero, or so small that a pixel would span more than 2048 of the coarsest level;
/// `LIMIT_EXCEEDED`, and as [`Slide::read`].
pub fn thumbnail(slide: &dyn Slide, max_side: u32) -> Result<Picture> {
    let reduced = reduce_to_side(slide, max_side)?;
    picture_of(reduced.width, reduced.height, reduced.rgb)
}

/// See [`thumbnail`].
pub(super) fn reduce_to_side(slide: &dyn Slide, max_side: u32) -> Result<Reduced> {
    if max_side == 0 {
        return Err(Error::BadArgument(
            "thumbnail side: expected at least 1, got 0".into(),
        ));
    }
    let longest = |level: &Level| level.width.max(level.height);
    let levels = &slide.info().levels;
    let level = levels.iter().rposition(|l| longest(l) >= max_side);
    let level = level.unwrap_or(0);
    let factor = levels
        .get(level)
        .map_or(1, |l| longest(l).div_ceil(max_side));
    reduce(slide, level, factor.max(1))
}

/// The slide at the coarsest scale that is no coarser than `downsample`: squares of whole pixels are averaged, so that
/// the result may be a little finer than asked.
pub(super) fn reduce_by(slide: &dyn Slide, downsample: f64) -> Result<Reduced> {
    let levels = &slide.info().levels;
    let near = downsample * 1.01;
    let level = levels.iter().rposition(|l| l.downsample <= near);
    let level = level.unwrap_or(0);
    let finest = levels.get(level).map_or(1.0, |l| l.downsample);
    reduce(slide, level, ((near / finest) as u32).max(1))
}

/// Averages squares of `factor` x `factor` pixels of `level`.
fn reduce(slide: &dyn Slide, level: usize, factor: u32) -> Result<Reduced> {
    let Some(&source) = slide.info().levels.get(level) else {
        return Err(Error::BadImage("slide without levels".into()));
    };
    let (width, height) = (
        source.width.div_ceil(factor),
        source.height.div_ceil(factor),
    );
    if factor > BLOCK {
        return Err(Error::BadArgument(format!(
            "thumbnail: expected a pixel to span at most {BLOCK} of the slide's coarsest level, got {factor}"
        )));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(Error::Limit {
            what: "thumbnail size in pixels",
            got: pixels,
            limit: MAX_PIXELS,
        });
    }
    let read = u64::from(source.width) * u64::from(source.height);
    if read > MAX_SOURCE {
        return Err(Error::Limit {
            what: "pixels of a slide's coarsest level that is fine enough",
            got: read,
            limit: MAX_SOURCE,
        });
    }
    let side = BLOCK / factor;
    let columns = width.div_ceil(side);
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    for (row, band) in rgb
        .chunks_mut(3 * width as usize * side as usize)
        .enumerate()
    {
        let top = row as u32 * side;
        let means = |column: u32| {
            let left = column * side;
            let (w, h) = (side.min(width - left), side.min(height - top));
            let block = Block {
                x: left * factor,
                y: top * factor,
                width: (w * factor).min(source.width - left * factor),
                height: (h * factor).min(source.height - top * factor),
            };
            block.means(slide, level, source.downsample, factor)
        };
        let blocks: Vec<Vec<u8>> = (0..columns)
            .into_par_iter()
            .map(means)
            .collect::<Result<_>>()?;
        for (block, column) in blocks.iter().zip(0..) {
            let left = 3 * (column * side) as usize;
            let len = 3 * side.min(width - column * side) as usize;
            for (to, from) in band
                .chunks_exact_mut(3 * width as usize)
                .zip(block.chunks_exact(len))
            {
                to[left..left + len].copy_from_slice(from);
            }
        }
    }
    Ok(Reduced {
        width,
        height,
        downsample: source.downsample * f64::from(factor),
        rgb,
    })
}

/// A part of a level, in its pixels.
struct Block {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Block {
    /// The rounded means of its squares; those at its right and lower end may be cut.
    fn means(
        &self,
        slide: &dyn Slide,
        level: usize,
        downsample: f64,
        factor: u32,
    ) -> Result<Vec<u8>> {
        let at = |v: u32| (f64::from(v) * downsample).round() as u64;
        let rgb = slide.read(level, at(self.x), at(self.y), self.width, self.height)?;
        if factor == 1 {
            return Ok(rgb);
        }
        let (factor, row) = (factor as usize, 3 * self.width as usize);
        let mut out = Vec::new();
        let mut sums = vec![[0_u64; 3]; (self.width as usize).div_ceil(factor)];
        for rows in rgb.chunks(row * factor) {
            sums.fill([0; 3]);
            for row in rows.chunks_exact(row) {
                for (square, sum) in row.chunks(3 * factor).zip(&mut sums) {
                    for pixel in square.chunks_exact(3) {
                        for (sum, &value) in sum.iter_mut().zip(pixel) {
                            *sum += u64::from(value);
                        }
                    }
                }
            }
            let height = (rows.len() / row) as u64;
            for (sum, place) in sums.iter().zip(0..) {
                let width = factor.min(self.width as usize - place * factor) as u64;
                let count = width * height;
                out.extend(sum.map(|sum| ((sum + count / 2) / count) as u8));
            }
        }
        Ok(out)
    }
}
