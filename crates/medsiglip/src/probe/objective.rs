//! The objective of logistic regression at a point: loss, gradient, duality gap.
//!
//! scikit-learn minimises P(w, b) = C Σ cᵢ ℓ(yᵢ, w·xᵢ + b) + r(w). With S = Σ cᵢ and λ = 1 / (C S), the same divided by
//! C S is F = Σ cᵢ ℓᵢ / S + λ r(w): a mean and its penalty, what this module and the solver work with. Gaps are relative
//! to P, so that they are the same in both.

use serde::{Deserialize, Serialize};

use super::features::Features;
use super::task::Task;

/// What keeps coefficients small. The intercept is never penalised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// Nothing.
    None,
    /// ‖w‖² / 2.
    #[default]
    L2,
    /// ‖w‖₁.
    L1,
    /// ρ ‖w‖₁ + (1 - ρ) ‖w‖² / 2.
    ElasticNet {
        /// ρ, from 0 to 1.
        l1_ratio: f64,
    },
}

impl Penalty {
    /// The weights of ‖w‖₁ and of ‖w‖² / 2.
    pub(super) fn parts(self) -> (f64, f64) {
        match self {
            Self::None => (0.0, 0.0),
            Self::L2 => (0.0, 1.0),
            Self::L1 => (1.0, 0.0),
            Self::ElasticNet { l1_ratio } => (l1_ratio, 1.0 - l1_ratio),
        }
    }
}

/// Coefficients (K, D) and intercepts (K).
pub(super) type Weights = (Vec<f64>, Vec<f64>);

/// One task at one C.
#[derive(Debug, Clone)]
pub(super) struct Problem<'a> {
    pub task: &'a Task,
    /// Weights with mean 1 over the items that count, (N).
    pub weights: Vec<f64>,
    /// Items that count.
    pub count: f64,
    /// C S.
    pub scale: f64,
    /// λρ and λ(1-ρ).
    pub l1: f64,
    pub l2: f64,
    pub fit_intercept: bool,
}

impl<'a> Problem<'a> {
    pub fn new(task: &'a Task, penalty: Penalty, fit_intercept: bool) -> Self {
        let sum: f64 = task.weights().iter().sum();
        let count = task.weights().iter().filter(|w| **w > 0.0).count() as f64;
        let (l1, l2) = penalty.parts();
        Self {
            task,
            weights: task.weights().iter().map(|w| w * count / sum).collect(),
            count,
            scale: sum,
            l1: l1 / sum,
            l2: l2 / sum,
            fit_intercept,
        }
    }

    /// The same at another C.
    pub fn at(mut self, c: f64) -> Self {
        let sum: f64 = self.task.weights().iter().sum();
        (self.l1, self.l2) = (
            self.l1 * self.scale / (c * sum),
            self.l2 * self.scale / (c * sum),
        );
        self.scale = c * sum;
        self
    }

    pub fn outputs(&self) -> usize {
        self.task.outputs()
    }

    /// λ r(w).
    pub fn penalty(&self, coef: &[f64]) -> f64 {
        let l1: f64 = coef.iter().map(|w| w.abs()).sum();
        let l2: f64 = coef.iter().map(|w| w * w).sum();
        self.l1 * l1 + self.l2 * l2 / 2.0
    }

    /// The mean loss of margins (N, K).
    pub fn loss(&self, margins: &[f64]) -> f64 {
        let k = self.outputs();
        let items = self.weights.iter().zip(self.task.labels());
        let sum: f64 = items
            .zip(margins.chunks_exact(k))
            .filter(|((weight, _), _)| **weight > 0.0)
            .map(|((weight, label), margins)| weight * loss(margins, *label))
            .sum();
        sum / self.count
    }

