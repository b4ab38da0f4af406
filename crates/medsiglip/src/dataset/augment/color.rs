//! Colour jitter: the formulas of torchvision's `_functional_tensor.py`, in f32 as there.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Canvas, ColorJitter, between};

#[derive(Clone, Copy)]
enum Change {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

/// `ColorJitter.forward`: the four changes in an order that is drawn.
pub(super) fn jitter(canvas: &mut Canvas, config: &ColorJitter, random: &mut ChaCha8Rng) {
    let mut order = [
        Change::Brightness,
        Change::Contrast,
        Change::Saturation,
        Change::Hue,
    ];
    order.shuffle(random);
    let mut factor = |spread: f64| {
        (spread > 0.0).then(|| between((1.0 - spread).max(0.0), 1.0 + spread, random))
    };
    let brightness = factor(config.brightness);
    let contrast = factor(config.contrast);
    let saturation = factor(config.saturation);
    let hue = (config.hue > 0.0).then(|| between(-config.hue, config.hue, random));
    for change in order {
        match change {
            Change::Brightness => brightness.iter().for_each(|f| canvas.adjust_brightness(*f)),
            Change::Contrast => contrast.iter().for_each(|f| canvas.adjust_contrast(*f)),
            Change::Saturation => saturation.iter().for_each(|f| canvas.adjust_saturation(*f)),
            Change::Hue => hue.iter().for_each(|shift| canvas.adjust_hue(*shift)),
        }
    }
}

/// `_blend`: `factor * sample + (1 - factor) * other`, cut to 0..=255 and truncated.
#[inline(always)]
fn blend(sample: u8, other: f32, factor: f64) -> u8 {
    (factor as f32 * f32::from(sample) + (1.0 - factor) as f32 * other).clamp(0.0, 255.0) as u8
}

/// `rgb_to_grayscale`, truncated to 8 bits.
#[inline(always)]
fn luma([r, g, b]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8
}

impl Canvas {
    fn pixels_mut(&mut self) -> &mut [[u8; 3]] {
        match self.channels {
            3 => self.samples.as_chunks_mut().0,
            _ => &mut [],
        }
    }

    /// `adjust_brightness`.
    pub(super) fn adjust_brightness(&mut self, factor: f64) {
        let table: Vec<u8> = (0..=255).map(|level| blend(level, 0.0, factor)).collect();
        self.apply(&table);
    }

    /// `adjust_contrast`: away from or towards the mean of the gray picture.
    pub(super) fn adjust_contrast(&mut self, factor: f64) {
        let sum: u64 = match self.channels {
            3 => self.pixels_mut().iter().map(|p| u64::from(luma(*p))).sum(),
            _ => self.samples.iter().map(|level| u64::from(*level)).sum(),
        };
        let mean = (sum as f64 / (self.size * self.size) as f64) as f32;
        let table: Vec<u8> = (0..=255).map(|level| blend(level, mean, factor)).collect();
        self.apply(&table);
    }

    fn apply(&mut self, table: &[u8]) {
        for level in &mut self.samples {
            *level = table[usize::from(*level)];
        }
    }

    /// `adjust_saturation`: away from or towards each pixel's gray; nothing for gray pictures.
    pub(super) fn adjust_saturation(&mut self, factor: f64) {
        for pixel in self.pixels_mut() {
            let gray = f32::from(luma(*pixel));
            *pixel = pixel.map(|sample| blend(sample, gray, factor));
        }
    }

    /// `adjust_hue` by a shift in turns; nothing for gray pictures.
    pub(super) fn adjust_hue(&mut self, shift: f64) {
        let shift = shift as f32;
        for pixel in self.pixels_mut() {
            let [h, s, v] = rgb_to_hsv(pixel.map(|sample| f32::from(sample) / 255.0));
            // Python's remainder: of the divisor's sign.
            let rgb = hsv_to_rgb([(h + shift).rem_euclid(1.0), s, v]);
            // `convert_image_dtype`: 256 even steps.
            *pixel = rgb.map(|x| (x * 255.999) as u8);
        }
    }
}

/// `_rgb2hsv`.
#[inline(always)]
fn rgb_to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return [0.0, 0.0, high];
    }
    let spread = high - low;
    let [rc, gc, bc] = [r, g, b].map(|x| (high - x) / spread);
    let sixths = if high == r {
        bc - gc
    } else if high == g {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    [(sixths / 6.0 + 1.0) % 1.0, spread / high, high]
}

/// `_hsv2rgb`.
#[inline(always)]
fn hsv_to_rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let p = (v * (1.0 - s)).clamp(0.0, 1.0);
    let q = (v * (1.0 - s * f)).clamp(0.0, 1.0);
    let t = (v * (1.0 - s * (1.0 - f))).clamp(0.0, 1.0);
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
