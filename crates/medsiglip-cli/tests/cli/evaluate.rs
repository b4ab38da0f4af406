//! `probe` and `eval` as processes: what is embedded, probed, scored and measured fits together, and what does not is refused.

use serde_json::Value;

use crate::folder::{Folder, TINY, run};

/// Sixteen pictures, eight of a kind, two of a patient, and their embeddings.
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

const EVAL: &str = r#"
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
"#;

const LABELS: &str = "--labels labels.csv --label kind --group patient";

#[test]
fn a_probe_is_fitted_scores_and_is_measured() {
    let folder = folder();
    let fit = format!("probe fit scans.parquet {LABELS} --folds 3 --output probe");
    let fitted = run(&folder, &fit).expect(0);
    assert!(fitted.stderr.contains("kind: 16 items, C "), "{fitted:?}");
    let scored = run(&folder, "probe predict probe scans.parquet").expect(0);
    let lines: Vec<&str> = scored.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (17, "id,kind=late"));
    for line in &lines[1..] {
        let share: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
        assert!((0.0..=1.0).contains(&share), "{line}");
    }
    assert!(scored.stderr.contains("not for clinical use"));
    let eval = format!("probe eval probe scans.parquet {LABELS}");
    let measured = run(&folder, &eval).expect(0).stdout;
    assert!(
        measured.contains("kind = late") && measured.contains("8 of 16"),
        "{measured}"
    );
    let fit = "probe fit scans.parquet --labels labels.csv --findings bright --standardize --balanced --output findings";
    let fitted = run(&folder, fit).expect(0);
    assert!(fitted.stderr.contains("bright: 11 items"), "{fitted:?}");
    let scored = run(&folder, "probe predict findings scans.parquet").expect(0);
    assert!(scored.stdout.starts_with("id,bright=present\n"));
}

#[test]
fn a_probe_is_calibrated_and_decides_where_it_is_asked_to() {
    let folder = folder();
    let how = "--calibrate platt --threshold sensitivity=0.9 --folds 3 --C 1";
    let fit = format!("probe fit scans.parquet {LABELS} {how} --output probe");
    let fitted = run(&folder, &fit).expect(0);
    let told = "kind: threshold 0.";
    assert!(fitted.stderr.contains(told), "{fitted:?}");
    let about: Value = serde_json::from_slice(&folder.read("probe/probe.json")).unwrap();
    let head = &about["heads"][0];
    let at = head["threshold"]["probability"].as_f64().unwrap();
    assert!(head["calibration"]["platt"]["a"].is_f64(), "{head}");
    let scored = run(&folder, "probe predict probe scans.parquet").expect(0);
    let mut lines = scored.stdout.lines();
    assert_eq!(lines.next(), Some("id,kind=late,kind"));
    for line in lines {
        let (rest, class) = line.rsplit_once(',').unwrap();
        let share: f64 = rest.rsplit(',').next().unwrap().parse().unwrap();
        assert_eq!(class == "late", share >= at, "{line}");
    }
    let eval = format!("probe eval probe scans.parquet {LABELS}");
    let measured = run(&folder, &eval).expect(0).stdout;
    assert!(
        measured.contains("specificity") && !measured.contains("no threshold"),
        "{measured}"
    );
    for wrong in ["sensitivity=0", "sensitivity=1.1", "best"] {
        run(
            &folder,
            &format!("probe fit scans.parquet {LABELS} --threshold {wrong} --output p"),
        )
        .expect(2);
    }
}

#[test]
fn a_probe_refuses_what_it_was_not_fitted_for() {
    let folder = folder();
    let fit = format!("probe fit scans.parquet {LABELS} --output probe");
    run(&folder, &fit).expect(0);
    // The same folder again: it is replaced.
    run(&folder, &fit).expect(0);
    run(
        &folder,
        "embed scans --normalized --output normalized.parquet",
    )
    .expect(0);
    let other = run(&folder, "probe predict probe normalized.parquet").expect(2);
    assert!(other.stderr.contains("normalised"), "{other:?}");
    folder.write("plain.csv", "id,e0,e1\na,1,2\nb,3,4\n");
    let narrow = run(&folder, "probe predict probe plain.csv").expect(2);
    assert!(narrow.stderr.contains("width"), "{narrow:?}");
    folder.write("wrong.csv", "id,kind\nscans/000.png,strange\n");
    let eval = "probe eval probe scans.parquet --labels wrong.csv --label kind";
    let strange = run(&folder, eval).expect(2).stderr;
    let what = "classes that the probe does not know";
    assert!(
        strange.contains(what) && !strange.contains("strange"),
        "{strange}"
    );
}

