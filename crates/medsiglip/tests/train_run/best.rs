//! Stopping early, and exporting the best validation.

use std::fs;

use medsiglip::dataset::Side;
use medsiglip::train::run::Event;

use super::lab::Lab;
use super::open;

#[test]
fn training_stops_where_validation_gets_no_better_also_after_a_resume() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 40;
        c.optimizer.lr = 1e-12;
        c.validation.every = 2;
        c.validation.patience = Some(2);
    });
    let run = lab.run("run", &config).done();
    assert_eq!(
        run.losses().len(),
        6,
        "one validation, and two that are no better"
    );
    let told = |e: &Event| matches!(e, Event::Note { message } if message.contains("stopped early after 6 steps"));
    assert!(run.events.iter().any(told));
    fs::remove_dir_all(lab.path("run/model")).unwrap();
    assert!(lab.resume("run", &config).done().losses().is_empty());
    assert!(lab.path("run/model").exists());
}

#[test]
fn the_best_validation_is_exported_where_that_is_asked_for() {
    let lab = Lab::new();
    let config = lab.config(|c| {
        c.steps = 32;
        c.validation.every = 4;
        c.validation.keep_best = true;
    });
    let run = lab.run("run", &config).done();
    let values = run
        .measured(Side::Val)
        .into_iter()
        .map(|m| m[0].auroc.unwrap().value);
    let values: Vec<f64> = values.collect();
    let (on_the_way, exported) = (&values[..8], values[8]);
    let best = on_the_way.iter().copied().fold(0.0, f64::max);
    let first = on_the_way.iter().position(|own| *own == best).unwrap();
    assert!(first < 7 && exported == best, "{values:?}");
    let step = 4 * (first + 1);
    let told = |e: &Event| matches!(e, Event::Note { message } if message.contains(&format!("model of step {step},")));
    assert!(run.events.iter().any(told));
    let model = open(lab.path("run/model"));
    lab.assert_holds("run/checkpoints/best/model.safetensors", &model);
    // The same as where the run ends there.
    let short = lab.config(|c| {
        c.steps = 32;
        c.validation.every = 4;
        c.checkpoint.every = step as u64;
        c.checkpoint.keep = 100;
    });
    lab.run("other", &short).done();
    lab.assert_holds(
        &format!("other/checkpoints/step-{step:08}/model.safetensors"),
        &model,
    );
}
