//! An evaluation from its configuration to the [`Report`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::config::{EncoderConfig, EvalConfig, ProbeConfig, TaskConfig, Temperature};
use super::embed::{Rows, embed};
use super::measure::{Measured, Sample};
use super::plane::principal_plane;
use super::probe::Lesson;
use super::published::published;
use super::report::{
    DataCurve, EncoderFacts, Kind, Map, Method, MethodReport, Report, SourceFacts, TaskReport,
};
use super::truth::{Answers, Truth};
use crate::checkpoint::ModelSource;
use crate::dataset::{Divided, Side};
use crate::image::DecodeOptions;
use crate::model::{Device, LoadOptions, Model};
use crate::zero_shot::{PromptKind, PromptSet, ZeroShot, ZeroShotOptions};
use crate::{Error, Result};

/// Points of a map.
const MAX_POINTS: usize = 5000;
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

/// A score of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The task.
    pub task: String,
    /// The encoder.
    pub encoder: String,
    /// The method.
    pub method: Method,
    /// The picture's id in its source.
    pub id: String,
    /// The class or finding.
    pub class: String,
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
    for warning in &divided.warnings {
        tell(&Event::Warning(warning.clone()))?;
    }
    let tasks = config
        .tasks
        .iter()
        .map(|task| Prepared::new(task, &divided, options.base));
    let tasks: Vec<Prepared> = tasks.collect::<Result<_>>()?;
    let mut encoders = Vec::new();
    for encoder in &config.encoders {
        encoders.push(Encoded::new(encoder, &divided, &tasks, options, tell)?);
    }
    for warning in divided.skipped() {
        tell(&Event::Warning(warning))?;
    }
    let mut run = Run {
        config,
        options,
        divided: &divided,
        encoders: &encoders,
        tell,
        predictions: Vec::new(),
    };
    let reports = tasks
        .iter()
        .enumerate()
        .map(|(number, task)| run.task(number, task));
    let reports: Vec<TaskReport> = reports.collect::<Result<_>>()?;
    let predictions = run.predictions;
    let skipped = divided.pictures.skipped();
    let facts = divided
        .sources()
        .iter()
        .enumerate()
        .map(|(number, source)| SourceFacts {
            name: source.config.name.clone(),
            license: config
                .source_licenses
                .get(&source.config.name)
                .cloned()
                .unwrap_or_else(|| "not stated".into()),
            images: Side::ALL.map(|side| divided.on_side(number, side).len()),
            groups: groups_on_sides(&divided, number),
            skipped: source.skipped.total() + skipped[number].total(),
        });
    let report = Report {
        name: config.name.clone(),
        medsiglip: env!("CARGO_PKG_VERSION").into(),
        config: sha256(&serde_json::to_vec(config).expect("plain fields")),
        data: divided.fingerprint.clone(),
        seed: config.seed,
        replicates: config.replicates,
        sources: facts.collect(),
        encoders: encoders
            .iter()
            .map(|encoder| encoder.facts.clone())
            .collect(),
        caveats: caveats(config, &divided, &reports),
        tasks: reports,
    };
    Ok((report, predictions))
}

/// A task with its truth and its pictures.
struct Prepared<'a> {
    config: &'a TaskConfig,
    source: usize,
    truth: Truth,
    prompts: Option<PromptSet>,
}

impl<'a> Prepared<'a> {
    fn new(config: &'a TaskConfig, divided: &Divided, base: &Path) -> Result<Self> {
        let sources = divided.sources();
        let source = sources.iter().position(|s| s.config.name == config.source);
        let source = source.ok_or_else(|| config.bad("its source is none of the sources"))?;
        let examples = &sources[source].examples;
        let truth = Truth::new(config, examples)?;
        for column in &config.strata {
            if !examples.iter().any(|e| e.labels.contains_key(column)) {
                return Err(config.bad(&format!("strata: no example has a value in the column {column}; name it among the source's labels")));
            }
        }
        let prompts = config
            .zero_shot
            .as_ref()
            .map(|zero_shot| prompt_set(config, &zero_shot.prompts, &truth, base));
        let prepared = Self {
            config,
            source,
            prompts: prompts.transpose()?,
            truth,
        };
        if prepared.on_side(divided, Side::Test).is_empty() {
            return Err(config.bad("none of its pictures is on the test side: give split.test a share, or a column that says so"));
        }
        Ok(prepared)
    }

    /// Places of pictures of which anything is known; on the training side, those to learn from.
    fn on_side(&self, divided: &Divided, side: Side) -> Vec<usize> {
        let mut places = match side {
            Side::Train => divided.to_learn(self.source),
            side => divided.on_side(self.source, side),
        };
        places.retain(|place| self.truth.is_known(*place));
        places
    }

