//! Multi-head attention: softmax(q k^T / sqrt(Dh)) v, over blocks of keys with a running maximum and sum (Milakov and
//! Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135), so that scores never leave the cache.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::activation::exp;
use super::block::{Block, Cut, Place, for_each_block};
use super::product::{Lanes, Scalars, Start, Steps, product};
use crate::engine::panels::{LANES, Rows};

/// Panels of queries that are worked on at once.
const QUERIES: usize = 2;

/// Keys that are worked on at once: QUERIES * LANES * KEYS scores are 32 KiB.
const KEYS: usize = 256;

/// Panels of queries of a task.
const PANELS: usize = 16;

/// How the rows of a batch divide into items, and their columns into heads.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Heads {
    /// Items and their tokens.
    pub rows: Rows,
    /// Columns D; head h has columns h * Dh..(h + 1) * Dh.
    pub width: usize,
    /// Number of heads H.
    pub heads: usize,
}

impl Heads {
    /// Columns of a head, Dh.
    fn dim(self) -> usize {
        self.width / self.heads
    }

    /// What scores are multiplied by.
    fn scale(self) -> f32 {
        1.0 / (self.dim() as f32).sqrt()
    }
}

/// Attention of every row to all rows of its own item; no mask.
///
/// # Shapes
/// `q`, `k`, `v`, `out` are panels of `width` columns.
pub(in crate::engine) fn attention([q, k, v]: [&[f32]; 3], out: &mut [f32], heads: Heads) {
    let cut = Cut {
        width: heads.width,
        columns: heads.dim(),
        group: heads.rows.panels_of_item(),
        panels: PANELS,
    };
    for_each_block(out, cut, |place, block| {
        Arch::new().dispatch(Task {
            q,
            k,
            v,
            heads,
            place,
            block,
        });
    });
}

/// One head of some queries of one item.
struct Task<'a, 'o> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
    place: Place,
    block: Block<'o>,
}

thread_local! {
    /// Scores of the queries that this thread works on, kept from call to call.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Taken out and put back: a closure would be compiled without this instruction set.
        let mut scores = SCORES.take();
        scores.resize(QUERIES * LANES * KEYS, 0.0);
        let panels = self.block.panels();
        for first in (0..panels).step_by(QUERIES) {
            self.queries(simd, first..panels.min(first + QUERIES), &mut scores);
        }
        SCORES.set(scores);
    }
}

impl Task<'_, '_> {
    /// Some panels of the block's queries against all keys of their item.
    #[inline(always)]
    fn queries<S: Simd>(&mut self, simd: S, panels: Range<usize>, scores: &mut [f32]) {
        let tokens = self.heads.rows.tokens;
        let columns = 0..self.block.columns();
        let first = self.place.panels.start + panels.start;
        let mut running = [Running::default(); QUERIES];
        let mut out = self.block.part(Place { panels, columns });
        for start in (0..tokens).step_by(KEYS) {
            let keys = start..tokens.min(start + KEYS);
            let tile = &mut scores[..out.panels() * keys.len() * LANES];
            let part = Part {
                width: self.heads.width,
                first_column: self.place.columns.start,
                first_panel: first / self.heads.rows.panels_of_item()
                    * self.heads.rows.panels_of_item(),
            };
            part.scores(
                simd,
                self.q,
                first,
                self.k,
                keys.clone(),
                out.columns(),
                tile,
            );
            for (panel, running) in running.iter_mut().enumerate().take(out.panels()) {
                let scores = &mut tile[panel * keys.len() * LANES..][..keys.len() * LANES];
                let shrink = running.take::<S>(scores, self.heads.scale());
                if start > 0 {
                    scale_columns(out.panel(panel), &shrink);
                }
            }
            part.weigh(simd, tile, self.v, keys, start > 0, &mut out);
        }
        for (panel, running) in running.iter().enumerate().take(out.panels()) {
            scale_columns(out.panel(panel), &running.sum.map(|sum| 1.0 / sum));
        }
    }
}

/// The largest score and the sum of exponentials of each query of a panel, over the keys so far.
#[derive(Debug, Clone, Copy)]
struct Running {
    max: [f32; LANES],
    sum: [f32; LANES],
}

impl Default for Running {
    fn default() -> Self {
        Self {
            max: [f32::NEG_INFINITY; LANES],
            sum: [0.0; LANES],
        }
    }
}

