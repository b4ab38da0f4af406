//! `y = x W^T + b`, weights as they are stored.

use rayon::prelude::*;
use std::cell::RefCell;

use super::matmul::{Into, Mat, matmul};
use crate::checkpoint::Values;
use crate::engine::weights::Linear;

/// Half-precision weights are widened to f32 in slabs of about this many numbers, so that a slab is still in cache when it is used.
const SLAB: usize = 1 << 18;

/// `y = x W^T + b`.
///
/// # Shapes
/// `x` (rows, in) to `y` (rows, out); `W` (out, in).
pub(in crate::engine) fn linear(x: &[f32], layer: &Linear, y: &mut [f32]) {
    for row in y.chunks_exact_mut(layer.bias.len()) {
        row.copy_from_slice(&layer.bias);
    }
    add_product(x, layer, y);
}

/// `y += x W^T + b`: the residual connection.
///
/// # Shapes
/// As [`linear`].
pub(in crate::engine) fn linear_add(x: &[f32], layer: &Linear, y: &mut [f32]) {
    for row in y.chunks_exact_mut(layer.bias.len()) {
        row.iter_mut().zip(&layer.bias).for_each(|(y, b)| *y += b);
    }
    add_product(x, layer, y);
}

/// `y += x W^T`.
fn add_product(x: &[f32], layer: &Linear, y: &mut [f32]) {
    let output = layer.bias.len();
    let rows = y.len() / output;
    let input = x.len() / rows;
    let x = Mat::dense(x, rows, input);
    match layer.weight.values() {
        Values::F32(w) => matmul(
            y,
            output,
            x,
            Mat::dense(w, output, input).t(),
            Into::Add,
            true,
        ),
        Values::Bf16(w) => add_widened(x, w, |w| w.to_f32(), output, y),
        Values::F16(w) => add_widened(x, w, |w| w.to_f32(), output, y),
    }
}

/// `y += x W^T` with `W` widened slab by slab.
fn add_widened<T: Copy + Sync>(
    x: Mat,
    weight: &[T],
    widen: impl Fn(T) -> f32 + Sync,
    output: usize,
    y: &mut [f32],
) {
    thread_local! {
        static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    let slab = (SLAB / x.cols).max(1);
    // Taken out, not borrowed: while this thread waits for the others, the pool may give it another call's work.
    let mut widened = WIDENED.take();
    widened.resize(slab * x.cols, 0.0);
    for (index, weight) in weight.chunks(slab * x.cols).enumerate() {
        let widened = &mut widened[..weight.len()];
        widened
            .par_chunks_mut(1 << 14)
            .zip(weight.par_chunks(1 << 14))
            .for_each(|(to, from)| {
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = widen(*from));
            });
        let columns = weight.len() / x.cols;
        let right = Mat::dense(widened, columns, x.cols).t();
        matmul(&mut y[index * slab..], output, x, right, Into::Add, true);
    }
    WIDENED.replace(widened);
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use crate::checkpoint::{Dtype, Tensor};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_reference(rows in 1usize..9, input in 1usize..70, output in 1usize..70, seed: u8) {
            let seed = usize::from(seed);
            let x = reference::numbers(rows * input, seed);
            let weight = Tensor::from_f32(vec![output, input], reference::numbers(output * input, seed + 1));
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
                let layer = Linear { weight: weight.to_dtype(dtype, "w").unwrap(), bias: reference::numbers(output, seed + 2) };
                let stored = layer.weight.to_f32();
                let want = reference::linear(&x, &stored, &layer.bias);
                let mut y = vec![f32::NAN; rows * output];
                linear(&x, &layer, &mut y);
                reference::assert_close(&y, &want, 1e-4);
                linear_add(&x, &layer, &mut y);
                let twice: Vec<f32> = want.iter().map(|w| 2.0 * w).collect();
                reference::assert_close(&y, &twice, 2e-4);
            }
        }
    }

    /// More rows than one slab holds.
    #[test]
    fn slabs_join_seamlessly() {
        let (rows, input, output) = (3, 700, 1001);
        let x = reference::numbers(rows * input, 1);
        let weight = Tensor::from_f32(vec![output, input], reference::numbers(output * input, 2))
            .to_dtype(Dtype::Bf16, "w")
            .unwrap();
        let layer = Linear {
            weight,
            bias: reference::numbers(output, 3),
        };
        let mut y = vec![0.0; rows * output];
        linear(&x, &layer, &mut y);
        reference::assert_close(
            &y,
            &reference::linear(&x, &layer.weight.to_f32(), &layer.bias),
            1e-3,
        );
    }
}
