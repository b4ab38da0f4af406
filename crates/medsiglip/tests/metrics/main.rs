//! Measures beside scikit-learn, statsmodels and plain definitions: `scripts/make_metrics_golden.py`.

mod none;

use medsiglip::metrics::calibration::{Isotonic, Platt, Temperature};
use medsiglip::metrics::{
    Bins, Bootstrap, ConfusionMatrix, Interval, OneVsRest, OperatingPoint, Query, Ranking,
    Resampling, Retrieval, brier_score, brier_score_multiclass, delong, expected_calibration_error,
    holm, log_loss, log_loss_multiclass, reliability_curve, top_label,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

const SAME: f64 = 1e-12;

fn golden() -> Value {
    serde_json::from_str(include_str!("../data/golden/metrics.json")).unwrap()
}

fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[track_caller]
fn same(what: &str, got: impl Into<Option<f64>>, expected: &Value) {
    let got = got.into().unwrap();
    let expected = number(expected);
    let error = (got - expected).abs() / expected.abs().max(1.0);
    assert!(error <= SAME, "{what}: {got}, expected {expected}");
}

#[track_caller]
fn all_same(what: &str, got: &[f64], expected: &Value) {
    let expected = expected.as_array().unwrap();
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        same(what, *got, expected);
    }
}

fn of_binary(mut check: impl FnMut(&Value, &[f64], &[bool])) {
    for case in golden()["binary"].as_array().unwrap() {
        check(case, &list(&case["scores"]), &list(&case["positive"]));
    }
}

#[test]
fn curves_and_their_areas_are_scikit_learns() {
    of_binary(|case, scores, positive| {
        let ranking = Ranking::new(scores, positive).unwrap();
        same("roc_auc", ranking.roc_auc(), &case["roc_auc"]);
        let precision = ranking.average_precision();
        same("average precision", precision, &case["average_precision"]);
        let roc = ranking.roc_curve().unwrap();
        assert_eq!(roc.thresholds[0], f64::INFINITY);
        all_same("thresholds", &roc.thresholds[1..], &case["roc"][0]);
        all_same("fpr", &roc.false_positive_rate, &case["roc"][1]);
        all_same("tpr", &roc.true_positive_rate, &case["roc"][2]);
        let pr = ranking.precision_recall_curve().unwrap();
        all_same("thresholds", &pr.thresholds, &case["pr"][0]);
        all_same("precision", &pr.precision, &case["pr"][1]);
        all_same("recall", &pr.recall, &case["pr"][2]);
    });
}

#[test]
fn places_to_cut_are_those_of_counting() {
    let check = |what: &str, got: OperatingPoint, expected: &Value| {
        let threshold = expected[0].as_f64().unwrap_or(f64::INFINITY);
        assert_eq!(got.threshold, threshold, "{what}");
        same(what, got.sensitivity, &expected[1]);
        same(what, got.specificity, &expected[2]);
    };
    of_binary(|case, scores, positive| {
        let (ranking, cut) = (Ranking::new(scores, positive).unwrap(), &case["cut"]);
        check("youden", ranking.youden().unwrap(), &cut["youden"]);
        for (i, level) in list::<f64>(&cut["levels"]).into_iter().enumerate() {
            let got = ranking.sensitivity_at_specificity(level).unwrap();
            check("specificity", got.unwrap(), &cut["at_specificity"][i]);
            let got = ranking.specificity_at_sensitivity(level).unwrap();
            check("sensitivity", got.unwrap(), &cut["at_sensitivity"][i]);
        }
    });
}

