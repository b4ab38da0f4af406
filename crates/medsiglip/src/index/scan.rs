//! Exact search: every vector is read once, by all threads, and the best are found.
//!
//! A first pass in single precision gives every score with a bound on its error; what could be among the best by that bound is
//! computed again in double precision, where vectors are stored in single or half precision. So the result is that of a plain
//! loop in double precision, to the order of equals, and memory is read once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use half::f16;
use half::slice::HalfFloatSliceExt;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Precision;

/// Rows that a thread takes at a time.
const ROWS: usize = 1024;
/// Queries that a row is compared with while it is in the cache.
const QUERIES: usize = 8;

/// Vectors of D numbers, each divided by its norm.
#[derive(Debug, Clone, Copy)]
pub enum Vectors<'a> {
    /// (N, D).
    F32(&'a [f32]),
    /// (N, D).
    F16(&'a [f16]),
    /// N rows of [`i8_stride`] bytes: a number in single precision that D whole ones of a byte are multiplied by, these, and
    /// nothing.
    I8(&'a [u8]),
}

/// Bytes of a row of whole numbers, a multiple of four.
pub fn i8_stride(dim: usize) -> usize {
    4 + dim.next_multiple_of(4)
}

/// The scale and the numbers of a row of whole numbers.
#[inline(always)]
pub(super) fn i8_row(data: &[u8], row: usize, dim: usize) -> (f32, &[u8]) {
    let own = &data[row * i8_stride(dim)..][..4 + dim];
    (
        f32::from_le_bytes([own[0], own[1], own[2], own[3]]),
        &own[4..],
    )
}

/// A row with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Its place.
    pub row: usize,
    /// The product of both vectors: their cosine.
    pub score: f64,
}

impl Scored {
    /// The better first; of equals, the row that was there first.
    pub fn order(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then(self.row.cmp(&other.row))
    }
}

/// The `k` best rows for each of `queries` (Q, D), best first; of equals, those that were there first. Only rows that `keep`
/// says, where it says anything. A row that has no finite score is left out.
pub fn top_k(
    vectors: Vectors,
    dim: usize,
    queries: &[f32],
    k: usize,
    keep: Option<&[bool]>,
) -> Vec<Vec<Scored>> {
    let k = k.min(vectors.rows(dim));
    let queries: Vec<&[f32]> = queries.chunks_exact(dim).collect();
    let blocks = queries.par_chunks(QUERIES);
    if queries.len() > QUERIES {
        return blocks
            .flat_map_iter(|block| of_block(vectors, dim, block, k, keep))
            .collect();
    }
    of_block(vectors, dim, &queries, k, keep)
}

impl Vectors<'_> {
    /// How many there are.
    pub fn rows(&self, dim: usize) -> usize {
        match self {
            Self::F32(data) => data.len() / dim,
            Self::F16(data) => data.len() / dim,
            Self::I8(data) => data.len() / i8_stride(dim),
        }
    }

    /// A row as it is stored.
    pub(super) fn bytes(&self, row: usize, dim: usize) -> &[u8] {
        let own = row * dim..(row + 1) * dim;
        match self {
            Self::F32(data) => bytemuck::cast_slice(&data[own]),
            Self::F16(data) => bytemuck::cast_slice(&data[own]),
            Self::I8(data) => &data[row * i8_stride(dim)..][..i8_stride(dim)],
        }
    }

    /// Those from a row on.
    pub(super) fn since(self, row: usize, dim: usize) -> Self {
        match self {
            Self::F32(data) => Self::F32(&data[row * dim..]),
            Self::F16(data) => Self::F16(&data[row * dim..]),
            Self::I8(data) => Self::I8(&data[row * i8_stride(dim)..]),
        }
    }

    /// A row in double precision.
    pub(super) fn row(&self, row: usize, dim: usize) -> Vec<f64> {
        let own = row * dim..(row + 1) * dim;
        match self {
            Self::F32(data) => data[own].iter().map(|x| f64::from(*x)).collect(),
            Self::F16(data) => data[own].iter().map(|x| x.to_f64()).collect(),
            Self::I8(data) => {
                let (scale, numbers) = i8_row(data, row, dim);
                let numbers = numbers.iter().map(|x| f64::from(*x as i8));
                numbers.map(|x| x * f64::from(scale)).collect()
            }
        }
    }
}

