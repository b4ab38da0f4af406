//! What gives no value, or a value without an interval, and says so.

use std::fs;

use medsiglip::eval::measure::{Sample, Unlearned};
use medsiglip::eval::report::{Measure, MethodReport, Report};
use medsiglip::eval::tables::cell;
use medsiglip::eval::truth::{Answers, Truth};

use super::{CONFIG, KINDS, Lab, noise};

fn findings(of: Vec<Vec<Option<bool>>>) -> Truth {
    Truth {
        classes: (0..of[0].len()).map(|n| format!("finding {n}")).collect(),
        of: Answers::Findings(of),
        positive: Vec::new(),
        ordered: false,
    }
}

fn classes(names: &[&str], of: &[usize]) -> Truth {
    Truth {
        classes: names.iter().map(|&name| name.to_owned()).collect(),
        of: Answers::Classes(of.iter().map(|class| Some(*class)).collect()),
        positive: Vec::new(),
        ordered: false,
    }
}

fn of<'a>(report: &'a Report, encoder: &str) -> &'a MethodReport {
    let results = &report.tasks[0].results;
    results.iter().find(|r| r.encoder == encoder).unwrap()
}

/// The test side is told by patient, so that what is there is known.
fn with_sides(lab: &Lab, side: impl Fn(usize) -> &'static str) -> String {
    let rows = fs::read_to_string(lab.path("manifest.csv")).unwrap();
    let rows = rows.lines().enumerate().map(|(number, row)| match number {
        0 => format!("{row},side\n"),
        number => format!("{row},{}\n", side((number - 1) / 3)),
    });
    fs::write(lab.path("manifest.csv"), rows.collect::<String>()).unwrap();
    CONFIG.replace("group =", "split = \"side\"\ngroup =")
}

fn all_measures(result: &MethodReport) -> impl Iterator<Item = &Measure> {
    let questions = result.questions.iter().flat_map(|q| &q.measures);
    result.overall.iter().chain(questions)
}

#[test]
fn scores_that_are_no_shares_are_refused() {
    let truth = findings((0..8).map(|n| vec![Some(n % 2 == 0)]).collect());
    let places: Vec<usize> = (0..8).collect();
    let sample = Sample::new(&truth, &places, &places, 100, 0).unwrap();
    let good: Vec<f64> = (0..8).map(|n| noise(n, 0)).collect();
    let none = Unlearned::new();
    assert!(sample.measure(&good, &none).is_ok());
    for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        let mut scores = good.clone();
        scores[3] = wrong;
        let error = sample.measure(&scores, &none).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "BAD_ARGUMENT", "{wrong}");
        assert_eq!(sample.value(&scores).unwrap_err().code(), "BAD_ARGUMENT");
    }
    // Shares that are summed may be off by rounding.
    let mut scores = good;
    scores[3] = 1.0 + 1e-12;
    assert!(sample.measure(&scores, &none).is_ok());
}

#[test]
fn an_answer_that_is_missing_is_named() {
    let answers = |n: usize| {
        vec![
            Some(true),
            Some(false),
            None,
            Some(n == 0),
            Some(n != 0),
            Some(n.is_multiple_of(2)),
        ]
    };
    let truth = findings((0..8).map(answers).collect());
    let places: Vec<usize> = (0..8).collect();
    let sample = Sample::new(&truth, &places, &places, 100, 0).unwrap();
    let scores: Vec<f64> = (0..8 * 6).map(|at| noise(at, 0)).collect();
    let measured = sample.measure(&scores, &Unlearned::new()).unwrap();
    let of = |question: usize| &measured.questions[question].measures[0];
    for (question, why, has_value) in [
        (0, "every picture is positive", false),
        (1, "no picture is positive", false),
        (2, "no picture is labelled", false),
        (3, "the positive pictures are of one patient", true),
        (4, "the negative pictures are of one patient", true),
    ] {
        let measure = of(question);
        assert!(
            measure.missing.as_ref().unwrap().starts_with(why),
            "{measure:?}"
        );
        assert_eq!(
            (measure.estimate, measure.alone.is_some()),
            (None, has_value)
        );
    }
    assert!(of(5).estimate.is_some(), "{:?}", of(5));
    // Of all together there is as little as of the worst.
    assert_eq!(
        measured.overall[0].missing.as_deref(),
        Some("finding 0: every picture is positive")
    );
}

#[test]
fn a_probe_that_learned_nothing_has_no_number_at_all() {
    let lab = Lab::new();
    // Of the third kind none is to learn from.
    let config = with_sides(&lab, |patient| match patient {
        _ if patient % 3 == 2 => "test",
        0..12 => "train",
        _ => "test",
    });
    let task =
        "[[task]]\nname = \"kinds\"\nsource = \"pictures\"\nlabel = \"kind\"\n[task.probe]\n";
    let (report, ..) = lab.run_all(&format!("{config}{task}")).unwrap();
    let result = of(&report, "good");
    let why = "nothing was learned: no picture of the class rings to learn from";
    for measure in all_measures(result) {
        assert_eq!(
            (measure.estimate, measure.alone),
            (None, None),
            "{measure:?}"
        );
        assert!(
            measure.missing.as_ref().unwrap().contains(why),
            "{measure:?}"
        );
    }
    assert!(result.settings["C"].contains(why), "{:?}", result.settings);
    assert!(result.settings["relative duality gap"].contains("nothing was learned"));
    // Of findings, what was learned is measured beside it.
    let task = "[[task]]\nname = \"f\"\nsource = \"pictures\"\nfindings = { a = \"A\", b = \"B\" }\n[task.probe]\n";
    let (report, ..) = lab.run_all(&format!("{config}{task}")).unwrap();
    let questions = &of(&report, "good").questions;
    assert!(questions[0].measures[0].value().is_some());
    let why = questions[1].measures[0].missing.as_ref().unwrap();
    assert!(why.contains("of the class absent"), "{why}");
}

