//! Evaluations of embeddings from tables: what is measured, what is compared, and what is told of bad input.
#![cfg(feature = "evaluate")]

#[path = "eval/doubt.rs"]
mod doubt;
#[path = "eval/refused.rs"]
mod refused;
#[path = "eval/told.rs"]
mod told;

use std::fs;
use std::path::PathBuf;

use image::{ImageFormat, RgbImage};
use medsiglip::Result;
use medsiglip::eval::config::EvalConfig;
use medsiglip::eval::report::{Method, Report, TaskReport};
use medsiglip::eval::run::{EvalOptions, Event, Prediction, evaluate};
use medsiglip::eval::tables;
use medsiglip::eval::write::{check, write};
use medsiglip::model::Device;

/// Sixty pictures of twenty patients; their labels and embeddings follow from their number.
struct Lab(tempfile::TempDir);

const CONFIG: &str = r#"
name = "A test"
seed = 5
replicates = 200

[split]
val = 0.2
test = 0.4
search = false

[[encoder]]
name = "good"
embeddings = { pictures = "good.csv" }

[[encoder]]
name = "noise"
embeddings = { pictures = "noise.csv" }

[[source]]
name = "pictures"
manifest = "manifest.csv"
group = "patient"
stratify = "kind"
labels = ["kind", "a", "b", "listed", "view"]

"#;

const KINDS: &str = r#"
[[task]]
name = "kinds"
source = "pictures"
label = "kind"
strata = ["view"]
[task.probe]
[task.data_curve]
sizes = [12, 24, 1000]
repeats = 3
"#;

/// A number between 0 and 1 that looks random and is the same each time.
fn noise(number: usize, of: usize) -> f64 {
    let x = ((number * 131 + of * 37 + 11) as f64 * 12.9898).sin() * 43758.5453;
    x - x.floor()
}

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        let mut rows = String::from("image,patient,kind,a,b,listed,view\n");
        for number in 0..60 {
            let file = format!("{number:02}.bmp");
            let picture = RgbImage::from_pixel(4, 4, image::Rgb([number as u8; 3]));
            picture
                .save_with_format(lab.path(&file), ImageFormat::Bmp)
                .unwrap();
            let patient = number / 3;
            let kind = ["dots", "lines", "rings"][patient % 3];
            let a = ["1", "0", ""][number % 3];
            let listed = ["red|round", "round", "none"][patient % 3];
            let view = ["front", "side"][number % 2];
            rows += &format!("{file},p{patient},{kind},{a},1,{listed},{view}\n");
        }
        fs::write(lab.path("manifest.csv"), rows).unwrap();
        lab.table("good.csv", |number, at| {
            let signal = f64::from(u8::from(number / 3 % 3 == at));
            2.0 * signal + noise(number, at)
        });
        lab.table("noise.csv", |number, at| noise(number, at + 10));
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Embeddings as `medsiglip embed` writes them as CSV.
    fn table(&self, name: &str, value: impl Fn(usize, usize) -> f64) {
        let mut text = String::from("id,e0,e1,e2,e3\n");
        for number in 0..60 {
            let row: Vec<String> = (0..4).map(|at| value(number, at).to_string()).collect();
            text += &format!("{number:02}.bmp,{}\n", row.join(","));
        }
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, task: &str) -> Result<(Report, Vec<Prediction>, Vec<String>)> {
        self.run_all(&format!("{CONFIG}{task}"))
    }

    fn run_all(&self, config: &str) -> Result<(Report, Vec<Prediction>, Vec<String>)> {
        let config = EvalConfig::from_toml(config)?;
        let kept = self.path("kept");
        let options = EvalOptions {
            base: self.0.path(),
            kept: &kept,
            device: Device::Cpu,
            stop: || false,
        };
        let mut warnings = Vec::new();
        let (report, predictions) = evaluate(&config, &options, &mut |event| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.clone());
            }
            Ok(())
        })?;
        Ok((report, predictions, warnings))
    }

    fn error(&self, task: &str) -> String {
        self.run(task).unwrap_err().to_string()
    }
}

fn first(task: &TaskReport, encoder: &str) -> f64 {
    let result = task.results.iter().find(|r| r.encoder == encoder);
    let measure = &result.unwrap().overall[0];
    measure.value().unwrap_or_else(|| panic!("{measure:?}"))
}

