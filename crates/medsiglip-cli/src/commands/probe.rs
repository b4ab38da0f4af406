//! `probe`: a linear probe from embeddings and labels; its scores; how good they are.

use std::fs::File;
use std::io::{BufWriter, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::embedding::{EmbeddingTable, TableOptions};
use medsiglip::metrics::{
    Bins, Bootstrap, Estimate, Ranking, Resampling, brier_score, expected_calibration_error,
};
use medsiglip::probe::{Choice, ClassWeight, Head, Labels, Learning, Probe, Recipe, Settings};

use crate::args::{ProbeArgs, ProbeCommand, ProbeEvalArgs, ProbeFitArgs, ProbePredictArgs};
use crate::messages::{self, Exit, Failure, Result};

/// Level of all intervals.
const LEVEL: f64 = 0.95;

/// Fits, predicts or evaluates.
pub fn run(args: &ProbeArgs) -> Result<Exit> {
    match &args.command {
        ProbeCommand::Fit(args) => fit(args),
        ProbeCommand::Predict(args) => predict(args),
        ProbeCommand::Eval(args) => eval(args),
    }
}

fn fit(args: &ProbeFitArgs) -> Result<Exit> {
    let table = EmbeddingTable::read(&args.embeddings, &TableOptions::default())?;
    let labels = Labels::read(&args.labels.labels, &args.labels.columns())?;
    let learned = learning(args)?.learn(&table, &labels)?;
    warn_of_missing(learned.missing, &labels);
    let heads = learned.probe.heads.iter().zip(&learned.choices);
    for ((head, choice), items) in heads.zip(&learned.items) {
        let chosen = match choice {
            Some(choice) => format!("AUROC {:.3} in {} folds", best(choice), args.folds),
            None => "a class is in too few groups to choose C by".into(),
        };
        let converged = if head.fit.converged {
            ""
        } else {
            ", NOT CONVERGED"
        };
        messages::note(format_args!(
            "{}: {items} items, C {:.3e} ({chosen}), relative duality gap {:.1e}{converged}",
            head.name, head.fit.c, head.fit.gap
        ));
        tell_judged(args, head);
    }
    learned.probe.save(&args.output)?;
    messages::note(format_args!("wrote {}", args.output.display()));
    Ok(Exit::Done)
}

/// What was asked of held-out folds.
fn tell_judged(args: &ProbeFitArgs, head: &Head) {
    let name = &head.name;
    if args.calibrate.is_some() && head.calibration.is_none() {
        messages::say(format_args!(
            "warning: {name} is not calibrated: too few items, or scores that say nothing"
        ));
    }
    match (&args.threshold, &head.threshold) {
        (None, _) => {}
        (Some(_), Some(at)) => messages::note(format_args!(
            "{name}: threshold {:.4}; sensitivity {:.3}, specificity {:.3} in held-out folds",
            at.probability, at.sensitivity, at.specificity
        )),
        (Some(_), None) => messages::say(format_args!(
            "warning: {name} has no threshold: too few items, or scores that say nothing"
        )),
    }
}

fn learning(args: &ProbeFitArgs) -> Result<Learning> {
    let recipe = Recipe::default();
    Ok(Learning {
        recipe: Recipe {
            normalize: args.normalize,
            standardize: args.standardize,
            cs: match args.c.is_empty() {
                true => recipe.cs,
                false => args.c.clone(),
            },
            settings: Settings {
                penalty: args.penalty()?,
                seed: args.seed,
                accept_unconverged: args.accept_unconverged,
                ..recipe.settings
            },
            calibrate: args.calibrate(),
            threshold: args.threshold,
            ..recipe
        },
        class_weight: match args.balanced {
            true => ClassWeight::Balanced,
            false => ClassWeight::None,
        },
        folds: args.folds,
        ids: args.labels.ids(),
    })
}

/// The best mean AUROC over the folds.
fn best(choice: &Choice) -> f64 {
    let means = choice.scores.iter();
    let means = means.map(|folds| folds.iter().sum::<f64>() / folds.len() as f64);
    means.fold(f64::NAN, f64::max)
}

fn warn_of_missing(missing: usize, labels: &Labels) {
    if missing > 0 {
        let all = labels.ids.len();
        messages::say(format_args!(
            "warning: {missing} of {all} ids have no embedding"
        ));
    }
}

fn predict(args: &ProbePredictArgs) -> Result<Exit> {
    let probe = Probe::load(&args.probe)?;
    let table = EmbeddingTable::read(&args.embeddings, &TableOptions::default())?;
    let scores = probe.predict(table.embeddings(), table.provenance())?;
    let mut header = vec!["id".to_owned()];
    for head in &probe.heads {
        match head.classes.len() {
            2 => {
                header.push(format!("{}={}", head.name, head.classes[1]));
                if head.threshold.is_some() {
                    header.push(head.name.clone());
                }
            }
            _ => header.extend(
                head.classes
                    .iter()
                    .map(|class| format!("{}={class}", head.name)),
            ),
        }
    }
    let out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(|e| Failure::io("create", path, e))?),
        None => Box::new(std::io::stdout().lock()),
    };
    let failed = |e: csv::Error| match (e.into_kind(), &args.output) {
        (csv::ErrorKind::Io(e), Some(path)) => Failure::io("write", path, e),
        (csv::ErrorKind::Io(e), None) => Failure::stdout(e),
        _ => Failure::argument("scores cannot be written as CSV"),
    };
    let mut writer = csv::Writer::from_writer(BufWriter::new(out));
    writer.write_record(&header).map_err(failed)?;
    for (row, id) in table.ids().iter().enumerate() {
        let mut record = vec![id.clone()];
        for (head, scores) in probe.heads.iter().zip(&scores) {
            let classes = head.classes.len();
            let own = &scores[row * classes..(row + 1) * classes];
            let shown = if classes == 2 { &own[1..] } else { own };
            record.extend(shown.iter().map(f64::to_string));
            if let Some(threshold) = head.threshold {
                let class = usize::from(own[1] >= threshold.probability);
                record.push(head.classes[class].clone());
            }
        }
        writer.write_record(&record).map_err(failed)?;
    }
    writer.flush().map_err(|e| failed(e.into()))?;
    messages::note("probabilities of a research probe; not for clinical use");
    Ok(Exit::Done)
}

