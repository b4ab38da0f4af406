//! Where there is no value there is none, and what cannot be measured is refused.

use medsiglip::metrics::calibration::{Isotonic, Platt, Temperature};
use medsiglip::metrics::{
    Bins, Bootstrap, ConfusionMatrix, Interval, OneVsRest, Query, Ranking, Resampling, Retrieval,
    Samples, brier_score, brier_score_multiclass, delong, expected_calibration_error, holm,
    log_loss, reliability_curve, top_label,
};

#[test]
fn a_ranking_without_a_class_has_no_value() {
    let ranked = |scores: &[f64], positive: &[bool]| Ranking::new(scores, positive).unwrap();
    for one_class in [
        ranked(&[0.1, 0.2], &[true, true]),
        ranked(&[0.1, 0.2], &[false, false]),
        ranked(&[], &[]),
        Ranking::labelled(&[0.1, f64::NAN], &[Some(true), None]).unwrap(),
    ] {
        assert_eq!(one_class.roc_auc(), None);
        assert_eq!(one_class.average_precision(), None);
        assert_eq!(one_class.roc_curve(), None);
        assert_eq!(one_class.precision_recall_curve(), None);
        assert_eq!(one_class.youden(), None);
        assert_eq!(one_class.sensitivity_at_specificity(0.9).unwrap(), None);
        assert_eq!(one_class.specificity_at_sensitivity(0.9).unwrap(), None);
    }
    // Constant scores rank by chance, and no place to cut is better.
    let constant = ranked(&[0.5; 4], &[true, false, false, false]);
    assert_eq!(constant.roc_auc(), Some(0.5));
    assert_eq!(constant.average_precision(), Some(0.25));
    assert_eq!(constant.youden(), None);

    let absent = OneVsRest::new(&[0.9, 0.1, 0.0, 0.2, 0.8, 0.0], &[0, 1], 3).unwrap();
    assert_eq!(absent.classes[2].roc_auc(), None);
    assert_eq!(absent.macro_roc_auc(), None);
    assert_eq!(absent.weighted_roc_auc(), Some(1.0));
}

#[test]
fn counts_and_probabilities_of_nothing_have_no_value() {
    let matrix = ConfusionMatrix::new(&[0, 0, 1], &[0, 1, 1], 3).unwrap();
    assert_eq!(matrix.recall(2), None);
    assert_eq!(matrix.f1(2), None);
    assert_eq!(matrix.balanced_accuracy(), None);
    assert_eq!(matrix.mean(ConfusionMatrix::f1), None);
    assert_eq!(matrix.accuracy(), Some(2.0 / 3.0));
    let alone = ConfusionMatrix::new(&[1, 1], &[1, 1], 2).unwrap();
    assert_eq!((alone.cohen_kappa(), alone.quadratic_kappa()), (None, None));
    let empty = ConfusionMatrix::new(&[], &[], 0).unwrap();
    assert_eq!((empty.accuracy(), empty.balanced_accuracy()), (None, None));

    assert_eq!(brier_score(&[], &[]).unwrap(), None);
    assert_eq!(log_loss(&[], &[]).unwrap(), None);
    let error = expected_calibration_error(&[], &[], Bins::EqualMass(10));
    assert_eq!(error.unwrap(), None);
    assert_eq!(Query::new(&[0.1, 0.2], &[false, false]).unwrap(), None);
    assert_eq!(Retrieval::default().recall_at(1), None);
    assert_eq!(Retrieval::default().median_rank(), None);
}

#[test]
fn what_nothing_can_be_fitted_or_compared_by_has_no_value() {
    // One positive has no variance; scores that are apart have none either.
    assert!(
        delong(&[&[0.1, 0.2, 0.3]], &[true, false, false])
            .unwrap()
            .is_none()
    );
    let apart: &[f64] = &[0.1, 0.2, 0.8, 0.9];
    let apart = delong(&[apart, apart], &[false, false, true, true]).unwrap();
    let apart = apart.unwrap();
    assert_eq!(apart.roc_auc, [1.0, 1.0]);
    assert_eq!(apart.interval(0, Interval::Logit, 0.95).unwrap(), None);
    assert_eq!(apart.interval(0, Interval::Plain, 0.95).unwrap(), None);
    assert_eq!(apart.compare(0, 1, 0.95).unwrap(), None);

    for (scores, positive) in [
        (&[0.5, 0.5, 0.5], &[true, false, true]),
        (&[0.1, 0.2, 0.3], &[true; 3]),
    ] {
        assert_eq!(Platt::fit(scores, positive).unwrap(), None);
        assert_eq!(Isotonic::fit(scores, positive).unwrap(), None);
    }
    for (why, logits) in [
        ("all right", [2.0, 0.0, 0.0, 2.0]),
        ("all wrong", [0.0, 2.0, 2.0, 0.0]),
        ("equal", [1.0; 4]),
    ] {
        assert_eq!(
            Temperature::fit(&logits, &[0, 1], 2).unwrap(),
            None,
            "{why}"
        );
    }
}

