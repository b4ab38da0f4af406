//! Runs with a `[head]` on made-up pictures: they learn, they resume exactly, and they say what went wrong.
#![cfg(feature = "train")]

#[allow(dead_code)] // `train_run.rs` uses the rest
#[path = "train_run/lab.rs"]
mod lab;

use std::fs;
use std::path::Path;

use lab::{Lab, Outcome, same_bits, stop_after};
use medsiglip::checkpoint::{Checkpoint, ExpectedTensor, ModelSource, expected_tensors};
use medsiglip::config::ClassKind;
use medsiglip::dataset::Side;
use medsiglip::train::config::{LoraConfig, TrainConfig};
use medsiglip::train::head::{Judge, PosWeight};
use medsiglip::train::optimizer::GroupConfig;
use medsiglip::train::run::Event;
use medsiglip::train::state;
use medsiglip::{LoadOptions, Model};

const CONFIG: &str = r#"
seed = 3
steps = 24

[model.new]
vision = { hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2, num_attention_heads = 2, image_size = 32, patch_size = 16 }

[head]
kind = "multiclass"
label = "label"

[batch]
size = 8

[optimizer]
lr = 3e-3

[split]
val = 0.25
search = false

[[source]]
name = "patterns"
manifest = "manifest.csv"
stratify = "label"
"#;

fn config(change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
    let mut config = TrainConfig::from_toml(CONFIG).unwrap();
    change(&mut config);
    config
}

/// As [`config`], with a column for each class; of every fourth picture nobody knows whether it has dots.
fn multilabel(lab: &Lab, change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
    let mut rows = String::from("image,label,has lines,has dots\n");
    for (number, (picture, class)) in lab.pictures().enumerate() {
        let name = picture.file_name().unwrap().to_str().unwrap();
        let (label, lines) = [("lines", "1"), ("dots", "0")][class];
        let dots = match number % 4 {
            0 => "",
            2 => "0",
            1 => "1.0",
            _ => "1",
        };
        rows += &format!("{name},{label},{lines},{dots}\n");
    }
    fs::write(lab.path("manifest.csv"), rows).unwrap();
    config(|c| {
        let head = c.head.as_mut().unwrap();
        head.kind = ClassKind::Multilabel;
        head.label = None;
        head.columns = ["has lines", "has dots"].map(Into::into).into();
        head.pos_weight = Some(PosWeight::Balanced);
        change(c);
    })
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(&ModelSource::Local(folder.into()), &Default::default()).unwrap()
}

/// The probabilities of a trained folder for every picture, with the number of its class.
fn classified(lab: &Lab, folder: &str) -> Vec<(Vec<f32>, usize)> {
    let source = ModelSource::Local(lab.path(folder));
    let model = Model::load(&source, &LoadOptions::default()).unwrap();
    let classified = lab.pictures().map(|(file, class)| {
        let picture = medsiglip::image::open(&file).unwrap();
        let pixels = model.preprocessor().pixel_values(&picture).unwrap();
        let images = model.encode_images(&pixels).unwrap();
        let scores = model.classifier().unwrap().scores(&images).unwrap();
        (scores[0].iter().map(|s| s.probability).collect(), class)
    });
    classified.collect()
}

fn notes(run: &Outcome) -> Vec<&str> {
    let events = run.events.iter();
    let notes = events.filter_map(|event| match event {
        Event::Note { message } => Some(message.as_str()),
        _ => None,
    });
    notes.collect()
}