#[test]
fn embeddings_are_measured_where_their_pictures_are_not() {
    let lab = Lab::new();
    let (here, predictions, _) = lab.run(KINDS).unwrap();
    for number in 0..60 {
        fs::remove_file(lab.path(&format!("{number:02}.bmp"))).unwrap();
    }
    assert!(
        lab.run(KINDS)
            .unwrap_err()
            .to_string()
            .contains("max_skipped")
    );
    let config = format!("{CONFIG}{KINDS}").replace("stratify", "pictures = false\nstratify");
    let (gone, same, _) = lab.run_all(&config).unwrap();
    assert_eq!((gone.tasks, same), (here.tasks, predictions));
    let searched = config.replace("search = false", "search = true");
    let (_, _, warnings) = lab.run_all(&searched).unwrap();
    assert!(
        warnings.iter().any(|w| w.contains("cannot be found")),
        "{warnings:?}"
    );
    let model = "[[encoder]]\nname = \"m\"\nmodel = \"medsiglip-mini\"\n";
    let wrong = lab.run_all(&format!("{config}{model}")).unwrap_err();
    assert!(
        wrong.to_string().contains("a model needs pictures"),
        "{wrong}"
    );
}

#[test]
fn a_good_encoder_is_told_from_noise_on_the_same_pictures() {
    let lab = Lab::new();
    let (report, predictions, _) = lab.run(KINDS).unwrap();
    let task = &report.tasks[0];
    assert_eq!((task.images, task.groups), (24, 8));
    assert_eq!(task.counts.iter().map(|of| of[2]).sum::<usize>(), 24);
    assert!(task.results.iter().all(|r| r.method == Method::LinearProbe));
    assert!(
        first(task, "good") > 0.99 && first(task, "noise") < 0.8,
        "{} {}",
        first(task, "good"),
        first(task, "noise")
    );
    // 24 pictures, three classes, two encoders; shares of a picture sum to 1.
    assert_eq!(predictions.len(), 24 * 3 * 2);
    for picture in predictions.chunks(3) {
        assert!((picture.iter().map(|p| p.score).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(picture.iter().filter(|p| p.truth == Some(true)).count(), 1);
    }
    let named = |name: &str| {
        let good = task.results.iter().find(|r| r.encoder == "good").unwrap();
        let measure = good.overall.iter().find(|m| m.name == name).unwrap();
        measure.value().unwrap_or_else(|| panic!("{measure:?}"))
    };
    assert!(named("accuracy") > 0.9 && named("Cohen's kappa") > 0.85 && named("macro F1") > 0.9);
    let all = &task.comparisons[0];
    let difference = all.difference.estimate.unwrap();
    assert!(
        difference.low > 0.0
            && (difference.value - (first(task, "good") - first(task, "noise"))).abs() < 1e-12
    );
    // Three classes, and all together; Holm's numbers are never smaller.
    assert_eq!(task.comparisons.len(), 4);
    assert!(
        task.comparisons
            .iter()
            .all(|c| c.p_holm.is_none_or(|holm| holm >= c.p.unwrap()))
    );
    // What is larger than the training side is left out; more pictures are no worse.
    let sizes: Vec<_> = task.data_curves[0]
        .points
        .iter()
        .map(|p| (p.asked, p.size))
        .collect();
    assert_eq!(sizes, [(12, 12.0), (24, 24.0)]);
    let views: Vec<_> = task.results[0]
        .strata
        .iter()
        .map(|s| (s.value.as_str(), s.images))
        .collect();
    assert_eq!(views, [("front", 13), ("side", 11)]);
    assert_eq!(
        task.results[0]
            .confusion
            .as_ref()
            .unwrap()
            .iter()
            .flatten()
            .sum::<usize>(),
        24
    );
}

#[test]
fn the_same_configuration_gives_the_same_report_and_a_folder_with_all_of_it() {
    let lab = Lab::new();
    let (report, predictions, _) = lab.run(KINDS).unwrap();
    assert_eq!(report, lab.run(KINDS).unwrap().0);
    let folder = lab.path("report");
    fs::create_dir_all(folder.join("figures")).unwrap();
    fs::write(folder.join("figures/mine.svg"), "mine").unwrap();
    let refused = write(&report, &predictions, &folder).unwrap_err();
    assert_eq!(refused.code(), "BAD_ARGUMENT");
    assert!(folder.join("figures/mine.svg").exists());
    fs::remove_dir_all(folder.join("figures")).unwrap();
    write(&report, &predictions, &folder).unwrap();
    write(&report, &predictions, &folder).unwrap();
    let read: Report =
        serde_json::from_slice(&fs::read(folder.join("results.json")).unwrap()).unwrap();
    assert_eq!(read, report);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    for what in ["Not for clinical use", "<svg", "kinds", "good"] {
        assert!(page.contains(what), "{what}");
    }
    let notice = "not for clinical use";
    assert!(
        fs::read_to_string(folder.join("results.json"))
            .unwrap()
            .contains(notice)
    );
    let long = fs::read_to_string(folder.join("tables/results.csv")).unwrap();
    assert!(long.lines().skip(1).all(|line| line.ends_with(notice)));
    let summary = fs::read_to_string(folder.join("figures/summary.svg")).unwrap();
    assert!(summary.contains(notice));
    // The results of another version are an evaluation's, too; those of other software are not.
    let other = r#"{"medsiglip": "0.0.1", "config": "c", "replicates": 100, "more": [1]}"#;
    fs::write(folder.join("results.json"), other).unwrap();
    check(&folder).unwrap();
    fs::write(folder.join("results.json"), r#"{"config": "c"}"#).unwrap();
    assert_eq!(check(&folder).unwrap_err().code(), "BAD_ARGUMENT");
    // It needs nothing else.
    assert!(!page.contains("src=") && !page.contains("http://") | page.contains("www.w3.org"));
    let csv = String::from_utf8(tables::long(&report).unwrap()).unwrap();
    assert!(csv.lines().count() > 40 && csv.starts_with("task,encoder,method"));
    for figure in fs::read_dir(folder.join("figures")).unwrap() {
        let path = figure.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        match path.extension().unwrap().to_str().unwrap() {
            "png" => assert!(bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xaeB`\x82")),
            _ => assert!(bytes.starts_with(b"<svg")),
        }
    }
}

#[test]
fn findings_are_measured_where_they_are_known_and_marked_where_they_cannot_be() {
    let lab = Lab::new();
    let task = "[[task]]\nname = \"findings\"\nsource = \"pictures\"\nfindings = { a = \"A\", b = \"B\" }\n[task.probe]\n";
    let (report, ..) = lab.run(task).unwrap();
    let questions = &report.tasks[0].results[0].questions;
    let counts: Vec<_> = questions
        .iter()
        .map(|q| (q.positives, q.negatives))
        .collect();
    // A third of the pictures says nothing of A; all have B.
    assert_eq!(counts, [(8, 8), (24, 0)]);
    assert!(questions[0].measures[0].estimate.is_some());
    let of_b = &questions[1].measures[0];
    let why = "nothing was learned: no picture of the class absent to learn from";
    assert_eq!((of_b.value(), of_b.missing.as_deref()), (None, Some(why)));
    let overall = &report.tasks[0].results[0].overall[0];
    assert_eq!(overall.missing, Some(format!("B: {why}")));
    let listed = "[[task]]\nname = \"listed\"\nsource = \"pictures\"\nlabel = \"listed\"\nmultilabel = true\nclasses = { red = \"Red\", round = \"Round\" }\n[task.probe]\n";
    let (report, ..) = lab.run(listed).unwrap();
    let task = &report.tasks[0];
    assert!(first(task, "good") > 0.95, "{}", first(task, "good"));
    assert_eq!(task.classes, ["Red", "Round"]);
}

#[test]
fn what_tables_lack_is_left_out_for_all_and_what_is_wrong_in_them_is_told() {
    let lab = Lab::new();
    let whole = fs::read_to_string(lab.path("noise.csv")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    fs::write(lab.path("noise.csv"), lines[..51].join("\n")).unwrap();
    let (report, _, warnings) = lab.run(KINDS).unwrap();
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("noise has no embeddings of 10 of 60 pictures")),
        "{warnings:?}"
    );
    assert!(report.tasks[0].images < 24);
    let images = |r: &medsiglip::eval::report::MethodReport| {
        r.confusion
            .as_ref()
            .unwrap()
            .iter()
            .flatten()
            .sum::<usize>()
    };
    assert!(
        report.tasks[0]
            .results
            .iter()
            .all(|r| images(r) == report.tasks[0].images)
    );

    fs::write(lab.path("noise.csv"), whole.replace(".bmp", ".png")).unwrap();
    assert_eq!(lab.run(KINDS).unwrap_err().code(), "BAD_ARGUMENT");
    fs::write(
        lab.path("noise.csv"),
        whole.replacen("00.bmp,0", "00.bmp,NaN0", 1),
    )
    .unwrap();
    assert_eq!(lab.run(KINDS).unwrap_err().code(), "BAD_CONFIG");
    fs::write(lab.path("noise.csv"), format!("{whole}00.bmp,9,9,9,9\n")).unwrap();
    assert_eq!(lab.run(KINDS).unwrap_err().code(), "BAD_CONFIG");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let lab = Lab::new();
    let task = |keys: &str| {
        format!("[[task]]\nname = \"t\"\nsource = \"pictures\"\n{keys}\n[task.probe]\n")
    };
    for (keys, what) in [
        (
            "label = \"colour\"",
            "no example has a value in the column colour",
        ),
        (
            "label = \"kind\"\nclasses = { dots = \"Dots\", cubes = \"Cubes\" }",
            "no example is of the class Cubes",
        ),
        ("label = \"kind\"\npositive = [\"cubes\"]", "positive"),
        (
            "label = \"kind\"\npositive = [\"dots\", \"lines\", \"rings\"]",
            "not all",
        ),
        ("label = \"kind\"\nordered = [\"dots\"]", "ordered"),
        ("label = \"b\"", "at least two classes"),
        ("label = \"kind\"\nstrata = [\"colour\"]", "strata"),
        ("findings = { kind = \"K\" }", "expected 1, 0, true, false"),
        ("", "expected either label"),
    ] {
        let error = lab.error(&task(keys));
        assert!(error.contains(what), "{keys}: {error}");
    }
    let none = lab.error("[[task]]\nname = \"t\"\nsource = \"pictures\"\nlabel = \"kind\"\n");
    assert!(
        none.contains("expected zero_shot, probe, or both"),
        "{none}"
    );
    let unknown =
        lab.error("[[task]]\nname = \"t\"\nsource = \"others\"\nlabel = \"kind\"\n[task.probe]\n");
    assert!(unknown.contains("none of the sources"), "{unknown}");
}

#[test]
fn patients_do_not_cross_a_split_column_unseen() {
    let lab = Lab::new();
    let rows = fs::read_to_string(lab.path("manifest.csv")).unwrap();
    let rows = rows.lines().enumerate().map(|(number, row)| match number {
        0 => format!("{row},side\n"),
        number => format!("{row},{}\n", ["train", "val", "test"][number % 3]),
    });
    fs::write(lab.path("manifest.csv"), rows.collect::<String>()).unwrap();
    let config = CONFIG.replace("group =", "split = \"side\"\ngroup =");
    let error = lab.run_all(&format!("{config}{KINDS}")).unwrap_err();
    assert!(
        error.code() == "BAD_CONFIG" && error.to_string().contains("group"),
        "{error}"
    );
}

#[test]
fn the_more_encoders_are_compared_the_more_a_difference_must_be() {
    let lab = Lab::new();
    let holm = |report: &Report| {
        let comparisons = report.tasks[0].comparisons.iter();
        let good = comparisons.filter(|c| c.a == "good" && c.b == "noise");
        let pairs: Vec<_> = good.map(|c| (c.p.unwrap(), c.p_holm.unwrap())).collect();
        assert!(!pairs.is_empty() && pairs.iter().all(|(p, holm)| holm >= p));
        pairs.iter().map(|(_, holm)| *holm).fold(0.0, f64::max)
    };
    let two = holm(&lab.run(KINDS).unwrap().0);
    lab.table("third.csv", |number, at| noise(number, at + 20));
    let third =
        "[[encoder]]\nname = \"third\"\nembeddings = { pictures = \"third.csv\" }\n[[source]]";
    let config = CONFIG.replacen("[[source]]", third, 1);
    let (report, ..) = lab.run_all(&format!("{config}{KINDS}")).unwrap();
    assert_eq!(report.tasks[0].comparisons.len(), 12);
    assert!(holm(&report) >= two);
}
