//! `probe` and `eval` as processes: what is embedded, probed, scored and measured fits together, and what does not is refused.

use serde_json::Value;

use crate::folder::{Folder, TINY};

/// Sixteen pictures, each with a label of eight of a kind, two of a patient; the first eight and the last stand in two tables.
fn folder() -> Folder {
    let folder = Folder::with_pictures(16);
    let mut all = String::from("id,kind,bright,patient\n");
    for i in 0..16 {
        let kind = if i < 8 { "early" } else { "late" };
        let bright = ["1", "0", ""][i % 3];
        all += &format!("scans/{i:03}.png,{kind},{bright},p{}\n", i / 2);
    }
    folder.write("labels.csv", all);
    folder
        .run(&["embed", "scans", "--output", "scans.parquet"])
        .expect(0);
    folder
}

#[test]
fn a_probe_is_fitted_scores_and_is_measured() {
    let folder = folder();
    let fit = [
        "probe",
        "fit",
        "scans.parquet",
        "--labels",
        "labels.csv",
        "--label",
        "kind",
        "--group",
        "patient",
        "--folds",
        "3",
        "--output",
        "probe",
    ];
    let fitted = folder.run(&fit).expect(0);
    assert!(fitted.stderr.contains("kind: 16 items, C "), "{fitted:?}");
    let scored = folder
        .run(&["probe", "predict", "probe", "scans.parquet"])
        .expect(0);
    let lines: Vec<&str> = scored.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (17, "id,kind=late"));
    for line in &lines[1..] {
        let share: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
        assert!((0.0..=1.0).contains(&share), "{line}");
    }
    assert!(scored.stderr.contains("not for clinical use"));
    let measured = folder
        .run(&[
            "probe",
            "eval",
            "probe",
            "scans.parquet",
            "--labels",
            "labels.csv",
            "--label",
            "kind",
            "--group",
            "patient",
        ])
        .expect(0);
    // What it learned from it tells apart.
    assert!(
        measured.stdout.contains("kind = late") && measured.stdout.contains("8 of 16"),
        "{measured:?}"
    );
    let findings = [
        "probe",
        "fit",
        "scans.parquet",
        "--labels",
        "labels.csv",
        "--findings",
        "bright",
        "--standardize",
        "--balanced",
        "--output",
        "findings",
    ];
    assert!(
        folder
            .run(&findings)
            .expect(0)
            .stderr
            .contains("bright: 11 items")
    );
    let scored = folder
        .run(&["probe", "predict", "findings", "scans.parquet"])
        .expect(0);
    assert!(scored.stdout.starts_with("id,bright=present\n"));
}

#[test]
fn a_probe_refuses_what_it_was_not_fitted_for() {
    let folder = folder();
    let fit = [
        "probe",
        "fit",
        "scans.parquet",
        "--labels",
        "labels.csv",
        "--label",
        "kind",
        "--output",
        "probe",
    ];
    folder.run(&fit).expect(0);
    // The same folder again: it is replaced.
    folder.run(&fit).expect(0);
    folder
        .run(&[
            "embed",
            "scans",
            "--normalized",
            "--output",
            "normalized.parquet",
        ])
        .expect(0);
    let other = folder
        .run(&["probe", "predict", "probe", "normalized.parquet"])
        .expect(2);
    assert!(other.stderr.contains("normalised"), "{other:?}");
    folder.write("plain.csv", "id,e0,e1\na,1,2\nb,3,4\n");
    let narrow = folder
        .run(&["probe", "predict", "probe", "plain.csv"])
        .expect(2);
    assert!(narrow.stderr.contains("width"), "{narrow:?}");
    for (labels, what) in [
        (
            "id,kind\nscans/000.png,early\nscans/000.png,late\n",
            "row 3 is there twice",
        ),
        ("id,sort\nscans/000.png,early\n", "no column kind"),
        ("id,kind\nelsewhere.png,early\n", "none of 1 ids"),
        (
            "id,kind\nscans/000.png,early\nscans/001.png,early\n",
            "two classes",
        ),
    ] {
        folder.write("wrong.csv", labels);
        let args = [
            "probe",
            "fit",
            "scans.parquet",
            "--labels",
            "wrong.csv",
            "--label",
            "kind",
            "--output",
            "wrong",
        ];
        let refused = folder.run(&args).expect(2);
        assert!(refused.stderr.contains(what), "{what}: {refused:?}");
        assert!(!folder.exists("wrong"));
    }
    folder.write("labels.csv", "id,kind\nscans/000.png,strange\n");
    let strange = folder
        .run(&[
            "probe",
            "eval",
            "probe",
            "scans.parquet",
            "--labels",
            "labels.csv",
            "--label",
            "kind",
        ])
        .expect(2);
    assert!(
        strange
            .stderr
            .contains("classes that the probe does not know")
            && !strange.stderr.contains("strange"),
        "{strange:?}"
    );
}

#[test]
fn an_evaluation_writes_its_report_and_goes_on_from_its_embeddings() {
    let folder = folder();
    let manifest = folder.text("labels.csv").replacen("id,", "image,", 1);
    folder.write("manifest.csv", manifest);
    folder.write(
        "eval.toml",
        r#"
name = "tiny"
replicates = 100
[split]
val = 0.0
test = 0.5
search = false
[[encoder]]
name = "tiny"
model = "MODEL"
[[encoder]]
name = "other"
embeddings = { scans = "scans.parquet" }
[[source]]
name = "scans"
manifest = "manifest.csv"
stratify = "kind"
[[task]]
name = "kinds"
source = "scans"
label = "kind"
[task.probe]
folds = 2
"#
        .replace("MODEL", TINY),
    );
    let told = folder
        .run(&["eval", "eval.toml", "--output", "report"])
        .expect(0);
    assert!(
        told.stdout.contains("not for clinical use") && told.stdout.contains("tiny, linear probe"),
        "{told:?}"
    );
    for file in [
        "report.html",
        "results.json",
        "predictions.parquet",
        "tables/results.csv",
        "figures/summary.svg",
        "embeddings/tiny-scans-0.bin",
    ] {
        assert!(folder.exists(&format!("report/{file}")), "{file}");
    }
    // The same model's embeddings, once made here and once read: no difference at all.
    let results = || serde_json::from_slice::<Value>(&folder.read("report/results.json")).unwrap();
    let first = results();
    assert_eq!(
        first["tasks"][0]["comparisons"][0]["difference"]["value"],
        0.0
    );
    let kept = folder.read("report/embeddings/tiny-scans-0.bin");
    folder.write(
        "report/embeddings/tiny-scans-0.bin",
        &kept[..kept.len() - 10],
    );
    folder
        .run(&["eval", "eval.toml", "--output", "report"])
        .expect(0);
    assert_eq!(
        folder.read("report/embeddings/tiny-scans-0.bin").len(),
        kept.len()
    );
    assert_eq!(results(), first);
}
