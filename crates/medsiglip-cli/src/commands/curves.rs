//! The curves of a training run, from its log.

use std::collections::BTreeMap;
use std::fs;

use medsiglip::Error;
use medsiglip::dataset::Side;
use medsiglip::eval::figures::over_steps;
use medsiglip::eval::report::Band;
use medsiglip::metrics::Estimate;
use medsiglip::train::config::Places;
use medsiglip::train::run::Event;

/// Writes `loss.svg` and, where there was a validation, `auroc.svg` and `accuracy.svg` into the run's folder, each as PNG too.
///
/// # Errors
/// `IO_ERROR`.
pub fn draw(places: &Places) -> medsiglip::Result<()> {
    let log = places.log();
    let text = fs::read_to_string(&log).map_err(|e| Error::io("read", &log, e))?;
    let mut loss = Band::default();
    let (mut auroc, mut accuracy) = (BTreeMap::new(), BTreeMap::new());
    for event in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        match event {
            Event::Step(report) => add(&mut loss, report.step, &flat(report.loss)),
            Event::Measured {
                step,
                side,
                results,
            } if side == Side::Val.name() => {
                for result in results {
                    for (of, estimate) in
                        [(&mut auroc, result.auroc), (&mut accuracy, result.accuracy)]
                    {
                        if let Some(estimate) = estimate {
                            add(of.entry(result.task.clone()).or_default(), step, &estimate);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let loss = [(String::from("training loss"), loss)].into();
    for (name, label, curves) in [
        ("loss", "loss", loss),
        (
            "auroc",
            "AUROC on the validation side, 95 % interval",
            auroc,
        ),
        (
            "accuracy",
            "accuracy on the validation side, 95 % interval",
            accuracy,
        ),
    ] {
        if curves.values().all(|band: &Band| band.x.len() < 2) {
            continue;
        }
        let curves: Vec<(String, Band)> = curves.into_iter().collect();
        let figure = over_steps(name, label, &curves)?;
        let path = places.run.join(name);
        for (extension, bytes) in [("svg", figure.svg.as_bytes()), ("png", &figure.png)] {
            let path = path.with_extension(extension);
            fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
        }
    }
    Ok(())
}

fn flat(value: f64) -> Estimate {
    Estimate {
        value,
        low: value,
        high: value,
        without_value: 0,
    }
}

fn add(band: &mut Band, step: u64, estimate: &Estimate) {
    band.x.push(step as f64);
    band.y.push(estimate.value);
    band.low.push(estimate.low);
    band.high.push(estimate.high);
}