    /// Weighted residuals (N, K): the derivative of each item's loss by its margins.
    pub fn residuals(&self, margins: &[f64]) -> Vec<f64> {
        let k = self.outputs();
        let mut residuals = margins.to_vec();
        let items = self.weights.iter().zip(self.task.labels());
        for ((weight, label), row) in items.zip(residuals.chunks_exact_mut(k)) {
            residual(row, *label, *weight);
        }
        residuals
    }

    /// Takes from the outputs of several classes what all have in common: no probability changes, and ‖w‖² is least.
    fn settle_classes(&self, coef: &mut [f64], intercept: &mut [f64]) {
        let k = self.outputs();
        if k == 1 {
            return;
        }
        let center = |values: &mut [f64]| {
            let d = values.len() / k;
            for j in 0..d {
                let mean = values.iter().skip(j).step_by(d).sum::<f64>() / k as f64;
                values
                    .iter_mut()
                    .skip(j)
                    .step_by(d)
                    .for_each(|x| *x -= mean);
            }
        };
        center(intercept);
        if self.l1 == 0.0 {
            center(coef);
        }
    }

    /// Brings the intercepts to their optimum for these coefficients (Newton's method), and margins with them.
    pub fn settle_intercept(&self, margins: &mut [f64], intercept: &mut [f64]) {
        let k = self.outputs();
        let mut value = self.loss(margins);
        for _ in 0..50 {
            let (gradient, step) = self.intercept_step(margins);
            let decrement: f64 = gradient.iter().zip(&step).map(|(g, s)| g * s).sum();
            if decrement < 1e-30 {
                break;
            }
            let mut share = 1.0;
            let moved = loop {
                let mut moved = margins.to_vec();
                for row in moved.chunks_exact_mut(k) {
                    row.iter_mut().zip(&step).for_each(|(m, s)| *m -= share * s);
                }
                let new = self.loss(&moved);
                if new < value || share < 1e-3 {
                    break (new < value).then_some((moved, new));
                }
                share /= 2.0;
            };
            let Some((moved, new)) = moved else { break };
            margins.copy_from_slice(&moved);
            value = new;
            intercept
                .iter_mut()
                .zip(&step)
                .for_each(|(b, s)| *b -= share * s);
        }
    }

    /// Gradient by the intercepts and Newton's step, of sum zero over classes.
    fn intercept_step(&self, margins: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let k = self.outputs();
        let mut gradient = vec![0.0; k];
        let mut hessian = faer::Mat::<f64>::zeros(k, k);
        let mut p = vec![0.0; k];
        let items = self.weights.iter().zip(self.task.labels());
        for ((weight, label), row) in items.zip(margins.chunks_exact(k)) {
            if *weight == 0.0 {
                continue;
            }
            p.copy_from_slice(row);
            probabilities(&mut p);
            for i in 0..k {
                let truth = f64::from(u8::from(is_class(k, i, *label)));
                gradient[i] += weight * (p[i] - truth) / self.count;
                for j in 0..k {
                    let one = f64::from(u8::from(i == j));
                    hessian[(i, j)] += weight * p[i] * (one - p[j]) / self.count;
                }
            }
        }
        if k > 1 {
            // The direction in which all intercepts move together changes nothing.
            for i in 0..k {
                for j in 0..k {
                    hessian[(i, j)] += 1.0 / (k * k) as f64;
                }
            }
        }
        for i in 0..k {
            hessian[(i, i)] += 1e-14;
        }
        let right = faer::Mat::from_fn(k, 1, |i, _| gradient[i]);
        use faer::linalg::solvers::Solve;
        let step = hessian.partial_piv_lu().solve(&right);
        (gradient, (0..k).map(|i| step[(i, 0)]).collect())
    }
}

/// Whether output `i` of `k` is that of the class.
pub(super) fn is_class(k: usize, i: usize, label: usize) -> bool {
    if k == 1 { label == 1 } else { i == label }
}

