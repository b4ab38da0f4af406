//! Pillow's resize of 8-bit pictures, bit for bit, on a picture that may stand in a frame of zeros.
//!
//! A port of the arithmetic of `src/libImaging/Resample.c` (8 bits per channel): the filter is sampled in
//! f64, its weights are rounded to 22 fractional bits, each of the two passes sums in i32 and clips to 8 bits.
//! The horizontal pass comes first, as in every Pillow before 13 (the container pins 11.2.1, and the model was
//! trained and evaluated before). Pillow 13 takes the vertical pass first where the height shrinks much more than
//! the width: its tall pictures differ from ours, and from those of its own past.
//!
//! Zeros add nothing to such a sum, so the padding is never made: the weights that would meet it are left out.

use std::f64::consts::PI;
use std::ops::Range;

use super::frame::{Axis, Frame};

/// Fractional bits of a weight: `32 - 8 - 2` in Pillow.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Rows that the horizontal pass takes side by side, one a SIMD lane.
const LANES: usize = 16;

/// Samples that the vertical pass keeps in registers.
const STRIP: usize = 64;

/// Pillow's resampling filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// The filter of a code of `PIL.Image.Resampling`, as `preprocessor_config.json` has it.
    pub(super) fn from_code(code: u64) -> Option<Self> {
        [
            Self::Nearest,
            Self::Lanczos,
            Self::Bilinear,
            Self::Bicubic,
            Self::Box,
            Self::Hamming,
        ]
        .get(usize::try_from(code).ok()?)
        .copied()
    }

    /// The filter's name in Pillow, in lower case.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Lanczos => "lanczos",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Box => "box",
            Self::Hamming => "hamming",
        }
    }

    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let d = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - d).max(0.0),
            Self::Bicubic if d < 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
            Self::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * A,
            Self::Hamming if d == 0.0 => 1.0,
            Self::Hamming if d < 1.0 => (d * PI).sin() / (d * PI) * (0.54 + 0.46 * (d * PI).cos()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        1.0
    } else {
        (x * PI).sin() / (x * PI)
    }
}

/// Resizes to `size` x `size`.
///
/// # Shapes
/// `frame.data` is (height, width, channels); the result is (size, size, channels).
pub(super) fn resize(frame: &Frame, size: usize, filter: Filter) -> Vec<u8> {
    if filter == Filter::Nearest {
        return nearest(frame, size);
    }
    let vertical = Weights::new(&frame.y, size, filter);
    let rows = vertical.needed_rows();
    let horizontal = Weights::new(&frame.x, size, filter);
    let row_len = frame.x.len * frame.channels;
    let source = &frame.data[rows.start * row_len..rows.end * row_len];

    // A pass that changes nothing is left out, as in Pillow: its weights are exactly 1.
    let narrowed = if frame.x.is_identity(size) {
        source.to_vec()
    } else {
        pulp::Arch::new().dispatch(HorizontalPass {
            source,
            row_len,
            channels: frame.channels,
            weights: &horizontal,
            size,
        })
    };
    if frame.y.is_identity(size) {
        return narrowed;
    }
    let out_row = size * frame.channels;
    pulp::Arch::new().dispatch(VerticalPass {
        source: &narrowed,
        row_len: out_row,
        first_row: rows.start,
        weights: &vertical,
    })
}

/// The fixed-point weights of one axis.
struct Weights {
    /// For each output place: where its samples start in the stored picture, and its weights.
    places: Vec<(usize, Range<usize>)>,
    weights: Vec<i32>,
}

