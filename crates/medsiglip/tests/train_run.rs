//! The training loop on made-up pictures: it learns, it resumes exactly, and it says what went wrong.
#![cfg(feature = "train")]

#[path = "train_run/best.rs"]
mod best;
#[path = "train_run/lab.rs"]
mod lab;

use std::fs;

use lab::{Lab, Outcome, same_bits, stop_after};
use medsiglip::checkpoint::{Checkpoint, ModelSource, expected_tensors};
use medsiglip::dataset::Side;
use medsiglip::model::Device;
use medsiglip::towers::params;
use medsiglip::train::auxiliary::AuxiliaryConfig;
use medsiglip::train::config::{LoraConfig, TextWarmStart, TrainConfig};
use medsiglip::train::lora::{merged, with_lora};
use medsiglip::train::optimizer::GroupConfig;
use medsiglip::train::run::Event;
use medsiglip::zero_shot::{PromptSet, ZeroShot};
use medsiglip::{LoadOptions, Model};

fn lora() -> Option<LoraConfig> {
    Some(LoraConfig {
        rank: 2,
        alpha: 4.0,
        targets: ["*.q_proj.weight", "*.fc1.weight"].map(Into::into).into(),
    })
}

fn auxiliary() -> Option<AuxiliaryConfig> {
    Some(AuxiliaryConfig {
        weight: 0.5,
        mask: 0.25,
    })
}

fn freeze(pattern: &str) -> GroupConfig {
    GroupConfig {
        pattern: pattern.into(),
        lr: 1.0,
        weight_decay: None,
        freeze: true,
    }
}

fn open(source: std::path::PathBuf) -> Checkpoint {
    Checkpoint::open(&ModelSource::Local(source), &Default::default()).unwrap()
}

/// Names of the weights that differ in any bit.
fn changed(a: &Checkpoint, b: &Checkpoint) -> Vec<String> {
    let differ = |(name, shape): (String, Vec<usize>)| {
        let [a, b] = [a, b].map(|c| c.tensor(&name, &shape).unwrap().to_f32().into_owned());
        (!same_bits(&a, &b)).then_some(name)
    };
    let expected = expected_tensors(a.config()).into_iter();
    expected.filter_map(|t| differ((t.name, t.shape))).collect()
}

#[test]
fn a_tiny_model_learns_and_its_folder_holds_the_trained_weights() {
    let lab = Lab::new();
    let config = lab.config(|c| c.steps = 24);
    let run = lab.run("run", &config).done();
    let losses = run.losses();
    assert_eq!(losses.len(), 24);
    assert!(losses[23] < 0.5 * losses[0], "{losses:?}");
    let last = run.measured(Side::Val).pop().unwrap();
    let auroc = last[0].auroc.unwrap();
    assert!(last[0].images == 6 && auroc.value > 0.99, "{last:?}");

    let exported = open(lab.path("run/model"));
    lab.assert_holds("run/checkpoints/step-00000024/model.safetensors", &exported);
    let source = ModelSource::Local(lab.path("run/model"));
    let model = Model::load(&source, &LoadOptions::default()).unwrap();
    let prompts = PromptSet::from_file(lab.path("prompts.toml")).unwrap();
    let zero_shot = ZeroShot::new(&model, prompts).unwrap();
    for (file, class) in lab.pictures() {
        let picture = medsiglip::image::open(&file).unwrap();
        let pixels = model.preprocessor().pixel_values(&picture).unwrap();
        let scores = zero_shot
            .scores(&model.encode_images(&pixels).unwrap())
            .unwrap();
        assert!(scores[0][class].softmax > 0.5, "{}", file.display());
    }
    let card = fs::read_to_string(lab.path("run/model/README.md")).unwrap();
    assert!(card.contains("patterns, zero-shot"), "{card}");
}

