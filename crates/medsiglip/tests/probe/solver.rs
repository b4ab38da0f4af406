//! Data that a solver could stumble over.

use medsiglip::probe::{
    ClassWeight, Features, Fit, Penalty, Scaler, Settings, Solver, Task, default_cs,
};

use crate::{differs, features, fit};

/// Two classes that no line separates, a column that is constant, and every row twice.
fn awkward() -> (Features<'static>, Task) {
    let mut x = features(60, 6, 7);
    x.iter_mut().skip(2).step_by(6).for_each(|x| *x = 5.0);
    let twice: Vec<f64> = x
        .chunks_exact(6)
        .flat_map(|row| [row, row].concat())
        .collect();
    let labels = (0..120).map(|i| usize::from(i % 7 < 3)).collect();
    (
        Features::f64(6, twice).unwrap(),
        Task::new(2, labels).unwrap(),
    )
}

fn message(result: medsiglip::Result<Fit>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn constant_columns_and_duplicate_rows_are_no_trouble() {
    let (x, task) = awkward();
    for penalty in [
        Penalty::None,
        Penalty::L2,
        Penalty::L1,
        Penalty::ElasticNet { l1_ratio: 0.5 },
    ] {
        let settings = Settings {
            penalty,
            tol: 1e-9,
            ..Settings::default()
        };
        let fit = fit(x.clone(), task.clone(), &settings, 2.0).unwrap();
        // What the intercept can do for nothing is done by it.
        assert!(fit.coef[2].abs() < 1e-6, "{penalty:?} {:?}", fit.coef);
        assert!(fit.gap <= 1e-9 && fit.converged);
    }
}

#[test]
fn a_weight_of_two_is_the_item_twice() {
    let (x, task) = awkward();
    let once: Vec<usize> = (0..120).step_by(2).collect();
    let labels: Vec<usize> = (0..60).map(|i| usize::from(i % 5 < 2)).collect();
    let settings = Settings {
        tol: 1e-12,
        ..Settings::default()
    };
    let both: Vec<usize> = labels.iter().flat_map(|l| [*l, *l]).collect();
    let twice = fit(x.clone(), Task::new(2, both).unwrap(), &settings, 0.5).unwrap();
    let weighted = Task::new(2, labels)
        .unwrap()
        .sample_weight(&[2.0; 60])
        .unwrap();
    let weighted = fit(x.select(&once).unwrap(), weighted, &settings, 0.5).unwrap();
    assert!((twice.objective / weighted.objective - 1.0).abs() < 1e-10);
    assert!(differs(&twice.coef, &weighted.coef, false, 2) < 1e-4);
    // An item of weight zero is not there.
    let mut weights = vec![1.0; 120];
    weights[100..].fill(0.0);
    let masked = task.clone().sample_weight(&weights).unwrap();
    let first: Vec<usize> = (0..100).collect();
    let masked = fit(x.clone(), masked, &settings, 0.5).unwrap();
    let cut = fit(
        x.select(&first).unwrap(),
        task.select(&first).unwrap(),
        &settings,
        0.5,
    )
    .unwrap();
    assert!((masked.objective / cut.objective - 1.0).abs() < 1e-10);
}

#[test]
fn more_features_than_items_and_one_item_a_class() {
    let x = Features::f64(300, features(4, 300, 3)).unwrap();
    for (classes, labels) in [(2, vec![0, 0, 1, 0]), (4, vec![0, 1, 2, 3])] {
        for penalty in [Penalty::L2, Penalty::L1] {
            for c in [1e-4, 1.0, 1e4] {
                let settings = Settings {
                    penalty,
                    ..Settings::default()
                };
                let fit = fit(
                    x.clone(),
                    Task::new(classes, labels.clone()).unwrap(),
                    &settings,
                    c,
                );
                let fit = fit.unwrap_or_else(|e| panic!("{classes} classes, {penalty:?}: {e}"));
                assert!(fit.gap <= 1e-6, "{classes} {penalty:?} {c}: {}", fit.gap);
            }
        }
    }
}

#[test]
fn what_is_not_converged_is_told() {
    let (x, task) = awkward();
    let mut settings = Settings {
        max_iter: 1,
        tol: 1e-14,
        ..Settings::default()
    };
    let (code, text) = message(fit(x.clone(), task.clone(), &settings, 1.0));
    assert_eq!(code, "DIVERGED");
    assert!(
        text.contains("task 0 at C = 1 has a relative duality gap of"),
        "{text}"
    );
    settings.accept_unconverged = true;
    let fit = fit(x, task, &settings, 1.0).unwrap();
    assert!(!fit.converged && fit.gap > 1e-14);
}

#[test]
fn separable_classes_without_penalty_have_no_optimum() {
    let x = Features::f64(1, vec![-2.0, -1.0, 1.0, 2.0]).unwrap();
    let task = Task::new(2, vec![0, 0, 1, 1]).unwrap();
    let settings = Settings {
        penalty: Penalty::None,
        max_iter: 500,
        ..Settings::default()
    };
    assert_eq!(message(fit(x, task, &settings, 1.0)).0, "DIVERGED");
}

#[test]
fn bad_input_is_named() {
    let nan = Features::f32(3, vec![0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0]).unwrap_err();
    assert_eq!(nan.code(), "BAD_ARGUMENT");
    assert!(nan.to_string().contains("row 1, column 1"), "{nan}");
    let (x, _) = awkward();
    let settings = Settings::default();
    let one = Task::new(3, (0..120).map(|i| i % 2 * 2).collect()).unwrap();
    let (code, text) = message(fit(x.clone(), one, &settings, 1.0));
    assert_eq!(code, "BAD_ARGUMENT");
    assert!(text.ends_with("got none of class 1"), "{text}");
    let all_positive = Task::binary(&[Some(true); 120]);
    assert!(
        message(fit(x.clone(), all_positive, &settings, 1.0))
            .1
            .ends_with("class 0")
    );
    let short = Task::new(2, vec![0, 1]).unwrap();
    assert!(
        message(fit(x.clone(), short, &settings, 1.0))
            .1
            .contains("each of 120 items, got 2")
    );
    let (_, task) = awkward();
    for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(
            message(fit(x.clone(), task.clone(), &settings, c)).0,
            "BAD_ARGUMENT"
        );
    }
    assert!(task.clone().sample_weight(&[-1.0; 120]).is_err());
    assert!(
        task.clone()
            .class_weight(&ClassWeight::Given(vec![1.0]))
            .is_err()
    );
    assert!(Task::new(2, vec![0, 2]).is_err());
}

