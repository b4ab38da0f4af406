//! Approximate search: what is measured of a graph, and when that of a [`LocalStore`] is used.

use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::graph::{Builder, GraphFile, Header, remove_graph, write_graph};
use super::local::Place;
use super::scan::{self, Scored, Vectors};
use super::sqlite::damaged;
use super::{LocalStore, Store};
use crate::embedding::Embeddings;
use crate::{Error, Result};

/// How many rows a walk keeps: what is measured.
const EFS: [usize; 15] = [
    16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
];
/// Recall beyond which no more is measured.
const ENOUGH: f64 = 0.999;
/// Hits for which the graph can be measured.
const MAX_K: usize = 1000;
/// Single exact searches, whose median time is told.
const EXACT: usize = 9;

/// What is asked of approximate search.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// Hits of a search.
    pub k: usize,
    /// The part of the exact hits that it has to find.
    pub recall: f64,
    /// Items that it is measured with, at most a tenth of all.
    pub queries: usize,
    /// What the order of items and the choice of these follow from.
    pub seed: u64,
    /// Use the graph even where exact search is as fast.
    pub always: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            k: 10,
            recall: 0.99,
            queries: 1000,
            seed: 0,
            always: false,
        }
    }
}

/// What was measured, and is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Hits of a search.
    pub k: usize,
    /// The recall that was asked for.
    pub recall: f64,
    /// Items that were searched with.
    pub queries: usize,
    /// What their choice followed from.
    pub seed: u64,
    /// How many rows a walk keeps; `None` where search is exact, since it is as fast or nothing reaches the recall.
    pub ef: Option<usize>,
    /// Median time of an exact search, in milliseconds, by all threads.
    pub exact_ms: f64,
    /// From fast to thorough.
    pub points: Vec<Point>,
}

/// Approximate search as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// How many rows a walk keeps.
    pub ef: usize,
    /// The mean part of the exact hits that was found.
    pub recall: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// Median time of a search, in milliseconds, by one thread.
    pub ms: f64,
}

/// Whether a store is searched by its graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Approximation {
    /// It has none.
    Absent,
    /// It is damaged, or of another state of the store: search is exact.
    Unusable,
    /// It is.
    Usable {
        /// As it was measured.
        tuned: Tuned,
        /// Places of the store that came later, and are searched exactly.
        behind: usize,
    },
}

/// The graph, and its header as it was when it was opened.
pub(super) struct Opened {
    text: String,
    file: GraphFile,
}

/// What there is of a graph.
enum Graphs {
    Absent,
    Unusable,
    Usable(Arc<Opened>),
}

impl Tuned {
    /// How many rows a walk for `k` hits keeps; `None` where it is more than `most`.
    pub(super) fn ef_for(&self, k: usize, most: usize) -> Option<usize> {
        let ef = self.ef?.max(self.ef?.saturating_mul(k).div_ceil(self.k));
        (k > 0 && ef <= most).then_some(ef)
    }

    /// Whether numbers from outside are some that we write.
    pub(super) fn is_possible(&self) -> bool {
        (1..=MAX_K).contains(&self.k) && self.ef.is_none_or(|ef| EFS.contains(&ef))
    }

    pub(super) fn choose(&mut self, how: &Tuning) {
        let mut points = self.points.iter();
        let reached = points.find(|point| point.interval.0 >= how.recall);
        let used = reached.filter(|point| how.always || point.ms < self.exact_ms);
        self.ef = used.map(|point| point.ef);
        self.recall = how.recall;
    }
}