#[track_caller]
fn resumes_exactly(change: impl Fn(&mut TrainConfig)) {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 6;
        c.checkpoint.every = 4;
        change(c);
    });
    let whole = lab.run("whole", &config).done();
    // Stopped after a step of no other checkpoint.
    stop_after(3 + config.text_warm_start.map_or(0, |warm| warm.steps));
    let first = lab.run("broken", &config);
    assert_eq!(first.code(), "INTERRUPTED");
    stop_after(u64::MAX);
    let second = lab.resume("broken", &config).done();
    let losses = [first.losses(), second.losses()].concat();
    assert!(first.losses().len() == 3 && same_bits(&losses, &whole.losses()));
    assert_eq!(
        second.measured(Side::Val).pop(),
        whole.measured(Side::Val).pop()
    );
    let [a, b] = ["whole", "broken"].map(|run| open(lab.path(&format!("{run}/model"))));
    assert_eq!(changed(&a, &b), Vec::<String>::new());
    // What is done is not done again.
    assert!(lab.resume("broken", &config).done().losses().is_empty());
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been_stopped() {
    resumes_exactly(|_| ());
}

#[test]
fn a_stopped_run_with_an_average_and_augmentation_goes_on() {
    resumes_exactly(|c| {
        c.average = Some(0.9);
        c.sources[0].augment.horizontal_flip = 0.5;
        c.optimizer.groups = vec![GroupConfig {
            lr: 0.1,
            freeze: false,
            ..freeze("vision_model.*")
        }];
        c.text_warm_start = Some(TextWarmStart { steps: 2, lr: 1e-3 });
        c.batch.micro = 3;
    });
}

#[test]
fn a_stopped_run_of_adapters_goes_on() {
    resumes_exactly(|c| {
        c.lora = lora();
        c.average = Some(0.9);
    });
}

#[test]
fn a_stopped_run_with_an_auxiliary_loss_goes_on() {
    resumes_exactly(|c| {
        c.auxiliary = auxiliary();
        c.average = Some(0.9);
        c.batch.micro = 3;
    });
}

