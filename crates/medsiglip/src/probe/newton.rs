//! Newton's method by conjugate gradients: the end of a fit that SAGA alone would come to slowly.
//!
//! Where classes are nearly separable, most items weigh next to nothing and the curvature is far from any bound that is known
//! beforehand. Products with the Hessian are a pass over the items, as in SAGA, in the basis and in single precision; the
//! gradient that is solved for is exact, so that what is rounded costs steps, not accuracy.

use pulp::{Arch, Simd, WithSimd};

use super::basis::Basis;
use super::objective::{Point, Problem, Weights, probabilities};
use super::saga::dot;

/// Products with the Hessian in one step.
const MOST_PRODUCTS: usize = 100;
/// Rows that are summed in single precision before they are added in double.
const BLOCK: usize = 128;

/// One problem's Newton step in the making: H s = -∇F.
struct Conjugate<'a> {
    problem: &'a Problem<'a>,
    k: usize,
    /// Probabilities times weights over items, (N, K); the curvature is diag(p) - p pᵀ.
    probabilities: Vec<f64>,
    /// Diagonal of the Hessian, (K, stride); zero where nothing moves.
    diagonal: Vec<f64>,
    step: Vec<f64>,
    residual: Vec<f64>,
    direction: Vec<f64>,
    /// The same in single precision.
    along: Vec<f32>,
    product: Vec<f64>,
    partial: Vec<f32>,
    row: Vec<f64>,
    /// rᵀ M⁻¹ r now and where the step is good enough.
    norm: f64,
    wanted: f64,
}

/// A step for each problem as changes of coefficients (K, D) and intercepts (K), and whether it came as near to Newton's as
/// it was to; and the products that all took.
pub(super) fn steps(
    basis: &Basis,
    problems: &[&Problem],
    points: &[&Point],
) -> (Vec<(Weights, bool)>, usize) {
    let mut all: Vec<Conjugate> = problems
        .iter()
        .zip(points)
        .map(|(problem, point)| Conjugate::new(basis, problem, point))
        .collect();
    run(basis, &mut all, What::Diagonal);
    all.iter_mut().for_each(|one| one.begin(basis));
    let mut products = 0;
    while products < MOST_PRODUCTS && all.iter().any(|one| one.norm > one.wanted) {
        run(basis, &mut all, What::Product);
        all.iter_mut().for_each(|one| one.turn(basis));
        products += 1;
    }
    let ends = all
        .iter()
        .map(|one| (one.end(basis), one.norm <= one.wanted));
    (ends.collect(), products + 1)
}

impl<'a> Conjugate<'a> {
    fn new(basis: &Basis, problem: &'a Problem<'a>, point: &Point) -> Self {
        let k = problem.outputs();
        let size = k * basis.stride;
        let mut probabilities_of = point.margins.clone();
        probabilities_of.chunks_exact_mut(k).for_each(probabilities);
        let gradient = basis.gradient(problem, point);
        Self {
            problem,
            k,
            probabilities: probabilities_of,
            diagonal: vec![0.0; size],
            step: vec![0.0; size],
            residual: gradient.iter().map(|g| -g).collect(),
            direction: vec![0.0; size],
            along: vec![0.0; size],
            product: vec![0.0; size],
            partial: vec![0.0; size],
            row: vec![0.0; k],
            norm: f64::INFINITY,
            wanted: 0.0,
        }
    }

    /// The first direction, from the diagonal that a pass has left in `product`.
    fn begin(&mut self, basis: &Basis) {
        let most = self
            .product
            .iter()
            .copied()
            .fold(f64::MIN_POSITIVE, f64::max);
        for (j, diagonal) in self.diagonal.iter_mut().enumerate() {
            let column = j % basis.stride;
            let moves = column < basis.rank || (column == basis.rank && self.problem.fit_intercept);
            let l2 = if column < basis.rank {
                self.problem.l2
            } else {
                0.0
            };
            if moves {
                *diagonal = (self.product[j] + l2).max(most * 1e-12);
            } else {
                self.residual[j] = 0.0;
            }
        }
        self.norm = self
            .preconditioned()
            .zip(&self.residual)
            .map(|(m, r)| m * r)
            .sum();
        self.wanted = self.norm * 1e-4;
        let direction: Vec<f64> = self.preconditioned().collect();
        self.set_direction(direction);
    }

    fn preconditioned(&self) -> impl Iterator<Item = f64> {
        let pairs = self.residual.iter().zip(&self.diagonal);
        pairs.map(|(r, d)| if *d > 0.0 { r / d } else { 0.0 })
    }

