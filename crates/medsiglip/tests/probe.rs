//! The probe's solver beside scikit-learn's (`scripts/make_probe_golden.py`), and on data that a solver could stumble over.

use medsiglip::embedding::{Embeddings, Provenance};
use medsiglip::probe::{
    ClassWeight, Features, Fit, Head, Kind, Penalty, Probe, Recipe, Scaler, Score, Settings,
    Solver, Split, Task, default_cs, folds, subsets,
};
use serde::Deserialize;

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

/// SplitMix64, as in the script.
fn uniforms(mut seed: u64, count: usize) -> Vec<f64> {
    let mut next = || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / 2f64.powi(53)
    };
    (0..count).map(|_| next()).collect()
}

/// As in the script: (N, D).
fn features(n: usize, d: usize, seed: u64) -> Vec<f64> {
    let u = uniforms(seed, n * 5 + 5 * d + n * d + 2 * d);
    let (factors, u) = u.split_at(n * 5);
    let (loadings, u) = u.split_at(5 * d);
    let (noise, u) = u.split_at(n * d);
    let (scales, means) = u.split_at(d);
    let column = |i: usize, j: usize| {
        let of_factors: f64 = [8.0, 4.0, 2.0, 1.0, 0.5]
            .iter()
            .enumerate()
            .map(|(f, size)| (factors[i * 5 + f] - 0.5) * size * (loadings[f * d + j] - 0.5))
            .sum();
        let scale = 4f64.powf(2.0 * scales[j] - 1.0);
        (of_factors + (noise[i * d + j] - 0.5) * 0.5) * scale + (means[j] - 0.5) * 4.0 * scale
    };
    (0..n)
        .flat_map(|i| (0..d).map(move |j| (i, j)))
        .map(|(i, j)| column(i, j))
        .collect()
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

fn fit(features: Features, task: Task, settings: &Settings, c: f64) -> medsiglip::Result<Fit> {
    Ok(Solver::new(features, settings)?
        .fit_path(&[task], &[c])?
        .remove(0)
        .remove(0))
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

/// The largest difference beside what it should be, numbers below a thousandth of the largest beside that; both less
/// their means over classes where they are `free`.
fn differs(ours: &[f64], theirs: &[f64], free: bool, classes: usize) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let settled = |values: &[f64]| {
        let mut values = values.to_vec();
        if free {
            let d = values.len() / classes;
            for j in 0..d {
                let mean = values.iter().skip(j).step_by(d).sum::<f64>() / classes as f64;
                values
                    .iter_mut()
                    .skip(j)
                    .step_by(d)
                    .for_each(|x| *x -= mean);
            }
        }
        values
    };
    let (ours, theirs) = (settled(ours), settled(theirs));
    let largest = theirs.iter().fold(1e-9f64, |most, x| most.max(x.abs()));
    let differences = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| (a - b).abs() / b.abs().max(largest * 1e-3));
    differences.fold(0.0, f64::max)
}

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
fn folds_and_subsets_keep_classes_even_and_groups_whole() {
    let labels: Vec<usize> = (0..600)
        .map(|i| usize::from(i % 10 == 0) + usize::from(i % 25 == 0))
        .collect();
    let groups: Vec<usize> = (0..600).map(|i| i / 3).collect();
    for groups in [None, Some(groups.as_slice())] {
        let splits = folds(&labels, groups, 5, 1).unwrap();
        let mut held: Vec<usize> = splits.iter().flat_map(|split| split.held.clone()).collect();
        held.sort_unstable();
        assert_eq!(held, (0..600).collect::<Vec<_>>());
        for split in &splits {
            assert_eq!(split.train.len() + split.held.len(), 600);
            for class in 0..3 {
                let of =
                    |items: &[usize]| items.iter().filter(|i| labels[**i] == class).count() as f64;
                let all: Vec<usize> = (0..600).collect();
                let off = (of(&split.held) - of(&all) / 5.0).abs();
                // To one item; to one group where these are whole.
                assert!(
                    off < if groups.is_some() { 3.0 } else { 1.0 },
                    "class {class}: {off}"
                );
            }
        }
        let sizes = [64, 128, 512, 600];
        let nested = subsets(&labels, groups, &sizes, 2).unwrap();
        for (subset, size) in nested.iter().zip(sizes) {
            assert!(subset.len() <= size && subset.len() > size - 3);
            assert!((0..3).all(|class| subset.iter().any(|item| labels[*item] == class)));
        }
        assert!(
            nested
                .windows(2)
                .all(|pair| pair[0].iter().all(|item| pair[1].contains(item)))
        );
        assert_ne!(nested[0], subsets(&labels, groups, &sizes, 3).unwrap()[0]);
        assert_eq!(nested, subsets(&labels, groups, &sizes, 2).unwrap());
        if groups.is_some() {
            let fold_of = |item: usize| splits.iter().position(|split| split.held.contains(&item));
            assert!((0..600).all(|item| fold_of(item) == fold_of(item / 3 * 3)));
            let has = |item: usize| nested[1].contains(&item);
            assert!((0..600).all(|item| has(item) == has(item / 3 * 3)));
        }
    }
    // As many of each class as its share says, to one item, however small the subset.
    let halves: Vec<usize> = (0..100).map(|i| i % 2).collect();
    for (subset, size) in subsets(&halves, None, &[2, 7, 50], 0)
        .unwrap()
        .iter()
        .zip([2, 7, 50])
    {
        let ones = subset.iter().filter(|item| halves[**item] == 1).count();
        assert!(subset.len() == size && ones.abs_diff(size / 2) <= 1);
    }
    assert_eq!(
        folds(&[0, 0, 0, 1], None, 2, 0).unwrap_err().code(),
        "BAD_ARGUMENT"
    );
    assert_eq!(
        folds(&[0, 1], Some(&[0]), 2, 0).unwrap_err().code(),
        "BAD_ARGUMENT"
    );
    for size in [1, 101] {
        assert_eq!(
            subsets(&halves, None, &[size], 0).unwrap_err().code(),
            "BAD_ARGUMENT"
        );
    }
}