#[test]
fn labels_that_teach_nothing_are_refused() {
    let folder = folder();
    let one = "scans/000.png,early\n";
    for (labels, what) in [
        (format!("id,kind\n{one}{one}"), "row 3 is there twice"),
        (format!("id,sort\n{one}"), "no column kind"),
        ("id,kind\nelsewhere.png,early\n".into(), "none of 1 ids"),
        (
            format!("id,kind\n{one}scans/001.png,early\n"),
            "two classes",
        ),
    ] {
        folder.write("wrong.csv", labels);
        let fit = "probe fit scans.parquet --labels wrong.csv --label kind --output wrong";
        let refused = run(&folder, fit).expect(2);
        assert!(refused.stderr.contains(what), "{what}: {refused:?}");
        assert!(!folder.exists("wrong"));
    }
    for (option, what) in [("--folds 1", "two or more"), ("--C 0", "above zero")] {
        let fit = format!("probe fit scans.parquet {LABELS} {option} --output wrong");
        let refused = run(&folder, &fit).expect(2);
        assert!(refused.stderr.contains(what), "{what}: {refused:?}");
    }
}

#[test]
fn an_evaluation_writes_its_report_and_goes_on_from_its_embeddings() {
    let folder = folder();
    let manifest = folder.text("labels.csv").replacen("id,", "image,", 1);
    folder.write("manifest.csv", manifest);
    folder.write("eval.toml", EVAL.replace("MODEL", TINY));
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
        first["tasks"][0]["comparisons"][0]["difference"]["alone"],
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

#[test]
fn what_one_patient_says_has_no_interval_in_a_probes_measures() {
    let folder = folder();
    let fit =
        format!("probe fit scans.parquet {LABELS} --folds 3 --threshold youden --output probe");
    let fitted = run(&folder, &fit).expect(0);
    assert!(fitted.stderr.contains("not for clinical use"), "{fitted:?}");
    let eval = format!("probe eval probe scans.parquet {LABELS}");
    let measured = run(&folder, &eval).expect(0).stdout;
    for what in [
        "accuracy",
        "macro F1",
        "Cohen's kappa",
        "sensitivity at the threshold",
        "not for clinical use",
    ] {
        assert!(measured.contains(what), "{what}: {measured}");
    }
    assert!(!measured.contains("[1.000, 1.000]"), "{measured}");
    // One picture of sixteen is positive.
    let text = folder.text("labels.csv");
    let lines = text.lines().enumerate().map(|(number, line)| match number {
        16 => format!("{line}\n"),
        _ => format!("{}\n", line.replace(",late,", ",early,")),
    });
    folder.write("labels.csv", lines.collect::<String>());
    let measured = run(&folder, &eval).expect(0).stdout;
    let words = measured.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("1 of 16"), "{measured}");
    for line in ["AUROC", "accuracy", "Cohen's kappa", "ECE, 10 equal bins"] {
        let at = measured.lines().skip(1).find(|l| l.contains(line)).unwrap();
        assert!(at.contains("(no interval: "), "{at}");
    }
}

#[test]
fn a_probe_reads_the_columns_of_embeddings_that_are_named() {
    let folder = folder();
    let mut table = String::from("number,who,x0,x1,y0,y1\n");
    for i in 0..16 {
        let late = f64::from(u8::from(i >= 8));
        table += &format!(
            "{i},scans/{i:03}.png,{},{},{},0\n",
            late + 0.01 * f64::from(i),
            i % 3,
            i % 5
        );
    }
    folder.write("plain.csv", table);
    let fit = format!("probe fit plain.csv {LABELS} --folds 3 --output named --embedding-id who");
    let refused = run(&folder, &fit).expect(2);
    assert!(refused.stderr.contains("--embedding-column"), "{refused:?}");
    run(&folder, &format!("{fit} --embedding-column x")).expect(0);
    let named = "--embedding-id who --embedding-column x";
    let scored = run(&folder, &format!("probe predict named plain.csv {named}")).expect(0);
    assert_eq!(scored.stdout.lines().count(), 17);
    let eval = format!("probe eval named plain.csv {LABELS} {named}");
    assert!(run(&folder, &eval).expect(0).stdout.contains("8 of 16"));
}