impl Weights {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc`, without the weights that fall on the padding.
    fn new(axis: &Axis, out_len: usize, filter: Filter) -> Self {
        let scale = axis.padded_len as f64 / out_len as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let mut places = Vec::with_capacity(out_len);
        let mut weights = Vec::new();
        let mut exact = Vec::new();
        for place in 0..out_len {
            let center = (place as f64 + 0.5) * scale;
            // `as usize` truncates and stops at zero, as Pillow's cast and clamp do.
            let first = (center - support + 0.5) as usize;
            let last = ((center + support + 0.5) as usize).min(axis.padded_len);
            exact.clear();
            exact.extend(
                (first..last).map(|i| filter.at((i as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
            let sum: f64 = exact.iter().sum();

            let stored = first.max(axis.before)..last.min(axis.before + axis.len);
            let start = weights.len();
            for i in stored.clone() {
                let weight = if sum == 0.0 {
                    exact[i - first]
                } else {
                    exact[i - first] / sum
                };
                weights.push(fixed_point(weight));
            }
            // A place that sees the padding alone reads nothing.
            let at = if stored.is_empty() {
                0
            } else {
                stored.start - axis.before
            };
            places.push((at, start..weights.len()));
        }
        Self { places, weights }
    }

    /// The stored rows between the first and the last that any place reads.
    fn needed_rows(&self) -> Range<usize> {
        let used = || self.places.iter().filter(|(_, w)| !w.is_empty());
        let start = used().map(|(start, _)| *start).min().unwrap_or(0);
        let end = used().map(|(start, w)| start + w.len()).max().unwrap_or(0);
        start..end
    }

    fn of(&self, place: usize) -> (usize, &[i32]) {
        let (start, range) = &self.places[place];
        (*start, &self.weights[range.clone()])
    }
}

fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

/// `clip8` of a sum that started at one half.
#[inline(always)]
fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// (rows, width, channels) to (rows, size, channels).
///
/// Sixteen rows are laid side by side, so that each weight meets sixteen neighbouring samples.
struct HorizontalPass<'a> {
    source: &'a [u8],
    row_len: usize,
    channels: usize,
    weights: &'a Weights,
    size: usize,
}

impl pulp::WithSimd for HorizontalPass<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) -> Vec<u8> {
        match self.channels {
            1 => self.run::<1>(),
            _ => self.run::<3>(),
        }
    }
}

impl HorizontalPass<'_> {
    /// `C` is the number of channels.
    #[inline(always)]
    fn run<const C: usize>(self) -> Vec<u8> {
        let out_len = self.size * C;
        let rows = self.source.len() / self.row_len;
        let mut out = vec![0; rows * out_len];
        let mut pixels = vec![[[0_u8; LANES]; C]; self.row_len / C];
        let blocks = self
            .source
            .chunks(self.row_len * LANES)
            .zip(out.chunks_mut(out_len * LANES));
        for (block, out) in blocks {
            for (lane, row) in block.chunks_exact(self.row_len).enumerate() {
                for (column, &sample) in pixels.as_flattened_mut().iter_mut().zip(row) {
                    column[lane] = sample;
                }
            }
            for place in 0..self.size {
                let (start, weights) = self.weights.of(place);
                for channel in 0..C {
                    let mut sums = [HALF; LANES];
                    for (&weight, pixel) in weights.iter().zip(&pixels[start..]) {
                        add_weighted(&mut sums, weight, &pixel[channel]);
                    }
                    let levels = sums.map(clip8);
                    for (row, level) in out.chunks_exact_mut(out_len).zip(levels) {
                        row[place * C + channel] = level;
                    }
                }
            }
        }
        out
    }
}

/// (rows, row_len) to (size, row_len); row 0 of `source` is row `first_row` of the stored picture.
struct VerticalPass<'a> {
    source: &'a [u8],
    row_len: usize,
    first_row: usize,
    weights: &'a Weights,
}

impl pulp::WithSimd for VerticalPass<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) -> Vec<u8> {
        let mut out = vec![0; self.weights.places.len() * self.row_len];
        for (place, out) in out.chunks_exact_mut(self.row_len).enumerate() {
            let (start, weights) = self.weights.of(place);
            if weights.is_empty() {
                continue;
            }
            let rows = &self.source[(start - self.first_row) * self.row_len..];
            let mut strips = out.chunks_exact_mut(STRIP);
            for (strip, out) in strips.by_ref().enumerate() {
                let mut sums = [HALF; STRIP];
                for (&weight, row) in weights.iter().zip(rows.chunks_exact(self.row_len)) {
                    // Of fixed length, so that the sums stay in registers.
                    if let Some(samples) = row[strip * STRIP..].first_chunk::<STRIP>() {
                        add_weighted(&mut sums, weight, samples);
                    }
                }
                out.copy_from_slice(&sums.map(clip8));
            }
            let rest = strips.into_remainder();
            let at = self.row_len - rest.len();
            let mut sums = [HALF; STRIP];
            for (&weight, row) in weights.iter().zip(rows.chunks_exact(self.row_len)) {
                add_weighted(&mut sums, weight, &row[at..]);
            }
            for (out, sum) in rest.iter_mut().zip(sums) {
                *out = clip8(sum);
            }
        }
        out
    }
}

#[inline(always)]
fn add_weighted(sums: &mut [i32], weight: i32, samples: &[u8]) {
    for (sum, &sample) in sums.iter_mut().zip(samples) {
        *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(sample)));
    }
}

/// `ImagingScaleAffine` (`src/libImaging/Geometry.c`): places are found by adding the step up in f64, as there.
fn nearest(frame: &Frame, size: usize) -> Vec<u8> {
    let places = |axis: &Axis| -> Vec<Option<usize>> {
        let step = axis.padded_len as f64 / size as f64;
        let mut at = step * 0.5;
        (0..size)
            .map(|_| {
                let place = at as usize;
                at += step;
                place.checked_sub(axis.before).filter(|&i| i < axis.len)
            })
            .collect()
    };
    let (columns, rows) = (places(&frame.x), places(&frame.y));
    let channels = frame.channels;
    let mut out = Vec::with_capacity(size * size * channels);
    for row in rows {
        for column in &columns {
            match (row, column) {
                (Some(y), Some(x)) => {
                    let at = (y * frame.x.len + x) * channels;
                    out.extend_from_slice(&frame.data[at..at + channels]);
                }
                _ => out.extend(std::iter::repeat_n(0, channels)),
            }
        }
    }
    out
}