/// The `k` best of `rows` for a query, as of [`top_k`].
pub(super) fn best_of(vectors: Vectors, query: &[f32], rows: &[usize], k: usize) -> Vec<Scored> {
    let mut found = [Candidates::default()];
    if k > 0 {
        score(vectors, query.len(), &[query], rows, k, &mut found);
    }
    let [mut candidates] = found;
    candidates.cut(k, error(query.len()));
    exact(vectors, query, candidates, k)
}

/// How far off a score in single precision may be: each of D products and sums by half a unit in the last place, of vectors of
/// length one; the double of that, since a length is not quite one.
pub(super) fn error(dim: usize) -> f32 {
    dim as f32 * f32::EPSILON
}

/// Takes what may be among the `k` best of some rows into what was found for each query.
fn score(
    vectors: Vectors,
    dim: usize,
    queries: &[&[f32]],
    rows: &[usize],
    k: usize,
    found: &mut [Candidates],
) {
    let scan = Scan {
        vectors,
        dim,
        queries,
        rows,
    };
    let scores = Arch::new().dispatch(scan);
    for (i, candidates) in found.iter_mut().enumerate() {
        let scores = &scores[i * rows.len()..(i + 1) * rows.len()];
        for (score, row) in scores.iter().zip(rows) {
            if score.is_finite() && *score >= candidates.least {
                candidates.all.push((*score, *row));
            }
        }
        candidates.narrow(k, error(dim));
    }
}

impl Precision {
    /// Bytes of a vector.
    pub(super) fn stride(self, dim: usize) -> usize {
        match self {
            Self::F32 => 4 * dim,
            Self::F16 => 2 * dim,
            Self::I8 => i8_stride(dim),
        }
    }

    /// Appends the bytes of a vector.
    pub(super) fn encode(self, row: &[f32], into: &mut Vec<u8>) {
        match self {
            Self::F32 => into.extend(row.iter().flat_map(|x| x.to_le_bytes())),
            Self::F16 => into.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
            Self::I8 => {
                let most = row
                    .iter()
                    .fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
                let scale = most / 127.0;
                into.extend(scale.to_le_bytes());
                into.extend(row.iter().map(|x| (x / scale).round() as i8 as u8));
                into.resize(into.len() + row.len().next_multiple_of(4) - row.len(), 0);
            }
        }
    }
}

/// Rows that may be among the best.
struct Candidates {
    all: Vec<(f32, usize)>,
    /// No row with less can be among the best.
    least: f32,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            least: f32::NEG_INFINITY,
        }
    }
}

fn of_block(
    vectors: Vectors,
    dim: usize,
    queries: &[&[f32]],
    k: usize,
    keep: Option<&[bool]>,
) -> Vec<Vec<Scored>> {
    let rows = vectors.rows(dim);
    if k == 0 || rows == 0 {
        return vec![Vec::new(); queries.len()];
    }
    let error = error(dim);
    let empty = || -> Vec<Candidates> { queries.iter().map(|_| Candidates::default()).collect() };
    let part = |mut found: Vec<Candidates>, first: usize| {
        let is_kept = |row: &usize| keep.is_none_or(|keep| keep.get(*row) == Some(&true));
        let rows: Vec<usize> = (first..rows.min(first + ROWS)).filter(is_kept).collect();
        score(vectors, dim, queries, &rows, k, &mut found);
        found
    };
    let merge = |mut a: Vec<Candidates>, b: Vec<Candidates>| {
        for (a, b) in a.iter_mut().zip(b) {
            a.least = a.least.max(b.least);
            a.all.extend(b.all);
            a.narrow(k, error);
        }
        a
    };
    let starts: Vec<usize> = (0..rows).step_by(ROWS).collect();
    let found = starts
        .into_par_iter()
        .with_min_len(8)
        .fold(empty, part)
        .reduce(empty, merge);
    let found = queries.iter().zip(found);
    found
        .map(|(query, candidates)| exact(vectors, query, candidates, k))
        .collect()
}