/// Few items and many columns, of which one matters: little C is best, and much overfits.
fn noisy() -> (Vec<f64>, Vec<usize>) {
    let (n, d) = (160, 60);
    let x: Vec<f64> = uniforms(5, n * d).iter().map(|u| u - 0.5).collect();
    let noise = uniforms(6, n);
    let labels = (0..n)
        .map(|i| usize::from(x[i * d] + (noise[i] - 0.5) * 0.8 > 0.0))
        .collect();
    (x, labels)
}

#[test]
fn the_chosen_c_is_the_best_one_of_fits_made_by_hand() {
    let (x, labels) = noisy();
    let x = Features::f64(60, x).unwrap();
    let tasks = [Task::new(2, labels.clone()).unwrap()];
    let splits = folds(&labels, None, 4, 0).unwrap();
    for (score, standardize) in [
        (Score::Auc, true),
        (Score::LogLoss, true),
        (Score::LogLoss, false),
    ] {
        let recipe = Recipe {
            score,
            standardize,
            cs: vec![100.0, 0.01, 1e-4, 1.0],
            settings: Settings {
                tol: 1e-12,
                ..Settings::default()
            },
            ..Recipe::default()
        };
        let choice = recipe.choose(&x, &tasks, &splits).unwrap().remove(0);
        let mut means = vec![0.0; 4];
        for (s, split) in splits.iter().enumerate() {
            let mut train = x.select(&split.train).unwrap();
            let mut held = x.select(&split.held).unwrap();
            if standardize {
                let scaler = Scaler::new(&train);
                (train, held) = (
                    train.scaled(&scaler).unwrap(),
                    held.scaled(&scaler).unwrap(),
                );
            }
            for (c, mean) in means.iter_mut().enumerate() {
                let task = tasks[0].select(&split.train).unwrap();
                let fit = fit(train.clone(), task, &recipe.settings, recipe.cs[c]).unwrap();
                let values = score_by_hand(&held, &split.held, &labels, &fit, score);
                assert!(
                    (values - choice.scores[c][s]).abs() < 1e-5,
                    "{values} {}",
                    choice.scores[c][s]
                );
                *mean += choice.scores[c][s] / 4.0;
            }
        }
        let best = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(
            choice.c,
            recipe.cs[means.iter().position(|m| *m == best).unwrap()]
        );
        assert!(choice.c < 100.0, "{score:?}: {means:?}");
    }
}

