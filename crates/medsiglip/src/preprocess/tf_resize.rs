//! `tf.image.resize(method="bilinear", antialias=False)` and its truncation to 8 bits.
//!
//! The arithmetic of `tensorflow/core/kernels/image/resize_bilinear_op.cc` with half-pixel centres, in f32
//! and in its order of operations; `tf.image.resize` returns a picture of the wanted size as it is.

use super::frame::{Axis, Frame};

/// Resizes to `size` x `size`.
///
/// # Shapes
/// `frame.data` is (height, width, channels); the result is (size, size, channels).
pub(super) fn resize(frame: &Frame, size: usize) -> Vec<u8> {
    if frame.x.is_identity(size) && frame.y.is_identity(size) {
        return frame.data.to_vec();
    }
    let columns = places(&frame.x, size);
    let channels = frame.channels;
    let row_len = frame.x.len * channels;
    let zeros = vec![0; row_len];
    let row =
        |y: Option<usize>| y.map_or(&zeros[..], |y| &frame.data[y * row_len..(y + 1) * row_len]);

    let mut out = Vec::with_capacity(size * size * channels);
    for y in places(&frame.y, size) {
        let (top, bottom) = (row(y.lower), row(y.upper));
        for x in &columns {
            for c in 0..channels {
                let sample = |row: &[u8], x: Option<usize>| {
                    x.map_or(0.0, |x| f32::from(row[x * channels + c]))
                };
                let top = mix(sample(top, x.lower), sample(top, x.upper), x.fraction);
                let bottom = mix(sample(bottom, x.lower), sample(bottom, x.upper), x.fraction);
                out.push(mix(top, bottom, y.fraction) as u8);
            }
        }
    }
    out
}

/// `compute_lerp`.
fn mix(a: f32, b: f32, fraction: f32) -> f32 {
    a + (b - a) * fraction
}

/// The two stored samples that an output place lies between; `None` is the padding.
struct Place {
    lower: Option<usize>,
    upper: Option<usize>,
    fraction: f32,
}

/// `compute_interpolation_weights` with `HalfPixelScaler`.
fn places(axis: &Axis, out_len: usize) -> Vec<Place> {
    let scale = axis.padded_len as f32 / out_len as f32;
    let stored = |i: usize| i.checked_sub(axis.before).filter(|&i| i < axis.len);
    (0..out_len)
        .map(|place| {
            let at = (place as f32 + 0.5) * scale - 0.5;
            Place {
                // `as usize` stops at zero, as the kernel's max does.
                lower: stored(at.floor() as usize),
                upper: stored((at.ceil() as usize).min(axis.padded_len - 1)),
                fraction: at - at.floor(),
            }
        })
        .collect()
}
