//! Softmax attention of one item, forward and backward, in blocks of queries, so that scores stay in the cache
//! (Dao et al., arXiv 2205.14135, without blocks of keys: a block's scores of all keys fit).

use pulp::Simd;

use super::product::{Matrix, Target, product};
use crate::engine::exp;

/// Scores of a block: 256 KiB.
const SCORES: usize = 1 << 16;

/// Tokens, width and heads of an item: head h has columns `h * dim..(h + 1) * dim`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub tokens: usize,
    pub width: usize,
    pub heads: usize,
}

impl Heads {
    fn dim(self) -> usize {
        self.width / self.heads
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim() as f32).sqrt()
    }

    /// Queries of a block.
    fn block(self) -> usize {
        (SCORES / self.tokens).clamp(1, self.tokens)
    }

    /// Numbers that `attend` needs as scratch, and `attend_backward` twice.
    pub fn scratch(self) -> usize {
        self.block() * self.tokens
    }

    /// Rows `first..first + rows` of the columns of one head.
    fn head(self, x: &[f32], head: usize, first: usize, rows: usize) -> Matrix<'_> {
        let at = first * self.width + head * self.dim();
        Matrix::new(&x[at..], rows, self.dim(), self.width)
    }

    fn head_mut(self, x: &mut [f32], head: usize, first: usize) -> Target<'_> {
        let at = first * self.width + head * self.dim();
        Target {
            data: &mut x[at..],
            stride: self.width,
        }
    }

    /// Every block of queries of every head: head, first query, number of queries.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (tokens, block) = (self.tokens, self.block());
        (0..self.heads).flat_map(move |head| {
            (0..tokens)
                .step_by(block)
                .map(move |first| (head, first, block.min(tokens - first)))
        })
    }
}

/// `out = softmax(q k^T / sqrt(Dh)) v`, (N, D) each; `log_sums` (H, N) gets the logarithm of every row's sum of
/// exponentials, from which the backward pass makes the weights again.
#[inline(always)]
pub(super) fn attend<S: Simd>(
    heads: Heads,
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    log_sums: &mut [f32],
    scores: &mut [f32],
    threads: usize,
) {
    let tokens = heads.tokens;
    for (head, first, rows) in heads.blocks() {
        let scores = &mut scores[..rows * tokens];
        let queries = heads.head(q, head, first, rows);
        let keys = heads.head(k, head, 0, tokens);
        product(whole(scores, tokens), false, queries, keys.t(), threads);
        let log_sums = &mut log_sums[head * tokens + first..][..rows];
        for (row, log_sum) in scores.chunks_exact_mut(tokens).zip(log_sums) {
            *log_sum = softmax::<S>(row, heads.scale());
        }
        let weights = Matrix::new(scores, rows, tokens, tokens);
        let values = heads.head(v, head, 0, tokens);
        product(
            heads.head_mut(out, head, first),
            false,
            weights,
            values,
            threads,
        );
    }
}

/// What the backward pass of [`attend`] reads: its inputs, its output, the gradient of that, its `log_sums`.
pub(super) struct Attended<'a> {
    pub qkv: [&'a [f32]; 3],
    pub out: &'a [f32],
    pub dout: &'a [f32],
    pub log_sums: &'a [f32],
}

/// The gradients of q, k and v, written over what `dqkv` held.
#[inline(always)]
pub(super) fn attend_backward<S: Simd>(
    heads: Heads,
    at: Attended,
    [dq, dk, dv]: [&mut [f32]; 3],
    scratch: &mut [f32],
    threads: usize,
) {
    let (tokens, dim, scale) = (heads.tokens, heads.dim(), heads.scale());
    let [q, k, v] = at.qkv;
    let (weights, dscores) = scratch.split_at_mut(heads.scratch());
    for (head, first, rows) in heads.blocks() {
        let weights = &mut weights[..rows * tokens];
        let dscores = &mut dscores[..rows * tokens];
        let queries = heads.head(q, head, first, rows);
        let keys = heads.head(k, head, 0, tokens);
        let values = heads.head(v, head, 0, tokens);
        let dout = heads.head(at.dout, head, first, rows);
        product(whole(weights, tokens), false, queries, keys.t(), threads);
        product(whole(dscores, tokens), false, dout, values.t(), threads);
        let log_sums = &at.log_sums[head * tokens + first..][..rows];
        let lines = weights
            .chunks_exact_mut(tokens)
            .zip(dscores.chunks_exact_mut(tokens));
        for (i, ((weights, dscores), log_sum)) in lines.zip(log_sums).enumerate() {
            let columns = (first + i) * heads.width + head * dim..;
            // The softmax's gradient takes the weighted mean of the row away: sum_j w_j dw_j = out . dout.
            let mean = dot(&at.out[columns.clone()][..dim], &at.dout[columns][..dim]);
            for (w, d) in weights.iter_mut().zip(dscores) {
                *w = exp::<S>(*w * scale - log_sum);
                *d = *w * (*d - mean) * scale;
            }
        }
        let more = first > 0;
        let weights = Matrix::new(weights, rows, tokens, tokens);
        let dscores = Matrix::new(dscores, rows, tokens, tokens);
        product(
            heads.head_mut(dv, head, 0),
            more,
            weights.t(),
            dout,
            threads,
        );
        product(
            heads.head_mut(dk, head, 0),
            more,
            dscores.t(),
            queries,
            threads,
        );
        product(
            heads.head_mut(dq, head, first),
            false,
            dscores,
            keys,
            threads,
        );
    }
}

fn whole(scores: &mut [f32], tokens: usize) -> Target<'_> {
    Target {
        data: scores,
        stride: tokens,
    }
}

/// Softmax of `scale * row` in place; gives the logarithm of the sum of exponentials.
#[inline(always)]
fn softmax<S: Simd>(row: &mut [f32], scale: f32) -> f32 {
    const LANES: usize = 16;
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(*x);
        }
    }
    let largest = largest
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b))
        * scale;
    let (whole, rest) = row.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp::<S>(*x * scale - largest);
            *sum += *x;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for x in rest {
        *x = exp::<S>(*x * scale - largest);
        sum += *x;
    }
    let inverse = 1.0 / sum;
    row.iter_mut().for_each(|x| *x *= inverse);
    largest + sum.ln()
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
