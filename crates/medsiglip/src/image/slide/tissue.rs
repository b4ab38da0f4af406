//! Where a slide has tissue.
//!
//! Stains are coloured, glass is not. At 4 to 8 um/px, whole pixels of a level averaged:
//!
//! 1. **White balance**: the commonest colour of bright, nearly gray pixels is the glass; channels are scaled so that it
//!    is white. A slide that shows no glass stays as it is.
//! 2. **Chroma** of a pixel is its largest channel less its smallest. Unlike the saturation of HSV it does not grow in
//!    dark pixels, so that dust, cover slip edges and black ink, which are gray, stay out.
//! 3. **Threshold** by Otsu (IEEE Trans. SMC 9(1), 1979) over the chroma of all pixels, held between 10 and 15: a slide
//!    that is all tissue is not split into pale and dark, and an empty one does not make tissue of noise.
//! 4. **Ink** of markers is taken out: green hues, which no common stain has, and hues of blue far purer than
//!    haematoxylin's; with a rim of 5 pixels, where the stroke fades. Red ink looks like eosin and stays.
//! 5. **Median** of 5 x 5 pixels (of the thresholded picture, which is the same as thresholding the median), then a
//!    morphological closing by 7 x 7.
//! 6. **Areas**: pieces below 10,000 um² are removed, then holes below 50,000 um² (a tile of 448 px at 0.5 um/px) are
//!    filled; larger ones, as lumina and tears, stay background.
//!
//! Gray stains (silver, black nuclear stains) are not found by this, stroma with little counterstain only in part, and green or pure blue ones (light green, aniline
//! blue) may pass for ink: [`TissueOptions::removes_ink`] turns that step off.

mod morphology;

use morphology::{Plane, close, dilate, fill_holes, majority, remove_small};

use super::Slide;
use super::reduce::{Reduced, reduce_by};
use crate::Result;

/// Scale at which tissue is looked for, in microns per pixel.
const MASK_MPP: f64 = 8.0;

/// Longest side of the mask, and what it is where the slide has no microns per pixel.
const MAX_MASK_SIDE: u32 = 4096;
const UNSCALED_SIDE: u32 = 2048;

/// Bounds of the chroma threshold.
const THRESHOLD: std::ops::RangeInclusive<u8> = 10..=15;

/// Radii in pixels of the mask: 5 x 5, 7 x 7, and the rim of ink.
const MEDIAN_RADIUS: usize = 2;
const CLOSING_RADIUS: usize = 3;
const INK_RIM: usize = 5;

/// How tissue is found; the module's first lines tell the method.
#[derive(Debug, Clone, PartialEq)]
pub struct TissueOptions {
    /// Pieces of tissue below this area are removed, in um².
    pub min_piece_um2: f64,
    /// Holes below this area are filled, in um².
    pub max_hole_um2: f64,
    /// Whether green and blue ink is taken out.
    pub removes_ink: bool,
}

impl Default for TissueOptions {
    fn default() -> Self {
        Self {
            min_piece_um2: 10_000.0,
            max_hole_um2: 50_000.0,
            removes_ink: true,
        }
    }
}

/// Where a slide has tissue, at a coarse scale.
#[derive(Debug, Clone, PartialEq)]
pub struct TissueMask {
    downsample: f64,
    plane: Plane,
    threshold: u8,
}

impl TissueMask {
    /// Finds the tissue of a slide. `mpp`, microns per pixel of level 0, sets the scale; where it is unknown the slide is
    /// looked at with 2048 pixels on its longer side, and these are taken for 8 um each.
    ///
    /// # Errors
    /// As [`super::thumbnail`].
    pub fn find(slide: &dyn Slide, mpp: Option<f64>, options: &TissueOptions) -> Result<Self> {
        let (width, height) = slide.info().size();
        let longest = f64::from(width.max(height));
        let downsample = match mpp {
            Some(mpp) => (MASK_MPP / mpp).max(longest / f64::from(MAX_MASK_SIDE)),
            None => longest / f64::from(UNSCALED_SIDE),
        };
        let reduced = reduce_by(slide, downsample)?;
        let side_um = mpp.map_or(MASK_MPP, |mpp| mpp * reduced.downsample);
        Ok(Self::of(&reduced, side_um, options))
    }

    /// `side_um` is the side of a pixel in microns.
    fn of(reduced: &Reduced, side_um: f64, options: &TissueOptions) -> Self {
        let (width, height) = (reduced.width as usize, reduced.height as usize);
        let glass = glass_color(&reduced.rgb);
        let balanced: Vec<[u8; 3]> = reduced
            .rgb
            .chunks_exact(3)
            .map(|pixel| balance(pixel, glass))
            .collect();
        let mut counts = [0_u64; 256];
        for pixel in &balanced {
            counts[usize::from(chroma(*pixel))] += 1;
        }
        let threshold = otsu(&counts).clamp(*THRESHOLD.start(), *THRESHOLD.end());
        let plane = |is: &dyn Fn([u8; 3]) -> bool| {
            Plane::new(
                width,
                height,
                balanced.iter().map(|pixel| is(*pixel)).collect(),
            )
        };
        let mut mask = plane(&|pixel| chroma(pixel) > threshold);
        let ink = options.removes_ink.then(|| {
            let ink = majority(&plane(&is_ink), MEDIAN_RADIUS);
            dilate(&ink, INK_RIM)
        });
        mask = close(&majority(&mask, MEDIAN_RADIUS), CLOSING_RADIUS);
        if let Some(ink) = &ink {
            mask.subtract(ink);
        }
        let pixels = |um2: f64| (um2 / (side_um * side_um)).clamp(0.0, 1e15) as usize;
        remove_small(&mut mask, pixels(options.min_piece_um2));
        fill_holes(&mut mask, pixels(options.max_hole_um2));
        if let Some(ink) = &ink {
            mask.subtract(ink);
        }
        Self {
            downsample: reduced.downsample,
            plane: mask,
            threshold,
        }
    }

