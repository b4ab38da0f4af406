//! The graph in the making: rows are linked in batches, each by all threads to what is there before it, so that the graph is the
//! same however many they are.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{DEGREE, Graph, NONE, Near, codes, i8_row, i8_stride, score};
use crate::index::scan::Vectors;

/// Neighbours that a new row chooses.
const CHOSEN: usize = 16;
/// How many rows a new row's walk keeps.
const EF: usize = 128;
/// Rows of a batch at most, and what part of those that are there.
const BATCH: usize = 2048;
const PART: usize = 16;
/// Entries for the root of the number of rows, and of how many rows each is chosen.
const ENTRIES: usize = 4;
const SAMPLE: usize = 16;
/// Rows that a thread scores at a time.
const PARTS: usize = 1024;

/// Makes a graph.
#[derive(Debug)]
pub struct Builder {
    dim: usize,
    codes: Vec<u8>,
    links: Vec<u32>,
    /// Rows in the order in which they are linked; the first are entries.
    order: Vec<u32>,
    /// How many are linked.
    linked: usize,
    entries: Vec<u32>,
}

/// A link back: to whom, from whom, and their score.
type Back = (u32, u32, f32);

impl Builder {
    /// A graph without a link for vectors of D numbers; `order` says which rows it is to link, and about when: what [`grow`](Self::grow)
    /// links first stays first.
    pub fn new(vectors: Vectors, dim: usize, order: Vec<u32>) -> Self {
        Self {
            dim,
            codes: codes(vectors, dim),
            links: vec![NONE; vectors.rows(dim) * DEGREE],
            order,
            linked: 0,
            entries: Vec::new(),
        }
    }

    fn entry_count(&self) -> usize {
        self.order.len().min(ENTRIES * self.order.len().isqrt())
    }

    /// How it is now.
    pub fn graph(&self) -> Graph<'_> {
        Graph {
            dim: self.dim,
            codes: &self.codes,
            links: &self.links,
            entries: &self.entries,
        }
    }

    /// Links the first `count` rows of the order; whether that was done, for `go_on`, which is told how many were linked, can stop it.
    pub fn grow(&mut self, count: usize, mut go_on: impl FnMut(usize) -> bool) -> bool {
        let count = count.min(self.order.len());
        if self.linked == 0 {
            self.spread(count);
        }
        while self.linked < count {
            if !go_on(self.linked) {
                return false;
            }
            let size = (self.linked / PART).clamp(1, BATCH);
            let batch = self.linked..count.min(self.linked + size);
            self.entries = self.order[..self.linked.min(self.entry_count())].to_vec();
            let rows = self.order[batch.clone()].to_vec();
            self.link(&rows);
            self.linked = batch.end;
        }
        self.reach();
        true
    }

    fn link(&mut self, batch: &[u32]) {
        let graph = self.graph();
        let chosen: Vec<Vec<Near>> = batch
            .par_iter()
            .map(|row| {
                let near = graph.walk(graph.code(*row), EF);
                graph.choose(&near, CHOSEN)
            })
            .collect();
        let mut back: Vec<Back> = Vec::new();
        for (row, chosen) in batch.iter().zip(chosen) {
            self.set(*row, chosen.iter().map(|near| near.row));
            back.extend(chosen.iter().map(|near| (near.row, *row, near.score)));
        }
        back.sort_unstable_by_key(|(to, from, _)| (*to, *from));
        let groups: Vec<&[Back]> = back.chunk_by(|a, b| a.0 == b.0).collect();
        let graph = self.graph();
        let linked: Vec<(u32, Vec<u32>)> = groups
            .par_iter()
            .map(|back| graph.link_back(back))
            .collect();
        for (row, links) in linked {
            self.set(row, links);
        }
    }

    fn set(&mut self, row: u32, links: impl IntoIterator<Item = u32>) {
        let own = &mut self.links[row as usize * DEGREE..][..DEGREE];
        own.fill(NONE);
        own.iter_mut()
            .zip(links)
            .for_each(|(own, link)| *own = link);
    }

    /// Brings rows that lie far apart to the front of the first `all`: each time the one of a sample that is least like all before it.
    /// So there is an entry near everything that is not rare, which no link may lead to from elsewhere.
    fn spread(&mut self, all: usize) {
        let count = self.entry_count().min(all);
        let mut sample = self.order[..all.min(SAMPLE * count)].to_vec();
        let mut likeness = vec![f32::NEG_INFINITY; sample.len()];
        for first in 0..count {
            let least = likeness[first..]
                .iter()
                .enumerate()
                .min_by(|a, b| a.1.total_cmp(b.1));
            let place = first + least.map_or(0, |(place, _)| place);
            sample.swap(first, place);
            likeness.swap(first, place);
            let (graph, (new, others)) = (self.graph(), sample.split_at(first + 1));
            let own = others
                .par_chunks(PARTS)
                .zip(likeness[first + 1..].par_chunks_mut(PARTS));
            own.for_each(|(others, likeness)| {
                let scores = graph.scores(new[first], others);
                let own = likeness.iter_mut().zip(scores);
                own.for_each(|(likeness, near)| *likeness = likeness.max(near.score));
            });
        }
        self.order[..sample.len()].copy_from_slice(&sample);
    }

    /// Rows from which no linked row is reached become entries too.
    fn reach(&mut self) {
        let graph = self.graph();
        let mut is_reached = vec![false; graph.rows()];
        let mut entries: Vec<u32> = Vec::new();
        let mut now = Vec::new();
        for row in &self.order[..self.linked] {
            let is_entry = entries.len() < self.entry_count();
            if std::mem::replace(&mut is_reached[*row as usize], true) && !is_entry {
                continue;
            }
            entries.push(*row);
            now.push(*row);
            while let Some(row) = now.pop() {
                for link in graph.neighbours(row) {
                    if !std::mem::replace(&mut is_reached[*link as usize], true) {
                        now.push(*link);
                    }
                }
            }
        }
        self.entries = entries;
    }
}

