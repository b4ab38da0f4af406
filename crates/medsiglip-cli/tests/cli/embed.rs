//! `embed`: which inputs become which rows, and what failing ones do.

use std::collections::BTreeSet;

use crate::folder::{Folder, WIDTH, column, embedding};

#[test]
fn pictures_and_texts_become_one_line_each() {
    let folder = Folder::with_pictures(3);
    let answer = folder
        .run(&["embed", "scans", "--text", "a scan", "--batch-size", "2"])
        .expect(0);
    let lines = answer.json();
    let scan = |i| format!("scans{}00{i}.png", std::path::MAIN_SEPARATOR);
    assert_eq!(
        column(&lines, "id"),
        [&*scan(0), &*scan(1), &*scan(2), "a scan"]
    );
    assert_eq!(column(&lines, "kind"), ["image", "image", "image", "text"]);
    let rows: Vec<Vec<f32>> = lines.iter().map(embedding).collect();
    assert!(
        rows.iter()
            .all(|row| row.len() == WIDTH && row.iter().all(|x| x.is_finite()))
    );
    assert!(rows.windows(2).all(|two| two[0] != two[1]));
    let provenance = &lines[0]["provenance"];
    assert_eq!(provenance["model"], "tiny");
    assert_eq!(provenance["normalized"], false);
    assert!(
        provenance["checksum"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}

#[test]
fn a_batch_changes_nothing_beyond_rounding() {
    let folder = Folder::with_pictures(5);
    let rows = |size| {
        let answer = folder
            .run(&["embed", "scans", "--batch-size", size])
            .expect(0);
        answer
            .json()
            .iter()
            .flat_map(embedding)
            .collect::<Vec<f32>>()
    };
    let (one, five) = (rows("1"), rows("5"));
    assert_eq!(one.len(), 5 * WIDTH);
    let worst = one
        .iter()
        .zip(&five)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn normalized_embeddings_have_norm_one_and_say_so() {
    let folder = Folder::with_pictures(1);
    let line = &folder
        .run(&["embed", "scans", "--normalized"])
        .expect(0)
        .json()[0];
    let norm = embedding(line).iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    assert_eq!(line["provenance"]["normalized"], true);
}

#[test]
fn failing_inputs_are_listed_and_the_others_done() {
    let folder = Folder::with_pictures(2);
    folder.write("scans/empty.png", "");
    let whole = folder.read("scans/000.png");
    folder.write("scans/torn.png", &whole[..whole.len() / 2]);
    folder.write("scans/notes.txt", "no picture");
    folder.write("scans/.hidden.png", "hidden");
    let answer = folder.run(&["embed", "scans", "missing.png"]).expect(1);
    let lines = answer.json();
    let codes: Vec<_> = lines
        .iter()
        .filter_map(|line| line["error"]["code"].as_str())
        .collect();
    assert_eq!(codes, ["BAD_IMAGE", "BAD_IMAGE", "IO_ERROR"]);
    assert_eq!(lines.len(), 5);
    assert_eq!(
        answer.stderr.matches("error[BAD_IMAGE]").count(),
        2,
        "{}",
        answer.stderr
    );
    assert_eq!(answer.stderr.matches("error[IO_ERROR]").count(), 1);
    assert!(answer.stderr.contains("3 of 5 failed"));
}

#[test]
fn where_every_input_fails_nothing_is_done() {
    let folder = Folder::new();
    folder.write("scans/empty.png", "");
    let answer = folder.run(&["embed", "scans"]).expect(2);
    assert_eq!(answer.json()[0]["error"]["code"], "BAD_IMAGE");
}

#[test]
fn fail_fast_stops_at_the_first_failure() {
    let folder = Folder::with_pictures(3);
    folder.write("scans/001.png", "");
    let args = ["embed", "scans", "--fail-fast", "--batch-size", "1"];
    let answer = folder.run(&args).expect(1);
    assert_eq!(answer.json().len(), 2);
    assert_eq!(answer.json()[1]["error"]["code"], "BAD_IMAGE");
    assert!(answer.stderr.contains("001.png"));
}

#[test]
fn what_cannot_be_found_is_said_before_any_work() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("scans")).unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["embed", "missing.png"], "error[IO_ERROR]"),
        (&["embed", "scans"], "no pictures found"),
        (&["embed", "*.png"], "no file matches the pattern"),
        (&["embed"], "no pictures found"),
        (&["embed", "scans", "--recipe", "best"], "eval-tf"),
        (
            &["embed", "--text", "a", "--model", "no such model"],
            "error[BAD_ARGUMENT]",
        ),
    ];
    for (args, expected) in cases {
        let answer = folder.run(args).expect(2);
        assert!(answer.stderr.starts_with("error["), "{answer:#?}");
        assert!(answer.stderr.contains(expected), "{answer:#?}");
        assert_eq!(answer.stdout, "");
    }
}

#[test]
fn every_input_is_done_once() {
    let folder = Folder::with_pictures(2);
    let args = [
        "embed",
        "scans",
        "scans/*.png",
        "--text",
        "a",
        "--text",
        "b",
        "--text",
        "a",
    ];
    let answer = folder.run(&args).expect(0);
    let lines = answer.json();
    let ids: BTreeSet<&str> = column(&lines, "id").into_iter().collect();
    assert_eq!((lines.len(), ids.len()), (4, 4));
    assert!(
        answer.stderr.contains("3 inputs given again"),
        "{}",
        answer.stderr
    );
}

#[test]
fn long_texts_are_warned_about() {
    let folder = Folder::new();
    let long = "lung ".repeat(200);
    let answer = folder
        .run(&["embed", "--text", &long, "--text", "short"])
        .expect(0);
    assert_eq!(
        answer
            .stderr
            .matches("warning: longer than the model reads")
            .count(),
        1
    );
}

#[test]
fn texts_that_the_model_reads_alike_keep_their_rows() {
    let folder = Folder::new();
    let texts = ["A lung.", "knee", "a lung", "a LUNG"];
    let args: Vec<_> = texts.iter().flat_map(|text| ["--text", text]).collect();
    let lines = folder
        .run(&[&["embed"], &args[..]].concat())
        .expect(0)
        .json();
    assert_eq!(column(&lines, "id"), texts);
    let rows: Vec<Vec<f32>> = lines.iter().map(embedding).collect();
    assert!(rows[0] == rows[2] && rows[0] == rows[3] && rows[0] != rows[1]);
}

#[test]
fn quiet_hides_notes_but_no_errors() {
    let folder = Folder::with_pictures(1);
    folder.write("scans/empty.png", "");
    folder.write("scans/notes.txt", "no picture");
    let answer = folder.run(&["embed", "scans", "--quiet"]).expect(1);
    assert!(!answer.stderr.contains("note:") && answer.stderr.contains("error[BAD_IMAGE]"));
}

#[test]
fn a_limit_on_pixels_is_kept() {
    let folder = Folder::with_pictures(1);
    let answer = folder
        .run(&["embed", "scans", "--max-pixels", "100"])
        .expect(2);
    assert_eq!(answer.json()[0]["error"]["code"], "LIMIT_EXCEEDED");
}
