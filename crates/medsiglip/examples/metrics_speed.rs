//! Times AUROC and average precision with bootstrap intervals: `metrics_speed ITEMS FINDINGS REPLICATES [THREADS]` makes up scores of
//! so many items, a tenth of them positive, and prints seconds.

use std::time::Instant;

use medsiglip::metrics::{Bootstrap, Ranking, Resampling};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: metrics_speed ITEMS FINDINGS REPLICATES [THREADS]";
    let numbers = std::env::args().skip(1).map(|arg| arg.parse());
    let numbers: Vec<usize> = numbers.collect::<Result<_, _>>()?;
    let (&[items, findings, replicates, ref threads @ ..], true) =
        (&numbers[..], numbers.len() < 5)
    else {
        return Err(usage.into());
    };
    if let [threads] = threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads);
        pool.build_global()?;
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let data: Vec<(Vec<f64>, Vec<bool>)> = (0..findings)
        .map(|_| {
            let mut one = || {
                let positive = random.random_bool(0.1);
                let score: f64 = random.random();
                (score + if positive { 0.4 } else { 0.0 }, positive)
            };
            (0..items).map(|_| one()).unzip()
        })
        .collect();
    let start = Instant::now();
    let rankings: Vec<Ranking> = data
        .par_iter()
        .map(|(scores, positive)| Ranking::new(scores, positive))
        .collect::<Result<_, _>>()?;
    let sorted = start.elapsed();
    let how = Resampling {
        replicates,
        ..Resampling::default()
    };
    let drawn = Bootstrap::new(items, &how)?.rankings(&rankings)?;
    println!(
        "{items} items, {findings} findings, {replicates} samples, {} threads: {:.2} s, of which sorting {:.2} s",
        rayon::current_num_threads(),
        start.elapsed().as_secs_f64(),
        sorted.as_secs_f64()
    );
    if let Some(first) = drawn.first() {
        println!("AUROC {:?}", first.roc_auc.estimate(0.95)?);
        println!("AP    {:?}", first.average_precision.estimate(0.95)?);
    }
    Ok(())
}
