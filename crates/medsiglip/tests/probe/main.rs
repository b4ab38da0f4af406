//! Linear probes: the solver beside scikit-learn's and L-BFGS, on data that it could stumble over, and what is chosen, saved and calibrated.

mod calibrated;
mod choice;
mod oracle;
mod saved;
mod solver;

use medsiglip::probe::{Features, Fit, Settings, Solver, Task};

/// SplitMix64, as in the script.
fn uniforms(mut seed: u64, count: usize) -> Vec<f64> {
    let mut next = || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / 2f64.powi(53)
    };
    (0..count).map(|_| next()).collect()
}

/// As in the script: (N, D).
fn features(n: usize, d: usize, seed: u64) -> Vec<f64> {
    let u = uniforms(seed, n * 5 + 5 * d + n * d + 2 * d);
    let (factors, u) = u.split_at(n * 5);
    let (loadings, u) = u.split_at(5 * d);
    let (noise, u) = u.split_at(n * d);
    let (scales, means) = u.split_at(d);
    let column = |i: usize, j: usize| {
        let of_factors: f64 = [8.0, 4.0, 2.0, 1.0, 0.5]
            .iter()
            .enumerate()
            .map(|(f, size)| (factors[i * 5 + f] - 0.5) * size * (loadings[f * d + j] - 0.5))
            .sum();
        let scale = 4f64.powf(2.0 * scales[j] - 1.0);
        (of_factors + (noise[i * d + j] - 0.5) * 0.5) * scale + (means[j] - 0.5) * 4.0 * scale
    };
    (0..n)
        .flat_map(|i| (0..d).map(move |j| (i, j)))
        .map(|(i, j)| column(i, j))
        .collect()
}

fn fit(features: Features, task: Task, settings: &Settings, c: f64) -> medsiglip::Result<Fit> {
    Ok(Solver::new(features, settings)?
        .fit_path(&[task], &[c])?
        .remove(0)
        .remove(0))
}

/// The largest difference beside what it should be, numbers below a thousandth of the largest beside that; both less
/// their means over classes where they are `free`.
fn differs(ours: &[f64], theirs: &[f64], free: bool, classes: usize) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let settled = |values: &[f64]| {
        let mut values = values.to_vec();
        if free {
            let d = values.len() / classes;
            for j in 0..d {
                let mean = values.iter().skip(j).step_by(d).sum::<f64>() / classes as f64;
                values
                    .iter_mut()
                    .skip(j)
                    .step_by(d)
                    .for_each(|x| *x -= mean);
            }
        }
        values
    };
    let (ours, theirs) = (settled(ours), settled(theirs));
    let largest = theirs.iter().fold(1e-9f64, |most, x| most.max(x.abs()));
    let differences = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs() / b.abs().max(largest * 1e-3));
    differences.fold(0.0, f64::max)
}

/// Few items and many columns, of which one matters: little C is best, and much overfits.
fn noisy() -> (Vec<f64>, Vec<usize>) {
    let (n, d) = (160, 60);
    let x: Vec<f64> = uniforms(5, n * d).iter().map(|u| u - 0.5).collect();
    let noise = uniforms(6, n);
    let labels = (0..n)
        .map(|i| usize::from(x[i * d] + (noise[i] - 0.5) * 0.8 > 0.0))
        .collect();
    (x, labels)
}
