//! [`Solver`]: tasks and values of C to coefficients whose distance from the optimum is known.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::basis::Basis;
use super::features::Features;
use super::objective::{Penalty, Point, Problem, Weights};
use super::saga::{Local, pass};
use super::task::Task;
use super::{coordinate, direct, newton};
use crate::{Error, Result};

/// Passes over the items between two looks at the duality gap.
const ROUND: usize = 5;
/// More passes of SAGA than this are not waited for.
const MOST_PROMISED: f64 = 50.0;

/// How a probe is fitted. Names are scikit-learn's where it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What keeps coefficients small.
    pub penalty: Penalty,
    /// Whether there is an intercept; it is not penalised.
    pub fit_intercept: bool,
    /// Largest relative duality gap: (P - D) / P.
    pub tol: f64,
    /// Most passes over the items for one C.
    pub max_iter: usize,
    /// Whether a fit that has not come to `tol` is given back, marked, instead of an error.
    pub accept_unconverged: bool,
    /// Seed of the order of items.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            penalty: Penalty::L2,
            fit_intercept: true,
            tol: 1e-6,
            max_iter: 10_000,
            accept_unconverged: false,
            seed: 0,
        }
    }
}

impl Settings {
    pub(super) fn check(&self, cs: &[f64]) -> Result<()> {
        let bad = |what: &str| Err(Error::BadArgument(format!("probe: expected {what}")));
        if cs.is_empty() || cs.iter().any(|c| !(c.is_finite() && *c > 0.0)) {
            return bad("values of C above zero");
        }
        if let Penalty::ElasticNet { l1_ratio } = self.penalty
            && !(0.0..=1.0).contains(&l1_ratio)
        {
            return bad("an l1_ratio from 0 to 1");
        }
        if !(self.tol.is_finite() && self.tol > 0.0) {
            return bad("a tol above zero");
        }
        Ok(())
    }
}

/// The values of C that are tried where none are given: ten from 10⁻⁴ to 10⁴ (`numpy.logspace(-4, 4, 10)`).
pub fn default_cs() -> Vec<f64> {
    (0..10)
        .map(|i| 10f64.powf(-4.0 + 8.0 * f64::from(i) / 9.0))
        .collect()
}

/// One task fitted at one C.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Inverse strength of the penalty.
    pub c: f64,
    /// Coefficients, (K, D); K as [`Task::outputs`].
    pub coef: Vec<f64>,
    /// Intercepts, (K).
    pub intercept: Vec<f64>,
    /// C Σ cᵢ ℓᵢ + r(w), scikit-learn's objective.
    pub objective: f64,
    /// Relative duality gap: the objective is above its minimum by no more than this share of itself.
    pub gap: f64,
    /// Passes over the items.
    pub n_iter: usize,
    /// Steps of the second-order method that finished what SAGA would have needed too many passes for.
    pub polish_steps: usize,
    /// Whether the gap is at most the wanted one.
    pub converged: bool,
}

/// Features ready for any number of tasks and values of C.
pub struct Solver<'a> {
    features: Features<'a>,
    settings: Settings,
    basis: Basis,
}

impl<'a> Solver<'a> {
    /// Finds the basis of the features once for all fits.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where settings are out of range or there are no items.
    pub fn new(features: Features<'a>, settings: &Settings) -> Result<Self> {
        settings.check(&[1.0])?;
        if features.items() == 0 {
            return Err(Error::BadArgument(
                "probe: there are no items to fit".into(),
            ));
        }
        let rotated = settings.penalty.parts().0 == 0.0;
        Ok(Self {
            basis: Basis::new(&features, settings.fit_intercept, rotated)?,
            features,
            settings: settings.clone(),
        })
    }

    /// Every task at every C, (tasks, values of C), each C from the solution of the next smaller one.
    ///
    /// Tasks are spread over the threads; those of one thread share each pass over the items.
    ///
    /// # Errors
    /// `BAD_ARGUMENT` where a task does not fit the features or lacks a class; `DIVERGED` where a fit has not come to the
    /// wanted gap, unless that is accepted.
    pub fn fit_path(&self, tasks: &[Task], cs: &[f64]) -> Result<Vec<Vec<Fit>>> {
        self.settings.check(cs)?;
        tasks
            .iter()
            .try_for_each(|task| task.check(self.features.items()))?;
        let mut order: Vec<usize> = (0..cs.len()).collect();
        order.sort_by(|a, b| cs[*a].total_cmp(&cs[*b]));
        let sorted: Vec<f64> = order.iter().map(|i| cs[*i]).collect();
        let together = tasks
            .len()
            .div_ceil(rayon::current_num_threads())
            .clamp(1, 8);
        let paths: Vec<Vec<Vec<Fit>>> = tasks
            .par_chunks(together)
            .map(|tasks| self.path(tasks, &sorted))
            .collect();
        let mut fits = Vec::with_capacity(tasks.len());
        for path in paths.into_iter().flatten() {
            let mut sorted: Vec<(usize, Fit)> = order.iter().copied().zip(path).collect();
            sorted.sort_by_key(|(place, _)| *place);
            fits.push(sorted.into_iter().map(|(_, fit)| fit).collect());
        }
        if !self.settings.accept_unconverged {
            check_converged(&fits, &self.settings)?;
        }
        Ok(fits)
    }