#[test]
fn decisions_are_counted_as_scikit_learn_does() {
    of_binary(|case, scores, positive| {
        let truth: Vec<usize> = positive.iter().map(|p| usize::from(*p)).collect();
        let decided: Vec<usize> = scores.iter().map(|s| usize::from(*s >= 0.5)).collect();
        let matrix = ConfusionMatrix::new(&truth, &decided, 2).unwrap();
        same("accuracy", matrix.accuracy(), &case["accuracy"]);
        let balanced = matrix.balanced_accuracy();
        same("balanced accuracy", balanced, &case["balanced_accuracy"]);
        same("f1", matrix.f1(1), &case["f1"]);
        same("precision", matrix.precision(1), &case["precision"]);
        same("recall", matrix.recall(1), &case["recall"]);
        same("specificity", matrix.recall(0), &case["specificity"]);
        same("kappa", matrix.cohen_kappa(), &case["kappa"]);
        // Of two classes, the squares of the distances are the distances.
        same("kappa", matrix.quadratic_kappa(), &case["kappa"]);
    });
}

fn check_reliability(probability: &[f64], outcome: &[bool], cases: &Value) {
    for case in cases.as_array().unwrap() {
        let count = case["bins"].as_u64().unwrap() as usize;
        let bins = match case["strategy"].as_str().unwrap() {
            "uniform" => Bins::EqualWidth(count),
            _ => Bins::EqualMass(count),
        };
        let curve = reliability_curve(probability, outcome, bins).unwrap();
        let counts: Vec<f64> = curve.iter().map(|bin| bin.count as f64).collect();
        all_same("count", &counts, &case["count"]);
        let predicted: Vec<f64> = curve.iter().map(|bin| bin.predicted).collect();
        all_same("predicted", &predicted, &case["predicted"]);
        let observed: Vec<f64> = curve.iter().map(|bin| bin.observed).collect();
        all_same("observed", &observed, &case["observed"]);
        let error = expected_calibration_error(probability, outcome, bins).unwrap();
        same("error", error, &case["error"]);
    }
}

#[test]
fn probabilities_are_scored_as_scikit_learn_does() {
    of_binary(|case, scores, positive| {
        let brier = brier_score(scores, positive).unwrap();
        same("brier", brier, &case["brier"]);
        let loss = log_loss(scores, positive).unwrap();
        same("log loss", loss, &case["log_loss"]);
        check_reliability(scores, positive, &case["reliability"]);
    });
}

#[test]
fn several_classes_are_measured_as_scikit_learn_does() {
    for case in golden()["multiclass"].as_array().unwrap() {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let probability: Vec<f64> = list(&case["probability"]);
        let labels: Vec<usize> = list(&case["labels"]);
        let ranked = OneVsRest::new(&probability, &labels, classes).unwrap();
        let areas = ranked.classes.iter().map(|class| class.roc_auc().unwrap());
        all_same("roc_auc", &areas.collect::<Vec<_>>(), &case["roc_auc"]);
        same("macro", ranked.macro_roc_auc(), &case["macro"]);
        same("weighted", ranked.weighted_roc_auc(), &case["weighted"]);

        let matrix = ConfusionMatrix::new(&labels, &list::<usize>(&case["decided"]), classes);
        let matrix = matrix.unwrap();
        let pairs = (0..classes).flat_map(|t| (0..classes).map(move |d| (t, d)));
        let counts = pairs.map(|(truth, decided)| matrix.count(truth, decided) as f64);
        all_same("confusion", &counts.collect::<Vec<_>>(), &case["confusion"]);
        same("accuracy", matrix.accuracy(), &case["accuracy"]);
        let balanced = matrix.balanced_accuracy();
        same("balanced accuracy", balanced, &case["balanced_accuracy"]);
        same("kappa", matrix.cohen_kappa(), &case["kappa"]);
        let quadratic = matrix.quadratic_kappa();
        same("quadratic kappa", quadratic, &case["quadratic_kappa"]);
        let f1: Vec<f64> = (0..classes).map(|k| matrix.f1(k).unwrap()).collect();
        all_same("f1", &f1, &case["f1"]);
        type Measure = fn(&ConfusionMatrix, usize) -> Option<f64>;
        for (name, measure) in [
            ("f1", ConfusionMatrix::f1 as Measure),
            ("precision", ConfusionMatrix::precision),
            ("recall", ConfusionMatrix::recall),
        ] {
            let expected = &case["averages"][name];
            same(name, matrix.mean(measure), &expected[0]);
            same(name, matrix.weighted(measure), &expected[1]);
        }

        let brier = brier_score_multiclass(&probability, &labels, classes).unwrap();
        same("brier", brier, &case["brier"]);
        let loss = log_loss_multiclass(&probability, &labels, classes).unwrap();
        same("log loss", loss, &case["log_loss"]);
        let (highest, right) = top_label(&probability, &labels, classes).unwrap();
        check_reliability(&highest, &right, &case["reliability"]);

        let logits: Vec<f64> = list(&case["logits"]);
        let fitted = Temperature::fit(&logits, &labels, classes)
            .unwrap()
            .unwrap();
        same("temperature", fitted.temperature, &case["temperature"]);
    }
}