impl Candidates {
    /// Drops what cannot be among the best `k`, when there is much of it.
    fn narrow(&mut self, k: usize, error: f32) {
        if self.all.len() >= 2 * k {
            self.cut(k, error);
        }
    }

    /// Drops what lies further below the last of the best `k` than both may be off.
    fn cut(&mut self, k: usize, error: f32) {
        if k == 0 || self.all.len() <= k {
            return;
        }
        let (_, last, _) = self
            .all
            .select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
        self.least = self.least.max(last.0 - 2.0 * error);
        let least = self.least;
        self.all.retain(|(score, _)| *score >= least);
    }
}

/// The best of the candidates, in double precision.
fn exact(vectors: Vectors, query: &[f32], candidates: Candidates, k: usize) -> Vec<Scored> {
    let mut best = Best::of(k);
    for (_, row) in candidates.all {
        best.take(row, query, &vectors.row(row, query.len()));
    }
    best.sorted()
}

/// The best rows so far.
pub(super) struct Best {
    k: usize,
    rows: BinaryHeap<Worst>,
}

/// The worst on top.
struct Worst(Scored);

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

impl Best {
    /// No row yet, and never more than `k`.
    pub(super) fn of(k: usize) -> Self {
        let rows = BinaryHeap::new();
        Self { k, rows }
    }

    /// Compares a row with a query.
    pub(super) fn take(&mut self, row: usize, query: &[f32], own: &[f64]) {
        let score = query.iter().zip(own).map(|(q, x)| f64::from(*q) * x).sum();
        self.rows.push(Worst(Scored { row, score }));
        if self.rows.len() > self.k {
            self.rows.pop();
        }
    }

    /// The best first.
    pub(super) fn sorted(self) -> Vec<Scored> {
        let rows = self.rows.into_sorted_vec();
        rows.into_iter().map(|worst| worst.0).collect()
    }
}

/// Scores of some rows for a few queries, (Q, rows).
struct Scan<'a> {
    vectors: Vectors<'a>,
    dim: usize,
    queries: &'a [&'a [f32]],
    rows: &'a [usize],
}

impl WithSimd for Scan<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let count = self.rows.len();
        let mut scores = vec![0.0; self.queries.len() * count];
        let mut wide = vec![0.0f32; self.dim];
        for (place, row) in self.rows.iter().copied().enumerate() {
            let own = row * self.dim..(row + 1) * self.dim;
            let (x, scale): (&[f32], f32) = match self.vectors {
                Vectors::F32(data) => (&data[own], 1.0),
                Vectors::F16(data) => {
                    data[own].convert_to_f32_slice(&mut wide);
                    (&wide, 1.0)
                }
                Vectors::I8(data) => {
                    let (scale, numbers) = i8_row(data, row, self.dim);
                    let numbers = numbers.iter().map(|x| f32::from(*x as i8));
                    wide.iter_mut().zip(numbers).for_each(|(w, x)| *w = x);
                    (&wide, scale)
                }
            };
            for (i, query) in self.queries.iter().enumerate() {
                scores[i * count + place] = dot(simd, query, x) * scale;
            }
        }
        scores
    }
}

/// The product of two vectors, in eight sums.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    const SUMS: usize = 8;
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = [simd.splat_f32s(0.0); SUMS];
    let ((a8, a1), (b8, b1)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..SUMS {
            sums[i] = simd.mul_add_f32s(a[i], b[i], sums[i]);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a1.iter().zip(b1)) {
        *sum = simd.mul_add_f32s(*a, *b, *sum);
    }
    let mut step = SUMS / 2;
    while step > 0 {
        for i in 0..step {
            sums[i] = simd.add_f32s(sums[i], sums[i + step]);
        }
        step /= 2;
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sums[0]) + rest
}
