//! An evaluation from its configuration to the [`Report`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::EvalConfig;
use super::encoded::{Asked, Encoded};
use super::measuring::Measuring;
use super::prepared::Prepared;
use super::report::{Method, NOTICE, Report, SourceFacts, TaskReport};
use crate::Result;
use crate::dataset::{Divided, Side, Skipped, Source};
use crate::image::DecodeOptions;
use crate::model::Device;

/// Fewer pictures than this are said to be few.
const FEW: usize = 100;

/// What an evaluation tells while it goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Something that a person should know.
    Warning(String),
    /// What begins.
    Begins {
        /// What.
        what: String,
        /// Its parts; 0 where they are not counted.
        of: usize,
    },
    /// More parts of it are done.
    Done(usize),
}

/// How an evaluation is made, beside its configuration.
pub struct EvalOptions<'a> {
    /// The folder that relative paths of the configuration start at.
    pub base: &'a Path,
    /// Embeddings are kept in this folder, so that an evaluation that was stopped goes on.
    pub kept: &'a Path,
    /// Where models run.
    pub device: Device,
    /// Asked now and then whether to stop.
    pub stop: fn() -> bool,
}

/// A score of one picture. Texts are shared: there are as many scores as pictures, classes, encoders and methods together.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The task.
    pub task: Arc<str>,
    /// The encoder.
    pub encoder: Arc<str>,
    /// The method.
    pub method: Method,
    /// The picture's id in its source.
    pub id: Arc<str>,
    /// The class or finding.
    pub class: Arc<str>,
    /// The score, from 0 to 1.
    pub score: f64,
    /// Whether it is so; `None` where it is unknown.
    pub truth: Option<bool>,
}

/// Evaluates: the report, and every score behind it.
///
/// # Errors
/// Those of its parts; `INTERRUPTED` where it was stopped.
pub fn evaluate(
    config: &EvalConfig,
    options: &EvalOptions,
    tell: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<(Report, Vec<Prediction>)> {
    tell(&Event::Begins {
        what: "reading the sources".into(),
        of: 0,
    })?;
    let divided = Divided::open(
        &config.sources,
        config.split,
        config.seed,
        options.base,
        &DecodeOptions::default(),
    )?;
    let mut warn = |warning| tell(&Event::Warning(warning));
    divided.warnings.iter().cloned().try_for_each(&mut warn)?;
    let tasks = config.tasks.iter();
    let tasks = tasks.map(|task| Prepared::new(task, &divided, options.base));
    let tasks: Vec<Prepared> = tasks.collect::<Result<_>>()?;
    let mut left_out = tasks.iter().filter_map(|task| task.left_out(&divided));
    left_out.try_for_each(warn)?;
    let asked = Asked {
        divided: &divided,
        tasks: &tasks,
        options,
    };
    let encoders = config.encoders.iter();
    let encoders = encoders.map(|encoder| Encoded::new(encoder, &asked, tell));
    let encoders: Vec<Encoded> = encoders.collect::<Result<_>>()?;
    for warning in divided.skipped() {
        tell(&Event::Warning(warning))?;
    }
    let (mut reports, mut predictions) = (Vec::new(), Vec::new());
    for (number, task) in tasks.iter().enumerate() {
        let what = task.config.name.clone();
        tell(&Event::Begins { what, of: 0 })?;
        let measuring = Measuring::new(config, task, number, &divided, &encoders)?;
        let (report, scores) = measuring.report(options.stop)?;
        reports.push(report);
        predictions.extend(scores);
    }
    let facts = encoders.iter().map(|encoder| encoder.facts.clone());
    let report = Report {
        name: config.name.clone(),
        notice: NOTICE.into(),
        medsiglip: env!("CARGO_PKG_VERSION").into(),
        config: sha256(&serde_json::to_vec(config).expect("plain fields")),
        data: divided.fingerprint.clone(),
        seed: config.seed,
        replicates: config.replicates,
        sources: source_facts(config, &divided),
        encoders: facts.collect(),
        caveats: caveats(config, &asked, &encoders, &reports),
        tasks: reports,
    };
    Ok((report, predictions))
}

fn source_facts(config: &EvalConfig, divided: &Divided) -> Vec<SourceFacts> {
    let skipped = divided.pictures.skipped();
    let sources = divided.sources().iter().enumerate();
    let facts = |(number, source): (usize, &Source)| {
        let name = &source.config.name;
        let license = config.source_licenses.get(name).cloned();
        SourceFacts {
            name: name.clone(),
            license: license.unwrap_or_else(|| "not stated".into()),
            images: Side::ALL.map(|side| divided.on_side(number, side).len()),
            groups: groups_on_sides(divided, number),
            left_out: left_out(&source.skipped, &skipped[number]),
        }
    };
    sources.map(facts).collect()
}

/// By reason, how many.
fn left_out(first: &Skipped, later: &Skipped) -> BTreeMap<String, u64> {
    let mut all = first.reasons.clone();
    for (reason, count) in &later.reasons {
        *all.entry(reason.clone()).or_default() += count;
    }
    all
}

fn groups_on_sides(divided: &Divided, source: usize) -> Option<[usize; 3]> {
    let examples = &divided.sources()[source].examples;
    let any = examples.iter().any(|e| e.group.is_some());
    any.then(|| {
        Side::ALL.map(|side| {
            let groups = divided
                .on_side(source, side)
                .into_iter()
                .filter_map(|place| examples[place].group.as_ref());
            groups.collect::<HashSet<_>>().len()
        })
    })
}

/// What a reader must know, from the configuration and from what was found.
fn caveats(
    config: &EvalConfig,
    asked: &Asked,
    encoders: &[Encoded],
    tasks: &[TaskReport],
) -> Vec<String> {
    let divided = asked.divided;
    let mut lines = config.caveats.clone();
    for encoder in &config.encoders {
        for source in &encoder.trained_on {
            let own = config.tasks.iter().filter(|task| task.source == *source);
            let own: Vec<_> = own.collect();
            let flattered = match own.iter().any(|task| task.probe.is_some()) {
                _ if own.is_empty() => continue,
                true => "A probe on it is flattered.",
                false => {
                    "Its scores there are no test on unseen data, unless the sides are the same."
                }
            };
            lines.push(format!(
                "{} has learned from the training side of {source} before, as the configuration says; whether that split is this one was \
                 not compared. {flattered}",
                encoder.name
            ));
        }
    }
    for source in divided.sources() {
        if source.examples.iter().all(|e| e.group.is_none()) {
            lines.push(format!(
                "{} names no patients: two pictures of one may stand on different sides, and intervals count them as independent.",
                source.config.name
            ));
        }
    }
    let prepared = asked.tasks.iter();
    lines.extend(prepared.filter_map(|task| task.left_out(divided)));
    for task in tasks.iter().filter(|task| task.images < FEW) {
        lines.push(format!(
            "{} is measured on {} pictures: look at the intervals, not at the numbers.",
            task.name, task.images
        ));
    }
    lines.extend(
        encoders
            .iter()
            .flat_map(|encoder| encoder.notes.iter().cloned()),
    );
    lines.extend(divided.summary.iter().cloned());
    let unread = divided.sources().iter().zip(divided.pictures.skipped());
    lines.extend(unread.filter_map(|(source, unread)| unread.summary(&source.config.name)));
    lines
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
