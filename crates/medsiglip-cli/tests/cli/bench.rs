//! `bench`.

use serde_json::Value;

use crate::folder::{Folder, TINY};

/// The report of `bench` with `args`, quick.
fn report(args: &[&str]) -> Value {
    let common = ["bench", "--model", TINY, "--runs", "2", "--format", "json"];
    let answer = Folder::new().run(&[&common, args].concat()).expect(0);
    serde_json::from_str(&answer.stdout).unwrap()
}

#[test]
fn rows_hold_what_was_measured() {
    let report = report(&["--only", "pixels,text,vision", "--threads", "1"]);
    let rows = report["rows"].as_array().unwrap();
    let parts: Vec<_> = rows
        .iter()
        .map(|row| row["part"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["pixels-gray", "pixels-rgb", "text", "vision"]);
    for row in rows {
        assert_eq!(row["seconds"].as_array().unwrap().len(), 2);
        let (median, rate) = (
            row["median_s"].as_f64().unwrap(),
            row["items_per_s"].as_f64().unwrap(),
        );
        assert!(median > 0.0 && (median * rate - 1.0).abs() < 1e-9, "{row}");
        // Decoding is no arithmetic of the towers.
        assert_eq!(
            row["share_of_peak"].is_null(),
            row["part"].as_str().unwrap().starts_with("pixels")
        );
    }
    let peak = report["peak_gflops_per_s"]["all_threads"].as_f64().unwrap();
    let vision = &rows[3];
    let share = vision["gflops_per_s"].as_f64().unwrap() / peak;
    assert!((vision["share_of_peak"].as_f64().unwrap() - share).abs() < 1e-9);
    assert!(report.get("cold_start").is_none() && report.get("drift").is_none());
}

#[test]
fn a_picture_of_ones_own_is_timed() {
    let folder = Folder::with_pictures(1);
    let args = [
        "bench",
        "--model",
        TINY,
        "--runs",
        "1",
        "--only",
        "pixels",
        "--picture",
    ];
    let text = folder
        .run(&[&args[..], &["scans/000.png"]].concat())
        .expect(0)
        .stdout;
    assert!(text.contains("the picture given to 56"), "{text}");
    let answer = folder.run(&[&args[..], &["absent.png"]].concat()).expect(2);
    assert!(answer.stderr.contains("IO_ERROR"), "{}", answer.stderr);
}

#[test]
fn a_cold_start_is_a_process_of_its_own() {
    let report = report(&["--only", "cold-start"]);
    let starts = report["cold_start"]["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 2);
    for start in starts {
        let seconds = |name: &str| start[name].as_f64().unwrap();
        assert!(
            seconds("total_s") > seconds("load_s") + seconds("first_forward_s"),
            "{start}"
        );
        assert!(seconds("second_forward_s") > 0.0);
    }
}

#[test]
fn another_storage_type_has_its_drift_told() {
    let drift = &report(&["--only", "drift", "--dtype", "bf16"])["drift"];
    assert_eq!(
        (&drift["dtype"], &drift["stored"]),
        (&"bf16".into(), &"f32".into())
    );
    for cosine in [&drift["cosine_images"], &drift["cosine_texts"]] {
        // bf16 keeps 8 bits: not equal, but close.
        assert!(
            (0.99..0.999_999_9).contains(&cosine.as_f64().unwrap()),
            "{drift}"
        );
    }
    assert!(
        report(&["--only", "drift", "--dtype", "f32"])
            .get("drift")
            .is_none()
    );
}

#[test]
fn a_person_gets_a_table_and_a_wrong_part_is_told() {
    let folder = Folder::new();
    let text = folder
        .run(&["bench", "--model", TINY, "--runs", "1", "--only", "text"])
        .expect(0)
        .stdout;
    assert!(
        text.contains("arithmetic peak") && text.contains("text, batch 8"),
        "{text}"
    );
    let answer = folder
        .run(&["bench", "--model", TINY, "--only", "speed"])
        .expect(2);
    assert!(
        answer.stderr.contains("vision-batch-4"),
        "{}",
        answer.stderr
    );
}
