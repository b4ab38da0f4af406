//! Newton's step by a factorisation of the Hessian: where conjugate gradients would need too many products.
//!
//! With little regularisation and classes that can be separated, the Hessian's eigenvalues lie so far apart that no diagonal
//! brings them together; a Cholesky factorisation does not care.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatRef, Par, Side};
use rayon::prelude::*;

use super::basis::Basis;
use super::objective::{Point, Problem, Weights, probabilities};

/// Largest side of a Hessian: 128 MiB.
const MOST_COLUMNS: usize = 4096;
/// Rows that are multiplied at once.
const BLOCK: usize = 256;
/// Share of the largest entry of the diagonal that is added to all.
const RIDGE: f64 = 1e-12;

/// Whether a problem's Hessian is small enough.
pub(super) fn fits(basis: &Basis, problem: &Problem) -> bool {
    problem.outputs() * (basis.rank + 1) <= MOST_COLUMNS
}

/// The step -H⁻¹ ∇F as changes of coefficients (K, D) and intercepts (K); `None` where H has no factorisation.
pub(super) fn step(basis: &Basis, problem: &Problem, point: &Point) -> Option<Weights> {
    let k = problem.outputs();
    let size = basis.rank + usize::from(problem.fit_intercept);
    let mut hessian = hessian(basis, problem, point, size);
    let most = (0..k * size).fold(f64::MIN_POSITIVE, |most, i| hessian[(i, i)].max(most));
    for i in 0..k * size {
        let is_coefficient = i % size < basis.rank;
        hessian[(i, i)] += most * RIDGE + if is_coefficient { problem.l2 } else { 0.0 };
    }
    let gradient = basis.gradient(problem, point);
    let right = Mat::from_fn(k * size, 1, |i, _| {
        -gradient[i / size * basis.stride + i % size]
    });
    let solved = hessian.llt(Side::Lower).ok()?.solve(&right);
    let steps = (0..k).map(|output| {
        let mut coordinates: Vec<f64> = (0..size).map(|j| solved[(output * size + j, 0)]).collect();
        coordinates.resize(basis.rank + 1, 0.0);
        basis.step(&coordinates)
    });
    let (coef, intercept): (Vec<Vec<f64>>, Vec<f64>) = steps.unzip();
    Some((coef.concat(), intercept))
}

/// The lower triangle of the mean loss's Hessian by the coordinates, (K `size`, K `size`): Σ cᵢ (diag(p) - p pᵀ) ⊗ z zᵀ / n.
fn hessian(basis: &Basis, problem: &Problem, point: &Point, size: usize) -> Mat<f64> {
    let k = problem.outputs();
    let mut shares = point.margins.clone();
    shares.par_chunks_mut(k).for_each(probabilities);
    let items = problem.weights.len();
    let part = items.div_ceil(rayon::current_num_threads()).max(1);
    let of_part = |first: usize| {
        let mut sum = Mat::<f64>::zeros(k * size, k * size);
        let last = items.min(first + part);
        for block in (first..last).step_by(BLOCK) {
            let count = BLOCK.min(last - block);
            let rows = basis
                .rows
                .chunks_exact(basis.stride)
                .skip(block)
                .take(count);
            let z: Vec<f64> = rows
                .flat_map(|row| row[..size].iter().map(|x| f64::from(*x)))
                .collect();
            let z = MatRef::from_row_major_slice(&z, count, size);
            for i in 0..k {
                for j in 0..=i {
                    let scaled = Mat::from_fn(count, size, |row, column| {
                        let p = &shares[(block + row) * k..(block + row + 1) * k];
                        let curvature = p[i] * (f64::from(u8::from(i == j)) - p[j]);
                        problem.weights[block + row] * curvature * z[(row, column)]
                    });
                    let out = sum.as_mut().submatrix_mut(i * size, j * size, size, size);
                    matmul(out, Accum::Add, z.transpose(), &scaled, 1.0, Par::Seq);
                }
            }
        }
        sum
    };
    let firsts: Vec<usize> = (0..items).step_by(part).collect();
    let parts: Vec<Mat<f64>> = firsts.into_par_iter().map(of_part).collect();
    let mut sum = Mat::<f64>::zeros(k * size, k * size);
    parts.into_iter().for_each(|part| sum += part);
    sum *= faer::Scale(1.0 / problem.count);
    sum
}
