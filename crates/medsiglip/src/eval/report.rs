//! [`Report`]: all that an evaluation found. Tables, figures and the page show it and know nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::embedding::Provenance;
use crate::metrics::Estimate;

/// What stands on everything that is shown of an evaluation.
pub const NOTICE: &str = "Research software: not for clinical use";

/// All that an evaluation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its title.
    pub name: String,
    /// [`NOTICE`].
    pub notice: String,
    /// Version of this software.
    pub medsiglip: String,
    /// SHA-256 of the configuration.
    pub config: String,
    /// SHA-256 of which example is on which side.
    pub data: String,
    /// All that is random follows from it.
    pub seed: u64,
    /// Bootstrap samples behind every interval.
    pub replicates: usize,
    /// The data.
    pub sources: Vec<SourceFacts>,
    /// What made the embeddings.
    pub encoders: Vec<EncoderFacts>,
    /// The tasks, in the order of the configuration.
    pub tasks: Vec<TaskReport>,
    /// What a reader must know before believing a number, a sentence each.
    pub caveats: Vec<String>,
}

/// A source of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// Its name.
    pub name: String,
    /// Under which terms it is.
    pub license: String,
    /// Pictures on the sides train, val and test.
    pub images: [usize; 3],
    /// Patients, lesions or slides on these sides; absent where the data names none.
    pub groups: Option<[usize; 3]>,
    /// Pictures that were left out, by reason.
    pub left_out: BTreeMap<String, u64>,
}

/// An encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderFacts {
    /// Its name.
    pub name: String,
    /// Width of an embedding.
    pub dim: usize,
    /// How its embeddings were made, as far as that is known.
    pub provenance: Option<Provenance>,
    /// Sources whose training side it has seen.
    pub trained_on: Vec<String>,
}

/// How the classes of a task relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One class is right.
    Multiclass,
    /// Each finding is there, is not, or is unknown.
    Findings,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Where its pictures are from.
    pub source: String,
    /// How its classes relate.
    pub kind: Kind,
    /// Classes or findings.
    pub classes: Vec<String>,
    /// Classes that count as positive together.
    pub positive: Vec<String>,
    /// Pictures of every class on the sides train, val and test.
    pub counts: Vec<[usize; 3]>,
    /// Pictures that are measured.
    pub images: usize,
    /// Patients, lesions or slides among them.
    pub groups: usize,
    /// By encoder and method.
    pub results: Vec<MethodReport>,
    /// Every two encoders by the same method.
    pub comparisons: Vec<Comparison>,
    /// AUROC of a probe by the number of pictures that it learned from.
    pub data_curves: Vec<DataCurve>,
    /// The measured pictures' embeddings in a plane.
    pub maps: Vec<Map>,
    /// What was published of this task, on other data.
    pub published: Vec<Published>,
}

/// How scores come from embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Prompts of every class, through the text tower.
    ZeroShot,
    /// Logistic regression on labelled embeddings.
    LinearProbe,
}

impl Method {
    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::ZeroShot => "zero-shot",
            Self::LinearProbe => "linear probe",
        }
    }
}

/// A task by one encoder and method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodReport {
    /// The encoder.
    pub encoder: String,
    /// The method.
    pub method: Method,
    /// What was chosen: temperature, regularisation, standardisation.
    pub settings: BTreeMap<String, String>,
    /// Of the task as a whole; the first is the one to quote.
    pub overall: Vec<Measure>,
    /// The questions behind it: every class against the others, every finding, the positive classes together.
    pub questions: Vec<Question>,
    /// Pictures by truth (row) and highest score (column), for classes.
    pub confusion: Option<Vec<Vec<usize>>>,
    /// The first overall measure by the values of other columns.
    pub strata: Vec<Stratum>,
}

/// A number with what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// It, with its 95 % interval.
    pub estimate: Option<Estimate>,
    /// It alone, where the pictures do not say how sure it is.
    #[serde(default)]
    pub alone: Option<f64>,
    /// Why there is no value, or no interval.
    pub missing: Option<String>,
}

/// A yes-or-no question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The class or finding.
    pub name: String,
    /// Pictures for which the answer is yes.
    pub positives: usize,
    /// Pictures for which it is no.
    pub negatives: usize,
    /// AUROC first.
    pub measures: Vec<Measure>,
    /// Receiver operating characteristic with its band; empty where a class is missing.
    pub roc: Band,
    /// Precision over recall with its band.
    pub precision_recall: Band,
    /// Shares of positives over mean scores, by ten bins of as many pictures.
    pub reliability: Vec<Bin>,
}

/// A curve with its 95 % band.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Ascending.
    pub x: Vec<f64>,
    /// The curve at x.
    pub y: Vec<f64>,
    /// The band's lower end at x.
    pub low: Vec<f64>,
    /// The band's upper end at x.
    pub high: Vec<f64>,
}

/// Pictures of like scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Their mean score.
    pub score: f64,
    /// The share of positives among them.
    pub share: f64,
    /// How many they are.
    pub images: usize,
}

/// The pictures of one value of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stratum {
    /// The column.
    pub column: String,
    /// Its value.
    pub value: String,
    /// Pictures.
    pub images: usize,
    /// What was measured on them.
    pub measure: Measure,
}

/// Two encoders on the same pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The method of both.
    pub method: Method,
    /// The class or finding, or the task.
    pub question: String,
    /// One encoder.
    pub a: String,
    /// The other.
    pub b: String,
    /// AUROC of `a` less that of `b`, with the interval of the paired bootstrap.
    pub difference: Measure,
    /// That there is no difference, by DeLong's test; for questions.
    pub p: Option<f64>,
    /// The same after Holm's correction over all tests of the task's method.
    pub p_holm: Option<f64>,
}

/// Probes that learned from more and more pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataCurve {
    /// The encoder.
    pub encoder: String,
    /// Pictures of the validation side, all of which every probe is tuned on, however few it learned from.
    pub tuned_on: usize,
    /// By size.
    pub points: Vec<DataPoint>,
}

/// Probes that learned from as many pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataPoint {
    /// Pictures that they learned from, on average: whole groups of them.
    pub size: f64,
    /// Pictures that were asked for.
    pub asked: usize,
    /// The first overall measure of the repeats.
    pub auroc: Option<Spread>,
    /// Probes.
    pub repeats: usize,
    /// Repeats without a value: too few pictures for the classes or groups.
    pub without_value: usize,
    /// How the probes were fitted.
    pub fits: Fits,
}

/// Of repeats: no interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub worst: f64,
    /// The greatest.
    pub best: f64,
}

/// How heads of probes were fitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fits {
    /// C of each.
    pub c: Vec<f64>,
    /// Those with too few pictures to choose C by, or with one C to choose from.
    pub not_chosen: usize,
    /// The greatest relative duality gap.
    pub gap: f64,
    /// Those that had not come to the wanted gap.
    pub not_converged: usize,
    /// Fits for the choice of C that had not.
    pub not_converged_in_choice: usize,
}

/// Embeddings in a plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// The encoder.
    pub encoder: String,
    /// Shares of the variance that the two axes hold.
    pub variance: [f64; 2],
    /// (x, y, class).
    pub points: Vec<(f32, f32, usize)>,
}

/// A published number. It is of other data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The encoder.
    pub encoder: String,
    /// The method.
    pub method: Method,
    /// The class or finding; the whole task where it is empty.
    pub question: String,
    /// AUROC.
    pub auroc: f64,
    /// On which data, and where it stands.
    pub source: String,
}