impl Running {
    /// Turns the scores of more keys into `e^(scale * (score - max))`, and gives what everything summed so far is to
    /// be multiplied by.
    ///
    /// # Shapes
    /// `scores` (keys, LANES).
    #[inline(always)]
    fn take<S: Simd>(&mut self, scores: &mut [f32], scale: f32) -> [f32; LANES] {
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        let mut max = self.max;
        for row in scores.iter() {
            for (max, score) in max.iter_mut().zip(row) {
                *max = if *score > *max { *score } else { *max };
            }
        }
        let mut sum = [0.0; LANES];
        for row in scores.iter_mut() {
            for ((score, max), sum) in row.iter_mut().zip(&max).zip(&mut sum) {
                *score = exp::<S>((*score - max) * scale);
                *sum += *score;
            }
        }
        let mut shrink = [0.0; LANES];
        for (lane, shrink) in shrink.iter_mut().enumerate() {
            *shrink = exp::<S>((self.max[lane] - max[lane]) * scale);
            self.sum[lane] = self.sum[lane] * *shrink + sum[lane];
        }
        self.max = max;
        shrink
    }
}

/// Multiplies every column of a panel, lane by lane.
#[inline(always)]
fn scale_columns(panel: &mut [f32], by: &[f32; LANES]) {
    let (columns, _) = panel.as_chunks_mut::<LANES>();
    for column in columns {
        column.iter_mut().zip(by).for_each(|(x, by)| *x *= by);
    }
}

/// Where one head of one item stands.
struct Part {
    width: usize,
    first_column: usize,
    /// The item's first panel.
    first_panel: usize,
}

impl Part {
    /// Scores of panels of queries, the first of which is `query`, with `keys`.
    ///
    /// # Shapes
    /// `scores` (panels, keys, LANES).
    #[inline(always)]
    #[expect(clippy::too_many_arguments)]
    fn scores<S: Simd>(
        &self,
        simd: S,
        q: &[f32],
        query: usize,
        k: &[f32],
        keys: Range<usize>,
        dim: usize,
        scores: &mut [f32],
    ) {
        let x = Lanes {
            data: &q[(query * self.width + self.first_column) * LANES..],
            stride: self.width * LANES,
        };
        let panel = self.first_panel + keys.start / LANES;
        // Keys are lanes of a panel, their columns 16 numbers apart.
        let w = Scalars {
            data: &k[(panel * self.width + self.first_column) * LANES..],
            column: Steps {
                inner: 1,
                outer: self.width * LANES,
            },
            k: Steps::even(LANES),
        };
        let mut scores = Block::whole(scores, keys.len());
        product(simd, (x, w), dim, Start::default(), &mut scores);
    }

    /// `out (+)= weights v`.
    ///
    /// # Shapes
    /// `weights` (panels, keys, LANES).
    #[inline(always)]
    fn weigh<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        v: &[f32],
        keys: Range<usize>,
        add: bool,
        out: &mut Block,
    ) {
        let x = Lanes {
            data: weights,
            stride: keys.len() * LANES,
        };
        let panel = self.first_panel + keys.start / LANES;
        let place = (panel * self.width + self.first_column) * LANES;
        let w = down_panels(&v[place..], self.width);
        let start = Start { bias: None, add };
        product(simd, (x, w), keys.len(), start, out);
    }
}

/// What one query a head makes of the tokens of one item: softmax(`scores`) of each head, and the sums of the tokens
/// that it weighs.
///
/// # Shapes
/// `scores` is panels of H columns and `y` panels of D columns, of `tokens` rows; `weights` (H, tokens); `sums` is
/// panels of D columns, of H rows.
pub(in crate::engine) fn pool(
    [scores, y]: [&[f32]; 2],
    tokens: usize,
    weights: &mut [f32],
    sums: &mut [f32],
) {
    let heads = weights.len() / tokens;
    let rows = Rows { items: 1, tokens };
    let mut lanes = vec![0.0; heads.div_ceil(LANES) * tokens * LANES];
    for (head, weights) in weights.chunks_exact_mut(tokens).enumerate() {
        for (token, weight) in weights.iter_mut().enumerate() {
            *weight = scores[rows.at(0, token, heads) + head * LANES];
        }
        Arch::new().dispatch(Softmax(weights));
        // As the next product's left side: heads in lanes, tokens down.
        let column = lanes[head / LANES * tokens * LANES + head % LANES..].iter_mut();
        let column = column.step_by(LANES);
        column.zip(&*weights).for_each(|(to, from)| *to = *from);
    }
    let width = y.len() / (rows.panels() * LANES);
    let panels = heads.div_ceil(LANES);
    let cut = Cut {
        width,
        columns: width.div_ceil(rayon::current_num_threads()),
        group: panels,
        panels,
    };
    for_each_block(sums, cut, |place, block| {
        Arch::new().dispatch(Weigh {
            lanes: Lanes {
                data: &lanes,
                stride: tokens * LANES,
            },
            y: &y[place.columns.start * LANES..],
            width,
            tokens,
            block,
        });
    });
}

/// Softmax of one row in place.
struct Softmax<'a>(&'a mut [f32]);

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let row = self.0;
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|x| *x = exp::<S>(*x - max));
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
}

