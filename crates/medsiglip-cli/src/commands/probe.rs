//! `probe`: a linear probe from embeddings and labels; its scores; how good they are.

use std::fs::File;
use std::io::{BufWriter, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use medsiglip::embedding::EmbeddingTable;
use medsiglip::eval::measure::{Sample, Unlearned};
use medsiglip::eval::report::Measure;
use medsiglip::eval::tables::cell;
use medsiglip::eval::truth::{Answers, Truth};
use medsiglip::probe::{Choice, ClassWeight, Head, Labels, Learning, Probe, Recipe, Settings};

use crate::args::{ProbeArgs, ProbeCommand, ProbeEvalArgs, ProbeFitArgs, ProbePredictArgs};
use crate::messages::{self, Exit, Failure, Result};

/// Bootstrap samples behind an interval.
const REPLICATES: usize = 2000;

/// Fits, predicts or evaluates.
pub fn run(args: &ProbeArgs) -> Result<Exit> {
    match &args.command {
        ProbeCommand::Fit(args) => fit(args),
        ProbeCommand::Predict(args) => predict(args),
        ProbeCommand::Eval(args) => eval(args),
    }
}

fn fit(args: &ProbeFitArgs) -> Result<Exit> {
    let table = EmbeddingTable::read(&args.embeddings, &args.table.options())?;
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
    messages::note(format_args!(
        "wrote {}: a research probe, not for clinical use",
        args.output.display()
    ));
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
    let table = EmbeddingTable::read(&args.embeddings, &args.table.options())?;
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
    let table = EmbeddingTable::read(&args.embeddings, &args.table.options())?;
    let labels = Labels::read(&args.labels.labels, &args.labels.columns())?;
    let joined = table.join(&labels.ids, args.labels.ids())?;
    warn_of_missing(joined.missing.len(), &labels);
    let scores = probe.predict(&joined.embeddings, table.provenance())?;
    let mut shown = Table::new();
    shown
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(["", "positive", "measure", "value"]);
    for (number, question) in labels.questions.iter().enumerate() {
        let (at, head) = head_of(&probe, &question.name)?;
        let of = labels.in_order(number, &head.classes).ok_or_else(|| {
            let name = &question.name;
            Failure::argument(format!(
                "column {name} has classes that the probe does not know"
            ))
        })?;
        let judged = Judged {
            head,
            scores: &scores[at],
            truth: joined.found.iter().map(|place| of[*place]).collect(),
            groups: joined.found.iter().map(|at| labels.groups[*at]).collect(),
        };
        shown.add_rows(judged.rows()?);
    }
    let text = format!(
        "95 % intervals, whole groups drawn together, of each class as many as there are; accuracy, F1 and kappa by the highest \
         score; not for clinical use\n{shown}\n"
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

/// A head's scores beside the truth.
struct Judged<'a> {
    head: &'a Head,
    /// (N, C).
    scores: &'a [f64],
    truth: Vec<Option<usize>>,
    groups: Vec<usize>,
}

impl Judged<'_> {
    /// Its lines of the table: those of the classes, of two classes the second alone, then those of all together.
    fn rows(&self) -> Result<Vec<[String; 4]>> {
        let Head { name, classes, .. } = self.head;
        let count = classes.len();
        let known = (0..self.truth.len()).filter(|item| self.truth[*item].is_some());
        let known: Vec<usize> = known.collect();
        if known.is_empty() {
            return Ok(vec![
                [name, "", "", "none: no item is labelled"].map(str::to_owned),
            ]);
        }
        let truth = Truth {
            classes: classes.clone(),
            positive: if count == 2 { vec![1] } else { Vec::new() },
            of: Answers::Classes(self.truth.clone()),
            ordered: false,
        };
        let groups: Vec<usize> = known.iter().map(|item| self.groups[*item]).collect();
        let rows = known.iter();
        let rows = rows.flat_map(|item| &self.scores[item * count..(item + 1) * count]);
        let scores: Vec<f64> = rows.copied().collect();
        let sample = Sample::new(&truth, &known, &groups, REPLICATES, 0)?;
        let measured = sample.measure(&scores, &Unlearned::new())?;
        let line = |about: &str, positive: &str, measure: &Measure| {
            [about, positive, &measure.name, &cell(Some(measure))].map(str::to_owned)
        };
        let mut lines = Vec::new();
        for question in &measured.questions {
            let about = format!("{name} = {}", question.name);
            let positive = format!("{} of {}", question.positives, known.len());
            let measures = question.measures.iter();
            lines.extend(measures.map(|measure| line(&about, &positive, measure)));
            if let Some(threshold) = self.head.threshold {
                let at = sample.at_threshold(&measured, threshold.probability)?;
                lines.extend(at.iter().flatten().map(|of| line(&about, &positive, of)));
            }
        }
        // Of two classes, what is said of the second is said.
        let said = |measure: &&Measure| {
            let mut own = measured.questions.iter().flat_map(|q| &q.measures);
            count > 2 || !own.any(|of| of.name == measure.name)
        };
        let together = measured.overall.iter().filter(said);
        lines.extend(together.map(|measure| line(name, "", measure)));
        Ok(lines)
    }
}
