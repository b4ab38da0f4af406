//! A killed run goes on where it was, and gives what an undisturbed one gives, byte for byte.

use std::time::{Duration, Instant};

#[cfg(unix)]
use crate::folder::on_a_full_disk;
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
    // The header lists the inputs, which takes some kilobytes; a record has about 300 bytes.
    while part.metadata().map_or(0, |file| file.len()) < 30_000 {
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

#[test]
fn a_picture_that_was_changed_after_it_was_done_is_refused() {
    let folder = Folder::with_pictures(4);
    folder.write("scans/002.png", "");
    folder.run(&args("out.jsonl", &["--fail-fast"])).expect(1);
    let kept = folder.read("out.jsonl.part");
    folder.picture("scans/000.png", 77);
    let answer = folder.run(&args("out.jsonl", &["--resume"])).expect(2);
    assert!(
        answer.stderr.contains("cannot resume") && answer.stderr.contains("000.png"),
        "{answer:#?}"
    );
    assert_eq!(folder.read("out.jsonl.part"), kept);
    assert!(!folder.exists("out.jsonl"));
}

#[test]
fn what_could_not_be_read_is_tried_again() {
    let folder = Folder::with_pictures(3);
    let run = |output: &str, more: &[&str], code| {
        let paths = ["embed", "share/later.png", "scans"];
        let rest = ["--batch-size", "1", "--output", output];
        let answer = folder.run(&[&paths[..], &rest, more].concat());
        answer.expect(code)
    };
    run("out.csv", &["--fail-fast"], 2);
    // Still away: it fails again, is listed once, and the others are done.
    run("gone.csv", &["--fail-fast"], 2);
    let answer = run("gone.csv", &["--resume"], 1);
    assert_eq!(answer.stderr.matches("error[IO_ERROR]").count(), 1);
    assert_eq!(folder.text("gone.csv").lines().count(), 1 + 3);
    folder.picture("share/later.png", 9);
    run("out.csv", &["--resume"], 0);
    run("whole.csv", &[], 0);
    assert_eq!(folder.read("out.csv"), folder.read("whole.csv"));
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_work() {
    let folder = Folder::with_pictures(20);
    folder.run(&args("whole.csv", &[])).expect(0);
    let whole = folder.read("whole.csv");
    // First the journal has no room, then the output, which is longer.
    for (blocks, hint) in [(6, "finished work is kept"), (24, "all work is kept")] {
        let answer = on_a_full_disk(&folder, blocks, &args("out.csv", &["--resume"])).expect(2);
        assert!(
            answer.stderr.contains("error[IO_ERROR]: cannot write") && answer.stderr.contains(hint),
            "{blocks}: {answer:#?}"
        );
        assert!(folder.exists("out.csv.part") && !folder.exists("out.csv"));
    }
    let answer = folder.run(&args("out.csv", &["--resume"])).expect(0);
    assert!(
        answer.stderr.contains("note: resuming: 21 of 21"),
        "{answer:#?}"
    );
    assert_eq!(folder.read("out.csv"), whole);
    let names = folder.outputs();
    assert!(
        !names
            .iter()
            .any(|name| name.contains("part") || name.starts_with(".tmp"))
    );
}

#[cfg(unix)]
#[test]
fn a_conversion_without_room_leaves_nothing() {
    let folder = Folder::new();
    let answer = on_a_full_disk(&folder, 24, &["convert", "--output", "copy"]).expect(2);
    assert!(
        answer.stderr.contains("error[IO_ERROR]: cannot write"),
        "{answer:#?}"
    );
    assert!(folder.outputs().is_empty(), "{:?}", folder.outputs());
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
