//! Approximate search: a graph over rows of bytes is walked from the rows that are nearest so far to their neighbours, and what
//! was found is scored again by the vectors as they are stored.
//!
//! One layer of the graph of Malkov and Yashunin (HNSW, IEEE TPAMI 42(4), 2020), whose links it has; in place of their upper
//! layers stand entries, all of which are scored first. Every row of the graph is reached from one of them.

mod build;
mod file;

use half::f16;
use pulp::{Arch, Simd, WithSimd};

pub use build::Builder;
pub(super) use file::{GraphFile, Header, remove_graph, write_graph};

use super::Precision;
use super::scan::{self, Scored, Vectors, i8_row, i8_stride};

/// Neighbours of a row at most.
pub(super) const DEGREE: usize = 32;
/// Bytes that memory is read by.
const LINE: usize = 64;
/// Where a row has fewer.
const NONE: u32 = u32::MAX;

/// Rows with links to those near them.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'a> {
    dim: usize,
    /// (N), as of [`Vectors::I8`].
    codes: &'a [u8],
    /// (N, DEGREE), first those that there are.
    links: &'a [u32],
    /// Where walks begin.
    entries: &'a [u32],
}

/// A row on the way.
#[derive(Debug, Clone, Copy)]
struct Near {
    score: f32,
    row: u32,
    /// Its neighbours were not looked at.
    is_open: bool,
}

impl Graph<'_> {
    /// The `ef` rows that are nearest to a query (D) of length one as far as a walk that keeps so many finds, the `k` best of them
    /// by their `vectors`; best first, as of [`scan::top_k`].
    pub fn search(&self, vectors: Vectors, query: &[f32], k: usize, ef: usize) -> Vec<Scored> {
        scan::best_of(vectors, query, &self.near(query, ef), k)
    }

    /// The rows that a walk finds, about the best first.
    pub(super) fn near(&self, query: &[f32], ef: usize) -> Vec<usize> {
        let mut code = Vec::with_capacity(i8_stride(self.dim));
        Precision::I8.encode(query, &mut code);
        let found = self.walk(&code, ef);
        found.iter().map(|near| near.row as usize).collect()
    }

    fn walk(&self, code: &[u8], ef: usize) -> Vec<Near> {
        Arch::new().dispatch(Walk {
            graph: *self,
            code,
            ef,
        })
    }

    fn rows(&self) -> usize {
        self.links.len() / DEGREE
    }

    /// The neighbours of a row.
    fn neighbours(&self, row: u32) -> &[u32] {
        let own = &self.links[row as usize * DEGREE..][..DEGREE];
        &own[..own.iter().position(|link| *link == NONE).unwrap_or(DEGREE)]
    }
}

/// Vectors as rows of bytes, as of [`Vectors::I8`].
fn codes(vectors: Vectors, dim: usize) -> Vec<u8> {
    use rayon::prelude::*;
    let encode = |row: &[f32], into: &mut [u8]| {
        let mut code = Vec::with_capacity(into.len());
        Precision::I8.encode(row, &mut code);
        into.copy_from_slice(&code);
    };
    if let Vectors::I8(data) = vectors {
        return data.to_vec();
    }
    let stride = i8_stride(dim);
    let mut codes = vec![0; vectors.rows(dim) * stride];
    let each = codes.par_chunks_exact_mut(stride);
    match vectors {
        Vectors::F32(data) => each
            .zip(data.par_chunks_exact(dim))
            .for_each(|(code, row)| encode(row, code)),
        Vectors::F16(data) => each
            .zip(data.par_chunks_exact(dim))
            .for_each(|(code, row)| {
                let row: Vec<f32> = row.iter().copied().map(f16::to_f32).collect();
                encode(&row, code);
            }),
        Vectors::I8(_) => {}
    }
    codes
}

/// The score of two rows of bytes.
#[inline(always)]
fn score(codes: &[u8], row: usize, dim: usize, (scale, code): (f32, &[u8])) -> f32 {
    let (own_scale, own) = i8_row(codes, row, dim);
    let parts = own.iter().zip(code);
    let sum: i32 = parts
        .map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8))
        .sum();
    sum as f32 * (own_scale * scale)
}

/// Reads a byte of every line of memory of some rows, none of which waits for another, so that they are in the cache when they are scored.
#[inline(always)]
fn fetch(codes: &[u8], rows: &[u32], stride: usize) {
    let mut sum = 0u8;
    for row in rows {
        let own = &codes[*row as usize * stride..][..stride];
        sum = own.iter().step_by(LINE).fold(sum, |sum, x| sum ^ x);
    }
    std::hint::black_box(sum);
}

/// The rows nearest to a row of bytes that are reached by way of the `ef` nearest so far.
struct Walk<'a> {
    graph: Graph<'a>,
    code: &'a [u8],
    ef: usize,
}

impl WithSimd for Walk<'_> {
    type Output = Vec<Near>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Near> {
        let (graph, rows) = (self.graph, self.graph.rows());
        let code = i8_row(self.code, 0, graph.dim);
        let mut seen = vec![0u64; rows.div_ceil(64)];
        let mut best: Vec<Near> = Vec::with_capacity(self.ef + 1);
        let mut links = graph.entries;
        let mut next = 0;
        loop {
            for some in links.chunks(DEGREE) {
                let mut new = [0; DEGREE];
                let mut count = 0;
                for link in some {
                    let row = *link as usize;
                    // What lies outside is of a damaged file.
                    if row < rows && seen[row / 64] >> (row % 64) & 1 == 0 {
                        seen[row / 64] |= 1 << (row % 64);
                        new[count] = *link;
                        count += 1;
                    }
                }
                let new = &new[..count];
                fetch(graph.codes, new, i8_stride(graph.dim));
                for row in new {
                    let near = Near {
                        score: score(graph.codes, *row as usize, graph.dim, code),
                        row: *row,
                        is_open: true,
                    };
                    next = next.min(insert(&mut best, near, self.ef));
                }
            }
            while best.get(next).is_some_and(|near| !near.is_open) {
                next += 1;
            }
            let Some(near) = best.get_mut(next) else {
                return best;
            };
            near.is_open = false;
            links = graph.neighbours(near.row);
        }
    }
}

/// Takes a row in among the best, where it is one of them; its place, or that behind them all.
#[inline(always)]
fn insert(best: &mut Vec<Near>, near: Near, most: usize) -> usize {
    let is_full = best.len() >= most;
    if !near.score.is_finite()
        || (is_full && best.last().is_none_or(|last| last.score >= near.score))
    {
        return best.len();
    }
    if is_full {
        best.pop();
    }
    let place = best.partition_point(|other| other.score >= near.score);
    best.insert(place, near);
    place
}