    /// Width in pixels of the mask.
    pub fn width(&self) -> u32 {
        self.plane.width() as u32
    }

    /// Height in pixels of the mask.
    pub fn height(&self) -> u32 {
        self.plane.height() as u32
    }

    /// How many pixels of level 0 one pixel of the mask spans.
    pub fn downsample(&self) -> f64 {
        self.downsample
    }

    /// Row by row.
    pub fn is_tissue(&self) -> &[bool] {
        self.plane.bits()
    }

    /// The chroma above which a pixel was tissue.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Share of the slide that is tissue, 0 to 1.
    pub fn share(&self) -> f64 {
        let count = self.is_tissue().iter().filter(|t| **t).count();
        count as f64 / self.is_tissue().len().max(1) as f64
    }

    /// Share of the square at (`x`, `y`) that is tissue: of the pixels of the mask whose centres lie in it, or of the one
    /// below its own centre where there is none. `x`, `y` and `side` are in pixels of level 0.
    pub(super) fn share_of(&self, x: f64, y: f64, side: f64) -> f64 {
        let range = |at: f64| {
            let border = |v: f64| (v / self.downsample - 0.5).ceil().max(0.0) as usize;
            let (from, to) = (border(at), border(at + side));
            if from < to {
                return from..to;
            }
            let below = ((at + side / 2.0) / self.downsample) as usize;
            below..below + 1
        };
        let (columns, rows) = (range(x), range(y));
        let area = columns.len() * rows.len();
        let (width, height) = (self.plane.width(), self.plane.height());
        let columns = columns.start.min(width)..columns.end.min(width);
        let rows = rows.start.min(height)..rows.end.min(height);
        let tissue: usize = rows
            .map(|row| {
                let row = &self.plane.bits()[row * width..(row + 1) * width];
                row[columns.clone()].iter().filter(|t| **t).count()
            })
            .sum();
        tissue as f64 / area as f64
    }
}

/// The commonest colour of bright, nearly gray pixels, in steps of 4; white where they are less than one in a hundred.
fn glass_color(rgb: &[u8]) -> [u8; 3] {
    const STEP: usize = 4;
    const BINS: usize = 16; // 192 to 255
    let mut counts = vec![0_u32; BINS * BINS * BINS];
    let mut total = 0_usize;
    for pixel in rgb.chunks_exact(3) {
        let pixel = [pixel[0], pixel[1], pixel[2]];
        if pixel.iter().all(|v| *v >= 192) && chroma(pixel) <= 20 {
            let [r, g, b] = pixel.map(|v| (usize::from(v) - 192) / STEP);
            counts[(r * BINS + g) * BINS + b] += 1;
            total += 1;
        }
    }
    if total * 300 < rgb.len() {
        return [255; 3];
    }
    let mut best = 0;
    for (bin, count) in counts.iter().enumerate() {
        if *count > counts[best] {
            best = bin;
        }
    }
    let middle = |bin: usize| (192 + bin * STEP + STEP / 2) as u8;
    [best / BINS / BINS, best / BINS % BINS, best % BINS].map(middle)
}

fn balance(pixel: &[u8], glass: [u8; 3]) -> [u8; 3] {
    [0, 1, 2].map(|c| (u32::from(pixel[c]) * 255 / u32::from(glass[c])).min(255) as u8)
}

fn chroma([r, g, b]: [u8; 3]) -> u8 {
    r.max(g).max(b) - r.min(g).min(b)
}

/// The level that parts `counts` with the largest variance between both parts (Otsu 1979, equation 14); values above
/// it are the upper part. The first of equals, as scikit-image has it.
fn otsu(counts: &[u64; 256]) -> u8 {
    let total: u64 = counts.iter().sum();
    let sum: u64 = counts
        .iter()
        .zip(0..)
        .map(|(count, v): (_, u64)| count * v)
        .sum();
    let (mut below, mut sum_below) = (0_u64, 0_u64);
    let (mut best, mut level) = (-1.0, 0);
    for (value, &count) in (0..=254_u8).zip(counts) {
        below += count;
        sum_below += count * u64::from(value);
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        let means = sum_below as f64 / below as f64 - (sum - sum_below) as f64 / above as f64;
        let variance = below as f64 * above as f64 * means * means;
        if variance > best {
            (best, level) = (variance, value);
        }
    }
    level
}

/// Green ink: hue 75° to 185°. Blue ink: hue 185° to 235° with a saturation of at least 0.6. (Hue and saturation of HSV.)
fn is_ink(pixel: [u8; 3]) -> bool {
    let [r, g, b] = pixel.map(f32::from);
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = max - min;
    if chroma < 30.0 {
        return false;
    }
    let hue = if max == r {
        60.0 * ((g - b) / chroma).rem_euclid(6.0)
    } else if max == g {
        60.0 * ((b - r) / chroma + 2.0)
    } else {
        60.0 * ((r - g) / chroma + 4.0)
    };
    (75.0..185.0).contains(&hue) || ((185.0..235.0).contains(&hue) && chroma / max >= 0.6)
}

#[cfg(test)]
mod tests;