impl Tuning {
    /// Whether it can be asked.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.recall > 0.0 && self.recall < 1.0) {
            return bad(format!(
                "expected a recall between 0 and 1, got {}",
                self.recall
            ));
        }
        match self.k == 0 || self.k > MAX_K || self.queries == 0 {
            true => bad(format!("expected 1 to {MAX_K} hits and at least one query")),
            false => Ok(()),
        }
    }

    /// How many of so many items it is measured with.
    pub(super) fn held_out(&self, items: usize) -> usize {
        self.queries.min(items / 10)
    }

    /// The items in another order; it is measured with the last.
    pub(super) fn shuffled<T>(&self, mut items: Vec<T>) -> Result<Vec<T>> {
        let queries = self.held_out(items.len());
        let highest = highest_low(queries);
        if self.recall > highest {
            let needed = (3.0 / (1.0 - self.recall)).ceil();
            return bad(format!(
                "{queries} queries cannot show a recall of {}, but of {:.3} at most: it takes {needed} queries and a store of ten times as many items (a smaller one is searched exactly in no time)",
                self.recall,
                highest.max(0.0)
            ));
        }
        let (least, most) = (10 * self.k, u32::MAX as usize);
        if !(least..most).contains(&items.len()) {
            return bad(format!(
                "expected a store of {least} to {most} items, got {}",
                items.len()
            ));
        }
        items.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed));
        Ok(items)
    }

    /// Whether what was measured of the same items tells it, too.
    pub(super) fn is_told_by(&self, tuned: &Tuned, queries: usize) -> bool {
        let is_same = (tuned.k, tuned.queries, tuned.seed) == (self.k, queries, self.seed);
        let last = tuned.points.last();
        let reached = |last: &Point| last.interval.0 >= self.recall;
        is_same && (self.recall <= tuned.recall || last.is_some_and(reached))
    }
}

pub(super) fn bad<T>(what: String) -> Result<T> {
    Err(Error::BadArgument(format!("tune: {what}")))
}

impl LocalStore {
    pub(super) fn state_of_graph(&self) -> Result<Approximation> {
        let place = self.place()?;
        Ok(match self.opened(&place)? {
            Graphs::Absent => Approximation::Absent,
            Graphs::Unusable => Approximation::Unusable,
            Graphs::Usable(opened) => Approximation::Usable {
                tuned: opened.file.header.tuned.clone(),
                behind: place.next - opened.file.header.rows,
            },
        })
    }

    fn opened(&self, place: &Place) -> Result<Graphs> {
        let Some(text) = Header::text(&self.folder)? else {
            return Ok(Graphs::Absent);
        };
        let mut known = self.graph.borrow_mut();
        let is_current = |known: &&Arc<Opened>| {
            let header = &known.file.header;
            known.text == text && header.generation == place.generation && header.rows <= place.next
        };
        if let Some(known) = known.as_ref().filter(is_current) {
            return Ok(Graphs::Usable(known.clone()));
        }
        let Some(map) = self.map(place)? else {
            return Ok(Graphs::Unusable);
        };
        let (vectors, dim) = (self.vectors(&map)?, self.about().dim);
        let file = GraphFile::open(&self.folder, &text, place.generation, vectors, dim);
        let Some(file) = file else {
            return Ok(Graphs::Unusable);
        };
        let opened = Arc::new(Opened { text, file });
        *known = Some(opened.clone());
        Ok(Graphs::Usable(opened))
    }

    /// Whether the graph, where there is one, is what was written.
    pub(super) fn verify_graph(&self, place: &Place) -> Result<()> {
        let is_sound = match self.opened(place)? {
            Graphs::Absent => true,
            Graphs::Unusable => false,
            Graphs::Usable(opened) => opened.file.is_sound(),
        };
        match is_sound {
            true => Ok(()),
            false => Err(Error::BadConfig(format!(
                "the store's graph is damaged, or of another state of the store; make it again: medsiglip index tune {}",
                self.folder.display()
            ))),
        }
    }

    /// The best rows by the graph and, of what came later, by exact search; `None` where all is to be searched exactly.
    pub(super) fn approximate(
        &self,
        place: &Place,
        vectors: Vectors,
        queries: &Embeddings,
        k: usize,
    ) -> Result<Option<Vec<Vec<Scored>>>> {
        let Graphs::Usable(opened) = self.opened(place)? else {
            return Ok(None);
        };
        let file = &opened.file;
        let Some(ef) = file.header.tuned.ef_for(k, EFS[EFS.len() - 1]) else {
            return Ok(None);
        };
        let (graph, dim) = (file.graph(), self.about().dim);
        let rows = queries.data().par_chunks_exact(dim);
        let near: Vec<Vec<usize>> = rows.map(|query| graph.near(query, ef)).collect();
        let later = self.later(place, vectors, queries, k, file.header.rows)?;
        let mut all = Vec::new();
        for ((query, near), later) in queries.rows().zip(near).zip(later) {
            let mut best = self.still_there(vectors, query, near, k)?;
            if best.len() < k {
                return Ok(None);
            }
            best.extend(later);
            best.sort_by(Scored::order);
            best.truncate(k);
            all.push(best);
        }
        Ok(Some(all))
    }

