//! Layer norm over the last axis (Ba et al., arXiv 1607.06450), biased variance, as `torch.nn.LayerNorm`.

use pulp::Arch;
use rayon::prelude::*;

use super::lane_sum;
use crate::engine::weights::LayerNorm;

/// Rows given to a thread at once.
const ROWS: usize = 32;

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, row by row.
///
/// # Shapes
/// `x` (rows, D) to `y` (rows, D).
pub(in crate::engine) fn layer_norm(x: &[f32], norm: &LayerNorm, y: &mut [f32]) {
    let width = norm.weight.len();
    let arch = Arch::new();
    y.par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width))
        .for_each(|(y, x)| {
            arch.dispatch(|| {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    norm_row(x, norm, y);
                }
            });
        });
}

#[inline(always)]
fn norm_row(x: &[f32], norm: &LayerNorm, y: &mut [f32]) {
    let width = x.len() as f32;
    let mean = lane_sum(x, |v| v) / width;
    let variance = lane_sum(x, |v| (v - mean) * (v - mean)) / width;
    let scale = 1.0 / (variance + norm.eps).sqrt();
    for ((y, x), (w, b)) in y.iter_mut().zip(x).zip(norm.weight.iter().zip(&norm.bias)) {
        *y = (x - mean) * scale * w + b;
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_reference(rows in 1usize..70, width in 1usize..100, offset in -50f32..50.0, seed: u8) {
            let seed = usize::from(seed);
            let x: Vec<f32> = reference::numbers(rows * width, seed).iter().map(|x| x + offset).collect();
            let norm = LayerNorm {
                weight: reference::numbers(width, seed + 1),
                bias: reference::numbers(width, seed + 2),
                eps: 1e-6,
            };
            let mut y = vec![f32::NAN; rows * width];
            layer_norm(&x, &norm, &mut y);
            reference::assert_close(&y, &reference::layer_norm(&x, &norm), 2e-3);
        }
    }
}
