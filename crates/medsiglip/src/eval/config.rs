//! [`EvalConfig`]: an evaluation as one TOML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::report::Method;
use crate::dataset::{SourceConfig, SplitConfig};
use crate::embedding::IdMatch;
use crate::probe::{Calibrate, Penalty, default_cs};
use crate::{Error, Result};

/// Largest configuration file.
const MAX_BYTES: u64 = 16 << 20;
/// Most classes or findings of a task: each is a question with curves, 2000 samples and a line in every table. A column of more has no
/// classes, but dates or ids.
pub(super) const MAX_CLASSES: usize = 256;

/// An evaluation. Unknown keys are errors; relative paths start at the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// The report's title.
    pub name: String,
    /// All that is random follows from it.
    #[serde(default)]
    pub seed: u64,
    /// Bootstrap samples behind every interval.
    #[serde(default = "two_thousand")]
    pub replicates: usize,
    /// How the sources are divided: probes learn from train, are tuned on val, and everything is measured on test.
    #[serde(default = "eval_split")]
    pub split: SplitConfig,
    /// What makes embeddings.
    #[serde(rename = "encoder")]
    pub encoders: Vec<EncoderConfig>,
    /// Where the pictures come from, as in training; captions are not needed.
    #[serde(rename = "source")]
    pub sources: Vec<SourceConfig>,
    /// Licences of the sources, by name.
    #[serde(default)]
    pub source_licenses: BTreeMap<String, String>,
    /// What is measured.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskConfig>,
    /// What a reader must know, a sentence each.
    #[serde(default)]
    pub caveats: Vec<String>,
}

fn two_thousand() -> usize {
    2000
}

fn eval_split() -> SplitConfig {
    SplitConfig {
        val: 0.1,
        test: 0.3,
        ..SplitConfig::default()
    }
}

/// An `[[encoder]]`: a model, or embeddings that were made before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Its name in tables.
    pub name: String,
    /// A model folder or hub id; `medsiglip-mini` is compiled in.
    #[serde(default)]
    pub model: Option<String>,
    /// Tables of embeddings by the source that they are of, with the examples' ids.
    #[serde(default)]
    pub embeddings: BTreeMap<String, PathBuf>,
    /// What of the tables' ids and the sources' must be the same.
    #[serde(default)]
    pub ids: IdMatch,
    /// The column, array or key of ids in these tables; by default the first known one.
    #[serde(default)]
    pub id_column: Option<String>,
    /// The column, array or key of embeddings, or what numbered columns begin with; by default the first known one.
    #[serde(default)]
    pub embedding_column: Option<String>,
    /// The ids of a `.npy` file; by default `STEM.ids.csv` or `STEM.ids.txt` beside it.
    #[serde(default)]
    pub ids_file: Option<PathBuf>,
    /// Sources whose training side it has learned from, labels and all: a probe on them is flattered.
    #[serde(default)]
    pub trained_on: Vec<String>,
}

/// A `[[task]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name in tables.
    pub name: String,
    /// The source.
    pub source: String,
    /// The column with the truth, for classes.
    #[serde(default)]
    pub label: Option<String>,
    /// Values of the column, and which class each is. Without, every value is a class of its own.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
    /// Classes that count as positive together: their AUROC is the first measure.
    #[serde(default)]
    pub positive: Vec<String>,
    /// The classes are in this order, so that a near miss is better than a far one: quadratic kappa.
    #[serde(default)]
    pub ordered: Vec<String>,
    /// The column holds several values between `|`, each a finding of `classes`; what is not there is absent, and of
    /// a picture with an empty cell nothing is known.
    #[serde(default)]
    pub multilabel: bool,
    /// For findings instead: the columns, each with 1 (present), 0 (absent) or nothing (unknown), and the finding's name.
    #[serde(default)]
    pub findings: BTreeMap<String, String>,
    /// Zero-shot, where it is wanted.
    #[serde(default)]
    pub zero_shot: Option<ZeroShotConfig>,
    /// A linear probe, where it is wanted.
    #[serde(default)]
    pub probe: Option<ProbeConfig>,
    /// Probes that learn from more and more pictures.
    #[serde(default)]
    pub data_curve: Option<DataCurveConfig>,
    /// Columns by whose values the first measure is told too, for example the view of an X-ray.
    #[serde(default)]
    pub strata: Vec<String>,
    /// The published task that this one is like: a prompt set's name.
    #[serde(default)]
    pub published: Option<String>,
}

