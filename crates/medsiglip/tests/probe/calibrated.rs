//! Calibrated probabilities and thresholds, beside the same made by hand from held-out outputs.

use medsiglip::metrics::Ranking;
use medsiglip::metrics::calibration::Platt;
use medsiglip::probe::{
    Calibrate, Calibration, Cut, Features, Head, Probe, Recipe, Split, Task, folds,
};

use crate::{fit, uniforms};

const DIM: usize = 30;

/// Many columns beside few items, so that a probe with little penalty is far too sure; classes of one half, or of thirds.
fn sure(classes: usize, n: usize) -> (Features<'static>, Vec<usize>) {
    let x: Vec<f64> = uniforms(21, n * DIM).iter().map(|u| u - 0.5).collect();
    let noise = uniforms(22, n);
    let labels = (0..n).map(|i| {
        let score = x[i * DIM] + 0.5 + (noise[i] - 0.5) * 0.9;
        ((score * classes as f64).max(0.0) as usize).min(classes - 1)
    });
    let labels = labels.collect();
    (Features::f64(DIM, x).unwrap(), labels)
}

fn recipe(calibrate: Option<Calibrate>, threshold: Option<Cut>) -> Recipe {
    Recipe {
        cs: vec![1e3],
        calibrate,
        threshold,
        ..Recipe::default()
    }
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// A head that learned from the first half by four folds.
fn head(recipe: &Recipe, classes: usize) -> medsiglip::Result<Head> {
    let (x, labels) = sure(classes, 400);
    let splits = folds(&labels[..200], None, 4, 0)?;
    let task = Task::new(classes, labels)?;
    let items: Vec<usize> = (0..200).collect();
    let (head, _) = recipe.head("task", &names(classes), (&x, &task), &items, &splits)?;
    Ok(head)
}

/// Probabilities (N, C) of the other half, and its labels.
fn predicted(head: Head, classes: usize) -> (Vec<f64>, Vec<usize>) {
    let (x, labels) = sure(classes, 400);
    let held: Vec<f32> = x.to_f64()[200 * DIM..].iter().map(|x| *x as f32).collect();
    let held = medsiglip::embedding::Embeddings::new(DIM, held).unwrap();
    let probe = Probe {
        dim: DIM,
        normalize: false,
        provenance: None,
        heads: vec![head],
    };
    let scores = probe.predict(&held, None).unwrap().remove(0);
    (scores, labels[200..].to_vec())
}

fn log_loss(scores: &[f64], labels: &[usize]) -> f64 {
    let classes = scores.len() / labels.len();
    let own = labels
        .iter()
        .enumerate()
        .map(|(i, label)| scores[i * classes + label]);
    own.map(|p| -p.max(1e-300).ln()).sum::<f64>() / labels.len() as f64
}

#[test]
fn every_calibration_makes_unseen_items_less_surprising() {
    for (classes, kinds) in [
        (
            2,
            &[
                Calibrate::Platt,
                Calibrate::Isotonic,
                Calibrate::Temperature,
            ][..],
        ),
        (3, &[Calibrate::Temperature][..]),
    ] {
        let (plain, labels) = predicted(head(&recipe(None, None), classes).unwrap(), classes);
        for kind in kinds {
            let head = head(&recipe(Some(*kind), None), classes).unwrap();
            assert_eq!(
                head.calibration.as_ref().map(Calibration::kind),
                Some(*kind)
            );
            let (scores, _) = predicted(head, classes);
            let rows = scores.chunks_exact(classes);
            for row in rows {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
            // Steps may be 0 or 1; what they call certain is judged by the squared error alone.
            let brier = |scores: &[f64]| {
                let items = labels.iter().enumerate();
                let own = items.map(|(i, label)| 1.0 - scores[i * classes + label]);
                own.map(|miss| miss * miss).sum::<f64>()
            };
            let (before, after) = (brier(&plain), brier(&scores));
            assert!(after < before, "{kind:?}: {before} {after}");
            if *kind != Calibrate::Isotonic {
                let (before, after) = (log_loss(&plain, &labels), log_loss(&scores, &labels));
                assert!(after < 0.95 * before, "{kind:?}: {before} {after}");
            }
        }
    }
}

/// Outputs of the first half by probes of its other folds, made without the recipe.
fn by_hand(splits: &[Split]) -> (Vec<f64>, Vec<bool>) {
    let (x, labels) = sure(2, 400);
    let task = Task::new(2, labels.clone()).unwrap();
    let (mut outputs, mut positive) = (Vec::new(), Vec::new());
    for split in splits {
        let of = x.select(&split.train).unwrap();
        let learned = task.select(&split.train).unwrap();
        let fit = fit(of, learned, &recipe(None, None).settings, 1e3).unwrap();
        let held = x.select(&split.held).unwrap().to_f64();
        for (row, item) in held.chunks_exact(DIM).zip(&split.held) {
            let sum: f64 = row.iter().zip(&fit.coef).map(|(x, w)| x * w).sum();
            outputs.push(sum + fit.intercept[0]);
            positive.push(labels[*item] == 1);
        }
    }
    (outputs, positive)
}

#[test]
fn calibration_and_threshold_are_those_of_held_out_items() {
    let (_, labels) = sure(2, 400);
    let splits = folds(&labels[..200], None, 4, 0).unwrap();
    let (outputs, positive) = by_hand(&splits);
    let platt = Platt::fit(&outputs, &positive).unwrap().unwrap();
    let probability: Vec<f64> = outputs.iter().map(|z| platt.apply(*z)).collect();
    let ranking = Ranking::new(&probability, &positive).unwrap();
    for (cut, expected) in [
        (Cut::Youden, ranking.youden()),
        (
            Cut::Sensitivity(0.9),
            ranking.specificity_at_sensitivity(0.9).unwrap(),
        ),
    ] {
        let (head, expected) = (
            head(&recipe(Some(Calibrate::Platt), Some(cut)), 2).unwrap(),
            expected.unwrap(),
        );
        let Some(Calibration::Platt(own)) = head.calibration else {
            panic!("{:?}", head.calibration);
        };
        assert!(
            (own.a / platt.a - 1.0).abs() < 1e-3 && (own.b - platt.b).abs() < 1e-3,
            "{own:?} {platt:?}"
        );
        let at = head.threshold.unwrap();
        assert!(
            (at.probability - expected.threshold).abs() < 1e-3,
            "{at:?} {expected:?}"
        );
        assert_eq!(
            (at.sensitivity, at.specificity),
            (expected.sensitivity, expected.specificity)
        );
        if let Cut::Sensitivity(wanted) = cut {
            assert!(at.sensitivity >= wanted);
        }
    }
}

#[test]
fn what_is_for_two_classes_is_refused_for_more() {
    for recipe in [
        recipe(Some(Calibrate::Platt), None),
        recipe(Some(Calibrate::Isotonic), None),
        recipe(None, Some(Cut::Youden)),
    ] {
        assert_eq!(head(&recipe, 3).unwrap_err().code(), "BAD_ARGUMENT");
    }
    for wanted in [0.0, -1.0, 1.5, f64::NAN] {
        let recipe = recipe(None, Some(Cut::Sensitivity(wanted)));
        assert_eq!(
            head(&recipe, 2).unwrap_err().code(),
            "BAD_ARGUMENT",
            "{wanted}"
        );
    }
}

#[test]
fn a_head_that_nothing_can_be_held_out_for_is_not_calibrated() {
    let (x, labels) = sure(2, 400);
    let task = Task::new(2, labels).unwrap();
    let items: Vec<usize> = (0..200).collect();
    let recipe = recipe(Some(Calibrate::Platt), Some(Cut::Youden));
    let (head, choice) = recipe
        .head("task", &names(2), (&x, &task), &items, &[])
        .unwrap();
    assert!(choice.is_none() && head.calibration.is_none() && head.threshold.is_none());
}

#[test]
fn calibration_and_threshold_are_saved_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe");
    for (kind, classes) in [
        (Calibrate::Isotonic, 2),
        (Calibrate::Platt, 2),
        (Calibrate::Temperature, 3),
    ] {
        let threshold = (classes == 2).then_some(Cut::Sensitivity(0.8));
        let probe = Probe {
            dim: DIM,
            normalize: false,
            provenance: None,
            heads: vec![head(&recipe(Some(kind), threshold), classes).unwrap()],
        };
        probe.save(&path).unwrap();
        assert_eq!(Probe::load(&path).unwrap(), probe);
    }
    // The last one has three classes: no sigmoid is for them.
    let about = std::fs::read_to_string(path.join("probe.json")).unwrap();
    let (before, rest) = about.split_once("\"calibration\": {").unwrap();
    let (_, after) = rest.split_once("\"threshold\"").unwrap();
    let sigmoid = format!(
        "{before}\"calibration\": {{\"platt\": {{\"a\": -1.0, \"b\": 0.0}}}}, \"threshold\"{after}"
    );
    std::fs::write(path.join("probe.json"), sigmoid).unwrap();
    assert_eq!(Probe::load(&path).unwrap_err().code(), "BAD_CONFIG");
}
