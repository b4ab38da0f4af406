//! How a training run begins: on which data, in which folder, and what it refuses at once.
#![cfg(feature = "train")]

#[allow(dead_code)] // `train_run.rs` uses the rest
#[path = "train_run/lab.rs"]
mod lab;

use std::fs;

use lab::Lab;
use medsiglip::dataset::Side;
use medsiglip::train::config::{Places, TextWarmStart, TrainConfig};
use medsiglip::train::data::Data;
use medsiglip::train::run::Event;
use medsiglip::train::state;

#[test]
fn other_data_do_not_go_on() {
    let lab = Lab::new();
    let config = lab.config(|c| c.steps = 2);
    lab.run("run", &config).done();
    lab.add_row("00.bmp|copy.bmp,lines");
    fs::copy(lab.path("00.bmp"), lab.path("00.bmp|copy.bmp")).unwrap();
    let refused = lab.resume("run", &config);
    assert_eq!(refused.code(), "BAD_CONFIG");
    assert!(
        refused
            .message()
            .contains("the data is not what this run began with")
    );
}

#[test]
fn a_folder_has_one_run_at_a_time_and_half_written_things_are_cleared_away() {
    let lab = Lab::new();
    let config = lab.config(|c| c.steps = 1);
    let places = Places::of(&lab.path("run"));
    fs::create_dir_all(places.checkpoints().join(".medsiglip-half")).unwrap();
    let lock = state::claim(&places).unwrap();
    let refused = lab.run("run", &config);
    assert_eq!(refused.code(), "BAD_ARGUMENT");
    assert!(
        refused.message().contains("another process"),
        "{}",
        refused.message()
    );
    drop(lock);
    lab.run("run", &config).done();
    assert!(!places.checkpoints().join(".medsiglip-half").exists());
}

