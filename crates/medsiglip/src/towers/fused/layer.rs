//! One transformer layer on slices, forward and backward, a few items at a time, so that what stands between its
//! products stays in the cache.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::attention::{Attended, Heads, attend, attend_backward};
use super::buffer::Buffer;
use super::pointwise::{
    add_columns, gelu, gelu_backward, layer_norm, layer_norm_backward, normed, start,
};
use super::product::{Matrix, Target, product};

/// Rows that are worked on at once: enough for the products, few enough for the cache.
const ROWS: usize = 256;

/// A weight and its bias, in the stored shapes: (out, in) and (out), or (D) twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<T> {
    pub weight: T,
    pub bias: T,
}

/// What a layer has parameters for, in the order in which they are used.
#[derive(Debug, Clone, Copy)]
enum Part {
    Norm1,
    Query,
    Key,
    Value,
    Out,
    Norm2,
    Fc1,
    Fc2,
}

/// Number of parts.
pub(super) const PARTS: usize = 8;

/// The parameters of a layer, or their gradients.
pub(super) type Parts<T> = [Pair<T>; PARTS];

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dims {
    pub heads: Heads,
    /// F.
    pub hidden: usize,
    pub eps: f32,
}

impl Dims {
    /// Numbers of an item's states.
    fn item(self) -> usize {
        self.heads.tokens * self.heads.width
    }

    fn items_at_once(self) -> usize {
        (ROWS / self.heads.tokens).max(1)
    }

    /// Lengths of what the backward pass needs of the forward pass: queries, keys, values, the result of attention,
    /// the sum after it (R, D each); the MLP's input to GELU (R, F); log sums of attention (items, H, N); mean and
    /// deviation of both norms (R, 2).
    fn saved(self, items: usize) -> [usize; 9] {
        let rows = items * self.heads.tokens;
        let states = rows * self.heads.width;
        [
            states,
            states,
            states,
            states,
            states,
            rows * self.hidden,
            rows * self.heads.heads,
            2 * rows,
            2 * rows,
        ]
    }
}

/// A layer's pass over a batch: its sizes, its parameters, its input (B, N, D).
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub dims: Dims,
    pub params: &'a Parts<&'a [f32]>,
    pub x: &'a [f32],
}

impl Pass<'_> {
    fn items(&self) -> usize {
        self.x.len() / self.dims.item()
    }

    /// The layer's output into `y`, and where `keep` says so, what the backward pass needs.
    pub fn forward(&self, y: &mut [f32], keep: bool) -> Vec<Buffer> {
        let at_once = self.dims.items_at_once() * self.dims.item();
        let chunks = self.x.par_chunks(at_once).zip(y.par_chunks_mut(at_once));
        let threads = (rayon::current_num_threads() / chunks.len()).max(1);
        let run = |(x, y): (&[f32], &mut [f32])| {
            let chunk = Pass { x, ..*self };
            let mut saved = Buffer::new(self.dims.saved(chunk.items()).iter().sum());
            Arch::new().dispatch(Forward {
                pass: chunk,
                y,
                saved: &mut saved,
                threads,
            });
            keep.then_some(saved)
        };
        chunks.filter_map(run).collect()
    }

    /// The gradients of the input, written into `dx`, and of all parameters, given that of the output.
    ///
    /// `saved` is what [`forward`](Self::forward) kept; where it kept nothing, it is made again. The sum over the batch
    /// is taken in as many parts as there are threads: the same number gives the same bits.
    pub fn backward(&self, saved: &[Buffer], dy: &[f32], dx: &mut [f32]) -> Parts<Vec<f32>> {
        let at_once = self.dims.items_at_once();
        let threads = rayon::current_num_threads();
        let chunks = self.items().div_ceil(at_once);
        let share = chunks.div_ceil(threads).max(1);
        let shares: Vec<_> = dx
            .par_chunks_mut(share * at_once * self.dims.item())
            .enumerate()
            .map(|(index, dx)| {
                let threads = (threads / chunks.div_ceil(share)).max(1);
                self.share(index * share, saved, dy, dx, threads)
            })
            .collect();
        let sum = |mut all: Parts<Vec<f32>>, part: Parts<Vec<f32>>| {
            for (all, part) in all.iter_mut().zip(&part) {
                add(&mut all.weight, &part.weight);
                add(&mut all.bias, &part.bias);
            }
            all
        };
        shares
            .into_iter()
            .reduce(sum)
            .unwrap_or_else(|| self.zeros())
    }

    /// The backward pass over the chunks from number `first` on that `dx` has room for.
    fn share(
        &self,
        first: usize,
        saved: &[Buffer],
        dy: &[f32],
        dx: &mut [f32],
        threads: usize,
    ) -> Parts<Vec<f32>> {
        let mut grads = self.zeros();
        let at_once = self.dims.items_at_once() * self.dims.item();
        let mut again = Buffer::default();
        for (number, dx) in (first..).zip(dx.chunks_mut(at_once)) {
            let place: Range<usize> = number * at_once..number * at_once + dx.len();
            let chunk = Pass {
                x: &self.x[place.clone()],
                ..*self
            };
            let saved = match saved.get(number) {
                Some(saved) => saved,
                None => {
                    again.resize(self.dims.saved(chunk.items()).iter().sum());
                    let mut y = vec![0.0; dx.len()];
                    Arch::new().dispatch(Forward {
                        pass: chunk,
                        y: &mut y,
                        saved: &mut again,
                        threads,
                    });
                    &again
                }
            };
            Arch::new().dispatch(Backward {
                pass: chunk,
                saved,
                dy: &dy[place],
                dx,
                grads: &mut grads,
                threads,
            });
        }
        grads
    }

    fn zeros(&self) -> Parts<Vec<f32>> {
        self.params.map(|pair| Pair {
            weight: vec![0.0; pair.weight.len()],
            bias: vec![0.0; pair.bias.len()],
        })
    }

    fn part(&self, part: Part) -> Pair<&[f32]> {
        self.params[part as usize]
    }

    fn norm(&self, part: Part) -> [&[f32]; 2] {
        let Pair { weight, bias } = self.part(part);
        [weight, bias]
    }
}

