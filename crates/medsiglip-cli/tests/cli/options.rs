//! The flags that choose model and classes, and that a converted checkpoint is what they describe.

use crate::folder::{Folder, TINY, WIDTH, embedding};

/// The vision tower alone, at 112 pixels, as Gemma 3 stores it.
const GEMMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../medsiglip/tests/data/tiny-gemma"
);

fn embed(folder: &Folder, more: &[&str]) -> Vec<serde_json::Value> {
    let args = ["embed", "scans", "--text", "a scan"];
    folder.run(&[&args, more].concat()).expect(0).json()
}

fn rows(lines: &[serde_json::Value]) -> Vec<Vec<f32>> {
    lines.iter().map(embedding).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_head_comes_from_another_checkpoint() {
    let folder = Folder::with_pictures(1);
    let answer = folder.run(&["embed", "scans", "--model", GEMMA]).expect(2);
    assert!(
        answer.stderr.contains("error[UNSUPPORTED]") && answer.stderr.contains("--head-from"),
        "{answer:#?}"
    );
    let joined = embed(&folder, &["--model", GEMMA, "--head-from", TINY]);
    let tiny = embed(&folder, &[]);
    assert_eq!(joined[0]["provenance"]["resolution"], 112);
    assert_eq!(embedding(&joined[0]).len(), WIDTH);
    assert_ne!(embedding(&joined[0]), embedding(&tiny[0]));
    assert_eq!(embedding(&joined[1]), embedding(&tiny[1]), "the text tower");
}

#[test]
fn another_resolution_is_resampled_as_told_and_recorded() {
    let folder = Folder::with_pictures(1);
    let at = |more: &[&str]| embed(&folder, &[&["--resolution", "112"], more].concat());
    let default = at(&[]);
    let mut seen = rows(&embed(&folder, &[]));
    seen.truncate(1);
    for positions in ["bigvision", "bicubic"] {
        let lines = at(&["--positions", positions]);
        let provenance = &lines[0]["provenance"];
        assert_eq!(provenance["resolution"], 112);
        assert_eq!(provenance["positions"], positions);
        let row = embedding(&lines[0]);
        assert!(!seen.contains(&row), "{positions}");
        seen.push(row);
        if positions == "bigvision" {
            assert_eq!(rows(&default), rows(&lines), "the default");
        }
    }
    let refused = |more: &[&str], expected: &str| {
        let answer = folder.run(&[&["embed", "scans"], more].concat()).expect(2);
        assert!(answer.stderr.contains(expected), "{answer:#?}");
    };
    refused(&["--resolution", "57"], "57");
    refused(&["--resolution", "112", "--positions", "area"], "area");
    refused(&["--positions", "nearest"], "bigvision");
}

#[test]
fn rounded_weights_are_close_and_recorded() {
    let folder = Folder::with_pictures(1);
    let exact = rows(&embed(&folder, &[]));
    for dtype in ["bf16", "f16", "int8"] {
        let lines = embed(&folder, &["--dtype", dtype]);
        assert_eq!(lines[0]["provenance"]["dtype"], dtype);
        for (row, exact) in rows(&lines).iter().zip(&exact) {
            assert_ne!(row, exact);
            assert!(cosine(row, exact) > 0.999, "{dtype}");
        }
    }
}

#[test]
fn a_converted_checkpoint_is_what_its_flags_say() {
    let folder = Folder::with_pictures(1);
    let joined = ["--model", GEMMA, "--head-from", TINY];
    let cases: [&[&str]; 5] = [
        &["--dtype", "int8"],
        &["--dtype", "bf16"],
        &["--dtype", "f16", "--max-shard-size", "100KB"],
        &["--resolution", "112", "--positions", "bicubic"],
        &[&joined[..], &["--resolution", "56", "--positions", "area"]].concat(),
    ];
    for (number, flags) in cases.iter().enumerate() {
        let copy = format!("copy{number}");
        let convert = [&["convert", "--output", &copy], *flags].concat();
        folder.run(&convert).expect(0);
        let shards = |flag: &&str| *flag != "--max-shard-size" && *flag != "100KB";
        let flags: Vec<&str> = flags.iter().copied().filter(shards).collect();
        let converted = embed(&folder, &["--model", &copy]);
        assert_eq!(rows(&converted), rows(&embed(&folder, &flags)), "{flags:?}");
    }
    assert!(folder.exists("copy2/model.safetensors.index.json"));
}

#[test]
fn a_rounded_checkpoint_says_how_far_it_is_from_its_source() {
    let folder = Folder::with_pictures(1);
    let convert = |more: &[&str]| {
        let answer = folder.run(&[&["convert"], more].concat());
        answer.expect(0).stderr.clone()
    };
    let told = convert(&["--output", "small", "--dtype", "int8"]);
    assert!(
        told.contains("drift of int8 from the weights as stored: lowest cosine 0.9"),
        "{told}"
    );
    let drift = |model: &str| {
        let answer = folder.run(&["inspect", model, "--format", "json"]);
        let facts: serde_json::Value = serde_json::from_str(&answer.expect(0).stdout).unwrap();
        facts["drift"].clone()
    };
    for cosine in ["cosine_images", "cosine_texts"] {
        let cosine = drift("small")[cosine].as_f64().unwrap();
        assert!((0.99..0.999_999).contains(&cosine), "{cosine}");
    }
    // Copied, it is as far from its first source as before; nothing is measured where nothing is rounded.
    let told = convert(&["--model", "small", "--output", "copy"]);
    assert!(!told.contains("drift"), "{told}");
    assert_eq!(drift("copy"), drift("small"));
    // Rounded again, it is no nearer.
    convert(&["--model", "small", "--output", "again", "--dtype", "bf16"]);
    assert_eq!(
        drift("again")["cosine_images"],
        drift("small")["cosine_images"]
    );
    let told = convert(&["--output", "exact", "--dtype", "f32"]);
    assert!(
        !told.contains("drift") && drift("exact").is_null(),
        "{told}"
    );
}

#[test]
fn one_thread_gives_the_same_numbers() {
    let folder = Folder::with_pictures(3);
    let one = rows(&embed(&folder, &["--threads", "1"]));
    for (a, b) in one.iter().zip(rows(&embed(&folder, &[]))) {
        assert!(cosine(a, &b) > 0.999_999);
    }
}

const FINDINGS: &str = r#"
name = "mine"
kind = "binary_per_finding"

[[classes]]
label = "fracture"
present = ["a fracture", "a broken bone"]
absent = ["no fracture"]

[[classes]]
label = "mass"
present = ["a mass"]
absent = ["no mass"]
"#;

#[test]
fn the_softmax_is_called_what_it_is() {
    let folder = Folder::with_pictures(1);
    folder.write("findings.toml", FINDINGS);
    folder.write("classes.json", r#"{"hip": ["a hip"], "knee": "a knee"}"#);
    let cases = [
        ("findings.toml", "present and absent", ["fracture", "mass"]),
        ("classes.json", "classes", ["hip", "knee"]),
    ];
    for (file, over, labels) in cases {
        let args = ["classify", "scans", "--prompts", file];
        let line = &folder.run(&args).expect(0).json()[0];
        assert_eq!(line["softmax_over"], over);
        let scores = line["scores"].as_array().unwrap();
        assert!(scores.iter().map(|s| &s["label"]).eq(labels));
        let sum: f64 = scores.iter().map(|s| s["softmax"].as_f64().unwrap()).sum();
        assert_eq!((sum - 1.0).abs() < 1e-5, over == "classes", "{sum}");
        let table = folder.run(&[&args[..], &["--format", "table"]].concat());
        let header = format!("softmax over {over}");
        assert!(table.expect(0).stdout.contains(&header));
    }
}

#[test]
fn a_prompt_file_that_is_wrong_is_told_by_its_place() {
    let folder = Folder::with_pictures(1);
    let cases = [
        ("a.toml", FINDINGS.replace("absent", "missing")),
        ("b.toml", FINDINGS.replace("\"a mass\"", "")),
        ("c.json", "[1]".to_owned()),
        ("d.txt", FINDINGS.to_owned()),
    ];
    for (name, text) in cases {
        folder.write(name, text);
        let answer = folder.run(&["classify", "scans", "--prompts", name]);
        let answer = answer.expect(2);
        assert!(
            answer.stderr.starts_with("error[BAD_CONFIG]") && answer.stderr.contains(name),
            "{answer:#?}"
        );
    }
}

#[test]
fn long_prompts_are_warned_about_by_their_place() {
    let folder = Folder::with_pictures(1);
    let labels = format!("short,DOE JOHN {}", "lung ".repeat(200));
    let answer = folder.run(&["classify", "scans", "--labels", &labels]);
    let answer = answer.expect(0);
    let warning = "warning: longer than the model reads, its end is ignored: prompt 1 of class 2\n";
    assert!(answer.stderr.contains(warning), "{}", answer.stderr);
    assert!(!answer.stderr.contains("DOE") && !answer.stderr.contains("lung"));
}

#[test]
fn exit_codes_tell_how_much_was_done() {
    let folder = Folder::with_pictures(1);
    folder.write("bad.png", "");
    for command in [&["embed"][..], &["classify", "--labels", "a,b"]] {
        let cases: [(&[&str], i32); 5] = [
            (&["scans"], 0),
            (&["scans", "bad.png"], 1),
            (&["bad.png"], 2),
            (&["nowhere"], 2),
            (&["scans", "--no-such-flag"], 2),
        ];
        for (inputs, code) in cases {
            folder.run(&[command, inputs].concat()).expect(code);
        }
    }
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_converted_too() {
    let folder = Folder::with_pictures(1);
    std::fs::create_dir(folder.path("bare")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(
            std::path::Path::new(TINY).join(file),
            folder.path("bare").join(file),
        )
        .unwrap();
    }
    let convert = [
        "convert", "--model", "bare", "--output", "small", "--dtype", "int8",
    ];
    folder.run(&convert).expect(0);
}
