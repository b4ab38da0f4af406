//! `classify`: scores, their forms, and that nobody takes them for a diagnosis.

use crate::folder::{Folder, answer};

const LABELS: [&str; 2] = ["--labels", "a normal scan, a fracture,a mass"];

#[test]
fn scores_are_consistent() {
    let folder = Folder::with_pictures(2);
    let answer = folder
        .run(&[&["classify", "scans"], &LABELS[..]].concat())
        .expect(0);
    let lines = answer.json();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(line["note"], "not for clinical use");
        assert_eq!(line["provenance"]["model"], "tiny");
        let scores = line["scores"].as_array().unwrap();
        let labels: Vec<_> = scores
            .iter()
            .map(|s| s["label"].as_str().unwrap())
            .collect();
        assert_eq!(labels, ["a normal scan", "a fracture", "a mass"]);
        let number = |i: usize, name: &str| scores[i][name].as_f64().unwrap();
        let sum: f64 = (0..3).map(|i| number(i, "softmax")).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        for i in 0..3 {
            let sigmoid = 1.0 / (1.0 + (-number(i, "logit")).exp());
            assert!((number(i, "probability") - sigmoid).abs() < 1e-5);
            assert!(number(i, "cosine").abs() <= 1.0 + 1e-6);
        }
    }
    assert!(answer.stderr.contains("not for clinical use"));
}

#[test]
fn a_table_is_sorted_and_says_that_it_is_not_for_clinical_use() {
    let folder = Folder::with_pictures(2);
    let args = [&["classify", "scans", "--format", "table"], &LABELS[..]].concat();
    let answer = folder.run(&args).expect(0);
    assert_eq!(answer.stdout.matches("Not for clinical use.").count(), 2);
    let shares: Vec<f32> = answer
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.parse().ok())
        .collect();
    assert_eq!(shares.len(), 6, "{}", answer.stdout);
    assert!(
        shares
            .chunks(3)
            .all(|three| three.is_sorted_by(|a, b| a >= b)),
        "{shares:?}"
    );
}

#[test]
fn a_csv_has_a_line_a_picture_and_class_and_can_be_resumed() {
    let folder = Folder::with_pictures(2);
    folder.write("scans/bad.png", "");
    let args = [&["classify", "scans", "--output", "out.csv"], &LABELS[..]].concat();
    folder
        .run(&[&args[..], &["--fail-fast", "--batch-size", "1"]].concat())
        .expect(1);
    folder
        .run(&[&args[..], &["--resume", "--batch-size", "1"]].concat())
        .expect(1);
    let text = folder.text("out.csv");
    assert_eq!(text.lines().count(), 1 + 2 * 3);
    assert!(
        text.lines()
            .skip(1)
            .all(|line| line.ends_with("not for clinical use"))
    );
    let files = ["out.csv", "out.csv.errors.jsonl", "out.csv.provenance.json"];
    assert_eq!(folder.outputs(), files);
}

#[test]
fn wrong_classes_are_refused_with_the_known_ones() {
    let folder = Folder::with_pictures(1);
    let cases: [(&[&str], &str); 5] = [
        (&["--task", "palm_reading"], "cxr_findings"),
        (&["--labels", "a,,b"], "error[BAD_ARGUMENT]"),
        (&["--labels", "a,a"], "error[BAD_ARGUMENT]"),
        (&["--prompts", "missing.toml"], "error[IO_ERROR]"),
        (&[], "--labels"),
    ];
    for (args, expected) in cases {
        let answer = folder
            .run(&[&["classify", "scans"], args].concat())
            .expect(2);
        assert!(answer.stderr.contains(expected), "{answer:#?}");
    }
}

#[test]
fn published_tasks_score_every_class() {
    let folder = Folder::with_pictures(1);
    let answer = folder
        .run(&["classify", "scans", "--task", "cxr_findings"])
        .expect(0);
    assert!(answer.json()[0]["scores"].as_array().unwrap().len() > 1);
}

#[test]
fn without_a_model_the_small_one_answers_and_says_what_it_is() {
    let folder = Folder::with_pictures(1);
    for task in ["cxr_pneumonia", "diabetic_retinopathy", "lung_histology"] {
        let mut command = folder.command(&["classify", "scans", "--task", task]);
        command
            .env_remove("MEDSIGLIP_MODEL")
            .env("XDG_CACHE_HOME", folder.path("cache"));
        let answer = answer(command.output().unwrap()).expect(0);
        assert_eq!(answer.json()[0]["provenance"]["model"], "medsiglip-mini");
        assert!(answer.stderr.contains("no MedSigLIP"), "{}", answer.stderr);
    }
    assert!(
        folder
            .path("cache/medsiglip/medsiglip-mini/config.json")
            .is_file()
    );
}