/// Some columns of `sum of weight * y`.
struct Weigh<'a, 'o> {
    lanes: Lanes<'a>,
    y: &'a [f32],
    width: usize,
    tokens: usize,
    block: Block<'o>,
}

impl WithSimd for Weigh<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let w = down_panels(self.y, self.width);
        let start = Start::default();
        product(simd, (self.lanes, w), self.tokens, start, &mut self.block);
    }
}

/// Panels of `width` columns as a right side: their columns, 16 numbers apart, over their rows, which lie side by side.
fn down_panels(panels: &[f32], width: usize) -> Scalars<'_> {
    Scalars {
        data: panels,
        column: Steps::even(LANES),
        k: Steps {
            inner: 1,
            outer: width * LANES,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use proptest::prelude::*;

    /// `numbers` as panels.
    fn panels(heads: Heads, numbers: &[f32]) -> Vec<f32> {
        let mut panels = vec![0.0; heads.rows.len(heads.width)];
        heads.rows.scatter(numbers, heads.width, &mut panels);
        panels
    }

    fn run(heads: Heads, qkv: [&[f32]; 3]) -> Vec<f32> {
        let [q, k, v] = qkv.map(|numbers| panels(heads, numbers));
        let mut out = vec![f32::NAN; q.len()];
        attention([&q, &k, &v], &mut out, heads);
        heads.rows.gather(&out, heads.width)
    }

    fn check(items: usize, tokens: usize, heads: usize, dim: usize, seed: usize) {
        let heads = Heads {
            rows: Rows { items, tokens },
            width: heads * dim,
            heads,
        };
        let [q, k, v] =
            [1, 2, 3].map(|i| reference::numbers(items * tokens * heads.width, seed + i));
        let want = reference::attention([&q, &k, &v], heads).0;
        reference::assert_close(&run(heads, [&q, &k, &v]), &want, 1e-5);
    }

    proptest! {
        #[test]
        fn equals_the_reference(items in 1usize..4, tokens in 1usize..150, heads in 1usize..5, dim in 1usize..20, seed: u8) {
            check(items, tokens, heads, dim, seed.into());
        }

        #[test]
        fn pooling_equals_the_reference(tokens in 1usize..150, heads in 1usize..20, dim in 1usize..20, seed: u8) {
            let (width, seed) = (heads * dim, usize::from(seed));
            let rows = Rows { items: 1, tokens };
            let (scores, y) = (reference::numbers(tokens * heads, seed), reference::numbers(tokens * width, seed + 1));
            let mut panels = [vec![0.0; rows.len(heads)], vec![0.0; rows.len(width)]];
            rows.scatter(&scores, heads, &mut panels[0]);
            rows.scatter(&y, width, &mut panels[1]);
            let of_heads = Rows { items: 1, tokens: heads };
            let (mut weights, mut sums) = (vec![f32::NAN; heads * tokens], vec![f32::NAN; of_heads.len(width)]);
            pool([&panels[0], &panels[1]], tokens, &mut weights, &mut sums);
            let sums = of_heads.gather(&sums, width);
            for head in 0..heads {
                let row: Vec<f32> = scores.iter().skip(head).step_by(heads).copied().collect();
                let want = reference::softmax(&row);
                reference::assert_close(&weights[head * tokens..][..tokens], &want, 1e-6);
                let sum = |d: usize| y.iter().skip(d).step_by(width).zip(&want).map(|(y, w)| y * w).sum::<f32>();
                let want: Vec<f32> = (0..width).map(sum).collect();
                reference::assert_close(&sums[head * width..][..width], &want, 1e-5);
            }
        }
    }

    /// More keys than are worked on at once, more queries than a task has.
    #[test]
    fn blocks_of_keys_join_seamlessly() {
        check(2, 2 * KEYS + 37, 2, 9, 1);
    }

    /// Large scores must neither overflow nor lose the largest, whichever block of keys it is in.
    #[test]
    fn large_scores_stay_finite() {
        for tokens in [3, KEYS + 3] {
            let heads = Heads {
                rows: Rows { items: 1, tokens },
                width: 1,
                heads: 1,
            };
            let mut q = vec![0.0; tokens];
            q[..2].copy_from_slice(&[1e4, -1e4]);
            let mut k = vec![0.0; tokens];
            (k[0], k[tokens - 1]) = (-1e3, 1e3);
            let v: Vec<f32> = (0..tokens).map(|i| i as f32).collect();
            let out = run(heads, [&q, &k, &v]);
            // e^x is never 0: what is far below the largest keeps a trace.
            assert_eq!(out[0], (tokens - 1) as f32);
            assert!(out[1].abs() < 1e-30);
            let mean = (tokens - 1) as f32 / 2.0;
            assert!((out[2] - mean).abs() < 1e-4 * mean);
        }
    }
}