    /// Places of pictures that it needs embeddings of.
    fn places(&self, divided: &Divided) -> Vec<usize> {
        let sides: &[Side] = match self.config.probe {
            Some(_) => &Side::ALL,
            None => &[Side::Test],
        };
        sides
            .iter()
            .flat_map(|side| self.on_side(divided, *side))
            .collect()
    }
}

/// The prompts of the task's classes, in their order.
fn prompt_set(config: &TaskConfig, name: &str, truth: &Truth, base: &Path) -> Result<PromptSet> {
    let mut set = PromptSet::named(name, base)?;
    let fits = matches!(
        (set.kind, truth.kind()),
        (PromptKind::Multiclass, Kind::Multiclass) | (PromptKind::BinaryPerFinding, Kind::Findings)
    );
    if !fits {
        return Err(config.bad("zero_shot.prompts: prompts of presence and absence are for findings, others for classes"));
    }
    let of_class = |class: &String| {
        let own = set.classes.iter().find(|own| own.label == *class).cloned();
        own.ok_or_else(|| {
            config.bad(&format!(
                "zero_shot.prompts: {} has no class {class}",
                set.name
            ))
        })
    };
    set.classes = truth.classes.iter().map(of_class).collect::<Result<_>>()?;
    Ok(set)
}

/// An encoder's embeddings and zero-shot scores.
struct Encoded {
    facts: EncoderFacts,
    /// By source.
    rows: Vec<Rows>,
    /// By task: the scores of its pictures, and the temperature.
    zero_shot: HashMap<usize, (HashMap<usize, Vec<f64>>, String)>,
}

impl Encoded {
    fn new(
        config: &EncoderConfig,
        divided: &Divided,
        tasks: &[Prepared],
        options: &EvalOptions,
        tell: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Self> {
        let Some(id) = &config.model else {
            return Err(Error::Unsupported("embeddings from files come next".into()));
        };
        let model = Model::load(
            &ModelSource::parse_in(options.base, id)?,
            &LoadOptions {
                device: options.device,
                ..LoadOptions::default()
            },
        )?;
        fs::create_dir_all(options.kept).map_err(|e| Error::io("create", options.kept, e))?;
        let mut rows = Vec::new();
        for (number, source) in divided.sources().iter().enumerate() {
            let mut places: Vec<usize> = tasks
                .iter()
                .filter(|t| t.source == number)
                .flat_map(|t| t.places(divided))
                .collect();
            places.sort_unstable();
            places.dedup();
            if places.is_empty() {
                rows.push(Rows::new(model.config().vision.hidden_size));
                continue;
            }
            tell(&Event::Begins {
                what: format!("{}: pictures of {}", config.name, source.config.name),
                of: places.len(),
            })?;
            let name = super::figures::file_name(&[&config.name, &source.config.name]);
            let kept = options.kept.join(format!("{name}.bin"));
            rows.push(embed(
                &model,
                divided,
                number,
                &places,
                &kept,
                &mut |done| {
                    if (options.stop)() {
                        return Err(Error::Interrupted);
                    }
                    tell(&Event::Done(done))
                },
            )?);
        }
        let mut zero_shot = HashMap::new();
        for (number, task) in tasks.iter().enumerate() {
            if let Some(prompts) = task
                .prompts
                .clone()
                .filter(|_| model.config().text.is_some())
            {
                zero_shot.insert(
                    number,
                    zero_shot_scores(&model, task, prompts, &rows[task.source], divided)?,
                );
            }
        }
        let facts = EncoderFacts {
            name: config.name.clone(),
            dim: model.config().vision.hidden_size,
            provenance: Some(model.provenance(false)?),
            trained_on: config.trained_on.clone(),
        };
        Ok(Self {
            facts,
            rows,
            zero_shot,
        })
    }

    fn has(&self, source: usize, place: usize) -> bool {
        self.rows[source].has(place)
    }
}

/// Scores by place, and the temperature.
fn zero_shot_scores(
    model: &Model,
    task: &Prepared,
    prompts: PromptSet,
    rows: &Rows,
    divided: &Divided,
) -> Result<(HashMap<usize, Vec<f64>>, String)> {
    let config = task.config.zero_shot.as_ref().expect("a task with prompts");
    let options = ZeroShotOptions {
        renormalize: config.renormalize,
        temperature: match config.temperature {
            Temperature::Fixed(value) => Some(value),
            Temperature::Model(_) => None,
        },
    };
    let temperature = options
        .temperature
        .map_or_else(|| model.logit().map(|logit| logit.temperature()), Ok)?;
    let mut places = task.on_side(divided, Side::Test);
    places.retain(|place| rows.has(*place));
    let scores = ZeroShot::with_options(model, prompts, options)?.scores(&rows.select(&places)?)?;
    let shares = scores
        .iter()
        .map(|row| row.iter().map(|score| f64::from(score.softmax)).collect());
    Ok((
        places.into_iter().zip(shares).collect(),
        format!("{temperature:.3}"),
    ))
}

struct Run<'a> {
    config: &'a EvalConfig,
    options: &'a EvalOptions<'a>,
    divided: &'a Divided,
    encoders: &'a [Encoded],
    tell: &'a mut dyn FnMut(&Event) -> Result<()>,
    predictions: Vec<Prediction>,
}

