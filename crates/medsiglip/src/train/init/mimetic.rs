//! Self-attention that starts like that of trained transformers (Trockman and Kolter, arXiv 2305.09828).

use nalgebra::{DMatrix, SVD};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{normal, stream};
use crate::checkpoint::Tensor;
use crate::config::Shape;

/// How far the projections of self-attention start from noise: W_q W_k^T ~ alpha1 Z1 + beta1 I in each head and
/// W_v W_proj ~ alpha2 Z2 - beta2 I, where Z has normal numbers of variance 1/D.
///
/// The defaults are the published ones: 0.7 for queries and keys, 0.4 for values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mimetic {
    /// Noise in queries and keys.
    pub alpha1: f32,
    /// Identity in queries and keys.
    pub beta1: f32,
    /// Noise in values and what follows them.
    pub alpha2: f32,
    /// Negative identity in values and what follows them.
    pub beta2: f32,
}

impl Default for Mimetic {
    fn default() -> Self {
        Self {
            alpha1: 0.7,
            beta1: 0.7,
            alpha2: 0.4,
            beta2: 0.4,
        }
    }
}

/// The four projections of every layer of `tower`, under their names.
pub(super) fn attention(
    seed: u64,
    tower: &'static str,
    shape: Shape,
    mimetic: &Mimetic,
) -> impl ParallelIterator<Item = (String, Tensor)> {
    let Mimetic {
        alpha1,
        beta1,
        alpha2,
        beta2,
    } = *mimetic;
    let layers = (0..shape.depth).into_par_iter();
    layers.flat_map(move |layer| {
        let block = format!("{tower}.encoder.layers.{layer}.self_attn");
        let (width, heads) = (shape.width, shape.heads);
        let target =
            |name: &str, alpha, beta| target(seed, &format!("{block}.{name}"), width, alpha, beta);
        let per_head: Vec<_> = (0..heads)
            .into_par_iter()
            .map(|head| {
                let matrix = target(&format!("qk.{head}"), alpha1, beta1);
                factors(matrix, width / heads)
            })
            .collect();
        // The rows of one head lie behind those of the one before.
        let (q, k): (Vec<_>, Vec<_>) = per_head.into_iter().unzip();
        let (v, out) = factors(target("vo", alpha2, -beta2), width);
        // x W_v W_proj = x left right, and `out_proj` is stored (out, in): right transposed.
        let out = transposed(&out, width);
        [
            ("q_proj", q.concat()),
            ("k_proj", k.concat()),
            ("v_proj", v),
            ("out_proj", out),
        ]
        .map(|(name, values)| {
            let tensor = Tensor::from_f32(vec![width, width], values);
            (format!("{block}.{name}.weight"), tensor)
        })
        .into_par_iter()
    })
}

/// alpha Z + beta I, (D, D).
fn target(seed: u64, name: &str, width: usize, alpha: f32, beta: f32) -> DMatrix<f64> {
    let mut rng = stream(seed, name);
    let scale = f64::from(alpha) / (width as f64).sqrt();
    let noise = normal(&mut rng).map(|z| scale * f64::from(z));
    let noise = DMatrix::from_iterator(width, width, noise.take(width * width));
    noise + DMatrix::identity(width, width) * f64::from(beta)
}

/// The closest product of rank `rank` to `matrix`, (D, D): left transposed and right, (rank, D) each, row by row.
///
/// From its singular values: the root of each goes to either side.
fn factors(matrix: DMatrix<f64>, rank: usize) -> (Vec<f32>, Vec<f32>) {
    let svd = SVD::new(matrix, true, true);
    // Asked for above.
    let (u, v) = (svd.u.unwrap_or_default(), svd.v_t.unwrap_or_default());
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (i, value) in svd.singular_values.iter().take(rank).enumerate() {
        let root = value.sqrt();
        left.extend(u.column(i).iter().map(|x| (x * root) as f32));
        right.extend(v.row(i).iter().map(|x| (x * root) as f32));
    }
    (left, right)
}

/// A square matrix, transposed.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    let columns = (0..width).flat_map(|c| values.iter().skip(c).step_by(width));
    columns.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        width: 24,
        mlp: 1,
        depth: 2,
        heads: 3,
        eps: 1e-6,
    };

    /// The four weights of layer 1, (out, in).
    fn layer() -> [DMatrix<f64>; 4] {
        let all: std::collections::BTreeMap<_, _> =
            attention(5, "text_model", SHAPE, &Mimetic::default()).collect();
        assert_eq!(all.len(), 8);
        ["q", "k", "v", "out"].map(|name| {
            let tensor = &all[&format!("text_model.encoder.layers.1.self_attn.{name}_proj.weight")];
            assert_eq!(tensor.shape(), [24, 24]);
            let values = tensor
                .to_f32()
                .iter()
                .map(|x| f64::from(*x))
                .collect::<Vec<_>>();
            DMatrix::from_row_slice(24, 24, &values)
        })
    }

    fn target_of(name: &str, alpha: f32, beta: f32) -> DMatrix<f64> {
        let block = "text_model.encoder.layers.1.self_attn";
        target(5, &format!("{block}.{name}"), 24, alpha, beta)
    }

    #[test]
    fn values_and_what_follows_them_multiply_to_noise_less_the_identity() {
        let [_, _, v, out] = layer();
        let product = v.transpose() * out.transpose();
        let want = target_of("vo", 0.4, -0.4);
        assert!((product - &want).amax() < 1e-6);
        let mean = want.trace() / 24.0;
        assert!((mean + 0.4).abs() < 5.0 * 0.4 / 24.0, "{mean}");
    }

    /// Eckart and Young: of all matrices of rank 8 the closest one leaves a rest that is orthogonal to it on both
    /// sides and has no singular value above those that were taken.
    #[test]
    fn queries_and_keys_multiply_to_the_closest_matrix_of_a_heads_rank() {
        let [q, k, ..] = layer();
        for head in 0..3 {
            let (q, k) = (q.rows(head * 8, 8), k.rows(head * 8, 8));
            let rest = target_of(&format!("qk.{head}"), 0.7, 0.7) - q.transpose() * k;
            assert!((q * &rest).amax() < 1e-6 && (&rest * k.transpose()).amax() < 1e-6);
            let smallest = (0..8)
                .map(|i| q.row(i).norm_squared())
                .fold(f64::MAX, f64::min);
            assert!(rest.norm() > 0.1 && spectral_norm(&rest) <= smallest + 1e-6);
            for i in 0..8 {
                assert!((q.row(i).norm() - k.row(i).norm()).abs() < 1e-6);
            }
        }
    }

    /// By power iteration, from below.
    fn spectral_norm(matrix: &DMatrix<f64>) -> f64 {
        let mut x = DMatrix::from_element(24, 1, 1.0);
        for _ in 0..2000 {
            x = matrix.transpose() * (matrix * &x);
            x /= x.norm();
        }
        (matrix * x).norm()
    }
}