#[test]
fn samples_without_a_class_have_no_value_and_are_counted() {
    let scores: Vec<f64> = (0..40).map(f64::from).collect();
    let mut positive = vec![false; 40];
    positive[30] = true;
    let ranking = [Ranking::new(&scores, &positive).unwrap()];
    let draw = |strata| {
        let how = Resampling {
            strata,
            ..Resampling::default()
        };
        let all = Bootstrap::new(40, &how).unwrap();
        let all = all.rankings(&ranking).unwrap();
        all[0].roc_auc.estimate(0.95).unwrap().unwrap()
    };
    // The one positive is left out of (39 / 40)^40 = 0.363 of all samples: 726 of 2000, give or take 22.
    let without = draw(None).without_value;
    assert!((640..812).contains(&without), "{without}");
    let strata: Vec<usize> = positive.iter().map(|p| usize::from(*p)).collect();
    assert_eq!(draw(Some(&strata)).without_value, 0);

    let nothing = Bootstrap::new(0, &Resampling::default()).unwrap();
    let nothing = nothing
        .rankings(&[Ranking::new(&[], &[]).unwrap()])
        .unwrap();
    assert_eq!(nothing[0].roc_auc.estimate(0.95).unwrap(), None);
    assert_eq!(nothing[0].roc_auc.p_value(), None);
    let all_positive = Ranking::new(&scores, &[true; 40]).unwrap();
    let drawn = Bootstrap::new(40, &Resampling::default()).unwrap();
    let drawn = drawn.rankings(&[all_positive]).unwrap();
    assert_eq!(drawn[0].average_precision.estimate(0.95).unwrap(), None);
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: medsiglip::Result<T>, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "BAD_ARGUMENT");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let labels = [true, false];
    for bad in [f64::NAN, f64::INFINITY] {
        refused(
            Ranking::new(&[0.1, bad], &labels),
            "that of item 1 (from 0) is not",
        );
        refused(delong(&[&[0.1, bad]], &labels), "number 1 (from 0) is not");
        refused(OneVsRest::new(&[0.1, bad], &[0, 0], 1), "finite");
        refused(Query::new(&[0.1, bad], &labels), "finite");
        refused(Platt::fit(&[0.1, bad], &labels), "finite");
        refused(Isotonic::fit(&[0.1, bad], &labels), "finite");
        refused(Temperature::fit(&[0.1, bad], &[0], 2), "finite");
        refused(brier_score(&[0.1, bad], &labels), "0 to 1");
        refused(log_loss(&[0.1, bad], &labels), "0 to 1");
        refused(
            reliability_curve(&[0.1, bad], &labels, Bins::EqualMass(2)),
            "0 to 1",
        );
        refused(holm(&[0.1, bad]), "0 to 1");
    }
    refused(Temperature::fit(&[1e308, -1e308], &[0], 2), "distances");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let labels = [true, false];
    refused(
        Ranking::new(&[0.1], &labels),
        "expected 1 labels, one an item, got 2",
    );
    refused(
        delong(&[&[0.1]], &labels),
        "expected 2 scores, one an item, got 1",
    );
    refused(
        ConfusionMatrix::new(&[0, 1], &[0], 2),
        "expected 2 decisions",
    );
    refused(
        ConfusionMatrix::new(&[0, 2], &[0, 1], 2),
        "classes 0 to 1, item 1",
    );
    refused(
        OneVsRest::new(&[0.1; 5], &[0, 1], 2),
        "expected 2 scores for each of 2 items, got 5",
    );
    refused(OneVsRest::new(&[], &[], 0), "got none");
    refused(
        brier_score_multiclass(&[0.5, 0.4], &[0], 2),
        "add up to 1, those of item 0",
    );
    refused(top_label(&[1.5, -0.5], &[0], 2), "0 to 1");
    refused(
        reliability_curve(&[0.1], &[true], Bins::EqualWidth(0)),
        "bins",
    );
    refused(
        Ranking::new(&[0.1, 0.2], &labels)
            .unwrap()
            .sensitivity_at_specificity(1.1),
        "0 to 1",
    );
}

#[test]
fn samples_that_do_not_fit_together_are_refused() {
    let labels = [true, false];
    let how = |groups, strata| Resampling {
        groups,
        strata,
        ..Resampling::default()
    };
    refused(
        Bootstrap::new(2, &how(Some(&[1]), None)),
        "expected 2 groups",
    );
    refused(
        Bootstrap::new(2, &how(None, Some(&[1]))),
        "expected 2 strata",
    );
    refused(
        Bootstrap::new(2, &how(Some(&[7, 7]), Some(&[0, 1]))),
        "item 1",
    );
    let ranking = [Ranking::new(&[0.1, 0.2], &labels).unwrap()];
    refused(
        Bootstrap::new(3, &how(None, None))
            .unwrap()
            .rankings(&ranking),
        "expected 3 scores",
    );
    let of = |seed| {
        let how = Resampling {
            seed,
            ..Resampling::default()
        };
        let drawn = Bootstrap::new(2, &how).unwrap().rankings(&ranking).unwrap();
        drawn[0].roc_auc.clone()
    };
    let uneven = |items: &[usize]| Ok(vec![None; items[0]]);
    let drawn = Bootstrap::new(2, &how(None, None)).unwrap();
    refused(
        drawn.measures(uneven),
        "expected 0 measures on every sample, got 1",
    );
    refused(of(1).minus(&of(2)), "same seed");
    refused(Samples::mean(&[]), "got none");
    refused(of(1).estimate(1.0), "between 0 and 1");
    let one = delong(&[&[0.1, 0.2, 0.3, 0.4]], &[true, false, true, false]);
    let one = one.unwrap().unwrap();
    refused(one.interval(0, Interval::Plain, 0.0), "between 0 and 1");
}
