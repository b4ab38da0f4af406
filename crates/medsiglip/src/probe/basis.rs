//! [`Basis`]: the features in coordinates in which steps can be long.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

use super::features::Features;
use super::objective::{Point, Problem};
use crate::{Error, Result};

/// Rows that are rotated at once.
const BLOCK: usize = 64;

/// Features centred, rotated to the eigenvectors of their covariance, in single precision.
///
/// Columns of embeddings are correlated: their covariance has eigenvalues from 10³ to 10⁻⁴, and a gradient step fit for the
/// largest is nothing for the smallest. In this basis the covariance is diagonal, so that each coordinate has a step of
/// its own; ‖w‖² is the same in every orthogonal basis. It is found once for all tasks and all C.
/// l1 knows its own coordinates alone: there the basis is the identity, and only scales of columns differ.
///
/// A last column of ones is the intercept's. Rows are padded with zeros to whole vectors.
pub(super) struct Basis {
    /// What is subtracted from features, (D).
    center: Vec<f64>,
    /// Eigenvectors, (D, R); none for the identity.
    vectors: Option<Mat<f64>>,
    /// Coordinates of an item, R; the intercept comes after them.
    pub rank: usize,
    /// Numbers of a row in `rows`, a multiple of 16 above R.
    pub stride: usize,
    /// (N, `stride`).
    pub rows: Vec<f32>,
    /// Mean square of each coordinate, (R).
    pub spread: Vec<f64>,
}

impl Basis {
    /// The basis of features, centred where there is an intercept.
    pub fn new(features: &Features, centered: bool, rotated: bool) -> Result<Self> {
        let (dim, n) = (features.dim(), features.items());
        let center = match centered {
            true => features.mean(),
            false => vec![0.0; dim],
        };
        let vectors = match rotated {
            true => Some(eigenvectors(features, &center)?),
            false => None,
        };
        let rank = vectors.as_ref().map_or(dim, Mat::ncols);
        let stride = (rank + 1).next_multiple_of(16);
        let mut rows = vec![0.0f32; n * stride];
        rows.par_chunks_mut(stride * BLOCK)
            .enumerate()
            .for_each(|(block, rows)| {
                let count = rows.len() / stride;
                rows.chunks_exact_mut(stride)
                    .for_each(|row| row[rank] = 1.0);
                if rank == 0 {
                    // Features that are the same for all items: there is an intercept to find.
                    return;
                }
                let x = centered_block(features, &center, block * BLOCK, count);
                let x = match &vectors {
                    Some(vectors) => {
                        let x = MatRef::from_row_major_slice(&x, count, dim);
                        let mut z = vec![0.0; count * rank];
                        let out = MatMut::from_row_major_slice_mut(&mut z, count, rank);
                        matmul(out, Accum::Replace, x, vectors.as_ref(), 1.0, Par::Seq);
                        z
                    }
                    None => x,
                };
                for (row, x) in rows.chunks_exact_mut(stride).zip(x.chunks_exact(rank)) {
                    row.iter_mut().zip(x).for_each(|(out, x)| *out = *x as f32);
                }
            });
        let mut spread = vec![0.0; rank];
        for row in rows.chunks_exact(stride) {
            for (sum, x) in spread.iter_mut().zip(row) {
                *sum += f64::from(*x) * f64::from(*x) / n as f64;
            }
        }
        Ok(Self {
            center,
            vectors,
            rank,
            stride,
            rows,
            spread,
        })
    }

    /// A gradient by (w, b) as one by the coordinates, (`rank` + 1).
    fn project(&self, gradient: &[f64], by_intercept: f64) -> Vec<f64> {
        let moved: Vec<f64> = gradient
            .iter()
            .zip(&self.center)
            .map(|(g, c)| g - c * by_intercept)
            .collect();
        let mut out = match &self.vectors {
            Some(vectors) => times(vectors.transpose(), &moved),
            None => moved,
        };
        out.push(by_intercept);
        out
    }