#[test]
fn single_precision_paths_and_threads_come_to_the_same_optimum() {
    let x64 = features(200, 40, 11);
    let labels: Vec<usize> = (0..200)
        .map(|i| usize::from((x64[i * 40] > 0.5) != (i % 6 == 0)))
        .collect();
    let tasks = vec![Task::new(2, labels).unwrap(); 5];
    let x32: Vec<f32> = x64.iter().map(|x| *x as f32).collect();
    let same64: Vec<f64> = x32.iter().map(|x| f64::from(*x)).collect();
    let settings = Settings::default();
    let cs = [10.0, 0.01, 1.0];
    let path = |features: Features| {
        Solver::new(features, &settings)
            .unwrap()
            .fit_path(&tasks, &cs)
            .unwrap()
    };
    let single = path(Features::f32(40, x32.clone()).unwrap());
    let double = path(Features::f64(40, same64).unwrap());
    for (fits, others) in single.iter().zip(&double) {
        for ((fit, other), c) in fits.iter().zip(others).zip(cs) {
            assert_eq!(fit.c, c);
            assert!((fit.objective / other.objective - 1.0).abs() < 2e-6);
        }
    }
    // One task alone does not depend on how many there are beside it, up to the gap.
    let alone = Solver::new(Features::f32(40, x32).unwrap(), &settings).unwrap();
    let alone = alone.fit_path(&tasks[..1], &[1.0]).unwrap();
    assert!((alone[0][0].objective / single[0][2].objective - 1.0).abs() < 2e-6);
}

#[test]
fn features_that_are_the_same_for_all_items_give_the_prevalence() {
    let x = vec![2.5f32; 40 * 3];
    let labels: Vec<Option<bool>> = (0..40).map(|i| Some(i % 4 == 0)).collect();
    let solver = Solver::new(Features::f32(3, x).unwrap(), &Settings::default()).unwrap();
    let fit = &solver.fit_path(&[Task::binary(&labels)], &[1.0]).unwrap()[0][0];
    assert!(
        fit.converged && fit.coef.iter().all(|w| *w == 0.0),
        "{fit:?}"
    );
    // A quarter is positive: the logit of one in three.
    assert!(
        (fit.intercept[0] - (1.0f64 / 3.0).ln()).abs() < 1e-6,
        "{fit:?}"
    );
}

/// Fewer items than columns are always separable: with a weak penalty most items weigh next to nothing.
#[test]
fn separable_classes_come_to_their_gap_at_every_strength() {
    let (n, d) = (150, 192);
    let x = features(n, d, 11);
    for classes in [2, 3] {
        let labels: Vec<usize> = (0..n).map(|i| i % classes).collect();
        let task = Task::new(classes, labels).unwrap();
        for standardize in [false, true] {
            let mut of = Features::f64(d, x.clone()).unwrap();
            if standardize {
                of = of.scaled(&Scaler::new(&of)).unwrap();
            }
            let solver = Solver::new(of, &Settings::default()).unwrap();
            let fits = &solver
                .fit_path(std::slice::from_ref(&task), &default_cs())
                .unwrap()[0];
            for fit in fits {
                println!(
                    "{classes} {standardize} {:.1e} gap {:.1e} {} {}",
                    fit.c, fit.gap, fit.n_iter, fit.polish_steps
                );
                assert!(
                    fit.converged && fit.n_iter < 2000,
                    "{classes} classes, C {}: {} after {}",
                    fit.c,
                    fit.gap,
                    fit.n_iter
                );
            }
        }
    }
}
