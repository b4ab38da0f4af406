//! Proximal Newton steps by coordinate descent: the end of a fit with l1 that SAGA alone would come to slowly.
//!
//! A quadratic model of the loss at the point, over the coefficients that are not zero or whose gradient is larger than l1
//! allows, is minimised with its l1 one coordinate at a time, then searched along (Friedman, Hastie and Tibshirani, 2010,
//! section 4; Lee, Sun and Saunders, 2014). Outputs of a multinomial problem take turns.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::features::Features;
use super::objective::{Point, Problem, Weights, probabilities};

/// Coefficients that are moved together; the model is a square of these.
pub(super) const MOST_ACTIVE: usize = 8192;
/// Rounds over the coordinates for one model.
const MOST_SWEEPS: usize = 2000;
/// Rows that are multiplied at once.
const BLOCK: usize = 256;

/// Coefficients (K, D) and intercepts (K) after a step of every output; none where too many are active.
pub(super) fn step(features: &Features, problem: &Problem, point: &Point) -> Option<Weights> {
    let (k, dim) = (problem.outputs(), features.dim());
    let (mut coef, mut intercept) = (point.coef.clone(), point.intercept.clone());
    let mut margins = point.margins.clone();
    // An output's step is by the margins that the outputs before it left.
    #[expect(clippy::needless_range_loop)]
    for i in 0..k {
        let own = i * dim..(i + 1) * dim;
        let residuals: Vec<f64> = problem
            .residuals(&margins)
            .into_iter()
            .skip(i)
            .step_by(k)
            .collect();
        let mut gradient = features.transposed_times(&residuals, 1);
        gradient.iter_mut().for_each(|g| *g /= problem.count);
        let model = Model::new(
            features,
            problem,
            &margins,
            i,
            &coef[own.clone()],
            &gradient,
        )?;
        let by_intercept = residuals.iter().sum::<f64>() / problem.count;
        let (moves, by) = model.minimum(
            problem,
            &coef[own.clone()],
            &gradient,
            by_intercept,
            point.value,
        );
        let mut along = features.times(&moves);
        along.iter_mut().for_each(|m| *m += by);
        let before = problem.loss(&margins) + problem.penalty(&coef);
        let mut length = 1.0;
        while length > 1e-6 {
            let mut at = coef.clone();
            at[own.clone()]
                .iter_mut()
                .zip(&moves)
                .for_each(|(w, m)| *w += length * m);
            let mut moved = margins.clone();
            moved
                .iter_mut()
                .skip(i)
                .step_by(k)
                .zip(&along)
                .for_each(|(m, a)| *m += length * a);
            if problem.loss(&moved) + problem.penalty(&at) <= before * (1.0 + 1e-14) {
                (coef, margins) = (at, moved);
                intercept[i] += length * by;
                break;
            }
            length /= 2.0;
        }
    }
    Some((coef, intercept))
}

/// The second derivatives of one output's loss, over the active columns and the intercept.
struct Model {
    active: Vec<usize>,
    /// (A + 1, A + 1), the intercept last.
    hessian: Mat<f64>,
}

impl Model {
    fn new(
        features: &Features,
        problem: &Problem,
        margins: &[f64],
        output: usize,
        coef: &[f64],
        gradient: &[f64],
    ) -> Option<Self> {
        let (k, dim) = (problem.outputs(), features.dim());
        let active: Vec<usize> = (0..dim)
            .filter(|j| coef[*j] != 0.0 || gradient[*j].abs() > problem.l1)
            .collect();
        if active.len() > MOST_ACTIVE {
            return None;
        }
        let size = active.len() + 1;
        let mut hessian = Mat::zeros(size, size);
        let mut p = vec![0.0; k];
        let mut x = vec![0.0; BLOCK * dim];
        let mut scaled = vec![0.0; BLOCK * size];
        for (block, margins) in margins.chunks(BLOCK * k).enumerate() {
            let rows = margins.len() / k;
            let first = block * BLOCK;
            features.widen(first, &mut x[..rows * dim]);
            for (i, row) in scaled.chunks_exact_mut(size).take(rows).enumerate() {
                p.copy_from_slice(&margins[i * k..(i + 1) * k]);
                probabilities(&mut p);
                let p = p[output];
                let root = (problem.weights[first + i] * p * (1.0 - p) / problem.count).sqrt();
                let x = &x[i * dim..(i + 1) * dim];
                row.iter_mut()
                    .zip(&active)
                    .for_each(|(out, j)| *out = root * x[*j]);
                row[size - 1] = root;
            }
            let scaled = MatRef::from_row_major_slice(&scaled[..rows * size], rows, size);
            matmul(
                hessian.as_mut(),
                Accum::Add,
                scaled.transpose(),
                scaled,
                1.0,
                Par::Seq,
            );
        }
        Some(Self { active, hessian })
    }

    /// Where the model and the penalty are least: moves of coefficients (D) and of the intercept.
    fn minimum(
        &self,
        problem: &Problem,
        coef: &[f64],
        gradient: &[f64],
        by_intercept: f64,
        value: f64,
    ) -> (Vec<f64>, f64) {
        let last = self.active.len();
        let mut slope: Vec<f64> = self.active.iter().map(|j| gradient[*j]).collect();
        slope.push(by_intercept);
        let mut moves = vec![0.0; last + 1];
        let mut at: Vec<f64> = self.active.iter().map(|j| coef[*j]).collect();
        at.push(0.0);
        for sweep in 0..MOST_SWEEPS {
            let mut most: f64 = 0.0;
            for j in 0..=last {
                let change = self.change(problem, j, at[j], slope[j]);
                if change == 0.0 {
                    continue;
                }
                at[j] += change;
                moves[j] += change;
                most = most.max(change * change * self.hessian[(j, j)]);
                let column = self.hessian.col(j);
                slope
                    .iter_mut()
                    .zip(column.iter())
                    .for_each(|(s, h)| *s += change * h);
            }
            // The decrease of the last round over all coordinates, beside the loss, is below rounding.
            if most < 1e-28 * value && sweep > 0 {
                break;
            }
        }
        let mut all = vec![0.0; coef.len()];
        for (place, j) in self.active.iter().enumerate() {
            // What has come to zero is zero to the last bit.
            all[*j] = if at[place] == 0.0 {
                -coef[*j]
            } else {
                moves[place]
            };
        }
        // Without an intercept, its move is 0.
        (all, moves[last])
    }

    /// How far one coordinate is from where the model is least along it.
    fn change(&self, problem: &Problem, j: usize, at: f64, slope: f64) -> f64 {
        let curvature = self.hessian[(j, j)];
        let is_intercept = j == self.active.len();
        let total = match is_intercept {
            true if !problem.fit_intercept => 0.0,
            true => curvature,
            false => curvature + problem.l2,
        };
        if total <= 0.0 {
            return 0.0;
        }
        let free = curvature * at - slope;
        match is_intercept {
            true => -slope / total,
            false => ((free.abs() - problem.l1).max(0.0) / total).copysign(free) - at,
        }
    }
}
