//! Layer norm over the last axis (Ba et al., arXiv 1607.06450), biased variance, as `torch.nn.LayerNorm`.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::engine::panels::LANES;
use crate::engine::weights::LayerNorm;

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, row by row.
///
/// # Shapes
/// `x` and `y` are panels of D columns.
pub(in crate::engine) fn layer_norm(x: &[f32], norm: &LayerNorm, y: &mut [f32]) {
    let panel = norm.weight.len() * LANES;
    y.par_chunks_exact_mut(panel)
        .zip(x.par_chunks_exact(panel))
        .for_each(|(y, x)| Arch::new().dispatch(Panel { x, norm, y }));
}

struct Panel<'a> {
    x: &'a [f32],
    norm: &'a LayerNorm,
    y: &'a mut [f32],
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        norm_panel(self.x, self.norm, self.y);
    }
}

#[inline(always)]
fn norm_panel(x: &[f32], norm: &LayerNorm, y: &mut [f32]) {
    let (x, _) = x.as_chunks::<LANES>();
    let (y, _) = y.as_chunks_mut::<LANES>();
    let width = norm.weight.len() as f32;
    let mean = sums(x, |x, _| x).map(|sum| sum / width);
    let variance = sums(x, |x, lane| (x - mean[lane]) * (x - mean[lane])).map(|sum| sum / width);
    let scale = variance.map(|variance| 1.0 / (variance + norm.eps).sqrt());
    for ((y, x), (w, b)) in y.iter_mut().zip(x).zip(norm.weight.iter().zip(&norm.bias)) {
        for lane in 0..LANES {
            y[lane] = (x[lane] - mean[lane]) * scale[lane] * w + b;
        }
    }
}

/// The sum of `f` down each lane, in four independent sums.
#[inline(always)]
fn sums(columns: &[[f32; LANES]], f: impl Fn(f32, usize) -> f32) -> [f32; LANES] {
    let mut sums = [[0.0; LANES]; 4];
    let (fours, rest) = columns.as_chunks::<4>();
    for four in fours {
        for (sums, column) in sums.iter_mut().zip(four) {
            for lane in 0..LANES {
                sums[lane] += f(column[lane], lane);
            }
        }
    }
    for column in rest {
        for lane in 0..LANES {
            sums[0][lane] += f(column[lane], lane);
        }
    }
    std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]))
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use crate::engine::panels::Rows;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_reference(tokens in 1usize..70, width in 1usize..100, offset in -50f32..50.0, seed: u8) {
            let seed = usize::from(seed);
            let rows = Rows { items: 1, tokens };
            let x: Vec<f32> = reference::numbers(tokens * width, seed).iter().map(|x| x + offset).collect();
            let norm = LayerNorm {
                weight: reference::numbers(width, seed + 1),
                bias: reference::numbers(width, seed + 2),
                eps: 1e-6,
            };
            let mut panels = vec![0.0; rows.len(width)];
            rows.scatter(&x, width, &mut panels);
            let mut y = vec![f32::NAN; panels.len()];
            layer_norm(&panels, &norm, &mut y);
            reference::assert_close(&rows.gather(&y, width), &reference::layer_norm(&x, &norm), 2e-3);
        }
    }
}