#[test]
fn delong_is_that_of_the_structural_components() {
    let case = &golden()["delong"];
    let scores: Vec<Vec<f64>> = list(&case["scores"]);
    let scores: Vec<&[f64]> = scores.iter().map(Vec::as_slice).collect();
    let positive: Vec<bool> = list(&case["positive"]);
    let got = delong(&scores, &positive).unwrap().unwrap();
    all_same("roc_auc", &got.roc_auc, &case["roc_auc"]);
    for (i, row) in got.covariance.iter().enumerate() {
        all_same("covariance", row, &case["covariance"][i]);
        let area = Ranking::new(scores[i], &positive).unwrap().roc_auc();
        assert_eq!(area, Some(got.roc_auc[i]));
        for (kind, name) in [(Interval::Plain, "plain"), (Interval::Logit, "logit")] {
            let interval = got.interval(i, kind, 0.95).unwrap().unwrap();
            all_same(name, &[interval.low, interval.high], &case[name][i]);
        }
    }
    for pair in case["pairs"].as_array().unwrap() {
        let at = |k: usize| pair[k].as_u64().unwrap() as usize;
        let test = got.compare(at(0), at(1), 0.95).unwrap().unwrap();
        let difference = test.difference;
        same("difference", difference.value, &pair[2]);
        same("low", difference.low, &pair[3]);
        same("high", difference.high, &pair[4]);
        same("z", test.z, &pair[5]);
        same("p", test.p_value, &pair[6]);
    }
}

#[test]
fn intervals_are_those_of_an_independent_bootstrap() {
    let case = &golden()["bootstrap"];
    let scores: Vec<Vec<f64>> = list(&case["scores"]);
    let positive: Vec<bool> = list(&case["positive"]);
    let group: Vec<usize> = list(&case["group"]);
    let strata: Vec<usize> = positive.iter().map(|p| usize::from(*p)).collect();
    let replicates = case["replicates"].as_u64().unwrap() as usize;
    let both = scores.iter().map(|s| Ranking::new(s, &positive).unwrap());
    let both: Vec<Ranking> = both.collect();
    for (way, groups, strata) in [
        ("items", None, None),
        ("groups", Some(&group[..]), None),
        ("strata", Some(&group[..]), Some(&strata[..])),
    ] {
        let how = Resampling {
            groups,
            strata,
            replicates,
            seed: 5,
        };
        let drawn = Bootstrap::new(group.len(), &how).unwrap();
        let drawn = drawn.rankings(&both).unwrap();
        let difference = drawn[0].roc_auc.minus(&drawn[1].roc_auc).unwrap();
        let expected = &case["ways"][way];
        let measures = [&drawn[0].roc_auc, &drawn[0].average_precision, &difference];
        for (i, samples) in measures.into_iter().enumerate() {
            let got = samples.estimate(0.95).unwrap().unwrap();
            assert_eq!(got.without_value, 0);
            // A 2.5 % percentile of 20,000 draws lies within sqrt(0.025 * 0.975 / 20000) / 0.0584 = 0.019 deviations of the true one, and there
            // are two.
            let near = 4.0 * 2.0_f64.sqrt() * 0.019 * number(&expected["deviation"][i]);
            for (got, end) in [(got.low, "low"), (got.high, "high")] {
                let expected = number(&expected[end][i]);
                assert!(
                    (got - expected).abs() < near,
                    "{way} {i} {end}: {got}, {expected} +- {near}"
                );
            }
        }
        let below = number(&expected["below_zero"]);
        let p = difference.p_value().unwrap();
        let near = 2.0 * 4.0 * (2.0 * below * (1.0 - below) / replicates as f64).sqrt();
        assert!(
            (p - 2.0 * below).abs() < near,
            "{way}: {p}, {below} +- {near}"
        );
    }
}

