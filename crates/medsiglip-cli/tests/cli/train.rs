//! `train` as a process: killed, it goes on; its log tells every step once; it is quiet where it is asked to be.

use std::time::{Duration, Instant};

use serde_json::Value;

#[cfg(unix)]
use crate::folder::on_a_full_disk;
use crate::folder::{Answer, Folder, json_lines};

const CONFIG: &str = r#"
steps = STEPS

[model.new]
vision = { hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, num_attention_heads = 2, image_size = 32, patch_size = 16 }
text = { hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, num_attention_heads = 2, projection_size = 32 }
tokenizer = { vocab_size = 300, length = 8 }

[batch]
size = 4

[split]
val = 0.25
test = 0.25
search = false

[validation]
every = 10

[[validation.task]]
name = "seen"
source = "scans"
label = "label"
prompts = "prompts.toml"
classes = { even = "even", odd = "odd" }

[checkpoint]
every = 4

[[source]]
name = "scans"
manifest = "manifest.csv"
stratify = "label"
templates = ["a picture that is {label}"]
"#;

const PROMPTS: &str = r#"
name = "seen"
kind = "multiclass"
classes = [
    { label = "even", present = ["a picture that is even"] },
    { label = "odd", present = ["a picture that is odd"] },
]
"#;

fn folder(steps: u32) -> Folder {
    let folder = Folder::with_pictures(16);
    let rows = (0..16).map(|i| format!("scans/{i:03}.png,{}\n", ["even", "odd"][i % 2]));
    folder.write(
        "manifest.csv",
        format!("image,label\n{}", rows.collect::<String>()),
    );
    folder.write("prompts.toml", PROMPTS);
    folder.write("tiny.toml", CONFIG.replace("STEPS", &steps.to_string()));
    folder
}

