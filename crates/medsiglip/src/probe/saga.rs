//! SAGA: passes over the items, one at a time, in single precision, around a point that is known in double.

use pulp::{Arch, Simd, WithSimd};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::basis::Basis;
use super::objective::{Point, Problem, Weights, probabilities, residual};

/// One problem while the items pass by: the way δ from a point, in the coordinates of the basis.
///
/// SAGA (Defazio, Bach and Lacoste-Julien, 2014, equations 1 and 2) steps along φᵢ′(δ) - φᵢ′(old) + mean of old, then takes the prox.
/// Here each coordinate has its own step η / Hⱼ with Hⱼ = κ meanᵢ(zᵢⱼ²) + λ, an upper bound of the curvature (κ = ¼ for
/// two classes, ½ for more; Böhning, 1992), so that all coordinates converge together. A table of residuals is a table of gradients.
///
/// As the table begins with the exact residuals of the point and the mean with its exact gradient, the errors of single
/// precision are errors of δ, not of the coefficients: with every new point they shrink like δ itself.
pub(super) struct Local<'a> {
    problem: &'a Problem<'a>,
    outputs: usize,
    /// δ, (K, stride).
    delta: Vec<f32>,
    /// Mean gradient and the penalty's gradient at the point, (K, stride).
    mean: Vec<f32>,
    /// 1 - ηλ / Hⱼ, (stride).
    keep: Vec<f32>,
    /// η / Hⱼ, (stride).
    step: Vec<f32>,
    /// Coordinates of the point, (K, stride); only l1 looks at them.
    point: Vec<f32>,
    /// How far l1 draws to zero: ηλρ / Hⱼ, nothing for the intercept, (stride); empty without l1.
    shrink: Vec<f32>,
    /// Margins at the point, (N, K).
    offset: &'a [f64],
    /// Residuals as last seen, (N, K).
    table: Vec<f64>,
    /// Margins, then residuals of one item, (K).
    row: Vec<f64>,
}

impl<'a> Local<'a> {
    pub fn new(basis: &Basis, problem: &'a Problem<'a>, point: &'a Point, share: f64) -> Self {
        let (k, stride, rank) = (problem.outputs(), basis.stride, basis.rank);
        let mut at = vec![0.0; k * stride];
        let coefs = point.coef.chunks_exact(point.coef.len() / k);
        for (at, coef) in at.chunks_exact_mut(stride).zip(coefs) {
            let coordinates = basis.coordinates(coef);
            at.iter_mut()
                .zip(coordinates)
                .for_each(|(at, w)| *at = w as f32);
        }
        let mean = basis
            .gradient(problem, point)
            .into_iter()
            .map(|g| g as f32)
            .collect();
        let kappa = kappa(problem, point);
        let curvature = curvature(basis, problem, kappa);
        // 1 / 3L for an item of mean length.
        let length: f64 = basis
            .spread
            .iter()
            .zip(&curvature)
            .map(|(s, h)| kappa * s / h)
            .sum();
        let eta = share / (3.0 * (length + 1.0));
        let mut keep = vec![1.0; stride];
        let mut step = vec![0.0; stride];
        for j in 0..rank {
            keep[j] = (1.0 - eta * problem.l2 / curvature[j]) as f32;
            step[j] = (eta / curvature[j]) as f32;
        }
        if problem.fit_intercept {
            step[rank] = (eta / kappa) as f32;
        }
        let mut shrink = Vec::new();
        if problem.l1 > 0.0 {
            shrink = step.iter().map(|step| step * problem.l1 as f32).collect();
            shrink[rank] = 0.0;
        }
        Self {
            problem,
            outputs: k,
            delta: vec![0.0; k * stride],
            mean,
            keep,
            step,
            point: at,
            shrink,
            offset: &point.margins,
            table: point.residuals.clone(),
            row: vec![0.0; k],
        }
    }