    fn set_direction(&mut self, direction: Vec<f64>) {
        self.along
            .iter_mut()
            .zip(&direction)
            .for_each(|(out, x)| *out = *x as f32);
        self.direction = direction;
    }

    /// One iteration, from the product of the Hessian with the direction.
    fn turn(&mut self, basis: &Basis) {
        if self.norm <= self.wanted {
            return;
        }
        let mut curvature = 0.0;
        for (j, direction) in self.direction.iter().enumerate() {
            if j % basis.stride < basis.rank {
                self.product[j] += self.problem.l2 * direction;
            }
            curvature += direction * self.product[j];
        }
        if curvature <= 0.0 {
            self.wanted = f64::INFINITY;
            return;
        }
        let length = self.norm / curvature;
        for j in 0..self.step.len() {
            self.step[j] += length * self.direction[j];
            if self.diagonal[j] > 0.0 {
                self.residual[j] -= length * self.product[j];
            }
        }
        let norm: f64 = self
            .preconditioned()
            .zip(&self.residual)
            .map(|(m, r)| m * r)
            .sum();
        let turned = self
            .preconditioned()
            .zip(&self.direction)
            .map(|(m, d)| m + norm / self.norm * d)
            .collect();
        self.norm = norm;
        self.set_direction(turned);
    }

    fn end(&self, basis: &Basis) -> Weights {
        let steps = self
            .step
            .chunks_exact(basis.stride)
            .map(|step| basis.step(step));
        let (coef, intercept): (Vec<Vec<f64>>, Vec<f64>) = steps.unzip();
        (coef.concat(), intercept)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Diagonal,
    Product,
}

fn run(basis: &Basis, all: &mut [Conjugate], what: What) {
    for one in &mut *all {
        one.product.fill(0.0);
    }
    Arch::new().dispatch(Run { basis, all, what });
    for one in all {
        one.product.iter_mut().for_each(|x| *x /= one.problem.count);
    }
}

struct Run<'r, 'a> {
    basis: &'r Basis,
    all: &'r mut [Conjugate<'a>],
    what: What,
}

impl WithSimd for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = self.basis.stride;
        for (block, rows) in self.basis.rows.chunks(BLOCK * stride).enumerate() {
            for one in &mut *self.all {
                if self.what == What::Product && one.norm <= one.wanted {
                    continue;
                }
                for (i, z) in rows.chunks_exact(stride).enumerate() {
                    let (z, _) = S::as_simd_f32s(z);
                    let item = block * BLOCK + i;
                    match self.what {
                        What::Diagonal => one.add_diagonal(simd, z, item, stride),
                        What::Product => one.add_product(simd, z, item, stride),
                    }
                }
                for (sum, part) in one.product.iter_mut().zip(&mut one.partial) {
                    *sum += f64::from(std::mem::take(part));
                }
            }
        }
    }
}

impl Conjugate<'_> {
    #[inline(always)]
    fn add_product<S: Simd>(&mut self, simd: S, z: &[S::f32s], item: usize, stride: usize) {
        let (k, weight) = (self.k, self.problem.weights[item]);
        if weight == 0.0 {
            return;
        }
        for (m, along) in self.row.iter_mut().zip(self.along.chunks_exact(stride)) {
            *m = f64::from(dot(simd, z, S::as_simd_f32s(along).0));
        }
        let p = &self.probabilities[item * k..(item + 1) * k];
        let mean: f64 = p.iter().zip(&self.row).map(|(p, m)| p * m).sum();
        for (i, part) in self.partial.chunks_exact_mut(stride).enumerate() {
            let by = simd.splat_f32s((weight * p[i] * (self.row[i] - mean)) as f32);
            for (part, z) in S::as_mut_simd_f32s(part).0.iter_mut().zip(z) {
                *part = simd.mul_add_f32s(by, *z, *part);
            }
        }
    }

    #[inline(always)]
    fn add_diagonal<S: Simd>(&mut self, simd: S, z: &[S::f32s], item: usize, stride: usize) {
        let (k, weight) = (self.k, self.problem.weights[item]);
        if weight == 0.0 {
            return;
        }
        let p = &self.probabilities[item * k..(item + 1) * k];
        for (p, part) in p.iter().zip(self.partial.chunks_exact_mut(stride)) {
            let by = simd.splat_f32s((weight * p * (1.0 - p)) as f32);
            for (part, z) in S::as_mut_simd_f32s(part).0.iter_mut().zip(z) {
                *part = simd.mul_add_f32s(simd.mul_f32s(by, *z), *z, *part);
            }
        }
    }
}