/// A method's scores on the measured pictures.
struct Scored {
    encoder: String,
    method: Method,
    settings: BTreeMap<String, String>,
    scores: Vec<f64>,
}

impl Run<'_> {
    fn task(&mut self, number: usize, task: &Prepared) -> Result<TaskReport> {
        (self.tell)(&Event::Begins {
            what: task.config.name.clone(),
            of: 0,
        })?;
        let truth = &task.truth;
        let mut places = task.on_side(self.divided, Side::Test);
        places.retain(|place| {
            self.encoders
                .iter()
                .all(|encoder| encoder.has(task.source, *place))
        });
        let groups = self.groups(task.source, &places);
        let sample = Sample::new(
            truth,
            &places,
            &groups,
            self.config.replicates,
            self.config.seed,
        )?;
        let of_source: Vec<usize> =
            (0..self.divided.sources()[task.source].examples.len()).collect();
        let of_source = self.groups(task.source, &of_source);
        let mut results: Vec<(MethodReport, Measured)> = Vec::new();
        for scored in self.scores(number, task, &places, &of_source)? {
            if (self.options.stop)() {
                return Err(Error::Interrupted);
            }
            self.keep(task, &places, &scored);
            let mut measured = sample.measure(&scored.scores)?;
            let mut strata = Vec::new();
            for column in &task.config.strata {
                let examples = &self.divided.sources()[task.source].examples;
                let values: Vec<_> = places
                    .iter()
                    .map(|place| examples[*place].labels.get(column).cloned())
                    .collect();
                strata.extend(sample.strata(column, &values, &scored.scores)?);
            }
            let report = MethodReport {
                encoder: scored.encoder,
                method: scored.method,
                settings: scored.settings,
                overall: std::mem::take(&mut measured.overall),
                questions: std::mem::take(&mut measured.questions),
                confusion: measured.confusion.take(),
                strata,
            };
            results.push((report, measured));
        }
        let mut comparisons = Vec::new();
        for (first, a) in results.iter().enumerate() {
            for b in results
                .iter()
                .skip(first + 1)
                .filter(|b| b.0.method == a.0.method)
            {
                comparisons.extend(sample.compare(
                    a.0.method,
                    (&a.0.encoder, &a.1),
                    (&b.0.encoder, &b.1),
                )?);
            }
        }
        let sides = Side::ALL.map(|side| match side {
            Side::Test => places.clone(),
            side => task.on_side(self.divided, side),
        });
        let counts = sides.map(|places| truth.counts(&places));
        Ok(TaskReport {
            name: task.config.name.clone(),
            source: task.config.source.clone(),
            kind: truth.kind(),
            classes: truth.classes.clone(),
            positive: truth
                .positive
                .iter()
                .map(|class| truth.classes[*class].clone())
                .collect(),
            counts: (0..truth.classes.len())
                .map(|class| [0, 1, 2].map(|side| counts[side][class]))
                .collect(),
            images: places.len(),
            groups: groups.iter().max().map_or(0, |last| last + 1),
            results: results.into_iter().map(|(report, _)| report).collect(),
            comparisons,
            data_curves: self.data_curves(task, &sample, &places, &of_source)?,
            maps: self.maps(task, &places)?,
            published: task
                .config
                .published
                .as_deref()
                .map(published)
                .unwrap_or_default(),
        })
    }

    fn scores(
        &self,
        number: usize,
        task: &Prepared,
        places: &[usize],
        groups: &[usize],
    ) -> Result<Vec<Scored>> {
        let mut all = Vec::new();
        for encoder in self.encoders {
            if let (Some((scores, temperature)), Some(config)) =
                (encoder.zero_shot.get(&number), &task.config.zero_shot)
            {
                let settings = [
                    ("prompts", config.prompts.clone()),
                    (
                        "mean of prompts normalised again",
                        config.renormalize.to_string(),
                    ),
                    ("temperature", temperature.clone()),
                ];
                all.push(Scored {
                    encoder: encoder.facts.name.clone(),
                    method: Method::ZeroShot,
                    settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
                    scores: places
                        .iter()
                        .flat_map(|place| &scores[place])
                        .copied()
                        .collect(),
                });
            }
        }
        let [train, val] = self.to_learn(task);
        for encoder in self.encoders {
            if let Some(config) = &task.config.probe {
                let lesson = self.lesson(task, encoder, config, [&train, &val], groups);
                let (scores, settings) = lesson.scores(places)?;
                all.push(Scored {
                    encoder: encoder.facts.name.clone(),
                    method: Method::LinearProbe,
                    settings,
                    scores,
                });
            }
        }
        Ok(all)
    }

    /// Places to learn from and to tune on, of which every encoder has embeddings.
    fn to_learn(&self, task: &Prepared) -> [Vec<usize>; 2] {
        [Side::Train, Side::Val].map(|side| {
            let mut places = task.on_side(self.divided, side);
            places.retain(|place| {
                self.encoders
                    .iter()
                    .all(|encoder| encoder.has(task.source, *place))
            });
            places
        })
    }

    fn lesson<'b>(
        &self,
        task: &'b Prepared,
        encoder: &'b Encoded,
        config: &'b ProbeConfig,
        [train, val]: [&'b [usize]; 2],
        groups: &'b [usize],
    ) -> Lesson<'b> {
        Lesson {
            truth: &task.truth,
            rows: &encoder.rows[task.source],
            train,
            val,
            groups,
            config,
            seed: self.config.seed,
        }
    }

    fn data_curves(
        &self,
        task: &Prepared,
        sample: &Sample,
        places: &[usize],
        groups: &[usize],
    ) -> Result<Vec<DataCurve>> {
        let (Some(curve), Some(config)) = (&task.config.data_curve, &task.config.probe) else {
            return Ok(Vec::new());
        };
        let [train, val] = self.to_learn(task);
        let of = |encoder: &Encoded| {
            let lesson = self.lesson(task, encoder, config, [&train, &val], groups);
            lesson.data_curve(&encoder.facts.name, curve, sample, places)
        };
        self.encoders.iter().map(of).collect()
    }

    fn keep(&mut self, task: &Prepared, places: &[usize], scored: &Scored) {
        let examples = &self.divided.sources()[task.source].examples;
        let classes = &task.truth.classes;
        for (place, row) in places.iter().zip(scored.scores.chunks_exact(classes.len())) {
            for (class, score) in row.iter().enumerate() {
                self.predictions.push(Prediction {
                    task: task.config.name.clone(),
                    encoder: scored.encoder.clone(),
                    method: scored.method,
                    id: examples[*place].id.clone(),
                    class: classes[class].clone(),
                    score: *score,
                    truth: match &task.truth.of {
                        Answers::Classes(of) => of[*place].map(|of| of == class),
                        Answers::Findings(of) => of[*place][class],
                    },
                });
            }
        }
    }

    /// The number of every place's group; a picture without one is its own.
    fn groups(&self, source: usize, places: &[usize]) -> Vec<usize> {
        let examples = &self.divided.sources()[source].examples;
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut next = 0..;
        let mut new = || next.next().expect("without end");
        places
            .iter()
            .map(|place| match &examples[*place].group {
                Some(group) => *numbers.entry(group).or_insert_with(&mut new),
                None => new(),
            })
            .collect()
    }

    fn maps(&self, task: &Prepared, places: &[usize]) -> Result<Vec<Map>> {
        let Answers::Classes(classes) = &task.truth.of else {
            return Ok(Vec::new());
        };
        let step = places.len().div_ceil(MAX_POINTS).max(1);
        let shown: Vec<usize> = places.iter().copied().step_by(step).collect();
        let map = |encoder: &Encoded| {
            let rows = encoder.rows[task.source].select(&shown)?.normalized();
            let (points, variance) = principal_plane(rows.data(), rows.dim());
            let points = points
                .iter()
                .zip(&shown)
                .filter_map(|([x, y], place)| Some((*x, *y, classes[*place]?)));
            Ok(Map {
                encoder: encoder.facts.name.clone(),
                variance,
                points: points.collect(),
            })
        };
        self.encoders.iter().map(map).collect()
    }
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
            groups.collect::<std::collections::HashSet<_>>().len()
        })
    })
}

/// What a reader must know, from the configuration and from what was found.
fn caveats(config: &EvalConfig, divided: &Divided, tasks: &[TaskReport]) -> Vec<String> {
    let mut lines = config.caveats.clone();
    for encoder in &config.encoders {
        let probed = |source: &&String| {
            config
                .tasks
                .iter()
                .any(|t| t.source == **source && t.probe.is_some())
        };
        for source in encoder.trained_on.iter().filter(probed) {
            lines.push(format!(
                "{} has learned from the training side of {source} before: a probe on it is flattered, and so is one that chooses its \
                 settings there.",
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
    for task in tasks.iter().filter(|task| task.images < FEW) {
        lines.push(format!(
            "{} is measured on {} pictures: look at the intervals, not at the numbers.",
            task.name, task.images
        ));
    }
    lines.extend(divided.warnings.iter().chain(&divided.skipped()).cloned());
    lines
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
