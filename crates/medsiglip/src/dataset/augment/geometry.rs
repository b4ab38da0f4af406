//! Crops, flips, turns and erasing.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{AugmentConfig, Canvas, RandomErasing, RandomResizedCrop, between};
use crate::Result;
use crate::image::{Picture, Samples};

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Sides of a rectangle of `area` pixels and a ratio of first to second side drawn evenly in the logarithm.
fn sides(area: f64, [low, high]: [f64; 2], random: &mut ChaCha8Rng) -> [usize; 2] {
    let ratio = between(low.ln(), high.ln(), random).exp();
    // Python's `round` takes halves to the even neighbour.
    let side = |x: f64| x.sqrt().round_ties_even() as usize;
    [side(area * ratio), side(area / ratio)]
}

impl RandomResizedCrop {
    /// `RandomResizedCrop.get_params`: ten tries, then the largest central part whose ratio is allowed.
    pub(super) fn draw(&self, width: u32, height: u32, random: &mut ChaCha8Rng) -> Area {
        let (width, height) = (width as usize, height as usize);
        for _ in 0..10 {
            let share = between(self.scale[0], self.scale[1], random);
            let area = (width * height) as f64 * share;
            let [w, h] = sides(area, self.ratio, random);
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                return Area {
                    top: random.random_range(0..=height - h),
                    left: random.random_range(0..=width - w),
                    width: w,
                    height: h,
                };
            }
        }
        let [low, high] = self.ratio;
        let ratio = width as f64 / height as f64;
        let round = |x: f64| (x.round_ties_even() as usize).max(1);
        let (w, h) = if ratio < low {
            (width, round(width as f64 / low).min(height))
        } else if ratio > high {
            (round(height as f64 * high).min(width), height)
        } else {
            (width, height)
        };
        Area {
            left: (width - w) / 2,
            top: (height - h) / 2,
            width: w,
            height: h,
        }
    }
}

/// A part of `picture`, which must lie within it.
pub(super) fn crop(picture: &Picture, area: &Area) -> Result<Picture> {
    let row = picture.width() as usize;
    let channels = usize::from(picture.channels());
    let samples = match picture.samples() {
        Samples::U8(samples) => Samples::U8(part(samples, row, channels, area)),
        Samples::U16(samples) => Samples::U16(part(samples, row, channels, area)),
    };
    let (width, height) = (area.width as u32, area.height as u32);
    Picture::new(width, height, picture.channels(), samples)
}

fn part<T: Copy>(samples: &[T], row: usize, channels: usize, area: &Area) -> Vec<T> {
    let columns = area.left * channels..(area.left + area.width) * channels;
    let mut part = Vec::with_capacity(area.height * columns.len());
    let rows = samples.chunks_exact(row * channels);
    for row in rows.skip(area.top).take(area.height) {
        part.extend_from_slice(&row[columns.clone()]);
    }
    part
}

impl Canvas {
    /// Flips, quarter turns and the rotation.
    pub(super) fn turn(&mut self, config: &AugmentConfig, random: &mut ChaCha8Rng) {
        let last = self.size - 1;
        if config.horizontal_flip > 0.0 && random.random_bool(config.horizontal_flip) {
            self.rearrange(|x, y| (last - x, y));
        }
        if config.vertical_flip > 0.0 && random.random_bool(config.vertical_flip) {
            self.rearrange(|x, y| (x, last - y));
        }
        if config.quarter_turns {
            (0..random.random_range(0..4)).for_each(|_| self.quarter_turn());
        }
        let degrees = config.rotation_degrees;
        if degrees > 0.0 {
            self.rotate(between(-degrees, degrees, random));
        }
    }

    /// A turn by 90 degrees, counter-clockwise.
    pub(super) fn quarter_turn(&mut self) {
        let last = self.size - 1;
        self.rearrange(|x, y| (last - y, x));
    }

    /// Fills each place (x, y) with the pixel that `source` names.
    pub(super) fn rearrange(&mut self, source: impl Fn(usize, usize) -> (usize, usize)) {
        let mut out = Vec::with_capacity(self.samples.len());
        for y in 0..self.size {
            for x in 0..self.size {
                let (x, y) = source(x, y);
                let at = (y * self.size + x) * self.channels;
                out.extend_from_slice(&self.samples[at..at + self.channels]);
            }
        }
        self.samples = out;
    }

    /// `rotate` about the centre, counter-clockwise, bilinear, black where the picture does not reach
    /// (`grid_sample` with `align_corners=False` and zeros).
    pub(super) fn rotate(&mut self, degrees: f64) {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (sin, cos) = (sin as f32, cos as f32);
        let center = self.size as f32 * 0.5;
        let mut out = Vec::with_capacity(self.samples.len());
        for y in 0..self.size {
            for x in 0..self.size {
                let (dx, dy) = (x as f32 + 0.5 - center, y as f32 + 0.5 - center);
                let from_x = cos * dx - sin * dy + center - 0.5;
                let from_y = sin * dx + cos * dy + center - 0.5;
                self.push_bilinear(from_x, from_y, &mut out);
            }
        }
        self.samples = out;
    }

    fn push_bilinear(&self, x: f32, y: f32, out: &mut Vec<u8>) {
        let (left, top) = (x.floor(), y.floor());
        let (right_share, bottom_share) = (x - left, y - top);
        let corners = [
            (0, 0, (1.0 - right_share) * (1.0 - bottom_share)),
            (1, 0, right_share * (1.0 - bottom_share)),
            (0, 1, (1.0 - right_share) * bottom_share),
            (1, 1, right_share * bottom_share),
        ];
        let inside = 0..self.size as i64;
        let mut sums = [0.0_f32; 3];
        for (right, down, weight) in corners {
            let (x, y) = (left as i64 + right, top as i64 + down);
            if inside.contains(&x) && inside.contains(&y) {
                let at = (y as usize * self.size + x as usize) * self.channels;
                let pixel = &self.samples[at..at + self.channels];
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(*sample);
                }
            }
        }
        out.extend(
            sums[..self.channels]
                .iter()
                .map(|sum| sum.round_ties_even() as u8),
        );
    }

    /// `RandomErasing.get_params`: ten tries, then nothing.
    pub(super) fn erase(&mut self, config: &RandomErasing, random: &mut ChaCha8Rng) {
        for _ in 0..10 {
            let share = between(config.scale[0], config.scale[1], random);
            let area = (self.size * self.size) as f64 * share;
            let [height, width] = sides(area, config.ratio, random);
            if height < self.size && width < self.size {
                let top = random.random_range(0..=self.size - height);
                let left = random.random_range(0..=self.size - width);
                let rows = self.samples.chunks_exact_mut(self.size * self.channels);
                for row in rows.skip(top).take(height) {
                    row[left * self.channels..(left + width) * self.channels].fill(128);
                }
                return;
            }
        }
    }
}
