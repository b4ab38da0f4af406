//! A model that was trained as a classifier: `classify` takes its classes, `embed` what they are decided by.

use crate::folder::{Answer, Folder, embedding};

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../medsiglip/tests/data/tiny-classifier"
);

fn run(folder: &Folder, args: &[&str]) -> Answer {
    folder.run(&[args, &["--model", MODEL]].concat())
}

#[test]
fn its_own_classes_are_scored_in_every_form() {
    let folder = Folder::with_pictures(2);
    let answer = run(&folder, &["classify", "scans"]).expect(0);
    assert!(answer.stderr.contains("not for clinical use"));
    let lines = answer.json();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(line["note"], "not for clinical use");
        assert_eq!(line["softmax_over"], "present and absent");
        let scores = line["scores"].as_array().unwrap();
        let labels: Vec<_> = scores
            .iter()
            .map(|s| s["label"].as_str().unwrap())
            .collect();
        assert_eq!(labels, ["line", "dot", "ring"]);
        for score in scores {
            let number = |name: &str| score[name].as_f64().unwrap();
            let sigmoid = 1.0 / (1.0 + (-number("logit")).exp());
            assert!((number("probability") - sigmoid).abs() < 1e-5);
            assert!(number("softmax") == number("probability") && score["cosine"].is_null());
        }
    }
    run(&folder, &["classify", "scans", "--output", "out.csv"]).expect(0);
    let text = folder.text("out.csv");
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 2 * 3);
    let at = |name: &str| rows[0].iter().position(|c| *c == name).unwrap();
    let (label, cosine, probability) = (at("label"), at("cosine"), at("probability"));
    assert!(rows[1][label] == "line" && rows[1][cosine].is_empty());
    let want = lines[0]["scores"][0]["probability"].as_f64().unwrap();
    let got: f64 = rows[1][probability].parse().unwrap();
    assert!((got - want).abs() < 1e-6, "{text}");
    let table = run(&folder, &["classify", "scans", "--format", "table"]).expect(0);
    assert_eq!(table.stdout.matches("Not for clinical use.").count(), 2);
}

#[test]
fn other_classes_are_refused() {
    let folder = Folder::with_pictures(1);
    for classes in [["--labels", "a,b"], ["--task", "cxr_findings"]] {
        let answer = run(&folder, &[&["classify", "scans"], &classes[..]].concat()).expect(2);
        for part in ["classifier of its own classes", "leave out --labels"] {
            assert!(answer.stderr.contains(part), "{answer:#?}");
        }
    }
}

#[test]
fn its_features_are_embedded_and_it_is_told_what_it_is() {
    let folder = Folder::with_pictures(1);
    let answer = run(&folder, &["embed", "scans"]).expect(0);
    assert_eq!(embedding(&answer.json()[0]).len(), 36);
    let told = folder
        .run(&["inspect", MODEL, "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(told[0]["classes"]["kind"], "multilabel");
    assert_eq!(told[0]["classes"]["labels"][2], "ring");
    folder.write("texts.txt", "a ring\n");
    let text = run(&folder, &["embed", "--texts-from", "texts.txt"]).expect(2);
    assert!(text.stderr.contains("no text tower"), "{text:#?}");
}

#[test]
fn converted_it_gives_the_same_scores() {
    let folder = Folder::with_pictures(1);
    folder
        .run(&[
            "convert", "--model", MODEL, "--dtype", "f32", "--output", "copy",
        ])
        .expect(0);
    let scores = |model: &str| {
        let answer = folder
            .run(&["classify", "scans", "--model", model])
            .expect(0);
        answer.json()[0]["scores"].clone()
    };
    assert_eq!(scores("copy"), scores(MODEL));
}
