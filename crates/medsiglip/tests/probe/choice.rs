//! The choice of C, folds and subsets.

use medsiglip::probe::{
    Features, Fit, Penalty, Recipe, Scaler, Score, Settings, Split, Task, folds, subsets,
};

use crate::{fit, noisy};

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

#[test]
fn fits_that_were_cut_short_are_counted_in_the_choice() {
    let (x, labels) = noisy();
    let x = Features::f64(60, x).unwrap();
    let tasks = [Task::new(2, labels.clone()).unwrap()];
    let splits = folds(&labels, None, 4, 0).unwrap();
    let not_converged = |max_iter: usize| {
        let recipe = Recipe {
            cs: vec![1e-4, 1e4],
            settings: Settings {
                penalty: Penalty::L1,
                tol: 1e-9,
                max_iter,
                accept_unconverged: true,
                ..Settings::default()
            },
            ..Recipe::default()
        };
        recipe.choose(&x, &tasks, &splits).unwrap()[0].not_converged
    };
    assert_eq!(not_converged(10_000), 0);
    // Of two values of C and four folds.
    assert!((1..=8).contains(&not_converged(1)), "{}", not_converged(1));
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