/// Runs until the log has `lines`, then kills.
fn killed(folder: &Folder, args: &[&str], log: &str, lines: usize) {
    let mut child = folder.command(args).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(120);
    let path = folder.path(log);
    let told = || std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    while told() < lines {
        assert!(Instant::now() < patience, "no step was done in time");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert_eq!(
        child.wait().unwrap().code(),
        None,
        "the run was over before it was killed"
    );
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// What a run does, without how fast.
fn losses(folder: &Folder, run: &str) -> Vec<(u64, Value, Value)> {
    let lines = json_lines(&folder.text(&format!("{run}/log.jsonl")));
    let steps = of(&lines, "step").into_iter();
    let numbers = |line: &Value| {
        (
            line["step"].as_u64().unwrap(),
            line["loss"].clone(),
            line["gradient_norm"].clone(),
        )
    };
    steps.map(numbers).collect()
}

fn measured(folder: &Folder, run: &str) -> Vec<Value> {
    let lines = json_lines(&folder.text(&format!("{run}/log.jsonl")));
    of(&lines, "measured").into_iter().cloned().collect()
}

#[test]
fn a_killed_run_goes_on_and_tells_every_step_once() {
    let folder = folder(400);
    folder
        .run(&["train", "tiny.toml", "--output", "whole"])
        .expect(0);
    let args = ["train", "tiny.toml", "--output", "broken"];
    // Nothing to resume yet: killed before the first checkpoint, it begins anew.
    killed(&folder, &args, "broken/log.jsonl", 1);
    if folder.exists("broken/checkpoints/step-00000004") {
        killed(
            &folder,
            &[&args[..], &["--resume"]].concat(),
            "broken/log.jsonl",
            40,
        );
    } else {
        killed(&folder, &args, "broken/log.jsonl", 30);
    }
    let resumed = [&args[..], &["--resume"]].concat();
    killed(&folder, &resumed, "broken/log.jsonl", 90);
    folder.run(&resumed).expect(0);
    let whole = losses(&folder, "whole");
    assert_eq!(
        whole.iter().map(|(step, ..)| *step).collect::<Vec<_>>(),
        (1..=400).collect::<Vec<_>>()
    );
    assert_eq!(losses(&folder, "broken"), whole);
    assert_eq!(measured(&folder, "broken"), measured(&folder, "whole"));
    assert_eq!(
        folder.read("broken/model/model.safetensors"),
        folder.read("whole/model/model.safetensors")
    );
    // A run that is over is measured and exported again, and nothing else.
    folder.run(&resumed).expect(0);
    assert_eq!(losses(&folder, "broken"), whole);
    assert_eq!(measured(&folder, "broken"), measured(&folder, "whole"));
    let boards = std::fs::read_dir(folder.path("broken/tensorboard")).unwrap();
    assert_eq!(boards.count(), 5, "one for each time that it was started");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_previous_checkpoint_good() {
    let folder = folder(40);
    folder
        .run(&["train", "tiny.toml", "--output", "whole"])
        .expect(0);
    let args = ["train", "tiny.toml", "--output", "broken"];
    killed(&folder, &args, "broken/log.jsonl", 10);
    let resumed = [&args[..], &["--resume"]].concat();
    let before = losses(&folder, "broken").len();
    // There is room for the log, and none for a checkpoint.
    let full = on_a_full_disk(&folder, 100, &resumed).expect(2);
    assert!(
        full.stderr.contains("error[IO_ERROR]: cannot write"),
        "{full:?}"
    );
    assert!(
        losses(&folder, "broken").len() >= before,
        "it went on from where it was"
    );
    assert!(!folder.exists("broken/model"));
    folder.run(&resumed).expect(0);
    assert_eq!(losses(&folder, "broken"), losses(&folder, "whole"));
}

#[test]
fn a_folder_that_holds_a_run_is_left_as_it_is() {
    let folder = folder(5);
    folder.run(&["train", "tiny.toml"]).expect(0);
    let log = folder.read("runs/tiny/log.jsonl");
    // As a killed run leaves it, beyond its last checkpoint.
    std::fs::remove_dir_all(folder.path("runs/tiny/checkpoints/step-00000005")).unwrap();
    let answer = folder.run(&["train", "tiny.toml"]).expect(2);
    assert!(
        answer.stderr.contains("error[BAD_ARGUMENT]")
            && answer
                .stderr
                .contains("runs/tiny holds checkpoints of an earlier run"),
        "{answer:#?}"
    );
    assert!(folder.read("runs/tiny/log.jsonl") == log);
    let answer = folder
        .run(&["train", "tiny.toml", "--output", "new", "--resume"])
        .expect(2);
    assert!(answer.stderr.contains("nothing to resume"), "{answer:#?}");
}

#[test]
fn steps_and_results_are_told_on_standard_error_unless_quiet() {
    let folder = folder(5);
    let Answer { stdout, stderr, .. } = folder
        .run(&["train", "tiny.toml", "--output", "loud"])
        .expect(0);
    assert_eq!(stdout, "");
    for part in [
        "step 5 of 5  loss ",
        "test, zero-shot AUROC: seen (4 images)",
        "not for clinical use",
        "wrote loud/model",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let quiet = folder
        .run(&["train", "tiny.toml", "--output", "quiet", "--quiet"])
        .expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(losses(&folder, "quiet"), losses(&folder, "loud"));
}

#[test]
fn a_wrong_configuration_is_an_error_before_anything_is_written() {
    let folder = folder(5);
    folder.write("wrong.toml", CONFIG.replace("STEPS", "5\nstepz = 1"));
    let answer = folder
        .run(&["train", "wrong.toml", "--output", "run"])
        .expect(2);
    assert!(
        answer.stderr.contains("error[BAD_CONFIG]") && answer.stderr.contains("stepz"),
        "{answer:#?}"
    );
    assert!(!folder.exists("run"));
}

#[test]
fn a_dashboard_needs_a_terminal_and_a_build_that_has_it() {
    let folder = folder(2);
    let refused = folder.run(&["train", "tiny.toml", "--dashboard"]).expect(2);
    let wrong = match cfg!(feature = "dashboard") {
        true => "expected a terminal",
        false => "--features dashboard",
    };
    assert!(refused.stderr.contains(wrong), "{refused:?}");
}

#[test]
fn a_dry_run_tells_what_would_be_trained_and_shows_the_first_batch() {
    let folder = folder(5);
    let frozen = CONFIG.replace("STEPS", "5")
        + "[optimizer]\ngroups = [{ pattern = \"vision_model.*\", freeze = true }]\n";
    folder.write("tiny.toml", frozen);
    let answer = folder
        .run(&["train", "tiny.toml", "--output", "run", "--dry-run"])
        .expect(0);
    for part in ["frozen", "1 x 0.001", "scans", "100.00 %", "layers"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    let sheet = image::load_from_memory(&folder.read("run/dry_run.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (76, 76), "two rows of two");
    let captions = folder.text("run/dry_run.txt");
    let captions: Vec<Vec<&str>> = captions
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(captions.len(), 4);
    for (number, line) in captions.iter().enumerate() {
        assert_eq!(line[0], (number + 1).to_string());
        assert!(
            folder.exists(line[1]) && line[2].starts_with("a picture that is "),
            "{line:?}"
        );
    }
    for name in [
        "run/log.jsonl",
        "run/checkpoints",
        "run/model",
        "run/tensorboard",
    ] {
        assert!(!folder.exists(name), "{name}");
    }
    folder
        .run(&["train", "tiny.toml", "--output", "run"])
        .expect(0);
}

#[test]
fn a_classifier_is_trained_and_classifies() {
    let folder = folder(5);
    let (before, after) = CONFIG.split_once("text = ").unwrap();
    let (_, after) = after.split_once("[batch]").unwrap();
    let (middle, after) = after.split_once("[[validation.task]]").unwrap();
    let (_, after) = after.split_once("[checkpoint]").unwrap();
    let head = "[head]\nkind = \"multiclass\"\nlabel = \"label\"\n";
    let config = format!("{before}{head}[batch]{middle}[checkpoint]{after}");
    let config = config.replace("templates = [\"a picture that is {label}\"]", "");
    folder.write("head.toml", config.replace("STEPS", "5"));
    let dry = folder
        .run(&["train", "head.toml", "--output", "run", "--dry-run"])
        .expect(0);
    for part in ["class even: 4 examples have it, 4 do not", "class odd: 4"] {
        assert!(dry.stderr.contains(part), "{dry:#?}");
    }
    let captions = folder.text("run/dry_run.txt");
    assert!(captions.contains("\tlabel: even\n"), "{captions}");
    let answer = folder
        .run(&["train", "head.toml", "--output", "run"])
        .expect(0);
    for part in [
        "test, classifier AUROC: all classes (4 images) ",
        "; even (4 images) ",
        "not for clinical use",
    ] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
    }
    let lines = json_lines(&folder.text("run/log.jsonl"));
    assert!(of(&lines, "step")[0]["temperature"].is_null());
    let told = folder
        .run(&["classify", "scans", "--model", "run/model"])
        .expect(0)
        .json();
    assert_eq!(told.len(), 16);
    for line in told {
        let [even, odd] = [0, 1].map(|class| line["scores"][class]["softmax"].as_f64().unwrap());
        assert!((even + odd - 1.0).abs() < 1e-5);
    }
}
