//! How fast approximate search is at which recall, for `scripts/bench_ann.py`, which compares it with others.
//!
//!     cargo run --release -p medsiglip --features index --example ann_speed -- FOLDER [ROWS [CLUSTERS]]
//!
//! Makes clustered vectors and queries of the same clusters in FOLDER, where there are none, and a graph; then answers lines
//! `EF THREADS` on standard input with the recall of the ten best and the seconds that all queries took, one after the other on
//! each thread.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use medsiglip::index::graph::Builder;
use medsiglip::index::scan::{Vectors, top_k};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

const DIM: usize = 1152;
const QUERIES: usize = 1000;
/// Directions in which rows of a cluster differ, the j-th by 1 / sqrt(j).
const DIRECTIONS: usize = 64;
const K: usize = 10;

/// Numbers around zero with a variance of one.
fn noise(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let one = |_| (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    (0..count).map(one).collect()
}

/// Rows of length one: a cluster's centre, a sum of the directions, and some noise.
fn clustered(rows: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let shared = &mut ChaCha8Rng::seed_from_u64(0);
    let (centres, directions) = (
        noise(shared, clusters * DIM),
        noise(shared, DIRECTIONS * DIM),
    );
    let mut data = vec![0.0; rows * DIM];
    data.par_chunks_exact_mut(DIM)
        .enumerate()
        .for_each(|(i, row)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(i as u64);
            let centre = random.random_range(0..clusters);
            row.copy_from_slice(&centres[centre * DIM..][..DIM]);
            for (j, direction) in directions.chunks_exact(DIM).enumerate() {
                let weight = 0.4 * noise(&mut random, 1)[0] / ((j + 1) as f32).sqrt();
                row.iter_mut()
                    .zip(direction)
                    .for_each(|(x, y)| *x += weight * y);
            }
            let rest = noise(&mut random, DIM);
            row.iter_mut().zip(rest).for_each(|(x, y)| *x += 0.3 * y);
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        });
    data
}

/// The numbers of a file, made where there is none.
fn kept(path: &Path, make: impl FnOnce() -> Vec<f32>) -> Vec<f32> {
    if let Ok(bytes) = std::fs::read(path) {
        let numbers = bytes.chunks_exact(4);
        return numbers
            .map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]))
            .collect();
    }
    let data = make();
    std::fs::write(path, bytemuck::cast_slice(&data)).expect("a folder to write to");
    data
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(args.first().expect("a folder"));
    let number = |place: usize, default| {
        let given = args.get(place);
        given.map_or(default, |given| given.parse().expect("a number"))
    };
    let (rows, clusters) = (number(1, 200_000), number(2, 1000));
    let file = |name: &str, rows: usize| folder.join(format!("{name}-{rows}-{clusters}.f32"));
    let data = kept(&file("vectors", rows), || clustered(rows, clusters, 1));
    let queries = kept(&file("queries", QUERIES), || {
        clustered(QUERIES, clusters, 2)
    });
    let vectors = Vectors::F32(&data);
    let start = Instant::now();
    let truth: Vec<HashSet<usize>> = top_k(vectors, DIM, &queries, K, None)
        .iter()
        .map(|best| best.iter().map(|scored| scored.row).collect())
        .collect();
    eprintln!(
        "exact search: {:.2} ms a query, several at a time",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let one = queries.chunks_exact(DIM).take(20);
    one.for_each(|query| drop(top_k(vectors, DIM, query, K, None)));
    eprintln!(
        "exact search: {:.2} ms a query, one at a time",
        start.elapsed().as_secs_f64() * 50.0
    );
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    let start = Instant::now();
    let mut builder = Builder::new(vectors, DIM, order);
    builder.grow(rows, |_| true);
    let graph = builder.graph();
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let (ef, threads) = line.split_once(' ').expect("EF THREADS");
        let (ef, threads) = (ef.parse().expect("EF"), threads.parse().expect("THREADS"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let start = Instant::now();
        let found: Vec<usize> = pool.expect("threads").install(|| {
            let queries = queries.par_chunks_exact(DIM).zip(&truth);
            let hits = queries.map(|(query, truth)| {
                let found = graph.search(vectors, query, K, ef);
                found
                    .iter()
                    .filter(|scored| truth.contains(&scored.row))
                    .count()
            });
            hits.collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let recall = found.iter().sum::<usize>() as f64 / (K * QUERIES) as f64;
        println!("{recall} {seconds}");
        std::io::stdout().flush().expect("standard output");
    }
}