#[test]
fn patches_are_told_better_and_better_and_the_layer_that_tells_is_not_exported() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 40;
        c.auxiliary = auxiliary();
    });
    let run = lab.run("run", &config).done();
    let told: Vec<f64> = run.steps().iter().filter_map(|s| s.auxiliary).collect();
    // The layer starts at zero, and what it tells has variance 1.
    assert!(told.len() == 40 && (told[0] - 1.0).abs() < 1e-5, "{told:?}");
    assert!(told[39] < 0.3, "{told:?}");
    assert!(run.losses()[39] < 0.5 * run.losses()[0]);
    let file = fs::read(lab.path("run/model/model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let exported = open(lab.path("run/model"));
    assert_eq!(
        file.names().len(),
        expected_tensors(exported.config()).len()
    );
    let card = fs::read_to_string(lab.path("run/model/README.md")).unwrap();
    assert!(
        card.contains("| auxiliary loss | weight 0.5, mask 0.25 |"),
        "{card}"
    );
}

#[test]
fn another_configuration_does_not_go_on_and_a_folder_is_not_used_twice() {
    let lab = Lab::new();
    let config = lab.config(|c| c.steps = 2);
    assert_eq!(lab.resume("run", &config).code(), "BAD_ARGUMENT");
    lab.run("run", &config).done();
    let again = lab.run("run", &config);
    assert_eq!(again.code(), "BAD_ARGUMENT");
    assert!(
        again
            .message()
            .contains("resume it, or give another folder")
    );
    let other = lab.config(|c| c.steps = 3);
    let refused = lab.resume("run", &other);
    assert_eq!(refused.code(), "BAD_CONFIG");
    assert!(
        refused
            .message()
            .contains("the configuration is not what this run began with")
    );
    let exported = lab.config(|c| {
        c.steps = 2;
        c.export.name = "another name".into();
    });
    lab.resume("run", &exported).done();
    let card = fs::read_to_string(lab.path("run/model/README.md")).unwrap();
    assert!(card.contains("# another name"), "{card}");
}

#[test]
fn an_unknown_key_is_named() {
    let places = [
        ("stepz", "steps = 8\n"),
        ("momentum", "[optimizer]\n"),
        ("imagez", "[[source]]\n"),
    ];
    for (key, after) in places {
        let toml = lab::CONFIG.replace(after, &format!("{after}{key} = 1\n"));
        let error = TrainConfig::from_toml(&toml).unwrap_err();
        assert_eq!(error.code(), "BAD_CONFIG");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_base_that_is_missing_or_of_another_kind_is_told() {
    let lab = Lab::new();
    let based = |base: &str| {
        lab.config(|c| {
            c.model.new = None;
            c.model.base = Some(base.into());
        })
    };
    let missing = lab.run("run", &based("./no-such-folder"));
    assert_eq!(missing.code(), "BAD_ARGUMENT");
    assert!(
        missing.message().contains("no-such-folder"),
        "{}",
        missing.message()
    );

    fs::create_dir(lab.path("bert")).unwrap();
    fs::write(
        lab.path("bert/config.json"),
        r#"{"model_type": "bert", "hidden_size": 32}"#,
    )
    .unwrap();
    let other = lab.run("run", &based("bert"));
    assert!(other.message().contains("bert"), "{}", other.message());
    assert!(
        ["BAD_CONFIG", "UNSUPPORTED"].contains(&other.code()),
        "{}",
        other.code()
    );

    // Weights of a deeper model beside a config of this one.
    let config = lab.config(|c| c.steps = 1);
    lab.run("base", &config).done();
    let json = fs::read_to_string(lab.path("base/model/config.json")).unwrap();
    let mut shapes: serde_json::Value = serde_json::from_str(&json).unwrap();
    shapes["vision_config"]["num_hidden_layers"] = 3.into();
    fs::write(lab.path("base/model/config.json"), shapes.to_string()).unwrap();
    let other = lab.run("run", &based("base/model"));
    assert!(other.message().contains("layers.2"), "{}", other.message());
    assert!(!lab.path("run/model").exists());
}

#[test]
fn a_base_keeps_its_temperature_and_goes_on_from_its_weights() {
    let lab = Lab::new();
    lab.run("base", &lab.config(|c| c.steps = 20)).done();
    let tuned = lab.config(|c| {
        c.model.new = None;
        c.model.base = Some("base/model".into());
        c.steps = 1;
    });
    let run = lab.run("tuned", &tuned).done();
    let scale = lab.siglip("base/model").logit_scale.unwrap();
    let scale = f64::from(scale.val().into_scalar::<f32>());
    assert!((run.steps()[0].temperature.unwrap() - scale.exp()).abs() < 1e-5);
    assert!(run.losses()[0] < 1.0, "{:?}", run.losses());
    let card = fs::read_to_string(lab.path("tuned/model/README.md")).unwrap();
    assert!(card.contains("base_model"), "{card}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_the_ids_of_the_batch() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.optimizer.lr = 1e30;
        c.optimizer.clip = None;
    });
    let run = lab.run("run", &config);
    assert_eq!(run.code(), "DIVERGED");
    assert!(run.losses().iter().all(|loss| loss.is_finite()));
    let told = fs::read_to_string(lab.path("run/diverged.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let step = run.losses().len() as u64 + 1;
    assert_eq!(told["step"], step);
    assert_eq!(told["draws"], serde_json::json!([8 * (step - 1), 8 * step]));
    let ids = told["ids"].as_array().unwrap();
    assert!(ids.len() == 8 && ids.iter().all(|id| lab.path(id.as_str().unwrap()).exists()));
    assert!(!lab.path("run/model").exists());
}

#[test]
fn what_is_frozen_stays_bit_for_bit() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 3;
        c.optimizer.weight_decay = 0.1;
        c.optimizer.groups = ["vision_model.*", "logit_*"].map(freeze).into();
    });
    lab.run("run", &config).done();
    let changed = changed(&open(lab.path("run/start")), &open(lab.path("run/model")));
    assert!(
        changed.len() > 10 && changed.iter().all(|name| name.starts_with("text_model.")),
        "{changed:?}"
    );
    let nothing = lab.config(|c| c.optimizer.groups = vec![freeze("vision_tower.*")]);
    assert_eq!(lab.run("other", &nothing).code(), "BAD_CONFIG");
}

#[test]
fn adapters_change_their_targets_alone() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 3;
        c.lora = lora();
    });
    let run = lab.run("run", &config).done();
    assert!(run.losses()[2] < run.losses()[0], "{:?}", run.losses());
    let mut changed = changed(&open(lab.path("run/start")), &open(lab.path("run/model")));
    changed.retain(|name| !name.ends_with("q_proj.weight") && !name.ends_with("fc1.weight"));
    assert_eq!(changed, Vec::<String>::new());
}

