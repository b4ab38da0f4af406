//! `probe`: a linear probe from embeddings and labels; its scores; how good they are.

use std::fs::File;
use std::io::{BufWriter, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::embedding::{EmbeddingTable, TableOptions};
use medsiglip::metrics::{Bootstrap, Estimate, Ranking, Resampling};
use medsiglip::probe::{ClassWeight, Labels, Learning, Probe, Recipe, Settings};

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
    let mut recipe = Recipe {
        normalize: args.normalize,
        standardize: args.standardize,
        settings: Settings {
            penalty: args.penalty()?,
            seed: args.seed,
            accept_unconverged: args.accept_unconverged,
            ..Settings::default()
        },
        ..Recipe::default()
    };
    if !args.c.is_empty() {
        recipe.cs.clone_from(&args.c);
    }
    let learning = Learning {
        recipe,
        class_weight: match args.balanced {
            true => ClassWeight::Balanced,
            false => ClassWeight::None,
        },
        folds: args.folds,
        ids: args.labels.ids(),
    };
    let learned = learning.learn(&table, &labels)?;
    if learned.missing > 0 {
        messages::say(format_args!(
            "warning: {} of {} ids have no embedding",
            learned.missing,
            labels.ids.len()
        ));
    }
    for ((head, choice), items) in learned
        .probe
        .heads
        .iter()
        .zip(&learned.choices)
        .zip(&learned.items)
    {
        let chosen = match choice {
            Some(choice) => {
                let best = choice
                    .scores
                    .iter()
                    .map(|folds| folds.iter().sum::<f64>() / folds.len() as f64);
                format!(
                    "AUROC {:.3} in {} folds",
                    best.fold(f64::NAN, f64::max),
                    args.folds
                )
            }
            None => "a class is in too few groups to choose C by".into(),
        };
        let gap = match head.fit.converged {
            true => format!("{:.1e}", head.fit.gap),
            false => format!("{:.1e}, NOT CONVERGED", head.fit.gap),
        };
        messages::note(format_args!(
            "{}: {items} items, C {:.3e} ({chosen}), relative duality gap {gap}",
            head.name, head.fit.c
        ));
    }
    learned.probe.save(&args.output)?;
    messages::note(format_args!("wrote {}", args.output.display()));
    Ok(Exit::Done)
}

fn predict(args: &ProbePredictArgs) -> Result<Exit> {
    let probe = Probe::load(&args.probe)?;
    let table = EmbeddingTable::read(&args.embeddings, &TableOptions::default())?;
    let scores = probe.predict(table.embeddings(), table.provenance())?;
    let mut header = vec!["id".to_owned()];
    for head in &probe.heads {
        match head.classes.len() {
            2 => header.push(format!("{}={}", head.name, head.classes[1])),
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
    if !joined.missing.is_empty() {
        messages::say(format_args!(
            "warning: {} of {} ids have no embedding",
            joined.missing.len(),
            labels.ids.len()
        ));
    }
    let scores = probe.predict(&joined.embeddings, table.provenance())?;
    let groups: Vec<usize> = joined
        .found
        .iter()
        .map(|place| labels.groups[*place])
        .collect();
    let how = Resampling {
        groups: Some(&groups),
        ..Resampling::default()
    };
    let bootstrap = Bootstrap::new(groups.len(), &how)?;
    let mut shown = Table::new();
    shown
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(["", "items", "AUROC", "average precision"]);
    for (number, question) in labels.questions.iter().enumerate() {
        let Some(at) = probe
            .heads
            .iter()
            .position(|head| head.name == question.name)
        else {
            let known: Vec<&str> = probe.heads.iter().map(|head| head.name.as_str()).collect();
            return Err(Failure::argument(format!(
                "the probe knows no {}, but {}",
                question.name,
                known.join(", ")
            )));
        };
        let head = &probe.heads[at];
        let of = labels.in_order(number, &head.classes).ok_or_else(|| {
            Failure::argument(format!(
                "column {} has classes that the probe does not know",
                question.name
            ))
        })?;
        let truth: Vec<Option<usize>> = joined.found.iter().map(|place| of[*place]).collect();
        for (name, ranking) in
            rankings(head.classes.as_slice(), &question.name, &scores[at], &truth)?
        {
            let samples = bootstrap.rankings(std::slice::from_ref(&ranking))?;
            shown.add_row([
                name,
                format!(
                    "{} of {}",
                    ranking.positives(),
                    ranking.positives() + ranking.negatives()
                ),
                cell(samples[0].roc_auc.estimate(LEVEL)?),
                cell(samples[0].average_precision.estimate(LEVEL)?),
            ]);
        }
    }
    let text =
        format!("95 % intervals, whole groups drawn together; not for clinical use\n{shown}\n");
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(Failure::stdout)?;
    Ok(Exit::Done)
}

/// Of two classes the second; of more, each against the others.
fn rankings(
    classes: &[String],
    name: &str,
    scores: &[f64],
    truth: &[Option<usize>],
) -> Result<Vec<(String, Ranking)>> {
    let all = 0..classes.len();
    let judged = if classes.len() == 2 { 1..2 } else { all };
    let of = |class: usize| {
        let column: Vec<f64> = scores
            .iter()
            .skip(class)
            .step_by(classes.len())
            .copied()
            .collect();
        let positive: Vec<Option<bool>> = truth.iter().map(|of| of.map(|of| of == class)).collect();
        Ok((
            format!("{name} = {}", classes[class]),
            Ranking::labelled(&column, &positive)?,
        ))
    };
    judged.map(of).collect()
}

fn cell(estimate: Option<Estimate>) -> String {
    match estimate {
        Some(e) => format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high),
        None => "none: a class is missing".into(),
    }
}