#[test]
fn one_of_two_classes_is_learned_and_the_folder_classifies() {
    let lab = Lab::new();
    let run = lab.run("run", &config(|_| ())).done();
    let losses = run.losses();
    assert!(losses[23] < 0.3 * losses[0], "{losses:?}");
    // The layer starts from zeros, so that the tower's gradients begin with the second step.
    let steps = run.steps();
    assert!(steps[0].gradient_norm_vision == 0.0 && steps[1].gradient_norm_vision > 0.0);
    assert!((losses[0] - f64::ln(2.0)).abs() < 1e-6 && steps[0].temperature.is_none());
    let last = run.measured(Side::Val).pop().unwrap();
    let told: Vec<_> = last
        .iter()
        .map(|r| (r.task.as_str(), r.measure.as_str(), r.images))
        .collect();
    assert_eq!(
        told,
        [
            ("all classes", "macro AUROC", 6),
            ("dots", "AUROC", 6),
            ("lines", "AUROC", 6)
        ]
    );
    assert!(last[0].auroc.unwrap().value > 0.99 && last[0].accuracy.unwrap().value > 0.99);
    assert!(
        notes(&run).contains(&"class dots: 9 examples have it, 9 do not"),
        "{:?}",
        notes(&run)
    );
    for (shares, class) in classified(&lab, "run/model") {
        // The classes in their order: dots, lines.
        assert!(shares[1 - class] > 0.5 && (shares[0] + shares[1] - 1.0).abs() < 1e-6);
    }
    let json = fs::read_to_string(lab.path("run/model/config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["id2label"],
        serde_json::json!({"0": "dots", "1": "lines"})
    );
    assert_eq!(json["problem_type"], "single_label_classification");
    let exported = open(&lab.path("run/model"));
    lab.assert_holds("run/checkpoints/step-00000024/model.safetensors", &exported);
    assert!(!lab.path("run/model/tokenizer.json").exists());
    let card = fs::read_to_string(lab.path("run/model/README.md")).unwrap();
    for part in [
        "classifier of 2 classes: dots, lines.",
        "| lines, trained classifier, val pictures | AUROC | 1.000 |",
        "| all classes, trained classifier, val pictures | accuracy | 1.000 |",
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
}

#[test]
fn classes_beside_each_other_are_learned_from_what_is_known() {
    let lab = Lab::new();
    let run = lab.run("run", &multilabel(&lab, |_| ())).done();
    let last = run.measured(Side::Val).pop().unwrap();
    assert!(
        last[0].auroc.unwrap().value > 0.99 && last[0].accuracy.unwrap().value > 0.99,
        "{last:?}"
    );
    assert!(last[1].images == 6 && last[2].images < 6, "{last:?}");
    for (probabilities, class) in classified(&lab, "run/model") {
        assert!(probabilities[class] > 0.5 && probabilities[1 - class] < 0.5);
    }
    let weighed = notes(&run).iter().any(|note| {
        note.starts_with("class has dots: 9 examples have it, ") && !note.ends_with(" 1.000")
    });
    assert!(weighed, "{:?}", notes(&run));
}

#[test]
fn a_column_of_several_names_is_split() {
    let lab = Lab::new();
    let mut rows = String::from("image,finding\n");
    for (number, (picture, class)) in lab.pictures().enumerate() {
        let name = picture.file_name().unwrap().to_str().unwrap();
        let finding = match (class, number % 3) {
            (_, 2) if number > 20 => "",
            (0, 0) => "lines | bright",
            (0, _) => "bright|lines",
            (_, 0) => "none",
            _ => "dots",
        };
        rows += &format!("{name},{finding}\n");
    }
    fs::write(lab.path("manifest.csv"), rows).unwrap();
    let config = config(|c| {
        let head = c.head.as_mut().unwrap();
        head.kind = ClassKind::Multilabel;
        head.label = Some("finding".into());
        head.labels = ["bright", "dots"].map(Into::into).into();
        c.sources[0].stratify = None;
        c.split.val = 0.0;
    });
    let run = lab.run("run", &config).done();
    // Of twelve with lines all are bright; of the twelve others seven have dots, four have none, one has an empty cell.
    let told = notes(&run);
    assert!(
        told[0].starts_with("class bright: 12 examples have it, 11 do not"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("class dots: 7 examples have it, 16 do not"),
        "{told:?}"
    );
    let left_out = |w: &&str| w.contains("1 of 24 examples have none of the classes");
    assert!(run.warnings().iter().any(left_out), "{:?}", run.warnings());
    assert!(run.losses()[23] < run.losses()[0]);
}

#[track_caller]
fn resumes_exactly(lab: &Lab, config: &TrainConfig) {
    let whole = lab.run("whole", config).done();
    stop_after(3);
    let first = lab.run("broken", config);
    assert_eq!(first.code(), "INTERRUPTED");
    stop_after(u64::MAX);
    let second = lab.resume("broken", config).done();
    let losses = [first.losses(), second.losses()].concat();
    assert!(first.losses().len() == 3 && same_bits(&losses, &whole.losses()));
    assert_eq!(
        second.measured(Side::Val).pop(),
        whole.measured(Side::Val).pop()
    );
    let [a, b] = ["whole", "broken"]
        .map(|run| fs::read(lab.path(&format!("{run}/model/model.safetensors"))).unwrap());
    assert!(a == b, "the models differ");
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been_stopped() {
    let lab = Lab::new();
    let config = multilabel(&lab, |c| {
        c.steps = 6;
        c.checkpoint.every = 4;
        c.average = Some(0.9);
        c.batch.micro = 3;
        c.sources[0].augment.horizontal_flip = 0.5;
    });
    resumes_exactly(&lab, &config);
}

#[test]
fn adapters_change_their_targets_and_the_classifier_alone_and_go_on() {
    let lab = Lab::new();
    let config = config(|c| {
        c.steps = 6;
        c.lora = Some(LoraConfig {
            rank: 2,
            alpha: 4.0,
            targets: vec!["*.q_proj.weight".into()],
        });
    });
    resumes_exactly(&lab, &config);
    let changed = changed(&lab, "whole/start", "whole/model");
    assert_eq!(
        changed,
        [
            "vision_model.encoder.layers.0.self_attn.q_proj.weight",
            "vision_model.encoder.layers.1.self_attn.q_proj.weight"
        ]
    );
}

/// Names of the vision tower's weights that differ in any bit.
fn changed(lab: &Lab, a: &str, b: &str) -> Vec<String> {
    let [a, b] = [a, b].map(|folder| open(&lab.path(folder)));
    let expected = expected_tensors(b.config()).into_iter();
    let differ = |t: ExpectedTensor| {
        let [a, b] = [&a, &b].map(|c| c.tensor(&t.name, &t.shape).unwrap().to_f32().into_owned());
        (!same_bits(&a, &b)).then_some(t.name)
    };
    expected
        .filter(|t| t.name.starts_with("vision_model."))
        .filter_map(differ)
        .collect()
}

fn freeze(pattern: &str) -> GroupConfig {
    GroupConfig {
        pattern: pattern.into(),
        lr: 1.0,
        weight_decay: None,
        freeze: true,
    }
}

#[test]
fn a_base_goes_on_with_its_tower_and_where_the_classes_are_its_own_with_its_layer() {
    let lab = Lab::new();
    lab.run("first", &config(|_| ())).done();
    let based = |base: &str, labels: &[&str]| {
        let labels = labels.iter().map(|l| l.to_string()).collect();
        config(|c| {
            c.steps = 1;
            c.model.new = None;
            c.model.base = Some(base.into());
            c.head.as_mut().unwrap().labels = labels;
            c.optimizer.groups = vec![freeze("vision_model.*")];
        })
    };
    let same = lab.run("same", &based("first/model", &[])).done();
    let other = lab
        .run("other", &based("first/model", &["lines", "dots"]))
        .done();
    assert!(
        same.losses()[0] < 0.2 && other.losses()[0] > 0.3,
        "{:?} {:?}",
        same.losses(),
        other.losses()
    );
    assert_eq!(
        changed(&lab, "first/model", "same/model"),
        Vec::<String>::new()
    );
    // A model of two towers.
    lab.run("pairs", &lab.config(|c| c.steps = 1)).done();
    lab.run("head", &based("pairs/model", &[])).done();
    assert_eq!(
        changed(&lab, "pairs/model", "head/model"),
        Vec::<String>::new()
    );
}

#[test]
fn training_stops_where_accuracy_gets_no_better() {
    let lab = Lab::new();
    let config = config(|c| {
        c.steps = 40;
        c.optimizer.lr = 1e-12;
        c.validation.every = 2;
        c.validation.patience = Some(2);
        c.head.as_mut().unwrap().judge = Judge::Accuracy;
    });
    let run = lab.run("run", &config).done();
    assert_eq!(run.losses().len(), 6);
    let best = state::progress(&lab.path("run/checkpoints/step-00000006"))
        .unwrap()
        .best;
    assert_eq!(
        best,
        run.measured(Side::Val)[0][0].accuracy.map(|a| a.value)
    );
}

#[test]
fn less_memory_gives_the_same_losses() {
    let lab = Lab::new();
    let losses = |name: &str, change: fn(&mut TrainConfig)| {
        let config = multilabel(&lab, |c| {
            c.steps = 3;
            change(c);
        });
        lab.run(name, &config).done().losses()
    };
    let want = losses("plain", |_| ());
    for got in [
        losses("micro", |c| c.batch.micro = 3),
        losses("checkpointed", |c| c.model.gradient_checkpointing = true),
    ] {
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_before_the_first_step() {
    for (change, what) in [
        ("kind = \"binary\"", "kind"),
        (
            "kind = \"multiclass\"\npos_weight = \"balanced\"",
            "pos_weight",
        ),
        ("kind = \"multilabel\"\npos_weight = \"even\"", "pos_weight"),
        (
            "kind = \"multilabel\"\npos_weight = [1.0, -1.0]",
            "pos_weight",
        ),
        (
            "kind = \"multilabel\"\ncolumns = [\"a\"]",
            "either label or columns",
        ),
        (
            "kind = \"multiclass\"\nlabels = [\"a\", \"a\"]",
            "every class once",
        ),
        (
            "kind = \"multiclass\"\nlabel_smoothing = 1.0",
            "label_smoothing",
        ),
        ("kind = \"multiclass\"\npool = \"max\"", "pool"),
    ] {
        let text = CONFIG.replace("kind = \"multiclass\"", change);
        let error = TrainConfig::from_toml(&text).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        assert!(error.to_string().contains(what), "{error}");
    }
    for (after, added, what) in [
        (
            "[head]",
            "[text_warm_start]\nsteps = 1\nlr = 1e-3\n",
            "text_warm_start",
        ),
        ("[head]", "[loss]\nblock = 2\n", "loss"),
        (
            "[head]",
            "[model.new.text]\nhidden_size = 32\n",
            "model.new.text",
        ),
    ] {
        let text = CONFIG.replace(after, &format!("{added}{after}"));
        let error = TrainConfig::from_toml(&text).unwrap_err();
        assert!(
            error.code() == "BAD_CONFIG" && error.to_string().contains(what),
            "{error}"
        );
    }
    let lab = Lab::new();
    let refused = |name: &str, change: &dyn Fn(&mut TrainConfig)| {
        let run = lab.run(name, &config(|c| change(c)));
        assert!(run.code() == "BAD_CONFIG" && run.losses().is_empty());
        run.message()
    };
    let message = refused("empty", &|c| {
        c.head.as_mut().unwrap().labels = ["dots", "lines", "rings"].map(Into::into).into()
    });
    assert!(
        message.contains("class rings cannot be learned: 0 examples"),
        "{message}"
    );
    let message = refused("column", &|c| {
        c.head.as_mut().unwrap().label = Some("finding".into())
    });
    assert!(message.contains("finding"), "{message}");
    let message = refused("cells", &|c| {
        let head = c.head.as_mut().unwrap();
        (head.kind, head.label, head.columns) = (ClassKind::Multilabel, None, vec!["label".into()]);
    });
    assert!(message.contains("got 24 others"), "{message}");
    let message = refused("weights", &|c| {
        let head = c.head.as_mut().unwrap();
        (head.kind, head.pos_weight) = (ClassKind::Multilabel, Some(PosWeight::Each(vec![1.0])));
    });
    assert!(message.contains("each of 2 classes"), "{message}");
}

#[test]
fn a_dry_run_tells_the_classes_and_the_layer() {
    let lab = Lab::new();
    let config = config(|c| c.optimizer.groups = vec![freeze("vision_model.*")]);
    let found = lab.dry_run("run", &config).unwrap();
    assert_eq!(found.notes.len(), 2);
    let trained = found.groups.trained.iter().flat_map(|g| &g.parameters);
    let names: Vec<_> = trained.map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["classifier.weight", "classifier.bias"]);
}

#[test]
fn the_example_configuration_is_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/train/findings.toml");
    let head = TrainConfig::open(&path).unwrap().head.unwrap();
    assert_eq!((head.kind, head.labels.len()), (ClassKind::Multilabel, 5));
}
