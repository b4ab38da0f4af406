//! Each kernel as its formula says, in f64, one number at a time. Only tests use it.

use super::attention::Heads;
use crate::engine::weights::LayerNorm;

/// Numbers in about [-1, 1] that no kernel was chosen to fit: a linear congruential generator.
pub fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / ((1u64 << 23) as f32) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Panics where two arrays differ by more than `allowed` anywhere.
pub fn assert_close(got: &[f32], want: &[f32], allowed: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= allowed,
            "number {i}: got {got}, want {want}"
        );
    }
}

/// y = x W^T + b.
pub fn linear(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let input = weight.len() / bias.len();
    let dot = |x: &[f32], w: &[f32]| -> f64 {
        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.sum()
    };
    x.chunks_exact(input)
        .flat_map(|x| {
            let rows = weight.chunks_exact(input).zip(bias);
            rows.map(move |(w, b)| (dot(x, w) + f64::from(*b)) as f32)
        })
        .collect()
}

/// (x - mean) / sqrt(variance + eps) * weight + bias.
pub fn layer_norm(x: &[f32], norm: &LayerNorm) -> Vec<f32> {
    let width = norm.weight.len();
    x.chunks_exact(width)
        .flat_map(|row| {
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let variance = row
                .iter()
                .map(|x| (f64::from(*x) - mean).powi(2))
                .sum::<f64>()
                / width as f64;
            let scale = 1.0 / (variance + f64::from(norm.eps)).sqrt();
            (0..width).map(move |i| {
                ((f64::from(row[i]) - mean) * scale * f64::from(norm.weight[i])
                    + f64::from(norm.bias[i])) as f32
            })
        })
        .collect()
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    (0.5 * x * (1.0 + u.tanh())) as f32
}

/// e^x / sum(e^x).
pub fn softmax(row: &[f32]) -> Vec<f32> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = row.iter().map(|x| f64::from(x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| (e / sum) as f32).collect()
}

/// softmax(q k^T / sqrt(Dh)) v, and the weights (B, H, tokens, tokens). All row-major.
pub fn attention(
    [q, k, v]: [&[f32]; 3],
    Heads { rows, width, heads }: Heads,
) -> (Vec<f32>, Vec<f32>) {
    let tokens = rows.tokens;
    let dim = width / heads;
    let mut out = vec![0.0; q.len()];
    let mut all_weights = Vec::new();
    for item in 0..q.len() / (tokens * width) {
        let at =
            |token: usize, head: usize, i: usize| (item * tokens + token) * width + head * dim + i;
        for head in 0..heads {
            for query in 0..tokens {
                let scores: Vec<f32> = (0..tokens)
                    .map(|key| {
                        let dot: f64 = (0..dim)
                            .map(|i| {
                                f64::from(q[at(query, head, i)]) * f64::from(k[at(key, head, i)])
                            })
                            .sum();
                        (dot / (dim as f64).sqrt()) as f32
                    })
                    .collect();
                let weights = softmax(&scores);
                for i in 0..dim {
                    out[at(query, head, i)] = (0..tokens)
                        .map(|key| f64::from(weights[key]) * f64::from(v[at(key, head, i)]))
                        .sum::<f64>() as f32;
                }
                all_weights.extend(weights);
            }
        }
    }
    (out, all_weights)
}