    /// The best of the items that were stored after the graph was made.
    fn later(
        &self,
        place: &Place,
        vectors: Vectors,
        queries: &Embeddings,
        k: usize,
        rows: usize,
    ) -> Result<Vec<Vec<Scored>>> {
        let mut kept = vec![false; place.next - rows];
        if kept.is_empty() {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        for slot in self.slots(rows)? {
            let own = slot.checked_sub(rows).and_then(|slot| kept.get_mut(slot));
            *own.ok_or_else(|| damaged(&self.path()))? = true;
        }
        let dim = self.about().dim;
        let vectors = vectors.since(rows, dim);
        let mut found = scan::top_k(vectors, dim, queries.data(), k, Some(&kept));
        let all = found.iter_mut().flatten();
        all.for_each(|scored| scored.row += rows);
        Ok(found)
    }

    /// The best of some rows whose items were not removed or replaced.
    fn still_there(
        &self,
        vectors: Vectors,
        query: &[f32],
        mut rows: Vec<usize>,
        k: usize,
    ) -> Result<Vec<Scored>> {
        loop {
            let best = scan::best_of(vectors, query, &rows, k);
            let mut gone = Vec::new();
            for scored in &best {
                if !self.is_there(scored.row)? {
                    gone.push(scored.row);
                }
            }
            if gone.is_empty() {
                return Ok(best);
            }
            rows.retain(|row| !gone.contains(row));
        }
    }

    pub(super) fn make_graph(
        &mut self,
        how: &Tuning,
        go_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Tuned>> {
        how.check()?;
        let (place, items) = self.items()?;
        let queries = how.held_out(items.len());
        if let Some(tuned) = self.measured(how, queries, &place)? {
            return Ok(Some(tuned));
        }
        let order = how.shuffled(items.clone())?;
        if u32::try_from(place.next).is_err() {
            return bad("the store was changed too often; compact it".into());
        }
        let order: Vec<u32> = order.into_iter().map(|slot| slot as u32).collect();
        let map = self.map(&place)?.ok_or_else(|| damaged(&self.path()))?;
        let (vectors, dim) = (self.vectors(&map)?, self.about().dim);
        let linked = order.len() - queries;
        let (held_out, all) = (order[linked..].to_vec(), order.len());
        let mut builder = Builder::new(vectors, dim, order);
        if !builder.grow(linked, |count| go_on(count, all)) {
            return Ok(None);
        }
        let measuring = Measuring::of(vectors, dim, how.k, &held_out, &items)?;
        let graph = builder.graph();
        let mut search = |query: &[f32], ef| Ok(graph.search(vectors, query, how.k, ef));
        let most = EFS[EFS.len() - 1];
        let measured = measuring.run(how, most, &mut search, &mut || go_on(linked, all))?;
        let Some(mut tuned) = measured else {
            return Ok(None);
        };
        tuned.choose(how);
        if !builder.grow(all, |count| go_on(count, all)) {
            return Ok(None);
        }
        if self.place()?.generation != place.generation {
            return bad("the store was compacted meanwhile; do it again".into());
        }
        let header = Header::new(builder.graph(), vectors, place.generation, tuned.clone());
        write_graph(&self.folder, &header, builder.graph())?;
        Ok(Some(tuned))
    }

    /// What was measured of the graph that there is, chosen from anew; `None` where it has to be made or measured again.
    fn measured(&self, how: &Tuning, queries: usize, place: &Place) -> Result<Option<Tuned>> {
        let Graphs::Usable(opened) = self.opened(place)? else {
            return Ok(None);
        };
        let file = &opened.file;
        let mut header = file.header.clone();
        if header.rows != place.next || !how.is_told_by(&header.tuned, queries) || !file.is_sound()
        {
            return Ok(None);
        }
        header.tuned.choose(how);
        header.write(&self.folder)?;
        Ok(Some(header.tuned))
    }

    /// Deletes the graph.
    pub(super) fn forget_graph(&self) {
        *self.graph.borrow_mut() = None;
        remove_graph(&self.folder);
    }
}

/// Queries with their exact hits.
pub(super) struct Measuring {
    dim: usize,
    k: usize,
    queries: Vec<f32>,
    /// The score of the last exact hit of each.
    least: Vec<f64>,
    exact_ms: f64,
}

/// The best for a query of a walk that keeps so many rows.
pub(super) type Walk<'a> = dyn FnMut(&[f32], usize) -> Result<Vec<Scored>> + 'a;

impl Measuring {
    fn of(
        vectors: Vectors,
        dim: usize,
        k: usize,
        held_out: &[u32],
        items: &[usize],
    ) -> Result<Self> {
        let rows = held_out.iter().map(|row| vectors.row(*row as usize, dim));
        let queries: Vec<f32> = rows.flatten().map(|x| x as f32).collect();
        let mut kept = vec![false; vectors.rows(dim)];
        items.iter().for_each(|row| kept[*row] = true);
        held_out.iter().for_each(|row| kept[*row as usize] = false);
        let search = |queries: &[f32]| scan::top_k(vectors, dim, queries, k, Some(&kept));
        let exact = search(&queries);
        Self::new(dim, k, queries, &exact, &mut |query| {
            search(query);
            Ok(())
        })
    }

    /// Queries (Q, D), their exact hits, and a way to find those of one.
    pub(super) fn new(
        dim: usize,
        k: usize,
        queries: Vec<f32>,
        exact: &[Vec<Scored>],
        search: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<Self> {
        let last = exact.iter().map(|best| best.last().map(|last| last.score));
        let least = last.map(|last| last.unwrap_or(f64::INFINITY)).collect();
        let mut times = Vec::new();
        for query in queries.chunks_exact(dim).cycle().take(EXACT) {
            let (found, ms) = time(|| search(query));
            found?;
            times.push(ms);
        }
        Ok(Self {
            dim,
            k,
            queries,
            least,
            exact_ms: median(times),
        })
    }

    /// Measures walks that keep up to `most` rows; `None` where it was stopped.
    pub(super) fn run(
        &self,
        how: &Tuning,
        most: usize,
        search: &mut Walk,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Tuned>> {
        let mut points: Vec<Point> = Vec::new();
        for ef in EFS.into_iter().filter(|ef| (self.k..=most).contains(ef)) {
            if !go_on() {
                return Ok(None);
            }
            let point = self.point(search, ef)?;
            let is_enough = point.interval.0 >= how.recall && point.recall >= ENOUGH;
            let is_slow = point.ms > self.exact_ms && !how.always;
            points.push(point);
            if is_enough || is_slow {
                break;
            }
        }
        Ok(Some(Tuned {
            k: self.k,
            recall: how.recall,
            queries: self.least.len(),
            seed: how.seed,
            ef: None,
            exact_ms: self.exact_ms,
            points,
        }))
    }

    fn point(&self, search: &mut Walk, ef: usize) -> Result<Point> {
        let (mut recalls, mut times) = (Vec::new(), Vec::new());
        for (query, least) in self.queries.chunks_exact(self.dim).zip(&self.least) {
            let (best, ms) = time(|| search(query, ef));
            let best = best?;
            // What scores like the last of the exact hits is as good as it.
            let found = best.iter().filter(|scored| scored.score >= *least);
            recalls.push(found.count() as f64 / self.k as f64);
            times.push(ms);
        }
        let count = recalls.len() as f64;
        let recall = recalls.iter().sum::<f64>() / count;
        let squares: f64 = recalls.iter().map(|own| (own - recall).powi(2)).sum();
        let half = 1.96 * (squares / (count - 1.0).max(1.0) / count).sqrt();
        let low = (recall - half).min(highest_low(recalls.len()));
        Ok(Point {
            ef,
            recall,
            interval: (low.max(0.0), (recall + half).min(1.0)),
            ms: median(times),
        })
    }
}

/// The highest lower end that so many queries can show: where none missed anything, the part that misses can still be 3 / n
/// (Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249, 1983).
fn highest_low(queries: usize) -> f64 {
    1.0 - 3.0 / queries as f64
}

/// What something gives, and the milliseconds that it takes.
fn time<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let given = run();
    (given, start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