    /// The coefficients and intercepts that δ has come to.
    pub fn end(&self, basis: &Basis, point: &Point) -> Weights {
        let (mut coef, mut intercept) = (point.coef.clone(), point.intercept.clone());
        let dim = coef.len() / self.outputs;
        for (i, delta) in self.delta.chunks_exact(basis.stride).enumerate() {
            let delta: Vec<f64> = delta.iter().map(|x| f64::from(*x)).collect();
            let (step, by) = basis.step(&delta);
            intercept[i] += by;
            let own = &mut coef[i * dim..(i + 1) * dim];
            own.iter_mut().zip(&step).for_each(|(w, step)| *w += step);
            if !self.shrink.is_empty() {
                // What l1 has brought to zero is zero, not what rounding leaves of it.
                let at = &self.point[i * basis.stride..];
                for ((w, delta), at) in own.iter_mut().zip(&delta).zip(at) {
                    if *delta as f32 == -at {
                        *w = 0.0;
                    }
                }
            }
        }
        (coef, intercept)
    }
}

/// The mean second derivative of losses by their margins; a bound holds at every point (¼ or ½; Böhning, 1992) and is many
/// times too large where most items are told apart well.
fn kappa(problem: &Problem, point: &Point) -> f64 {
    let k = problem.outputs();
    let mut sum = 0.0;
    let mut p = vec![0.0; k];
    for (weight, margins) in problem.weights.iter().zip(point.margins.chunks_exact(k)) {
        p.copy_from_slice(margins);
        probabilities(&mut p);
        sum += weight * p.iter().map(|p| p * (1.0 - p)).sum::<f64>() / k as f64;
    }
    let bound = if k == 1 { 0.25 } else { 0.5 };
    (sum / problem.count).clamp(bound * 1e-3, bound)
}

/// Curvature along each coordinate, (rank).
fn curvature(basis: &Basis, problem: &Problem, kappa: f64) -> Vec<f64> {
    let bound = |spread: &f64| kappa * spread + problem.l2;
    let curvature: Vec<f64> = basis.spread.iter().map(bound).collect();
    let most = curvature.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    curvature.iter().map(|h| h.max(most * 1e-12)).collect()
}

/// `epochs` passes: in each, as many items as there are, drawn with replacement; all problems see the same ones.
pub(super) fn pass(basis: &Basis, locals: &mut [Local], epochs: usize, random: &mut ChaCha8Rng) {
    let n = basis.rows.len() / basis.stride;
    let order: Vec<u32> = (0..n * epochs)
        .map(|_| random.random_range(0..n) as u32)
        .collect();
    Arch::new().dispatch(Pass {
        basis,
        locals,
        order: &order,
    });
}

struct Pass<'p, 'a> {
    basis: &'p Basis,
    locals: &'p mut [Local<'a>],
    order: &'p [u32],
}

impl WithSimd for Pass<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.basis.stride;
        for item in self.order {
            let i = *item as usize;
            let (z, _) = S::as_simd_f32s(&self.basis.rows[i * stride..(i + 1) * stride]);
            for local in &mut *self.locals {
                let weight = local.problem.weights[i];
                if weight > 0.0 {
                    local.visit(simd, z, i, weight, stride);
                }
            }
        }
    }
}