#[test]
fn what_the_end_would_refuse_is_refused_at_the_start() {
    let lab = Lab::new();
    let config = lab.config(|_| ());
    fs::create_dir_all(lab.path("run/model")).unwrap();
    fs::write(lab.path("run/model/notes.txt"), "mine").unwrap();
    let run = lab.run("run", &config);
    assert_eq!((run.code(), run.steps().len()), ("BAD_ARGUMENT", 0));
    for (change, what) in [
        ("[export]\ndtype = \"int8\"", "dtype"),
        ("[export]\nname = \" \"", "name"),
        ("[export]\nlicense = \"\"", "license"),
    ] {
        let text = lab::CONFIG.replacen("[validation]", &format!("{change}\n[validation]"), 1);
        let error = TrainConfig::from_toml(&text).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_auxiliary_loss_that_cannot_be_is_refused() {
    for (table, what) in [
        ("weight = 0", "weight above 0"),
        ("weight = inf", "weight above 0"),
        ("weight = 1\nmask = 1.0", "mask from 0"),
        ("weight = 1\nmask = -0.1", "mask from 0"),
        ("mask = 0.5", "missing field `weight`"),
        ("weight = 1\nsteps = 3", "steps"),
        (
            "weight = 1\n[head]\nkind = \"multiclass\"\nlabel = \"label\"",
            "not with a head",
        ),
    ] {
        let toml = lab::CONFIG.replace("[batch]\n", &format!("[auxiliary]\n{table}\n[batch]\n"));
        let error = TrainConfig::from_toml(&toml).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_seed_of_the_split_keeps_it_whatever_the_runs_seed() {
    let lab = Lab::new();
    let sides = |seed, split| {
        let config = lab.config(|c| {
            c.seed = seed;
            c.split.seed = split;
        });
        let options = medsiglip::image::DecodeOptions::default();
        let data = Data::open(&config, &lab.path(""), &options).unwrap();
        data.divided.fingerprint
    };
    assert_ne!(sides(3, None), sides(4, None));
    assert_eq!(sides(3, None), sides(4, Some(3)));
}

#[test]
fn a_column_that_says_the_side_decides_what_is_measured() {
    let lab = Lab::new();
    let rows = fs::read_to_string(lab.path("manifest.csv")).unwrap();
    let sides = ["train", "train", "train", "train", "val", "test"];
    let rows = rows.lines().enumerate().map(|(number, row)| match number {
        0 => format!("{row},fold\n"),
        number => format!("{row},{}\n", sides[(number - 1) / 4]),
    });
    fs::write(lab.path("manifest.csv"), rows.collect::<String>()).unwrap();
    let config = lab.config(|c| {
        c.steps = 2;
        c.split.val = 0.0;
        c.sources[0].stratify = None;
        c.sources[0].split = Some("fold".into());
    });
    let run = lab.run("run", &config).done();
    for side in [Side::Val, Side::Test] {
        let measured = run.measured(side);
        assert_eq!((measured.len(), measured[0][0].images), (1, 4), "{side:?}");
    }
}

#[test]
fn held_out_captions_are_not_learned() {
    let lab = Lab::new();
    let mut rows = String::from("image,text,fold\n");
    for (number, (picture, _)) in lab.pictures().enumerate() {
        let name = picture.file_name().unwrap().to_str().unwrap();
        let row = match number {
            0..10 => ("plain words", "train"),
            10..20 => ("plain pictures", "train"),
            _ => ("zyzzyva", "test"),
        };
        rows += &format!("{name},{},{}\n", row.0, row.1);
    }
    fs::write(lab.path("manifest.csv"), rows).unwrap();
    let config = lab.config(|c| {
        c.steps = 1;
        c.validation.tasks.clear();
        c.text_warm_start = Some(TextWarmStart { steps: 2, lr: 1e-3 });
        let source = &mut c.sources[0];
        source.label_texts.clear();
        source.stratify = None;
        source.captions = vec!["text".into()];
        source.split = Some("fold".into());
    });
    let run = lab.run("run", &config).done();
    let told = |e: &Event| matches!(e, Event::Note { message } if message.contains("2 captions in 2 meanings"));
    assert!(run.events.iter().any(told), "{:?}", run.events);
    let tokenizer = fs::read_to_string(lab.path("run/start/tokenizer.json")).unwrap();
    assert!(tokenizer.contains("plain") && !tokenizer.contains("zy"));
}

#[test]
fn duplicates_of_two_mixed_sources_are_told_and_kept_on_one_side() {
    let lab = Lab::new();
    for copy in [0, 5, 9] {
        let file = format!("copy{copy}.bmp");
        fs::copy(lab.path(&format!("{copy:02}.bmp")), lab.path(&file)).unwrap();
        lab.add_row(&format!("{file},{}", ["lines", "dots"][copy % 2]));
    }
    fs::create_dir(lab.path("folder")).unwrap();
    for (number, (picture, class)) in lab.pictures().enumerate().skip(12) {
        let folder = lab.path("folder").join(["lines", "dots"][class]);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(picture, folder.join(format!("{number}.bmp"))).unwrap();
    }
    let folder = r#"
[[source]]
name = "folder"
folder = "folder"
weight = 0.25
templates = ["a picture of {label}"]
"#;
    let text = lab::CONFIG.replace("search = false", "search = true\nduplicates = \"join\"");
    let config = TrainConfig::from_toml(&(text + folder)).unwrap();
    let found = lab.dry_run("dry", &config).unwrap();
    let drawn: Vec<f64> = found.sources.iter().map(|s| s.share).collect();
    assert!(
        (drawn[0] - 0.8).abs() < 0.15 && (drawn[0] + drawn[1] - 1.0).abs() < 1e-9,
        "{drawn:?}"
    );
    let warned = |what: &str| found.warnings.iter().any(|w| w.contains(what));
    assert!(warned("more than once"), "{:?}", found.warnings);
    lab.run("run", &config).done();
}
