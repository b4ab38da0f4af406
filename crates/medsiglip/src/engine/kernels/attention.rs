//! Multi-head attention: softmax(q k^T / sqrt(Dh)) v, in blocks of queries so that the scores stay in cache.

use std::cell::RefCell;

use pulp::Arch;
use rayon::prelude::*;

use super::activation::exp_of_row;
use super::matmul::{Into, Mat, matmul};

/// The scores of one block of queries are at most about this many numbers (512 KiB), so that they stay in the second-level cache.
const SCORES: usize = 1 << 17;

thread_local! {
    /// Scores and unscaled output of the block that this thread works on, kept from call to call.
    static BLOCK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Attention of every row to all `tokens` rows of its own item; no mask.
///
/// # Shapes
/// `q`, `k`, `v`, `out` are (B * tokens, `width`), head h in columns h * Dh..(h + 1) * Dh.
pub(in crate::engine) fn attention(
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    Heads {
        tokens,
        width,
        heads,
    }: Heads,
) {
    let block = (SCORES / tokens).clamp(16, 128).min(tokens);
    let items = q
        .par_chunks(tokens * width)
        .zip(k.par_chunks(tokens * width))
        .zip(v.par_chunks(tokens * width));
    out.par_chunks_mut(tokens * width)
        .zip(items)
        .for_each(|(out, ((q, k), v))| {
            out.par_chunks_mut(block * width)
                .zip(q.par_chunks(block * width))
                .for_each(|(out, q)| {
                    for head in 0..heads {
                        attend_block(
                            [q, k, v],
                            out,
                            Heads {
                                tokens,
                                width,
                                heads,
                            },
                            head,
                        );
                    }
                });
        });
}

/// How rows of width `width` divide into items of `tokens` rows and into `heads` heads.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Heads {
    pub tokens: usize,
    pub width: usize,
    pub heads: usize,
}

/// One head of one block of queries.
///
/// # Shapes
/// `q` and `out` (block, width), `k` and `v` (tokens, width).
fn attend_block(
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    Heads {
        tokens,
        width,
        heads,
    }: Heads,
    head: usize,
) {
    let (block, dim) = (q.len() / width, width / heads);
    let column = head * dim;
    BLOCK.with_borrow_mut(|scores| {
        scores.resize(block * tokens, 0.0);
        let q = Mat::strided(&q[column..], block, dim, width);
        let k = Mat::strided(&k[column..], tokens, dim, width);
        let v = Mat::strided(&v[column..], tokens, dim, width);
        let scale = 1.0 / (dim as f32).sqrt();
        matmul(scores, tokens, q, k.t(), Into::Set { scale }, false);
        let mut sums = [0.0; 128];
        Arch::new().dispatch(|| {
            for (row, sum) in scores.chunks_exact_mut(tokens).zip(&mut sums) {
                *sum = exp_of_row(row);
            }
        });
        let out = &mut out[column..];
        matmul(
            out,
            width,
            Mat::dense(scores, block, tokens),
            v,
            Into::Set { scale: 1.0 },
            false,
        );
        for (row, sum) in out.chunks_mut(width).zip(&sums) {
            row[..dim].iter_mut().for_each(|x| *x /= sum);
        }
    });
}

/// Attention of one query to all rows of one item; also gives the weights.
///
/// # Shapes
/// `query` and `out` (D), `k` and `v` (N, D), `weights` (H, N).
pub(in crate::engine) fn attend_one(
    query: &[f32],
    [k, v]: [&[f32]; 2],
    out: &mut [f32],
    weights: &mut [f32],
) {
    let width = query.len();
    let tokens = k.len() / width;
    let heads = weights.len() / tokens;
    let dim = width / heads;
    let scale = 1.0 / (dim as f32).sqrt();
    for (head, weights) in weights.chunks_exact_mut(tokens).enumerate() {
        let columns = head * dim..(head + 1) * dim;
        for (weight, k) in weights.iter_mut().zip(k.chunks_exact(width)) {
            *weight = scale
                * query[columns.clone()]
                    .iter()
                    .zip(&k[columns.clone()])
                    .map(|(q, k)| q * k)
                    .sum::<f32>();
        }
        let sum = exp_of_row(weights);
        weights.iter_mut().for_each(|w| *w /= sum);
        let out = &mut out[columns.clone()];
        out.fill(0.0);
        for (weight, v) in weights.iter().zip(v.chunks_exact(width)) {
            out.iter_mut()
                .zip(&v[columns.clone()])
                .for_each(|(out, v)| *out += weight * v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_reference(batch in 1usize..4, tokens in 1usize..150, heads in 1usize..5, dim in 1usize..20, seed: u8) {
            let shape = Heads { tokens, width: heads * dim, heads };
            let [q, k, v] = [1, 2, 3].map(|i| reference::numbers(batch * tokens * shape.width, usize::from(seed) + i));
            let mut out = vec![f32::NAN; q.len()];
            attention([&q, &k, &v], &mut out, shape);
            reference::assert_close(&out, &reference::attention([&q, &k, &v], shape).0, 1e-5);
        }

        #[test]
        fn one_query_equals_the_reference(tokens in 1usize..150, heads in 1usize..5, dim in 1usize..20, seed: u8) {
            let shape = Heads { tokens, width: heads * dim, heads };
            let [q, k, v] = [1, 2, 3].map(|i| reference::numbers(tokens * shape.width, usize::from(seed) + i));
            let (mut out, mut weights) = (vec![f32::NAN; shape.width], vec![f32::NAN; heads * tokens]);
            attend_one(&q[..shape.width], [&k, &v], &mut out, &mut weights);
            let (want_out, want_weights) = reference::attention([&q, &k, &v], shape);
            reference::assert_close(&out, &want_out[..shape.width], 1e-5);
            let first: Vec<f32> = (0..heads).flat_map(|h| want_weights[h * tokens * tokens..][..tokens].to_vec()).collect();
            reference::assert_close(&weights, &first, 1e-5);
        }
    }

    /// Large scores must neither overflow nor lose the largest.
    #[test]
    fn large_scores_stay_finite() {
        let shape = Heads {
            tokens: 3,
            width: 1,
            heads: 1,
        };
        let (q, v) = ([1e4, -1e4, 0.0], [1.0, 2.0, 3.0]);
        let mut out = [f32::NAN; 3];
        attention([&q, &[-1e3, 0.0, 1e3], &v], &mut out, shape);
        assert_eq!(out, [3.0, 1.0, 2.0]);
    }
}