#[test]
fn the_interval_of_a_mean_has_the_width_of_theory() {
    let items: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
    let width = |groups: Option<&[usize]>| {
        let how = Resampling {
            groups,
            ..Resampling::default()
        };
        let drawn = Bootstrap::new(400, &how).unwrap();
        let sum = |at: &[usize]| at.iter().map(|i| items[*i]).sum::<f64>();
        let mean = |at: &[usize]| Some(sum(at) / at.len() as f64);
        let both = drawn.measures(|at| Ok(vec![None, mean(at)])).unwrap();
        assert_eq!(both[0].estimate(0.95).unwrap(), None);
        assert_eq!(both[1], drawn.measure(|at| Ok(mean(at))).unwrap());
        let estimate = both[1].estimate(0.95).unwrap().unwrap();
        assert_eq!(estimate.value, 0.5);
        estimate.high - estimate.low
    };
    // 2 * 1.96 sqrt(0.25 / 400) = 0.098; two hundred groups of two equal items are as wide as two hundred items.
    let pairs: Vec<usize> = (0..400).map(|i| i / 4 * 2 + i % 2).collect();
    assert!((width(None) - 0.098).abs() < 0.012);
    assert!((width(Some(&pairs)) - 0.139).abs() < 0.016);
}

#[test]
fn calibration_is_scikit_learns() {
    for case in golden()["binary"].as_array().unwrap() {
        let (positive, case): (Vec<bool>, _) = (list(&case["positive"]), &case["calibration"]);
        let (scores, at): (Vec<f64>, Vec<f64>) = (list(&case["scores"]), list(&case["at"]));
        let platt = Platt::fit(&scores, &positive).unwrap().unwrap();
        all_same("platt", &[platt.a, platt.b], &case["platt"]);
        let got: Vec<f64> = at.iter().map(|score| platt.apply(*score)).collect();
        all_same("platt", &got, &case["platt_at"]);
        let isotonic = Isotonic::fit(&scores, &positive).unwrap().unwrap();
        let got: Vec<f64> = at.iter().map(|score| isotonic.apply(*score)).collect();
        all_same("isotonic", &got, &case["isotonic_at"]);
        let got: Vec<f64> = scores.iter().map(|score| isotonic.apply(*score)).collect();
        all_same("isotonic", &got, &case["isotonic_own"]);
        let written = serde_json::to_string(&isotonic).unwrap();
        assert_eq!(
            serde_json::from_str::<Isotonic>(&written).unwrap(),
            isotonic
        );
    }
}