    /// (tasks, values of C), values ascending.
    fn path(&self, tasks: &[Task], cs: &[f64]) -> Vec<Vec<Fit>> {
        let mut problems: Vec<Problem> = tasks
            .iter()
            .map(|task| Problem::new(task, self.settings.penalty, self.settings.fit_intercept))
            .collect();
        let mut fits: Vec<Vec<Fit>> = tasks.iter().map(|_| Vec::new()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(self.settings.seed);
        let mut shares = vec![1.0; tasks.len()];
        for c in cs {
            problems = problems.into_iter().map(|problem| problem.at(*c)).collect();
            let zero = |task: &Task| {
                let k = task.outputs();
                (vec![0.0; k * self.features.dim()], vec![0.0; k])
            };
            let starts = tasks
                .iter()
                .zip(&fits)
                .map(|(task, fits)| match fits.last() {
                    Some(fit) => (fit.coef.clone(), fit.intercept.clone()),
                    None => zero(task),
                });
            let solved = self.solve(&problems, starts.collect(), &shares, &mut random);
            shares = solved
                .iter()
                .map(|state| (state.share * 1.5).min(1.0))
                .collect();
            for (fits, (problem, state)) in fits.iter_mut().zip(problems.iter().zip(solved)) {
                fits.push(state.fit(*c, problem.scale, self.settings.tol));
            }
        }
        fits
    }

    fn solve(
        &self,
        problems: &[Problem],
        starts: Vec<Weights>,
        shares: &[f64],
        random: &mut ChaCha8Rng,
    ) -> Vec<State> {
        let all: Vec<&Problem> = problems.iter().collect();
        let points = Point::all(&self.features, &all, starts);
        let mut states: Vec<State> = points.into_iter().zip(shares).map(State::new).collect();
        loop {
            let open: Vec<usize> = (0..problems.len())
                .filter(|i| self.is_open(&states[*i]))
                .collect();
            if open.is_empty() {
                return states;
            }
            let (slow, fast): (Vec<usize>, Vec<usize>) =
                open.into_iter().partition(|i| states[*i].is_slow());
            self.round(problems, &mut states, &fast, random);
            match self.settings.penalty.parts().0 > 0.0 {
                true => self.descend(problems, &mut states, &slow),
                false => self.polish(problems, &mut states, &slow),
            }
        }
    }

    /// Passes of SAGA over the items for `open` problems.
    fn round(
        &self,
        problems: &[Problem],
        states: &mut [State],
        open: &[usize],
        random: &mut ChaCha8Rng,
    ) {
        if open.is_empty() {
            return;
        }
        let mut locals: Vec<Local> = open
            .iter()
            .map(|i| {
                Local::new(
                    &self.basis,
                    &problems[*i],
                    &states[*i].point,
                    states[*i].share,
                )
            })
            .collect();
        pass(&self.basis, &mut locals, ROUND, random);
        let ends = locals
            .iter()
            .zip(open)
            .map(|(local, i)| local.end(&self.basis, &states[*i].point));
        let ends = ends.collect();
        let of: Vec<&Problem> = open.iter().map(|i| &problems[*i]).collect();
        for (i, point) in open.iter().zip(Point::all(&self.features, &of, ends)) {
            states[*i].advance(point, self.settings.tol);
        }
    }

    /// A step of Newton's method for `open` problems, halved until it descends.
    fn polish(&self, problems: &[Problem], states: &mut [State], open: &[usize]) {
        if open.is_empty() {
            return;
        }
        let mut left = self.newton_steps(problems, states, open);
        let mut length = 1.0;
        while !left.is_empty() && length > 1e-6 {
            let of: Vec<&Problem> = left.iter().map(|(i, _)| &problems[*i]).collect();
            let ends = left
                .iter()
                .map(|(i, step)| states[*i].moved(step, length))
                .collect();
            let moved = Point::all(&self.features, &of, ends);
            let mut rest = Vec::new();
            for ((i, step), point) in left.into_iter().zip(moved) {
                if states[i].improves(&point) {
                    states[i].point = point;
                } else {
                    rest.push((i, step));
                }
            }
            left = rest;
            length /= 2.0;
        }
        for (i, _) in left {
            states[i].stalled = true;
        }
    }

    /// Newton's steps of `open` problems: by conjugate gradients, until these once took too many products.
    fn newton_steps(
        &self,
        problems: &[Problem],
        states: &mut [State],
        open: &[usize],
    ) -> Vec<(usize, Weights)> {
        let mut steps = Vec::new();
        let mut rest = Vec::new();
        for i in open {
            states[*i].polish_steps += 1;
            let direct = states[*i]
                .direct
                .then(|| direct::step(&self.basis, &problems[*i], &states[*i].point));
            match direct.flatten() {
                Some(step) => {
                    states[*i].n_iter += 1;
                    steps.push((*i, step));
                }
                None => rest.push(*i),
            }
        }
        let of: Vec<&Problem> = rest.iter().map(|i| &problems[*i]).collect();
        let points: Vec<&Point> = rest.iter().map(|i| &states[*i].point).collect();
        let (found, passes) = newton::steps(&self.basis, &of, &points);
        for (i, (step, is_near)) in rest.into_iter().zip(found) {
            states[i].n_iter += passes;
            states[i].direct = !is_near && direct::fits(&self.basis, &problems[i]);
            steps.push((i, step));
        }
        steps
    }

    /// A step of coordinate descent for `open` problems.
    fn descend(&self, problems: &[Problem], states: &mut [State], open: &[usize]) {
        for i in open {
            let (problem, state) = (&problems[*i], &mut states[*i]);
            let Some(end) = coordinate::step(&self.features, problem, &state.point) else {
                state.polishable = false;
                continue;
            };
            state.n_iter += 3 * problem.outputs();
            state.polish_steps += 1;
            let point = Point::all(&self.features, &[problem], vec![end]);
            match point.into_iter().next() {
                Some(point) if state.improves(&point) => state.point = point,
                _ => state.stalled = true,
            }
        }
    }

    fn is_open(&self, state: &State) -> bool {
        state.point.gap > self.settings.tol
            && !state.stalled
            && state.n_iter < self.settings.max_iter
    }
}

/// A problem between two rounds.
struct State {
    point: Point,
    /// Share of the full step.
    share: f64,
    n_iter: usize,
    polish_steps: usize,
    /// Passes that the last round's progress promises to the end.
    promised: f64,
    /// Whether a second-order method can take over.
    polishable: bool,
    /// Whether conjugate gradients took too many products.
    direct: bool,
    /// No method descends any further.
    stalled: bool,
}

impl State {
    fn new((point, share): (Point, &f64)) -> Self {
        Self {
            point,
            share: *share,
            n_iter: 0,
            polish_steps: 0,
            promised: 0.0,
            polishable: true,
            direct: false,
            stalled: false,
        }
    }