#[test]
fn scores_that_are_all_the_same_give_no_number() {
    let lab = Lab::new();
    lab.table("noise.csv", |_, _| 1.0);
    let (report, ..) = lab.run(KINDS).unwrap();
    for measure in all_measures(of(&report, "noise")) {
        assert_eq!(measure.value(), None, "{measure:?}");
        assert!(
            measure
                .missing
                .as_ref()
                .unwrap()
                .ends_with("all scores are the same")
        );
    }
}

#[test]
fn what_comes_from_one_patient_has_a_value_and_no_interval() {
    let lab = Lab::new();
    // A single patient of the test side is of the third kind.
    let config = with_sides(&lab, |patient| {
        match patient % 3 != 2 && patient > 10 || patient == 2 {
            true => "test",
            false => "train",
        }
    });
    let task =
        "[[task]]\nname = \"kinds\"\nsource = \"pictures\"\nlabel = \"kind\"\n[task.probe]\n";
    let (report, ..) = lab.run_all(&format!("{config}{task}")).unwrap();
    let result = of(&report, "noise");
    let rings = result.questions.iter().find(|q| q.name == "rings").unwrap();
    assert_eq!(rings.positives, 3);
    for measure in result.overall.iter().chain(&rings.measures) {
        assert!(
            measure.estimate.is_none() && measure.alone.is_some(),
            "{measure:?}"
        );
        assert!(
            measure.missing.as_ref().unwrap().contains("of one patient"),
            "{measure:?}"
        );
        assert!(cell(Some(measure)).contains("(no interval: "));
    }
    let others = result.questions.iter().filter(|q| q.name != "rings");
    assert!(others.clone().count() == 2);
    assert!(others.into_iter().all(|q| q.measures[0].estimate.is_some()));
}

#[test]
fn what_is_apart_at_hand_is_not_said_to_be_apart_elsewhere() {
    let labels: Vec<usize> = (0..20).map(|n| n % 2).collect();
    let truth = classes(&["no", "yes"], &labels);
    let truth = Truth {
        positive: vec![1],
        ..truth
    };
    let places: Vec<usize> = (0..20).collect();
    let sample = Sample::new(&truth, &places, &places, 500, 0).unwrap();
    let scores = |share: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..20).flat_map(|n| [1.0 - share(n), share(n)]).collect()
    };
    let apart = scores(&|n| 0.5 * labels[n] as f64 + 0.4 * noise(n, 0));
    let measured = sample.measure(&apart, &Unlearned::new()).unwrap();
    for name in ["AUROC", "average precision"] {
        let measure = measured.overall.iter().find(|m| m.name == name).unwrap();
        assert_eq!(
            (measure.alone, measure.estimate),
            (Some(1.0), None),
            "{measure:?}"
        );
        assert!(cell(Some(measure)).starts_with("1.000 (no interval"));
    }
    let brier = measured
        .overall
        .iter()
        .find(|m| m.name == "Brier score")
        .unwrap();
    assert!(brier.estimate.is_some(), "{brier:?}");
    let mixed = scores(&|n| 0.3 * labels[n] as f64 + 0.6 * noise(n, 0));
    let measured = sample.measure(&mixed, &Unlearned::new()).unwrap();
    let auroc = measured.overall[0].estimate.unwrap();
    assert!(
        auroc.low < auroc.value && auroc.value < auroc.high,
        "{auroc:?}"
    );
}

#[test]
fn a_threshold_is_judged_with_intervals_on_the_same_samples() {
    let labels: Vec<usize> = (0..40).map(|n| usize::from(n % 4 == 0)).collect();
    let truth = Truth {
        positive: vec![1],
        ..classes(&["no", "yes"], &labels)
    };
    let places: Vec<usize> = (0..40).collect();
    let sample = Sample::new(&truth, &places, &places, 200, 0).unwrap();
    let share = |n: usize| 0.3 * labels[n] as f64 + 0.6 * noise(n, 0);
    let scores: Vec<f64> = (0..40).flat_map(|n| [1.0 - share(n), share(n)]).collect();
    let measured = sample.measure(&scores, &Unlearned::new()).unwrap();
    let [sensitivity, specificity] = sample.at_threshold(&measured, 0.5).unwrap().remove(0);
    let count = |class: usize, over: bool| {
        let those = (0..40).filter(|n| labels[*n] == class && (share(*n) >= 0.5) == over);
        those.count() as f64
    };
    assert_eq!(sensitivity.value(), Some(count(1, true) / 10.0));
    assert_eq!(specificity.value(), Some(count(0, false) / 30.0));
    assert!(sensitivity.estimate.is_some() && specificity.estimate.is_some());
}
