//! A killed run goes on where it was, and gives what an undisturbed one gives, byte for byte.

use std::time::{Duration, Instant};

use crate::folder::{Answer, Folder, answer};

/// So many that a run can be caught in the middle.
const MANY: u32 = 400;

fn args<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = [
        "embed",
        "scans",
        "--batch-size",
        "1",
        "--text",
        "a",
        "--output",
        output,
    ];
    [&args, more].concat()
}

/// Runs until some work is kept, then ends the run by `end`.
fn caught(folder: &Folder, args: &[&str], end: impl FnOnce(&mut std::process::Child)) -> Answer {
    let part = folder.path(&format!("{}.part", args[7]));
    let mut child = folder.command(args).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    // The header is some hundred bytes, a record about 300.
    while part.metadata().map_or(0, |file| file.len()) < 4000 {
        assert!(Instant::now() < patience, "no work was kept in time");
        std::thread::sleep(Duration::from_millis(1));
    }
    end(&mut child);
    answer(child.wait_with_output().unwrap())
}

fn killed(folder: &Folder, args: &[&str]) {
    let answer = caught(folder, args, |child| child.kill().unwrap());
    assert_ne!(answer.code, Some(0));
    assert!(folder.exists(&format!("{}.part", args[7])) && !folder.exists(args[7]));
}

fn resumed_equals_undisturbed(format: &str) {
    let folder = Folder::with_pictures(MANY);
    folder.write("scans/001.png", "");
    let (broken, whole) = (format!("broken.{format}"), format!("whole.{format}"));
    killed(&folder, &args(&broken, &[]));
    let answer = folder.run(&args(&broken, &["--resume"])).expect(1);
    assert!(
        answer.stderr.contains("note: resuming"),
        "{}",
        answer.stderr
    );
    assert!(
        answer.stderr.contains("001.png"),
        "failures of the first run are listed too"
    );
    folder.run(&args(&whole, &[])).expect(1);
    assert_eq!(folder.read(&broken), folder.read(&whole));
    let written = folder.outputs();
    assert!(!written.iter().any(|name| name.ends_with(".part")));
    for name in written.iter().filter(|name| name.starts_with("broken")) {
        let other = name.replace("broken", "whole");
        assert_eq!(folder.read(name), folder.read(&other), "{name}");
    }
}

#[test]
fn killed_jsonl_goes_on() {
    resumed_equals_undisturbed("jsonl");
}

#[test]
fn killed_csv_goes_on() {
    resumed_equals_undisturbed("csv");
}

#[test]
fn killed_npy_goes_on() {
    resumed_equals_undisturbed("npy");
}

#[test]
fn killed_parquet_goes_on() {
    resumed_equals_undisturbed("parquet");
}

#[test]
fn other_options_or_inputs_are_refused_and_named() {
    let folder = Folder::with_pictures(MANY);
    killed(&folder, &args("out.csv", &[]));
    let kept = folder.read("out.csv.part");
    let refused = |more: &[&str], reason: &str| {
        let answer = folder.run(&args("out.csv", more)).expect(2);
        assert!(
            answer.stderr.contains(reason) && answer.stderr.contains("hint:"),
            "{answer:#?}"
        );
        assert_eq!(folder.read("out.csv.part"), kept);
    };
    refused(&[], "--resume");
    refused(&["--resume", "--normalized"], "provenance");
    refused(&["--resume", "--recipe", "eval-tf"], "provenance");
    refused(&["--resume", "--text", "another"], "inputs");
    refused(&["--resume", "--format", "jsonl"], "format");
    folder.run(&args("out.csv", &["--resume"])).expect(0);
}

#[test]
fn resume_without_earlier_work_starts_anew() {
    let folder = Folder::with_pictures(2);
    folder.run(&args("out.csv", &["--resume"])).expect(0);
    let answer = folder.run(&["embed", "scans", "--resume"]).expect(2);
    assert!(answer.stderr.contains("standard output cannot be resumed"));
}

#[test]
fn a_run_that_failed_fast_goes_on_when_the_input_is_mended() {
    let folder = Folder::with_pictures(4);
    folder.write("scans/002.png", "");
    folder.run(&args("out.jsonl", &["--fail-fast"])).expect(1);
    assert!(folder.exists("out.jsonl.part") && !folder.exists("out.jsonl"));
    folder.picture("scans/002.png", 2);
    folder
        .run(&args("out.jsonl", &["--fail-fast", "--resume"]))
        .expect(0);
    folder.run(&args("whole.jsonl", &[])).expect(0);
    assert_eq!(folder.read("out.jsonl"), folder.read("whole.jsonl"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_done_and_says_how_to_go_on() {
    let folder = Folder::with_pictures(MANY);
    let interrupt = |child: &mut std::process::Child| {
        let id = child.id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-INT", &id])
            .status();
        assert!(kill.unwrap().success());
    };
    let answer = caught(&folder, &args("out.npy", &[]), interrupt).expect(130);
    assert!(
        answer
            .stderr
            .contains("hint: go on with the same command and --resume"),
        "{answer:#?}"
    );
    folder.run(&args("out.npy", &["--resume"])).expect(0);
    folder.run(&args("whole.npy", &[])).expect(0);
    assert_eq!(folder.read("out.npy"), folder.read("whole.npy"));
}
