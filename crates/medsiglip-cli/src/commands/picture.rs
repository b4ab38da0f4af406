//! A picture to time the way from JPEG to pixel values with: made up, but as dense as a photograph, so that an
//! installed binary needs no file.

use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

use medsiglip::Error;

use crate::messages::Result;

/// Height and width in pixels.
pub const SIDE: usize = 1024;

/// As cameras and X-ray archives save: visibly lossless.
const QUALITY: u8 = 90;

/// How fast finer grain gets fainter: this one gives files as large as those of real pictures.
const FADE: f32 = 0.58;

/// A made-up picture as a JPEG file of [`SIDE`] x [`SIDE`] pixels: gray, or colour with 4:2:0 chroma.
pub fn jpeg(is_gray: bool) -> Result<Vec<u8>> {
    let light = surface(1, 210.0);
    let (pixels, format) = if is_gray {
        (
            light.iter().map(|v| level(*v)).collect(),
            PixelFormat::Grayscale,
        )
    } else {
        let (red, blue) = (surface(2, 60.0), surface(3, 60.0));
        let rgb = |i: usize| [light[i] + red[i], light[i], light[i] + blue[i]].map(level);
        (
            (0..light.len()).flat_map(rgb).collect::<Vec<u8>>(),
            PixelFormat::Rgb,
        )
    };
    compress(&pixels, SIDE, SIDE, format, QUALITY, Subsampling::S420).map_err(|error| {
        Error::Unsupported(format!("a JPEG for the benchmark cannot be made: {error}")).into()
    })
}

/// Around middle gray.
fn level(v: f32) -> u8 {
    (128.0 + v).clamp(0.0, 255.0) as u8
}

/// Noise whose grain of 512 down to 2 pixels is the fainter the finer it is, as in photographs; within half of
/// `range` around zero, mostly.
fn surface(seed: u64, range: f32) -> Vec<f32> {
    let mut sum = vec![0.0; SIDE * SIDE];
    for shift in 1..10 {
        let grain = 1_usize << shift;
        let strength = range * (grain as f32 / SIDE as f32).powf(FADE);
        let knots = SIDE / grain + 1;
        let knot =
            |x: usize, y: usize| random((seed << 32) + ((shift << 24) + y * knots + x) as u64);
        for (y, row) in sum.chunks_exact_mut(SIDE).enumerate() {
            let (top, down) = (y / grain, (y % grain) as f32 / grain as f32);
            for (cell, pixels) in row.chunks_exact_mut(grain).enumerate() {
                let left = mix(knot(cell, top), knot(cell, top + 1), down);
                let right = mix(knot(cell + 1, top), knot(cell + 1, top + 1), down);
                for (x, pixel) in pixels.iter_mut().enumerate() {
                    *pixel += strength * mix(left, right, x as f32 / grain as f32);
                }
            }
        }
    }
    sum
}

fn mix(a: f32, b: f32, part: f32) -> f32 {
    a + (b - a) * part
}

/// A number in -0.5..0.5 that depends on `key` alone (SplitMix64, Steele and others 2014).
fn random(key: u64) -> f32 {
    let mut z = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsiglip::image::{DecodeOptions, decode};

    #[test]
    fn pictures_are_as_dense_as_real_ones() {
        // Real pictures of this size and quality: 110 to 170 KB gray, 90 to 290 KB colour.
        for (is_gray, channels, bytes) in
            [(true, 1, 100_000..180_000), (false, 3, 100_000..290_000)]
        {
            let file = jpeg(is_gray).unwrap();
            assert!(bytes.contains(&file.len()), "{} bytes", file.len());
            let picture = decode(&file, &DecodeOptions::default()).unwrap();
            assert_eq!(
                (picture.width(), picture.channels()),
                (SIDE as u32, channels)
            );
        }
    }
}