/// The temperature of the softmax over classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Temperature {
    /// Of the model.
    Model(ModelTemperature),
    /// A number that cosines are multiplied by.
    Fixed(f64),
}

/// `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelTemperature {
    /// The model's own.
    Model,
}

/// The `zero_shot` table of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroShotConfig {
    /// A prompt set: the name of one that is compiled in, or a file.
    pub prompts: String,
    /// Whether the mean of a class's prompt embeddings is normalised again. The report does not say.
    #[serde(default = "yes")]
    pub renormalize: bool,
    /// `model` (the default), or a number. It changes no AUROC of two classes.
    #[serde(default = "of_model")]
    pub temperature: Temperature,
}

fn yes() -> bool {
    true
}

fn of_model() -> Temperature {
    Temperature::Model(ModelTemperature::Model)
}

/// The `probe` table of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Inverse strengths of the penalty that are tried.
    #[serde(rename = "C")]
    pub c: Vec<f64>,
    /// What keeps coefficients small.
    pub penalty: Penalty,
    /// Whether features are centred and scaled.
    pub standardize: bool,
    /// Whether embeddings are divided by their L2 norm first.
    pub normalize: bool,
    /// Whether classes weigh the same, however many pictures they have.
    pub balanced: bool,
    /// Folds of a cross-validation that chooses C; 0 chooses on the validation side.
    pub folds: usize,
    /// What makes probabilities honest, by the scores of held-out folds, or of the validation side.
    pub calibrate: Option<Calibrate>,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            c: default_cs(),
            penalty: Penalty::L2,
            standardize: true,
            normalize: false,
            balanced: false,
            folds: 5,
            calibrate: None,
        }
    }
}

/// The `data_curve` table of a task. Its probes take the settings of `probe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataCurveConfig {
    /// Pictures to learn from; those above what there is are left out.
    #[serde(default = "powers_of_eight")]
    pub sizes: Vec<usize>,
    /// Times that each is drawn anew.
    #[serde(default = "five")]
    pub repeats: usize,
}

fn powers_of_eight() -> Vec<usize> {
    (2..7).map(|power| 8usize.pow(power)).collect()
}

fn five() -> usize {
    5
}