impl Graph<'_> {
    fn code(&self, row: u32) -> &[u8] {
        let stride = i8_stride(self.dim);
        &self.codes[row as usize * stride..][..stride]
    }

    /// Those of some rows, best first, that are not nearer to a better one than to what they are near to.
    fn choose(&self, near: &[Near], most: usize) -> Vec<Near> {
        Arch::new().dispatch(Choose {
            graph: *self,
            near,
            most,
        })
    }

    fn scores(&self, row: u32, others: &[u32]) -> Vec<Near> {
        Arch::new().dispatch(Scores {
            graph: *self,
            row,
            others,
        })
    }

    /// The links of a row with those back to it.
    fn link_back(&self, back: &[Back]) -> (u32, Vec<u32>) {
        let row = back[0].0;
        let own = self.neighbours(row);
        let new = back.iter().map(|(_, from, _)| *from);
        if own.len() + back.len() <= DEGREE {
            return (row, own.iter().copied().chain(new).collect());
        }
        let mut near = self.scores(row, own);
        near.extend(back.iter().map(|(_, row, score)| Near {
            score: *score,
            row: *row,
            is_open: false,
        }));
        near.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        let chosen = self.choose(&near, DEGREE);
        (row, chosen.iter().map(|near| near.row).collect())
    }
}

/// Scores of other rows with a row.
struct Scores<'a> {
    graph: Graph<'a>,
    row: u32,
    others: &'a [u32],
}

impl WithSimd for Scores<'_> {
    type Output = Vec<Near>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Near> {
        let Graph { codes, dim, .. } = self.graph;
        let code = i8_row(codes, self.row as usize, dim);
        let mut near = Vec::with_capacity(2 * DEGREE);
        for row in self.others {
            near.push(Near {
                score: score(codes, *row as usize, dim, code),
                row: *row,
                is_open: false,
            });
        }
        near
    }
}

/// As of [`Graph::choose`].
struct Choose<'a> {
    graph: Graph<'a>,
    near: &'a [Near],
    most: usize,
}

impl WithSimd for Choose<'_> {
    type Output = Vec<Near>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Near> {
        let Graph { codes, dim, .. } = self.graph;
        let mut chosen: Vec<Near> = Vec::with_capacity(self.most);
        for near in self.near {
            let code = i8_row(codes, near.row as usize, dim);
            let mut is_apart = true;
            for other in &chosen {
                if score(codes, other.row as usize, dim, code) > near.score {
                    is_apart = false;
                    break;
                }
            }
            if is_apart {
                chosen.push(*near);
            }
            if chosen.len() == self.most {
                break;
            }
        }
        chosen
    }
}
