//! The solver beside scikit-learn's (`scripts/make_probe_golden.py`) and beside L-BFGS.

use medsiglip::probe::{ClassWeight, Features, Penalty, Scaler, Settings, Solver, Task};
use serde::Deserialize;

use crate::{differs, features, fit, uniforms};

#[derive(Deserialize)]
struct Case {
    name: String,
    n: usize,
    d: usize,
    seed: u64,
    classes: usize,
    c: f64,
    l1_ratio: Option<f64>,
    fit_intercept: bool,
    class_weight: Option<serde_json::Value>,
    sample_weight: bool,
    standardize: bool,
    one_vs_rest: bool,
    labels: String,
    objective: f64,
    coef: Vec<f64>,
    intercept: Vec<f64>,
}

impl Case {
    fn all() -> Vec<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/probe.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn features(&self) -> Features<'static> {
        let x = Features::f64(self.d, features(self.n, self.d, self.seed)).unwrap();
        match self.standardize {
            true => x.scaled(&Scaler::new(&x)).unwrap(),
            false => x,
        }
    }

    fn tasks(&self) -> Vec<Task> {
        let labels = self
            .labels
            .bytes()
            .map(|digit| usize::from(digit - b'0'))
            .collect();
        let mut task = Task::new(self.classes, labels).unwrap();
        if self.sample_weight {
            let weights: Vec<f64> = uniforms(self.seed + 2, self.n)
                .iter()
                .map(|u| u + 0.5)
                .collect();
            task = task.sample_weight(&weights).unwrap();
        }
        if let Some(weight) = &self.class_weight {
            let weight = match weight.as_str() {
                Some("balanced") => ClassWeight::Balanced,
                _ => ClassWeight::Given(serde_json::from_value(weight.clone()).unwrap()),
            };
            task = task.class_weight(&weight).unwrap();
        }
        match self.one_vs_rest {
            true => task.one_vs_rest(),
            false => vec![task],
        }
    }

    fn settings(&self) -> Settings {
        let penalty = match self.l1_ratio {
            None => Penalty::None,
            Some(0.0) => Penalty::L2,
            Some(1.0) => Penalty::L1,
            Some(l1_ratio) => Penalty::ElasticNet { l1_ratio },
        };
        Settings {
            penalty,
            fit_intercept: self.fit_intercept,
            tol: 1e-12,
            ..Settings::default()
        }
    }

    fn c(&self) -> f64 {
        if self.l1_ratio.is_none() { 1.0 } else { self.c }
    }
}

#[test]
fn objective_and_coefficients_are_those_of_scikit_learn() {
    for case in Case::all() {
        let solver = Solver::new(case.features(), &case.settings()).unwrap();
        let fits = solver.fit_path(&case.tasks(), &[case.c()]).unwrap();
        let objective: f64 = fits.iter().map(|fits| fits[0].objective).sum();
        let coef: Vec<f64> = fits.iter().flat_map(|fits| fits[0].coef.clone()).collect();
        let intercept: Vec<f64> = fits
            .iter()
            .flat_map(|fits| fits[0].intercept.clone())
            .collect();
        let worse = objective / case.objective - 1.0;
        // What is not penalised may move by the same amount in all classes, and no probability changes.
        let free = case.classes > 2 && !case.one_vs_rest;
        let coef = differs(
            &coef,
            &case.coef,
            free && case.l1_ratio.is_none(),
            case.classes,
        );
        let intercept = differs(&intercept, &case.intercept, free, case.classes);
        println!(
            "{}: objective {worse:+.1e}, coefficients {coef:.1e}, intercepts {intercept:.1e}, {} passes, {} polishing steps",
            case.name, fits[0][0].n_iter, fits[0][0].polish_steps
        );
        assert!(worse.abs() < 1e-6, "{}: objective {worse:e}", case.name);
        assert!(
            coef < 1e-4 && intercept < 1e-4,
            "{}: {coef:e} {intercept:e}",
            case.name
        );
    }
}

/// scikit-learn's objective for two classes and l2; the intercept comes last.
struct Objective<'a> {
    x: &'a [f64],
    y: &'a [usize],
    c: f64,
}

impl Objective<'_> {
    fn margins(&self, at: &[f64]) -> Vec<f64> {
        let (w, b) = (&at[..at.len() - 1], at[at.len() - 1]);
        let row = |row: &[f64]| b + row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        self.x.chunks_exact(w.len()).map(row).collect()
    }
}

impl argmin::core::CostFunction for Objective<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        let losses = self.margins(at).into_iter().zip(self.y).map(|(m, y)| {
            let against = if *y == 1 { -m } else { m };
            against.max(0.0) + (-m.abs()).exp().ln_1p()
        });
        let norm: f64 = at[..at.len() - 1].iter().map(|w| w * w).sum();
        Ok(self.c * losses.sum::<f64>() + norm / 2.0)
    }
}

impl argmin::core::Gradient for Objective<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, at: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        let d = at.len() - 1;
        let mut gradient = at.clone();
        gradient[d] = 0.0;
        for ((m, y), row) in self
            .margins(at)
            .into_iter()
            .zip(self.y)
            .zip(self.x.chunks_exact(d))
        {
            let r = self.c * (1.0 / (1.0 + (-m).exp()) - *y as f64);
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += r * x);
            gradient[d] += r;
        }
        Ok(gradient)
    }
}

#[test]
fn l_bfgs_comes_to_the_same_optimum() {
    use argmin::core::{Executor, State};
    use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
    let x = Features::f64(20, features(300, 20, 42)).unwrap();
    let x = x.scaled(&Scaler::new(&x)).unwrap();
    let rows = x.to_f64();
    let noise = uniforms(9, 300);
    let y: Vec<usize> = (0..300)
        .map(|i| usize::from(rows[i * 20 + 3] + (noise[i] - 0.5) * 6.0 > 0.4))
        .collect();
    for c in [0.01, 1.0, 100.0] {
        let problem = Objective { x: &rows, y: &y, c };
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10)
            .with_tolerance_cost(0.0)
            .unwrap();
        let executor = Executor::new(problem, solver)
            .configure(|state| state.param(vec![0.0; 21]).max_iters(5000));
        let result = executor.run().unwrap();
        let best = result.state().get_best_param().unwrap();
        let settings = Settings {
            tol: 1e-12,
            ..Settings::default()
        };
        let ours = fit(x.clone(), Task::new(2, y.clone()).unwrap(), &settings, c).unwrap();
        let theirs = result.state().get_best_cost();
        assert!(
            (ours.objective / theirs - 1.0).abs() < 1e-10,
            "{c}: {} {theirs}",
            ours.objective
        );
        assert!(differs(&ours.coef, &best[..20], false, 2) < 1e-4, "{c}");
        assert!((ours.intercept[0] - best[20]).abs() < 1e-4 * best[20].abs().max(1e-2));
    }
}