fn add(all: &mut [f32], part: &[f32]) {
    all.iter_mut().zip(part).for_each(|(a, b)| *a += b);
}

/// Rows of `width` numbers side by side.
fn matrix(data: &[f32], width: usize) -> Matrix<'_> {
    Matrix::new(data, data.len() / width, width, width)
}

fn target(data: &mut [f32], stride: usize) -> Target<'_> {
    Target { data, stride }
}

/// `y = x W^T + bias`, plus `residual`.
#[inline(always)]
fn linear(x: &[f32], layer: Pair<&[f32]>, residual: Option<&[f32]>, y: &mut [f32], threads: usize) {
    let output = layer.bias.len();
    let input = layer.weight.len() / output;
    start(y, layer.bias, residual);
    let weight = matrix(layer.weight, input);
    product(
        target(y, output),
        true,
        matrix(x, input),
        weight.t(),
        threads,
    );
}

/// The gradients of a linear layer: of its parameters, added to `grads`, and of its input, which is written to `dx` or,
/// where `more` says so, added.
#[inline(always)]
fn linear_backward(
    [dy, x, weight]: [&[f32]; 3],
    grads: &mut Pair<Vec<f32>>,
    dx: &mut [f32],
    more: bool,
    threads: usize,
) {
    let output = grads.bias.len();
    let input = weight.len() / output;
    add_columns(dy, &mut grads.bias);
    let dy = matrix(dy, output);
    product(
        target(&mut grads.weight, input),
        true,
        dy.t(),
        matrix(x, input),
        threads,
    );
    product(target(dx, input), more, dy, matrix(weight, input), threads);
}

/// The forward pass over a chunk.
struct Forward<'a> {
    pass: Pass<'a>,
    y: &'a mut [f32],
    saved: &'a mut Buffer,
    threads: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            pass,
            y,
            saved,
            threads,
        } = self;
        let (dims, heads, x) = (pass.dims, pass.dims.heads, pass.x);
        let rows = x.len() / heads.width;
        let [q, k, v, attended, middle, hidden, log_sums, stats1, stats2] =
            saved.split_mut(dims.saved(pass.items()));
        let mut scratch = Buffer::new(rows * heads.width + rows * dims.hidden + heads.scratch());
        let [normed, active, scores] =
            scratch.split_mut([rows * heads.width, rows * dims.hidden, heads.scratch()]);
        layer_norm(x, pass.norm(Part::Norm1), dims.eps, normed, stats1);
        linear(normed, pass.part(Part::Query), None, q, threads);
        linear(normed, pass.part(Part::Key), None, k, threads);
        linear(normed, pass.part(Part::Value), None, v, threads);
        let sums = log_sums.chunks_exact_mut(heads.heads * heads.tokens);
        for ((item, out), sums) in attended.chunks_exact_mut(dims.item()).enumerate().zip(sums) {
            let at = item * dims.item()..(item + 1) * dims.item();
            let qkv = [&q[at.clone()], &k[at.clone()], &v[at]];
            attend::<S>(heads, qkv, out, sums, scores, threads);
        }
        linear(attended, pass.part(Part::Out), Some(x), middle, threads);
        layer_norm(middle, pass.norm(Part::Norm2), dims.eps, normed, stats2);
        linear(normed, pass.part(Part::Fc1), None, hidden, threads);
        gelu::<S>(hidden, active);
        linear(active, pass.part(Part::Fc2), Some(middle), y, threads);
    }
}