#[test]
fn merged_adapters_are_applied_adapters() {
    let lab = Lab::new();
    lab.run("base", &lab.config(|c| c.steps = 1)).done();
    let (base, lora) = (lab.siglip("base/model"), lora().unwrap());
    let applied = with_lora(base, &lora).unwrap();
    // Adapters start with B = 0: numbers that do something.
    let factors = params::list(&applied)
        .into_iter()
        .filter(|p| p.name.contains(".lora."));
    let numbers = |n: usize| {
        (0..n)
            .map(|i| ((i * 37 + n) % 19) as f32 / 60.0 - 0.15)
            .collect()
    };
    let factors: std::collections::HashMap<_, _> =
        factors.map(|p| (p.id, numbers(p.count()))).collect();
    assert_eq!(
        factors.len(),
        2 * (2 * 3 + 1),
        "two factors for two weights of each of three layers and the pooling head's fc1"
    );
    let applied = params::write(applied, factors);

    let weights = merged(&applied, Some(&lora)).unwrap();
    let start = open(lab.path("base/model"));
    lab.export("merged", &start, weights);
    let merged = lab.siglip("merged");
    let [none, want, got] =
        [lab.siglip("base/model"), applied, merged].map(|model| lab.embed(&model));
    let far = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    assert!(far(&none, &want) > 1e-2, "the adapters do nothing");
    assert!(far(&want, &got) < 1e-6, "{}", far(&want, &got));
}

#[test]
fn a_warm_start_of_the_text_tower_lowers_the_first_losses() {
    let lab = Lab::new();
    let cold = lab.config(|c| c.steps = 6);
    let warm = lab.config(|c| {
        c.steps = 6;
        c.text_warm_start = Some(TextWarmStart {
            steps: 40,
            lr: 3e-3,
        });
    });
    let [cold, warm] =
        [("cold", cold), ("warm", warm)].map(|(name, config)| lab.run(name, &config).done());
    let notes = warm
        .events
        .iter()
        .filter(|e| matches!(e, Event::Note { message } if message.contains("in 2 meanings")));
    assert_eq!(notes.count(), 1);
    let sum = |run: &Outcome| run.losses().iter().sum::<f64>();
    assert!(
        sum(&warm) < sum(&cold),
        "{:?} {:?}",
        warm.losses(),
        cold.losses()
    );
}

#[test]
fn less_memory_gives_the_same_losses() {
    let lab = Lab::new();
    let losses = |name: &str, change: fn(&mut TrainConfig)| {
        let config = lab.config(|c| {
            c.steps = 3;
            change(c);
        });
        lab.run(name, &config).done().losses()
    };
    let want = losses("plain", |_| ());
    let checkpointed = losses("checkpointed", |c| c.model.gradient_checkpointing = true);
    let micro = losses("micro", |c| c.batch.micro = 3);
    let blocks = losses("blocks", |c| c.loss.block = 3);
    let both = losses("both", |c| {
        c.model.gradient_checkpointing = true;
        c.batch.micro = 4;
    });
    for got in [checkpointed, micro, blocks, both] {
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }
}

#[test]
fn several_devices_give_the_losses_of_one_and_go_on_where_they_stopped() {
    let lab = Lab::new();
    let config = lab.config(|c| c.steps = 4);
    let want = lab.run("one", &config).done().losses();
    let three = [Device::Cpu; 3];
    stop_after(2);
    let first = lab.run_on(&three, "three", &config, false);
    assert_eq!(first.code(), "INTERRUPTED");
    stop_after(u64::MAX);
    let rest = lab.run_on(&three, "three", &config, true).done();
    let got = [first.losses(), rest.losses()].concat();
    assert_eq!(got.len(), 4);
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
}

