//! `y = x W^T + b`, weights where they are stored.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::activation::gelu;
use super::block::{Block, Cut, Place, for_each_block};
use super::int8;
use super::product::{Lanes, Scalars, Start, product};
use crate::checkpoint::Values;
use crate::engine::panels::LANES;
use crate::engine::weights::Linear;

/// Outputs (rows of W) that a task computes, so that their weights stay in the second-level cache from panel to panel.
pub(super) const COLUMNS: usize = 96;

/// Inputs that are summed at once, for the same reason.
const DEPTH: usize = 1152;

/// What becomes of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Then {
    /// It is the output.
    Store,
    /// It is added to what the output holds: the residual connection.
    Add,
    /// Its tanh-GELU is the output.
    Gelu,
}

/// `y = x W^T + b`, or `y += ...`, or `y = gelu(...)`.
///
/// # Shapes
/// `x` is panels of `in` columns, `y` as many panels of `out` columns; `W` (out, in).
pub(in crate::engine) fn linear(x: &[f32], layer: &Linear, then: Then, y: &mut [f32]) {
    if let Values::Int8 { values, scales } = layer.weight.values() {
        let bias = &layer.bias;
        let weights = int8::Weights {
            values,
            scales,
            bias,
        };
        return int8::linear(x, weights, then, y);
    }
    let panels = y.len() / (layer.output() * LANES);
    let cut = Cut {
        width: layer.output(),
        columns: COLUMNS,
        group: panels,
        panels: panels_of_task(panels, layer.output().div_ceil(COLUMNS)),
    };
    for_each_block(y, cut, |place, block| {
        Arch::new().dispatch(Task {
            x,
            layer,
            then,
            place,
            block,
        });
    });
}

/// Panels that a task takes: all, but for machines with so many threads that some would have nothing to do.
pub(super) fn panels_of_task(panels: usize, blocks: usize) -> usize {
    let wanted = (4 * rayon::current_num_threads()).div_ceil(blocks);
    panels
        .div_ceil(wanted)
        .next_multiple_of(2)
        .clamp(1, panels.max(1))
}

/// One block of the output.
struct Task<'a, 'o> {
    x: &'a [f32],
    layer: &'a Linear,
    then: Then,
    place: Place,
    block: Block<'o>,
}

thread_local! {
    /// Weights of the block that this thread works on, widened to f32.
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let input = self.layer.input();
        let slices = input.div_ceil(DEPTH);
        let slice = input.div_ceil(slices).next_multiple_of(LANES);
        // Taken out and put back: a closure would be compiled without this instruction set.
        let mut widened = WIDENED.take();
        for first in (0..input).step_by(slice) {
            let depth = first..input.min(first + slice);
            let x = Lanes {
                data: &self.x[(self.place.panels.start * input + first) * LANES..],
                stride: input * LANES,
            };
            let columns = self.place.columns.clone();
            let start = Start {
                bias: (first == 0).then_some(&self.layer.bias[columns.clone()]),
                add: first > 0 || self.then == Then::Add,
            };
            let w = weights(self.layer, columns, depth.clone(), &mut widened);
            product(simd, (x, w), depth.len(), start, &mut self.block);
        }
        WIDENED.set(widened);
        if self.then == Then::Gelu {
            for panel in 0..self.block.panels() {
                gelu::<S>(self.block.panel(panel));
            }
        }
    }
}

/// Part of a layer's weights: in place where they are f32, else widened.
#[inline(always)]
fn weights<'a>(
    layer: &'a Linear,
    columns: Range<usize>,
    depth: Range<usize>,
    widened: &'a mut Vec<f32>,
) -> Scalars<'a> {
    let input = layer.input();
    match layer.weight.values() {
        Values::F32(w) => Scalars::rows(&w[columns.start * input + depth.start..], input),
        Values::Bf16(w) => widen(
            w,
            |w| f32::from_bits(u32::from(w.to_bits()) << 16),
            input,
            columns,
            depth,
            widened,
        ),
        Values::F16(w) => widen(w, |w| w.to_f32(), input, columns, depth, widened),
        Values::Int8 { .. } => unreachable!("8-bit weights have their own product"),
    }
}

#[inline(always)]
fn widen<'a, T: Copy>(
    weights: &[T],
    to_f32: impl Fn(T) -> f32,
    input: usize,
    columns: Range<usize>,
    depth: Range<usize>,
    widened: &'a mut Vec<f32>,
) -> Scalars<'a> {
    widened.resize(columns.len() * depth.len(), 0.0);
    for (column, to) in columns.zip(widened.chunks_exact_mut(depth.len())) {
        let from = &weights[column * input + depth.start..][..depth.len()];
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = to_f32(*from));
    }
    Scalars::rows(widened, depth.len())
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use crate::checkpoint::{Dtype, Tensor};
    use crate::engine::panels::Rows;
    use proptest::prelude::*;

    /// `linear` on row-major rows.
    fn rows_through(x: &[f32], layer: &Linear, then: Then, y: &[f32]) -> Vec<f32> {
        let rows = Rows {
            items: 1,
            tokens: y.len() / layer.output(),
        };
        let mut panels = [layer.input(), layer.output()].map(|width| vec![0.0; rows.len(width)]);
        let [x_panels, y_panels] = &mut panels;
        rows.scatter(x, layer.input(), x_panels);
        rows.scatter(y, layer.output(), y_panels);
        linear(x_panels, layer, then, y_panels);
        rows.gather(y_panels, layer.output())
    }

    fn check(rows: usize, input: usize, output: usize, seed: usize, allowed: f32) {
        let x = reference::numbers(rows * input, seed);
        let old = reference::numbers(rows * output, seed + 3);
        let weight = Tensor::from_f32(
            vec![output, input],
            reference::numbers(output * input, seed + 1),
        );
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let layer = Linear {
                weight: weight.to_dtype(dtype, "w").unwrap(),
                bias: reference::numbers(output, seed + 2),
            };
            let want = reference::linear(&x, &layer.weight.to_f32(), &layer.bias);
            let stored = rows_through(&x, &layer, Then::Store, &old);
            reference::assert_close(&stored, &want, allowed);
            let added: Vec<f32> = want.iter().zip(&old).map(|(w, o)| w + o).collect();
            let got = rows_through(&x, &layer, Then::Add, &old);
            reference::assert_close(&got, &added, allowed);
            let gelu: Vec<f32> = want.iter().map(|w| reference::gelu(*w)).collect();
            let got = rows_through(&x, &layer, Then::Gelu, &old);
            reference::assert_close(&got, &gelu, 1.2 * allowed);
        }
    }

    proptest! {
        #[test]
        fn equals_the_reference(rows in 1usize..70, input in 1usize..70, output in 1usize..120, seed: u8) {
            check(rows, input, output, seed.into(), 1e-4);
        }
    }

    /// More outputs than a task computes, more inputs than are summed at once.
    #[test]
    fn parts_join_seamlessly() {
        check(20, DEPTH + 700, 2 * COLUMNS + 5, 1, 1e-3);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (rows, input, output) = (150, 1300, 700);
        let x = reference::numbers(rows * input, 1);
        let weight = Tensor::from_f32(vec![output, input], reference::numbers(output * input, 2));
        let layer = Linear {
            weight,
            bias: reference::numbers(output, 3),
        };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let old = vec![0.0; rows * output];
            pool.install(|| rows_through(&x, &layer, Then::Store, &old))
        };
        let one = run(1);
        assert!([2, 3, 8, 64].into_iter().all(|threads| run(threads) == one));
    }
}