fn score_by_hand(x: &Features, items: &[usize], labels: &[usize], fit: &Fit, score: Score) -> f64 {
    let rows: Vec<f64> = x.to_f64();
    let margin =
        |row: &[f64]| fit.intercept[0] + row.iter().zip(&fit.coef).map(|(x, w)| x * w).sum::<f64>();
    let margins: Vec<f64> = rows.chunks_exact(x.dim()).map(margin).collect();
    let of = |class: usize| {
        items
            .iter()
            .zip(&margins)
            .filter(move |(i, _)| labels[**i] == class)
            .map(|(_, m)| *m)
    };
    match score {
        Score::Auc => {
            let pairs: Vec<f64> = of(1)
                .flat_map(|p| of(0).map(move |n| f64::from(u8::from(p > n))))
                .collect();
            pairs.iter().sum::<f64>() / pairs.len() as f64
        }
        Score::LogLoss => {
            let losses = of(1)
                .map(|m| (-m).exp().ln_1p())
                .chain(of(0).map(|m| m.exp().ln_1p()));
            -losses.sum::<f64>() / items.len() as f64
        }
    }
}

#[test]
fn a_held_out_part_of_one_class_is_refused() {
    let (x, labels) = noisy();
    let x = Features::f64(60, x).unwrap();
    let held: Vec<usize> = (0..labels.len())
        .filter(|i| labels[*i] == 0)
        .take(5)
        .collect();
    let train = (0..labels.len()).filter(|i| !held.contains(i)).collect();
    let tasks = [Task::new(2, labels).unwrap()];
    let error = Recipe::default()
        .choose(&x, &tasks, &[Split { train, held }])
        .unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
}

fn provenance() -> Provenance {
    Provenance {
        medsiglip: "0.1.0".into(),
        model: "mini".into(),
        checksum: "ab".repeat(32),
        config_checksum: "cd".repeat(32),
        device: "cpu".into(),
        dtype: "f32".into(),
        precision: None,
        recipe: "hf".into(),
        pad: "none".into(),
        canonicalizer: None,
        resolution: 448,
        positions: None,
        normalized: false,
    }
}

/// A binary, a multinomial and a one-against-the-rest head on the same embeddings.
fn probe(normalize: bool) -> (Probe, Embeddings) {
    let (x, labels) = noisy();
    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let embeddings = Embeddings::new(60, x).unwrap();
    let three: Vec<usize> = labels
        .iter()
        .enumerate()
        .map(|(i, l)| l + usize::from(i % 5 == 0))
        .collect();
    let three = Task::new(3, three).unwrap();
    let mut tasks = vec![Task::new(2, labels).unwrap(), three.clone()];
    tasks.extend(three.one_vs_rest());
    let recipe = Recipe {
        normalize,
        standardize: true,
        ..Recipe::default()
    };
    let all: Vec<usize> = (0..160).collect();
    let fitted = recipe
        .fit(&Features::of(&embeddings).unwrap(), &tasks, &all, &[0.1])
        .unwrap();
    let fits: Vec<Fit> = fitted.fits.into_iter().flatten().collect();
    let names = |n: usize| (0..n).map(|i| format!("class {i}")).collect();
    let head = |name, n, kind, fits: &[Fit]| {
        Head::new(
            name,
            names(n),
            kind,
            fits,
            Penalty::L2,
            fitted.scaler.clone(),
        )
        .unwrap()
    };
    let heads = vec![
        head("effusion", 2, Kind::Binary, &fits[..1]),
        head("grade", 3, Kind::Multinomial, &fits[1..2]),
        head("tissue", 3, Kind::OneVsRest, &fits[2..]),
    ];
    let probe = Probe {
        dim: 60,
        normalize,
        provenance: Some(provenance()),
        heads,
    };
    (probe, embeddings)
}

