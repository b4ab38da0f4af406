//! torchvision's `gaussian_blur`, as two passes.

use super::Canvas;

/// Blurs with a kernel of `kernel_size` weights and a standard deviation of `sigma` pixels; the border is mirrored.
///
/// torchvision sums over the whole square kernel at once. Two passes in f32 give the same but for rounding of sums that
/// fall on a half.
pub(super) fn gaussian(canvas: &mut Canvas, kernel_size: usize, sigma: f64) {
    let half = kernel_size / 2;
    let weight = |i: usize| (-0.5 * ((i as f64 - half as f64) / sigma).powi(2)).exp() as f32;
    let mut kernel: Vec<f32> = (0..kernel_size).map(weight).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= sum);

    let (size, channels) = (canvas.size, canvas.channels);
    // The place that stands for `i - half`, mirrored about the outermost pixels as often as needed.
    let period = (2 * size.saturating_sub(1)).max(1) as i64;
    let mirrored: Vec<usize> = (0..size + 2 * half)
        .map(|i| {
            let place = (i as i64 - half as i64).rem_euclid(period) as usize;
            place.min(period as usize - place).min(size - 1)
        })
        .collect();

    let row_len = size * channels;
    let mut across = vec![0.0_f32; canvas.samples.len()];
    let mut padded = vec![0.0_f32; mirrored.len() * channels];
    let rows = canvas.samples.chunks_exact(row_len);
    for (row, out) in rows.zip(across.chunks_exact_mut(row_len)) {
        for (place, from) in padded.chunks_exact_mut(channels).zip(&mirrored) {
            let pixel = &row[from * channels..(from + 1) * channels];
            for (place, sample) in place.iter_mut().zip(pixel) {
                *place = f32::from(*sample);
            }
        }
        for (place, weight) in kernel.iter().enumerate() {
            add(out, &padded[place * channels..], *weight);
        }
    }
    let mut sums = vec![0.0_f32; row_len];
    for (y, out) in canvas.samples.chunks_exact_mut(row_len).enumerate() {
        sums.fill(0.0);
        for (weight, from) in kernel.iter().zip(&mirrored[y..]) {
            add(&mut sums, &across[from * row_len..], *weight);
        }
        for (level, sum) in out.iter_mut().zip(&sums) {
            *level = sum.round_ties_even() as u8;
        }
    }
}

#[inline(always)]
fn add(sums: &mut [f32], samples: &[f32], weight: f32) {
    for (sum, sample) in sums.iter_mut().zip(samples) {
        *sum += weight * sample;
    }
}