#[test]
fn a_calibration_from_a_file_is_checked() {
    let of = |scores: &str, probabilities: &str| {
        let text = format!("{{\"scores\":{scores},\"probabilities\":{probabilities}}}");
        serde_json::from_str::<Isotonic>(&text)
    };
    assert_eq!(of("[0,1]", "[0.25,0.75]").unwrap().apply(0.5), 0.5);
    for (scores, probabilities) in [
        ("[]", "[]"),
        ("[0,1]", "[0.5]"),
        ("[1,0]", "[0.1,0.2]"),
        ("[0,0]", "[0.1,0.2]"),
        ("[0,1]", "[0.2,0.1]"),
        ("[0,1]", "[0.2,1.5]"),
    ] {
        assert!(
            of(scores, probabilities).is_err(),
            "{scores} {probabilities}"
        );
    }
    for temperature in ["0", "-1"] {
        let text = format!("{{\"temperature\":{temperature}}}");
        assert!(serde_json::from_str::<Temperature>(&text).is_err());
    }
    let warm = serde_json::from_str::<Temperature>("{\"temperature\":2}").unwrap();
    // exp(ln 9 / 2) is three.
    let got = warm.apply(&[9_f64.ln(), 0.0]);
    assert!(
        (got[0] - 0.75).abs() < SAME && (got[1] - 0.25).abs() < SAME,
        "{got:?}"
    );
}

#[test]
fn retrieval_is_that_of_counting_and_of_scikit_learn() {
    let case = &golden()["retrieval"];
    let (scores, relevant): (Vec<f64>, Vec<bool>) =
        (list(&case["scores"]), list(&case["relevant"]));
    let items = case["items"].as_u64().unwrap() as usize;
    let rows = scores.chunks_exact(items).zip(relevant.chunks_exact(items));
    let queries = rows.map(|(scores, relevant)| Query::new(scores, relevant).unwrap().unwrap());
    let all = Retrieval {
        queries: queries.collect(),
    };
    let ranks: Vec<f64> = all.queries.iter().map(|q| q.rank as f64).collect();
    all_same("ranks", &ranks, &case["ranks"]);
    let precision: Vec<f64> = all.queries.iter().map(|q| q.average_precision).collect();
    all_same("average precision", &precision, &case["average_precision"]);
    same("map", all.mean_average_precision(), &case["map"]);
    same("mrr", all.mean_reciprocal_rank(), &case["mrr"]);
    same("median rank", all.median_rank(), &case["median_rank"]);
    for k in [1, 5, 10] {
        same("recall", all.recall_at(k), &case["recall"][k.to_string()]);
    }
}

#[test]
fn holm_is_that_of_statsmodels() {
    for case in golden()["holm"].as_array().unwrap() {
        let adjusted = holm(&list::<f64>(&case[0])).unwrap();
        all_same("holm", &adjusted, &case[1]);
    }
}

#[test]
fn a_ranking_of_drawn_items_is_that_of_their_scores() {
    // Ties, and labels that are not known.
    let scores: Vec<f64> = (0..60).map(|i| f64::from(i * 7 % 20) / 20.0).collect();
    let label = |i: usize| (!i.is_multiple_of(5)).then_some(i.is_multiple_of(3));
    let labels: Vec<Option<bool>> = (0..60).map(label).collect();
    let ranking = Ranking::labelled(&scores, &labels).unwrap();
    let how = Resampling {
        replicates: 50,
        ..Resampling::default()
    };
    let drawn = Bootstrap::new(60, &how).unwrap();
    let compared = drawn.each(|items| {
        let known = items.iter().filter_map(|i| Some((scores[*i], labels[*i]?)));
        let (scores, positive): (Vec<f64>, Vec<bool>) = known.unzip();
        let (sorted, drawn) = (Ranking::new(&scores, &positive)?, ranking.drawn(items));
        assert_eq!(drawn.positives(), sorted.positives());
        assert_eq!(drawn.negatives(), sorted.negatives());
        assert_eq!(drawn.roc_auc(), sorted.roc_auc());
        assert_eq!(drawn.roc_curve(), sorted.roc_curve());
        assert_eq!(
            drawn.precision_recall_curve(),
            sorted.precision_recall_curve()
        );
        let at = |of: &Ranking| of.sensitivity_at_specificity(0.9);
        assert_eq!(at(&drawn)?, at(&sorted)?);
        Ok(())
    });
    assert_eq!(compared.unwrap().len(), 50);
}
