//! [`Measuring`]: one task by every encoder and method.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compare::comparisons;
use super::config::EvalConfig;
use super::embed::Rows;
use super::encoded::Encoded;
use super::measure::{Measured, Sample, Unlearned};
use super::plane::principal_plane;
use super::prepared::Prepared;
use super::probe::Lesson;
use super::published::published;
use super::report::{DataCurve, Map, Method, MethodReport, Stratum, TaskReport};
use super::run::Prediction;
use super::truth::Answers;
use crate::dataset::{Divided, Example, Side};
use crate::{Error, Result};

/// Points of a map.
const MAX_POINTS: usize = 5000;

/// A task with the pictures that every encoder has embeddings of.
pub(super) struct Measuring<'a> {
    config: &'a EvalConfig,
    task: &'a Prepared<'a>,
    number: usize,
    examples: &'a [Example],
    encoders: Vec<(&'a Encoded, &'a Rows)>,
    /// On the sides train, val and test.
    places: [Vec<usize>; 3],
    /// The group of every example of the source.
    groups: &'a [usize],
}

/// A method's scores on the measured pictures.
struct Scored {
    encoder: String,
    method: Method,
    settings: BTreeMap<String, String>,
    scores: Vec<f64>,
    unlearned: Unlearned,
}

impl<'a> Measuring<'a> {
    /// Task `number`.
    ///
    /// # Errors
    /// `BAD_CONFIG` where no encoder has embeddings of its source, or none has those of any measured picture.
    pub fn new(
        config: &'a EvalConfig,
        task: &'a Prepared<'a>,
        number: usize,
        divided: &'a Divided,
        encoders: &'a [Encoded],
    ) -> Result<Self> {
        let examples = &divided.sources()[task.source].examples;
        let having = encoders
            .iter()
            .filter_map(|encoder| Some((encoder, encoder.rows(task.source)?)));
        let having: Vec<(&Encoded, &Rows)> = having.collect();
        let places = Side::ALL.map(|side| {
            let mut places = task.on_side(divided, side);
            places.retain(|place| having.iter().all(|(_, rows)| rows.has(*place)));
            places
        });
        if having.is_empty() || places[2].is_empty() {
            return Err(task
                .config
                .bad("no encoder has embeddings of its measured pictures"));
        }
        Ok(Self {
            config,
            task,
            number,
            encoders: having,
            places,
            groups: &divided.groups[task.source],
            examples,
        })
    }

    fn measured(&self) -> &[usize] {
        &self.places[2]
    }

    /// What was found, and every score behind it.
    ///
    /// # Errors
    /// Those of its parts; `INTERRUPTED` where `stop` says so.
    pub fn report(&self, stop: fn() -> bool) -> Result<(TaskReport, Vec<Prediction>)> {
        let (task, truth) = (self.task.config, &self.task.truth);
        let groups = self.measured().iter().map(|place| self.groups[*place]);
        let groups: Vec<usize> = groups.collect();
        let EvalConfig {
            replicates, seed, ..
        } = *self.config;
        let sample = Sample::new(truth, self.measured(), &groups, replicates, seed)?;
        let mut predictions = Vec::new();
        let mut results = Vec::new();
        for scored in self.scores()? {
            if stop() {
                return Err(Error::Interrupted);
            }
            predictions.extend(self.predictions(&scored));
            results.push(self.result(&sample, scored)?);
        }
        let counts = [0, 1, 2].map(|side| truth.counts(&self.places[side]));
        let of_class = |class: usize| [0, 1, 2].map(|side: usize| counts[side][class]);
        let positive = truth
            .positive
            .iter()
            .map(|class| truth.classes[*class].clone());
        let report = TaskReport {
            name: task.name.clone(),
            source: task.source.clone(),
            kind: truth.kind(),
            classes: truth.classes.clone(),
            positive: positive.collect(),
            counts: (0..truth.classes.len()).map(of_class).collect(),
            images: self.measured().len(),
            groups: groups.iter().collect::<BTreeSet<_>>().len(),
            comparisons: comparisons(&sample, &results)?,
            results: results.into_iter().map(|(report, _)| report).collect(),
            data_curves: self.data_curves(&sample)?,
            maps: self.maps()?,
            published: task.published.as_deref().map(published).unwrap_or_default(),
        };
        Ok((report, predictions))
    }

    fn result(&self, sample: &Sample, scored: Scored) -> Result<(MethodReport, Measured)> {
        let mut measured = sample.measure(&scored.scores, &scored.unlearned)?;
        let report = MethodReport {
            overall: std::mem::take(&mut measured.overall),
            questions: std::mem::take(&mut measured.questions),
            confusion: measured.confusion.take(),
            strata: self.strata(sample, &scored)?,
            encoder: scored.encoder,
            method: scored.method,
            settings: scored.settings,
        };
        Ok((report, measured))
    }