    /// Takes the point that SAGA has come to where the objective has not risen; else its steps were too long.
    fn advance(&mut self, point: Point, tol: f64) {
        self.n_iter += ROUND;
        if self.improves(&point) {
            let rate = (self.point.gap / point.gap).ln().max(1e-9);
            self.promised = ROUND as f64 * (point.gap / tol).ln() / rate;
            self.point = point;
        } else {
            self.share /= 3.0;
        }
    }

    fn improves(&self, point: &Point) -> bool {
        let rounding = self.point.value * 1e-13;
        point.value < self.point.value - rounding
            || (point.value <= self.point.value + rounding && point.gap < self.point.gap)
    }

    fn is_slow(&self) -> bool {
        self.polishable && self.n_iter >= 2 * ROUND && self.promised > MOST_PROMISED
    }

    fn moved(&self, (coef, intercept): &Weights, length: f64) -> Weights {
        let moved = |from: &[f64], step: &[f64]| {
            from.iter().zip(step).map(|(x, s)| x + length * s).collect()
        };
        (
            moved(&self.point.coef, coef),
            moved(&self.point.intercept, intercept),
        )
    }

    fn fit(self, c: f64, scale: f64, tol: f64) -> Fit {
        Fit {
            c,
            converged: self.point.gap <= tol,
            objective: self.point.value * scale,
            gap: self.point.gap,
            coef: self.point.coef,
            intercept: self.point.intercept,
            n_iter: self.n_iter,
            polish_steps: self.polish_steps,
        }
    }
}

fn check_converged(fits: &[Vec<Fit>], settings: &Settings) -> Result<()> {
    let open = fits.iter().enumerate().find_map(|(task, fits)| {
        let fit = fits.iter().find(|fit| !fit.converged)?;
        Some((task, fit))
    });
    match open {
        Some((task, fit)) => Err(Error::Diverged(format!(
            "probe: task {task} at C = {} has a relative duality gap of {:.1e} after {} passes, expected {:.1e}; raise max_iter or \
             tol, lower C, or accept the fit as it is",
            fit.c, fit.gap, fit.n_iter, settings.tol
        ))),
        None => Ok(()),
    }
}