/// Probabilities in place of margins: the sigmoid of one, the softmax of several.
pub(super) fn probabilities(margins: &mut [f64]) {
    if let [margin] = margins {
        *margin = 1.0 / (1.0 + (-*margin).exp());
        return;
    }
    let max = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    margins.iter_mut().for_each(|m| *m = (*m - max).exp());
    let sum: f64 = margins.iter().sum();
    margins.iter_mut().for_each(|m| *m /= sum);
}

/// The weighted derivative of an item's loss in place of its margins.
pub(super) fn residual(margins: &mut [f64], label: usize, weight: f64) {
    if let [margin] = margins {
        // The smaller of p and 1 - p, so that both are exact.
        let small = 1.0 / (1.0 + margin.abs().exp());
        let towards = (*margin > 0.0) == (label == 1);
        let size = if towards { small } else { 1.0 - small };
        *margin = if label == 1 {
            -weight * size
        } else {
            weight * size
        };
        return;
    }
    probabilities(margins);
    // As the sum of the others, which is exact where the class is certain.
    let others: f64 = margins
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != label)
        .map(|(_, p)| p)
        .sum();
    margins[label] = -others;
    margins.iter_mut().for_each(|r| *r *= weight);
}

fn loss(margins: &[f64], label: usize) -> f64 {
    if let [margin] = margins {
        let against = if label == 1 { -margin } else { *margin };
        return against.max(0.0) + (-against.abs()).exp().ln_1p();
    }
    let max = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let others = margins.iter().enumerate().filter(|(i, _)| *i != label);
    if margins[label] == max {
        // Exact to the last bits however small it is.
        return others.map(|(_, m)| (m - max).exp()).sum::<f64>().ln_1p();
    }
    let sum: f64 = margins.iter().map(|m| (m - max).exp()).sum();
    sum.ln() + max - margins[label]
}

/// Where a problem stands: everything in double precision, on the features as they are given.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// (K, D).
    pub coef: Vec<f64>,
    /// (K).
    pub intercept: Vec<f64>,
    /// (N, K).
    pub margins: Vec<f64>,
    /// Weighted residuals, (N, K).
    pub residuals: Vec<f64>,
    /// Gradient of the mean loss by the coefficients, (K, D).
    pub gradient: Vec<f64>,
    /// F.
    pub value: f64,
    /// Upper bound of (F - F*) / F.
    pub gap: f64,
}

impl Point {
    /// All points at once, so that features are read twice for all of them. Intercepts are settled first.
    pub fn all(features: &Features, problems: &[&Problem], mut starts: Vec<Weights>) -> Vec<Self> {
        for (problem, (coef, intercept)) in problems.iter().zip(&mut starts) {
            problem.settle_classes(coef, intercept);
        }
        let (dim, n) = (features.dim(), features.items());
        let coefs: Vec<f64> = starts.iter().flat_map(|(coef, _)| coef).copied().collect();
        let all = coefs.len() / dim;
        let products = features.times(&coefs);
        let mut points = Vec::with_capacity(starts.len());
        let mut residuals = vec![0.0; n * all];
        let mut first = 0;
        for (problem, (coef, mut intercept)) in problems.iter().zip(starts) {
            let k = problem.outputs();
            let mut margins = vec![0.0; n * k];
            for (margins, products) in margins.chunks_exact_mut(k).zip(products.chunks_exact(all)) {
                for i in 0..k {
                    margins[i] = products[first + i] + intercept[i];
                }
            }
            if problem.fit_intercept {
                problem.settle_intercept(&mut margins, &mut intercept);
            }
            let own = problem.residuals(&margins);
            for (all, own) in residuals.chunks_exact_mut(all).zip(own.chunks_exact(k)) {
                all[first..first + k].copy_from_slice(own);
            }
            let value = problem.loss(&margins) + problem.penalty(&coef);
            points.push(Self {
                coef,
                intercept,
                margins,
                residuals: own,
                gradient: Vec::new(),
                value,
                gap: f64::INFINITY,
            });
            first += k;
        }
        let mut gradients = features.transposed_times(&residuals, all);
        for (problem, point) in problems.iter().zip(&mut points) {
            let rest = gradients.split_off(problem.outputs() * dim);
            gradients.iter_mut().for_each(|g| *g /= problem.count);
            point.gradient = std::mem::replace(&mut gradients, rest);
            point.gap = point.gap(problem);
        }
        points
    }