/// The backward pass over a chunk.
struct Backward<'a> {
    pass: Pass<'a>,
    saved: &'a Buffer,
    dy: &'a [f32],
    dx: &'a mut [f32],
    grads: &'a mut Parts<Vec<f32>>,
    threads: usize,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            pass,
            saved,
            dy,
            dx,
            grads,
            threads,
        } = self;
        let (dims, heads, x) = (pass.dims, pass.dims.heads, pass.x);
        let states = x.len();
        let hiddens = states / heads.width * dims.hidden;
        let [q, k, v, attended, middle, hidden, log_sums, stats1, stats2] =
            saved.split(dims.saved(pass.items()));
        let lengths = [
            states,
            states,
            states,
            states,
            states,
            hiddens,
            hiddens,
            2 * heads.scratch(),
        ];
        let mut scratch = Buffer::new(lengths.iter().sum());
        let [input, dinput, dq, dk, dv, active, dactive, scores] = scratch.split_mut(lengths);
        let weight = |part| pass.part(part).weight;
        let grad = |part: Part| part as usize;

        // The MLP. GELU's output and its gradient are made from its input in one go.
        product(
            target(dactive, dims.hidden),
            false,
            matrix(dy, heads.width),
            matrix(weight(Part::Fc2), dims.hidden),
            threads,
        );
        gelu_backward::<S>(hidden, active, dactive);
        let fc2 = &mut grads[grad(Part::Fc2)];
        add_columns(dy, &mut fc2.bias);
        product(
            target(&mut fc2.weight, dims.hidden),
            true,
            matrix(dy, heads.width).t(),
            matrix(active, dims.hidden),
            threads,
        );
        normed(middle, pass.norm(Part::Norm2), stats2, input);
        linear_backward(
            [dactive, input, weight(Part::Fc1)],
            &mut grads[grad(Part::Fc1)],
            dinput,
            false,
            threads,
        );
        // From here on `dx` holds the gradient of the sum in the middle.
        dx.copy_from_slice(dy);
        let norm2 = &mut grads[grad(Part::Norm2)];
        layer_norm_backward(
            dinput,
            middle,
            weight(Part::Norm2),
            stats2,
            dx,
            [&mut norm2.weight, &mut norm2.bias],
        );

        // Attention.
        let dattended = &mut *dinput;
        linear_backward(
            [dx, attended, weight(Part::Out)],
            &mut grads[grad(Part::Out)],
            dattended,
            false,
            threads,
        );
        for (item, sums) in log_sums
            .chunks_exact(heads.heads * heads.tokens)
            .enumerate()
        {
            let at = item * dims.item()..(item + 1) * dims.item();
            let [q, k, v, out, dout] =
                [q, k, v, attended, dattended].map(|all: &[f32]| &all[at.clone()]);
            let into = [
                &mut dq[at.clone()],
                &mut dk[at.clone()],
                &mut dv[at.clone()],
            ];
            let of = Attended {
                qkv: [q, k, v],
                out,
                dout,
                log_sums: sums,
            };
            attend_backward::<S>(heads, of, into, scores, threads);
        }
        normed(x, pass.norm(Part::Norm1), stats1, input);
        for (i, (part, d)) in [(Part::Query, dq), (Part::Key, dk), (Part::Value, dv)]
            .into_iter()
            .enumerate()
        {
            linear_backward(
                [d, input, weight(part)],
                &mut grads[grad(part)],
                dinput,
                i > 0,
                threads,
            );
        }
        let norm1 = &mut grads[grad(Part::Norm1)];
        layer_norm_backward(
            dinput,
            x,
            weight(Part::Norm1),
            stats1,
            dx,
            [&mut norm1.weight, &mut norm1.bias],
        );
    }
}