impl Local<'_> {
    #[inline(always)]
    fn visit<S: Simd>(&mut self, simd: S, z: &[S::f32s], i: usize, weight: f64, stride: usize) {
        let k = self.outputs;
        for (j, delta) in self.delta.chunks_exact(stride).enumerate() {
            let (delta, _) = S::as_simd_f32s(delta);
            self.row[j] = self.offset[i * k + j] + f64::from(dot(simd, z, delta));
        }
        residual(&mut self.row, self.problem.task.labels()[i], weight);
        let (keep, _) = S::as_simd_f32s(&self.keep);
        let (step, _) = S::as_simd_f32s(&self.step);
        for j in 0..k {
            let old = &mut self.table[i * k + j];
            let change = self.row[j] - *old;
            *old = self.row[j];
            let change = [change as f32, (change / self.problem.count) as f32];
            let range = j * stride..(j + 1) * stride;
            let (delta, _) = S::as_mut_simd_f32s(&mut self.delta[range.clone()]);
            let (mean, _) = S::as_mut_simd_f32s(&mut self.mean[range.clone()]);
            let columns = (z, keep, step);
            if self.shrink.is_empty() {
                move_smooth(simd, columns, change, delta, mean);
            } else {
                let (point, _) = S::as_simd_f32s(&self.point[range]);
                let (shrink, _) = S::as_simd_f32s(&self.shrink);
                move_l1(simd, columns, change, delta, mean, (point, shrink));
            }
        }
    }
}

#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[S::f32s], b: &[S::f32s]) -> f32 {
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a4, a1) = a.as_chunks::<4>();
    let (b4, b1) = b.as_chunks::<4>();
    for (a, b) in a4.iter().zip(b4) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (a, b) in a1.iter().zip(b1) {
        sums[0] = simd.mul_add_f32s(*a, *b, sums[0]);
    }
    let sum = simd.add_f32s(
        simd.add_f32s(sums[0], sums[1]),
        simd.add_f32s(sums[2], sums[3]),
    );
    simd.reduce_sum_f32s(sum)
}

/// z, keep and step of each coordinate.
type Columns<'a, V> = (&'a [V], &'a [V], &'a [V]);

/// δ ← keep δ - step (change z + mean); mean ← mean + change z / n.
#[inline(always)]
fn move_smooth<S: Simd>(
    simd: S,
    (z, keep, step): Columns<S::f32s>,
    [change, share]: [f32; 2],
    delta: &mut [S::f32s],
    mean: &mut [S::f32s],
) {
    let (change, share) = (simd.splat_f32s(change), simd.splat_f32s(share));
    let columns = z.iter().zip(keep).zip(step).zip(delta).zip(mean);
    for ((((z, keep), step), delta), mean) in columns {
        let gradient = simd.mul_add_f32s(change, *z, *mean);
        *mean = simd.mul_add_f32s(share, *z, *mean);
        *delta = simd.sub_f32s(simd.mul_f32s(*keep, *delta), simd.mul_f32s(*step, gradient));
    }
}

/// The same, then the prox of l1: point + δ moves towards zero by `shrink`, never past it.
#[inline(always)]
fn move_l1<S: Simd>(
    simd: S,
    (z, keep, step): Columns<S::f32s>,
    [change, share]: [f32; 2],
    delta: &mut [S::f32s],
    mean: &mut [S::f32s],
    (point, shrink): (&[S::f32s], &[S::f32s]),
) {
    let (change, share) = (simd.splat_f32s(change), simd.splat_f32s(share));
    let zero = simd.splat_f32s(0.0);
    let columns = z.iter().zip(keep).zip(step).zip(delta).zip(mean);
    for (((((z, keep), step), delta), mean), (point, shrink)) in
        columns.zip(point.iter().zip(shrink))
    {
        let gradient = simd.mul_add_f32s(change, *z, *mean);
        *mean = simd.mul_add_f32s(share, *z, *mean);
        let moved = simd.sub_f32s(simd.mul_f32s(*keep, *delta), simd.mul_f32s(*step, gradient));
        let (down, up) = (simd.sub_f32s(moved, *shrink), simd.add_f32s(moved, *shrink));
        let stays_up = simd.greater_than_f32s(simd.add_f32s(*point, down), zero);
        let stays_down = simd.less_than_f32s(simd.add_f32s(*point, up), zero);
        let at_zero = simd.neg_f32s(*point);
        *delta = simd.select_f32s(stays_up, down, simd.select_f32s(stays_down, up, at_zero));
    }
}