    fn scores(&self) -> Result<Vec<Scored>> {
        let mut all = Vec::new();
        for (encoder, _) in &self.encoders {
            let asked = self.task.config.zero_shot.as_ref();
            if let Some((config, scores)) = asked.zip(encoder.zero_shot.get(&self.number)) {
                let settings = [
                    ("prompts", config.prompts.clone()),
                    (
                        "mean of prompts normalised again",
                        config.renormalize.to_string(),
                    ),
                    ("temperature", format!("{:.3}", scores.temperature)),
                ];
                let of_place = self
                    .measured()
                    .iter()
                    .flat_map(|place| &scores.of_place[place]);
                all.push(Scored {
                    encoder: encoder.facts.name.clone(),
                    method: Method::ZeroShot,
                    settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
                    scores: of_place.copied().collect(),
                    unlearned: Unlearned::new(),
                });
            }
        }
        for (encoder, rows) in &self.encoders {
            if let Some(lesson) = self.lesson(rows) {
                let probed = lesson.scores(self.measured())?;
                all.push(Scored {
                    encoder: encoder.facts.name.clone(),
                    method: Method::LinearProbe,
                    settings: probed.settings,
                    scores: probed.scores,
                    unlearned: probed.unlearned,
                });
            }
        }
        Ok(all)
    }

    fn lesson<'b>(&'b self, rows: &'b Rows) -> Option<Lesson<'b>> {
        Some(Lesson {
            truth: &self.task.truth,
            rows,
            train: &self.places[0],
            val: &self.places[1],
            groups: self.groups,
            config: self.task.config.probe.as_ref()?,
            seed: self.config.seed,
        })
    }

    fn data_curves(&self, sample: &Sample) -> Result<Vec<DataCurve>> {
        let mut curves = Vec::new();
        for (encoder, rows) in &self.encoders {
            if let (Some(config), Some(lesson)) = (&self.task.config.data_curve, self.lesson(rows))
            {
                curves.push(lesson.data_curve(
                    &encoder.facts.name,
                    config,
                    sample,
                    self.measured(),
                )?);
            }
        }
        Ok(curves)
    }

    fn strata(&self, sample: &Sample, scored: &Scored) -> Result<Vec<Stratum>> {
        let mut strata = Vec::new();
        for column in &self.task.config.strata {
            let value = |place: &usize| self.examples[*place].labels.get(column).cloned();
            let values: Vec<_> = self.measured().iter().map(value).collect();
            strata.extend(sample.strata(column, &values, &scored.scores, &scored.unlearned)?);
        }
        Ok(strata)
    }

    fn predictions(&self, scored: &Scored) -> Vec<Prediction> {
        let truth = &self.task.truth;
        let rows = scored.scores.chunks_exact(truth.classes.len());
        let task: Arc<str> = self.task.config.name.as_str().into();
        let encoder: Arc<str> = scored.encoder.as_str().into();
        let names: Vec<Arc<str>> = truth
            .classes
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let of_row = |(place, row): (&usize, &[f64])| -> Vec<Prediction> {
            let id: Arc<str> = self.examples[*place].id.as_str().into();
            let classes = names.iter().zip(row).enumerate();
            let one = |(class, (name, score)): (usize, (&Arc<str>, &f64))| Prediction {
                task: task.clone(),
                encoder: encoder.clone(),
                method: scored.method,
                id: id.clone(),
                class: name.clone(),
                score: *score,
                truth: match &truth.of {
                    Answers::Classes(of) => of[*place].map(|of| of == class),
                    Answers::Findings(of) => of[*place][class],
                },
            };
            classes.map(one).collect()
        };
        self.measured().iter().zip(rows).flat_map(of_row).collect()
    }

    /// Of classes: a picture may have several findings, and a point one colour.
    fn maps(&self) -> Result<Vec<Map>> {
        let Answers::Classes(classes) = &self.task.truth.of else {
            return Ok(Vec::new());
        };
        let step = self.measured().len().div_ceil(MAX_POINTS);
        let shown: Vec<usize> = self.measured().iter().copied().step_by(step).collect();
        let map = |(encoder, rows): &(&Encoded, &Rows)| {
            let rows = rows.select(&shown)?.normalized();
            let (points, variance) = principal_plane(rows.data(), rows.dim());
            let points = points.iter().zip(&shown);
            let points = points.filter_map(|([x, y], place)| Some((*x, *y, classes[*place]?)));
            Ok(Map {
                encoder: encoder.facts.name.clone(),
                variance,
                points: points.collect(),
            })
        };
        self.encoders.iter().map(map).collect()
    }
}
