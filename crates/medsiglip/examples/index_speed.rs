//! How fast exact search is beside the memory that it reads.
//!
//!     cargo run --release -p medsiglip --features index --example index_speed -- [ROWS [DIM]]

use std::hint::black_box;
use std::time::Instant;

use half::f16;
use medsiglip::index::scan::{Vectors, i8_stride, top_k};
use rayon::prelude::*;

const RUNS: usize = 15;

/// The median time of some runs, in seconds.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..RUNS).map(time).collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn main() {
    let args: Vec<usize> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("a number"))
        .collect();
    let (rows, dim) = (
        args.first().copied().unwrap_or(200_000),
        args.get(1).copied().unwrap_or(1152),
    );
    let mut seed = 1u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((seed >> 40) as f32 / (1 << 23) as f32 - 1.0) / (dim as f32 / 3.0).sqrt()
    };
    let data: Vec<f32> = (0..rows * dim).map(|_| next()).collect();
    let queries: Vec<f32> = (0..8 * dim).map(|_| next()).collect();
    let gigabytes = |bytes: usize, seconds: f64| bytes as f64 / seconds / 1e9;
    let threads = rayon::current_num_threads();
    // What reading costs without any arithmetic to speak of: the highest of several widths of the same loop.
    let words: &[u64] = bytemuck::cast_slice(&data);
    let read = median(|| {
        let sum = |part: &[u64]| {
            part.chunks_exact(64).fold([0u64; 64], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum |= x);
                sums
            })
        };
        black_box(
            words
                .par_chunks(1 << 17)
                .map(sum)
                .reduce(|| [0; 64], |a, _| a),
        );
    });
    let bandwidth = gigabytes(rows * dim * 4, read);
    println!("{threads} threads, {rows} x {dim}: memory is read at {bandwidth:.1} GB/s");
    let halves: Vec<f16> = data.iter().map(|x| f16::from_f32(*x)).collect();
    let mut bytes = vec![1u8; rows * i8_stride(dim)];
    for row in bytes.chunks_exact_mut(i8_stride(dim)) {
        row[..4].copy_from_slice(&0.01f32.to_le_bytes());
        row[4..]
            .iter_mut()
            .for_each(|x| *x = (next() * 1e6) as i32 as u8);
    }
    let all = [
        ("f32", Vectors::F32(&data), rows * dim * 4),
        ("f16", Vectors::F16(&halves), rows * dim * 2),
        ("i8", Vectors::I8(&bytes), bytes.len()),
    ];
    for (name, vectors, size) in all {
        for count in [1, 8] {
            let queries = &queries[..count * dim];
            let seconds = median(|| drop(black_box(top_k(vectors, dim, queries, 10, None))));
            let rate = gigabytes(size, seconds);
            println!(
                "{name}, {count} queries: {:.1} ms, {rate:.1} GB/s, {:.0} % of that",
                1e3 * seconds,
                100.0 * rate / bandwidth
            );
        }
    }
}