#[test]
fn pictures_that_cannot_be_read_are_left_out_and_told() {
    let lab = Lab::new();
    lab.add_row("missing.png,lines");
    fs::write(lab.path("broken.png"), b"\x89PNG\r\n\x1a\nno more").unwrap();
    lab.add_row("broken.png,dots");
    let config = lab.config(|c| {
        c.steps = 8;
        c.sources[0].max_skipped = 0.1;
    });
    let run = lab.run("run", &config).done();
    let warnings = run.warnings();
    let told = |file: &str| {
        warnings
            .iter()
            .any(|w| w.contains("source patterns") && w.contains(file))
    };
    assert!(told("row") && told("missing picture file"), "{warnings:?}");
    assert!(told("row 26") && told("unreadable picture"), "{warnings:?}");
    let strict = lab.config(|c| c.sources[0].max_skipped = 0.01);
    let refused = lab.run("strict", &strict);
    assert_eq!(refused.code(), "BAD_ARGUMENT");
    assert!(
        refused.message().contains("max_skipped"),
        "{}",
        refused.message()
    );
}

#[test]
fn a_class_without_examples_warns() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 1;
        let texts = c.sources[0].label_texts.get_mut("label").unwrap();
        texts.insert("waves".into(), vec!["a picture of waves".into()]);
    });
    let run = lab.run("run", &config).done();
    let warnings = run.warnings();
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("label = waves has texts and no example")),
        "{warnings:?}"
    );
    let config = lab.config(|c| {
        c.validation.tasks[0].classes = [("waves".to_string(), "lines".to_string())].into();
    });
    let refused = lab.run("other", &config);
    assert_eq!(refused.code(), "BAD_CONFIG");
    assert!(
        refused.message().contains("task patterns"),
        "{}",
        refused.message()
    );
}

#[test]
fn a_dry_run_shows_the_first_batch_and_counts_every_number() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.optimizer.groups = vec![freeze("text_model.*")];
        c.average = Some(0.9);
    });
    let found = lab.dry_run("run", &config).unwrap();
    let start = open(lab.path("run/start"));
    let count = |of: &dyn Fn(&str) -> bool| -> usize {
        let expected = expected_tensors(start.config()).into_iter();
        let expected = expected.filter(|t| of(&t.name));
        expected.map(|t| t.shape.iter().product::<usize>()).sum()
    };
    let numbers = |parameters: &[params::Parameter]| -> usize {
        parameters.iter().map(params::Parameter::count).sum()
    };
    let trained = found.groups.trained.iter();
    let trained: usize = trained.map(|group| numbers(&group.parameters)).sum();
    assert_eq!(
        numbers(&found.groups.frozen),
        count(&|n| n.starts_with("text_model."))
    );
    assert_eq!(trained, count(&|n| !n.starts_with("text_model.")));
    let memory = found.memory;
    assert_eq!(
        memory.weights,
        2 * 4 * count(&|_| true) as u64,
        "weights and their average"
    );
    assert_eq!(
        (memory.gradients, memory.optimizer),
        (4 * trained as u64, 8 * trained as u64)
    );
    // 36 to 40 by 34 pixels.
    assert!((24 * 3 * 36 * 34..=24 * 3 * 40 * 34).contains(&memory.pictures));
    assert_eq!(found.sources[0].examples, [18, 6, 0]);
    assert_eq!(
        (found.sources[0].drawn_from, found.sources[0].share),
        (18, 1.0)
    );

    let source = ModelSource::Local(lab.path("run/start"));
    let model = Model::load(&source, &LoadOptions::default()).unwrap();
    let preprocessor = model.preprocessor();
    let seen = found.samples.chunks_exact(3 * 32 * 32);
    assert_eq!(seen.len(), 8);
    for (id, samples) in found.batch.ids.iter().zip(seen) {
        let picture = medsiglip::image::open(lab.path(id)).unwrap();
        assert!(samples == preprocessor.view(&picture).unwrap(), "{id}");
    }
}