    /// (F(w) - D(α)) / F(w) for the residuals as dual point α, scaled by s until it is feasible. As the residuals are
    /// derivatives of the losses, the sum of losses and conjugates is closed form (Fenchel-Young), and for s = 1
    /// the gap is Σⱼ r(wⱼ) + r*(-gⱼ) + wⱼ gⱼ: ‖∇F‖² / 2λ for l2.
    fn gap(&self, problem: &Problem) -> f64 {
        let pairs = || self.coef.iter().zip(&self.gradient);
        let sum: f64 = if problem.l2 > 0.0 {
            // r*(-g) of l1 |w| + l2 w² / 2 is (|g| - l1)₊² / (2 l2); completed to a square where w is not zero.
            let terms = pairs().map(|(w, g)| {
                let over = (g.abs() - problem.l1).max(0.0);
                problem.l1 * w.abs() + w * g + (problem.l2 * w * w + over * over / problem.l2) / 2.0
            });
            terms.map(|term| term.max(0.0)).sum()
        } else if problem.l1 > 0.0 {
            return self.l1_gap(problem) + self.intercept_slack(problem);
        } else {
            // Without a penalty the dual is feasible at the optimum alone. Convexity gives F - F* <= ‖∇F‖ ‖w - w*‖.
            let norm =
                |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            norm(&mut self.gradient.iter().copied())
                * norm(&mut self.coef.iter().copied()).max(1e-3)
        };
        sum / self.value + self.intercept_slack(problem)
    }

    fn l1_gap(&self, problem: &Problem) -> f64 {
        let most = self
            .gradient
            .iter()
            .fold(0.0f64, |most, g| most.max(g.abs()));
        let s = if most > problem.l1 {
            problem.l1 / most
        } else {
            1.0
        };
        let k = problem.outputs();
        let items = problem.weights.iter().zip(problem.task.labels());
        let entropies: f64 = items
            .zip(self.residuals.chunks_exact(k))
            .filter(|((weight, _), _)| **weight > 0.0)
            .map(|((weight, label), residuals)| weight * entropy(residuals, *label, *weight, s))
            .sum();
        ((self.value - entropies / problem.count) / self.value).max(0.0)
    }

    /// What the bound loses as the gradient by the intercepts is not quite zero, for intercepts that move by no more
    /// than 1 + |b|.
    fn intercept_slack(&self, problem: &Problem) -> f64 {
        if !problem.fit_intercept {
            return 0.0;
        }
        let k = problem.outputs();
        let mut slack = 0.0;
        for (i, b) in self.intercept.iter().enumerate() {
            let sum: f64 = self.residuals.iter().skip(i).step_by(k).sum();
            slack += (sum / problem.count).abs() * (1.0 + b.abs());
        }
        slack / self.value
    }
}

/// -ℓ*(-α): the entropy of the class probabilities that are y + s (p - y).
fn entropy(residuals: &[f64], label: usize, weight: f64, s: f64) -> f64 {
    let term = |q: f64| if q > 0.0 { -q * q.ln() } else { 0.0 };
    // The class itself, whose probability falls short of 1 by so much.
    let of_class = |short: f64| {
        if short < 1.0 {
            -(1.0 - short) * (-short).ln_1p()
        } else {
            0.0
        }
    };
    if let [residual] = residuals {
        let short = s * residual.abs() / weight;
        return term(short) + of_class(short);
    }
    let mut sum = 0.0;
    for (i, residual) in residuals.iter().enumerate() {
        let moved = s * residual / weight;
        sum += if i == label {
            of_class(-moved)
        } else {
            term(moved)
        };
    }
    sum
}