impl EvalConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with the line, also for an unknown key; `IO_ERROR`; `LIMIT_EXCEEDED` above 16 MiB.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        if metadata.len() > MAX_BYTES {
            return Err(Error::Limit {
                what: "the size of the evaluation's configuration in bytes",
                got: metadata.len(),
                limit: MAX_BYTES,
            });
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::from_toml(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `BAD_CONFIG` with the line, also for an unknown key.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| bad(e.to_string().trim()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if self.replicates < 100 {
            return Err(bad("replicates: expected at least 100"));
        }
        if self.encoders.is_empty() || self.sources.is_empty() || self.tasks.is_empty() {
            return Err(bad(
                "expected at least one [[encoder]], one [[source]] and one [[task]]",
            ));
        }
        once("encoder", self.encoders.iter().map(|e| &e.name))?;
        once("source", self.sources.iter().map(|s| &s.name))?;
        once("task", self.tasks.iter().map(|t| &t.name))?;
        let without = self.sources.iter().find(|source| !source.pictures);
        if let Some(source) = without
            && let Some(encoder) = self.encoders.iter().find(|encoder| encoder.model.is_some())
        {
            return Err(bad(&format!(
                "encoder {}: a model needs pictures, and source {} has none (pictures = false)",
                encoder.name, source.name
            )));
        }
        let known = |name: &String| self.sources.iter().any(|s| s.name == *name);
        for encoder in &self.encoders {
            let named = |what: &str| bad(&format!("encoder {}: {what}", encoder.name));
            if encoder.model.is_some() != encoder.embeddings.is_empty() {
                return Err(named("expected either model or embeddings"));
            }
            let how = encoder.id_column.is_some() || encoder.embedding_column.is_some();
            if encoder.model.is_some() && (how || encoder.ids_file.is_some()) {
                return Err(named(
                    "id_column, embedding_column and ids_file belong to embeddings",
                ));
            }
            if encoder.ids_file.is_some() && encoder.embeddings.len() > 1 {
                return Err(named("ids_file: expected embeddings of one source"));
            }
            if !encoder
                .embeddings
                .keys()
                .chain(&encoder.trained_on)
                .all(known)
            {
                return Err(named(
                    "embeddings and trained_on: expected names of sources",
                ));
            }
        }
        self.tasks.iter().try_for_each(|task| {
            if !known(&task.source) {
                return Err(task.bad("its source is none of the sources"));
            }
            task.check()
        })
    }
}

impl TaskConfig {
    /// Whether it has a result by a method.
    pub fn asks_for(&self, method: Method) -> bool {
        match method {
            Method::ZeroShot => self.zero_shot.is_some(),
            Method::LinearProbe => self.probe.is_some(),
        }
    }

    fn check(&self) -> Result<()> {
        if self.label.is_some() != self.findings.is_empty() {
            return Err(
                self.bad("expected either label (a column of classes) or findings (a column each)")
            );
        }
        if self.label.is_none()
            && !(self.classes.is_empty() && self.positive.is_empty() && self.ordered.is_empty())
        {
            return Err(self.bad("classes, positive and ordered belong to a column of classes"));
        }
        if self.multilabel
            && !(self.label.is_some() && self.positive.is_empty() && self.ordered.is_empty())
        {
            return Err(self.bad(
                "multilabel: expected label, a column of several findings, and neither positive nor ordered: they are of classes",
            ));
        }
        let findings = self.findings.len().max(self.classes.len());
        if findings > MAX_CLASSES {
            return Err(self.bad(&format!(
                "expected at most {MAX_CLASSES} classes or findings, got {findings}"
            )));
        }
        if self.zero_shot.is_none() && self.probe.is_none() {
            return Err(self.bad("expected zero_shot, probe, or both"));
        }
        if let Some(probe) = &self.probe {
            let right = |c: &f64| c.is_finite() && *c > 0.0;
            if probe.c.is_empty() || !probe.c.iter().all(right) {
                return Err(self.bad("probe.C: expected numbers above 0"));
            }
            if probe.folds == 1 {
                return Err(self.bad("probe.folds: expected 0 or at least 2"));
            }
        }
        if let Some(curve) = &self.data_curve {
            if self.probe.is_none() {
                return Err(self.bad("data_curve: expected probe, whose settings it takes"));
            }
            if curve.repeats == 0 || curve.sizes.is_empty() {
                return Err(self.bad("data_curve: expected sizes, and at least one repeat"));
            }
        }
        if let Some(ZeroShotConfig {
            temperature: Temperature::Fixed(value),
            ..
        }) = self.zero_shot
            && !(value.is_finite() && value > 0.0)
        {
            return Err(self.bad("zero_shot.temperature: expected a number above 0, or \"model\""));
        }
        Ok(())
    }

    /// An error about this task.
    pub(super) fn bad(&self, what: &str) -> Error {
        bad(&format!("task {}: {what}", self.name))
    }
}

fn bad(what: &str) -> Error {
    Error::BadConfig(format!("evaluation: {what}"))
}

fn once<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut names: Vec<_> = names.collect();
    names.sort();
    if names.iter().any(|name| name.trim().is_empty())
        || names.windows(2).any(|pair| pair[0] == pair[1])
    {
        return Err(bad(&format!(
            "{what}: expected every name once, and none empty"
        )));
    }
    Ok(())
}