    /// The gradient of the mean loss and of l2 at a point, by the coordinates, (K, `stride`).
    pub fn gradient(&self, problem: &Problem, point: &Point) -> Vec<f64> {
        let k = problem.outputs();
        let dim = point.coef.len() / k;
        let mut out = vec![0.0; k * self.stride];
        for (i, out) in out.chunks_exact_mut(self.stride).enumerate() {
            let of_item = point.residuals.iter().skip(i).step_by(k);
            let by_intercept = of_item.sum::<f64>() / problem.count;
            let range = i * dim..(i + 1) * dim;
            let gradient = self.project(&point.gradient[range.clone()], by_intercept);
            out[..=self.rank].copy_from_slice(&gradient);
            for (out, w) in out.iter_mut().zip(self.coordinates(&point.coef[range])) {
                *out += problem.l2 * w;
            }
        }
        out
    }

    /// Coefficients as coordinates, (`rank`).
    pub fn coordinates(&self, coef: &[f64]) -> Vec<f64> {
        match &self.vectors {
            Some(vectors) => times(vectors.transpose(), coef),
            None => coef.to_vec(),
        }
    }

    /// A step in coordinates (`rank` + 1) as one of coefficients and intercept.
    pub fn step(&self, coordinates: &[f64]) -> (Vec<f64>, f64) {
        let coef = match &self.vectors {
            Some(vectors) => times(vectors.as_ref(), &coordinates[..self.rank]),
            None => coordinates[..self.rank].to_vec(),
        };
        let shift: f64 = coef.iter().zip(&self.center).map(|(w, c)| w * c).sum();
        (coef, coordinates[self.rank] - shift)
    }
}

fn times(matrix: MatRef<f64>, vector: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; matrix.nrows()];
    if out.is_empty() || vector.is_empty() {
        return out;
    }
    let vector = MatRef::from_column_major_slice(vector, vector.len(), 1);
    let view = MatMut::from_column_major_slice_mut(&mut out, matrix.nrows(), 1);
    matmul(view, Accum::Replace, matrix, vector, 1.0, Par::Seq);
    out
}

fn centered_block(features: &Features, center: &[f64], first: usize, count: usize) -> Vec<f64> {
    let mut x = vec![0.0; count * features.dim()];
    features.widen(first, &mut x);
    for row in x.chunks_exact_mut(features.dim()) {
        row.iter_mut().zip(center).for_each(|(x, c)| *x -= c);
    }
    x
}

/// Orthonormal directions in which features vary, (D, R). With fewer items than columns they are found from the inner
/// products of items, and there are no more than items.
fn eigenvectors(features: &Features, center: &[f64]) -> Result<Mat<f64>> {
    let (dim, n) = (features.dim(), features.items());
    let failed = |_| Error::BadArgument("features: their eigenvectors cannot be found".into());
    if n < dim {
        let x = centered_block(features, center, 0, n);
        let x = MatRef::from_row_major_slice(&x, n, dim);
        let inner = x * x.transpose();
        let eigen = inner.self_adjoint_eigen(Side::Lower).map_err(failed)?;
        let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
        let kept = varying(&values);
        let scaled = Mat::from_fn(n, kept.len(), |i, j| {
            eigen.U()[(i, kept[j])] / values[kept[j]].sqrt()
        });
        return Ok(x.transpose() * scaled);
    }
    let parts: Vec<Mat<f64>> = (0..n.div_ceil(2048))
        .into_par_iter()
        .map(|part| {
            let first = part * 2048;
            let mut gram = Mat::zeros(dim, dim);
            for block in (first..n.min(first + 2048)).step_by(256) {
                let count = 256.min(n - block);
                let x = centered_block(features, center, block, count);
                let x = MatRef::from_row_major_slice(&x, count, dim);
                matmul(gram.as_mut(), Accum::Add, x.transpose(), x, 1.0, Par::Seq);
            }
            gram
        })
        .collect();
    let mut gram = Mat::<f64>::zeros(dim, dim);
    for part in parts {
        gram += part;
    }
    let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let values: Vec<f64> = eigen.S().column_vector().iter().copied().collect();
    let kept = varying(&values);
    Ok(Mat::from_fn(dim, kept.len(), |i, j| {
        eigen.U()[(i, kept[j])]
    }))
}

/// Places of eigenvalues that are more than rounding: along the others features do not vary, and coefficients stay zero.
fn varying(values: &[f64]) -> Vec<usize> {
    let least = values.iter().copied().fold(0.0, f64::max) * 1e-14;
    (0..values.len()).filter(|i| values[*i] > least).collect()
}