fn eval(args: &ProbeEvalArgs) -> Result<Exit> {
    let probe = Probe::load(&args.probe)?;
    let table = EmbeddingTable::read(&args.embeddings, &TableOptions::default())?;
    let labels = Labels::read(&args.labels.labels, &args.labels.columns())?;
    let joined = table.join(&labels.ids, args.labels.ids())?;
    warn_of_missing(joined.missing.len(), &labels);
    let scores = probe.predict(&joined.embeddings, table.provenance())?;
    let groups = joined.found.iter().map(|place| labels.groups[*place]);
    let groups: Vec<usize> = groups.collect();
    let how = Resampling {
        groups: Some(&groups),
        ..Resampling::default()
    };
    let bootstrap = Bootstrap::new(groups.len(), &how)?;
    let mut shown = Table::new();
    let header = [
        "",
        "positive",
        "AUROC",
        "average precision",
        "Brier score",
        "ECE",
        "sensitivity",
        "specificity",
    ];
    shown.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for (number, question) in labels.questions.iter().enumerate() {
        let (at, head) = head_of(&probe, &question.name)?;
        let of = labels.in_order(number, &head.classes).ok_or_else(|| {
            let name = &question.name;
            Failure::argument(format!(
                "column {name} has classes that the probe does not know"
            ))
        })?;
        let truth: Vec<Option<usize>> = joined.found.iter().map(|place| of[*place]).collect();
        for judged in judged(head, &scores[at], &truth) {
            shown.add_row(judged.row(&bootstrap)?);
        }
    }
    let text = format!(
        "95 % intervals, whole groups drawn together; ECE in 10 equal bins; sensitivity and specificity at the \
             probe's threshold; not for clinical use\n{shown}\n"
    );
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).map_err(Failure::stdout)?;
    Ok(Exit::Done)
}

/// The head of a question, and its place.
fn head_of<'a>(probe: &'a Probe, name: &str) -> Result<(usize, &'a Head)> {
    let mut heads = probe.heads.iter().enumerate();
    heads.find(|(_, head)| head.name == name).ok_or_else(|| {
        let known: Vec<&str> = probe.heads.iter().map(|head| head.name.as_str()).collect();
        Failure::argument(format!(
            "the probe knows no {name}, but {}",
            known.join(", ")
        ))
    })
}

/// A class's scores beside the truth.
struct Judged {
    name: String,
    scores: Vec<f64>,
    answers: Vec<Option<bool>>,
    /// From which score on the class is called there.
    threshold: Option<f64>,
}

/// Of two classes the second; of more, each against the others.
fn judged(head: &Head, scores: &[f64], truth: &[Option<usize>]) -> Vec<Judged> {
    let count = head.classes.len();
    let classes = if count == 2 { 1..2 } else { 0..count };
    let of = |class: usize| Judged {
        name: format!("{} = {}", head.name, head.classes[class]),
        scores: scores.iter().skip(class).step_by(count).copied().collect(),
        answers: truth.iter().map(|of| of.map(|of| of == class)).collect(),
        threshold: head.threshold.map(|threshold| threshold.probability),
    };
    classes.map(of).collect()
}

impl Judged {
    /// Its line of the table.
    fn row(&self, bootstrap: &Bootstrap) -> Result<Vec<String>> {
        let ranking = Ranking::labelled(&self.scores, &self.answers)?;
        let known = ranking.positives() + ranking.negatives();
        let positive = format!("{} of {known}", ranking.positives());
        let ranked = bootstrap.rankings(&[ranking])?.remove(0);
        let samples = bootstrap.measures(|items| self.measures(items))?;
        let mut row = vec![self.name.clone(), positive];
        row.push(cell(ranked.roc_auc.estimate(LEVEL)?));
        row.push(cell(ranked.average_precision.estimate(LEVEL)?));
        for (number, samples) in samples.iter().enumerate() {
            row.push(match number >= 2 && self.threshold.is_none() {
                true => "no threshold".into(),
                false => cell(samples.estimate(LEVEL)?),
            });
        }
        Ok(row)
    }

    /// Brier score, calibration error, sensitivity and specificity.
    fn measures(&self, items: &[usize]) -> medsiglip::Result<Vec<Option<f64>>> {
        let known = items
            .iter()
            .filter_map(|item| Some((self.scores[*item], self.answers[*item]?)));
        let (scores, positive): (Vec<f64>, Vec<bool>) = known.unzip();
        let right = |wanted: bool| {
            let at = self.threshold?;
            let those = scores.iter().zip(&positive).filter(|(_, p)| **p == wanted);
            let called = those.clone().filter(|(score, _)| (**score >= at) == wanted);
            let (called, all) = (called.count(), those.count());
            (all > 0).then(|| called as f64 / all as f64)
        };
        Ok(vec![
            brier_score(&scores, &positive)?,
            expected_calibration_error(&scores, &positive, Bins::EqualWidth(10))?,
            right(true),
            right(false),
        ])
    }
}

fn cell(estimate: Option<Estimate>) -> String {
    match estimate {
        Some(e) => format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high),
        None => "none: a class is missing".into(),
    }
}