#[test]
fn a_saved_probe_predicts_as_before() {
    for normalize in [false, true] {
        let (probe, embeddings) = probe(normalize);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probe");
        probe.save(&path).unwrap();
        let loaded = Probe::load(&path).unwrap();
        assert_eq!(loaded, probe);
        let before = probe.predict(&embeddings, Some(&provenance())).unwrap();
        assert_eq!(
            loaded.predict(&embeddings, Some(&provenance())).unwrap(),
            before
        );
        for (values, classes) in before.iter().zip([2, 3, 3]) {
            assert_eq!(values.len(), 160 * classes);
            assert!(
                values
                    .chunks_exact(classes)
                    .all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12)
            );
        }
        // Embeddings of any length are the same to a probe that divides by it, and to no other.
        let doubled =
            Embeddings::new(60, embeddings.data().iter().map(|x| x * 2.0).collect()).unwrap();
        let same = probe.predict(&doubled, Some(&provenance())).unwrap() == before;
        assert_eq!(same, normalize);
        // Saved again over itself: yes. Over what is not ours: no.
        probe.save(&path).unwrap();
        std::fs::write(path.join("thesis.txt"), "").unwrap();
        assert_eq!(probe.save(&path).unwrap_err().code(), "BAD_ARGUMENT");
    }
}

#[test]
fn embeddings_made_otherwise_are_refused_with_the_reason() {
    let (probe, embeddings) = probe(false);
    let made = provenance;
    let wrong = [
        (
            "weights",
            Provenance {
                checksum: "ef".repeat(32),
                ..made()
            },
        ),
        (
            "recipe",
            Provenance {
                recipe: "eval-tf".into(),
                ..made()
            },
        ),
        (
            "padding",
            Provenance {
                pad: "square".into(),
                ..made()
            },
        ),
        (
            "resolution",
            Provenance {
                resolution: 224,
                ..made()
            },
        ),
        (
            "normalised",
            Provenance {
                normalized: true,
                ..made()
            },
        ),
    ];
    for (what, wrong) in wrong {
        let error = probe.predict(&embeddings, Some(&wrong)).unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT");
        assert!(
            error.to_string().contains(&format!("with {what} ")),
            "{error}"
        );
    }
    assert!(probe.predict(&embeddings, None).is_err());
    let narrow = Embeddings::new(30, embeddings.data().to_vec()).unwrap();
    assert!(
        probe
            .predict(&narrow, Some(&made()))
            .unwrap_err()
            .to_string()
            .contains("width 60, got 30")
    );
    // Another machine or storage gives the same embeddings to rounding.
    let elsewhere = Provenance {
        device: "cuda".into(),
        model: "/other/folder".into(),
        ..made()
    };
    assert!(probe.predict(&embeddings, Some(&elsewhere)).is_ok());
}

#[test]
fn damaged_probes_are_errors() {
    let (probe, _) = probe(false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe");
    let damage = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        probe.save(&path).unwrap();
        let bytes = std::fs::read(path.join(file)).unwrap();
        std::fs::write(path.join(file), change(bytes)).unwrap();
        Probe::load(&path).unwrap_err().code()
    };
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from));
            text.replace(from, to).into_bytes()
        }
    };
    assert_eq!(
        damage("probe.json", &|b| b[..b.len() / 2].to_vec()),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"format\": 1", "\"format\": 9")),
        "UNSUPPORTED"
    );
    assert_eq!(
        damage("probe.json", &replace("\"dim\": 60", "\"dim\": 61")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage(
            "probe.json",
            &replace("\"dim\": 60", "\"dim\": 18446744073709551615")
        ),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"binary\"", "\"multinomial\"")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.json", &replace("\"normalize\"", "\"normal\"")),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.safetensors", &|b| b[..b.len() - 8].to_vec()),
        "BAD_CONFIG"
    );
    assert_eq!(
        damage("probe.safetensors", &|b| vec![0xFF; b.len()]),
        "BAD_CONFIG"
    );
    let nan = |mut bytes: Vec<u8>| {
        let end = bytes.len();
        bytes[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
        bytes
    };
    assert_eq!(damage("probe.safetensors", &nan), "BAD_CONFIG");
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
